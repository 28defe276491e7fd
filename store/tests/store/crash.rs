//! kill -9 at any moment loses nothing that was acknowledged.

use std::collections::BTreeSet;

use dmc_store::{Batch, BlobLimits, CHUNK_BYTES, Kv, Manifest, Store, Table};

use crate::{MIB, bytes, child};

#[test]
fn child_commits() {
    let Some(dir) = child::directory() else { return };
    let kv = Kv::open(&dir).unwrap();
    let start = kv.scan(Table::Jobs, b"", None, usize::MAX).unwrap().len() as u32;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let kv = &kv;
            scope.spawn(move || {
                for number in start.. {
                    let key = [[thread; 4], number.to_be_bytes()].concat();
                    let mut batch = Batch::new();
                    batch.put(Table::Jobs, &key, bytes(300, thread));
                    batch.put(Table::Tasks, &key, bytes(3000, thread));
                    kv.commit_blocking(batch).unwrap();
                    let hex: String = key.iter().map(|b| format!("{b:02x}")).collect();
                    println!("\nack {hex}");
                }
            });
        }
    });
}

#[test]
fn acknowledged_commits_survive_kill_and_batches_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..8 {
        let lines = 5 + round * 37;
        for line in child::kill_after(lines, "ack ", "crash::child_commits", dir.path()) {
            // A line that the kill cut short was not read as an acknowledgement by anyone.
            if line.len() == "ack ".len() + 16 {
                acknowledged.insert(line["ack ".len()..].to_owned());
            }
        }
        let kv = Kv::open(dir.path()).unwrap();
        let keys = |table| -> BTreeSet<String> {
            let entries = kv.scan(table, b"", None, usize::MAX).unwrap();
            let hex = |key: Vec<u8>| key.iter().map(|b| format!("{b:02x}")).collect();
            entries.into_iter().map(|(key, _)| hex(key)).collect()
        };
        let (jobs, tasks) = (keys(Table::Jobs), keys(Table::Tasks));
        assert_eq!(jobs, tasks, "a batch was torn in round {round}");
        let lost: Vec<_> = acknowledged.difference(&jobs).collect();
        assert!(lost.is_empty(), "lost in round {round}: {lost:?}");
    }
}

const FILM_BYTES: usize = 24 * MIB + 12345;

#[test]
fn child_transfers() {
    let Some(dir) = child::directory() else { return };
    let store = Store::open(&dir, BlobLimits::default()).unwrap();
    let film = bytes(FILM_BYTES, 7);
    let partial = store.blobs.begin_partial(&Manifest::of_bytes(&film)).unwrap();
    for index in partial.missing() {
        let start = index as usize * CHUNK_BYTES as usize;
        let end = film.len().min(start + CHUNK_BYTES as usize);
        partial.write_chunk(index, &film[start..end]).unwrap();
        if index % 3 == 2 {
            partial.checkpoint().unwrap();
            println!("\nsaved {index}");
        }
    }
    // Not finished: the parent kills it first.
    println!("\nsaved all");
    std::thread::sleep(std::time::Duration::from_secs(60));
}

#[test]
fn a_killed_transfer_fetches_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let film = bytes(FILM_BYTES, 7);
    let manifest = Manifest::of_bytes(&film);
    let mut missing = manifest.chunks.len();
    for _ in 0..3 {
        let lines = child::kill_after(2, "saved ", "crash::child_transfers", dir.path());
        let store = Store::open(dir.path(), BlobLimits::default()).unwrap();
        let partial = store.blobs.begin_partial(&manifest).unwrap();
        let now_missing = partial.missing();
        assert!(now_missing.len() <= missing - 4, "{now_missing:?} after {lines:?}");
        missing = now_missing.len();
        for line in lines.iter().filter_map(|line| line["saved ".len()..].parse::<u32>().ok()) {
            assert!(now_missing.iter().all(|index| *index > line), "{now_missing:?} {lines:?}");
        }
    }
    let store = Store::open(dir.path(), BlobLimits::default()).unwrap();
    let partial = store.blobs.begin_partial(&manifest).unwrap();
    for index in partial.missing() {
        let start = index as usize * MIB;
        partial.write_chunk(index, &film[start..film.len().min(start + MIB)]).unwrap();
    }
    let path = partial.finish().unwrap();
    assert!(std::fs::read(path).unwrap() == film);
}
