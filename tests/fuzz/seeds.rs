//! Inputs made from real values, so that they are of today's format.

use dmc_agent::fuzzing;
use dmc_protocol::codec;
use dmc_protocol::id::AgentId;
use dmc_protocol::record::RECORD_SCHEMA;
use dmc_store::{CHUNK_BYTES, Manifest};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::values;

/// Values of each kind: enough that every message is among them.
const VALUES: usize = 48;

/// Fresh inputs for a target; none for those whose inputs are texts of other programs.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "wire_frame" => frames(),
        "control_stream" => frames().chunks(6).map(control_stream).collect(),
        "blob_stream" => blob_streams(),
        "roster" => rosters(),
        "join" => some(values::join()).iter().filter_map(|j| codec::to_bytes(j).ok()).collect(),
        "txt_record" => vec![announcement("2", 7341), announcement(&version(), 7341)],
        "store_record" => records(),
        "manifest" => manifests().iter().filter_map(manifest_file).collect(),
        _ => Vec::new(),
    }
}

fn some<T>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    // Always the same values.
    let mut runner = TestRunner::deterministic();
    (0..VALUES).filter_map(|_| Some(strategy.new_tree(&mut runner).ok()?.current())).collect()
}

fn frames() -> Vec<Vec<u8>> {
    some(values::message()).iter().filter_map(|message| codec::encode(message).ok()).collect()
}

fn control_stream(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut stream = vec![5];
    stream.extend(fuzzing::framed(&[]));
    stream.extend(frames.iter().flat_map(|frame| fuzzing::framed(frame)));
    stream
}

fn rosters() -> Vec<Vec<u8>> {
    let facts = some(values::fact());
    facts.chunks(7).filter_map(|facts| codec::to_bytes(&facts).ok()).collect()
}

fn manifests() -> Vec<Manifest> {
    let blob = |bytes: u64| Manifest::of_bytes(&vec![3; usize::try_from(bytes).unwrap_or(0)]);
    [0, 1, 1_000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES].map(blob).into()
}

fn manifest_file(manifest: &Manifest) -> Option<Vec<u8>> {
    dmc_store::fuzzing::manifest_file(manifest).ok()
}

fn blob_streams() -> Vec<Vec<u8>> {
    let mut streams = Vec::new();
    for manifest in manifests() {
        let (id, chunks) = (manifest.id, 0..8);
        streams.push([vec![0], fuzzing::blob_request_frame(id, None)].concat());
        streams.push([vec![0], fuzzing::blob_request_frame(id, Some(chunks.collect()))].concat());
        let answer = codec::to_bytes(&Ok::<_, String>(manifest)).unwrap_or_default();
        streams.push([vec![1], answer].concat());
    }
    let refusal = codec::to_bytes(&Err::<Manifest, _>("no such blob")).unwrap_or_default();
    streams.push([vec![1], refusal].concat());
    streams.push([vec![2, 3], fuzzing::framed(b"the bytes of a chunk")].concat());
    streams.push([vec![2, 3], fuzzing::framed(&[]), fuzzing::framed(b"it is gone")].concat());
    streams
}

fn version() -> String {
    codec::WIRE_VERSION.to_string()
}

/// An announcement as `targets::wire::txt_record` reads it.
fn announcement(version: &str, port: u16) -> Vec<u8> {
    let mut bytes = port.to_be_bytes().to_vec();
    bytes.extend([2, 0, 192, 168, 1, 20, 1]);
    bytes.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let id = AgentId([9; 32]);
    for text in [format!("id={id}"), format!("version={version}"), "name=living room".to_owned()] {
        bytes.push(u8::try_from(text.len()).unwrap_or(0));
        bytes.extend(text.bytes());
    }
    bytes
}

fn records() -> Vec<Vec<u8>> {
    some(values::record()).iter().filter_map(|r| dmc_store::encode(RECORD_SCHEMA, r).ok()).collect()
}
