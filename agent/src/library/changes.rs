//! Changes of what is kept of a folder, made durable together, in parts when they are many. Files, their
//! places in the index and the counters change in one batch.

use std::collections::BTreeMap;
use std::path::Path;

use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, encode};
use serde::Serialize;

use super::book::{
    AFTER, BEFORE, CONVERTED, SCHEMA, content_key, counter, file_key, job_key, note_output,
    state_key,
};
use super::records::{Content, ContentId, Dir, Entry, Errand, File, WatchId};

/// Writes of one commit.
const WRITES_MAX: usize = 1_500;
const BYTES_MAX: usize = 1 << 20;

/// Changes that become durable together, in parts when they are many.
pub struct Changes<'a> {
    kv: &'a Kv,
    watch: WatchId,
    batch: Batch,
    writes: usize,
    counts: BTreeMap<u8, i64>,
}

impl<'a> Changes<'a> {
    /// Of a folder.
    pub fn new(kv: &'a Kv, watch: WatchId) -> Changes<'a> {
        Changes { kv, watch, batch: Batch::new(), writes: 0, counts: BTreeMap::new() }
    }

    /// A file is so now; `before`: as it is on disk.
    pub fn put(
        &mut self,
        tail: &[u8],
        before: Option<&File>,
        after: File,
    ) -> Result<(), StoreError> {
        let old = before.map(|before| state_key(self.watch, before, tail));
        let new = state_key(self.watch, &after, tail);
        if old.as_ref() != Some(&new) {
            if let Some(old) = old {
                self.batch.delete(Table::Watches, &old);
            }
            self.batch.put(Table::Watches, &new, Vec::new());
        }
        self.count(before, -1);
        self.count(Some(&after), 1);
        self.put_value(&file_key(self.watch, tail), &Entry::File(after))
    }

    /// A directory is known.
    pub fn put_dir(&mut self, tail: &[u8], dir: Dir) -> Result<(), StoreError> {
        self.put_value(&file_key(self.watch, tail), &Entry::Dir(dir))
    }

    /// What had this name is gone.
    pub fn remove(&mut self, tail: &[u8], before: &Entry) -> Result<(), StoreError> {
        if let Entry::File(file) = before {
            self.batch.delete(Table::Watches, &state_key(self.watch, file, tail));
            self.count(Some(file), -1);
        }
        self.batch.delete(Table::Watches, &file_key(self.watch, tail));
        self.written(2)
    }

    /// What became of a content.
    pub fn put_content(&mut self, id: &ContentId, content: &Content) -> Result<(), StoreError> {
        self.put_value(&content_key(id), content)
    }

    /// A job converts a file.
    pub fn put_errand(&mut self, job: JobId, errand: &Errand) -> Result<(), StoreError> {
        self.put_value(&job_key(job), errand)
    }

    /// A job that converts a file is settled.
    pub fn remove_errand(&mut self, job: JobId) {
        self.batch.delete(Table::Watches, &job_key(job));
    }

    /// A job makes a file.
    pub fn put_output(
        &mut self,
        path: &Path,
        job: JobId,
        bytes: Option<u64>,
    ) -> Result<(), StoreError> {
        note_output(&mut self.batch, path, job, bytes)?;
        self.written(1)
    }

    /// A file was converted.
    pub fn add_converted(&mut self, before: u64, after: u64) {
        for (what, number) in [(CONVERTED, 1), (BEFORE, before), (AFTER, after)] {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            *self.counts.entry(what).or_default() += number;
        }
    }

    fn put_value<T: Serialize>(&mut self, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.batch.put(Table::Watches, key, encode(SCHEMA, value)?);
        self.written(3)
    }

    fn count(&mut self, file: Option<&File>, by: i64) {
        if let Some(file) = file {
            *self.counts.entry(file.state.number()).or_default() += by;
        }
    }

    fn written(&mut self, writes: usize) -> Result<(), StoreError> {
        self.writes += writes;
        if self.writes >= WRITES_MAX || self.batch.bytes() >= BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    fn take(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        self.writes = 0;
        for (what, by) in std::mem::take(&mut self.counts) {
            if by != 0 {
                batch.add(Table::Counters, &counter(self.watch, what), by);
            }
        }
        batch
    }

    /// What was changed so far becomes durable. For threads outside of the async runtime.
    pub fn flush(&mut self) -> Result<(), StoreError> {
        let batch = self.take();
        if batch.is_empty() { Ok(()) } else { self.kv.commit_blocking(batch) }
    }

    /// The same, for async callers with few changes.
    pub async fn save(mut self) -> Result<(), StoreError> {
        let batch = self.take();
        if batch.is_empty() { Ok(()) } else { self.kv.commit(batch).await }
    }
}
