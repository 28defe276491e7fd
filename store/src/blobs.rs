//! Immutable files named by their BLAKE3 hash.
//!
//! `blobs/<2 hex>/<64 hex>` holds the bytes and `….chunks` beside it the manifest; `partial/<64
//! hex>/` a transfer under way; `pins/` one empty file for each pin; `external/` what is known of
//! source files served from their own place; `tmp/` everything half done. A blob appears under its
//! name only complete and durable: written elsewhere, synced, renamed, directory synced.
//!
//! All calls block on the disk: async callers run them on a blocking thread.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use dmc_protocol::id::BlobId;

use crate::error::StoreError;
use crate::external::External;
use crate::files::{self, lock};
use crate::gc::Idle;
use crate::hash::{hash_file, read_range};
use crate::manifest::Manifest;
use crate::partial::PartialEntry;

/// Ending of the file that holds a blob's manifest.
const CHUNKS_SUFFIX: &str = ".chunks";
/// Manifests kept in memory: enough for all transfers at a time.
const MANIFESTS_CACHED: usize = 16;

/// What the blobs may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimits {
    /// Most bytes of all blobs and partial transfers together.
    pub quota_bytes: u64,
    /// Bytes that must stay free on the file system.
    pub free_bytes_min: u64,
    /// How long an unpinned blob, partial transfer or temporary file stays.
    pub grace_ms: u64,
}

impl Default for BlobLimits {
    fn default() -> Self {
        BlobLimits { quota_bytes: u64::MAX, free_bytes_min: 0, grace_ms: 600_000 }
    }
}

/// The blobs of an agent: cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Blobs(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) limits: BlobLimits,
    pub(crate) state: Mutex<State>,
    pub(crate) externals: RwLock<BTreeMap<BlobId, Arc<External>>>,
    manifests: Mutex<VecDeque<Arc<Manifest>>>,
    pub(crate) temp_next: AtomicU64,
}

#[derive(Default)]
pub(crate) struct State {
    /// Complete blobs and their sizes.
    pub(crate) blobs: BTreeMap<BlobId, u64>,
    pub(crate) partials: BTreeMap<BlobId, PartialEntry>,
    pub(crate) pins: BTreeMap<BlobId, BTreeSet<String>>,
    /// Temporary files in use, by name.
    pub(crate) temps: BTreeSet<String>,
    pub(crate) idle: Idle,
}

impl State {
    pub(crate) fn usage(&self) -> u64 {
        let partials = self.partials.values().map(|p| p.bytes);
        self.blobs.values().copied().chain(partials).sum()
    }
}

impl Blobs {
    /// Opens the blobs below `dir`, and removes what an earlier process left half done. The
    /// caller makes sure that no other process uses `dir`, as [`crate::Store::open`] does.
    pub fn open(dir: &Path, limits: BlobLimits) -> Result<Blobs, StoreError> {
        for name in ["blobs", "partial", "pins", "external", "tmp"] {
            files::create_dir(&dir.join(name))?;
        }
        for (_, path) in files::list(&dir.join("tmp"))? {
            files::remove_all(&path)?;
        }
        let state = State {
            blobs: find_blobs(&dir.join("blobs"))?,
            partials: crate::partial::find_partials(&dir.join("partial"))?,
            pins: crate::pins::find_pins(&dir.join("pins"))?,
            ..State::default()
        };
        let externals = crate::external::find_externals(&dir.join("external"))?;
        Ok(Blobs(Arc::new(Inner {
            root: dir.to_owned(),
            limits,
            state: Mutex::new(state),
            externals: RwLock::new(externals),
            manifests: Mutex::default(),
            temp_next: AtomicU64::new(0),
        })))
    }

    /// Hashes a file where it is, without storing it.
    pub fn hash_file(&self, path: &Path) -> Result<Manifest, StoreError> {
        hash_file(path)
    }

    /// Whether the blob is here, complete, or served from a source file.
    pub fn contains(&self, id: BlobId) -> bool {
        lock(&self.0.state).blobs.contains_key(&id)
            || files::read(&self.0.externals).contains_key(&id)
    }

    /// The file that holds the blob's bytes: never write to it.
    pub fn path(&self, id: BlobId) -> Result<PathBuf, StoreError> {
        if lock(&self.0.state).blobs.contains_key(&id) {
            return Ok(self.blob_path(id));
        }
        match files::read(&self.0.externals).get(&id) {
            Some(external) => Ok(external.path.clone()),
            None => Err(StoreError::NoBlob { id }),
        }
    }

    /// The blob's size; `None` when it is not here.
    pub fn bytes(&self, id: BlobId) -> Option<u64> {
        let stored = lock(&self.0.state).blobs.get(&id).copied();
        stored.or_else(|| files::read(&self.0.externals).get(&id).map(|e| e.manifest.bytes))
    }

    /// The blob's chunk hashes, checked against its name.
    pub fn manifest(&self, id: BlobId) -> Result<Arc<Manifest>, StoreError> {
        if !lock(&self.0.state).blobs.contains_key(&id) {
            let externals = files::read(&self.0.externals);
            let external = externals.get(&id).ok_or(StoreError::NoBlob { id })?;
            return Ok(external.manifest.clone());
        }
        if let Some(known) = lock(&self.0.manifests).iter().find(|m| m.id == id) {
            return Ok(known.clone());
        }
        let path = self.blob_path(id);
        let manifest = match read_manifest(&chunks_path(&path)) {
            Ok(manifest) if manifest.id == id => manifest,
            // Lost or damaged: the bytes can tell.
            _ => self.rebuild_manifest(id, &path)?,
        };
        let manifest = Arc::new(manifest);
        self.remember(&manifest);
        Ok(manifest)
    }

    fn rebuild_manifest(&self, id: BlobId, path: &Path) -> Result<Manifest, StoreError> {
        let manifest = hash_file(path)?;
        if manifest.id != id {
            return Err(StoreError::Corrupt { path: path.to_owned(), index: None });
        }
        let temp = self.temp()?;
        files::write_synced(temp.path(), &manifest.to_file()?)?;
        files::rename(temp.path(), &chunks_path(path))?;
        Ok(manifest)
    }

    /// The bytes of one chunk, verified.
    pub fn read_chunk(&self, id: BlobId, index: u32) -> Result<Vec<u8>, StoreError> {
        let mut data = Vec::new();
        self.read_chunk_into(id, index, &mut data)?;
        Ok(data)
    }

    /// The same in the caller's buffer: whoever reads many chunks needs no new memory for each.
    pub fn read_chunk_into(
        &self,
        id: BlobId,
        index: u32,
        data: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        if !lock(&self.0.state).blobs.contains_key(&id) {
            let external = files::read(&self.0.externals).get(&id).cloned();
            return external.ok_or(StoreError::NoBlob { id })?.read_chunk_into(index, data);
        }
        let manifest = self.manifest(id)?;
        let range = manifest.chunk_range(index)?;
        let path = self.blob_path(id);
        let corrupt = || StoreError::Corrupt { path: path.clone(), index: Some(index) };
        let file = File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => corrupt(),
            _ => StoreError::io("open", &path, e),
        })?;
        data.resize((range.end - range.start) as usize, 0);
        match read_range(&file, &path, range.start, data) {
            Err(StoreError::SourceChanged { .. }) => return Err(corrupt()),
            read => read?,
        }
        manifest.verify_chunk(index, data).map_err(|_| corrupt())
    }

    /// Reads a whole stored blob. A damaged one is removed, even when it is pinned, so that it can
    /// be fetched again; its pins stay.
    pub fn verify(&self, id: BlobId) -> Result<(), StoreError> {
        if !lock(&self.0.state).blobs.contains_key(&id) {
            return Err(StoreError::NoBlob { id });
        }
        let path = self.blob_path(id);
        match hash_file(&path) {
            Ok(manifest) if manifest.id == id => return Ok(()),
            Err(error) if path.exists() => return Err(error),
            _ => {}
        }
        self.0.remove_blob(&mut lock(&self.0.state), id)?;
        Err(StoreError::Corrupt { path, index: None })
    }

    /// Removes a blob and what there is of its transfer. Refused while it is pinned or being
    /// fetched; no error when it is not here. Source files are never touched.
    pub fn remove(&self, id: BlobId) -> Result<(), StoreError> {
        let mut state = lock(&self.0.state);
        if let Some(holders) = state.pins.get(&id) {
            let holders = holders.iter().cloned().collect();
            return Err(StoreError::Pinned { id, holders });
        }
        if state.partials.get(&id).is_some_and(PartialEntry::is_open) {
            return Err(StoreError::InUse { id });
        }
        self.0.remove_blob(&mut state, id)?;
        self.0.remove_partial(&mut state, id)
    }

    /// Bytes of all blobs and partial transfers.
    pub fn usage(&self) -> u64 {
        lock(&self.0.state).usage()
    }

    /// Ids and sizes of all complete blobs.
    pub fn list(&self) -> Vec<(BlobId, u64)> {
        lock(&self.0.state).blobs.iter().map(|(id, bytes)| (*id, *bytes)).collect()
    }

    pub(crate) fn blob_path(&self, id: BlobId) -> PathBuf {
        self.0.blob_path(id)
    }

    pub(crate) fn remember(&self, manifest: &Arc<Manifest>) {
        let mut manifests = lock(&self.0.manifests);
        manifests.retain(|known| known.id != manifest.id);
        manifests.push_front(manifest.clone());
        manifests.truncate(MANIFESTS_CACHED);
    }
}

impl Inner {
    pub(crate) fn blob_path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        self.root.join("blobs").join(&name[..2]).join(name)
    }

    pub(crate) fn remove_blob(&self, state: &mut State, id: BlobId) -> Result<(), StoreError> {
        if state.blobs.contains_key(&id) {
            let path = self.blob_path(id);
            // The bytes first: a manifest without them is cleaned at the next start.
            files::remove_file(&path)?;
            state.blobs.remove(&id);
            files::remove_file(&chunks_path(&path))?;
        }
        Ok(())
    }
}

pub(crate) fn chunks_path(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(CHUNKS_SUFFIX);
    PathBuf::from(name)
}

pub(crate) fn read_manifest(path: &Path) -> Result<Manifest, StoreError> {
    let bytes = fs::read(path).map_err(|e| StoreError::io("read", path, e))?;
    Manifest::from_file(&bytes)
}

/// All complete blobs; removes manifests whose blob is gone.
fn find_blobs(dir: &Path) -> Result<BTreeMap<BlobId, u64>, StoreError> {
    let mut blobs = BTreeMap::new();
    for (_, shard) in files::list(dir)?.into_iter().filter(|(_, path)| path.is_dir()) {
        // In name order, so that a blob comes before its manifest.
        for (name, path) in files::list(&shard)? {
            if let Ok(id) = name.parse::<BlobId>() {
                let meta = fs::metadata(&path).map_err(|e| StoreError::io("read", &path, e))?;
                blobs.insert(id, meta.len());
            } else if let Some(Ok(id)) = name.strip_suffix(CHUNKS_SUFFIX).map(str::parse::<BlobId>)
                && !blobs.contains_key(&id)
            {
                files::remove_file(&path)?;
            }
        }
    }
    Ok(blobs)
}
