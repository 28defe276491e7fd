//! Small records, durable once acknowledged. The only file that names sled.
//!
//! Sled's own `flush` asks the kernel to start writing and does not wait for the disk, and its
//! asynchronous flush can deadlock. So one thread writes: it applies a group of batches, flushes,
//! calls fsync on the log file and only then acknowledges. All tables live in one tree, told apart
//! by the first byte of the key, because only a batch on one tree is atomic.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::future::Future;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Table, Write, read_number, stored_key};
use crate::error::{StoreError, is_disk_full};
use crate::files::{self, DirLock};
use crate::memory::MemoryKv;

/// Layout of the database as a whole; the records have schema versions of their own.
/// 2: jobs that are over are no longer where a start reads, and requests have indexes.
const FORMAT: u16 = 2;
/// Where [`FORMAT`] is kept: a first byte that no table uses.
const FORMAT_KEY: &[u8] = b"\xffformat";
/// Most entries that one scan returns.
pub const SCAN_LIMIT_MAX: usize = 10_000;
/// Entries that [`Kv::each`] reads at a time.
const PAGE: usize = 1_000;
/// Batches that may wait for the writer before callers wait.
const QUEUE_BATCHES: usize = 1024;
/// A group ends at this size, so that a bulk load is flushed on the way and memory stays small.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Longest wait for callers that will ask again.
const LINGER: Duration = Duration::from_millis(2);
/// See [`Writer::let_garbage_go`].
const READS_A_WRITE: usize = 1;
const CACHE_BYTES: u64 = 16 << 20;
/// Sled writes any page above a quarter of a segment to a file that it never syncs. A page holds
/// about 20 records, so this size and [`crate::VALUE_BYTES_MAX`] together keep every page in the log.
const SEGMENT_BYTES: usize = 8 << 20;
/// Sled's own thread only collects garbage here; the writer does the flushing.
const GC_EVERY_MS: u64 = 10_000;
/// A commit is refused, harmlessly, while less than this is free: a full disk under sled itself
/// would end all writing until a restart.
const FREE_BYTES_MIN: u64 = 2 * SEGMENT_BYTES as u64;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The record database: cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct Kv(Arc<Backend>);

enum Backend {
    Disk(Disk),
    Memory(MemoryKv),
}

impl Kv {
    /// Opens the database in `dir`, made if missing. One process at a time.
    pub fn open(dir: &Path) -> Result<Kv, StoreError> {
        Disk::open(dir, true).map(|disk| Kv(Arc::new(Backend::Disk(disk))))
    }

    /// The same without the fsync after each flush, so that what is acknowledged is **not**
    /// durable. Only the power-cut tests use it, to show that they would notice; no setting of the
    /// agent leads here.
    #[doc(hidden)]
    pub fn open_without_fsync(dir: &Path) -> Result<Kv, StoreError> {
        Disk::open(dir, false).map(|disk| Kv(Arc::new(Backend::Disk(disk))))
    }

    /// A database that is gone with its last handle, for simulations and tests.
    pub fn memory() -> Kv {
        Kv(Arc::new(Backend::Memory(MemoryKv::default())))
    }

    /// The value of `key`. May already show a batch that is not acknowledged yet.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &*self.0 {
            Backend::Disk(disk) => disk.get(&stored_key(table, key)),
            Backend::Memory(memory) => Ok(memory.get(&stored_key(table, key))),
        }
    }

    /// Entries whose key begins with `prefix`, in key order, at most `limit` (and never more than
    /// [`SCAN_LIMIT_MAX`]). Pass the last key as `from_exclusive` for the next page.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let prefix = stored_key(table, prefix);
        // A key before the prefix would start the page outside of it.
        let start = match from_exclusive.map(|key| stored_key(table, key)) {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix.clone()),
        };
        let limit = limit.min(SCAN_LIMIT_MAX);
        match &*self.0 {
            Backend::Disk(disk) => disk.scan(&prefix, start, limit),
            Backend::Memory(memory) => Ok(memory.scan(&prefix, start, limit)),
        }
    }

    /// [`Kv::scan`] from the other end: the last key first. Pass the last key that was returned as
    /// `before` for the next page.
    pub fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let prefix = stored_key(table, prefix);
        let end = after_all(&prefix);
        let end = match before.map(|key| stored_key(table, key)) {
            Some(key) if key < end => key,
            _ => end,
        };
        let limit = limit.min(SCAN_LIMIT_MAX);
        match &*self.0 {
            Backend::Disk(disk) => disk.scan_back(&prefix, end, limit),
            Backend::Memory(memory) => Ok(memory.scan_back(&prefix, end, limit)),
        }
    }

    /// Every entry whose key begins with `prefix`, in key order, read page by page: entries that
    /// come or go meanwhile may be seen or not. Ends after an error.
    pub fn each(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<Entry, StoreError>> + use<> {
        let (kv, prefix) = (self.clone(), prefix.to_vec());
        let mut next = Some(None::<Vec<u8>>);
        let pages = std::iter::from_fn(move || {
            let from = next.take()?;
            let page = kv.scan(table, &prefix, from.as_deref(), PAGE);
            if let Ok(entries) = &page {
                next = entries.last().map(|(key, _)| Some(key.clone()));
            }
            Some(page)
        });
        pages.flat_map(|page| match page {
            Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(e) => vec![Err(e)],
        })
    }

    /// The number that [`Batch::add`] keeps at `key`.
    pub fn number(&self, table: Table, key: &[u8]) -> Result<i64, StoreError> {
        Ok(read_number(self.get(table, key)?.as_deref()))
    }

    /// Makes all of `batch` durable, or none of it.
    ///
    /// The batch is queued by this call, in the order of calls; the future only waits for the
    /// disk, and dropping it takes nothing back. (While the queue is full, the batch takes its
    /// place when the future is first polled.)
    pub fn commit(
        &self,
        batch: Batch,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static + use<> {
        let queued = self.queue(batch);
        let kv = self.clone();
        async move {
            let (full, ack) = match queued? {
                Some(parts) => parts,
                None => return Ok(()),
            };
            let Backend::Disk(disk) = &*kv.0 else { return Ok(()) };
            if let Some(request) = full {
                disk.sender()?.send(request).await.map_err(|_| disk.stopped())?;
            }
            ack.await.unwrap_or_else(|_| Err(disk.stopped()))
        }
    }

    /// [`Kv::commit`] for threads outside of an async runtime.
    pub fn commit_blocking(&self, batch: Batch) -> Result<(), StoreError> {
        block_on(self.commit(batch))
    }

    /// Hands the batch to the writer. Gives the request back when the queue is full, and nothing
    /// when there is nothing to wait for.
    fn queue(&self, batch: Batch) -> Result<Option<Queued>, StoreError> {
        batch.check()?;
        match &*self.0 {
            Backend::Memory(memory) => {
                memory.apply(batch);
                Ok(None)
            }
            Backend::Disk(disk) => {
                let (done, ack) = oneshot::channel();
                match disk.sender()?.try_send(Request { batch, done }) {
                    Ok(()) => Ok(Some((None, ack))),
                    Err(mpsc::error::TrySendError::Full(request)) => Ok(Some((Some(request), ack))),
                    Err(mpsc::error::TrySendError::Closed(_)) => Err(disk.stopped()),
                }
            }
        }
    }
}

/// The first key after all that begin with `prefix`. No table has the number 255.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

type Ack = oneshot::Receiver<Result<(), StoreError>>;
type Queued = (Option<Request>, Ack);

struct Request {
    batch: Batch,
    done: oneshot::Sender<Result<(), StoreError>>,
}

struct Disk {
    dir: PathBuf,
    db: sled::Db,
    /// Taken on drop, which ends the writer.
    sender: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Last, so that the directory is free only when the database is closed.
    _lock: DirLock,
}

impl Disk {
    fn open(dir: &Path, durable: bool) -> Result<Disk, StoreError> {
        files::create_dir(dir)?;
        let lock = DirLock::take(dir)?;
        let db = open_sled(dir)?;
        check_format(&db, dir)?;
        let log_path = dir.join("db");
        let log = File::open(&log_path).map_err(|e| StoreError::io("open", &log_path, e))?;
        // The files that opening made must survive a power cut as well.
        db.flush().map_err(|e| database("flush", dir, e))?;
        log.sync_all().map_err(|e| StoreError::io("sync", &log_path, e))?;
        files::sync_file(&dir.join("conf"))?;
        files::sync_dir(dir)?;

        let (sender, requests) = mpsc::channel(QUEUE_BATCHES);
        let log = durable.then_some(log);
        let mut writer =
            Writer { dir: dir.to_owned(), db: db.clone(), log, failed: false, last_group: 0 };
        let writer = thread::Builder::new()
            .name("dmc-store-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(|e| StoreError::io("start the writer of", dir, e))?;
        let dir = dir.to_owned();
        Ok(Disk { dir, db, sender: Some(sender), writer: Some(writer), _lock: lock })
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|e| database("read", &self.dir, e))?;
        Ok(value.map(|v| v.to_vec()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        start: Bound<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for entry in self.db.range((start, Bound::Unbounded)).take(limit) {
            let (key, value) = entry.map_err(|e| database("read", &self.dir, e))?;
            if !key.starts_with(prefix) {
                break;
            }
            entries.push((key[1..].to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    fn scan_back(
        &self,
        prefix: &[u8],
        end: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for entry in self.db.range(prefix.to_vec()..end).rev().take(limit) {
            let (key, value) = entry.map_err(|e| database("read", &self.dir, e))?;
            entries.push((key[1..].to_vec(), value.to_vec()));
        }
        Ok(entries)
    }

    fn sender(&self) -> Result<&mpsc::Sender<Request>, StoreError> {
        self.sender.as_ref().ok_or_else(|| self.stopped())
    }

    fn stopped(&self) -> StoreError {
        StoreError::WriterStopped { path: self.dir.clone() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            // It catches its own panics, so there is nothing to learn from the result.
            let _ended = writer.join();
        }
    }
}

/// The one thread that writes.
struct Writer {
    dir: PathBuf,
    db: sled::Db,
    /// What is synced after each flush; none only in [`Kv::open_without_fsync`].
    log: Option<File>,
    /// After a failed write or sync the kernel may have dropped dirty pages, so that a later sync
    /// that succeeds proves nothing: no more commits are acknowledged.
    failed: bool,
    /// Batches that the last sync made durable.
    last_group: usize,
}

impl Writer {
    fn run(&mut self, mut requests: mpsc::Receiver<Request>) {
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
}

impl Writer {
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

/// Opens sled, which panics on some damaged files. The lock of a database that this process
/// closed a moment ago is released a little later: wait for it.
fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let config = || {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
        config.segment_size(SEGMENT_BYTES).flush_every_ms(Some(GC_EVERY_MS))
    };
    for _ in 0..20 {
        let opened = catch_unwind(|| config().open());
        let opened = opened.map_err(|panic| StoreError::Database {
            action: "open",
            path: dir.to_owned(),
            source: panic_error(&*panic),
        })?;
        match opened {
            Err(e) if e.to_string().contains("could not acquire lock") => {
                thread::sleep(Duration::from_millis(50));
            }
            other => return other.map_err(|e| database("open", dir, e)),
        }
    }
    Err(StoreError::Locked { path: dir.to_owned(), holder: "another process".to_owned() })
}

fn check_format(db: &sled::Db, dir: &Path) -> Result<(), StoreError> {
    let Some(bytes) = db.get(FORMAT_KEY).map_err(|e| database("read", dir, e))? else {
        db.insert(FORMAT_KEY, &FORMAT.to_le_bytes()).map_err(|e| database("write", dir, e))?;
        return Ok(());
    };
    let found = <[u8; 2]>::try_from(&*bytes).map(u16::from_le_bytes).unwrap_or(u16::MAX);
    if found > FORMAT {
        return Err(StoreError::NewerStore { path: dir.to_owned(), found, known: FORMAT });
    }
    if found < FORMAT {
        // Before anything of the new layout is written: an older program refuses it from here on.
        db.insert(FORMAT_KEY, &FORMAT.to_le_bytes()).map_err(|e| database("write", dir, e))?;
    }
    Ok(())
}

fn database(action: &'static str, dir: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(io) if is_disk_full(&io) => StoreError::io(action, dir, io),
        other => StoreError::Database { action, path: dir.to_owned(), source: Arc::new(other) },
    }
}

fn panic_error(panic: &(dyn Any + Send)) -> Arc<dyn Error + Send + Sync> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Arc::from(Box::<dyn Error + Send + Sync>::from(text.unwrap_or("the database panicked")))
}

/// Runs a future on this thread. Unlike tokio's blocking calls it does not panic inside a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
