use dmc_store::{BLOB_BYTES_MAX, CHUNK_BYTES, Manifest, StoreError, hash_file};
use proptest::prelude::*;

use crate::{MIB, bytes};

/// Sizes near the places where the tree changes its shape.
fn sizes() -> impl Strategy<Value = usize> {
    let near = |centre: usize, off: i64| centre.saturating_add_signed(off as isize);
    prop_oneof![
        0..3000usize,
        (0..6usize, -1100..1100i64).prop_map(move |(n, off)| near(n * MIB, off)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_root_is_the_plain_blake3_hash(len in sizes(), seed: u8) {
        let data = bytes(len, seed);
        let manifest = Manifest::of_bytes(&data);
        prop_assert_eq!(manifest.id.0, *blake3::hash(&data).as_bytes());
        manifest.verify_shape().unwrap();
        prop_assert_eq!(manifest.chunks.len(), len.div_ceil(MIB));
        for (index, chunk) in (0..).zip(data.chunks(MIB)) {
            manifest.verify_chunk(index, chunk).unwrap();
        }
    }
}

#[test]
fn a_file_hashes_on_several_threads_as_on_one() {
    let data = bytes(37 * MIB + 5, 3);
    let file = tempfile::NamedTempFile::new().unwrap();
    for len in [0, 1, MIB, MIB + 1, data.len()] {
        std::fs::write(file.path(), &data[..len]).unwrap();
        assert_eq!(hash_file(file.path()).unwrap(), Manifest::of_bytes(&data[..len]));
    }
}

#[test]
fn every_change_of_a_manifest_is_found() {
    let good = Manifest::of_bytes(&bytes(5 * MIB + 9, 1));
    type Change = fn(&mut Manifest);
    let changes: [Change; 8] = [
        |m| m.id.0[0] ^= 1,
        |m| m.chunks[2][31] ^= 1,
        |m| m.chunks.swap(0, 1),
        |m| m.chunks.truncate(5),
        |m| m.chunks.push([0; 32]),
        |m| m.chunks.clear(),
        |m| m.bytes += CHUNK_BYTES,
        |m| m.bytes = BLOB_BYTES_MAX + 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        let error = bad.verify_shape().unwrap_err();
        assert!(matches!(error, StoreError::BadManifest { .. }), "change {number}: {error}");
    }
}

#[test]
fn wrong_chunks_are_refused() {
    let data = bytes(2 * MIB + 9, 1);
    let manifest = Manifest::of_bytes(&data);
    let first = &data[..MIB];
    let mut flipped = first.to_vec();
    flipped[MIB / 2] ^= 1;
    let longer = [first, b"x"].concat();
    let huge = [first, first, first].concat();
    for (index, wrong) in
        [(0, &flipped[..]), (1, first), (0, b""), (0, &data[..9]), (2, &longer), (2, &huge)]
    {
        let error = manifest.verify_chunk(index, wrong).unwrap_err();
        assert!(matches!(error, StoreError::WrongHash { .. }), "{error}");
    }
    assert!(matches!(manifest.verify_chunk(3, first), Err(StoreError::NoChunk { chunks: 3, .. })));
    assert!(manifest.verify_chunk(u32::MAX, first).is_err());
}

#[test]
fn a_lying_length_verifies_no_chunk() {
    let mut manifest = Manifest::of_bytes(&bytes(2 * MIB, 1));
    manifest.bytes = u64::MAX;
    manifest.chunks.truncate(1);
    assert!(manifest.verify_chunk(0, &[0; MIB]).is_err());
    // A list that claims more than its length holds must not overflow either.
    manifest.bytes = 3;
    manifest.chunks = vec![[0; 32]; 4];
    assert!(manifest.verify_chunk(3, b"abc").is_err());
}
