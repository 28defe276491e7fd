//! Puts a finished file in its place: whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};

use super::error::MediaError;

const SUFFIX: &str = ".dmc-part";

/// The hidden name beside `dest` under which its file grows: `.NAME.ID.dmc-part`.
pub fn temp_path(dest: &Path, id: &str) -> PathBuf {
    let mut name = OsString::from(".");
    let mut stem = dest.file_name().unwrap_or(OsStr::new("output")).to_owned();
    // Names have at most 255 bytes on most file systems.
    if stem.len() + id.len() + SUFFIX.len() + 2 > 250 {
        stem = OsString::from("output");
    }
    name.push(stem);
    name.push(".");
    name.push(id);
    name.push(SUFFIX);
    dest.with_file_name(name)
}

/// Whether a name is one that [`temp_path`] gives, so that leftovers can be found after a crash.
pub fn is_temp_name(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    bytes.starts_with(b".") && bytes.ends_with(SUFFIX.as_bytes())
}

/// Gives the finished file `temp` the name `dest`, with the modification time and permissions of
/// `source`, durably. `temp` must be in the directory of `dest`.
///
/// # Errors
/// [`MediaError::Exists`] when `dest` is there and may not be replaced; `temp` is then kept.
pub fn publish(temp: &Path, dest: &Path, source: &Path, overwrite: bool) -> Result<(), MediaError> {
    let write = |error| MediaError::io("write", dest, error);
    if overwrite && is_same_file(source, dest) {
        let why = "the result would replace its own source";
        return Err(MediaError::refused(source, why, "Give another name with -o"));
    }
    let file = File::options().write(true).open(temp).map_err(write)?;
    let metadata =
        std::fs::metadata(source).map_err(|error| MediaError::io("read", source, error))?;
    if let Ok(modified) = metadata.modified() {
        file.set_times(FileTimes::new().set_modified(modified)).map_err(write)?;
    }
    // Some file systems have no permissions; the file is right without them.
    let _ = file.set_permissions(metadata.permissions());
    file.sync_all().map_err(write)?;
    if overwrite {
        std::fs::rename(temp, dest).map_err(write)?;
    } else {
        rename_new(temp, dest).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => MediaError::Exists { path: dest.to_owned() },
            _ => write(error),
        })?;
    }
    sync_directory(dest).map_err(write)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    match (std::fs::canonicalize(one), std::fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Gives a file a name that nobody has, in one moment where the file system can.
///
/// # Errors
/// `AlreadyExists`: somebody has it.
#[cfg(target_os = "linux")]
pub fn rename_new(temp: &Path, dest: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, temp, CWD, dest, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // File systems without this flag (some FUSE and network ones).
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            link_new(temp, dest)
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives a file a name that nobody has.
///
/// # Errors
/// `AlreadyExists`: somebody has it.
#[cfg(not(target_os = "linux"))]
pub fn rename_new(temp: &Path, dest: &Path) -> io::Result<()> {
    link_new(temp, dest)
}

/// A hard link fails when the name is taken; without hard links an empty file takes the name.
fn link_new(temp: &Path, dest: &Path) -> io::Result<()> {
    match std::fs::hard_link(temp, dest) {
        Ok(()) => std::fs::remove_file(temp),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => {
            File::options().write(true).create_new(true).open(dest)?;
            std::fs::rename(temp, dest).inspect_err(|_| {
                let _ = std::fs::remove_file(dest);
            })
        }
    }
}

#[cfg(unix)]
fn sync_directory(of: &Path) -> io::Result<()> {
    let directory = match of.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_of: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_published_once_and_never_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let (source, dest) = (dir.path().join("a b"), dir.path().join("-ü.mkv"));
        std::fs::write(&source, "source").unwrap();
        let temp = temp_path(&dest, "7");
        assert!(is_temp_name(temp.file_name().unwrap()));
        std::fs::write(&temp, "one").unwrap();
        publish(&temp, &dest, &source, false).unwrap();
        assert!(!temp.exists());
        std::fs::write(&temp, "two").unwrap();
        let error = publish(&temp, &dest, &source, false).unwrap_err();
        assert!(matches!(error, MediaError::Exists { .. }));
        assert_eq!(std::fs::read_to_string(&dest).unwrap(), "one");
        publish(&temp, &dest, &source, true).unwrap();
        assert_eq!(std::fs::read_to_string(&dest).unwrap(), "two");
        let modified = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        assert_eq!(modified(&dest), modified(&source));
    }

    #[test]
    fn the_source_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("a.mkv");
        std::fs::write(&source, "source").unwrap();
        let temp = temp_path(&source, "7");
        std::fs::write(&temp, "one").unwrap();
        assert!(publish(&temp, &source, &source, true).is_err());
        assert_eq!(std::fs::read_to_string(&source).unwrap(), "source");
    }
}
