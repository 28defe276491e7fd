use std::fs;
use std::io::{Seek, SeekFrom, Write};

use dmc_protocol::id::BlobId;
use dmc_store::{BlobLimits, Blobs, Import, Manifest, StoreError};

use crate::{MIB, bytes, files_below, temp_blobs};

#[test]
fn an_imported_file_reads_back_after_a_restart() {
    let (dir, blobs) = temp_blobs();
    for len in [0, 1, MIB, 3 * MIB + 7] {
        let data = bytes(len, 1);
        let source = blobs.temp_dir().join("result.mkv");
        fs::write(&source, &data).unwrap();
        let manifest = blobs.import(&source, Import::Move).unwrap();
        assert!(!source.exists());
        assert_eq!(*manifest, Manifest::of_bytes(&data));

        let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
        assert!(blobs.contains(manifest.id));
        assert_eq!(blobs.bytes(manifest.id), Some(len as u64));
        assert_eq!(blobs.manifest(manifest.id).unwrap(), manifest);
        assert!(fs::read(blobs.path(manifest.id).unwrap()).unwrap() == data);
        let count = manifest.chunks.len() as u32;
        let read: Vec<u8> =
            (0..count).flat_map(|i| blobs.read_chunk(manifest.id, i).unwrap()).collect();
        assert!(read == data);
        assert!(matches!(blobs.read_chunk(manifest.id, count), Err(StoreError::NoChunk { .. })));
    }
}

#[test]
fn import_twice_is_import_once() {
    let (_dir, blobs) = temp_blobs();
    let elsewhere = tempfile::tempdir().unwrap();
    let source = elsewhere.path().join("a");
    fs::write(&source, bytes(MIB + 1, 1)).unwrap();
    let first = blobs.import(&source, Import::Copy).unwrap();
    assert!(source.exists());
    let second = blobs.import(&source, Import::Move).unwrap();
    assert!(!source.exists());
    assert_eq!(first, second);
    assert_eq!(blobs.usage(), MIB as u64 + 1);
    assert_eq!(files_below(&blobs.temp_dir()), [""; 0]);
}

#[test]
fn a_file_on_another_file_system_is_copied() {
    let (_dir, blobs) = temp_blobs();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        println!("skipped: /dev/shm is missing");
        return;
    };
    let source = elsewhere.path().join("a");
    fs::write(&source, bytes(MIB + 1, 1)).unwrap();
    let manifest = blobs.import(&source, Import::Move).unwrap();
    assert!(!source.exists());
    blobs.read_chunk(manifest.id, 1).unwrap();
}

#[test]
fn what_is_no_file_is_not_imported() {
    let (dir, blobs) = temp_blobs();
    assert!(blobs.import(dir.path(), Import::Copy).is_err());
    let error = blobs.import(&dir.path().join("none"), Import::Move).unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

fn flip_byte(path: &std::path::Path, at: u64) {
    let mut file = fs::OpenOptions::new().write(true).read(true).open(path).unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn a_damaged_byte_is_found_and_the_blob_can_be_fetched_again() {
    let (_dir, blobs) = temp_blobs();
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(3 * MIB, 1)).unwrap();
    let manifest = blobs.import(&source, Import::Move).unwrap();
    let id = manifest.id;
    blobs.pin(id, "job:1").unwrap();
    blobs.verify(id).unwrap();
    flip_byte(&blobs.path(id).unwrap(), MIB as u64 + 5);
    blobs.read_chunk(id, 0).unwrap();
    let error = blobs.read_chunk(id, 1).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { index: Some(1), .. }), "{error}");
    assert!(matches!(blobs.verify(id), Err(StoreError::Corrupt { .. })));
    assert!(!blobs.contains(id));
    assert_eq!(blobs.begin_partial(&manifest).unwrap().missing().len(), 3);
}

#[test]
fn the_same_bytes_again_leave_the_file_to_whoever_reads_it() {
    use std::os::unix::fs::MetadataExt;
    let (_dir, blobs) = temp_blobs();
    let import = |name: &str| {
        let source = blobs.temp_dir().join(name);
        fs::write(&source, bytes(2 * MIB, 1)).unwrap();
        let id = blobs.import(&source, Import::Move).unwrap().id;
        assert!(!source.exists(), "it is moved all the same");
        fs::metadata(blobs.path(id).unwrap()).unwrap().ino()
    };
    assert_eq!(import("a"), import("b"));
}

#[test]
fn a_blob_file_cut_short_or_gone_is_damage() {
    let (_dir, blobs) = temp_blobs();
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(3 * MIB, 1)).unwrap();
    let id = blobs.import(&source, Import::Move).unwrap().id;
    let path = blobs.path(id).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(MIB as u64).unwrap();
    assert!(matches!(blobs.read_chunk(id, 1), Err(StoreError::Corrupt { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(blobs.read_chunk(id, 0), Err(StoreError::Corrupt { .. })));
    assert!(matches!(blobs.verify(id), Err(StoreError::Corrupt { .. })));
    assert!(matches!(blobs.verify(id), Err(StoreError::NoBlob { .. })));
}

#[test]
fn a_lost_or_damaged_manifest_is_made_anew() {
    let (dir, blobs) = temp_blobs();
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(3 * MIB, 1)).unwrap();
    let manifest = blobs.import(&source, Import::Move).unwrap();
    let chunks = format!("{}.chunks", blobs.path(manifest.id).unwrap().display());
    for damage in [None, Some(&b""[..]), Some(b"\x01\x00garbage"), Some(b"\x09\x00newer")] {
        match damage {
            None => fs::remove_file(&chunks).unwrap(),
            Some(bytes) => fs::write(&chunks, bytes).unwrap(),
        }
        let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
        assert_eq!(blobs.manifest(manifest.id).unwrap(), manifest);
        assert!(fs::metadata(&chunks).unwrap().len() > 96);
    }
}

#[test]
fn the_quota_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let limits = BlobLimits { quota_bytes: 3 * MIB as u64, ..BlobLimits::default() };
    let blobs = Blobs::open(dir.path(), limits).unwrap();
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(2 * MIB, 1)).unwrap();
    let id = blobs.import(&source, Import::Move).unwrap().id;
    fs::write(&source, bytes(2 * MIB, 2)).unwrap();
    let error = blobs.import(&source, Import::Move).unwrap_err();
    assert!(matches!(error, StoreError::Quota { .. }) && error.is_disk_full(), "{error}");
    let manifest = blobs.hash_file(&source).unwrap();
    assert!(blobs.begin_partial(&manifest).err().unwrap().is_disk_full());
    blobs.remove(id).unwrap();
    assert_eq!(blobs.usage(), 0);
    blobs.import(&source, Import::Move).unwrap();
}

#[test]
fn pins_protect_and_survive_a_restart() {
    let (dir, blobs) = temp_blobs();
    let source = blobs.temp_dir().join("a");
    fs::write(&source, bytes(10, 1)).unwrap();
    let id = blobs.import(&source, Import::Move).unwrap().id;
    blobs.pin(id, "attempt:ü/..").unwrap();
    blobs.pin(id, "attempt:ü/..").unwrap();
    blobs.pin(id, "job:2").unwrap();
    drop(blobs);
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    assert_eq!(blobs.pins(), [(id, "attempt:ü/..".to_owned()), (id, "job:2".to_owned())]);
    let error = blobs.remove(id).unwrap_err();
    assert!(error.to_string().contains("needed by attempt:ü/.., job:2"), "{error}");
    blobs.unpin(id, "attempt:ü/..").unwrap();
    assert!(blobs.remove(id).is_err());
    blobs.unpin_all("job:2").unwrap();
    blobs.unpin(id, "nobody").unwrap();
    blobs.remove(id).unwrap();
    blobs.remove(id).unwrap();
    assert_eq!(files_below(dir.path()), [""; 0]);
    for bad in ["", &"x".repeat(91)] {
        assert!(matches!(blobs.pin(id, bad), Err(StoreError::BadHolder { .. })));
    }
    blobs.pin(id, &"x".repeat(90)).unwrap();
}

#[test]
fn a_source_file_is_served_until_it_changes() {
    let (dir, blobs) = temp_blobs();
    let media = tempfile::tempdir().unwrap();
    let film = media.path().join("film.mkv");
    let data = bytes(2 * MIB + 3, 1);
    fs::write(&film, &data).unwrap();
    let manifest = blobs.hash_file(&film).unwrap();
    let id = manifest.id;
    blobs.add_external(manifest.clone(), &film).unwrap();
    assert_eq!(blobs.read_chunk(id, 2).unwrap(), data[2 * MIB..]);
    // Also after a restart, without hashing again.
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    assert_eq!(blobs.find_external(&film).as_deref(), Some(&manifest));
    assert!(blobs.contains(id));
    assert_eq!(blobs.read_chunk(id, 0).unwrap(), data[..MIB]);
    assert_eq!(blobs.usage(), 0);

    let time = fs::metadata(&film).unwrap().modified().unwrap();
    flip_byte(&film, 7);
    let changed = |index| match blobs.read_chunk(id, index) {
        Err(StoreError::SourceChanged { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(changed(0), "its bytes differ");
    assert_eq!(blobs.read_chunk(id, 2).unwrap(), data[2 * MIB..], "proven by its hash");
    assert_eq!(blobs.find_external(&film), None);
    // A program that puts the time back does not deceive the hash.
    fs::File::options().write(true).open(&film).unwrap().set_modified(time).unwrap();
    assert_eq!(changed(0), "its bytes differ");
    fs::remove_file(&film).unwrap();
    assert_eq!(changed(0), "it is gone");
    blobs.remove_external(id).unwrap();
    assert!(matches!(blobs.read_chunk(id, 0), Err(StoreError::NoBlob { .. })));
    assert_eq!(files_below(dir.path()), [""; 0]);
}

#[test]
fn a_source_file_of_another_size_is_not_served() {
    let (_dir, blobs) = temp_blobs();
    let file = tempfile::NamedTempFile::new().unwrap();
    let manifest = Manifest::of_bytes(b"film");
    let error = blobs.add_external(manifest, file.path()).unwrap_err();
    assert!(matches!(error, StoreError::SourceChanged { .. }), "{error}");
}

#[test]
fn opening_cleans_what_is_half_done() {
    let (dir, blobs) = temp_blobs();
    drop(blobs);
    let id = BlobId([0xab; 32]);
    for (path, text) in [
        ("tmp/store-1".to_owned(), "x"),
        ("tmp/work/out.part.mp4".to_owned(), "x"),
        (format!("blobs/ab/{id}.chunks"), "orphan"),
        (format!("partial/{id}/data"), "no manifest"),
        (format!("external/{id}"), "garbage"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    assert_eq!(files_below(dir.path()), [""; 0]);
    assert!(!blobs.contains(id));
}
