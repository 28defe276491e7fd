//! What the state machine keeps: its records in the store's tables, and those of jobs that are over on
//! the shelf.

use dmc_protocol::id::{JobId, TaskId};
use dmc_protocol::record::{RECORD_SCHEMA, Record, RecordKey, TaskRecord};
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};

const PAUSED: &[u8] = b"paused";

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

/// Where a record is on the shelf: by job, and the job before its tasks.
fn shelf_key(key: RecordKey) -> Option<Vec<u8>> {
    let (job, kind, index) = match key {
        RecordKey::Job(id) => (id, 1, 0),
        RecordKey::Task(id) => (id.job, 2, id.index),
        RecordKey::Handed(id) => (id, 3, 0),
        RecordKey::Work(_) | RecordKey::Custody(_) | RecordKey::Paused => return None,
    };
    let mut at = job_key(job);
    at.push(kind);
    at.extend_from_slice(&u32::to_be_bytes(index));
    Some(at)
}

/// Adds the way of a record to the shelf to a batch.
pub fn shelve(batch: &mut Batch, record: &Record) -> Result<(), StoreError> {
    let Some(at) = shelf_key(record.key()) else { return save(batch, record) };
    erase(batch, record.key());
    batch.put(Table::Shelf, &at, encode(RECORD_SCHEMA, record)?);
    Ok(())
}

/// Adds its way back to a batch.
pub fn unshelve(batch: &mut Batch, record: &Record) -> Result<(), StoreError> {
    if let Some(at) = shelf_key(record.key()) {
        batch.delete(Table::Shelf, &at);
    }
    save(batch, record)
}

/// What is on the shelf of a job, the job before its tasks.
pub fn shelved(kv: &Kv, job: JobId) -> Result<Vec<Record>, StoreError> {
    let found = kv.each(Table::Shelf, &job_key(job));
    found.map(|entry| decode(RECORD_SCHEMA, &entry?.1)).collect()
}

/// One task on the shelf.
pub fn shelved_task(kv: &Kv, task: TaskId) -> Result<Option<TaskRecord>, StoreError> {
    let Some(at) = shelf_key(RecordKey::Task(task)) else { return Ok(None) };
    let found = kv.get(Table::Shelf, &at)?;
    let record = found.map(|value| decode(RECORD_SCHEMA, &value)).transpose()?;
    Ok(match record {
        Some(Record::Task(task)) => Some(task),
        _ => None,
    })
}

/// Adds the removal of all that is on the shelf of a job to a batch.
pub fn clear_shelf(kv: &Kv, job: JobId, batch: &mut Batch) -> Result<(), StoreError> {
    for entry in kv.each(Table::Shelf, &job_key(job)) {
        batch.delete(Table::Shelf, &entry?.0);
    }
    Ok(())
}

/// All records of what is not over, jobs before their tasks; nothing from the shelf.
pub fn load(kv: &Kv) -> Result<Vec<Record>, StoreError> {
    let mut found = Vec::new();
    for table in [Table::Jobs, Table::Tasks, Table::Held, Table::Handed, Table::Custody] {
        for entry in kv.each(table, &[]) {
            found.push(decode(RECORD_SCHEMA, &entry?.1)?);
        }
    }
    if let Some(value) = kv.get(Table::Meta, PAUSED)? {
        found.push(decode(RECORD_SCHEMA, &value)?);
    }
    Ok(found)
}
