//! A blob's list of chunk hashes, by which every chunk can be verified alone.
//!
//! The hashes are the chaining values of BLAKE3's own tree at 1 MiB, so they merge to exactly the
//! hash that `b3sum` prints for the file: a list that merges to the blob's name is the right list.

use std::fmt;
use std::ops::Range;

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use dmc_protocol::id::BlobId;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::records;

/// Bytes of every chunk but the last. A power of two, as BLAKE3's tree demands.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Largest blob. Its manifest has 128 MiB.
pub const BLOB_BYTES_MAX: u64 = 4 << 40;

const SCHEMA: u16 = 1;
const HASH_BYTES: usize = 32;
/// Room for the id, the sizes and the schema version in an encoded manifest.
const HEADER_BYTES_MAX: usize = 64;

/// The chunk hashes of a blob. Untrusted until [`Manifest::verify_shape`] says so.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The blob: the BLAKE3 hash of all its bytes.
    pub id: BlobId,
    /// Length of the blob.
    pub bytes: u64,
    /// One hash for each started [`CHUNK_BYTES`]; none for an empty blob.
    pub chunks: Vec<[u8; HASH_BYTES]>,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chunks = self.chunks.len();
        write!(f, "Manifest({:?}, {} bytes, {chunks} chunks)", self.id, self.bytes)
    }
}

impl Manifest {
    /// From the hashes of all chunks, in order.
    pub(crate) fn from_chunks(bytes: u64, chunks: Vec<[u8; HASH_BYTES]>) -> Manifest {
        Manifest { id: merge(&chunks), bytes, chunks }
    }

    /// The manifest of bytes in memory.
    pub fn of_bytes(data: &[u8]) -> Manifest {
        let parts = data.chunks(CHUNK_BYTES as usize);
        let only = parts.len() == 1;
        let chunks = (0..).zip(parts).map(|(i, part)| chunk_hash(i, part, only)).collect();
        Manifest::from_chunks(data.len() as u64, chunks)
    }

    /// Checks that the list is that of blob `id`: bounded, of the right count, merging to the id.
    pub fn verify_shape(&self) -> Result<(), StoreError> {
        let bad = |why| Err(StoreError::BadManifest { id: self.id, why });
        if self.bytes > BLOB_BYTES_MAX {
            return bad("the blob is larger than dmc allows");
        }
        if self.chunks.len() as u64 != chunk_count(self.bytes) {
            return bad("the number of hashes does not fit the size");
        }
        if merge(&self.chunks) != self.id {
            return bad("the hashes do not make up the blob's hash");
        }
        Ok(())
    }

    /// Where chunk `index` lies in the blob.
    pub fn chunk_range(&self, index: u32) -> Result<Range<u64>, StoreError> {
        if index as usize >= self.chunks.len() {
            let chunks = self.chunks.len();
            return Err(StoreError::NoChunk { id: self.id, index, chunks });
        }
        let start = u64::from(index) * CHUNK_BYTES;
        Ok(start..self.bytes.min(start + CHUNK_BYTES))
    }

    /// Checks that `data` is chunk `index`, whole and unchanged.
    pub fn verify_chunk(&self, index: u32, data: &[u8]) -> Result<(), StoreError> {
        let range = self.chunk_range(index)?;
        let wrong = StoreError::WrongHash { id: self.id, index };
        // The length first: the hasher must not see more than one chunk, nor an empty one.
        if data.is_empty() || range.end.checked_sub(range.start) != Some(data.len() as u64) {
            return Err(wrong);
        }
        let only = self.chunks.len() == 1;
        if self.chunks.get(index as usize) != Some(&chunk_hash(index, data, only)) {
            return Err(wrong);
        }
        Ok(())
    }

    pub(crate) fn to_file(&self) -> Result<Vec<u8>, StoreError> {
        records::encode(SCHEMA, self)
    }

    /// Reads what [`Manifest::to_file`] made, and checks it.
    pub(crate) fn from_file(bytes: &[u8]) -> Result<Manifest, StoreError> {
        let bytes_max = chunk_count(BLOB_BYTES_MAX) as usize * HASH_BYTES + HEADER_BYTES_MAX;
        let manifest: Manifest = records::decode_up_to(SCHEMA, bytes, bytes_max)?;
        manifest.verify_shape()?;
        Ok(manifest)
    }
}

/// How many chunks a blob of `bytes` has.
pub fn chunk_count(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES)
}

/// The hash of one chunk of 1 to [`CHUNK_BYTES`] bytes. A blob's only chunk is also the root of
/// its tree, and BLAKE3 hashes a root differently.
pub(crate) fn chunk_hash(index: u32, data: &[u8], only: bool) -> [u8; HASH_BYTES] {
    if only {
        return *blake3::hash(data).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(index) * CHUNK_BYTES);
    hasher.update(data);
    hasher.finalize_non_root()
}

/// Merges neighbours, layer by layer; one left over at the end moves up as it is.
fn merge(chunks: &[[u8; HASH_BYTES]]) -> BlobId {
    match chunks {
        [] => return BlobId(*blake3::hash(b"").as_bytes()),
        [only] => return BlobId(*only),
        _ => {}
    }
    let mut layer = chunks.to_vec();
    while layer.len() > 2 {
        let pairs = layer.chunks(2).map(|pair| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            _ => pair[0],
        });
        layer = pairs.collect();
    }
    BlobId(*merge_subtrees_root(&layer[0], &layer[1], Mode::Hash).as_bytes())
}
