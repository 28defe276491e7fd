//! kill -9 at any moment loses nothing that was acknowledged.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dmc_store::{Batch, BlobLimits, Entry, Import, Kv, Manifest, Store, StoreError, Table};

use crate::{MIB, bytes, child};

#[test]
fn child_commits() {
    let Some(dir) = child::directory() else { return };
    commit_until_stopped(&Kv::open(&dir).unwrap());
}

/// Commits from four threads, and says each key once it is acknowledged.
pub fn commit_until_stopped(kv: &Kv) {
    let start = page_through(kv, Table::Jobs).unwrap().len() as u32;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in start.. {
                    let key = [[thread; 4], number.to_be_bytes()].concat();
                    let mut batch = Batch::new();
                    batch.put(Table::Jobs, &key, bytes(300, thread));
                    batch.put(Table::Tasks, &key, bytes(3000, thread));
                    kv.commit_blocking(batch).unwrap();
                    println!("\nack {}", hex(&key));
                }
            });
        }
    });
}

fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What was acknowledged is there, batches are whole, and values are what was put.
pub fn check_commits(dir: &Path, acknowledged: &mut BTreeSet<String>, lines: Vec<String>) {
    let harm = find_harm(dir, acknowledged, lines);
    assert_eq!(harm, None);
}

/// The same, but says what is wrong.
pub fn find_harm(
    dir: &Path,
    acknowledged: &mut BTreeSet<String>,
    lines: Vec<String>,
) -> Option<String> {
    // A line that was cut short was not read as an acknowledgement by anyone.
    acknowledged.extend(lines.into_iter().filter(|line| line.len() == 16));
    let kv = match Kv::open(dir) {
        Ok(kv) => kv,
        Err(e) => return Some(format!("it does not open: {e:?}")),
    };
    let mut keys = [Table::Jobs, Table::Tasks].map(|_| BTreeSet::new());
    for (n, (table, len)) in [(Table::Jobs, 300), (Table::Tasks, 3000)].into_iter().enumerate() {
        let entries = match page_through(&kv, table) {
            Ok(entries) => entries,
            Err(e) => return Some(format!("it does not read: {e:?}")),
        };
        for (key, value) in entries {
            if value != bytes(len, key[0]) {
                return Some(format!("{} has another value", hex(&key)));
            }
            keys[n].insert(hex(&key));
        }
    }
    if keys[0] != keys[1] {
        return Some("a batch was torn".to_owned());
    }
    let lost: Vec<_> = acknowledged.difference(&keys[0]).collect();
    let (count, all) = (lost.len(), acknowledged.len());
    (count > 0).then(|| format!("{count} of {all} are lost, among them {}", lost[0]))
}

fn page_through(kv: &Kv, table: Table) -> Result<Vec<Entry>, StoreError> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let last = all.last().map(|(key, _)| key.clone());
        let page = kv.scan(table, b"", last.as_deref(), usize::MAX)?;
        if page.is_empty() {
            return Ok(all);
        }
        all.extend(page);
    }
}

#[test]
fn acknowledged_commits_survive_kill_and_batches_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..8 {
        let until = (5 + round * 37, "ack ");
        let lines = child::stop_after(until, "crash::child_commits", dir.path(), child::kill);
        check_commits(dir.path(), &mut acknowledged, lines);
    }
}

fn film() -> Vec<u8> {
    bytes(24 * MIB + 12345, 7)
}

fn chunk(film: &[u8], index: u32) -> &[u8] {
    let start = index as usize * MIB;
    &film[start..film.len().min(start + MIB)]
}

#[test]
fn child_transfers() {
    let Some(dir) = child::directory() else { return };
    let store = Store::open(&dir, BlobLimits::default()).unwrap();
    let film = film();
    let partial = store.blobs.begin_partial(&Manifest::of_bytes(&film)).unwrap();
    for index in partial.missing() {
        partial.write_chunk(index, chunk(&film, index)).unwrap();
        if index % 3 == 2 {
            partial.checkpoint().unwrap();
            println!("\nsaved {index}");
        }
    }
    // Not finished: the parent kills it first.
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Every saved chunk is still there; returns how many are missing.
pub fn check_transfer(dir: &Path, lines: &[String]) -> usize {
    let store = Store::open(dir, BlobLimits::default()).unwrap();
    let partial = store.blobs.begin_partial(&Manifest::of_bytes(&film())).unwrap();
    let missing = partial.missing();
    for saved in lines.iter().filter_map(|line| line.parse::<u32>().ok()) {
        assert!(missing.iter().all(|index| *index > saved), "{missing:?} {lines:?}");
    }
    missing.len()
}

/// The film arrives when only what is missing is written.
pub fn complete_transfer(dir: &Path) {
    let store = Store::open(dir, BlobLimits::default()).unwrap();
    let film = film();
    let partial = store.blobs.begin_partial(&Manifest::of_bytes(&film)).unwrap();
    for index in partial.missing() {
        partial.write_chunk(index, chunk(&film, index)).unwrap();
    }
    assert!(fs::read(partial.finish().unwrap()).unwrap() == film);
}

#[test]
fn a_killed_transfer_fetches_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = film().len().div_ceil(MIB);
    for _ in 0..3 {
        let until = (2, "saved ");
        let lines = child::stop_after(until, "crash::child_transfers", dir.path(), child::kill);
        let left = check_transfer(dir.path(), &lines);
        assert!(left <= missing - 4, "{left} of {missing} left");
        missing = left;
    }
    complete_transfer(dir.path());
}

const RESULT_BYTES: usize = 300_000;

#[test]
fn child_stores_results() {
    let Some(dir) = child::directory() else { return };
    let store = Store::open(&dir, BlobLimits::default()).unwrap();
    for seed in 0..=255u8 {
        let result = bytes(RESULT_BYTES, seed);
        let manifest = Manifest::of_bytes(&result);
        if seed % 2 == 0 {
            let source = store.blobs.temp_dir().join("result");
            fs::write(&source, &result).unwrap();
            store.blobs.import(&source, Import::Move).unwrap();
        } else {
            let partial = store.blobs.begin_partial(&manifest).unwrap();
            partial.write_chunk(0, &result).unwrap();
            partial.finish().unwrap();
        }
        store.blobs.pin(manifest.id, "job:1").unwrap();
        println!("\nstored {seed}.");
    }
    std::thread::sleep(std::time::Duration::from_secs(60));
}

/// Every stored result is whole and pinned, and so is every other blob that appeared.
pub fn check_results(dir: &Path, lines: &[String]) {
    let store = Store::open(dir, BlobLimits::default()).unwrap();
    let pins = store.blobs.pins();
    let seeds = lines.iter().filter_map(|line| line.strip_suffix('.'));
    for seed in seeds.map(|seed| seed.parse().unwrap()) {
        let id = Manifest::of_bytes(&bytes(RESULT_BYTES, seed)).id;
        assert!(store.blobs.contains(id), "{seed} is lost");
        assert!(pins.contains(&(id, "job:1".to_owned())), "the pin of {seed} is lost");
    }
    for (id, _) in store.blobs.list() {
        store.blobs.verify(id).unwrap();
    }
}

#[test]
fn stored_results_and_pins_survive_kill() {
    for lines in [1, 2, 9, 30] {
        let dir = tempfile::tempdir().unwrap();
        let until = (lines, "stored ");
        let stop = child::kill;
        let lines = child::stop_after(until, "crash::child_stores_results", dir.path(), stop);
        check_results(dir.path(), &lines);
    }
}
