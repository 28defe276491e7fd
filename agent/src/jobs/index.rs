//! The indexes of requests: every question that people ask again and again is a short range of keys.
//!
//! | table | key | |
//! |---|---|---|
//! | `Requests` | id | the request; ids are in the order of time |
//! | `ByStatus` | status, id | pages of one status |
//! | `ByEnd` | id backwards | people write the end of an id |
//! | `Queue` | lane, id | what is not over: open, or waiting for its turn |
//! | `Queue` | span, rank, id | what waits and is more or less urgent than usual |
//! | `Counters` | `jobs`, status | how many there are |
//!
//! All of them change in the batch that changes the request.

use dmc_protocol::codec;
use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode, schema_of};
use uuid::Uuid;

use super::past::Past;
use super::{Phase, Priority, Request, Status};

/// Each version has more fields at the end than the one before: see [`appended`].
const SCHEMA: u16 = 6;
/// The version before there were indexes.
const SCHEMA_UNINDEXED: u16 = 3;
const ID_BYTES: usize = 16;
/// Requests that become durable together when an old store is read for the first time.
const MIGRATED_AT_ONCE: usize = 500;

/// Where a job that is not over stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Lane {
    /// In memory, and begun.
    Open = 0,
    /// Waits, to be done by this agent.
    Here = 1,
    /// Waits, to be handed over.
    Away = 2,
}

/// Where those of a lane stand that are more urgent than usual, and those that are less: beside the others, so
/// that the keys of older stores stay as they are.
const SPANS: [(Lane, u8, u8); 2] = [(Lane::Here, 3, 4), (Lane::Away, 5, 6)];

fn lane(request: &Request) -> Option<Lane> {
    match request.phase {
        _ if request.status.is_over() => None,
        Phase::Waiting if request.hand_over.is_some() => Some(Lane::Away),
        Phase::Waiting => Some(Lane::Here),
        _ => Some(Lane::Open),
    }
}

/// Its place in the queue.
fn place(request: &Request) -> Option<Vec<u8>> {
    let (lane, id, priority) = (lane(request)?, request.id, request.priority);
    let span = SPANS.iter().find(|(of, ..)| *of == lane && priority != Priority::NORMAL);
    Some(match span {
        None => with(lane as u8, id).to_vec(),
        Some((_, above, below)) => {
            let span = if priority > Priority::NORMAL { *above } else { *below };
            [&[span, priority.rank()], id.0.as_bytes().as_slice()].concat()
        }
    })
}

fn with(first: u8, id: JobId) -> [u8; ID_BYTES + 1] {
    let mut key = [first; ID_BYTES + 1];
    key[1..].copy_from_slice(id.0.as_bytes());
    key
}

fn backwards(id: JobId) -> [u8; ID_BYTES] {
    let mut key = *id.0.as_bytes();
    key.reverse();
    key
}

fn counter(status: Status) -> [u8; 5] {
    [b'j', b'o', b'b', b's', status as u8]
}

fn id_at_end(key: &[u8]) -> Option<JobId> {
    let id = key.last_chunk::<ID_BYTES>()?;
    Some(JobId(Uuid::from_bytes(*id)))
}

/// Adds a request to a batch, and what its change means for the indexes. `before`: as it is on disk.
pub(super) fn put(
    batch: &mut Batch,
    before: Option<&Request>,
    after: &Request,
) -> Result<(), StoreError> {
    let id = after.id;
    batch.put(Table::Requests, id.0.as_bytes(), encode(SCHEMA, after)?);
    if before.is_none() {
        batch.put(Table::ByEnd, &backwards(id), Vec::new());
    }
    let (old, new) = (before.map(|before| before.status), after.status);
    if old != Some(new) {
        if let Some(old) = old {
            batch.delete(Table::ByStatus, &with(old as u8, id));
            batch.add(Table::Counters, &counter(old), -1);
        }
        batch.put(Table::ByStatus, &with(new as u8, id), Vec::new());
        batch.add(Table::Counters, &counter(new), 1);
    }
    let (old, new) = (before.and_then(place), place(after));
    if old != new {
        old.into_iter().for_each(|place| batch.delete(Table::Queue, &place));
        new.into_iter().for_each(|place| batch.put(Table::Queue, &place, Vec::new()));
    }
    Ok(())
}

/// Adds the removal of a request to a batch.
pub(super) fn delete(batch: &mut Batch, request: &Request) {
    let (id, status) = (request.id, request.status);
    batch.delete(Table::Requests, id.0.as_bytes());
    batch.delete(Table::ByEnd, &backwards(id));
    batch.delete(Table::ByStatus, &with(status as u8, id));
    batch.add(Table::Counters, &counter(status), -1);
    if let Some(place) = place(request) {
        batch.delete(Table::Queue, &place);
    }
}

/// A request.
pub(super) fn get(kv: &Kv, id: JobId) -> Result<Option<Request>, StoreError> {
    let found = kv.get(Table::Requests, id.0.as_bytes())?;
    found.map(read).transpose()
}

/// How many requests have this status.
pub(super) fn count(kv: &Kv, status: Status) -> Result<u64, StoreError> {
    Ok(u64::try_from(kv.number(Table::Counters, &counter(status))?).unwrap_or(0))
}

/// The first of a lane: the most urgent, and of those the oldest.
pub(super) fn first(kv: &Kv, lane: Lane, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let span = SPANS.iter().find(|(of, ..)| *of == lane);
    let (above, below) = span.map(|(_, above, below)| (*above, *below)).unzip();
    let mut ids = Vec::new();
    for span in [above, Some(lane as u8), below].into_iter().flatten() {
        let found = kv.scan(Table::Queue, &[span], None, limit.saturating_sub(ids.len()))?;
        ids.extend(found.iter().filter_map(|(key, _)| id_at_end(key)));
    }
    Ok(ids)
}

/// All that are open.
pub(super) fn open(kv: &Kv) -> Result<Vec<Request>, StoreError> {
    let mut requests = Vec::new();
    for entry in kv.each(Table::Queue, &[Lane::Open as u8]) {
        let id = id_at_end(&entry?.0);
        let request = id.map(|id| get(kv, id)).transpose()?;
        requests.extend(request.flatten());
    }
    Ok(requests)
}

/// Ids of a page, the newest first.
pub(super) fn page(
    kv: &Kv,
    status: Option<Status>,
    before: Option<JobId>,
    limit: usize,
) -> Result<Vec<JobId>, StoreError> {
    let entries = match status {
        Some(status) => {
            let before = before.map(|id| with(status as u8, id));
            let before = before.as_ref().map(<[u8; ID_BYTES + 1]>::as_slice);
            kv.scan_back(Table::ByStatus, &[status as u8], before, limit)?
        }
        None => {
            let before = before.as_ref().map(|id| id.0.as_bytes().as_slice());
            kv.scan_back(Table::Requests, &[], before, limit)?
        }
    };
    Ok(entries.iter().filter_map(|(key, _)| id_at_end(key)).collect())
}

/// Up to `limit` ids that begin or end with these hexadecimal digits.
pub(super) fn find(kv: &Kv, part: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
    let digits: String = part.chars().filter(|c| *c != '-').collect::<String>().to_lowercase();
    let Some(digits) = Digits::read(&digits) else { return Ok(Vec::new()) };
    let start = digits.before_first();
    let page = kv.scan(Table::Requests, &digits.whole, start.as_deref(), limit)?;
    let mut found: Vec<JobId> = page.iter().filter_map(|(key, _)| id_at_end(key)).collect();
    found.retain(|id| id.0.simple().to_string().starts_with(&digits.text));
    // Bytes backwards: an odd digit in front is looked at afterwards.
    let mut end: Vec<u8> = digits.ends();
    end.reverse();
    for entry in kv.each(Table::ByEnd, &end) {
        let mut key = entry?.0;
        key.reverse();
        let fits = id_at_end(&key).filter(|id| id.0.simple().to_string().ends_with(&digits.text));
        found.extend(fits.filter(|id| !found.contains(id)));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// Hexadecimal digits that a person wrote.
struct Digits {
    text: String,
    /// The whole bytes in front.
    whole: Vec<u8>,
    /// A half byte that is left.
    half: Option<u8>,
}

impl Digits {
    fn read(text: &str) -> Option<Digits> {
        let digits: Vec<u8> = text
            .chars()
            .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
            .collect::<Option<_>>()?;
        if digits.is_empty() || digits.len() > 2 * ID_BYTES {
            return None;
        }
        let (pairs, rest) = digits.as_chunks::<2>();
        let whole = pairs.iter().map(|[high, low]| high << 4 | low).collect();
        Some(Digits { text: text.to_owned(), whole, half: rest.first().copied() })
    }

    /// The greatest key before those that begin with the digits, below the whole bytes.
    fn before_first(&self) -> Option<Vec<u8>> {
        let half = self.half.filter(|half| *half > 0)?;
        let mut key = self.whole.clone();
        key.push((half << 4) - 1);
        key.extend([u8::MAX; ID_BYTES]);
        Some(key)
    }

    /// The whole bytes at the end.
    fn ends(&self) -> Vec<u8> {
        let from = self.text.len() % 2;
        let end = Digits::read(&self.text[from..]);
        end.map_or_else(Vec::new, |end| end.whole)
    }
}

/// Reads a store of the version before once: its requests get their place in the indexes. All are
/// taken for open ones; those that are over then leave the memory as any other.
pub(super) fn migrate(kv: &Kv) -> Result<usize, StoreError> {
    let done = (Table::Meta, b"jobs are indexed".as_slice());
    if kv.get(done.0, done.1)?.is_some() {
        return Ok(0);
    }
    let (mut count, mut batch, mut waiting) = (0, Batch::new(), 0);
    for entry in kv.each(Table::Requests, &[]) {
        let (_, value) = entry?;
        if schema_of(&value)? != SCHEMA_UNINDEXED {
            continue; // a migration was cut short, or the version is told when it is read
        }
        put(&mut batch, None, &read(value)?)?;
        (count, waiting) = (count + 1, waiting + 1);
        if waiting >= MIGRATED_AT_ONCE {
            kv.commit_blocking(std::mem::take(&mut batch))?;
            waiting = 0;
        }
    }
    batch.put(done.0, done.1, Vec::new());
    kv.commit_blocking(batch)?;
    Ok(count)
}

/// What a version of the record has at its end that the one before had not, as it is where it was not said.
fn appended(version: u16) -> Result<Vec<u8>, StoreError> {
    let bytes = match version {
        4 => codec::to_bytes(&(Status::InProgress, None::<Past>)),
        5 => codec::to_bytes(&Priority::NORMAL),
        6 => codec::to_bytes(&false),
        _ => Ok(Vec::new()),
    };
    bytes.map_err(|source| StoreError::Record { action: "encode", schema: version, source })
}

/// A request of this version or an older one.
fn read(mut value: Vec<u8>) -> Result<Request, StoreError> {
    let found = schema_of(&value)?;
    if (SCHEMA_UNINDEXED..SCHEMA).contains(&found) {
        for version in found + 1..=SCHEMA {
            value.extend(appended(version)?);
        }
        return decode(found, &value);
    }
    decode(SCHEMA, &value)
}
