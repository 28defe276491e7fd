//! The record database in memory, for simulations and tests.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::RwLock;

use crate::batch::{Batch, Write, read_number};
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

    pub(crate) fn scan_back(&self, prefix: &[u8], end: Vec<u8>, limit: usize) -> Vec<Entry> {
        let range = (Bound::Unbounded, Bound::Excluded(end));
        let entries = read(&self.entries);
        let back = entries.range::<Vec<u8>, _>(range).rev().take(limit);
        back.take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key[1..].to_vec(), value.clone()))
            .collect()
    }

    pub(crate) fn apply(&self, batch: Batch) {
        let mut entries = write(&self.entries);
        for (key, write) in batch.into_writes() {
            match write {
                Write::Put(value) => entries.insert(key, value),
                Write::Delete => entries.remove(&key),
                Write::Add(difference) => {
                    let before = read_number(entries.get(&key).map(Vec::as_slice));
                    let sum = before.saturating_add(difference);
                    entries.insert(key, sum.to_be_bytes().to_vec())
                }
            };
        }
    }
}
