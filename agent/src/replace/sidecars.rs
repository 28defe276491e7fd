//! Files beside a film that carry its whole name. `film.srt` still belongs to `film.mkv` when that
//! was `film.avi`; `film.avi.srt` does not, so it becomes `film.mkv.srt` when people ask for it.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::files::{exists, rename_new};
use super::{SwapError, failed};
use crate::paths::AnyPath;

/// So many are renamed at most: more are no sidecars.
const SIDECARS_MAX: usize = 64;

/// Which files are to be renamed when `from` becomes `to`, in the same directory: their names and the
/// ones that they get, where nobody has those.
pub fn find(from: &Path, to: &Path) -> Result<Vec<(AnyPath, AnyPath)>, SwapError> {
    let (Some(dir), Some(old), Some(new)) = (from.parent(), from.file_name(), to.file_name())
    else {
        return Ok(Vec::new());
    };
    if old == new {
        return Ok(Vec::new());
    }
    let mut begin = old.as_bytes().to_vec();
    begin.push(b'.');
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| failed("read", dir, e))? {
        let entry = entry.map_err(|e| failed("read", dir, e))?;
        let name = entry.file_name();
        let Some(rest) = name.as_bytes().strip_prefix(&begin[..]) else { continue };
        let name = [new.as_bytes(), b".", rest].concat();
        let renamed = dir.join(std::ffi::OsString::from_vec(name));
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && !exists(&renamed)? {
            found.push((AnyPath(entry.path()), AnyPath(renamed)));
        }
    }
    found.sort();
    found.truncate(SIDECARS_MAX);
    Ok(found)
}

/// Renames them, unless that was done already; never over another file. What stays as it was is told.
pub fn rename<'a>(pairs: impl Iterator<Item = (&'a AnyPath, &'a AnyPath)>) -> Vec<String> {
    let mut notes = Vec::new();
    for (from, to) in pairs {
        let done = exists(from).and_then(|there| match there {
            true => rename_new(from, to),
            false => Ok(()),
        });
        if let Err(e) = done {
            notes.push(format!("{} keeps its name: {}", from.display(), crate::worker::chain(&e)));
        }
    }
    notes
}
