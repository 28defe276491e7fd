//! What is durable of replacements: one record a job, and a short list of those that move files.
//!
//! | key in `Undo` | |
//! |---|---|
//! | `r` id | the record |
//! | `f` id | it was moving files when it was last saved: a start looks at these only |

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use uuid::Uuid;

use super::{Replaced, Stage, SwapError};
use crate::jobs::now_ms;

const SCHEMA: u16 = 1;
const ID_BYTES: usize = 16;

/// All replacements.
pub struct UndoBook {
    kv: Kv,
    /// Those at which somebody works.
    busy: Mutex<BTreeSet<JobId>>,
    /// Held by whoever moves files, by many at a time; the sweep needs it alone.
    pub moving: tokio::sync::RwLock<()>,
    /// Told when there may be something to tidy.
    pub changed: tokio::sync::Notify,
}

/// Work at one replacement: nobody else works at it until this is dropped.
pub struct Turn<'a> {
    book: &'a UndoBook,
    id: JobId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.book.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

fn key(first: u8, id: JobId) -> [u8; ID_BYTES + 1] {
    let mut key = [first; ID_BYTES + 1];
    key[1..].copy_from_slice(id.0.as_bytes());
    key
}

fn id_of(key: &[u8]) -> Option<JobId> {
    Some(JobId(Uuid::from_bytes(*key.last_chunk::<ID_BYTES>()?)))
}

impl UndoBook {
    /// In that database.
    pub fn new(kv: Kv) -> UndoBook {
        let (busy, moving) = (Mutex::default(), tokio::sync::RwLock::default());
        UndoBook { kv, busy, moving, changed: tokio::sync::Notify::new() }
    }

    /// Work at one of them; refused while somebody else does.
    pub fn turn(&self, id: JobId) -> Result<Turn<'_>, SwapError> {
        match self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            true => Ok(Turn { book: self, id }),
            false => Err(SwapError::Refused("its files are being moved in this moment".to_owned())),
        }
    }

    /// The replacement of a job.
    pub fn get(&self, id: JobId) -> Result<Option<Replaced>, StoreError> {
        let found = self.kv.get(Table::Undo, &key(b'r', id))?;
        found.map(|value| decode(SCHEMA, &value)).transpose()
    }

    /// Keeps one; it is durable when this returns. Blocks.
    pub fn save(&self, replaced: &Replaced) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Undo, &key(b'r', replaced.id), encode(SCHEMA, replaced)?);
        match replaced.stage.is_in_flight() {
            true => batch.put(Table::Undo, &key(b'f', replaced.id), Vec::new()),
            false => batch.delete(Table::Undo, &key(b'f', replaced.id)),
        }
        self.kv.commit_blocking(batch)
    }

    /// Keeps a new wish; it is durable when this returns.
    pub async fn want(&self, replaced: Replaced) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Undo, &key(b'r', replaced.id), encode(SCHEMA, &replaced)?);
        self.kv.commit(batch).await
    }

    /// Keeps one that has come to another stage. Blocks.
    pub fn advance(&self, replaced: &mut Replaced, stage: Stage) -> Result<(), StoreError> {
        debug_assert!(replaced.stage.can_become(stage), "{:?} to {stage:?}", replaced.stage);
        if replaced.stage != stage {
            replaced.stage = stage;
            replaced.since_ms = now_ms();
        }
        self.save(replaced)
    }

    /// Forgets one. Blocks.
    pub fn remove(&self, id: JobId) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Table::Undo, &key(b'r', id));
        batch.delete(Table::Undo, &key(b'f', id));
        self.kv.commit_blocking(batch)
    }

    /// The job is forgotten: so is its wish, but not an original that is kept.
    pub fn job_removed(&self, id: JobId) -> Result<(), StoreError> {
        match self.get(id)? {
            Some(replaced) if replaced.stage == Stage::Wanted => self.remove(id),
            _ => Ok(()),
        }
    }

    /// Those that were moving files.
    pub fn in_flight(&self) -> Result<Vec<Replaced>, StoreError> {
        let ids = self.kv.each(Table::Undo, b"f").map(|entry| Ok(id_of(&entry?.0)));
        let ids = ids.collect::<Result<Vec<_>, StoreError>>()?;
        ids.into_iter().flatten().filter_map(|id| self.get(id).transpose()).collect()
    }

    /// A page of replacements that happened, the newest jobs first: those before one of them.
    pub fn page(&self, before: Option<JobId>, limit: usize) -> Result<Vec<Replaced>, StoreError> {
        let mut found = Vec::new();
        let mut before = before.map(|id| key(b'r', id));
        while found.len() < limit {
            let last = before.as_ref().map(<[u8; ID_BYTES + 1]>::as_slice);
            let entries = self.kv.scan_back(Table::Undo, b"r", last, limit)?;
            let Some((last, _)) = entries.last() else { break };
            before = id_of(last).map(|id| key(b'r', id));
            for (_, value) in &entries {
                let replaced: Replaced = decode(SCHEMA, value)?;
                if replaced.stage != Stage::Wanted && found.len() < limit {
                    found.push(replaced);
                }
            }
        }
        Ok(found)
    }

    /// Does something with each of them.
    pub fn each(&self, mut look: impl FnMut(Replaced)) -> Result<(), StoreError> {
        for entry in self.kv.each(Table::Undo, b"r") {
            look(decode(SCHEMA, &entry?.1)?);
        }
        Ok(())
    }
}
