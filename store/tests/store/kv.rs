use std::time::Duration;

use dmc_store::{Batch, BlobLimits, KEY_BYTES_MAX, Kv, Store, StoreError, Table, VALUE_BYTES_MAX};
use serde::{Deserialize, Serialize};

use crate::{bytes, child};

fn put(table: Table, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(table, key, value.to_vec());
    batch
}

/// Both kinds of database must behave the same.
fn each_kind(check: impl Fn(&Kv)) {
    check(&Kv::memory());
    let dir = tempfile::tempdir().unwrap();
    check(&Kv::open(dir.path()).unwrap());
}

#[test]
fn tables_are_apart_and_scans_go_by_pages() {
    each_kind(|kv| {
        let mut batch = Batch::new();
        for number in 0..25u8 {
            batch.put(Table::Tasks, &[1, number], vec![number]);
            batch.put(Table::Tasks, &[2, number], vec![number]);
        }
        batch.put(Table::Attempts, &[1, 0], vec![9]);
        kv.commit_blocking(batch).unwrap();

        let (mut seen, mut from) = (Vec::new(), None);
        loop {
            let page = kv.scan(Table::Tasks, &[1], from.as_deref(), 10).unwrap();
            assert!(page.len() <= 10);
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            seen.extend(page);
        }
        let expected: Vec<_> = (0..25u8).map(|n| (vec![1, n], vec![n])).collect();
        assert_eq!(seen, expected);
        assert_eq!(kv.get(Table::Attempts, &[1, 0]).unwrap(), Some(vec![9]));
        assert_eq!(kv.get(Table::Jobs, &[1, 0]).unwrap(), None);
        // A start before the prefix does not leave the prefix.
        assert_eq!(kv.scan(Table::Tasks, &[2], Some(&[0]), 1).unwrap(), [(vec![2, 0], vec![0])]);
        assert_eq!(kv.scan(Table::Tasks, &[3], None, 1).unwrap(), []);
    });
}

#[test]
fn later_writes_win_and_deletes_delete() {
    each_kind(|kv| {
        let mut batch = put(Table::Jobs, b"a", b"1");
        batch.append(put(Table::Jobs, b"a", b"2"));
        batch.append(put(Table::Jobs, b"b", b"3"));
        batch.delete(Table::Jobs, b"b");
        kv.commit_blocking(batch).unwrap();
        assert_eq!(kv.get(Table::Jobs, b"a").unwrap().unwrap(), b"2");
        assert_eq!(kv.get(Table::Jobs, b"b").unwrap(), None);
    });
}

#[test]
fn a_batch_with_something_too_large_changes_nothing() {
    each_kind(|kv| {
        for bad in [
            put(Table::Jobs, b"big", &vec![0; VALUE_BYTES_MAX + 1]),
            put(Table::Jobs, &[0; KEY_BYTES_MAX + 1], b""),
        ] {
            let mut batch = put(Table::Jobs, b"small", b"1");
            batch.append(bad);
            let error = kv.commit_blocking(batch).unwrap_err();
            assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
            assert_eq!(kv.get(Table::Jobs, b"small").unwrap(), None);
        }
    });
}

#[test]
fn many_tasks_commit_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        // More than the queue holds, so that some have to wait for room.
        let commits: Vec<_> = (0..3000u32)
            .map(|n| tokio::spawn(kv.commit(put(Table::Tasks, &n.to_be_bytes(), &[1; 100]))))
            .collect();
        for commit in commits {
            commit.await.unwrap().unwrap();
        }
        // Blocking inside a runtime is unkind, but no panic.
        kv.commit_blocking(put(Table::Jobs, b"x", b"1")).unwrap();
    });
    drop(kv);
    let kv = Kv::open(dir.path()).unwrap();
    assert_eq!(kv.scan(Table::Tasks, b"", None, usize::MAX).unwrap().len(), 3000);
}

#[test]
fn calls_are_applied_in_order_even_when_nobody_waits() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::open(dir.path()).unwrap();
    for number in 0..200u8 {
        drop(kv.commit(put(Table::Counters, b"n", &[number])));
    }
    kv.commit_blocking(Batch::new()).unwrap();
    assert_eq!(kv.get(Table::Counters, b"n").unwrap(), Some(vec![199]));
}

#[test]
fn large_values_stay_in_the_synced_log() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::open(dir.path()).unwrap();
    for round in 0..4u8 {
        for number in 0..60u8 {
            let mut batch = Batch::new();
            for part in 0..5u8 {
                let key = [&[number, part][..], &[7; KEY_BYTES_MAX - 2]].concat();
                batch.put(Table::Tasks, &key, bytes(VALUE_BYTES_MAX, number ^ part ^ round));
            }
            kv.commit_blocking(batch).unwrap();
        }
    }
    // Where sled puts what does not fit its log; it never syncs these.
    let outside = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(outside, 0);
    drop(kv);
    let kv = Kv::open(dir.path()).unwrap();
    assert_eq!(kv.scan(Table::Tasks, b"", None, usize::MAX).unwrap().len(), 300);
}

#[test]
fn child_holds_the_store() {
    let Some(dir) = child::directory() else { return };
    let _store = Store::open(&dir, BlobLimits::default()).unwrap();
    println!("\nopen");
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (mut holder, mut stdout) = child::spawn("kv::child_holds_the_store", dir.path());
    let mut line = String::new();
    while line != "open\n" {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stdout, &mut line).unwrap() > 0);
    }
    let error = Store::open(dir.path(), BlobLimits::default()).err().unwrap();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("process {}", holder.id())), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    Store::open(dir.path(), BlobLimits::default()).unwrap();
}

#[test]
fn a_newer_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Kv::open(dir.path()).unwrap());
    {
        let db = sled::Config::new().path(dir.path()).segment_size(8 << 20).open().unwrap();
        db.insert(b"\xffformat", &3u16.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let error = Kv::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::NewerStore { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn an_older_store_is_taken_over_so_that_an_older_program_refuses_it() {
    let dir = tempfile::tempdir().unwrap();
    let raw = || sled::Config::new().path(dir.path()).segment_size(8 << 20).open().unwrap();
    drop(Kv::open(dir.path()).unwrap());
    raw().insert(b"\xffformat", &1u16.to_le_bytes()).unwrap();
    drop(Kv::open(dir.path()).unwrap());
    assert_eq!(raw().get(b"\xffformat").unwrap().unwrap(), &2u16.to_le_bytes());
}

#[test]
fn damaged_files_are_errors_not_panics() {
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::open(dir.path()).unwrap();
    kv.commit_blocking(put(Table::Jobs, b"a", &bytes(5000, 1))).unwrap();
    drop(kv);
    std::fs::write(dir.path().join("conf"), bytes(100, 2)).unwrap();
    let error = Kv::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::Database { .. }), "{error}");
    std::fs::write(dir.path().join("lock"), "not a pid").unwrap();
    assert!(Kv::open(&dir.path().join("conf")).is_err());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Old(u8);
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    name: String,
    number: u64,
}

#[test]
fn records_keep_their_schema_version() {
    let job = Job { name: "film".into(), number: 7 };
    let bytes = dmc_store::encode(2, &job).unwrap();
    assert_eq!(bytes[..2], [2, 0]);
    assert_eq!(dmc_store::schema_of(&bytes).unwrap(), 2);
    assert_eq!(dmc_store::decode::<Job>(2, &bytes).unwrap(), job);
}

#[test]
fn foreign_records_are_clear_errors() {
    let newer = dmc_store::encode(3, &Old(3)).unwrap();
    let cases: [(&[u8], &str); 4] = [
        (&newer, "schema 3, this dmc reads 2"),
        (b"", "too short"),
        (b"\x02", "too short"),
        (b"\x02\x00\xff", "cannot decode"),
    ];
    for (value, expected) in cases {
        let error = dmc_store::decode::<Job>(2, value).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn scans_go_backwards_and_stay_in_their_prefix() {
    each_kind(|kv| {
        let mut batch = Batch::new();
        for number in 0..25u8 {
            batch.put(Table::ByStatus, &[1, number], Vec::new());
            batch.put(Table::ByStatus, &[255, number], Vec::new());
        }
        batch.put(Table::ByEnd, &[1], vec![9]);
        kv.commit_blocking(batch).unwrap();
        for prefix in [1, 255u8] {
            let (mut seen, mut before) = (Vec::new(), None);
            loop {
                let back = kv.scan_back(Table::ByStatus, &[prefix], before.as_deref(), 10);
                let page = back.unwrap();
                let Some((last, _)) = page.last() else { break };
                before = Some(last.clone());
                seen.extend(page.into_iter().map(|(key, _)| key));
            }
            let expected: Vec<_> = (0..25u8).rev().map(|n| vec![prefix, n]).collect();
            assert_eq!(seen, expected);
        }
        // A start behind the prefix does not leave it, nor does one before it.
        let keys = |before: &[u8]| kv.scan_back(Table::ByStatus, &[1], Some(before), 1).unwrap();
        assert_eq!(keys(&[2]), [(vec![1, 24], Vec::new())]);
        assert_eq!(keys(&[0]), []);
    });
}

#[test]
fn each_entry_comes_once_over_many_pages() {
    each_kind(|kv| {
        let mut batch = Batch::new();
        (0..2_500u16).for_each(|n| batch.put(Table::Queue, &n.to_be_bytes(), vec![1]));
        batch.put(Table::History, b"other", Vec::new());
        kv.commit_blocking(batch).unwrap();
        let keys: Vec<_> = kv.each(Table::Queue, &[]).map(|entry| entry.unwrap().0).collect();
        let expected: Vec<_> = (0..2_500u16).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(keys, expected);
        assert_eq!(kv.each(Table::Shelf, &[]).count(), 0);
    });
}

/// Sled keeps what its writes replace until it is told often enough that somebody comes in.
#[test]
fn a_bulk_load_does_not_fill_the_memory() {
    let peak_mib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    };
    let dir = tempfile::tempdir().unwrap();
    let kv = Kv::open(dir.path()).unwrap();
    let before = peak_mib();
    for load in 0..200u64 {
        let mut batch = Batch::new();
        for number in 0..500u64 {
            let key = (load * 500 + number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            batch.put(Table::Requests, &key.to_be_bytes(), bytes(300, load as u8));
        }
        kv.commit_blocking(batch).unwrap();
    }
    let grown = peak_mib() - before;
    assert!(grown < 110, "100,000 small records took {grown} MiB");
}

#[test]
fn many_count_at_once_and_a_refused_batch_counts_nothing() {
    each_kind(|kv| {
        let count = |difference: i64| {
            let mut batch = Batch::new();
            batch.add(Table::Counters, b"n", difference);
            batch.add(Table::Counters, b"n", difference);
            batch
        };
        std::thread::scope(|scope| {
            for _ in 0..8 {
                let add = || (0..50).for_each(|_| kv.commit_blocking(count(1)).unwrap());
                scope.spawn(add);
            }
        });
        kv.commit_blocking(count(-3)).unwrap();
        let mut refused = count(1_000);
        refused.put(Table::Jobs, b"big", vec![0; VALUE_BYTES_MAX + 1]);
        kv.commit_blocking(refused).unwrap_err();
        assert_eq!(kv.number(Table::Counters, b"n").unwrap(), 2 * 8 * 50 - 6);
        assert_eq!(kv.number(Table::Counters, b"none").unwrap(), 0);
    });
}
