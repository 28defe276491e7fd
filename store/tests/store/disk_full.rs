//! A small file system of its own, filled up. Needs `unshare` with user namespaces, or root.

use std::fs;
use std::path::Path;
use std::process::Command;

use dmc_store::{Batch, BlobLimits, Import, Manifest, Store, StoreError, Table, free_space};

use crate::{MIB, bytes, child, files_below};

const MOUNT: &str = r#"mount -t tmpfs -o size=64m none "$DMC_STORE_TEST_DIR" && exec "$0" "$@""#;

#[test]
fn a_full_disk_is_said_plainly_and_passes() {
    let dir = tempfile::tempdir().unwrap();
    let unshare = Command::new("unshare").args(["-Urm", "true"]).output();
    if !unshare.is_ok_and(|output| output.status.success()) {
        println!("skipped: this system has no user namespaces");
        return;
    }
    let program = ["unshare", "-Urm", "sh", "-c", MOUNT];
    let test = "disk_full::child_on_a_small_disk";
    let output = child::command(&program, test, dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("all checked"), "{output:?}");
}

/// Leaves `bytes` free, in a file that can be removed.
fn fill(dir: &Path, bytes: u64) -> std::path::PathBuf {
    let path = dir.join("filler");
    fs::write(&path, vec![0; (free_space(dir).unwrap() - bytes) as usize]).unwrap();
    path
}

#[test]
fn child_on_a_small_disk() {
    let Some(dir) = child::directory() else { return };
    let dir = &dir.join("data");
    let limits = BlobLimits { free_bytes_min: MIB as u64, ..BlobLimits::default() };
    let store = Store::open(dir, limits).unwrap();
    let put = |number: u8| {
        let mut batch = Batch::new();
        batch.put(Table::Jobs, &[number], vec![number; 1000]);
        store.kv.commit_blocking(batch)
    };
    put(1).unwrap();

    let big = Manifest::of_bytes(&bytes(70 * MIB, 1));
    let error = store.blobs.begin_partial(&big).err().unwrap();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");

    let filler = fill(dir, 3 * MIB as u64);
    // The state refuses while there is no room, and works again once there is.
    assert!(matches!(put(2), Err(StoreError::DiskFull { .. })));
    let small = Manifest::of_bytes(&bytes(2 * MIB + 9, 1));
    assert!(matches!(store.blobs.begin_partial(&small), Err(StoreError::DiskFull { .. })));
    let error = store.blobs.import(&filler, Import::Copy).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    fs::remove_file(&filler).unwrap();
    put(3).unwrap();

    // Room that runs out between the check and the write.
    let filler = fill(dir, 0);
    assert!(matches!(
        store.blobs.pin(small.id, "job:1"),
        Ok(()) | Err(StoreError::DiskFull { .. })
    ));
    let error = store.blobs.add_external(small, &filler).unwrap_err();
    assert!(matches!(error, StoreError::SourceChanged { .. }), "{error}");
    let filled = store.blobs.hash_file(&filler).unwrap();
    let error = store.blobs.add_external(filled, &filler).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    fs::remove_file(&filler).unwrap();

    assert_eq!(files_below(&store.blobs.temp_dir()), [""; 0]);
    assert_eq!(files_below(&dir.join("partial")), [""; 0]);
    drop(store);
    let store = Store::open(dir, limits).unwrap();
    let keys: Vec<_> = store.kv.scan(Table::Jobs, b"", None, 9).unwrap();
    assert_eq!(keys.iter().map(|(key, _)| key[0]).collect::<Vec<_>>(), [1, 3]);
    println!("\nall checked");
}
