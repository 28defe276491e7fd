//! A verified result takes the place of its source, and the source goes to the undo store.
//!
//! ```text
//!                 same name                          another ending
//!   begin         result ─▶ DIR/result               result ─▶ DIR/result
//!   swap          DIR/result ◀─▶ source, at once     DIR/result ─▶ output, if nobody has it
//!   keep          DIR/result ─▶ DIR/original         source ─▶ DIR/original
//! ```
//!
//! Nothing here remembers how far it came. [`Swap::finish`] looks where the two files are, by their
//! inodes, and does the next step; so the way forward and the way out of a crash are the same code. A
//! file that is neither of the two is put back where it was found. Every rename is durable before the
//! next one.

use std::path::{Path, PathBuf};

use super::about::About;
use super::files::{self, Facts, exchange, exists, rename, rename_new};
use super::{SwapError, failed, fault};

/// More steps than any way has: who needs them walks in a circle.
const STEPS_MAX: usize = 12;
/// The result's name in the directory of its job.
const STAGED: &str = "result";

/// Which files, where, and what is known of them.
#[derive(Debug, Clone)]
pub struct Swap<'a> {
    /// The file that is replaced.
    pub source: &'a Path,
    /// The result's name, in the same directory; the same, or with another ending.
    pub output: &'a Path,
    /// This job's own directory in the undo store, on the same file system.
    pub dir: &'a Path,
    /// The name that the original gets there.
    pub kept: &'a Path,
    /// What the original was when it was last found unchanged.
    pub original: Facts,
    /// What the result is.
    pub result: Facts,
}

/// How it ended.
#[derive(Debug)]
pub enum Finished {
    /// The result has its name, and the original is in the undo store.
    Kept,
    /// The result has its name, and somebody else took the original away.
    Gone,
    /// All is as it was, and the result is no more.
    NotBegun(Option<SwapError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Source,
    Output,
    Staged,
    Kept,
    Nowhere,
}

impl Swap<'_> {
    /// Where the result waits for its moment.
    pub fn staged(dir: &Path) -> PathBuf {
        dir.join(STAGED)
    }

    /// Moves the result into the job's directory. [`SwapError::OtherDisk`] when that is another file
    /// system: nothing has happened then.
    pub fn begin(&self, temp: &Path, about: &About) -> Result<(), SwapError> {
        let staged = Self::staged(self.dir);
        fault::at("swap.record");
        make_dirs(self.dir)?;
        fault::at("swap.dirs");
        about.write(self.dir)?;
        fault::at("swap.about");
        match std::fs::rename(temp, &staged) {
            Ok(()) => files::sync(&[temp, &staged])?,
            Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => {
                forget_dir(self.dir)?;
                return Err(SwapError::OtherDisk { dir: self.dir.to_owned() });
            }
            Err(e) => return Err(failed("move to", &staged, e)),
        }
        fault::at("swap.staged");
        Ok(())
    }

    /// Goes on from wherever it stands, to an end.
    ///
    /// # Errors
    /// [`SwapError::Lost`]: where the two files are cannot be told; nothing is touched then.
    pub fn finish(&self) -> Result<Finished, SwapError> {
        for _ in 0..STEPS_MAX {
            let end =
                if self.source == self.output { self.step_same()? } else { self.step_other()? };
            match end {
                Some(Finished::NotBegun(why)) => {
                    self.clear()?;
                    return Ok(Finished::NotBegun(why));
                }
                Some(end) => return Ok(end),
                None => {}
            }
        }
        Err(self.lost())
    }

    /// Where the original and the result are.
    fn look(&self) -> Result<(At, At), SwapError> {
        let staged = Self::staged(self.dir);
        let original = match Facts::of(self.source)? {
            // Somebody may have changed it and set its time back.
            Some(now) if now.stamp == self.original.stamp => At::Source,
            _ if self.original.is_at(self.kept)? => At::Kept,
            _ if self.original.is_at(&staged)? => At::Staged,
            _ => At::Nowhere,
        };
        let result = match () {
            () if self.result.is_at(self.output)? => {
                // A file system without renames that refuse gives a file two names for a moment.
                if self.result.is_at(&staged)? {
                    files::remove(&staged)?;
                }
                At::Output
            }
            () if self.result.is_at(&staged)? => At::Staged,
            () => At::Nowhere,
        };
        Ok((original, result))
    }

    /// One step where the result gets the very name of the source.
    fn step_same(&self) -> Result<Option<Finished>, SwapError> {
        let staged = Self::staged(self.dir);
        match self.look()? {
            (At::Source, At::Staged) => {
                fault::at("swap.looked");
                if exchange(&staged, self.source)? {
                    fault::at("swap.exchanged");
                } else {
                    self.keep(self.source)?;
                    fault::at("swap.moved");
                }
            }
            (At::Staged, _) => {
                self.keep(&staged)?;
                fault::at("swap.kept");
            }
            (At::Kept, At::Staged) => {
                rename_new(&staged, self.output)?;
                fault::at("swap.named");
            }
            (At::Kept, _) => return self.end(),
            // What was moved away is not what was converted.
            (At::Nowhere, At::Staged) if exists(self.kept)? => rename_new(self.kept, self.source)?,
            (At::Nowhere, At::Output) if exists(&staged)? => {
                if !exchange(&staged, self.output)? {
                    return Err(self.lost());
                }
            }
            (At::Nowhere, At::Staged) => return Ok(Some(self.changed())),
            (At::Source, _) => return Ok(Some(Finished::NotBegun(None))),
            (_, _) if exists(&staged)? || exists(self.kept)? => return Err(self.lost()),
            (_, _) => return Ok(Some(self.changed())),
        }
        Ok(None)
    }

    /// One step where the result gets another name than the source.
    fn step_other(&self) -> Result<Option<Finished>, SwapError> {
        let staged = Self::staged(self.dir);
        match self.look()? {
            (At::Kept, At::Staged) => rename_new(&staged, self.output)?,
            (At::Source, At::Staged) => match rename_new(&staged, self.output) {
                Ok(()) => fault::at("swap.named"),
                Err(e @ SwapError::Taken { .. }) => return Ok(Some(Finished::NotBegun(Some(e)))),
                Err(e) => return Err(e),
            },
            (At::Source, At::Output) => {
                fault::at("swap.looked");
                self.keep(self.source)?;
                fault::at("swap.moved");
            }
            (At::Kept, _) => return self.end(),
            (At::Source, _) => return Ok(Some(Finished::NotBegun(None))),
            // What was moved away is not what was converted.
            (_, At::Output) if exists(self.kept)? => rename_new(self.kept, self.source)?,
            (_, At::Output) if exists(self.source)? => {
                rename(self.output, &staged)?;
                if !self.result.is_at(&staged)? {
                    rename_new(&staged, self.output)?; // it was changed in this very moment
                    return Ok(Some(Finished::Gone));
                }
            }
            (_, At::Output) => {
                forget_dir(self.dir)?;
                return Ok(Some(Finished::Gone));
            }
            (_, At::Staged) => return Ok(Some(self.changed())),
            (_, _) if exists(&staged)? || exists(self.kept)? => return Err(self.lost()),
            (_, _) => return Ok(Some(self.changed())),
        }
        Ok(None)
    }

    /// What has that name goes into the undo store; whether it is the original is looked at there,
    /// where nobody else changes it.
    fn keep(&self, name: &Path) -> Result<(), SwapError> {
        if exists(self.kept)? { Err(self.lost()) } else { rename(name, self.kept) }
    }

    fn end(&self) -> Result<Option<Finished>, SwapError> {
        files::sync(&[self.output, self.kept])?;
        fault::at("swap.synced");
        Ok(Some(Finished::Kept))
    }

    /// The result goes, and the directory with it when nothing else is there.
    fn clear(&self) -> Result<(), SwapError> {
        let staged = Self::staged(self.dir);
        if self.result.is_at(&staged)? {
            files::remove(&staged)?;
        }
        forget_dir(self.dir)
    }

    fn changed(&self) -> Finished {
        Finished::NotBegun(Some(SwapError::Changed { path: self.source.to_owned() }))
    }

    fn lost(&self) -> SwapError {
        SwapError::Lost { source_path: self.source.to_owned(), dir: self.dir.to_owned() }
    }
}

/// Makes a job's directory and the store that it is in.
pub(super) fn make_dirs(dir: &Path) -> Result<(), SwapError> {
    if let Some(store) = dir.parent() {
        files::make_private_dir(store)?;
    }
    files::make_private_dir(dir)
}

/// Removes a job's directory where nothing is in it but the words about it and a copy that was cut
/// short, and a store beside a source when it was the last one.
pub(super) fn forget_dir(dir: &Path) -> Result<(), SwapError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("read", dir, e)),
    };
    let mut ours = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| failed("read", dir, e))?.file_name();
        match super::about::NAMES.iter().any(|of| name == *of) || super::carry::is_part(&name) {
            true => ours.push(dir.join(name)),
            false => return Ok(()),
        }
    }
    ours.iter().try_for_each(|path| files::remove(path))?;
    std::fs::remove_dir(dir).map_err(|e| failed("remove", dir, e))?;
    files::sync(&[dir])?;
    // Others may be in it; then it stays.
    if let Some(store) = dir.parent().filter(|store| super::place::is_hidden(store))
        && std::fs::remove_dir(store).is_ok()
    {
        files::sync(&[store])?;
    }
    Ok(())
}
