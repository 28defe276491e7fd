//! An original goes to an undo store on another file system, and comes back: as a copy that was read
//! again and compared before the other one is removed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use blake3::Hasher;
use dmc_protocol::id::BlobId;

use super::about::About;
use super::book::UndoBook;
use super::files::{self, Facts};
use super::swap::{forget_dir, make_dirs};
use super::{Replaced, SwapError, Taken, failed, fault};
use crate::paths::AnyPath;

const PART: &str = ".dmc-part";
const BUFFER: usize = 1 << 20;

/// Whether that is the name of a copy that is not whole.
pub(super) fn is_part(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(PART.as_bytes())
}

/// Moves an original that is kept into another directory. Blocks; at every moment one of the two is
/// whole, and the record names it.
pub fn carry(book: &UndoBook, replaced: &mut Replaced, dir: &Path) -> Result<(), SwapError> {
    let Some(taken) = replaced.taken.clone() else { return Ok(()) };
    let from = taken.kept();
    if !taken.original.is_at(&from)? {
        return Err(SwapError::NoOriginal { path: from });
    }
    let about = About::read(&taken.dir)?;
    make_dirs(dir)?;
    about.write(dir)?;
    fault::at("carry.dirs");
    let to = dir.join(&*taken.name);
    let mut part = taken.name.0.clone().into_os_string();
    part.push(PART);
    let part = dir.join(part);
    let content = copy(&from, &part)?;
    let right = taken.content.is_none_or(|known| known == content) && hash(&part)? == content;
    if !right {
        files::remove(&part)?;
        forget_dir(dir)?;
        return Err(SwapError::Damaged { path: if taken.content.is_some() { from } else { part } });
    }
    // What this file system cannot hold is in the words beside it.
    about.metadata.give_to(&part)?;
    fault::at("carry.copied");
    files::rename(&part, &to)?;
    fault::at("carry.named");
    let copied = Facts::of(&to)?.ok_or_else(|| SwapError::NoOriginal { path: to.clone() })?;
    replaced.taken = Some(Taken {
        dir: AnyPath(dir.to_owned()),
        original: Facts { stamp: copied.stamp, ..taken.original },
        content: Some(content),
        leaving: Some(taken.dir),
        ..taken
    });
    book.save(replaced)?;
    fault::at("carry.saved");
    leave(book, replaced)
}

/// Removes the copy that an original left behind, if there is one.
pub fn leave(book: &UndoBook, replaced: &mut Replaced) -> Result<(), SwapError> {
    let Some(taken) = &mut replaced.taken else { return Ok(()) };
    let Some(left) = taken.leaving.take() else { return Ok(()) };
    if !files::exists(&taken.kept())? {
        return Err(SwapError::NoOriginal { path: taken.kept() });
    }
    files::remove(&left.join(&*taken.name))?;
    fault::at("carry.left");
    forget_dir(&left)?;
    book.save(replaced)?;
    Ok(())
}

/// Copies a file whole and durably; the hash of what was read.
fn copy(from: &Path, to: &Path) -> Result<BlobId, SwapError> {
    let mut source = File::open(from).map_err(|e| failed("read", from, e))?;
    let mut target = File::create(to).map_err(|e| failed("write", to, e))?;
    let content = each_part(&mut source, |part| target.write_all(part));
    let content = content.map_err(|e| failed("copy to", to, e));
    let synced = content.and_then(|content| {
        target.sync_all().map_err(|e| failed("write", to, e)).map(|()| content)
    });
    synced.inspect_err(|_| {
        let _ = fs::remove_file(to);
    })
}

/// The hash of what is on the disk, not of what is still in memory.
fn hash(path: &Path) -> Result<BlobId, SwapError> {
    let read = |e| failed("read", path, e);
    let mut file = File::open(path).map_err(read)?;
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    each_part(&mut file, |_| Ok(())).map_err(read)
}

fn each_part(
    file: &mut File,
    mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<BlobId> {
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; BUFFER]);
    loop {
        let part = match file.read(&mut buffer)? {
            0 => return Ok(BlobId(*hasher.finalize().as_bytes())),
            bytes => &buffer[..bytes],
        };
        hasher.update(part);
        take(part)?;
    }
}
