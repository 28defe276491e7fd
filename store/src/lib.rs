//! Durable state of an agent: typed records and content-addressed blobs.
//!
//! **Architecture invariant:** what is acknowledged survives a power cut. Records are small and
//! live in the database behind [`Kv`]; everything large is a file behind [`Blobs`].

mod batch;
mod blobs;
mod error;
mod external;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod gc;
mod hash;
mod import;
mod kv;
mod manifest;
mod memory;
mod partial;
mod pins;
mod records;

use std::path::Path;

pub use batch::{BATCH_BYTES_MAX, Batch, KEY_BYTES_MAX, Table, VALUE_BYTES_MAX};
pub use blobs::{BlobLimits, Blobs};
pub use error::StoreError;
pub use files::free_space;
pub use gc::Swept;
pub use hash::hash_file;
pub use import::Import;
pub use kv::{Entry, Kv, SCAN_LIMIT_MAX};
pub use manifest::{BLOB_BYTES_MAX, CHUNK_BYTES, Manifest, chunk_count};
pub use partial::Partial;
pub use pins::HOLDER_BYTES_MAX;
pub use records::{decode, encode, schema_of};

/// All durable state of an agent, below one directory.
#[derive(Clone)]
pub struct Store {
    /// The records.
    pub kv: Kv,
    /// The blobs.
    pub blobs: Blobs,
}

impl Store {
    /// Opens the state below `dir`, made if missing. Fails with [`StoreError::Locked`] while
    /// another process has it open.
    pub fn open(dir: &Path, limits: BlobLimits) -> Result<Store, StoreError> {
        // The database first: its lock also guards the blobs.
        let kv = Kv::open(&dir.join("state"))?;
        let blobs = Blobs::open(dir, limits)?;
        Ok(Store { kv, blobs })
    }
}
