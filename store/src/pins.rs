//! Pins: who needs which blob. A pin is an empty file whose name says all, so that it appears and
//! disappears at once and cannot be torn.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use dmc_protocol::id::BlobId;

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::files::{self, lock};

/// Longest holder name: in hex, with the blob's id, it fits a file name of 255 bytes.
pub const HOLDER_BYTES_MAX: usize = 90;

impl Blobs {
    /// Keeps the blob until `holder` (say `attempt:…`) unpins it; durable when it returns. The
    /// blob need not be here yet: its transfer is kept as well. Pinning twice is pinning once.
    pub fn pin(&self, id: BlobId, holder: &str) -> Result<(), StoreError> {
        if holder.is_empty() || holder.len() > HOLDER_BYTES_MAX {
            let bytes = holder.len();
            return Err(StoreError::BadHolder { bytes, bytes_max: HOLDER_BYTES_MAX });
        }
        let path = self.pin_path(id, holder);
        // In memory first, so that a sweep meanwhile already respects it.
        lock(&self.0.state).pins.entry(id).or_default().insert(holder.to_owned());
        File::create(&path).map_err(|e| StoreError::io("create", &path, e))?;
        files::sync_parent(&path)
    }

    /// Takes a pin back; no error when there is none.
    pub fn unpin(&self, id: BlobId, holder: &str) -> Result<(), StoreError> {
        let path = self.pin_path(id, holder);
        if files::remove_file(&path)? {
            files::sync_parent(&path)?;
        }
        let mut state = lock(&self.0.state);
        if let Some(holders) = state.pins.get_mut(&id) {
            holders.remove(holder);
            if holders.is_empty() {
                state.pins.remove(&id);
            }
        }
        Ok(())
    }

    /// Takes back every pin of `holder`.
    pub fn unpin_all(&self, holder: &str) -> Result<(), StoreError> {
        let held: Vec<BlobId> =
            self.pins().into_iter().filter(|(_, by)| by == holder).map(|(id, _)| id).collect();
        held.into_iter().try_for_each(|id| self.unpin(id, holder))
    }

    /// All pins.
    pub fn pins(&self) -> Vec<(BlobId, String)> {
        let state = lock(&self.0.state);
        let pins = state.pins.iter();
        pins.flat_map(|(id, holders)| holders.iter().map(|h| (*id, h.clone()))).collect()
    }

    fn pin_path(&self, id: BlobId, holder: &str) -> PathBuf {
        let holder: String = holder.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.0.root.join("pins").join(format!("{id}.{holder}"))
    }
}

pub(crate) fn find_pins(dir: &Path) -> Result<BTreeMap<BlobId, BTreeSet<String>>, StoreError> {
    let mut pins: BTreeMap<BlobId, BTreeSet<String>> = BTreeMap::new();
    for (name, path) in files::list(dir)? {
        match parse_pin(&name) {
            Some((id, holder)) => {
                pins.entry(id).or_default().insert(holder);
            }
            None => tracing::warn!(path = %path.display(), "this file is not a pin"),
        }
    }
    Ok(pins)
}

pub(crate) fn parse_pin(name: &str) -> Option<(BlobId, String)> {
    let (id, holder) = name.split_once('.')?;
    if !holder.is_ascii() {
        return None;
    }
    let bytes: Option<Vec<u8>> = holder
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    Some((id.parse().ok()?, String::from_utf8(bytes?).ok()?))
}
