//! The record database in memory, for simulations and tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::RwLock;

use crate::batch::Batch;
use crate::files::{read, write};
use crate::kv::Entry;

#[derive(Default)]
pub(crate) struct MemoryKv {
    entries: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl MemoryKv {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        read(&self.entries).get(key).cloned()
    }

    pub(crate) fn scan(&self, prefix: &[u8], start: Bound<Vec<u8>>, limit: usize) -> Vec<Entry> {
        read(&self.entries)
            .range((start, Bound::Unbounded))
            .take(limit)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key[1..].to_vec(), value.clone()))
            .collect()
    }

    pub(crate) fn apply(&self, batch: Batch) {
        let mut entries = write(&self.entries);
        for (key, value) in batch.into_writes() {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
    }
}
