//! Watched folders and their files on the disk.
//!
//! | key in `Watches` | |
//! |---|---|
//! | `w`, folder | the folder |
//! | `f`, folder, directory, name | what is known by that name; a directory is the hash of its path |
//! | `s`, folder, state, since, directory, name | files by state, in the order in which they came there |
//! | `c`, content | what became of a content |
//! | `j`, job | the file that a job converts |
//! | `o`, hash of a path | the job that made the file |
//!
//! In `Counters`: how many files are in each state, what was converted, and its bytes. All change in
//! the batch that changes the file. Only the task that tends a folder changes its files, so nothing
//! is locked.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use serde::de::DeserializeOwned;

use super::changes::Changes;
use super::records::{Content, ContentId, Entry, Errand, File, Output, State, Watch, WatchId};

pub(super) const SCHEMA: u16 = 1;
const HASH: usize = 16;
/// Records that are removed in one commit.
const REMOVED_AT_ONCE: usize = 1_500;

/// The part of a file's key behind its folder: hash of the directory, then the name.
pub type Tail = Vec<u8>;

/// Sums of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Files that were converted.
    pub converted: u64,
    /// Bytes of their sources.
    pub before: u64,
    /// Bytes of the results.
    pub after: u64,
}

/// Where watched folders are kept.
#[derive(Clone)]
pub struct Book {
    kv: Kv,
}

fn hash_of(path: &Path) -> [u8; HASH] {
    let hash = blake3::hash(path.as_os_str().as_bytes());
    let mut short = [0; HASH];
    short.copy_from_slice(&hash.as_bytes()[..HASH]);
    short
}

fn key(kind: u8, watch: WatchId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&watch.to_be_bytes());
    key
}

/// The key of a name in a directory, behind the folder.
pub fn tail(dir: &Path, name: &OsStr) -> Tail {
    let mut tail = hash_of(dir).to_vec();
    tail.extend_from_slice(name.as_bytes());
    tail
}

/// The same of a path below the folder.
pub fn tail_of(path: &Path) -> Tail {
    tail(path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default())
}

pub(super) fn file_key(watch: WatchId, tail: &[u8]) -> Vec<u8> {
    [key(b'f', watch).as_slice(), tail].concat()
}

pub(super) fn state_key(watch: WatchId, file: &File, tail: &[u8]) -> Vec<u8> {
    let mut key = key(b's', watch);
    key.push(file.state.number());
    key.extend_from_slice(&file.since_ms.max(0).to_be_bytes());
    key.extend_from_slice(tail);
    key
}

pub(super) fn counter(watch: WatchId, what: u8) -> Vec<u8> {
    let mut key = b"watch".to_vec();
    key.extend_from_slice(&watch.to_be_bytes());
    key.push(what);
    key
}

/// What [`counter`] counts of a folder: files, bytes of their sources, bytes of their results.
pub(super) const CONVERTED: u8 = b'N';
pub(super) const BEFORE: u8 = b'B';
pub(super) const AFTER: u8 = b'A';
/// Counts the folders that were ever added, for the number of the next one.
const NEXT: &[u8] = b"watch-next";

pub(super) fn job_key(job: JobId) -> Vec<u8> {
    [b"j", job.0.as_bytes().as_slice()].concat()
}

pub(super) fn content_key(content: &ContentId) -> Vec<u8> {
    [b"c", content.as_slice()].concat()
}

fn output_key(path: &Path) -> Vec<u8> {
    [b"o", hash_of(path).as_slice()].concat()
}

/// Adds to the batch that ends a job that it made this file.
///
/// # Errors
/// It cannot be encoded.
pub fn note_output(
    batch: &mut Batch,
    path: &Path,
    job: JobId,
    bytes: Option<u64>,
) -> Result<(), StoreError> {
    batch.put(Table::Watches, &output_key(path), encode(SCHEMA, &Output { job, bytes })?);
    Ok(())
}

impl Book {
    /// In this database.
    pub fn new(kv: Kv) -> Book {
        Book { kv }
    }

    /// Begins to change files of a folder.
    pub fn change(&self, watch: WatchId) -> Changes<'_> {
        Changes::new(&self.kv, watch)
    }

    fn value<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.kv.get(Table::Watches, key)?;
        found.map(|value| decode(SCHEMA, &value)).transpose()
    }

    // ---- folders ----

    /// All folders.
    pub fn watches(&self) -> Result<Vec<Watch>, StoreError> {
        let all = self.kv.each(Table::Watches, b"w");
        all.map(|entry| decode(SCHEMA, &entry?.1)).collect()
    }

    /// Keeps a folder.
    pub async fn keep(&self, watch: &Watch) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Watches, &key(b'w', watch.id), encode(SCHEMA, watch)?);
        self.kv.commit(batch).await
    }

    /// A number that no folder ever had.
    pub async fn new_id(&self) -> Result<WatchId, StoreError> {
        let mut batch = Batch::new();
        batch.add(Table::Counters, NEXT, 1);
        self.kv.commit(batch).await?;
        let number = self.kv.number(Table::Counters, NEXT)?;
        Ok(WatchId::try_from(number).unwrap_or(WatchId::MAX))
    }

    /// Forgets a folder and its files. What became of their contents is kept. A crash on the way
    /// leaves the folder, so that it can be done again.
    pub fn forget(&self, watch: WatchId) -> Result<(), StoreError> {
        for kind in [b's', b'f'] {
            self.forget_all(&key(kind, watch))?;
        }
        let mut batch = Batch::new();
        for what in (0..State::WORDS.len()).filter_map(|at| u8::try_from(at).ok()) {
            batch.delete(Table::Counters, &counter(watch, what));
        }
        for what in [CONVERTED, BEFORE, AFTER] {
            batch.delete(Table::Counters, &counter(watch, what));
        }
        batch.delete(Table::Watches, &key(b'w', watch));
        self.kv.commit_blocking(batch)
    }

    fn forget_all(&self, prefix: &[u8]) -> Result<(), StoreError> {
        loop {
            let page = self.kv.scan(Table::Watches, prefix, None, REMOVED_AT_ONCE)?;
            if page.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            page.iter().for_each(|(key, _)| batch.delete(Table::Watches, key));
            self.kv.commit_blocking(batch)?;
        }
    }

    /// How many files are in each state, by its word.
    pub fn counts(&self, watch: WatchId) -> Result<BTreeMap<String, u64>, StoreError> {
        let of = |(at, word): (usize, &&str)| {
            let number = u8::try_from(at).unwrap_or(u8::MAX);
            Ok(((*word).to_owned(), self.count(watch, number)?))
        };
        State::WORDS.iter().enumerate().map(of).collect()
    }

    /// How many files are in a state.
    pub fn count(&self, watch: WatchId, state: u8) -> Result<u64, StoreError> {
        let number = self.kv.number(Table::Counters, &counter(watch, state))?;
        Ok(u64::try_from(number).unwrap_or(0))
    }

    /// What was converted in a folder.
    pub fn sums(&self, watch: WatchId) -> Result<Sums, StoreError> {
        let number = |what| {
            let number = self.kv.number(Table::Counters, &counter(watch, what))?;
            Ok(u64::try_from(number).unwrap_or(0))
        };
        Ok(Sums { converted: number(CONVERTED)?, before: number(BEFORE)?, after: number(AFTER)? })
    }

    // ---- files ----

    /// What is known by a name.
    pub fn entry(&self, watch: WatchId, tail: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.value(&file_key(watch, tail))
    }

    /// A file.
    pub fn file(&self, watch: WatchId, tail: &[u8]) -> Result<Option<File>, StoreError> {
        Ok(match self.entry(watch, tail)? {
            Some(Entry::File(file)) => Some(file),
            _ => None,
        })
    }

    /// All that is known in a directory, by name, read page by page.
    pub fn in_dir(
        &self,
        watch: WatchId,
        dir: &Path,
    ) -> impl Iterator<Item = Result<(OsString, Entry), StoreError>> + use<> {
        let prefix = file_key(watch, &hash_of(dir));
        let names_at = prefix.len();
        self.kv.each(Table::Watches, &prefix).map(move |entry| {
            let (mut key, value) = entry?;
            let name = OsString::from_vec(key.split_off(names_at.min(key.len())));
            Ok((name, decode(SCHEMA, &value)?))
        })
    }

    /// Files in a state, those first that came there first. `after`: a cursor.
    pub fn first(
        &self,
        watch: WatchId,
        state: u8,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let mut prefix = key(b's', watch);
        prefix.push(state);
        let keys = self.kv.scan(Table::Watches, &prefix, after, limit)?;
        self.listed(watch, &keys)
    }

    /// Files in a state, the newest first. `before`: a cursor.
    pub fn last(
        &self,
        watch: WatchId,
        state: u8,
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let mut prefix = key(b's', watch);
        prefix.push(state);
        let keys = self.kv.scan_back(Table::Watches, &prefix, before, limit)?;
        self.listed(watch, &keys)
    }

    fn listed(&self, watch: WatchId, keys: &[dmc_store::Entry]) -> Result<Vec<Listed>, StoreError> {
        // Kind, folder, state, time.
        const AT: usize = 1 + 4 + 1 + 8;
        let found = keys.iter().filter_map(|(key, _)| {
            let tail = key.get(AT..)?;
            let file = self.file(watch, tail).transpose()?;
            Some(file.map(|file| Listed { cursor: key.clone(), tail: tail.to_vec(), file }))
        });
        found.collect()
    }

    // ---- contents and jobs ----

    /// What became of a content.
    pub fn content(&self, id: &ContentId) -> Result<Option<Content>, StoreError> {
        self.value(&content_key(id))
    }

    /// The file that a job converts.
    pub fn errand(&self, job: JobId) -> Result<Option<Errand>, StoreError> {
        self.value(&job_key(job))
    }

    /// Notes why the result of a job is not wanted.
    pub async fn refuse(&self, job: JobId, errand: &Errand) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Watches, &job_key(job), encode(SCHEMA, errand)?);
        self.kv.commit(batch).await
    }

    /// The job that made a file.
    pub fn output(&self, path: &Path) -> Result<Option<Output>, StoreError> {
        self.value(&output_key(path))
    }
}

/// A file in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where the next page begins.
    pub cursor: Vec<u8>,
    /// Its key.
    pub tail: Tail,
    /// The file.
    pub file: File,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Stamp;
    use crate::paths::AnyPath;

    pub fn file(path: &str, since_ms: i64, state: State) -> File {
        let stamp = Stamp { bytes: 1, mtime_ns: 2, ctime_ns: 3, inode: 4 };
        let path = AnyPath(path.into());
        File { path, stamp, since_ms, state, judged: 0, content: None }
    }

    #[tokio::test]
    async fn files_are_found_by_name_and_by_state_and_are_counted() {
        let book = Book::new(Kv::memory());
        let mut changes = book.change(7);
        for (n, path) in ["a/x.mkv", "a/y.mkv", "b/x.mkv"].into_iter().enumerate() {
            let file = file(path, 10 - n as i64, State::Fresh);
            changes.put(&tail_of(Path::new(path)), None, file).unwrap();
        }
        changes.save().await.unwrap();
        let names: Vec<_> = book.in_dir(7, Path::new("a")).map(|entry| entry.unwrap().0).collect();
        assert_eq!(names, ["x.mkv", "y.mkv"]);
        let listed = |state| {
            let page = book.first(7, state, None, 10).unwrap();
            page.iter().map(|of| of.file.path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(listed(State::FRESH), ["b/x.mkv", "a/y.mkv", "a/x.mkv"], "by time");
        let tail = tail_of(Path::new("a/y.mkv"));
        let before = book.file(7, &tail).unwrap().unwrap();
        let mut changes = book.change(7);
        let after = file("a/y.mkv", 20, State::Waiting { preset: "hevc".to_owned() });
        changes.put(&tail, Some(&before), after).unwrap();
        changes.save().await.unwrap();
        assert_eq!(listed(State::FRESH), ["b/x.mkv", "a/x.mkv"]);
        assert_eq!(listed(State::WAITING), ["a/y.mkv"]);
        let counts = book.counts(7).unwrap();
        assert_eq!((counts["new"], counts["waiting"], counts["done"]), (2, 1, 0));
        assert!(book.counts(8).unwrap().values().all(|count| *count == 0), "of another folder");
        book.forget(7).unwrap();
        assert!(listed(State::FRESH).is_empty() && book.counts(7).unwrap()["new"] == 0);
    }

    #[tokio::test]
    async fn no_number_is_given_twice() {
        let book = Book::new(Kv::memory());
        let (one, two) = (book.new_id().await.unwrap(), book.new_id().await.unwrap());
        assert_ne!(one, two);
    }
}
