//! What the state machine keeps on disk: the records that a restarted agent replays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::handover::{CustodyRecord, HandedRecord};
use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{Encoder, TaskInput, TaskSpec};
use crate::message::{Failure, TaskResult};

/// Which build of an encoder made some bits: parts of different builds do not join.
pub type Fingerprint = [u8; 8];

/// Schema version of all records below; a change of any shape raises it.
pub const RECORD_SCHEMA: u16 = 2;

/// Where a job of this owner stands.
///
/// ```text
/// Active ──all tasks committed──▶ Joining ──published──▶ Done
///   │  ▲                            │ │
///   │  └────── a task is redone ────┘ ├──▶ Failed
///   └───────────────────────────────▶ Failed | Cancelled ──a person tries it again──▶ Active
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Tasks are left.
    Active,
    /// All tasks are committed; the owner joins, verifies and publishes.
    Joining,
    /// The result is published.
    Done,
    /// It cannot be done; every reason is kept.
    Failed(Vec<String>),
    /// A person cancelled it.
    Cancelled,
}

impl JobState {
    /// Whether the diagram above allows this step.
    pub fn can_become(&self, next: &JobState) -> bool {
        use JobState::{Active, Cancelled, Done, Failed, Joining};
        matches!(
            (self, next),
            (Active, Joining | Failed(_) | Cancelled)
                | (Joining, Active | Done | Failed(_) | Cancelled)
                | (Failed(_) | Cancelled, Active)
        )
    }

    /// Whether nothing more will happen by itself.
    pub fn is_over(&self) -> bool {
        matches!(self, JobState::Done | JobState::Failed(_) | JobState::Cancelled)
    }
}

/// A job of this owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Number of tasks in the plan.
    pub tasks: u32,
    /// Larger goes first.
    pub priority: i32,
    /// The whole source, once it is hashed.
    pub source: Option<BlobRef>,
    /// The build of each encoder that all segments of this job must come from: segments of
    /// different builds do not join.
    pub pins: BTreeMap<Encoder, Fingerprint>,
}

/// A failed try, kept to tell the person and to judge task and worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTry {
    /// Who tried.
    pub worker: AgentId,
    /// What went wrong.
    pub failure: Failure,
}

/// A committed result and who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The attempt that won.
    pub attempt: AttemptId,
    /// Its worker.
    pub worker: AgentId,
    /// What it made, verified and in the owner's store.
    pub result: TaskResult,
}

/// One task of a job of this owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The task.
    pub id: TaskId,
    /// What is to be done.
    pub spec: TaskSpec,
    /// The piece that was cut for it and still exists.
    pub piece: Option<BlobRef>,
    /// Leases: which attempt runs where.
    pub leases: BTreeMap<AttemptId, AgentId>,
    /// Leases that ended by silence: a late result from one of them is still welcome.
    pub expired: BTreeMap<AttemptId, AgentId>,
    /// Tries that failed.
    pub failures: Vec<FailedTry>,
    /// The verified result.
    pub commit: Option<Commit>,
}

/// Where an attempt stands at its worker.
///
/// ```text
/// Queued ──input here, slot free──▶ Running ──verified──▶ Done ──owner has it──▶ (erased)
///    └───────────────┴──failed or cancelled──▶ (erased)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkState {
    /// Accepted; after a restart a running attempt is queued again.
    Queued,
    /// Finished; blobs are kept for the owner.
    Done(TaskResult),
}

/// One attempt that this worker accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkRecord {
    /// The attempt.
    pub attempt: AttemptId,
    /// Whose job it is.
    pub owner: AgentId,
    /// The task.
    pub task: TaskId,
    /// What is to be done.
    pub spec: TaskSpec,
    /// Whether the input is a piece or the whole source.
    pub input: TaskInput,
    /// The input's bytes.
    pub blob: BlobRef,
    /// Where it stands.
    pub state: WorkState,
    /// How long its result was kept for an owner that is away, in milliseconds, as last saved.
    pub kept_ms: u64,
}

/// One durable fact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Record {
    /// A job of this owner.
    Job(JobRecord),
    /// A task of such a job.
    Task(TaskRecord),
    /// An attempt that this worker accepted.
    Work(WorkRecord),
    /// A job that this agent handed over.
    Handed(HandedRecord),
    /// A job that this agent keeps for another one.
    Custody(CustodyRecord),
    /// Whether the person paused this agent.
    Paused(bool),
}

/// The name of a durable fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// A job.
    Job(JobId),
    /// A task.
    Task(TaskId),
    /// An accepted attempt.
    Work(AttemptId),
    /// A job that was handed over.
    Handed(JobId),
    /// A job that is kept for another agent.
    Custody(JobId),
    /// The pause switch.
    Paused,
}

impl Record {
    /// The name under which the record is kept; a later record with the same name replaces it.
    pub fn key(&self) -> RecordKey {
        match self {
            Record::Job(job) => RecordKey::Job(job.id),
            Record::Task(task) => RecordKey::Task(task.id),
            Record::Work(work) => RecordKey::Work(work.attempt),
            Record::Handed(handed) => RecordKey::Handed(handed.id),
            Record::Custody(custody) => RecordKey::Custody(custody.id),
            Record::Paused(_) => RecordKey::Paused,
        }
    }
}
