//! What peers send: messages, streams, announcements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dmc_agent::fuzzing;
use dmc_protocol::codec::{self, WIRE_VERSION};
use dmc_protocol::config::FRAME_BYTES_MAX;
use dmc_protocol::id::{AgentId, BlobRef};
use dmc_protocol::message::Message;
use dmc_store::Manifest;

/// A frame of the control stream. What is accepted keeps the limits, can be said again, and reads
/// back as the same; what it asks of ffmpeg can be written down.
pub fn frame(data: &[u8]) -> bool {
    // The version comes first; inputs are kept over its changes.
    let Some((_, body)) = data.split_first() else { return codec::decode(data).is_ok() };
    let _ = codec::decode(data);
    let Ok(message) = codec::decode(&[&[WIRE_VERSION], body].concat()) else { return false };
    message.check().expect("a message that was accepted keeps the limits");
    let again = codec::encode(&message).expect("what is accepted can be said again");
    let back = codec::decode(&again).expect("what was said is accepted");
    assert_eq!(codec::encode(&back).expect("as before"), again);
    if let Message::Grant { spec, .. } = &message {
        let _ = (fuzzing::arguments(spec), spec.label(), spec.work_units(), spec.disk_bytes(1));
    }
    true
}

/// A control stream: whatever pieces it arrives in, the frames are the same.
pub fn control_stream(data: &[u8]) -> bool {
    let Some((step, stream)) = data.split_first() else { return false };
    let (frames, refused) = fuzzing::control_frames(stream, usize::from(*step));
    assert_eq!((&frames, refused), (&fuzzing::control_frames(stream, usize::MAX).0, refused));
    let sent: Vec<u8> = frames.iter().flat_map(|frame| fuzzing::framed(frame)).collect();
    assert!(stream.starts_with(&sent), "a frame is written as it is read");
    assert!(frames.iter().all(|frame| frame.len() <= FRAME_BYTES_MAX));
    !frames.is_empty()
}

/// What goes over a stream of blobs: a request, a manifest, a chunk.
pub fn blob_stream(data: &[u8]) -> bool {
    match data.split_first() {
        Some((0, frame)) => {
            let Some((id, indices)) = fuzzing::blob_request(frame) else { return false };
            let again = fuzzing::blob_request_frame(id, indices.clone());
            assert_eq!(fuzzing::blob_request(&again), Some((id, indices)));
            true
        }
        Some((1, frame)) => {
            let Ok(Ok(told)) = codec::from_bytes::<Result<Manifest, String>>(frame, 8 << 20) else {
                return false;
            };
            let blob = BlobRef { id: told.id, bytes: told.bytes };
            let other = BlobRef { bytes: told.bytes.wrapping_add(1), ..blob };
            assert!(fuzzing::blob_manifest(frame, other).is_err(), "another blob's manifest");
            let Ok(manifest) = fuzzing::blob_manifest(frame, blob) else { return false };
            super::disk::check(&manifest);
            true
        }
        Some((_, stream)) => {
            let Some((step, stream)) = stream.split_first() else { return false };
            let chunk = fuzzing::blob_chunk(stream, usize::from(*step));
            assert_eq!(chunk, fuzzing::blob_chunk(stream, usize::MAX));
            chunk.is_ok_and(|chunk| stream[4..].starts_with(&chunk))
        }
        None => false,
    }
}

/// An announcement by mDNS: two bytes of port, a number of addresses, those, and the TXT record.
pub fn txt_record(data: &[u8]) -> bool {
    let mut rest = data;
    let Some(port) = take(&mut rest, 2) else { return false };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let Some(count) = take(&mut rest, 1) else { return false };
    let ips: Vec<IpAddr> = (0..count[0] % 32).map_while(|_| address(&mut rest)).collect();
    let mut strings = Vec::new();
    while let Some(length) = take(&mut rest, 1) {
        let Some(string) = take(&mut rest, usize::from(length[0])) else { break };
        strings.push(string.to_vec());
    }
    let me = AgentId([7; 32]);
    let Some((id, addresses)) = fuzzing::announced(&strings, &ips, port, me) else { return false };
    assert!(id != me && addresses.len() <= 16);
    for address in addresses {
        let ip = address.ip();
        assert!(address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast(), "{address}");
    }
    true
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn address(rest: &mut &[u8]) -> Option<IpAddr> {
    match take(rest, 1)? {
        [kind] if kind % 2 == 0 => {
            let bytes: [u8; 4] = take(rest, 4)?.try_into().ok()?;
            Some(Ipv4Addr::from(bytes).into())
        }
        _ => {
            let bytes: [u8; 16] = take(rest, 16)?.try_into().ok()?;
            Some(Ipv6Addr::from(bytes).into())
        }
    }
}
