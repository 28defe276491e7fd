//! The one thread that writes: groups batches, and acknowledges them when the disk has them.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::disk::{FORMAT_KEY, SEGMENT_BYTES};
use crate::batch::{Batch, Write, read_number};
use crate::error::{StoreError, is_disk_full};
use crate::files;

/// A group ends at this size, so that a bulk load is flushed on the way and memory stays small.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Longest wait for callers that will ask again.
const LINGER: Duration = Duration::from_millis(2);
/// See [`Writer::let_garbage_go`].
const READS_A_WRITE: usize = 1;
/// A commit is refused, harmlessly, while less than this is free: a full disk under sled itself
/// would end all writing until a restart.
const FREE_BYTES_MIN: u64 = 2 * SEGMENT_BYTES as u64;

/// A batch, and who waits until it is durable.
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) done: oneshot::Sender<Result<(), StoreError>>,
}

/// The one thread that writes.
pub(super) struct Writer {
    dir: PathBuf,
    db: sled::Db,
    /// What is synced after each flush; none only in [`super::Kv::open_without_fsync`].
    log: Option<File>,
    /// After a failed write or sync the kernel may have dropped dirty pages, so that a later sync
    /// that succeeds proves nothing: no more commits are acknowledged.
    failed: bool,
    /// Batches that the last sync made durable.
    last_group: usize,
}

impl Writer {
    /// The writer of the database in `dir`. `log` is the file that sled writes to.
    pub(super) fn new(dir: &Path, db: sled::Db, log: Option<File>) -> Writer {
        Writer { dir: dir.to_owned(), db, log, failed: false, last_group: 0 }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let group = self.gather(first, &mut requests);
            self.last_group = group.len();
            self.commit_group(group);
        }
    }

    /// What one sync makes durable. Callers that were answered a moment ago are about to ask again:
    /// as many as came the last time are waited for, for less time than a sync takes. One that calls
    /// alone never waits.
    fn gather(&self, first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
        let until = Instant::now() + LINGER;
        let mut bytes = first.batch.bytes();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX {
            match requests.try_recv() {
                Ok(next) => {
                    bytes += next.batch.bytes();
                    group.push(next);
                }
                Err(mpsc::error::TryRecvError::Empty)
                    if group.len() < self.last_group && Instant::now() < until =>
                {
                    thread::sleep(LINGER / 20);
                }
                Err(_) => break,
            }
        }
        group
    }

    fn commit_group(&mut self, group: Vec<Request>) {
        let (batches, waiting): (Vec<_>, Vec<_>) =
            group.into_iter().map(|request| (request.batch, request.done)).unzip();
        let result = self.write(batches);
        for done in waiting {
            let answer = match &result {
                Ok(()) => Ok(()),
                Err(failure) => Err(failure.to_error(&self.dir)),
            };
            // A caller that no longer waits is no error.
            let _gone = done.send(answer);
        }
    }

    fn write(&mut self, batches: Vec<Batch>) -> Result<(), Failure> {
        if self.failed {
            return Err(Failure::Stopped);
        }
        if files::free_space(&self.dir).is_ok_and(|free| free < FREE_BYTES_MIN) {
            return Err(Failure::DiskFull);
        }
        // Sled panics where a database should return an error.
        let written = catch_unwind(AssertUnwindSafe(|| self.write_and_sync(batches)))
            .unwrap_or_else(|panic| Err(Failure::from_panic(&*panic)));
        self.failed = written.is_err();
        written
    }

    fn write_and_sync(&self, batches: Vec<Batch>) -> Result<(), Failure> {
        for batch in batches {
            let mut writes = sled::Batch::default();
            let mut numbers = BTreeMap::new();
            let mut count = 0;
            for (key, write) in batch.into_writes() {
                count += 1;
                match write {
                    Write::Put(value) => writes.insert(key, value),
                    Write::Delete => writes.remove(key),
                    Write::Add(difference) => {
                        let sum: &mut i64 = numbers.entry(key).or_default();
                        *sum = sum.saturating_add(difference);
                    }
                }
            }
            for (key, difference) in numbers {
                let before = self.db.get(&key).map_err(Failure::from_sled)?;
                let sum = read_number(before.as_deref()).saturating_add(difference);
                writes.insert(key, &sum.to_be_bytes());
            }
            self.db.apply_batch(writes).map_err(Failure::from_sled)?;
            self.let_garbage_go(count)?;
        }
        self.db.flush().map_err(Failure::from_sled)?;
        let Some(log) = &self.log else { return Ok(()) };
        log.sync_all().map_err(|e| Failure::from_sled(sled::Error::Io(e)))
    }

    /// Sled gives the pages that its writes replaced back only at every 128th entry into it, 512 of
    /// them at a time, and a batch of any size is one entry: without these reads, of a page that is
    /// always in memory, a bulk load of a million jobs took 7 GB.
    fn let_garbage_go(&self, writes: usize) -> Result<(), Failure> {
        for _ in 0..writes.saturating_mul(READS_A_WRITE) {
            self.db.get(FORMAT_KEY).map_err(Failure::from_sled)?;
        }
        Ok(())
    }
}

/// Why a group failed, told to each of its callers.
enum Failure {
    DiskFull,
    Stopped,
    Other(Arc<dyn Error + Send + Sync>),
}

impl Failure {
    fn from_sled(error: sled::Error) -> Failure {
        match &error {
            sled::Error::Io(io) if is_disk_full(io) => Failure::DiskFull,
            _ => Failure::Other(Arc::new(error)),
        }
    }

    fn from_panic(panic: &(dyn Any + Send)) -> Failure {
        Failure::Other(panic_error(panic))
    }

    fn to_error(&self, dir: &Path) -> StoreError {
        let path = dir.to_owned();
        match self {
            Failure::DiskFull => StoreError::DiskFull { action: "write the state in", path },
            Failure::Stopped => StoreError::WriterStopped { path },
            Failure::Other(source) => {
                StoreError::Database { action: "write", path, source: source.clone() }
            }
        }
    }
}

/// What a panic of sled says, as an error.
pub(super) fn panic_error(panic: &(dyn Any + Send)) -> Arc<dyn Error + Send + Sync> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Arc::from(Box::<dyn Error + Send + Sync>::from(text.unwrap_or("the database panicked")))
}
