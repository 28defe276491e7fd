//! Doors for the fuzz targets in `tests/fuzz`: decoders of what lies on the disk. No part of the
//! interface.

use dmc_protocol::id::BlobId;

use crate::error::StoreError;
use crate::manifest::Manifest;

/// Reads a manifest file.
pub fn manifest(bytes: &[u8]) -> Result<Manifest, StoreError> {
    Manifest::from_file(bytes)
}

/// Writes a manifest file.
pub fn manifest_file(manifest: &Manifest) -> Result<Vec<u8>, StoreError> {
    manifest.to_file()
}

/// Reads the name of a pin's file.
pub fn pin(name: &str) -> Option<(BlobId, String)> {
    crate::pins::parse_pin(name)
}
