//! Source files served as blobs from their own place, never copied and never written to.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::id::BlobId;
use serde::{Deserialize, Serialize};

use crate::blobs::Blobs;
use crate::error::StoreError;
use crate::files;
use crate::hash::{Stamp, read_range};
use crate::manifest::Manifest;
use crate::records;

const SCHEMA: u16 = 1;
/// The manifest of the largest blob, a path, and some numbers.
const RECORD_BYTES_MAX: usize = 129 << 20;

/// A source file as it was when it was hashed.
pub(crate) struct External {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Arc<Manifest>,
    stamp: Stamp,
}

/// [`External`] on disk. A path need not be text.
#[derive(Serialize, Deserialize)]
struct ExternalRecord {
    path: Vec<u8>,
    mtime_ns: i128,
    manifest: Manifest,
}

impl External {
    /// Reads a chunk if it is still what was hashed. A file that was only touched is served: the
    /// chunk's hash proves it.
    pub(crate) fn read_chunk_into(&self, index: u32, data: &mut Vec<u8>) -> Result<(), StoreError> {
        let range = self.manifest.chunk_range(index)?;
        let file = File::open(&self.path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.changed("it is gone"),
            _ => StoreError::io("open", &self.path, e),
        })?;
        if Stamp::of_file(&file, &self.path)?.bytes != self.stamp.bytes {
            return Err(self.changed("its size differs"));
        }
        data.resize((range.end - range.start) as usize, 0);
        read_range(&file, &self.path, range.start, data)?;
        self.manifest.verify_chunk(index, data).map_err(|_| self.changed("its bytes differ"))
    }

    fn changed(&self, why: &'static str) -> StoreError {
        StoreError::SourceChanged { path: self.path.clone(), why }
    }

    fn is_unchanged(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| Stamp::of(&meta) == self.stamp)
    }
}

impl Blobs {
    /// Serves the file at `path` as the blob that [`Blobs::hash_file`] said it is, also after a
    /// restart. Every read checks the file's size and the chunk's hash.
    pub fn add_external(&self, manifest: Manifest, path: &Path) -> Result<(), StoreError> {
        manifest.verify_shape()?;
        let failed = |e| StoreError::io("open", path, e);
        // The agent's working directory may be another one tomorrow.
        let path = &fs::canonicalize(path).map_err(failed)?;
        let stamp = Stamp::of(&fs::metadata(path).map_err(failed)?);
        if stamp.bytes != manifest.bytes {
            let why = "its size differs since it was hashed";
            return Err(StoreError::SourceChanged { path: path.clone(), why });
        }
        let (id, mtime_ns) = (manifest.id, stamp.mtime_ns);
        let record =
            ExternalRecord { path: path.clone().into_os_string().into_vec(), mtime_ns, manifest };
        let temp = self.temp()?;
        files::write_synced(temp.path(), &records::encode(SCHEMA, &record)?)?;
        let target = self.external_path(id);
        files::rename(temp.path(), &target)?;
        files::sync_parent(&target)?;
        let manifest = Arc::new(record.manifest);
        let external = Arc::new(External { path: path.clone(), manifest, stamp });
        files::write(&self.0.externals).insert(id, external);
        Ok(())
    }

    /// Serves the source file no longer; the file itself stays as it is.
    pub fn remove_external(&self, id: BlobId) -> Result<(), StoreError> {
        files::write(&self.0.externals).remove(&id);
        files::remove_file(&self.external_path(id)).map(|_was_there| ())
    }

    /// The source files that are served, and what blob each is.
    pub fn externals(&self) -> Vec<(BlobId, PathBuf)> {
        let externals = files::read(&self.0.externals);
        externals.iter().map(|(id, external)| (*id, external.path.clone())).collect()
    }

    /// The blob that the source file at `path` is known to be, if the file has not changed since:
    /// saves hashing it again.
    pub fn find_external(&self, path: &Path) -> Option<Arc<Manifest>> {
        let path = fs::canonicalize(path).ok()?;
        let externals = files::read(&self.0.externals);
        let known = externals.values().find(|e| e.path == path && e.is_unchanged())?;
        Some(known.manifest.clone())
    }

    fn external_path(&self, id: BlobId) -> PathBuf {
        self.0.root.join("external").join(id.to_string())
    }
}

pub(crate) fn find_externals(dir: &Path) -> Result<BTreeMap<BlobId, Arc<External>>, StoreError> {
    let mut externals = BTreeMap::new();
    for (_, file) in files::list(dir)? {
        match read_external(&file) {
            Ok(external) => {
                externals.insert(external.manifest.id, Arc::new(external));
            }
            // The file that it describes can be hashed again.
            Err(error) => {
                tracing::warn!(%error, path = %file.display(), "forgetting a source file");
                files::remove_file(&file)?;
            }
        }
    }
    Ok(externals)
}

fn read_external(file: &Path) -> Result<External, StoreError> {
    let bytes = fs::read(file).map_err(|e| StoreError::io("read", file, e))?;
    let record: ExternalRecord = records::decode_up_to(SCHEMA, &bytes, RECORD_BYTES_MAX)?;
    record.manifest.verify_shape()?;
    let stamp = Stamp { bytes: record.manifest.bytes, mtime_ns: record.mtime_ns };
    let path = PathBuf::from(OsString::from_vec(record.path));
    Ok(External { path, manifest: Arc::new(record.manifest), stamp })
}
