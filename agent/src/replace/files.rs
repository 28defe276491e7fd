//! What a file is, and the few ways in which a replacement moves one: none of them can lose a file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fault;
use super::{SwapError, failed};
use crate::jobs::Stamp;
use crate::media::publish;

/// What is known of a file without reading it. A rename changes nothing of it but the time of the
/// last change of the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Size and times, and the inode's number.
    pub stamp: Stamp,
    /// Permissions.
    pub mode: u32,
    /// User id of the owner.
    pub owner: u32,
    /// Group id.
    pub group: u32,
    /// Names that it has.
    pub links: u64,
}

impl Facts {
    /// Those of the regular file with that very name; `None` when there is none.
    pub fn of(path: &Path) -> Result<Option<Facts>, SwapError> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => return Ok(None),
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => return Err(failed("read", path, e)),
        };
        Ok(Some(Facts {
            stamp: Stamp::of_file(&meta),
            mode: meta.mode(),
            owner: meta.uid(),
            group: meta.gid(),
            links: meta.nlink(),
        }))
    }

    /// Whether it is the same file with the same content, however it is called now.
    pub fn is(&self, other: &Facts) -> bool {
        let (one, other) = (&self.stamp, &other.stamp);
        one.inode == other.inode && one.bytes == other.bytes && one.mtime_ns == other.mtime_ns
    }

    /// Whether this file has that name now.
    pub fn is_at(&self, path: &Path) -> Result<bool, SwapError> {
        Ok(Facts::of(path)?.is_some_and(|found| found.is(self)))
    }
}

/// Whether anything has that name.
pub fn exists(path: &Path) -> Result<bool, SwapError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if is_missing(&e) => Ok(false),
        Err(e) => Err(failed("read", path, e)),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Moves a file to a name that is this agent's own; whatever an earlier try left there is gone.
pub fn rename(from: &Path, to: &Path) -> Result<(), SwapError> {
    fs::rename(from, to).map_err(|e| failed("move to", to, e))?;
    sync(&[from, to])
}

/// Gives a file a name that nobody has; [`SwapError::Taken`] when somebody does.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), SwapError> {
    publish::rename_new(from, to).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => SwapError::Taken { path: to.to_owned() },
        _ => failed("move to", to, e),
    })?;
    sync(&[from, to])
}

/// Two files change their names in one moment. False: this file system cannot do that.
pub fn exchange(one: &Path, other: &Path) -> Result<bool, SwapError> {
    if fault::no_exchange() || !swap_names(one, other)? {
        return Ok(false);
    }
    sync(&[one, other])?;
    Ok(true)
}

#[cfg(target_os = "linux")]
fn swap_names(one: &Path, other: &Path) -> Result<bool, SwapError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
        Err(error) => Err(failed("move to", other, error.into())),
    }
}

#[cfg(not(target_os = "linux"))]
fn swap_names(_one: &Path, _other: &Path) -> Result<bool, SwapError> {
    Ok(false)
}

/// Removes a file; no error when it is gone already.
pub fn remove(path: &Path) -> Result<(), SwapError> {
    match fs::remove_file(path) {
        Err(e) if !is_missing(&e) => Err(failed("remove", path, e)),
        _ => Ok(()),
    }
}

/// Makes the directories of some names durable.
pub fn sync(names: &[&Path]) -> Result<(), SwapError> {
    let mut done: Option<&Path> = None;
    for dir in names.iter().filter_map(|name| name.parent()) {
        if done != Some(dir) {
            sync_dir(dir)?;
        }
        done = Some(dir);
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<(), SwapError> {
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        // Network file systems that cannot do it keep their names by other means.
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced.map_err(|e| failed("sync", dir, e)),
    }
}

/// Makes a directory that only this user may look into, and its name durable.
pub fn make_private_dir(dir: &Path) -> Result<(), SwapError> {
    use std::os::unix::fs::DirBuilderExt;
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => sync(&[dir]),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(failed("create", dir, e)),
    }
}
