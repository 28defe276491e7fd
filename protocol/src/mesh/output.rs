//! What the core wants done: records, messages, and long work that is answered by inputs.

use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{TaskInput, TaskSpec};
use crate::message::{Message, TaskResult};
use crate::record::{Record, RecordKey};

/// What the core wants the runtime to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make this durable before any later `Send`.
    Save(Record),
    /// Forget this durably before any later `Send`.
    Erase(RecordKey),
    /// Keep this durably apart from what [`Input::Restore`](super::Input::Restore) brings, and no
    /// longer there.
    Shelve(Record),
    /// The other way: from the shelf to what [`Input::Restore`](super::Input::Restore) brings.
    Unshelve(Record),
    /// Say this to a connected peer. A peer that is gone by then is no error.
    Send {
        /// To whom; never this agent itself.
        to: AgentId,
        /// What.
        message: Message,
    },
    /// Few attempt ids are left: answer with [`Input::Ids`](super::Input::Ids).
    NeedIds,
    /// Something about the job changed that people see.
    Changed(JobId),

    /// Owner: cut the piece for this task; answer with `PieceReady` or `FailJob`. Ends an earlier
    /// cut for the same task: only the latest may be answered, because its specification counts.
    Cut(TaskId),
    /// Owner: the piece is not needed any more.
    ReleasePiece {
        /// The task that it was cut for.
        task: TaskId,
        /// The piece.
        blob: BlobRef,
    },
    /// Owner: fetch the result from the worker (itself included) and verify it; answer with
    /// `ResultGood`, `ResultBad` or `Redo`.
    Fetch {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// Who holds the blobs.
        from: AgentId,
        /// The blobs.
        result: TaskResult,
    },
    /// Owner: a fetch or verification of this task is no longer wanted, and results that were
    /// fetched for it may go.
    DropResult {
        /// The task.
        task: TaskId,
        /// The blobs.
        result: TaskResult,
    },
    /// Owner: find another way to do this task, one rung lower; answer with `Redo`, `Replan` or
    /// `FailJob`.
    Lower {
        /// The task.
        task: TaskId,
        /// Why the present way does not do.
        reason: String,
    },
    /// Owner: all tasks are committed: join, verify, publish; answer with `Joined`, `Redo` or
    /// `FailJob`.
    Join(JobId),
    /// Owner: the job is over; end all its running IO.
    JobOver(JobId),
    /// Submitter: this agent owns the job (again): plan it; answer with `AddJob`.
    TakeBack(JobId),
    /// Submitter: fetch the custodian's result, verify it, publish it; answer with
    /// `HandedPublished` or `HandedBad`.
    FetchHanded {
        /// The job.
        job: JobId,
        /// The custodian.
        from: AgentId,
        /// The result.
        result: BlobRef,
    },
    /// Submitter: end the fetch of a custodian's result, unless it is being published at this
    /// moment; only then it is still answered.
    StopHanded(JobId),
    /// Submitter: the handed job is over; what was kept for it may go.
    HandedEnded(JobId),
    /// Custodian: bring the whole source into the store, pinned; answer with `CustodySource` or
    /// `CustodyGivenUp`.
    FetchSource {
        /// The job.
        job: JobId,
        /// The submitter.
        from: AgentId,
        /// The source.
        source: BlobRef,
    },
    /// Custodian: this agent owns the job now: plan it; answer with `AddCustodyJob`,
    /// `CustodyFailed` or `CustodyGivenUp`.
    BeginCustody(JobId),
    /// Custodian: the job is published here: make its result a pinned blob; answer with
    /// `CustodyResult`.
    KeepResult(JobId),
    /// Custodian: everything of the job may go.
    EndCustody {
        /// The job.
        job: JobId,
        /// Its source.
        source: BlobRef,
        /// Its result, if there is one.
        result: Option<BlobRef>,
    },

    /// Worker: fetch the input; answer with `InputReady` or `WorkFailed`.
    FetchInput {
        /// The attempt.
        attempt: AttemptId,
        /// Who has it.
        owner: AgentId,
        /// The task.
        task: TaskId,
        /// The input's bytes.
        blob: BlobRef,
    },
    /// Worker: run ffmpeg; answer with `Worked`, then `WorkDone` or `WorkFailed`.
    Run {
        /// The attempt.
        attempt: AttemptId,
        /// Whose task it is.
        owner: AgentId,
        /// The task.
        task: TaskId,
        /// What is to be done.
        spec: TaskSpec,
        /// Piece or whole source.
        input: TaskInput,
        /// The input's bytes, in the store.
        blob: BlobRef,
    },
    /// Worker: end whatever the attempt does and delete what belongs to it, its result included.
    Discard {
        /// The attempt.
        attempt: AttemptId,
        /// Its input.
        blob: BlobRef,
        /// Its result, when it is finished.
        result: Option<TaskResult>,
    },
}

impl Output {
    /// Whether it changes what is durable.
    pub fn is_record(&self) -> bool {
        matches!(self, Output::Save(_) | Output::Erase(_) | Output::Shelve(_) | Output::Unshelve(_))
    }
}
