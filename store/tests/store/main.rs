//! The store as its users see it: real files, real crashes.
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod blobs;
mod child;
mod crash;
mod disk_full;
mod gc;
mod kv;
mod manifest;
mod partial;
mod power_cut;

use dmc_store::{BlobLimits, Blobs};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Bytes that do not repeat within a chunk or between chunks.
fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let mut data = vec![0; len];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut data);
    data
}

fn temp_blobs() -> (TempDir, Blobs) {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), BlobLimits::default()).unwrap();
    (dir, blobs)
}

/// All files below `dir` but directories, as text, for "nothing is left" checks.
fn files_below(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}
