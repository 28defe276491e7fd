//! Tables, and the writes that belong together.

use crate::error::StoreError;

/// Largest value: see `SEGMENT_BYTES` in `kv/disk.rs` for why it is small.
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
    /// Requests by status, then by id: the ids are in the order of time.
    ByStatus = 14,
    /// Requests by the end of their id.
    ByEnd = 15,
    /// Requests that are not over: those that are open, and those that wait for their turn.
    Queue = 16,
    /// Who did what of a job that is over.
    History = 17,
    /// Records of jobs that are over and may be tried again. No start reads them.
    Shelf = 18,
    /// Files that clients gave this agent to convert.
    Items = 19,
    /// Those files by client, then by id.
    ItemsOf = 20,
    /// What became of requests that may be repeated.
    Once = 21,
    /// Jobs whose end other programs are still to be told.
    Outbox = 22,
}

/// What happens to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// It gets this value.
    Put(Vec<u8>),
    /// It goes.
    Delete,
    /// Its number changes by so much.
    Add(i64),
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Write::Put(value) => value.len(),
            Write::Delete => 0,
            Write::Add(_) => NUMBER_BYTES,
        }
    }
}

/// Length of a number that [`Batch::add`] keeps.
const NUMBER_BYTES: usize = 8;

/// The value of a number's key; one that is not there is zero.
pub(crate) fn read_number(value: Option<&[u8]>) -> i64 {
    let bytes = value.and_then(|value| <[u8; NUMBER_BYTES]>::try_from(value).ok());
    bytes.map_or(0, i64::from_be_bytes)
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
    writes: Vec<(Vec<u8>, Write)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.writes.push((stored_key(table, key), Write::Put(value)));
    }

    /// Removes `key`; no error when it is not there.
    pub fn delete(&mut self, table: Table, key: &[u8]) {
        self.writes.push((stored_key(table, key), Write::Delete));
    }

    /// Changes the number at `key`. The one thread that writes does the sum, so many callers may
    /// count at the same time, and a batch that fails counts nothing.
    pub fn add(&mut self, table: Table, key: &[u8], difference: i64) {
        self.writes.push((stored_key(table, key), Write::Add(difference)));
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
        self.writes.iter().map(|(key, write)| key.len() + write.bytes()).sum()
    }

    pub(crate) fn into_writes(self) -> Vec<(Vec<u8>, Write)> {
        self.writes
    }

    /// Refuses what the database could not hold durably.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        for (key, write) in &self.writes {
            within("key", key.len(), KEY_BYTES_MAX + 1)?;
            within("value", write.bytes(), VALUE_BYTES_MAX)?;
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
