use std::fs;

use dmc_store::{BlobLimits, Blobs, Import, Manifest, Partial, StoreError};

use crate::{MIB, bytes, files_below, temp_blobs};

fn write(partial: &Partial, data: &[u8], indexes: impl IntoIterator<Item = u32>) {
    for index in indexes {
        let start = index as usize * MIB;
        partial.write_chunk(index, &data[start..data.len().min(start + MIB)]).unwrap();
    }
}

#[test]
fn four_streams_fill_one_blob() {
    let (dir, blobs) = temp_blobs();
    let data = bytes(21 * MIB + 17, 1);
    let manifest = Manifest::of_bytes(&data);
    let partial = blobs.begin_partial(&manifest).unwrap();
    assert_eq!(blobs.usage(), data.len() as u64);
    std::thread::scope(|scope| {
        for stream in 0..4 {
            let (partial, data) = (partial.clone(), &data);
            // Each overlaps the next, as a hedged fetch does.
            let mine =
                (0..22).filter(move |index| [stream, (stream + 1) % 4].contains(&(index % 4)));
            scope.spawn(move || write(&partial, data, mine));
        }
    });
    let path = partial.finish().unwrap();
    assert_eq!(partial.finish().unwrap(), path);
    assert_eq!(path, blobs.path(manifest.id).unwrap());
    assert!(fs::read(path).unwrap() == data);
    assert_eq!(blobs.usage(), data.len() as u64);
    partial.write_chunk(0, &data[..MIB]).unwrap();
    assert_eq!(files_below(&dir.path().join("partial")), [""; 0]);
    assert_eq!(files_below(&blobs.temp_dir()), [""; 0]);
    blobs.verify(manifest.id).unwrap();
}

#[test]
fn a_dropped_transfer_resumes_with_what_is_missing() {
    let (dir, blobs) = temp_blobs();
    let data = bytes(5 * MIB + 17, 1);
    let manifest = Manifest::of_bytes(&data);
    let partial = blobs.begin_partial(&manifest).unwrap();
    assert_eq!(partial.missing(), [0, 1, 2, 3, 4, 5]);
    write(&partial, &data, [1, 5]);
    let error = partial.finish().unwrap_err();
    assert!(matches!(error, StoreError::Incomplete { missing: 4, .. }), "{error}");
    // A second fetch of the same blob joins the first.
    assert_eq!(blobs.begin_partial(&manifest).unwrap().missing(), [0, 2, 3, 4]);
    drop(partial);
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    assert_eq!(blobs.usage(), data.len() as u64);
    let partial = blobs.begin_partial(&manifest).unwrap();
    assert_eq!(partial.missing(), [0, 2, 3, 4]);
    write(&partial, &data, partial.missing());
    assert!(fs::read(partial.finish().unwrap()).unwrap() == data);
    // Now it is here, and there is nothing to fetch.
    let again = blobs.begin_partial(&manifest).unwrap();
    assert_eq!((again.missing(), again.missing_count()), (vec![], 0));
    assert!(again.finish().unwrap().exists());
}

#[test]
fn a_bit_is_on_disk_only_after_a_checkpoint() {
    let (dir, blobs) = temp_blobs();
    let data = bytes(9 * MIB, 1);
    let manifest = Manifest::of_bytes(&data);
    let bitmap = dir.path().join("partial").join(manifest.id.to_string()).join("bitmap");
    let partial = blobs.begin_partial(&manifest).unwrap();
    write(&partial, &data, [0, 1, 8]);
    partial.checkpoint_if_due().unwrap();
    assert_eq!(fs::read(&bitmap).unwrap(), [0, 0]);
    partial.checkpoint().unwrap();
    assert_eq!(fs::read(&bitmap).unwrap(), [3, 1]);
}

#[test]
fn sixty_four_mib_are_saved_by_themselves() {
    let (dir, blobs) = temp_blobs();
    let data = bytes(66 * MIB, 1);
    let manifest = Manifest::of_bytes(&data);
    let bitmap = dir.path().join("partial").join(manifest.id.to_string()).join("bitmap");
    let partial = blobs.begin_partial(&manifest).unwrap();
    write(&partial, &data, 0..66);
    let saved: u32 = fs::read(&bitmap).unwrap().iter().map(|byte| byte.count_ones()).sum();
    // At 64 MiB, or earlier on a machine so slow that 5 s passed.
    assert!(saved > 0);
}

#[test]
fn a_wrong_chunk_is_refused_and_can_come_again() {
    let (_dir, blobs) = temp_blobs();
    let data = bytes(2 * MIB, 1);
    let partial = blobs.begin_partial(&Manifest::of_bytes(&data)).unwrap();
    let error = partial.write_chunk(0, &data[MIB..]).unwrap_err();
    assert!(matches!(error, StoreError::WrongHash { index: 0, .. }), "{error}");
    assert!(partial.write_chunk(2, &data[MIB..]).is_err());
    assert_eq!(partial.missing_count(), 2);
    write(&partial, &data, [0, 1]);
    partial.finish().unwrap();
}

#[test]
fn small_and_empty_blobs_arrive() {
    let (_dir, blobs) = temp_blobs();
    for data in [&b""[..], b"a", &bytes(MIB, 1)] {
        let manifest = Manifest::of_bytes(data);
        let partial = blobs.begin_partial(&manifest).unwrap();
        write(&partial, data, partial.missing());
        assert!(fs::read(partial.finish().unwrap()).unwrap() == data);
        assert!(blobs.contains(manifest.id));
    }
}

#[test]
fn damaged_transfers_start_anew() {
    let (dir, blobs) = temp_blobs();
    let data = bytes(3 * MIB, 1);
    let manifest = Manifest::of_bytes(&data);
    let files = dir.path().join("partial").join(manifest.id.to_string());
    for (name, content) in [
        ("bitmap", Some("long")),
        ("bitmap", None),
        ("data", Some("")),
        ("data", None),
        ("manifest", None),
    ] {
        let partial = blobs.begin_partial(&manifest).unwrap();
        write(&partial, &data, [0]);
        drop(partial);
        match content {
            Some(content) => fs::write(files.join(name), content).unwrap(),
            None => fs::remove_file(files.join(name)).unwrap(),
        }
        assert_eq!(blobs.begin_partial(&manifest).unwrap().missing().len(), 3, "{name}");
    }
}

#[test]
fn a_manifest_with_a_wrong_length_does_not_block_the_right_one() {
    let (_dir, blobs) = temp_blobs();
    let data = bytes(2 * MIB + 9, 1);
    let right = Manifest::of_bytes(&data);
    let mut wrong = right.clone();
    wrong.bytes += 1;
    let liar = blobs.begin_partial(&wrong).unwrap();
    assert!(liar.write_chunk(2, &data[2 * MIB..]).is_err());
    assert!(matches!(blobs.begin_partial(&right), Err(StoreError::InUse { .. })));
    drop(liar);
    let partial = blobs.begin_partial(&right).unwrap();
    write(&partial, &data, 0..3);
    partial.finish().unwrap();
}

#[test]
fn an_impossible_manifest_is_refused() {
    let (dir, blobs) = temp_blobs();
    let mut manifest = Manifest::of_bytes(&bytes(2 * MIB, 1));
    manifest.chunks.pop();
    assert!(matches!(blobs.begin_partial(&manifest), Err(StoreError::BadManifest { .. })));
    assert_eq!(files_below(dir.path()), [""; 0]);
}

#[test]
fn an_import_overtakes_a_transfer() {
    let (_dir, blobs) = temp_blobs();
    let data = bytes(2 * MIB, 1);
    let partial = blobs.begin_partial(&Manifest::of_bytes(&data)).unwrap();
    write(&partial, &data, [0]);
    let source = blobs.temp_dir().join("a");
    fs::write(&source, &data).unwrap();
    blobs.import(&source, Import::Move).unwrap();
    write(&partial, &data, [1]);
    blobs.verify(partial.manifest().id).unwrap();
    partial.finish().unwrap();
    blobs.verify(partial.manifest().id).unwrap();
}

#[test]
fn an_open_transfer_is_not_removed() {
    let (_dir, blobs) = temp_blobs();
    let manifest = Manifest::of_bytes(b"film");
    let partial = blobs.begin_partial(&manifest).unwrap();
    assert!(matches!(blobs.remove(manifest.id), Err(StoreError::InUse { .. })));
    drop(partial);
    blobs.remove(manifest.id).unwrap();
    assert_eq!(blobs.usage(), 0);
}
