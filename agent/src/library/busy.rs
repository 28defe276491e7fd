//! Which files somebody has open for writing, where the system tells that cheaply: one walk over the
//! open files of all processes that this one may look at, for many files at once. What it cannot see
//! counts as not open; files that change rest first anyway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Those of these files that are open for writing.
#[cfg(target_os = "linux")]
pub fn open_for_writing(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let asked: BTreeSet<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let mut found = BTreeSet::new();
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    for process in entries(Path::new("/proc")) {
        let is_process = process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_process {
            continue;
        }
        for open in entries(&process.path().join("fd")) {
            let Ok(target) = std::fs::read_link(open.path()) else { continue };
            if asked.contains(target.as_path())
                && writes(&process.path().join("fdinfo").join(open.file_name()))
            {
                found.insert(target);
            }
        }
    }
    found
}

/// Whether an open file is open for writing, by the octal flags in its description.
#[cfg(target_os = "linux")]
fn writes(description: &Path) -> bool {
    /// `O_WRONLY | O_RDWR`
    const WRITE: u32 = 0b11;
    let text = std::fs::read_to_string(description).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|of| of & WRITE != 0)
}

/// Other systems do not tell it cheaply.
#[cfg(not(target_os = "linux"))]
pub fn open_for_writing(_paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    BTreeSet::new()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_writes_is_seen_and_who_reads_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (read, written, other) = (dir.join("r"), dir.join("-w \u{1f3ac}"), dir.join("o"));
        std::fs::write(&read, "x").unwrap();
        let _reader = std::fs::File::open(&read).unwrap();
        let writer = std::fs::File::create(&written).unwrap();
        let _other = std::fs::File::create(&other).unwrap();
        let asked = [read, written.clone()];
        assert_eq!(open_for_writing(&asked), BTreeSet::from([written]));
        drop(writer);
        assert!(open_for_writing(&asked).is_empty());
    }
}
