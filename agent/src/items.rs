//! What clients gave this agent to convert: the part of an item that its job does not know.
//!
//! An item is a file with the name that its client gave it, and a job of the same id. A file that
//! was uploaded lies below `uploads/` in the data directory, with its result, until the client
//! deletes the item; a file that was here before stays where it is.
//!
//! | table | key | |
//! |---|---|---|
//! | `Items` | id | the item |
//! | `ItemsOf` | length of the client's name, name, id | items of a client, in the order of time |
//! | `Once` | hash of client and key | the item that a repeated request made |
//! | `Meta` | `item-begun`, id | items whose job may not exist yet |
//! | `Meta` | `item-result`, id | BLAKE3 of a result |
//! | `Counters` | `uploads` | bytes of all uploaded files |

mod upload;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::jobs::JobBook;
use crate::worker::chain;

pub use upload::{Checksums, Receipt, Upload, UploadError, checksums_of};

const SCHEMA: u16 = 1;
const BEGUN: &[u8] = b"item-begun";
const RESULT: &[u8] = b"item-result";
const UPLOADS: &[u8] = b"uploads";
/// Below it are files that are arriving; what a start finds there is removed.
const ARRIVING: &str = ".arriving";
/// Longest name of a client.
pub const CLIENT_BYTES_MAX: usize = 64;
const ID_BYTES: usize = 16;

/// A file that a client wants converted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The item, and its job.
    pub id: JobId,
    /// Whose it is.
    pub client: String,
    /// The name that the client gave the file.
    pub file_name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it was sent here, so that it goes with the item.
    pub uploaded: bool,
    /// Checksums of the file, once they are computed.
    pub checksums: Option<Checksums>,
    /// Whether the client wants SHA-512, too.
    pub sha512: bool,
}

/// Whether a client may be called so: it is part of addresses and keys.
pub fn is_client(name: &str) -> bool {
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=CLIENT_BYTES_MAX).contains(&name.len()) && name.chars().all(ok)
}

fn of_client(client: &str) -> Vec<u8> {
    // Names are short: see `is_client`.
    let mut key = vec![u8::try_from(client.len()).unwrap_or(u8::MAX)];
    key.extend_from_slice(client.as_bytes());
    key
}

fn place_of(client: &str, id: JobId) -> Vec<u8> {
    let mut key = of_client(client);
    key.extend_from_slice(id.0.as_bytes());
    key
}

fn begun(id: JobId) -> Vec<u8> {
    [BEGUN, id.0.as_bytes()].concat()
}

fn result(id: JobId) -> Vec<u8> {
    [RESULT, id.0.as_bytes()].concat()
}

fn id_at_end(key: &[u8]) -> Option<JobId> {
    Some(JobId(Uuid::from_bytes(*key.last_chunk::<ID_BYTES>()?)))
}

/// A key by which a client repeats a request: the same key of another client is another one.
fn once_key(client: &str, key: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&of_client(client)).update(key.as_bytes());
    *hasher.finalize().as_bytes()
}

/// All items, and the files that were sent for them.
pub struct ItemBook {
    kv: Kv,
    dir: PathBuf,
    quota: u64,
    /// Bytes that stay free on the disk.
    reserve: u64,
    /// Bytes that are arriving now.
    arriving: Arc<Mutex<u64>>,
    /// Requests with a key of their own that are being answered.
    asking: Mutex<BTreeSet<[u8; 32]>>,
    /// Items whose checksums are being computed.
    hashing: Mutex<BTreeSet<JobId>>,
}

/// The right to answer a request that may be repeated; given back when it is dropped.
pub struct Turn<'a> {
    book: &'a ItemBook,
    key: [u8; 32],
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.book.asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// What became of a request with a key.
pub enum Once<'a> {
    /// It is new.
    New(Turn<'a>),
    /// It was answered before, with this item.
    Known(JobId),
    /// It is being answered now.
    Busy,
}

impl ItemBook {
    /// `dir` is for uploaded files, which may take `quota` bytes, and must leave `reserve` bytes free
    /// on their disk.
    pub fn new(kv: Kv, dir: PathBuf, quota: u64, reserve: u64) -> ItemBook {
        let (arriving, asking, hashing) = Default::default();
        ItemBook { kv, dir, quota, reserve, arriving, asking, hashing }
    }

    /// Removes what a run that was cut short left: files that had not arrived, and items without a
    /// job.
    pub fn clean(&self, jobs: &JobBook) -> Result<(), StoreError> {
        let _ = std::fs::remove_dir_all(self.dir.join(ARRIVING));
        for entry in self.kv.each(Table::Meta, BEGUN) {
            let Some(id) = id_at_end(&entry?.0) else { continue };
            let mut batch = Batch::new();
            batch.delete(Table::Meta, &begun(id));
            if jobs.request(id)?.is_none() {
                if let Some(item) = self.get(id)? {
                    self.take_out(&mut batch, &item);
                }
                self.remove_files(id);
            }
            self.kv.commit_blocking(batch)?;
        }
        Ok(())
    }

    /// The directory of an item's file.
    pub fn dir_of(&self, id: JobId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// An item.
    pub fn get(&self, id: JobId) -> Result<Option<Item>, StoreError> {
        let found = self.kv.get(Table::Items, id.0.as_bytes())?;
        found.map(|value| decode(SCHEMA, &value)).transpose()
    }

    /// Items of a client, the newest first, those before `before`.
    pub fn page(
        &self,
        client: &str,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let before = before.map(|id| place_of(client, id));
        let keys =
            self.kv.scan_back(Table::ItemsOf, &of_client(client), before.as_deref(), limit)?;
        let ids = keys.iter().filter_map(|(key, _)| id_at_end(key));
        ids.filter_map(|id| self.get(id).transpose()).collect()
    }

    /// Looks whether a request was made before. A client's key names one request for ever.
    pub fn once(&self, client: &str, key: &str) -> Result<Once<'_>, StoreError> {
        let key = once_key(client, key);
        if !self.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            return Ok(Once::Busy);
        }
        let turn = Turn { book: self, key };
        let known = self.kv.get(Table::Once, &key)?;
        Ok(match known.as_deref().and_then(id_at_end) {
            Some(id) => Once::Known(id),
            None => Once::New(turn),
        })
    }

    /// Keeps an item whose job is about to be made.
    pub async fn begin(&self, item: &Item) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let id = item.id.0.as_bytes();
        batch.put(Table::Items, id, encode(SCHEMA, item)?);
        batch.put(Table::ItemsOf, &place_of(&item.client, item.id), Vec::new());
        batch.put(Table::Meta, &begun(item.id), Vec::new());
        if item.uploaded {
            batch.add(Table::Counters, UPLOADS, signed(item.bytes));
        }
        self.kv.commit(batch).await
    }

    /// The item has its job; `turn`: the request that made it is not made again.
    pub async fn settle(&self, item: &Item, turn: Option<&Turn<'_>>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.delete(Table::Meta, &begun(item.id));
        if let Some(turn) = turn {
            batch.put(Table::Once, &turn.key, item.id.0.as_bytes().to_vec());
        }
        self.kv.commit(batch).await
    }

    /// Removes an item and the file that was sent for it.
    pub async fn remove(&self, item: &Item) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        self.take_out(&mut batch, item);
        batch.delete(Table::Meta, &begun(item.id));
        self.kv.commit(batch).await?;
        if item.uploaded {
            self.remove_files(item.id);
        }
        Ok(())
    }

    fn take_out(&self, batch: &mut Batch, item: &Item) {
        batch.delete(Table::Items, item.id.0.as_bytes());
        batch.delete(Table::ItemsOf, &place_of(&item.client, item.id));
        batch.delete(Table::Meta, &result(item.id));
        if item.uploaded {
            batch.add(Table::Counters, UPLOADS, -signed(item.bytes));
        }
    }

    fn remove_files(&self, id: JobId) {
        let dir = self.dir_of(id);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                warn!("the uploaded file in {} cannot be removed: {e}", dir.display());
            }
            _ => {}
        }
    }

    /// BLAKE3 of an item's result, as hexadecimal digits, where it was computed.
    pub fn result_sum(&self, id: JobId) -> Result<Option<String>, StoreError> {
        let found = self.kv.get(Table::Meta, &result(id))?;
        Ok(found.map(|digits| String::from_utf8_lossy(&digits).into_owned()))
    }

    /// Computes the checksum of an item's result, once.
    pub async fn sum_result(&self, id: JobId, file: &Path) {
        if !self.hashing.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return;
        }
        let file = file.to_owned();
        let read = tokio::task::spawn_blocking(move || checksums_of(&file, false)).await;
        // Who asks again begins it again: a file that is gone has no checksum.
        if let Ok(Ok(sums)) = read
            && let Ok(Some(_)) = self.get(id)
        {
            let mut batch = Batch::new();
            batch.put(Table::Meta, &result(id), sums.blake3.into_bytes());
            if let Err(e) = self.kv.commit(batch).await {
                debug!(item = %id, "the checksum of its result is not kept: {}", chain(&e));
            }
        }
        self.hashing.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Computes the checksums of a file that is here already, once.
    pub async fn checksum(&self, id: JobId, file: &Path) {
        if !self.hashing.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return;
        }
        let computed = self.compute(id, file).await;
        self.hashing.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if let Err(why) = computed {
            debug!(item = %id, "its checksum is not known: {why}");
        }
    }

    async fn compute(&self, id: JobId, file: &Path) -> Result<(), String> {
        let Some(item) = self.get(id).map_err(|e| chain(&e))? else { return Ok(()) };
        let (file, sha512) = (file.to_owned(), item.sha512);
        let read = tokio::task::spawn_blocking(move || checksums_of(&file, sha512)).await;
        let sums = read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let Some(item) = self.get(id).map_err(|e| chain(&e))? else { return Ok(()) };
        let mut batch = Batch::new();
        let item = Item { checksums: Some(sums), ..item };
        let value = encode(SCHEMA, &item).map_err(|e| chain(&e))?;
        batch.put(Table::Items, id.0.as_bytes(), value);
        self.kv.commit(batch).await.map_err(|e| chain(&e))
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(client: &str, n: u128) -> Item {
        Item {
            id: JobId(Uuid::from_u128(n)),
            client: client.to_owned(),
            file_name: "film.mkv".to_owned(),
            bytes: 100,
            uploaded: true,
            checksums: None,
            sha512: false,
        }
    }

    fn book(dir: &Path) -> ItemBook {
        ItemBook::new(Kv::memory(), dir.to_owned(), 250, 0)
    }

    #[test]
    fn clients_are_words_for_addresses() {
        assert!(is_client("living-room.2"));
        assert!(is_client("9b2d5c1e-7f1f-4a38-8a55-8a4b2b1c0d1e"));
        for wrong in ["", "a b", "a/b", "é", &"a".repeat(65)] {
            assert!(!is_client(wrong), "{wrong}");
        }
    }

    #[tokio::test]
    async fn clients_see_their_own_items_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path());
        for item in [item("a", 1), item("a", 2), item("ab", 3), item("a", 4)] {
            book.begin(&item).await.unwrap();
        }
        let ids = |client, before: Option<u128>, limit| {
            let before = before.map(|n| JobId(Uuid::from_u128(n)));
            let page = book.page(client, before, limit).unwrap();
            page.iter().map(|item| item.id.0.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(ids("a", None, 9), [4, 2, 1]);
        assert_eq!(ids("a", Some(4), 1), [2]);
        assert_eq!(ids("ab", None, 9), [3]);
        book.remove(&item("a", 2)).await.unwrap();
        assert_eq!(ids("a", None, 9), [4, 1]);
    }

    #[tokio::test]
    async fn a_repeated_request_makes_one_item() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path());
        let item = item("a", 1);
        let Once::New(turn) = book.once("a", "k").unwrap() else { panic!("it is new") };
        assert!(matches!(book.once("a", "k").unwrap(), Once::Busy));
        assert!(matches!(book.once("b", "k").unwrap(), Once::New(_)), "of another client");
        book.begin(&item).await.unwrap();
        book.settle(&item, Some(&turn)).await.unwrap();
        drop(turn);
        assert!(matches!(book.once("a", "k").unwrap(), Once::Known(id) if id == item.id));
    }

    #[tokio::test]
    async fn uploads_stay_below_their_quota() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path());
        book.begin(&item("a", 1)).await.unwrap();
        let id = JobId(Uuid::from_u128(2));
        let mut upload = Upload::begin(&book, id, "b.mkv", false).await.unwrap();
        upload.write(&[0; 100]).await.unwrap();
        let refused = upload.write(&[0; 51]).await.unwrap_err();
        assert!(matches!(refused, UploadError::Quota { .. }), "{refused}");
        drop(upload);
        let left = std::fs::read_dir(dir.path().join(ARRIVING)).unwrap().count();
        assert_eq!(left, 0, "nothing of it stays");
        let mut upload = Upload::begin(&book, id, "b.mkv", true).await.unwrap();
        upload.write(b"abc").await.unwrap();
        let receipt = upload.finish().await.unwrap();
        let file = receipt.keep(&book, id).unwrap();
        assert_eq!(std::fs::read(file).unwrap(), b"abc");
    }
}
