//! What can go wrong with media, said so that a person knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use dmc_protocol::media::{PresetError, SpecError};

/// A failed step on a media file.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// ffmpeg or ffprobe is not installed.
    #[error("{program} was not found. Install it (Debian, Ubuntu: sudo apt install ffmpeg)")]
    NoTool {
        /// The program that is missing.
        program: &'static str,
    },
    /// The file cannot be converted as asked, whoever tries.
    #[error("cannot convert {}: {why}. {next}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
        /// What the person can do.
        next: String,
    },
    /// A program of ours said no, or lied.
    #[error("{step} failed: {why}{}", tail(stderr))]
    Failed {
        /// What was being done.
        step: &'static str,
        /// What was wrong.
        why: String,
        /// The whole command, as one could type it.
        command: String,
        /// The end of what the program printed.
        stderr: String,
    },
    /// A result that is not what it should be.
    #[error("{what} is not right: {why}")]
    Wrong {
        /// What was checked.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A task ran well, but its frames are not those that the source's packets promise: entering
    /// this source there is not exact. Nobody is to blame; the task needs a lower rung.
    #[error("the frames cannot be proven: {why}")]
    Unproven {
        /// What differs.
        why: String,
    },
    /// The result's file exists already.
    #[error("{} exists already. Use --overwrite to replace it, or -o for another name", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// There is not enough room for a file.
    #[error(
        "not enough room on the disk of {}: {needed} bytes are needed, {free} are free. \
         Free some space or choose another place",
        path.display()
    )]
    DiskFull {
        /// Where it was to be.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        free: u64,
    },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A spec that must not be run.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Settings that do not go together.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// The file system said no.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done: `read`, `write`, …
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn tail(stderr: &str) -> String {
    match stderr.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(" ({})", line.trim()),
        None => String::new(),
    }
}

impl MediaError {
    /// An error of the file system.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> MediaError {
        MediaError::Io { action, path: path.to_owned(), source }
    }

    /// A file that cannot be converted.
    pub fn refused(path: &Path, why: impl Into<String>, next: impl Into<String>) -> MediaError {
        MediaError::Refused { path: path.to_owned(), why: why.into(), next: next.into() }
    }

    /// A result that fails a check.
    pub fn wrong(what: &'static str, why: impl Into<String>) -> MediaError {
        MediaError::Wrong { what, why: why.into() }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, MediaError::Cancelled)
    }

    /// Whether the task needs a lower rung rather than another worker.
    pub fn is_unproven(&self) -> bool {
        matches!(self, MediaError::Unproven { .. })
    }

    /// Whether the disk was full: the fault of no worker.
    pub fn is_disk_full(&self) -> bool {
        match self {
            MediaError::DiskFull { .. } => true,
            MediaError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            MediaError::Failed { stderr, .. } => ["No space left on device", "Disk quota exceeded"]
                .iter()
                .any(|words| stderr.contains(words)),
            _ => false,
        }
    }

    /// The command that failed, where there was one.
    pub fn command(&self) -> Option<&str> {
        match self {
            MediaError::Failed { command, .. } => Some(command),
            _ => None,
        }
    }

    /// The end of what the failed program printed.
    pub fn stderr(&self) -> Option<&str> {
        match self {
            MediaError::Failed { stderr, .. } => Some(stderr),
            _ => None,
        }
    }
}
