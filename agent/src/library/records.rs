//! What is kept of watched folders, their files, and what became of contents.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use dmc_protocol::id::{BlobId, JobId};
use dmc_protocol::media::MediaKind;
use serde::{Deserialize, Serialize};

use crate::jobs::Stamp;
use crate::paths::AnyPath;

/// A watched folder's number.
pub type WatchId = u32;

/// What names a file by its content: see [`super::content`].
pub type ContentId = [u8; 32];

/// Where the results of a folder go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Beside their sources.
    Alongside,
    /// In the place of their sources.
    Replace,
    /// Below another directory, by the same relative path.
    Mirror(AnyPath),
}

/// A watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Its number.
    pub id: WatchId,
    /// The folder, without symbolic links.
    pub dir: AnyPath,
    /// Names of the presets, one for each kind of media.
    pub presets: Vec<String>,
    /// The kinds that are taken.
    pub kinds: Vec<MediaKind>,
    /// The rules as they were written.
    pub rules: String,
    /// Where results go.
    pub delivery: Delivery,
    /// Whether a person paused it.
    pub paused: bool,
    /// Milliseconds since 1970.
    pub created_ms: i64,
}

impl Watch {
    /// A number for what decides about files: after it changed, they are decided upon again.
    pub fn fingerprint(&self) -> u64 {
        // The algorithm may change with the compiler: then all are looked at once more.
        let mut hasher = DefaultHasher::new();
        (&self.presets, &self.kinds, &self.rules).hash(&mut hasher);
        hasher.finish()
    }
}

/// What is known by a name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A directory.
    Dir(Dir),
    /// A file.
    File(File),
}

/// A directory below a watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    /// Its path below the folder.
    pub path: AnyPath,
    /// The device that it is on: another one may be mounted there.
    pub device: u64,
}

/// A file below a watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path below the folder.
    pub path: AnyPath,
    /// Its stamp when it was last looked at.
    pub stamp: Stamp,
    /// Since when it is in its state, in milliseconds since 1970.
    pub since_ms: i64,
    /// Where it stands.
    pub state: State,
    /// The [`Watch::fingerprint`] that it was decided upon with.
    pub judged: u64,
    /// Its content, once it was read.
    pub content: Option<ContentId>,
}

/// Where a file stands.
///
/// ```text
/// Settling ──▶ Fresh ──▶ Waiting ──▶ Given ──▶ Done
///    ▲           │                     ├──▶ Skipped
///    │           ├──▶ Skipped          └──▶ Failed
///    └── a file that changed: from any state but Given
/// ```
///
/// Their order is on disk: add at the end only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It may still be written.
    Settling,
    /// It has stopped changing, and is to be looked at.
    Fresh,
    /// It will be converted.
    Waiting {
        /// The preset.
        preset: String,
    },
    /// A job converts it.
    Given {
        /// The job.
        job: JobId,
        /// The preset.
        preset: String,
    },
    /// It was converted, here or under another name.
    Done {
        /// The job; `None`: its content was converted under another name.
        job: Option<JobId>,
        /// The preset.
        preset: String,
        /// Bytes of the source.
        before: u64,
        /// Bytes of the result.
        after: u64,
        /// Under which name its content was converted, when it was another one.
        under: Option<AnyPath>,
    },
    /// It is left alone.
    Skipped {
        /// The rule that says so.
        rule: String,
        /// Why.
        why: String,
        /// When it is looked at again, in milliseconds since 1970.
        until_ms: Option<i64>,
    },
    /// It could not be converted.
    Failed {
        /// The job, when there was one.
        job: Option<JobId>,
        /// Why.
        why: String,
    },
    /// It is a result of this agent's own.
    Result {
        /// Its job.
        job: JobId,
    },
}

impl State {
    /// The words of all states, by their numbers.
    pub const WORDS: [&'static str; 8] =
        ["settling", "new", "waiting", "converting", "done", "skipped", "failed", "results"];

    /// Its number in the index.
    pub fn number(&self) -> u8 {
        match self {
            State::Settling => Self::SETTLING,
            State::Fresh => Self::FRESH,
            State::Waiting { .. } => Self::WAITING,
            State::Given { .. } => Self::GIVEN,
            State::Done { .. } => Self::DONE,
            State::Skipped { .. } => Self::SKIPPED,
            State::Failed { .. } => Self::FAILED,
            State::Result { .. } => Self::RESULT,
        }
    }

    /// Number of [`State::Settling`].
    pub const SETTLING: u8 = 0;
    /// Number of [`State::Fresh`].
    pub const FRESH: u8 = 1;
    /// Number of [`State::Waiting`].
    pub const WAITING: u8 = 2;
    /// Number of [`State::Given`].
    pub const GIVEN: u8 = 3;
    /// Number of [`State::Done`].
    pub const DONE: u8 = 4;
    /// Number of [`State::Skipped`].
    pub const SKIPPED: u8 = 5;
    /// Number of [`State::Failed`].
    pub const FAILED: u8 = 6;
    /// Number of [`State::Result`].
    pub const RESULT: u8 = 7;

    /// The word for people and scripts.
    pub fn word(&self) -> &'static str {
        Self::WORDS[usize::from(self.number())]
    }
}

/// What became of a content, whatever its name is now. Kept when its file and its folder are gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The job whose result it is.
    pub result_of: Option<JobId>,
    /// The hash of all of it, where that is known.
    pub full: Option<BlobId>,
    /// The stamp of a file that had it.
    pub stamp: Option<Stamp>,
    /// What was made of it.
    pub made: Vec<Made>,
}

/// What was made of a content with a preset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The preset.
    pub preset: String,
    /// The job.
    pub job: JobId,
    /// Where the source was then, absolute.
    pub path: AnyPath,
    /// Bytes of the source.
    pub before: u64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is under way.
    Open,
    /// A result of so many bytes.
    Result(u64),
    /// It would have had so many bytes: too many for the rules.
    TooLarge(u64),
}

/// A job that converts a file of a watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Errand {
    /// The folder.
    pub watch: WatchId,
    /// The file: its key without the folder's number.
    pub tail: Vec<u8>,
    /// The preset.
    pub preset: String,
    /// Its content.
    pub content: ContentId,
    /// Bytes of the source.
    pub before: u64,
    /// The least that it must save, in per cent.
    pub least_percent: Option<u8>,
    /// Why its result is not wanted, once that is known, and how large it would have been.
    pub unwanted: Option<(String, u64)>,
}

/// A file that a job of this agent made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The job.
    pub job: JobId,
    /// Its size, once it is published.
    pub bytes: Option<u64>,
}
