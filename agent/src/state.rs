//! What the state machine keeps: its records in the store's tables.

use dmc_protocol::id::{JobId, TaskId};
use dmc_protocol::record::{RECORD_SCHEMA, Record, RecordKey};
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};

const PAUSED: &[u8] = b"paused";
const PAGE: usize = 1_000;

fn job_key(id: JobId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

fn task_key(id: TaskId) -> Vec<u8> {
    let mut key = job_key(id.job);
    key.extend_from_slice(&id.index.to_be_bytes());
    key
}

fn place(key: RecordKey) -> (Table, Vec<u8>) {
    match key {
        RecordKey::Job(id) => (Table::Jobs, job_key(id)),
        RecordKey::Task(id) => (Table::Tasks, task_key(id)),
        RecordKey::Work(id) => (Table::Held, id.0.to_be_bytes().to_vec()),
        RecordKey::Handed(id) => (Table::Handed, job_key(id)),
        RecordKey::Custody(id) => (Table::Custody, job_key(id)),
        RecordKey::Paused => (Table::Meta, PAUSED.to_vec()),
    }
}

/// Adds a record to a batch.
pub fn save(batch: &mut Batch, record: &Record) -> Result<(), StoreError> {
    let (table, key) = place(record.key());
    batch.put(table, &key, encode(RECORD_SCHEMA, record)?);
    Ok(())
}

/// Adds the removal of a record to a batch.
pub fn erase(batch: &mut Batch, key: RecordKey) {
    let (table, key) = place(key);
    batch.delete(table, &key);
}

/// All records, jobs before their tasks.
pub fn load(kv: &Kv) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    for table in [Table::Jobs, Table::Tasks, Table::Held, Table::Handed, Table::Custody] {
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = kv.scan(table, &[], from.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            for (_, value) in page {
                found.push(decode(RECORD_SCHEMA, &value)?);
            }
        }
    }
    if let Some(value) = kv.get(Table::Meta, PAUSED)? {
        found.push(decode(RECORD_SCHEMA, &value)?);
    }
    Ok(found)
}
