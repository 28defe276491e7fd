//! Tables, and the writes that belong together.

use crate::error::StoreError;

/// Largest value: see `SEGMENT_BYTES` in `kv.rs` for why it is small.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Largest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest batch: it is one unit in memory and in the log.
pub const BATCH_BYTES_MAX: usize = 4 << 20;

/// A named set of records. The numbers are on disk: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Single facts about this agent.
    Meta = 0,
    /// Jobs owned here.
    Jobs = 1,
    /// The tasks of those jobs.
    Tasks = 2,
    /// Attempts granted by this owner.
    Attempts = 3,
    /// Attempts accepted by this worker, and results it holds for an owner.
    Held = 4,
    /// Numbers that only grow.
    Counters = 5,
    /// Facts about who belongs to the mesh.
    Roster = 6,
    /// Peers seen, and where.
    Peers = 7,
    /// Measured encoding speeds.
    Speeds = 8,
    /// Directories to watch, and the files known in them.
    Watches = 9,
    /// Replaced originals that can be brought back.
    Undo = 10,
    /// What persons asked for, one entry a job.
    Requests = 11,
    /// Jobs that were handed over to another agent.
    Handed = 12,
    /// Jobs of other agents that are kept here.
    Custody = 13,
}

/// A key as the database has it: the table's number, then the key.
pub(crate) fn stored_key(table: Table, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(table as u8);
    stored.extend_from_slice(key);
    stored
}

/// Writes that become durable together or not at all. A later write to a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.writes.push((stored_key(table, key), Some(value)));
    }

    /// Removes `key`; no error when it is not there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.writes.push((stored_key(table, key), None));
    }

    /// Adds the writes of `other` after its own.
    pub fn append(&mut self, mut other: Batch) {
        self.writes.append(&mut other.writes);
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.writes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum()
    }

    pub(crate) fn into_writes(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.writes
    }

    /// Refuses what the database could not hold durably.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for (key, value) in &self.writes {
            within("key", key.len(), KEY_BYTES_MAX + 1)?;
            within("value", value.as_ref().map_or(0, Vec::len), VALUE_BYTES_MAX)?;
        }
        within("batch", self.bytes(), BATCH_BYTES_MAX)
    }
}

fn within(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), StoreError> {
    if bytes > bytes_max {
        return Err(StoreError::TooLarge { what, bytes, bytes_max });
    }
    Ok(())
}
