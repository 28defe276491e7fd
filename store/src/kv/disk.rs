//! The database on the disk: opened, read, and handed batches for its writer.

use std::fs::File;
use std::ops::Bound;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;

use super::Entry;
use super::writer::{Request, Writer, panic_error};
use crate::error::{StoreError, is_disk_full};
use crate::files::{self, DirLock};

/// Layout of the database as a whole; the records have schema versions of their own.
/// 2: jobs that are over are no longer where a start reads, and requests have indexes.
const FORMAT: u16 = 2;
/// Where [`FORMAT`] is kept: a first byte that no table uses.
pub(super) const FORMAT_KEY: &[u8] = b"\xffformat";
/// Batches that may wait for the writer before callers wait.
const QUEUE_BATCHES: usize = 1024;
/// Memory for pages of the database.
const CACHE_BYTES: u64 = 16 << 20;
/// Sled writes any page above a quarter of a segment to a file that it never syncs. A page holds
/// about 20 records, so this size and [`crate::VALUE_BYTES_MAX`] together keep every page in the log.
pub(super) const SEGMENT_BYTES: usize = 8 << 20;
/// Sled's own thread only collects garbage here; the writer does the flushing.
const GC_EVERY_MS: u64 = 10_000;

/// A database in a directory, locked, with the thread that writes it.
pub(super) struct Disk {
    dir: PathBuf,
    db: sled::Db,
    /// Taken on drop, which ends the writer.
    sender: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Last, so that the directory is free only when the database is closed.
    _lock: DirLock,
}

impl Disk {
    /// Opens the database in `dir`, made if missing, and starts its writer. Without `durable` nothing
    /// is synced: see [`super::Kv::open_without_fsync`].
    pub(super) fn open(dir: &Path, durable: bool) -> Result<Disk, StoreError> {
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
        let mut writer = Writer::new(dir, db.clone(), durable.then_some(log));
        let writer = thread::Builder::new()
            .name("dmc-store-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(|e| StoreError::io("start the writer of", dir, e))?;
        let dir = dir.to_owned();
        Ok(Disk { dir, db, sender: Some(sender), writer: Some(writer), _lock: lock })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get(key).map_err(|e| database("read", &self.dir, e))?;
        Ok(value.map(|v| v.to_vec()))
    }

    pub(super) fn scan(
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

    pub(super) fn scan_back(
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

    pub(super) fn sender(&self) -> Result<&mpsc::Sender<Request>, StoreError> {
        self.sender.as_ref().ok_or_else(|| self.stopped())
    }

    pub(super) fn stopped(&self) -> StoreError {
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
