//! What can go wrong with durable state, in words a person can act on.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::codec::CodecError;
use dmc_protocol::id::BlobId;

/// A failure of the store. `Display` says what and where; the cause is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no room left, or less than must stay free.
    #[error("cannot {action} {}: the disk is full. Free some space, then try again", path.display())]
    DiskFull {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
    },
    /// Another process has this state open.
    #[error("{} is in use by {holder}. Stop that agent or choose another data directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as known.
        holder: String,
    },
    /// The state was written by a newer program.
    #[error("{} was written by a newer dmc (format {found}, this one knows {known}). Install the newer version or choose another data directory", path.display())]
    NewerStore {
        /// The directory.
        path: PathBuf,
        /// Format found on disk.
        found: u16,
        /// Newest format this program reads.
        known: u16,
    },
    /// The database failed.
    #[error("cannot {action} the state in {}. Restart the agent; if it happens again, restore or remove that directory", path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why; shared, because one failure ends every commit of its group.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// An earlier write failed, so nothing after it can be trusted to be durable.
    #[error("the state in {} takes no more writes since one failed. Restart the agent", path.display())]
    WriterStopped {
        /// The directory.
        path: PathBuf,
    },
    /// A key or value is larger than the database may hold.
    #[error(
        "a {what} of {bytes} bytes is larger than the {bytes_max} allowed; large data belongs in a blob"
    )]
    TooLarge {
        /// `key`, `value` or `batch`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A record could not be encoded or decoded.
    #[error("cannot {action} a record of schema {schema}")]
    Record {
        /// `encode` or `decode`.
        action: &'static str,
        /// The schema version asked for.
        schema: u16,
        /// Why.
        source: CodecError,
    },
    /// A record has no schema version.
    #[error("a record of {bytes} bytes is too short to have a schema version")]
    ShortRecord {
        /// Its size.
        bytes: usize,
    },
    /// A record was written with another schema.
    #[error("a record has schema {found}, this dmc reads {known}. {}", if found > known { "Install the newer version" } else { "It cannot be converted: let the version that wrote it finish or cancel its jobs, or move the data directory away to begin anew (results are not in it)" })]
    RecordSchema {
        /// Schema version found.
        found: u16,
        /// Schema version expected.
        known: u16,
    },
    /// A manifest that cannot be that of its blob.
    #[error("the chunk list of blob {id} is wrong: {why}")]
    BadManifest {
        /// The blob it claims to describe.
        id: BlobId,
        /// What does not fit.
        why: &'static str,
    },
    /// A chunk's bytes do not have the hash that its manifest says.
    #[error("chunk {index} of blob {id} has the wrong hash; fetch it again")]
    WrongHash {
        /// The blob.
        id: BlobId,
        /// The chunk's position.
        index: u32,
    },
    /// A chunk position outside the blob.
    #[error("blob {id} has {chunks} chunks, there is no chunk {index}")]
    NoChunk {
        /// The blob.
        id: BlobId,
        /// The position asked for.
        index: u32,
        /// How many there are.
        chunks: usize,
    },
    /// The blob is not held here.
    #[error("blob {id} is not here")]
    NoBlob {
        /// The blob.
        id: BlobId,
    },
    /// A blob on this disk no longer has the bytes that were stored.
    #[error("{} is damaged{}; remove it and fetch it again. Check this disk", path.display(), index.map(|i| format!(" in chunk {i}")).unwrap_or_default())]
    Corrupt {
        /// The blob's file.
        path: PathBuf,
        /// The damaged chunk, where one is known.
        index: Option<u32>,
    },
    /// A source file is not what it was when it was hashed.
    #[error("{} changed while in use ({why}). Start the conversion again once it is complete", path.display())]
    SourceChanged {
        /// The file.
        path: PathBuf,
        /// What differs.
        why: &'static str,
    },
    /// A partial transfer still lacks chunks.
    #[error("blob {id} still lacks {missing} chunks")]
    Incomplete {
        /// The blob.
        id: BlobId,
        /// How many are missing.
        missing: usize,
    },
    /// The blobs would take more than they may.
    #[error("no room for {bytes} bytes in {}: {used} of {quota} bytes of the quota are used. Raise the quota or wait for running jobs to finish", path.display())]
    Quota {
        /// The blob directory.
        path: PathBuf,
        /// Bytes wanted.
        bytes: u64,
        /// Bytes in use.
        used: u64,
        /// The limit.
        quota: u64,
    },
    /// A pinned blob cannot be removed.
    #[error("blob {id} is needed by {}", holders.join(", "))]
    Pinned {
        /// The blob.
        id: BlobId,
        /// Who pinned it.
        holders: Vec<String>,
    },
    /// A blob whose transfer is under way cannot be removed.
    #[error("blob {id} is being fetched")]
    InUse {
        /// The blob.
        id: BlobId,
    },
    /// A pin holder's name is empty or too long.
    #[error("a pin holder's name has {bytes} bytes, it may have 1 to {bytes_max}")]
    BadHolder {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl StoreError {
    /// Wraps an I/O error; "no space left" becomes [`StoreError::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        let path = path.to_owned();
        if is_disk_full(&source) {
            StoreError::DiskFull { action, path }
        } else {
            StoreError::Io { action, path, source }
        }
    }

    /// Whether the cause is a lack of space: no fault of the data or of a peer.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StoreError::DiskFull { .. } | StoreError::Quota { .. })
    }
}

/// Whether an I/O error says that there is no room (also by a user's disk quota).
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
