//! The way of a local file into the store.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::blobs::{Blobs, Inner, State, chunks_path};
use crate::error::StoreError;
use crate::files::{self, Temp, lock};
use crate::hash::hash_open_file;
use crate::manifest::Manifest;

/// Begins the names that the store makes in `tmp/`; others may use the directory as well.
pub(crate) const TEMP_PREFIX: &str = "store-";

/// What becomes of a file that is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// It becomes the blob: renamed where possible, else copied and removed.
    Move,
    /// It stays, and is copied.
    Copy,
}

impl Blobs {
    /// A directory on the same file system, for files to be imported by [`Import::Move`]. It is
    /// emptied when the store is opened, and at no other time.
    pub fn temp_dir(&self) -> PathBuf {
        self.0.root.join("tmp")
    }

    /// Stores a file. An identical blob that is already here is replaced, which also mends it.
    pub fn import(&self, path: &Path, import: Import) -> Result<Arc<Manifest>, StoreError> {
        let failed = |e| StoreError::io("read", path, e);
        let meta = fs::metadata(path).map_err(failed)?;
        if !meta.is_file() {
            return Err(failed(std::io::Error::other("it is not a file")));
        }
        let tmp = self.temp_dir();
        let here = fs::metadata(&tmp).map_err(|e| StoreError::io("read", &tmp, e))?;
        if import == Import::Move && meta.dev() == here.dev() {
            self.check_room(meta.len(), 0)?;
            return self.import_from(path);
        }
        self.check_room(meta.len(), meta.len())?;
        // What is hashed is the copy, so that a change of the original cannot come between.
        let temp = self.temp()?;
        fs::copy(path, temp.path()).map_err(|e| StoreError::io("copy to", temp.path(), e))?;
        let manifest = self.import_from(temp.path())?;
        if import == Import::Move {
            files::remove_file(path)?;
        }
        Ok(manifest)
    }

    /// Makes a file on the same file system a blob.
    fn import_from(&self, path: &Path) -> Result<Arc<Manifest>, StoreError> {
        let file = File::open(path).map_err(|e| StoreError::io("open", path, e))?;
        let manifest = hash_open_file(&file, path)?;
        file.sync_all().map_err(|e| StoreError::io("sync", path, e))?;
        self.place(path, &Arc::new(manifest))
    }

    /// Moves synced bytes to their name; durable when it returns.
    pub(crate) fn place(
        &self,
        data: &Path,
        manifest: &Arc<Manifest>,
    ) -> Result<Arc<Manifest>, StoreError> {
        let path = self.blob_path(manifest.id);
        if let Some(shard) = path.parent() {
            files::create_dir(shard)?;
        }
        let temp = self.temp()?;
        files::write_synced(temp.path(), &manifest.to_file()?)?;
        {
            // Under the lock, so that a sweep cannot remove it in between.
            let mut state = lock(&self.0.state);
            let is_here = state.blobs.contains_key(&manifest.id)
                && fs::metadata(&path).is_ok_and(|meta| meta.len() == manifest.bytes);
            if is_here {
                // The same bytes: whoever reads the file just now, or was allowed to read this very
                // file and no other, keeps it. A damaged one is removed by whoever finds it so.
                files::remove_file(data)?;
            } else {
                files::rename(temp.path(), &chunks_path(&path))?;
                files::rename(data, &path)?;
            }
            state.blobs.insert(manifest.id, manifest.bytes);
            state.idle.touch(manifest.id);
        }
        files::sync_parent(&path)?;
        self.remember(manifest);
        Ok(manifest.clone())
    }

    /// Refuses when `bytes` more exceed the quota, or `new_bytes` more leave too little free.
    fn check_room(&self, bytes: u64, new_bytes: u64) -> Result<(), StoreError> {
        self.0.check_room(&lock(&self.0.state), bytes, new_bytes)
    }

    /// A fresh name in the temporary directory; what is made there goes when this is dropped.
    pub(crate) fn temp(&self) -> Result<BlobTemp, StoreError> {
        let number = self.0.temp_next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{TEMP_PREFIX}{number}");
        let temp = Temp(self.temp_dir().join(&name));
        files::remove_all(&temp.0)?;
        lock(&self.0.state).temps.insert(name.clone());
        Ok(BlobTemp { blobs: self.clone(), name, temp })
    }
}

impl Inner {
    pub(crate) fn check_room(
        &self,
        state: &State,
        bytes: u64,
        new_bytes: u64,
    ) -> Result<(), StoreError> {
        let (used, quota) = (state.usage(), self.limits.quota_bytes);
        if used.saturating_add(bytes) > quota {
            return Err(StoreError::Quota { path: self.root.clone(), bytes, used, quota });
        }
        let needed = new_bytes.saturating_add(self.limits.free_bytes_min);
        if new_bytes > 0 && files::free_space(&self.root)? < needed {
            let path = self.root.clone();
            return Err(StoreError::DiskFull { action: "store a blob in", path });
        }
        Ok(())
    }
}

/// A temporary name in use, which a sweep leaves alone.
pub(crate) struct BlobTemp {
    blobs: Blobs,
    name: String,
    temp: Temp,
}

impl BlobTemp {
    pub(crate) fn path(&self) -> &Path {
        &self.temp.0
    }
}

impl Drop for BlobTemp {
    fn drop(&mut self) {
        lock(&self.blobs.0.state).temps.remove(&self.name);
    }
}
