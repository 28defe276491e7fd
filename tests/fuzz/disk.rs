//! What lies on a disk, which may be damaged.

use dmc_protocol::codec;
use dmc_protocol::config::RECORD_BYTES_MAX;
use dmc_protocol::id::{AgentId, AttemptId, BlobId, JobId};
use dmc_protocol::record::{RECORD_SCHEMA, Record};
use dmc_store::{CHUNK_BYTES, Manifest, chunk_count, fuzzing};

/// A record of the mesh's state. Its schema comes first; inputs are kept over its changes.
pub fn record(data: &[u8]) -> bool {
    let _ = dmc_store::schema_of(data);
    let _ = dmc_store::decode::<Record>(RECORD_SCHEMA, data);
    names(data);
    let Some((_, body)) = data.split_at_checked(2) else { return false };
    let Ok(record) = codec::from_bytes::<Record>(body, RECORD_BYTES_MAX) else { return false };
    let _ = record.key();
    let bytes = dmc_store::encode(RECORD_SCHEMA, &record).expect("what was read can be written");
    let back: Record = dmc_store::decode(RECORD_SCHEMA, &bytes).expect("what was written reads");
    assert_eq!(dmc_store::encode(RECORD_SCHEMA, &back).expect("as before"), bytes);
    true
}

/// Names of files and ids in text: what is accepted is written as the same again.
fn names(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = fuzzing::pin(text);
    if let Ok(id) = text.parse::<AgentId>() {
        assert_eq!(id.to_string().parse::<AgentId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<JobId>() {
        assert_eq!(id.to_string().parse::<JobId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<BlobId>() {
        assert_eq!(id.to_string().parse::<BlobId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<AttemptId>() {
        assert_eq!(id.to_string().parse::<AttemptId>().ok(), Some(id));
    }
}

/// The list of a blob's chunk hashes.
pub fn manifest(data: &[u8]) -> bool {
    let Ok(manifest) = fuzzing::manifest(data) else { return false };
    let bytes = fuzzing::manifest_file(&manifest).expect("what was read can be written");
    assert!(fuzzing::manifest(&bytes).expect("what was written reads") == manifest);
    check(&manifest);
    true
}

/// The chunks of an accepted manifest cover the blob, and no wrong one passes.
pub fn check(manifest: &Manifest) {
    let chunks = u32::try_from(chunk_count(manifest.bytes)).expect("a blob has a limit");
    let mut end = 0;
    for index in 0..chunks {
        let range = manifest.chunk_range(index).expect("every chunk has a place");
        assert!(range.start == end && range.end > end && range.end - range.start <= CHUNK_BYTES);
        end = range.end;
    }
    assert_eq!(end, manifest.bytes);
    assert!(manifest.chunk_range(chunks).is_err());
    assert!(manifest.verify_chunk(0, b"").is_err());
}
