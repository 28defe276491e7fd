//! Every message that agents send each other on the control stream.
//!
//! Messages are level-triggered where that is possible: an offer, an accept and a heartbeat state
//! what is so, not what changed, so a lost one is healed by the next.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::condition::Condition;
use crate::config::{
    CLASSES_MAX, CUSTODY_REPORTS_MAX, HEARTBEAT_ATTEMPTS_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX,
    SLOTS_MAX,
};
use crate::handover::{CustodyReport, HandedJob};
use crate::id::{AttemptId, BlobRef, JobId, TaskId};
use crate::media::{Capabilities, Encoder, MediaKind, TaskInput, TaskSpec, WorkClass};
use crate::roster::{FACTS_PER_MESSAGE, Fact};

/// What its person wants an agent to do rather than something else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Encoders whose work it should get; other work goes to others first. Empty: no matter.
    pub prefers: BTreeSet<Encoder>,
    /// Attempts of a kind that it runs at the same time, where that is less than its slots.
    pub slots_of: BTreeMap<MediaKind, u32>,
}

impl Wishes {
    /// Whether this work should rather be done by another agent.
    pub fn is_reluctant(&self, encoder: Encoder) -> bool {
        !self.prefers.is_empty() && !self.prefers.contains(&encoder)
    }

    /// How many attempts of that kind may be there when `slots` may be in all.
    pub fn slots_for(&self, kind: MediaKind, slots: u32) -> u32 {
        self.slots_of.get(&kind).map_or(slots, |limit| slots.min(*limit))
    }
}

/// What an agent says of itself, at connect and whenever it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Name for people, at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Random at each start: tells a restart from a reconnect.
    pub instance: u64,
    /// Attempts that it runs at the same time.
    pub slots: u32,
    /// What its person wants these to be.
    pub wishes: Wishes,
    /// Free bytes where it keeps blobs.
    pub free_disk_bytes: u64,
    /// Whether its person paused it: it takes no new work.
    pub paused: bool,
    /// What its ffmpeg can do, proven by test encodes.
    pub capabilities: Capabilities,
    /// Measured speed per class of work, in work units a second.
    pub speeds: Vec<(WorkClass, u64)>,
    /// Seconds since it started, told about once a minute: who has been there for long will be.
    pub uptime_s: u64,
    /// Whether it keeps whole jobs for others.
    pub custodian: bool,
    /// Whether results may be delivered into its inbox.
    pub inbox: bool,
    /// Whether it runs on its battery.
    pub on_battery: bool,
    /// How its machine is. It stays the last field: what is added later is added inside of it.
    pub condition: Condition,
}

/// Work of one class inside an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedWork {
    /// The class, the key of measured speed.
    pub class: WorkClass,
    /// Encoders that the work needs.
    pub requires: BTreeSet<Encoder>,
    /// Tasks that are not granted yet.
    pub tasks: u32,
    /// Work units of these tasks.
    pub units: u64,
}

/// How far an attempt is, as its worker tells it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Frames encoded (audio: 0).
    pub frames: u64,
    /// Encoded media time in milliseconds.
    pub media_ms: u64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Frames a second × 100 over the last moments.
    pub fps_x100: u32,
}

/// What a finished attempt made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The encoded part.
    pub media: BlobRef,
    /// The list of frame hashes and timestamps that proves it.
    pub proof: BlobRef,
    /// Frames in the part (audio: 0).
    pub frames: u64,
    /// Milliseconds that the encoder ran.
    pub encode_ms: u64,
}

/// Why an attempt did not succeed; says who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureKind {
    /// The worker has no room: not its fault, it takes no new work until there is.
    DiskFull,
    /// The worker is busy, paused or stopping: nobody's fault.
    Busy,
    /// The input could not be fetched from the owner.
    Input,
    /// ffmpeg failed.
    Encode,
    /// The result did not pass verification.
    Verify,
    /// The pictures came out well, but are not those that the source's packets promise: nobody's
    /// fault, the task must be done one rung lower.
    Unproven,
    /// Something else went wrong inside the worker.
    Internal,
}

impl FailureKind {
    /// Whether the failure counts against the worker. An input that its owner cannot serve is no
    /// fault of the worker's.
    pub fn blames_worker(self) -> bool {
        self.blames() && self != FailureKind::Input
    }

    /// Whether the failure counts against the task.
    pub fn blames(self) -> bool {
        !matches!(self, FailureKind::DiskFull | FailureKind::Busy | FailureKind::Unproven)
    }
}

/// Why an attempt did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind, which decides about blame.
    pub kind: FailureKind,
    /// Text for people: what happened, why, what to do next.
    pub reason: String,
}

impl Failure {
    /// A failure whose text is cut to what a message may carry.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Failure {
        Failure { kind, reason: bounded(reason.into(), REASON_BYTES_MAX) }
    }
}

/// Cuts a text to at most `bytes_max` bytes at a character boundary.
pub fn bounded(mut text: String, bytes_max: usize) -> String {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// State of an attempt as its worker lists it in a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldState {
    /// The input is on its way or waits for a slot.
    Queued,
    /// ffmpeg runs.
    Running(Progress),
    /// Finished and kept until the owner has it.
    Done(TaskResult),
    /// ffmpeg is stopped, because the machine is needed, and will go on where it was.
    Paused(Progress),
}

/// One attempt in a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldAttempt {
    /// The attempt.
    pub attempt: AttemptId,
    /// The task that it is a try at.
    pub task: TaskId,
    /// Where it stands.
    pub state: HeldState,
}

/// What the owner answers about an attempt that a worker listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Go on, or keep the result: the owner wants it.
    Keep,
    /// The result is committed or no longer needed: delete it.
    Drop,
    /// The owner does not know this job: delete what belongs to it.
    Unknown,
}

/// Everything that goes over a control stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// First message in each direction, and again whenever something in it changes.
    Info(AgentInfo),
    /// Sent every [`crate::config::Config::heartbeat_ms`]: all attempts that tie the two agents.
    Heartbeat {
        /// Attempts that the sender holds for the receiver.
        held: Vec<HeldAttempt>,
    },
    /// The owner has work.
    Offer {
        /// The job.
        job: JobId,
        /// The work left, by class. Empty: withdrawn, nothing is left.
        work: Vec<OfferedWork>,
    },
    /// The worker bids: it may be granted tasks of this job.
    Accept {
        /// The job.
        job: JobId,
        /// How many attempts of this owner the worker wants to hold at the same time, those that
        /// it holds now included.
        want: u32,
    },
    /// The worker does not take part in this job for now.
    Decline {
        /// The job.
        job: JobId,
    },
    /// The owner leases one attempt at a task to the worker.
    Grant {
        /// The attempt, fresh and random.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// What is to be done.
        spec: TaskSpec,
        /// Whether the input is a piece cut for this task or the whole source.
        input: TaskInput,
        /// The input's bytes.
        blob: BlobRef,
    },
    /// The attempt succeeded; its blobs are kept until the owner has them.
    Done {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// What it made.
        result: TaskResult,
    },
    /// The attempt failed.
    Failed {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// Why.
        failure: Failure,
    },
    /// What the owner thinks of an attempt.
    Verdict {
        /// The attempt.
        attempt: AttemptId,
        /// What is to become of it.
        verdict: Verdict,
    },
    /// The sender stops: its peers need not wait for time-outs.
    Goodbye,
    /// The submitter gives the whole job to the receiver; said again until it is over.
    HandOver {
        /// The job.
        job: JobId,
        /// The submitter's fence.
        epoch: u32,
        /// What is to be done.
        handed: HandedJob,
    },
    /// What the sender keeps for the receiver, said with each heartbeat and at each change.
    Custody {
        /// Job, fence, and where it stands.
        held: Vec<(JobId, u32, CustodyReport)>,
    },
    /// The submitter has the result or does not want it: everything of the job may go.
    Release {
        /// The job.
        job: JobId,
        /// The newest fence that this is said of.
        epoch: u32,
    },
    /// Who belongs to the mesh. Without facts: said at connect, and answered with all facts when
    /// the digests differ. With facts: they are added, and new ones are told on.
    Roster {
        /// [`Roster::digest`](crate::roster::Roster::digest) of the sender.
        digest: [u8; 32],
        /// At most [`FACTS_PER_MESSAGE`].
        facts: Vec<Fact>,
    },
}

impl Message {
    /// Checks the limits that the type itself cannot carry.
    pub fn check(&self) -> Result<(), CodecError> {
        let ok = match self {
            Message::Info(info) => {
                info.name.len() <= NAME_BYTES_MAX
                    && info.version.len() <= NAME_BYTES_MAX
                    && info.capabilities.ffmpeg_version.len() <= 4 * NAME_BYTES_MAX
                    && info.slots <= SLOTS_MAX
                    && info.speeds.len() <= CLASSES_MAX
            }
            Message::Heartbeat { held } => held.len() <= HEARTBEAT_ATTEMPTS_MAX,
            Message::Offer { work, .. } => work.len() <= CLASSES_MAX,
            Message::Accept { want, .. } => *want <= 2 * SLOTS_MAX,
            Message::Grant { spec, .. } => {
                spec.validate().map_err(|_| CodecError::Invalid("task specification"))?;
                true
            }
            Message::Failed { failure, .. } => failure.reason.len() <= REASON_BYTES_MAX,
            Message::HandOver { handed, .. } => {
                if !handed.is_acceptable() {
                    return Err(CodecError::Invalid("job that is handed over"));
                }
                true
            }
            Message::Custody { held } => {
                held.len() <= CUSTODY_REPORTS_MAX
                    && held.iter().all(|(_, _, report)| report.is_bounded())
            }
            Message::Roster { facts, .. } => facts.len() <= FACTS_PER_MESSAGE,
            Message::Release { .. }
            | Message::Decline { .. }
            | Message::Done { .. }
            | Message::Verdict { .. }
            | Message::Goodbye => true,
        };
        if ok { Ok(()) } else { Err(CodecError::Invalid("a list or text is over its limit")) }
    }

    /// The message's name, for logs and counters.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Info(_) => "info",
            Message::Heartbeat { .. } => "heartbeat",
            Message::Offer { .. } => "offer",
            Message::Accept { .. } => "accept",
            Message::Decline { .. } => "decline",
            Message::Grant { .. } => "grant",
            Message::Done { .. } => "done",
            Message::Failed { .. } => "failed",
            Message::Verdict { .. } => "verdict",
            Message::Goodbye => "goodbye",
            Message::HandOver { .. } => "hand-over",
            Message::Custody { .. } => "custody",
            Message::Release { .. } => "release",
            Message::Roster { .. } => "roster",
        }
    }
}
