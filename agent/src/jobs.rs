//! What persons asked for: the part of a job that the mesh does not need to know.
//!
//! A job has three durable parts: the request, kept by the [`JobBook`]; its plan in a file of its own
//! (an index of a long film is large); and the tasks in the state machine's records. What is left of
//! a job that is over is in [`past`].

mod book;
mod index;
pub mod past;
mod priority;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use dmc_protocol::id::{AgentId, BlobRef, JobId};
use dmc_protocol::media::Preset;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::media::plan::{Plan, Rung};
use crate::media::streams::Probe;
use crate::paths::AnyPath;

pub use book::{Ended, JobBook, Lane, forget};
use past::Past;
pub use priority::{NoPriority, Priority};

/// Notes that are kept of one job.
const NOTES_MAX: usize = 50;

/// Size, times and inode: the cheap sign that a source may have changed. The time of the last
/// change of the inode cannot be set back by a program, as the modification time can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub bytes: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Time of the last change of the inode in nanoseconds since 1970.
    pub ctime_ns: i128,
    /// The inode's number.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file as it is now.
    pub fn of(path: &Path) -> std::io::Result<Stamp> {
        Ok(Stamp::of_file(&fs::metadata(path)?))
    }

    /// The stamp in what the system says of a file.
    pub fn of_file(meta: &fs::Metadata) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Stamp {
            bytes: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }
}

/// The finer step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The source is read and the plan made.
    Planning,
    /// Another agent keeps the job, or will.
    HandedOver,
    /// Tasks are encoded.
    Encoding,
    /// Results are joined.
    Joining,
    /// The whole result is verified.
    Verifying,
    /// The result gets its name.
    Publishing,
    /// Nothing is left to do.
    Over,
    /// Others go first: nothing was begun, and nothing of it is in memory.
    Waiting,
}

/// Where a job stands, in the words of the API. Their order is on disk: never change it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It has no tasks yet.
    ToDo,
    /// It has tasks, or another agent keeps it.
    InProgress,
    /// The result is published.
    FinishedSuccessful,
    /// It cannot be done.
    FinishedWithErrors,
    /// A person ended it.
    Cancelled,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 5] = [
        Status::ToDo,
        Status::InProgress,
        Status::FinishedSuccessful,
        Status::FinishedWithErrors,
        Status::Cancelled,
    ];

    /// The word for people and scripts.
    pub fn word(self) -> &'static str {
        match self {
            Status::ToDo => "to_do",
            Status::InProgress => "in_progress",
            Status::FinishedSuccessful => "finished_successful",
            Status::FinishedWithErrors => "finished_with_errors",
            Status::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    pub fn is_over(self) -> bool {
        !matches!(self, Status::ToDo | Status::InProgress)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A word that names no status.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no status; they are to_do, in_progress, finished_successful, finished_with_errors, cancelled"
)]
pub struct NoStatus(String);

impl FromStr for Status {
    type Err = NoStatus;
    fn from_str(text: &str) -> Result<Status, NoStatus> {
        let found = Status::ALL.into_iter().find(|status| status.word() == text);
        found.ok_or_else(|| NoStatus(text.to_owned()))
    }
}

/// The proof that the result is the same film.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Proof {
    /// Frames in the result: every frame that was expected, and no other.
    pub frames: u64,
    /// Largest difference of a frame's time, in microseconds.
    pub pts_error_us_max: u64,
    /// Whether every frame's pixels were compared and are equal (lossless targets).
    pub pixels_equal: bool,
    /// Streams in the result; of a picture, what was compared.
    pub streams: Vec<String>,
    /// Bytes of the result.
    pub bytes: u64,
}

impl Proof {
    /// Whether the result is one picture, of whose frames and their times nobody would speak.
    pub fn is_of_a_picture(&self) -> bool {
        self.frames == 1 && self.streams.iter().any(|stream| stream.contains("picture"))
    }
}

/// A person's request and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// The source.
    pub input: AnyPath,
    /// Where the result goes.
    pub output: AnyPath,
    /// The target settings, overrides applied.
    pub preset: Preset,
    /// Whether an existing result may be replaced.
    pub overwrite: bool,
    /// Wanted length of segments in seconds; `None`: chosen from the film and the mesh.
    pub segment_s: Option<u32>,
    /// The source's stamp when the job was planned, or its content was last found the same.
    pub stamp: Stamp,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// The finer step.
    pub phase: Phase,
    /// Whether a person cancelled it before it had tasks.
    pub cancelled: bool,
    /// Errors that ended the job before it had tasks.
    pub errors: Vec<String>,
    /// What the person should know: what cannot be kept, what was done another way.
    pub notes: Vec<String>,
    /// How the film is shared out, once that is planned.
    pub rung: Option<Rung>,
    /// The verified file that is about to get its name, by device and inode: after a crash between
    /// the name and the record of it, this tells a published result from somebody else's file.
    pub publishing: Option<(u64, u64)>,
    /// The proof, once the result is verified.
    pub proof: Option<Proof>,
    /// That it is to be handed over whole, and where the result then goes.
    pub hand_over: Option<Delivery>,
    /// Whose job it is, when this agent only keeps it.
    pub custody: Option<Custody>,
    /// Where it stands, as the indexes have it; of a job that is open the state machine knows more.
    pub status: Status,
    /// What became of it, once it is over.
    pub past: Option<Past>,
    /// Which of this agent's jobs go first.
    pub priority: Priority,
    /// Whether the place where a picture was taken is removed from its metadata.
    pub strip_gps: bool,
}

/// Where the result of a job that is handed over goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// The agent that keeps the result; `None`: it comes back here.
    pub to: Option<AgentId>,
    /// Its name below that agent's inbox.
    pub path: Option<String>,
}

/// A job of another agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// The submitter.
    pub from: AgentId,
    /// The source, in the store.
    pub source: BlobRef,
    /// Whether the result stays in this agent's inbox.
    pub delivers: bool,
}

impl Request {
    /// A plain job that waits for its turn, made now: nothing has happened to it yet.
    pub fn new(
        id: JobId,
        input: PathBuf,
        output: PathBuf,
        preset: Preset,
        stamp: Stamp,
    ) -> Request {
        let now = now_ms();
        Request {
            id,
            input: AnyPath(input),
            output: AnyPath(output),
            preset,
            overwrite: false,
            segment_s: None,
            stamp,
            created_ms: now,
            updated_ms: now,
            phase: Phase::Waiting,
            cancelled: false,
            errors: Vec::new(),
            notes: Vec::new(),
            rung: None,
            publishing: None,
            proof: None,
            hand_over: None,
            custody: None,
            status: Status::ToDo,
            past: None,
            priority: Priority::NORMAL,
            strip_gps: false,
        }
    }

    /// Adds a note once; their number is bounded.
    pub fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The status follows from the step, but where the step does not tell.
    fn status_now(&self) -> Status {
        match self.phase {
            Phase::Waiting | Phase::Planning => Status::ToDo,
            Phase::Encoding | Phase::Joining | Phase::Verifying | Phase::Publishing => {
                Status::InProgress
            }
            Phase::HandedOver | Phase::Over => self.status,
        }
    }
}

/// A source as it was read, and how it is converted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Planned {
    /// What the source is.
    pub probe: Probe,
    /// The tasks and how their results are joined.
    pub plan: Plan,
}

/// One open job, in memory.
pub struct Entry {
    /// The durable part.
    pub request: Request,
    /// The plan, read when it is needed.
    pub planned: Option<Arc<Planned>>,
    /// Ends the owner's IO for the job.
    pub token: CancellationToken,
    /// Serialises verification, so that neighbours are compared in some order.
    pub verifying: Arc<tokio::sync::Mutex<crate::owner::Verified>>,
    /// One reading of the whole source at a time.
    pub source: Arc<tokio::sync::Mutex<()>>,
    /// Files of it that a bad disk damaged since this agent started.
    pub damaged: u32,
    /// It is being tried again: over as it is, it stays in memory.
    pub held: bool,
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Entry {
    fn new(request: Request, stop: &CancellationToken) -> Entry {
        let (token, verifying, source) = (stop.child_token(), Arc::default(), Arc::default());
        Entry { request, planned: None, token, verifying, source, damaged: 0, held: false }
    }
}
