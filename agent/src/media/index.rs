//! The packets of the pictures: what may be cut where, without decoding anything.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::bounds;
use super::error::MediaError;
use super::probe::{ENCRYPTED, encrypted};
use super::run::{self, Args, Call, Tools};
use super::streams::Probe;

/// More packets than this and the index would not fit in memory.
const BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// Longest time to read all packets of a source.
const WALL: Duration = Duration::from_secs(3600);

/// One packet, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// When it is shown, in ticks.
    pub pts: Option<i64>,
    /// When it is decoded, in ticks.
    pub dts: Option<i64>,
    /// How long it is shown, in ticks; 0 unknown.
    pub duration: i64,
    /// Length in bytes.
    pub bytes: u32,
    /// Where it is in the file.
    pub pos: Option<u64>,
    /// Decoding may start here.
    pub key: bool,
    /// Decoded but not shown.
    pub discard: bool,
    /// Known to be damaged.
    pub corrupt: bool,
}

/// The packets of a source's pictures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Index {
    /// In the order of the file.
    pub packets: Vec<Packet>,
}

impl Index {
    /// The timestamps of what is shown, sorted.
    pub fn shown_pts(&self) -> Vec<i64> {
        let shown = self.packets.iter().filter(|packet| !packet.discard);
        let mut pts: Vec<i64> = shown.filter_map(|packet| packet.pts).collect();
        pts.sort_unstable();
        pts
    }

    /// Bytes of all packets.
    pub fn bytes(&self) -> u64 {
        self.packets.iter().map(|packet| u64::from(packet.bytes)).sum()
    }
}

/// Reads the packets of the source's pictures; empty when it has none.
///
/// # Errors
/// When ffprobe fails, or the file is cut off so early that it has no packet.
pub async fn index(tools: &Tools, path: &Path, probe: &Probe) -> Result<Index, MediaError> {
    let Some(pictures) = &probe.pictures else { return Ok(Index::default()) };
    if probe.format.is_still_picture() {
        return Ok(Index::default()); // one picture needs no list
    }
    let mut args = Args::ffprobe();
    args.guards(Some(&probe.format));
    args.words(&format!("-select_streams {}", pictures.index));
    args.words(
        "-show_entries packet=pts,dts,duration,size,pos,flags:packet_side_data=side_data_type",
    );
    args.words("-of csv=p=0 -i");
    args.read(path);
    let mut call = Call::new("reading the packet index", &tools.ffprobe, args);
    call.wall = WALL;
    call.stdout_bytes_max = BYTES_MAX;
    let captured = run::capture(call, &CancellationToken::new()).await?;
    let text = String::from_utf8_lossy(&captured.stdout);
    // A film may begin in the clear.
    if text.contains(ENCRYPTED) {
        return Err(encrypted(path));
    }
    let packets = packets(&text);
    if packets.is_empty() {
        let why = "there is no picture in it: it was cut off or is damaged";
        return Err(MediaError::refused(path, why, "Copy it again"));
    }
    bounds::check_frames(path, packets.len() as u64, (pictures.width, pictures.height))?;
    Ok(Index { packets })
}

/// The packets that ffprobe lists; lines that make no sense are left out.
pub(crate) fn packets(text: &str) -> Vec<Packet> {
    text.lines().filter_map(parse).collect()
}

/// One line: `pts,dts,duration,size,pos,flags` and perhaps more.
fn parse(line: &str) -> Option<Packet> {
    let mut fields = line.split(',');
    let mut next = || fields.next();
    let number = |field: Option<&str>| field.and_then(|text| text.parse::<i64>().ok());
    let (pts, dts) = (number(next()), number(next()));
    let duration = number(next()).unwrap_or(0).max(0);
    let bytes = number(next()).and_then(|n| u32::try_from(n).ok())?;
    let pos = number(next()).and_then(|n| u64::try_from(n).ok());
    let flags = next()?;
    Some(Packet {
        pts,
        dts,
        duration,
        bytes,
        pos,
        key: flags.contains('K'),
        discard: flags.contains('D'),
        corrupt: flags.contains('C'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ffprobe_become_packets() {
        let packet = parse("133500,126000,3750,859,564,K_,").unwrap();
        assert_eq!((packet.pts, packet.dts, packet.pos), (Some(133_500), Some(126_000), Some(564)));
        assert!(packet.key && !packet.discard);
        let packet = parse("N/A,40,N/A,10,N/A,_D").unwrap();
        assert_eq!((packet.pts, packet.pos, packet.discard), (None, None, true));
        assert_eq!(parse(""), None);
    }
}
