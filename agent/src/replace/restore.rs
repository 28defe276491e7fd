//! An original goes back to where it was, and the result that had replaced it goes.
//!
//! As in [`swap`](super::swap), nothing remembers how far it came: every step follows from where the
//! two files are, so a crash is followed by the same code. What somebody else put there is never
//! overwritten, and the result is removed only when it is still the one that was put there.

use std::path::{Path, PathBuf};

use super::files::{self, Facts, exchange, exists, rename, rename_new};
use super::swap::{Swap, forget_dir};
use super::{SwapError, fault};

const STEPS_MAX: usize = 12;
/// Names that are tried for a result that is kept.
const ASIDE_MAX: u32 = 1_000;

/// Which files, where, and what is known of them.
#[derive(Debug, Clone)]
pub struct Restore<'a> {
    /// Where the original was.
    pub source: &'a Path,
    /// The result's name.
    pub output: &'a Path,
    /// The job's directory in the undo store, on the same file system.
    pub dir: &'a Path,
    /// The original in it.
    pub kept: &'a Path,
    /// What the original is.
    pub original: Facts,
    /// What the result was when it got its name.
    pub result: Facts,
    /// The name that the result gets, whether it was changed or not; `None`: it is removed, and
    /// must be as it was.
    pub aside: Option<&'a Path>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Kept,
    Source,
    Nowhere,
}

impl Restore<'_> {
    /// What can be known before anything is touched.
    pub fn check(&self) -> Result<(), SwapError> {
        if !self.original.is_at(self.kept)? {
            return Err(SwapError::NoOriginal { path: self.kept.to_owned() });
        }
        if self.source != self.output && exists(self.source)? {
            return Err(SwapError::InTheWay { path: self.source.to_owned() });
        }
        let as_it_was = self.result.is_at(self.output)? || !exists(self.output)?;
        if self.aside.is_none() && !as_it_was {
            return Err(SwapError::ResultChanged { path: self.output.to_owned() });
        }
        Ok(())
    }

    /// Goes on from wherever it stands, until the original is back and the result is gone.
    ///
    /// # Errors
    /// The reason why it cannot; then the original is in the undo store, and the result has its name,
    /// unless that was impossible.
    pub fn finish(&self) -> Result<(), SwapError> {
        for _ in 0..STEPS_MAX {
            let done = match self.original_at()? {
                At::Kept if self.source == self.output => self.bring_back_same()?,
                At::Kept => self.bring_back_other()?,
                At::Source => self.put_away()?,
                At::Nowhere => return Err(SwapError::NoOriginal { path: self.kept.to_owned() }),
            };
            if done {
                files::sync(&[self.source])?;
                fault::at("undo.synced");
                return forget_dir(self.dir);
            }
        }
        Err(SwapError::Lost { source_path: self.source.to_owned(), dir: self.dir.to_owned() })
    }

    fn original_at(&self) -> Result<At, SwapError> {
        // Once it is back, people may change it: its inode tells.
        let is_back = Facts::of(self.source)?
            .is_some_and(|found| found.stamp.inode == self.original.stamp.inode);
        Ok(match () {
            () if self.original.is_at(self.kept)? => {
                // A file system without renames that refuse gives a file two names for a moment.
                if is_back {
                    files::remove(self.kept)?;
                    return Ok(At::Source);
                }
                At::Kept
            }
            () if is_back => At::Source,
            () => At::Nowhere,
        })
    }

    /// The original gets its name back from the result.
    fn bring_back_same(&self) -> Result<bool, SwapError> {
        let hold = self.hold();
        if !exists(self.output)? {
            if self.may_go(&hold)? || !exists(&hold)? {
                rename_new(self.kept, self.source)?;
                fault::at("undo.named");
                return Ok(false);
            }
            rename_new(&hold, self.output)?; // what was taken away is not the result
            return Err(SwapError::ResultChanged { path: self.output.to_owned() });
        }
        if !self.may_go(self.output)? || exists(&hold)? {
            return Err(SwapError::ResultChanged { path: self.output.to_owned() });
        }
        fault::at("undo.looked");
        if exchange(self.kept, self.source)? {
            fault::at("undo.exchanged");
        } else {
            rename(self.output, &hold)?;
            fault::at("undo.held");
        }
        Ok(false)
    }

    fn bring_back_other(&self) -> Result<bool, SwapError> {
        rename_new(self.kept, self.source).map_err(|e| match e {
            SwapError::Taken { path } => SwapError::InTheWay { path },
            e => e,
        })?;
        fault::at("undo.named");
        Ok(false)
    }

    /// The original is back: what took its place goes.
    fn put_away(&self) -> Result<bool, SwapError> {
        let hold = self.hold();
        if exists(self.kept)? {
            // The names were exchanged.
            if !self.may_go(self.kept)? {
                if !exchange(self.kept, self.source)? {
                    return Err(SwapError::Lost {
                        source_path: self.source.to_owned(),
                        dir: self.dir.to_owned(),
                    });
                }
                return Err(SwapError::ResultChanged { path: self.output.to_owned() });
            }
            rename(self.kept, &hold)?;
            fault::at("undo.held");
        } else if !exists(&hold)? && self.source != self.output && self.aside.is_none() {
            if !self.result.is_at(self.output)? {
                return Ok(true); // somebody else removed it, or made it their own
            }
            rename(self.output, &hold)?;
            fault::at("undo.held");
        }
        if !exists(&hold)? {
            return Ok(true);
        }
        if !self.may_go(&hold)? {
            rename_new(&hold, self.output)?; // it was changed in this very moment
            return Ok(true);
        }
        match self.aside {
            Some(aside) => rename_new(&hold, aside)?,
            None => files::remove(&hold)?,
        }
        fault::at("undo.removed");
        Ok(true)
    }

    /// Whether the file with that name may lose it: it is the result, or it is kept.
    fn may_go(&self, name: &Path) -> Result<bool, SwapError> {
        Ok(self.result.is_at(name)? || (self.aside.is_some() && exists(name)?))
    }

    /// Where the result is for a moment.
    fn hold(&self) -> PathBuf {
        Swap::staged(self.dir)
    }
}

/// A name for a result that makes room for its source and stays: its own where the two have
/// different names, or one that nobody has.
pub fn aside(source: &Path, output: &Path) -> Result<PathBuf, SwapError> {
    if source != output {
        return Ok(output.to_owned());
    }
    let stem = output.file_stem().unwrap_or_default();
    for number in 1..ASIDE_MAX {
        let mut name = stem.to_owned();
        name.push(".converted");
        if number > 1 {
            name.push(format!("-{number}"));
        }
        if let Some(ending) = output.extension() {
            name.push(".");
            name.push(ending);
        }
        let path = output.with_file_name(name);
        if !exists(&path)? {
            return Ok(path);
        }
    }
    Err(SwapError::InTheWay { path: output.to_owned() })
}
