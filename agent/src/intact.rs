//! Files in the store that a bad disk damaged: found before they do harm, and made anew.
//!
//! A blob's name is its hash, so damage always shows when the file is read whole. That is done
//! before an encoder reads an input, before results are joined, and when a peer was served a
//! chunk that does not fit.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use dmc_protocol::id::{BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Input;
use dmc_store::StoreError;
use tracing::warn;

use crate::runtime::Shared;
use crate::source;

/// Files up to this size are read each time; that takes less than the start of an encoder.
const SMALL_BYTES: u64 = 256 << 20;
/// Large files whose last reading is remembered.
const REMEMBERED_MAX: usize = 64;
/// Damaged files of one job that are made anew; a disk that damages more is not to be trusted.
const DAMAGED_MAX: u32 = 16;

/// What a large file was when it was read whole: device, inode, size, and the time of the last
/// change.
pub type Seen = (u64, u64, u64, i64, i64);

fn seen(path: &Path) -> Option<Seen> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec()))
}

/// The file of a blob, read whole and right. A damaged one is removed. A source that is served
/// from its own place is watched by its owner instead.
///
/// # Errors
/// [`StoreError::Corrupt`] for a damaged blob, [`StoreError::NoBlob`] for one that is not here.
pub async fn path(shared: &Arc<Shared>, id: BlobId) -> Result<PathBuf, StoreError> {
    let shared = Arc::clone(shared);
    let checked = tokio::task::spawn_blocking(move || check(&shared, id));
    match checked.await {
        Ok(checked) => checked,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

fn check(shared: &Shared, id: BlobId) -> Result<PathBuf, StoreError> {
    let blobs = &shared.store.blobs;
    let path = blobs.path(id)?;
    let now = seen(&path);
    let large = blobs.bytes(id).is_some_and(|bytes| bytes > SMALL_BYTES);
    let known = || shared.intact.lock().unwrap_or_else(PoisonError::into_inner);
    if large && now.is_some() && known().get(&id).copied() == now {
        return Ok(path);
    }
    match blobs.verify(id) {
        Ok(()) => {}
        // An own source.
        Err(StoreError::NoBlob { .. }) if blobs.contains(id) => return Ok(path),
        Err(e) => return Err(e),
    }
    if let (true, Some(now)) = (large, now) {
        remember(shared, id, now);
    }
    Ok(path)
}

fn remember(shared: &Shared, id: BlobId, seen: Seen) {
    let mut known = shared.intact.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= REMEMBERED_MAX {
        known.clear();
    }
    known.insert(id, seen);
}

/// A large blob was fetched, and each of its chunks proven on the way: it is not read again before
/// its file changes.
pub fn fetched(shared: &Shared, blob: BlobRef) {
    if blob.bytes > SMALL_BYTES
        && let Ok(path) = shared.store.blobs.path(blob.id)
        && let Some(now) = seen(&path)
    {
        remember(shared, blob.id, now);
    }
}

/// Whether a file of the store is damaged or gone: no other error says so.
pub fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::NoBlob { .. })
}

/// A peer could not be served a blob because its file is damaged. Pieces of own tasks are cut
/// anew; a damaged result is refused by its owner and made anew elsewhere.
pub fn damaged(shared: Arc<Shared>, id: BlobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        source::check_all(&shared, id).await;
        // One bad read may pass; a damaged file is removed by this.
        let Err(error) = path(&shared, id).await else { return };
        if !is_damage(&error) {
            return warn!("a file of the store cannot be read: {error}");
        }
        let pieces = shared.ask(move |mesh, _| {
            let tasks = mesh.jobs().iter().flat_map(|job| &job.tasks);
            let of = tasks.filter(|task| {
                task.record.commit.is_none()
                    && task.record.piece.is_some_and(|piece| piece.id == id)
            });
            of.map(|task| (task.record.id, task.record.spec.clone())).collect::<Vec<_>>()
        });
        for (task, spec) in pieces.await.unwrap_or_default() {
            redo(&shared, task, spec, "its piece").await;
        }
    });
}

/// Does a task again in the same way, because a file of it is damaged.
pub async fn redo(shared: &Shared, task: TaskId, spec: TaskSpec, what: &str) {
    warn!(%task, "done again: {what} is damaged on the disk of {}", shared.data_dir.display());
    let input = match count(shared, task.job) {
        Some(count) if count <= DAMAGED_MAX => Input::Redo { task, spec },
        Some(_) => {
            let error = format!(
                "the disk of {} damages files; check it (smartctl, memtest), then `dmc jobs retry`",
                shared.data_dir.display()
            );
            Input::FailJob { job: task.job, errors: vec![error] }
        }
        None => return,
    };
    shared.tell(input).await;
}

fn count(shared: &Shared, job: JobId) -> Option<u32> {
    shared.jobs.with(job, |entry| {
        entry.damaged += 1;
        entry.damaged
    })
}
