//! Small records, durable once acknowledged.
//!
//! Sled's own `flush` asks the kernel to start writing and does not wait for the disk, and its
//! asynchronous flush can deadlock. So one thread writes: it applies a group of batches, flushes,
//! calls fsync on the log file and only then acknowledges. All tables live in one tree, told apart
//! by the first byte of the key, because only a batch on one tree is atomic.
//!
//! Only [`disk`] and [`writer`] name sled.

mod disk;
mod writer;

use std::future::Future;
use std::ops::Bound;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::{mpsc, oneshot};

use crate::batch::{Batch, Table, read_number, stored_key};
use crate::error::StoreError;
use crate::memory::MemoryKv;
use disk::Disk;
use writer::Request;

/// Most entries that one scan returns.
pub const SCAN_LIMIT_MAX: usize = 10_000;
/// Entries that [`Kv::each`] reads at a time.
const PAGE: usize = 1_000;

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
