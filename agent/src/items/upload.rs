//! Writes what a client sends to the disk, with its checksums, within the quota.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use dmc_protocol::id::JobId;
use dmc_store::{StoreError, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use tokio::io::AsyncWriteExt;

use super::{ARRIVING, ItemBook, UPLOADS};
use crate::room;

/// Longest name of a file, as file systems have it.
const NAME_BYTES_MAX: usize = 200;
const READ_BYTES: usize = 1 << 20;
/// How often a file that arrives looks for room on the disk.
const LOOK_BYTES: u64 = 64 << 20;

/// Checksums of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums {
    /// BLAKE3, as hexadecimal digits.
    pub blake3: String,
    /// SHA-512, as hexadecimal digits, where it was asked for.
    pub sha512: Option<String>,
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Its name could mean another place, or no file can have it.
    #[error("`{0}` is no name for a file: it must be one name without a path")]
    Name(String),
    /// The settings allow less.
    #[error(
        "uploaded files may take {quota} bytes on this agent, and {used} are taken; delete items \
         that are not needed, or raise upload_quota_bytes in its settings"
    )]
    Quota {
        /// What the settings allow.
        quota: u64,
        /// What is taken.
        used: u64,
    },
    /// The disk is nearly full.
    #[error(transparent)]
    Full(#[from] crate::media::MediaError),
    /// The disk failed.
    #[error("the upload cannot be written to {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The own state failed.
    #[error("the agent cannot keep the upload")]
    Store(#[from] StoreError),
}

struct Sums {
    blake3: blake3::Hasher,
    sha512: Option<Sha512>,
}

impl Sums {
    fn new(sha512: bool) -> Sums {
        Sums { blake3: blake3::Hasher::new(), sha512: sha512.then(Sha512::new) }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.blake3.update(bytes);
        if let Some(hasher) = &mut self.sha512 {
            hasher.update(bytes);
        }
    }

    fn finish(self) -> Checksums {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Checksums {
            blake3: self.blake3.finalize().to_hex().to_string(),
            sha512: self.sha512.map(|hasher| hex(&hasher.finalize())),
        }
    }
}

/// Reads a file for its checksums.
pub fn checksums_of(file: &Path, sha512: bool) -> std::io::Result<Checksums> {
    let (mut file, mut sums) = (std::fs::File::open(file)?, Sums::new(sha512));
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sums.finish()),
            count => sums.update(&buffer[..count]),
        }
    }
}

/// A place for a file that arrives; with it goes what is there.
struct Place {
    dir: PathBuf,
    name: String,
    /// Bytes that count as arriving.
    bytes: u64,
    arriving: Arc<Mutex<u64>>,
    kept: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut arriving = self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        *arriving = arriving.saturating_sub(self.bytes);
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// A file that is arriving. Nothing of it stays when this is dropped.
pub struct Upload<'a> {
    book: &'a ItemBook,
    place: Place,
    file: tokio::fs::File,
    sums: Sums,
}

/// A file that has arrived whole and is on the disk. Nothing of it stays when this is dropped.
pub struct Receipt {
    place: Place,
    /// Its checksums.
    pub checksums: Checksums,
}

impl<'a> Upload<'a> {
    /// Begins to take a file of that name.
    pub async fn begin(
        book: &'a ItemBook,
        id: JobId,
        name: &str,
        sha512: bool,
    ) -> Result<Upload<'a>, UploadError> {
        if !is_name(name) {
            return Err(UploadError::Name(name.chars().take(100).collect()));
        }
        let dir = book.dir.join(ARRIVING).join(id.to_string());
        let path = dir.join(name);
        let failed = |source| UploadError::Disk { path: path.clone(), source };
        tokio::fs::create_dir_all(&dir).await.map_err(failed)?;
        let place = Place {
            dir,
            name: name.to_owned(),
            bytes: 0,
            arriving: Arc::clone(&book.arriving),
            kept: false,
        };
        let file = tokio::fs::File::create_new(&path).await.map_err(failed)?;
        Ok(Upload { book, place, file, sums: Sums::new(sha512) })
    }

    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), UploadError> {
        let before = self.place.bytes / LOOK_BYTES;
        self.count(bytes.len() as u64)?;
        if self.place.bytes / LOOK_BYTES > before {
            room::check(&self.place.dir, LOOK_BYTES, self.book.reserve)?;
        }
        self.sums.update(bytes);
        let written = self.file.write_all(bytes).await;
        written.map_err(|source| UploadError::Disk { path: self.path(), source })
    }

    /// Fails when so many bytes more would be too many, of this file and all others.
    pub fn room(&self, more: u64) -> Result<(), UploadError> {
        let used = self.book.used()?;
        if used.saturating_add(more) > self.book.quota {
            return Err(UploadError::Quota { quota: self.book.quota, used });
        }
        Ok(room::check(&self.place.dir, more, self.book.reserve)?)
    }

    fn count(&mut self, more: u64) -> Result<(), UploadError> {
        let kept = self.book.kept()?;
        let mut arriving = self.book.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        let used = kept.saturating_add(*arriving);
        if used.saturating_add(more) > self.book.quota {
            return Err(UploadError::Quota { quota: self.book.quota, used });
        }
        *arriving += more;
        self.place.bytes += more;
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.place.dir.join(&self.place.name)
    }

    /// The file has arrived: it is on the disk when this returns.
    pub async fn finish(mut self) -> Result<Receipt, UploadError> {
        let path = self.path();
        let failed = |source| UploadError::Disk { path: path.clone(), source };
        self.file.flush().await.map_err(failed)?;
        self.file.sync_all().await.map_err(failed)?;
        Ok(Receipt { place: self.place, checksums: self.sums.finish() })
    }
}

impl Receipt {
    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.place.bytes
    }

    /// The name that it has.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Gives the file its place for good, and says where that is.
    pub fn keep(mut self, book: &ItemBook, id: JobId) -> Result<PathBuf, UploadError> {
        let to = book.dir_of(id);
        let failed = |source| UploadError::Disk { path: to.clone(), source };
        std::fs::rename(&self.place.dir, &to).map_err(failed)?;
        self.place.kept = true;
        Ok(to.join(&self.place.name))
    }
}

impl ItemBook {
    /// Bytes of uploaded files that are kept.
    fn kept(&self) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.kv.number(Table::Counters, UPLOADS)?).unwrap_or(0))
    }

    fn used(&self) -> Result<u64, StoreError> {
        let arriving = *self.arriving.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.kept()?.saturating_add(arriving))
    }
}

/// One name, for one file, below any directory, on any system.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c == '/' || c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["film.mkv", "-o.mkv", "ein Film 🎬.mp4", "...", "a"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "../x", "/etc/passwd", "a\\b", "a\0b", "a\nb", &"x".repeat(201)]
        {
            assert!(!is_name(name), "{name}");
        }
    }
}
