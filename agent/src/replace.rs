//! Results that take the place of their sources, and the originals that can be brought back.
//!
//! `swap` and `restore` move the files, `book` keeps what is known of each replacement,
//! `service` puts both together for a job, `sweep` lets old originals go.
//!
//! Durable in this order: the result, whole and verified; what is about to be done; the renames, one
//! by one; that they are done. At any moment the original or the result has the source's name, or is
//! in the job's directory of the undo store, and the next start finds which.

pub mod about;
pub mod book;
pub mod carry;
mod fault;
pub mod files;
mod place;
pub mod restore;
pub mod service;
mod sidecars;
pub mod swap;
mod sweep;
pub mod view;

use std::io;
use std::path::{Path, PathBuf};

use dmc_protocol::id::{BlobId, JobId};
use serde::{Deserialize, Serialize};

use crate::paths::AnyPath;

use files::Facts;

pub use place::{Replacement, replacement};
pub use service::{settle_all, undo};
pub use sweep::keep_tidy;

/// Where a replacement stands.
///
/// ```text
/// Wanted ⇄ Taking ─▶ Kept ⇄ Restoring ─▶ Restored
///             │        └──▶ Gone
///             └───────────▶ Gone
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The job is not there yet.
    Wanted,
    /// The result takes the place of the original.
    Taking,
    /// It did, and the original can be brought back.
    Kept,
    /// The original is being brought back.
    Restoring,
    /// The original is where it was.
    Restored,
    /// The original is no more.
    Gone,
}

impl Stage {
    /// Whether files are being moved.
    pub fn is_in_flight(self) -> bool {
        matches!(self, Stage::Taking | Stage::Restoring)
    }

    /// Whether one may follow the other.
    pub fn can_become(self, next: Stage) -> bool {
        use Stage::{Gone, Kept, Restored, Restoring, Taking, Wanted};
        self == next
            || matches!(
                (self, next),
                (Wanted, Taking)
                    | (Taking, Wanted | Kept | Gone)
                    | (Kept, Restoring | Gone)
                    | (Restoring, Kept | Restored)
            )
    }

    /// The word for people and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Stage::Wanted => "wanted",
            Stage::Taking => "replacing",
            Stage::Kept => "kept",
            Stage::Restoring => "restoring",
            Stage::Restored => "restored",
            Stage::Gone => "gone",
        }
    }
}

/// A replacement, from the wish to the end of its original. One a job; it outlives the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub stage: Stage,
    /// The file that is replaced; no link.
    pub source: AnyPath,
    /// The result's name.
    pub output: AnyPath,
    /// Whether files that carry the source's whole name get the result's.
    pub sidecars: bool,
    /// The two files, once the result is verified.
    pub taken: Option<Taken>,
    /// Sidecar files that were renamed: from, to.
    pub renamed: Vec<(AnyPath, AnyPath)>,
    /// While the original is brought back: whether the result stays.
    pub keep_result: bool,
    /// Why the original is no more.
    pub why: Option<String>,
    /// When it came to where it stands, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The two files of a replacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// The job's directory in the undo store.
    pub dir: AnyPath,
    /// The original's name in it.
    pub name: AnyPath,
    /// What the original is.
    pub original: Facts,
    /// What the result was when it got its name.
    pub result: Facts,
    /// When the result took its place.
    pub at_ms: i64,
    /// The original's content, once it was copied to another file system.
    pub content: Option<BlobId>,
    /// Where it was copied from, until that is removed.
    pub leaving: Option<AnyPath>,
}

impl Taken {
    /// The original in the undo store.
    pub fn kept(&self) -> PathBuf {
        self.dir.join(&*self.name)
    }
}

impl Replaced {
    /// A wish.
    pub fn wanted(id: JobId, what: Replacement, sidecars: bool) -> Replaced {
        Replaced {
            id,
            stage: Stage::Wanted,
            source: AnyPath(what.source),
            output: AnyPath(what.output),
            sidecars,
            taken: None,
            renamed: Vec::new(),
            keep_result: false,
            why: None,
            since_ms: crate::jobs::now_ms(),
        }
    }
}

/// Why a file could not be replaced or brought back.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The source is another one now.
    #[error("{}", crate::source::changed(path))]
    Changed {
        /// The source.
        path: PathBuf,
    },
    /// Another file has the result's name.
    #[error("{} exists and is another file, so it stays; move it away and use `dmc jobs retry`", path.display())]
    Taken {
        /// That file.
        path: PathBuf,
    },
    /// The undo store there is on another file system.
    #[error(
        "the original cannot be kept: {} is on another file system than the file, or moves there are \
         refused. Nothing was replaced",
        dir.display()
    )]
    OtherDisk {
        /// The job's directory in it.
        dir: PathBuf,
    },
    /// Nobody can tell where the files are.
    #[error(
        "it cannot be told what became of {}: nothing more is moved or removed. Look there and into {}",
        source_path.display(), dir.display()
    )]
    Lost {
        /// The source.
        source_path: PathBuf,
        /// The job's directory in the undo store.
        dir: PathBuf,
    },
    /// The original is not in the undo store as it was put there.
    #[error("the original is not at {} any more as it was, so it cannot be brought back", path.display())]
    NoOriginal {
        /// Where it should be.
        path: PathBuf,
    },
    /// A copy of the original has other bytes.
    #[error("{} is damaged: its bytes are not those of the original; nothing was removed", path.display())]
    Damaged {
        /// The copy.
        path: PathBuf,
    },
    /// Another file is where the original belongs.
    #[error("{} exists, and is never overwritten; move it away first", path.display())]
    InTheWay {
        /// That file.
        path: PathBuf,
    },
    /// The result is not what it was.
    #[error(
        "{} was changed after it had replaced the original, so it is not removed; --keep-result \
         keeps it beside the original",
        path.display()
    )]
    ResultChanged {
        /// The result.
        path: PathBuf,
    },
    /// The replacement stands where that cannot be asked.
    #[error("{0}")]
    Refused(String),
    /// The agent's own state.
    #[error("the agent cannot keep what it is about to do")]
    Store(#[from] dmc_store::StoreError),
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl SwapError {
    /// Whether a disk was full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            SwapError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            SwapError::Store(e) => e.is_disk_full(),
            _ => false,
        }
    }
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> SwapError {
    SwapError::Io { action, path: path.to_owned(), source }
}
