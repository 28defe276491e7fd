//! A blob on its way in: chunks arrive in any order, from several threads, and survive a crash.
//!
//! `partial/<64 hex>/` holds `data` (all of its room taken at the start), `manifest`, and `bitmap`
//! with a bit for each chunk. A bit is written only after its chunk was synced, so a set bit can be
//! trusted whenever the machine stops; writing the bitmap in place is safe because bits only
//! appear, and a torn write leaves some of them for later.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use dmc_protocol::id::BlobId;

use crate::blobs::{Blobs, read_manifest};
use crate::error::StoreError;
use crate::files::{self, lock};
use crate::manifest::Manifest;

/// A crash loses at most this much of a transfer...
const UNSAVED_BYTES_MAX: u64 = 64 << 20;
/// ...so saving begins earlier: chunks go on being written meanwhile.
const CHECKPOINT_BYTES: u64 = UNSAVED_BYTES_MAX / 2;
/// ...or this much time of it.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// A partial transfer as the index knows it.
pub(crate) struct PartialEntry {
    pub(crate) bytes: u64,
    open: Weak<Transfer>,
}

impl PartialEntry {
    pub(crate) fn is_open(&self) -> bool {
        self.open.strong_count() > 0
    }
}

/// A transfer under way. Clones share it; the last one to go saves the state, which blocks.
#[derive(Clone)]
pub struct Partial(Arc<Transfer>);

struct Transfer {
    blobs: Blobs,
    manifest: Arc<Manifest>,
    /// None when the blob was complete from the start.
    files: Option<Files>,
    progress: Mutex<Progress>,
    /// When the bitmap was saved last. Held while saving, so that an older bitmap never overwrites
    /// a newer one.
    saved_at: Mutex<Instant>,
}

struct Files {
    dir: PathBuf,
    data: File,
    bitmap: File,
}

struct Progress {
    /// A bit for each chunk whose bytes are written.
    written: Vec<u8>,
    missing: usize,
    unsaved_bytes: u64,
    finished: bool,
}

impl Blobs {
    /// Starts or resumes the transfer of a blob, taking all of its room at once. Begun twice, it
    /// is the same transfer. A blob that is already here lacks nothing.
    pub fn begin_partial(&self, manifest: &Manifest) -> Result<Partial, StoreError> {
        manifest.verify_shape()?;
        let id = manifest.id;
        let dir = self.0.root.join("partial").join(id.to_string());
        loop {
            if let Some(partial) = self.known_partial(manifest, &dir)? {
                return Ok(partial);
            }
            let temp = self.temp()?;
            create_files(temp.path(), manifest)?;
            let mut state = lock(&self.0.state);
            if state.partials.contains_key(&id) || state.blobs.contains_key(&id) {
                // Another thread was faster.
                continue;
            }
            files::rename(temp.path(), &dir)?;
            state.partials.insert(id, PartialEntry { bytes: manifest.bytes, open: Weak::new() });
            drop(state);
            files::sync_parent(&dir)?;
        }
    }

    /// The transfer if it is complete, open, or can be resumed. None when it must be made, for
    /// which there is room.
    fn known_partial(
        &self,
        manifest: &Manifest,
        dir: &Path,
    ) -> Result<Option<Partial>, StoreError> {
        let id = manifest.id;
        let mut state = lock(&self.0.state);
        state.idle.touch(id);
        if state.blobs.contains_key(&id) {
            return Ok(Some(self.partial(manifest, None, Progress::complete())));
        }
        let Some(entry) = state.partials.get_mut(&id) else {
            self.0.check_room(&state, manifest.bytes, manifest.bytes)?;
            return Ok(None);
        };
        if let Some(open) = entry.open.upgrade() {
            // Two lists with one root differ only in a wrong length: the first may be the lie.
            let same = *open.manifest == *manifest;
            return if same { Ok(Some(Partial(open))) } else { Err(StoreError::InUse { id }) };
        }
        let Some((files, progress)) = open_files(dir, manifest)? else {
            files::remove_all(dir)?;
            state.partials.remove(&id);
            self.0.check_room(&state, manifest.bytes, manifest.bytes)?;
            return Ok(None);
        };
        let partial = self.partial(manifest, Some(files), progress);
        entry.open = Arc::downgrade(&partial.0);
        Ok(Some(partial))
    }

    fn partial(&self, manifest: &Manifest, files: Option<Files>, progress: Progress) -> Partial {
        Partial(Arc::new(Transfer {
            blobs: self.clone(),
            manifest: Arc::new(manifest.clone()),
            files,
            progress: Mutex::new(progress),
            saved_at: Mutex::new(Instant::now()),
        }))
    }
}

impl Partial {
    /// The blob's chunk hashes.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.0.manifest
    }

    /// Positions of the chunks that are still to be written.
    pub fn missing(&self) -> Vec<u32> {
        let progress = lock(&self.0.progress);
        if progress.finished {
            return Vec::new();
        }
        let count = self.0.manifest.chunks.len() as u32;
        (0..count).filter(|index| !has_bit(&progress.written, *index)).collect()
    }

    /// How many chunks are still to be written.
    pub fn missing_count(&self) -> usize {
        lock(&self.0.progress).missing
    }

    /// Verifies and writes a chunk. Different chunks may be written at the same time; one that is
    /// already there is left as it is.
    pub fn write_chunk(&self, index: u32, data: &[u8]) -> Result<(), StoreError> {
        let range = self.0.manifest.chunk_range(index)?;
        self.0.manifest.verify_chunk(index, data)?;
        let Some(files) = &self.0.files else { return Ok(()) };
        {
            let progress = lock(&self.0.progress);
            if progress.finished || has_bit(&progress.written, index) {
                return Ok(());
            }
        }
        let path = files.dir.join("data");
        files
            .data
            .write_all_at(data, range.start)
            .map_err(|e| StoreError::io("write", &path, e))?;
        lock(&self.0.progress).add(index, data.len() as u64);
        self.checkpoint_if_due()
    }

    /// Saves the progress when 32 MiB or 5 s have passed since it was saved. Writing a chunk does
    /// this by itself; call it when a transfer stalls.
    pub fn checkpoint_if_due(&self) -> Result<(), StoreError> {
        let mut saved_at = match self.0.saved_at.try_lock() {
            Ok(saved_at) => saved_at,
            // Whoever holds the lock is saving at this moment; a disk that is too slow for what
            // comes is waited for.
            Err(_) if lock(&self.0.progress).unsaved_bytes < UNSAVED_BYTES_MAX => return Ok(()),
            Err(_) => lock(&self.0.saved_at),
        };
        let unsaved_bytes = lock(&self.0.progress).unsaved_bytes;
        let due = saved_at.elapsed() >= CHECKPOINT_EVERY || unsaved_bytes >= CHECKPOINT_BYTES;
        if unsaved_bytes > 0 && due { self.0.save(&mut saved_at) } else { Ok(()) }
    }

    /// Makes all that was written until now durable.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.0.save(&mut lock(&self.0.saved_at))
    }

    /// Makes the complete blob durable under its name and returns its path. Fails with
    /// [`StoreError::Incomplete`] while chunks are missing.
    pub fn finish(&self) -> Result<PathBuf, StoreError> {
        let id = self.0.manifest.id;
        let path = self.0.blobs.blob_path(id);
        // No save may be under way while the files move.
        let _saving = lock(&self.0.saved_at);
        let (missing, finished) = {
            let progress = lock(&self.0.progress);
            (progress.missing, progress.finished)
        };
        let Some(files) = self.0.files.as_ref().filter(|_| !finished) else { return Ok(path) };
        if missing > 0 {
            return Err(StoreError::Incomplete { id, missing });
        }
        let data = files.dir.join("data");
        files.data.sync_all().map_err(|e| StoreError::io("sync", &data, e))?;
        self.0.blobs.place(&data, &self.0.manifest)?;
        lock(&self.0.progress).finished = true;
        lock(&self.0.blobs.0.state).partials.remove(&id);
        files::remove_all(&files.dir)?;
        Ok(path)
    }
}

impl Transfer {
    /// The chunks first, then the bits that say so.
    fn save(&self, saved_at: &mut MutexGuard<'_, Instant>) -> Result<(), StoreError> {
        let Some(files) = &self.files else { return Ok(()) };
        let (written, unsaved_bytes) = {
            let progress = lock(&self.progress);
            if progress.finished {
                return Ok(());
            }
            (progress.written.clone(), progress.unsaved_bytes)
        };
        let failed = |name, e| StoreError::io("save the progress in", &files.dir.join(name), e);
        files.data.sync_data().map_err(|e| failed("data", e))?;
        let bitmap = files.bitmap.write_all_at(&written, 0);
        bitmap.and_then(|()| files.bitmap.sync_data()).map_err(|e| failed("bitmap", e))?;
        lock(&self.progress).unsaved_bytes -= unsaved_bytes;
        **saved_at = Instant::now();
        Ok(())
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let unsaved = lock(&self.progress).unsaved_bytes > 0;
        let saved = if unsaved { self.save(&mut lock(&self.saved_at)) } else { Ok(()) };
        if let Err(error) = saved {
            tracing::warn!(%error, "some chunks will be fetched again");
        }
    }
}

impl Progress {
    fn complete() -> Progress {
        Progress { written: Vec::new(), missing: 0, unsaved_bytes: 0, finished: true }
    }

    fn resumed(written: Vec<u8>, chunks: u32) -> Progress {
        let missing = (0..chunks).filter(|index| !has_bit(&written, *index)).count();
        Progress { written, missing, unsaved_bytes: 0, finished: false }
    }

    fn add(&mut self, index: u32, bytes: u64) {
        // Two streams may have written the same chunk at the same time.
        if !has_bit(&self.written, index)
            && let Some(byte) = self.written.get_mut(index as usize / 8)
        {
            *byte |= 1 << (index % 8);
            self.missing -= 1;
            self.unsaved_bytes += bytes;
        }
    }
}

fn has_bit(bits: &[u8], index: u32) -> bool {
    bits.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

/// Makes the directory of a new transfer with all its room; durable but for its name.
fn create_files(dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    files::create_dir(dir)?;
    let path = dir.join("data");
    let data = File::create(&path).map_err(|e| StoreError::io("create", &path, e))?;
    let allocated = allocate(&data, manifest.bytes).and_then(|()| data.sync_all());
    allocated.map_err(|e| StoreError::io("take the room for", &path, e))?;
    files::write_synced(&dir.join("manifest"), &manifest.to_file()?)?;
    files::write_synced(&dir.join("bitmap"), &vec![0; manifest.chunks.len().div_ceil(8)])?;
    files::sync_dir(dir)
}

fn allocate(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        // Not every file system can: then room may run out on the way.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        Err(e) => Err(e.into()),
        Ok(()) => Ok(()),
    }
}

/// Opens an earlier transfer; None when its files are not those of this manifest.
fn open_files(dir: &Path, manifest: &Manifest) -> Result<Option<(Files, Progress)>, StoreError> {
    match read_manifest(&dir.join("manifest")) {
        Ok(known) if known == *manifest => {}
        Err(error @ StoreError::Io { .. }) if !is_missing(&error) => return Err(error),
        _ => return Ok(None),
    }
    let open = |name| -> Result<Option<(File, u64)>, StoreError> {
        let path = dir.join(name);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let opened = opened.and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        match opened.map_err(|e| StoreError::io("open", &path, e)) {
            Err(error) if is_missing(&error) => Ok(None),
            opened => opened.map(Some),
        }
    };
    let (Some((data, data_bytes)), Some((bitmap, bitmap_bytes))) = (open("data")?, open("bitmap")?)
    else {
        return Ok(None);
    };
    let mut written = vec![0; manifest.chunks.len().div_ceil(8)];
    if data_bytes != manifest.bytes || bitmap_bytes != written.len() as u64 {
        return Ok(None);
    }
    let path = dir.join("bitmap");
    bitmap.read_exact_at(&mut written, 0).map_err(|e| StoreError::io("read", &path, e))?;
    let progress = Progress::resumed(written, manifest.chunks.len() as u32);
    Ok(Some((Files { dir: dir.to_owned(), data, bitmap }, progress)))
}

fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// All transfers that can be resumed; removes what is left of others.
pub(crate) fn find_partials(dir: &Path) -> Result<BTreeMap<BlobId, PartialEntry>, StoreError> {
    let mut partials = BTreeMap::new();
    for (name, path) in files::list(dir)? {
        match (name.parse::<BlobId>(), read_manifest(&path.join("manifest"))) {
            (Ok(id), Ok(manifest)) if manifest.id == id && path.join("data").exists() => {
                let entry = PartialEntry { bytes: manifest.bytes, open: Weak::new() };
                partials.insert(id, entry);
            }
            _ => {
                tracing::warn!(path = %path.display(), "removing a transfer that cannot resume");
                files::remove_all(&path)?;
            }
        }
    }
    Ok(partials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlobLimits;
    use crate::manifest::CHUNK_BYTES;

    #[test]
    fn a_disk_that_does_not_keep_up_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
        let chunks = UNSAVED_BYTES_MAX / CHUNK_BYTES + 2;
        let data = vec![7; (chunks * CHUNK_BYTES) as usize];
        let partial = blobs.begin_partial(&Manifest::of_bytes(&data)).unwrap();
        // As one that saves, and does not come to an end.
        let saving = lock(&partial.0.saved_at);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (index, chunk) in (0..).zip(data.chunks(CHUNK_BYTES as usize)) {
                    partial.write_chunk(index, chunk).unwrap();
                }
            });
            while partial.missing_count() > 2 {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(partial.missing_count(), 2, "no more than may be lost");
            drop(saving);
        });
        assert_eq!(partial.missing_count(), 0);
        assert!(lock(&partial.0.progress).unsaved_bytes < UNSAVED_BYTES_MAX);
    }
}
