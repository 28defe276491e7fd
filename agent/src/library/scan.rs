//! Looks what files there are in a watched folder: one `stat` a file, directory by directory, compared
//! with what is known of each directory.
//!
//! What is gone is forgotten only when the directory that it was in could be read, and is still the
//! same directory: a disk that is not mounted, or another one in its place, never empties the records.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dmc_store::StoreError;

use super::book::{Book, tail, tail_of};
use super::changes::Changes;
use super::records::{Dir, Entry, File, State, Watch};
use crate::jobs::Stamp;
use crate::media::publish;
use crate::paths::AnyPath;

/// Troubles that are told of.
const TROUBLES_MAX: usize = 5;
/// What was not changed for so much longer than it must rest, rests: unless a clock is that wrong,
/// and then the file is looked at again when it changes.
const OLD_MS: i64 = 3_600_000;
const NS_PER_MS: i128 = 1_000_000;

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that it saw.
    pub files: u64,
    /// Directories that it read.
    pub dirs: u64,
    /// Files that were not known.
    pub new: u64,
    /// Files that changed.
    pub changed: u64,
    /// Files that are gone.
    pub gone: u64,
    /// What could not be read, and why.
    pub troubles: Vec<String>,
    /// Why the whole folder cannot be what it was.
    pub stopped: Option<String>,
}

/// What a scan must know beside the folder.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How long a file must rest, in milliseconds.
    pub settle_ms: i64,
    /// Directories that are none of the folder's: the agent's own, those of results.
    pub leave_out: Vec<PathBuf>,
    /// A person said that what is gone is really gone.
    pub believe: bool,
}

/// A scan under way: done in steps, so that its folder is tended meanwhile.
pub struct Scan {
    watch: Watch,
    judged: u64,
    terms: Terms,
    /// Directories that are still to be read.
    left: Vec<PathBuf>,
    /// Whether directories that are known already are read, too.
    deep: bool,
    /// What it found so far.
    pub report: Report,
}

/// Why a name in a directory is never taken, whatever the rules say.
pub fn never_taken(name: &std::ffi::OsStr) -> Option<&'static str> {
    if publish::is_temp_name(name) {
        return Some("it is a result of dmc that is not finished");
    }
    name.as_bytes().starts_with(b".").then_some("it is hidden: its name begins with a dot")
}

/// Nanoseconds since 1970 as milliseconds.
pub fn ms(ns: i128) -> i64 {
    i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX)
}

impl Scan {
    /// Of everything.
    pub fn whole(watch: Watch, terms: Terms) -> Scan {
        Scan::of(watch, terms, vec![PathBuf::new()], true)
    }

    /// Of directories in which something changed, as paths below the folder.
    pub fn some(watch: Watch, terms: Terms, dirs: Vec<PathBuf>) -> Scan {
        Scan::of(watch, terms, dirs, false)
    }

    fn of(watch: Watch, terms: Terms, left: Vec<PathBuf>, deep: bool) -> Scan {
        let judged = watch.fingerprint();
        Scan { watch, judged, terms, left, deep, report: Report::default() }
    }

    /// Reads these directories as well.
    pub fn add(&mut self, dirs: Vec<PathBuf>) {
        // The last one is read first.
        self.left.splice(0..0, dirs);
    }

    /// Whether it is of everything.
    pub fn is_whole(&self) -> bool {
        self.deep
    }

    /// Goes on for about so long; whether it is done.
    pub fn step(&mut self, book: &Book, time: Duration, now_ms: i64) -> Result<bool, StoreError> {
        let begun = Instant::now();
        let mut changes = book.change(self.watch.id);
        while let Some(dir) = self.left.pop() {
            self.visit(book, &mut changes, &dir, now_ms)?;
            if self.report.stopped.is_some() {
                self.left.clear();
            }
            if begun.elapsed() > time {
                break;
            }
        }
        changes.flush()?;
        Ok(self.left.is_empty())
    }

    fn trouble(&mut self, dir: &Path, error: &io::Error) {
        if self.report.troubles.len() < TROUBLES_MAX {
            let path = self.watch.dir.join(dir);
            self.report.troubles.push(format!("cannot read {}: {error}", path.display()));
        }
    }

    fn visit(
        &mut self,
        book: &Book,
        changes: &mut Changes<'_>,
        dir: &Path,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (device, found) = match self.list(dir) {
            Ok(listed) => listed,
            // The directory that it was in tells whether it is gone.
            Err(e) if e.kind() == io::ErrorKind::NotFound && !dir.as_os_str().is_empty() => {
                return Ok(());
            }
            Err(e) => {
                if dir.as_os_str().is_empty() {
                    let path = self.watch.dir.display();
                    self.report.stopped = Some(format!("{path} cannot be read: {e}"));
                }
                self.trouble(dir, &e);
                return Ok(());
            }
        };
        self.report.dirs += 1;
        if !self.is_the_same(book, dir, device, &found)? {
            return Ok(());
        }
        let place =
            if dir.as_os_str().is_empty() { tail(dir, dir.as_os_str()) } else { tail_of(dir) };
        let now = Dir { path: AnyPath(dir.to_owned()), device };
        let known = book.entry(self.watch.id, &place)?;
        if known != Some(Entry::Dir(now.clone())) {
            if let Some(file @ Entry::File(_)) = &known {
                self.report.gone += 1;
                changes.remove(&place, file)?;
            }
            changes.put_dir(&place, now)?;
        }
        self.compare(book, changes, dir, found, now_ms)
    }

    /// What is in a directory, by name.
    fn list(&mut self, dir: &Path) -> io::Result<(u64, Vec<(OsString, Metadata)>)> {
        let path = self.watch.dir.join(dir);
        // A link in the place of the directory leads out of the folder.
        let meta = std::fs::symlink_metadata(&path)?;
        if !meta.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&path)? {
            let entry = entry?;
            let name = entry.file_name();
            if never_taken(&name).is_some() {
                continue;
            }
            match entry.metadata() {
                Ok(meta) if meta.is_dir() && self.terms.leave_out.contains(&entry.path()) => {}
                Ok(meta) if meta.is_dir() || meta.is_file() => found.push((name, meta)),
                // Links are not followed: what they lead to is taken where it lies, if it is here.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok((meta.dev(), found))
    }

    /// Whether a directory may be taken for the one that is known. One that is suddenly empty, or on
    /// another device with nothing of what was there, is not.
    fn is_the_same(
        &mut self,
        book: &Book,
        dir: &Path,
        device: u64,
        found: &[(OsString, Metadata)],
    ) -> Result<bool, StoreError> {
        if self.terms.believe {
            return Ok(true);
        }
        let is_root = dir.as_os_str().is_empty();
        let place = if is_root { tail(dir, dir.as_os_str()) } else { tail_of(dir) };
        let Some(Entry::Dir(before)) = book.entry(self.watch.id, &place)? else { return Ok(true) };
        let moved = before.device != device;
        let emptied = is_root && found.is_empty();
        if !(moved || emptied) {
            return Ok(true);
        }
        let (mut known, mut there) = (0_u64, false);
        for entry in book.in_dir(self.watch.id, dir) {
            let (name, _) = entry?;
            if name.is_empty() {
                continue; // the folder itself
            }
            known += 1;
            there = found.binary_search_by(|(found, _)| found.cmp(&name)).is_ok();
            if there {
                break;
            }
        }
        if there || known == 0 {
            return Ok(true);
        }
        let path = self.watch.dir.join(dir);
        let why = match moved {
            true => {
                format!("another disk is at {}, without the files that are known", path.display())
            }
            false => format!("{} is suddenly empty", path.display()),
        };
        if is_root {
            self.report.stopped = Some(why);
        } else if self.report.troubles.len() < TROUBLES_MAX {
            self.report.troubles.push(why);
        }
        Ok(false)
    }

    /// Walks over what is there and what is known, both by name.
    fn compare(
        &mut self,
        book: &Book,
        changes: &mut Changes<'_>,
        dir: &Path,
        found: Vec<(OsString, Metadata)>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let mut known = book.in_dir(self.watch.id, dir).peekable();
        for (name, meta) in found {
            while let Some(gone) = known.next_if(|entry| match entry {
                Ok((known, _)) => *known < name,
                Err(_) => true,
            }) {
                let (gone, entry) = gone?;
                self.gone(book, changes, dir, &gone, &entry)?;
            }
            let before =
                known.next_if(|entry| entry.as_ref().is_ok_and(|(known, _)| *known == name));
            let before = before.transpose()?.map(|(_, entry)| entry);
            self.here(book, changes, dir, &name, (&meta, before), now_ms)?;
        }
        for entry in known {
            let (gone, entry) = entry?;
            self.gone(book, changes, dir, &gone, &entry)?;
        }
        Ok(())
    }

    fn here(
        &mut self,
        book: &Book,
        changes: &mut Changes<'_>,
        dir: &Path,
        name: &OsString,
        (meta, before): (&Metadata, Option<Entry>),
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let path = dir.join(name);
        if meta.is_dir() {
            // A file that had this name is removed when the directory is visited.
            if self.deep || !matches!(before, Some(Entry::Dir(_))) {
                self.left.push(path);
            }
            return Ok(());
        }
        self.report.files += 1;
        let before = match before {
            Some(Entry::File(file)) => Some(file),
            Some(dir_before @ Entry::Dir(_)) => {
                self.gone(book, changes, dir, name, &dir_before)?;
                None
            }
            None => None,
        };
        let stamp = Stamp::of_file(meta);
        match &before {
            None => self.report.new += 1,
            Some(before) if before.stamp != stamp => self.report.changed += 1,
            Some(_) => {}
        }
        let after = self.next(before.as_ref(), &path, stamp, now_ms);
        match after {
            Some(after) => changes.put(&tail(dir, name), before.as_ref(), after),
            None => Ok(()),
        }
    }

    /// What a file is from now on, when that is something else.
    fn next(&self, before: Option<&File>, path: &Path, stamp: Stamp, now_ms: i64) -> Option<File> {
        let rests = ms(stamp.ctime_ns.max(stamp.mtime_ns)) < now_ms - self.terms.settle_ms - OLD_MS;
        let anew = |state| File {
            path: AnyPath(path.to_owned()),
            stamp,
            since_ms: now_ms,
            state,
            judged: self.judged,
            content: None,
        };
        let Some(before) = before else {
            return Some(anew(if rests { State::Fresh } else { State::Settling }));
        };
        // What became of its job is looked at when that is over.
        if matches!(before.state, State::Given { .. }) {
            return None;
        }
        if before.stamp != stamp {
            return Some(anew(State::Settling));
        }
        let again = match &before.state {
            State::Skipped { until_ms: Some(until_ms), .. } if *until_ms <= now_ms => true,
            State::Skipped { .. } | State::Failed { .. } | State::Done { .. } => {
                before.judged != self.judged
            }
            State::Waiting { .. } => before.judged != self.judged,
            State::Settling | State::Fresh | State::Given { .. } | State::Result { .. } => false,
        };
        again.then(|| anew(State::Fresh))
    }

    fn gone(
        &mut self,
        book: &Book,
        changes: &mut Changes<'_>,
        dir: &Path,
        name: &OsString,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if name.is_empty() {
            return Ok(()); // the folder itself
        }
        changes.remove(&tail(dir, name), entry)?;
        let mut below = match entry {
            Entry::Dir(_) => vec![dir.join(name)],
            Entry::File(_) => {
                self.report.gone += 1;
                return Ok(());
            }
        };
        while let Some(dir) = below.pop() {
            for entry in book.in_dir(self.watch.id, &dir) {
                let (name, entry) = entry?;
                changes.remove(&tail(&dir, &name), &entry)?;
                match entry {
                    Entry::Dir(_) => below.push(dir.join(&name)),
                    Entry::File(_) => self.report.gone += 1,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
