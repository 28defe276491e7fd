//! Damage to the files that an agent keeps.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use dmc_tests::rng::Rng;

use super::host::files_below;

/// Flips a bit in the middle of one of an agent's blobs, its file times unchanged as far as a disk
/// would; false when it has none.
pub fn flip(data: &Path, rng: &mut Rng) -> bool {
    let all = files_below(&data.join("blobs"));
    if all.is_empty() {
        return false;
    }
    let n = rng.within((0, all.len() as u64 - 1)) as usize;
    flip_in(Path::new(&all[n]))
}

/// Flips a bit in the middle of a file; false when it is gone or empty.
pub fn flip_in(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else { return false };
    let mode = meta.permissions();
    let mut writable = mode.clone();
    writable.set_mode(0o600);
    let _ = fs::set_permissions(path, writable);
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return false };
    let (middle, mut byte) = (meta.len() / 2, [0]);
    if file.read_exact_at(&mut byte, middle).is_err() {
        return false;
    }
    byte[0] ^= 0x10;
    file.write_all_at(&byte, middle).unwrap();
    let _ = file.set_modified(meta.modified().unwrap());
    let _ = fs::set_permissions(path, mode);
    true
}
