//! A directory of films, and all that can be told of a file: what tests compare.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::process::run;

/// An access control list as the kernel writes it: user 12345 may read, too.
const ACL: &[u8] = &[
    2, 0, 0, 0, // version
    1, 0, 6, 0, 255, 255, 255, 255, // owner: read, write
    2, 0, 4, 0, 0x39, 0x30, 0, 0, // user 12345: read
    4, 0, 4, 0, 255, 255, 255, 255, // group: read
    16, 0, 4, 0, 255, 255, 255, 255, // mask: read
    32, 0, 0, 0, 255, 255, 255, 255, // others: nothing
];

/// All of a file but the time of its inode's last change, which no program can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// Its content.
    pub bytes: Vec<u8>,
    /// All the rest.
    pub beside: Beside,
}

/// What a file is beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its type and permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// When it was last modified: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
    /// Extended attributes, access control lists among them.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
}

impl Whole {
    /// Reads a file; `None` when there is none with that name.
    pub fn read(path: &Path) -> Option<Whole> {
        let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
        let names = xattr::list(path).into_iter().flatten();
        let attributes = names.map(|name| {
            let value = xattr::get(path, &name).unwrap().unwrap();
            (name, value)
        });
        let beside = Beside {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            attributes: attributes.collect(),
        };
        Some(Whole { bytes: fs::read(path).unwrap(), beside })
    }
}

/// Gives a file an old time, unusual permissions, attributes and an access control list.
pub fn dress(path: &Path) {
    let _ = xattr::set(path, "user.dmc.test", b"kept \0 with it");
    let _ = xattr::set(path, "system.posix_acl_access", ACL);
    let file = File::options().write(true).open(path).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::fchown(&file, Some(4_321), Some(1_234)).unwrap();
    }
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    file.set_times(FileTimes::new().set_modified(time)).unwrap();
}

/// Everything below a directory, directories too.
pub fn all_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Where there is a whole file that is equal to this one.
pub fn copies_of(whole: &Whole, dirs: &[&Path]) -> Vec<PathBuf> {
    let all = dirs.iter().flat_map(|dir| all_below(dir));
    all.filter(|path| Whole::read(path).is_some_and(|found| found.bytes == whole.bytes)).collect()
}

/// A short film.
pub fn film(at: &Path, seconds: u32) {
    let mut command = Command::new("ffmpeg");
    let input = format!("testsrc2=size=160x120:rate=25:duration={seconds}");
    command.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &input]);
    let container = if at.to_string_lossy().ends_with("avi") { "avi" } else { "matroska" };
    command.args(["-c:v", "mpeg4", "-q:v", "2", "-f", container]);
    // A name may begin with a dash; and is given as bytes, whatever they are.
    let mut place = OsString::from("file:");
    place.push(at);
    let made = run(command.arg(place), Duration::from_secs(60));
    assert!(made.ok(), "{made}");
}
