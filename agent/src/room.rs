//! Room on disks: how much of it dmc uses, who waits for more, and a ballast that is given up so
//! that the own state can still be written.
//!
//! A full disk is nobody's fault and passes. What runs waits for room and says so; it never fails.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dmc_protocol::id::JobId;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::media::MediaError;

/// How often somebody who waits looks again.
const PAUSE: Duration = Duration::from_secs(2);
/// A word about waiting that is not said again for so long is over.
const WORD_KEPT: Duration = Duration::from_secs(6);
/// The part of a disk that stays free, whatever the settings say.
const STAYS_FREE_PART: u64 = 100;
const BALLAST: &str = "ballast";
const BALLAST_BYTES: u64 = 32 << 20;
/// The ballast is made where it takes a quarter of what is free, at most.
const BALLAST_ROOM: u64 = 4 * BALLAST_BYTES;

/// A file system's size and what is free of it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that this process may still write.
    pub free: u64,
}

impl Disk {
    /// The file system of a directory; `None` when it does not say.
    pub fn of(dir: &Path) -> Option<Disk> {
        let stat = rustix::fs::statvfs(dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Some(Disk { total: bytes(stat.f_blocks), free: bytes(stat.f_bavail) })
    }

    /// Bytes that dmc leaves free: what the settings say, and one per cent at least.
    pub fn stays_free(self, reserve: u64) -> u64 {
        reserve.max(self.total / STAYS_FREE_PART)
    }

    /// Bytes that dmc may use.
    pub fn usable(self, reserve: u64) -> u64 {
        self.free.saturating_sub(self.stays_free(reserve))
    }
}

/// Fails when `bytes` more in `dir` would leave less free than must stay. A file system that does
/// not say how much is free is tried: a write that fails says so.
///
/// # Errors
/// [`MediaError::DiskFull`].
pub fn check(dir: &Path, bytes: u64, reserve: u64) -> Result<(), MediaError> {
    let Some(disk) = Disk::of(dir) else { return Ok(()) };
    if disk.usable(reserve) >= bytes {
        return Ok(());
    }
    let needed = bytes.saturating_add(disk.stays_free(reserve));
    Err(MediaError::DiskFull { path: dir.to_owned(), needed, free: disk.free })
}

/// What waits for room on this machine, and the ballast.
#[derive(Debug)]
pub struct Room {
    ballast: PathBuf,
    jobs: Mutex<BTreeMap<JobId, (Instant, String)>>,
    state: Mutex<Option<(Instant, String)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Room {
    /// For an agent with that data directory.
    pub fn new(data_dir: &Path) -> Room {
        Room { ballast: data_dir.join(BALLAST), jobs: Mutex::default(), state: Mutex::default() }
    }

    /// Waits a little for room that a job needs, and says so to whoever asks. False when there is
    /// nothing more to wait for.
    pub async fn wait(&self, job: JobId, why: &str, end: &CancellationToken) -> bool {
        self.say(job, why);
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => true,
            () = end.cancelled() => false,
        }
    }

    fn say(&self, job: JobId, why: &str) {
        let mut jobs = lock(&self.jobs);
        jobs.retain(|_, (said, _)| said.elapsed() < WORD_KEPT);
        if jobs.insert(job, (Instant::now(), format!("waiting for room: {why}"))).is_none() {
            warn!(%job, "waits for room: {why}");
        }
    }

    /// The state cannot be written: the ballast goes. What waits says so again and again.
    pub fn state_is_full(&self, why: &str) {
        let mut state = lock(&self.state);
        if state.as_ref().is_none_or(|(said, _)| said.elapsed() > WORD_KEPT) {
            warn!("nothing new is done until there is room: {why}");
        }
        *state = Some((Instant::now(), format!("waiting for room: {why}")));
        drop(state);
        self.drop_ballast();
    }

    /// What a job waits for, if it waits for room: its own word, or that the state has none.
    pub fn job(&self, job: JobId) -> Option<String> {
        let jobs = lock(&self.jobs);
        let own = jobs.get(&job).filter(|(said, _)| said.elapsed() < WORD_KEPT);
        own.map(|(_, why)| why.clone()).or_else(|| self.state())
    }

    /// Why nothing new is kept, while the disk of the state is full.
    pub fn state(&self) -> Option<String> {
        let state = lock(&self.state);
        state.as_ref().filter(|(said, _)| said.elapsed() < WORD_KEPT).map(|(_, why)| why.clone())
    }

    /// Gives the ballast's room to the state.
    pub fn drop_ballast(&self) {
        if std::fs::remove_file(&self.ballast).is_ok() {
            info!("the ballast file gives its room to the state");
        }
    }

    /// Gives the ballast up when so little is free that even opening the state could fail.
    pub fn drop_ballast_if_scarce(&self) {
        let dir = self.ballast.parent().unwrap_or(Path::new("/"));
        if Disk::of(dir).is_some_and(|disk| disk.free < BALLAST_BYTES) {
            self.drop_ballast();
        }
    }

    /// Makes the ballast where there is room and it is missing. Blocks.
    pub fn make_ballast(&self) {
        let dir = self.ballast.parent().unwrap_or(Path::new("/"));
        let roomy = Disk::of(dir).is_some_and(|disk| disk.free >= BALLAST_ROOM);
        if !roomy || self.ballast.exists() {
            return;
        }
        if let Err(e) = fill(&self.ballast) {
            warn!("no ballast file: {e}");
            let _ = std::fs::remove_file(&self.ballast);
        }
    }
}

/// Room that is really taken, not a hole.
fn fill(path: &Path) -> std::io::Result<()> {
    use rustix::fs::FallocateFlags;
    use std::io::Write;
    let mut file = File::create(path)?;
    if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).is_ok() {
        return Ok(());
    }
    let part = vec![0; 1 << 20];
    (0..BALLAST_BYTES >> 20).try_for_each(|_| file.write_all(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_free_is_not_used() {
        let disk = Disk { total: 1_000, free: 500 };
        assert_eq!((disk.usable(0), disk.usable(100), disk.usable(600)), (490, 400, 0));
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), 1, 1).unwrap();
        let error = check(dir.path(), 1, u64::MAX).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
    }

    #[test]
    fn the_ballast_takes_room_until_the_state_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(dir.path());
        room.make_ballast();
        let ballast = dir.path().join(BALLAST);
        assert_eq!(std::fs::metadata(&ballast).unwrap().len(), BALLAST_BYTES);
        assert_eq!(room.state(), None);
        room.state_is_full("a test");
        assert!(!ballast.exists() && room.state().unwrap().contains("a test"));
    }

    #[tokio::test]
    async fn waiting_is_said_and_ends_with_the_job() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(dir.path());
        let (job, end) = (JobId(uuid::Uuid::nil()), CancellationToken::new());
        assert_eq!(room.job(job), None);
        end.cancel();
        assert!(!room.wait(job, "a test", &end).await);
        assert_eq!(room.job(job).unwrap(), "waiting for room: a test");
    }
}
