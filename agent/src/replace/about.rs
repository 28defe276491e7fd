//! The words beside an original in the undo store: what it is, for people who find it there; and
//! what a file system without permissions or extended attributes would forget.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use dmc_protocol::id::JobId;
use serde::{Deserialize, Serialize};

use super::{SwapError, failed};
use crate::paths::AnyPath;

/// Its name in the directory of a job, and the one under which it is written.
pub(super) const NAMES: [&str; 2] = ["about.json", "about.tmp"];
const BYTES_MAX: u64 = 16 << 20;

/// What an original was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// For who finds it.
    pub what: String,
    /// The job that replaced it.
    pub job: JobId,
    /// Where it was.
    pub source: AnyPath,
    /// What took its place.
    pub output: AnyPath,
    /// Its owner, permissions, times and extended attributes.
    pub metadata: Metadata,
}

/// What a file is beside its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Permissions.
    pub mode: u32,
    /// User id of the owner.
    pub owner: u32,
    /// Group id.
    pub group: u32,
    /// Time of the last change of its content, in seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
    /// The same of the last time that it was read.
    pub accessed: (i64, i64),
    /// Extended attributes, access control lists among them; the values in base 64.
    pub attributes: Vec<(AnyPath, String)>,
}

impl About {
    /// Of a file that is about to be replaced.
    pub fn of(job: JobId, source: &Path, output: &Path) -> Result<About, SwapError> {
        let what = format!(
            "The original of a file that dmc replaced. `dmc undo {job}` puts it back; without dmc, \
             move it there yourself."
        );
        let metadata = Metadata::of(source)?;
        Ok(About { what, job, source: source.into(), output: output.into(), metadata })
    }

    /// Writes it; it is durable when this returns.
    pub fn write(&self, dir: &Path) -> Result<(), SwapError> {
        let (path, temp) = (dir.join(NAMES[0]), dir.join(NAMES[1]));
        let write = || {
            let mut file = File::create(&temp)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temp, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|e| failed("write", &path, e))
    }

    /// Reads it.
    pub fn read(dir: &Path) -> Result<About, SwapError> {
        let path = dir.join(NAMES[0]);
        let read = || {
            if fs::metadata(&path)?.len() > BYTES_MAX {
                return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge));
            }
            Ok(serde_json::from_slice(&fs::read(&path)?)?)
        };
        read().map_err(|e| failed("read", &path, e))
    }
}

impl Metadata {
    /// Of the file with that name, or of the one that a link there points at.
    pub fn of(path: &Path) -> Result<Metadata, SwapError> {
        let meta = fs::metadata(path).map_err(|e| failed("read", path, e))?;
        Ok(Metadata {
            mode: meta.mode() & 0o7777,
            owner: meta.uid(),
            group: meta.gid(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            accessed: (meta.atime(), meta.atime_nsec()),
            attributes: attributes(path),
        })
    }

    /// Gives all of it to a file of this agent's own, as far as this user and this file system may;
    /// what could not be given is told in words.
    pub fn give_to(&self, path: &Path) -> Result<Vec<String>, SwapError> {
        let write = |e| failed("write", path, e);
        let file = File::options().write(true).open(path).map_err(write)?;
        let mut missing = Vec::new();
        let meta = file.metadata().map_err(write)?;
        if (meta.uid(), meta.gid()) != (self.owner, self.group)
            && fchown(&file, Some(self.owner), Some(self.group)).is_err()
        {
            // A group that this user is in may still be given.
            let _ = fchown(&file, None, Some(self.group));
            missing.push(format!("its owner (user {}, group {})", self.owner, self.group));
        }
        // Before the permissions: those may forbid to write to it.
        for (name, value) in &self.attributes {
            if !give_attribute(path, name.as_os_str(), value) {
                missing.push(format!("its attribute {}", name.display()));
            }
        }
        if file.set_permissions(fs::Permissions::from_mode(self.mode)).is_err() {
            missing.push("its permissions".to_owned());
        }
        if let (Some(modified), Some(accessed)) = (time(self.modified), time(self.accessed)) {
            let times = FileTimes::new().set_modified(modified).set_accessed(accessed);
            file.set_times(times).map_err(write)?;
        }
        file.sync_all().map_err(write)?;
        Ok(missing)
    }
}

fn time((seconds, ns): (i64, i64)) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let at = match seconds < 0 {
        true => UNIX_EPOCH.checked_sub(whole),
        false => UNIX_EPOCH.checked_add(whole),
    };
    at?.checked_add(Duration::from_nanos(ns.unsigned_abs()))
}

/// Those that this user may read. A file system without any has none.
fn attributes(path: &Path) -> Vec<(AnyPath, String)> {
    let Ok(names) = xattr::list_deref(path) else { return Vec::new() };
    let values = names.filter_map(|name| {
        let value = xattr::get_deref(path, &name).ok().flatten()?;
        Some((AnyPath(name.into()), BASE64.encode(value)))
    });
    values.collect()
}

fn give_attribute(path: &Path, name: &OsStr, value: &str) -> bool {
    let Ok(value) = BASE64.decode(value) else { return false };
    // One that is there already as it should be, as labels that the system sets, is no failure.
    xattr::get(path, name).ok().flatten().as_ref() == Some(&value)
        || xattr::set(path, name, &value).is_ok()
}
