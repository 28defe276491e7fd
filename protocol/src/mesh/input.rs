//! What the runtime tells the core: what happened, what a person wants, how its long work ended.

use crate::handover::HandedJob;
use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::TaskSpec;
use crate::message::{AgentInfo, Failure, Message, Progress, TaskResult};
use crate::record::Record;

/// What the runtime tells the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; sent about once a second.
    Tick,
    /// Fresh random attempt ids, asked for by [`Output::NeedIds`](super::Output::NeedIds).
    Ids(Vec<AttemptId>),
    /// What the disk remembers; the first input after a start.
    Restore(Vec<Record>),
    /// This agent's own facts, at start and whenever they change.
    Local(AgentInfo),
    /// A person paused or resumed this agent.
    SetPaused(bool),
    /// The hours in which this agent works end (`true`) or begin. It begins within them.
    SetOffHours(bool),
    /// The person needs the machine (`yields`), or does not any more. It begins not yielding.
    SetYielding {
        /// It takes no new work, and begins none of what it holds.
        yields: bool,
        /// What runs is stopped, and goes on where it was.
        stopped: bool,
    },
    /// The machine is needed for long: unfinished attempts go back to their owners.
    GiveBack,
    /// The agent is about to stop: no new work; attempts that will not end within the grace go
    /// back to their owners. [`Mesh::waits_to_stop`](super::Mesh::waits_to_stop) says whether
    /// waiting makes sense.
    Stop {
        /// How long the runtime waits at most, in milliseconds.
        grace_ms: u64,
    },
    /// The agent stops now: what is left goes back, and peers are told.
    StopNow,
    /// A control stream to the peer is open.
    PeerUp(AgentId),
    /// The last control stream to the peer closed.
    PeerDown(AgentId),
    /// The peer is not a member of the mesh any more: what ties the two agents goes.
    Evicted(AgentId),
    /// So many bytes of a blob came from the peer.
    Transferred {
        /// Who sent them.
        from: AgentId,
        /// How many.
        bytes: u64,
        /// In how many milliseconds.
        ms: u64,
    },
    /// The peer said this. It passed [`Message::check`].
    Received {
        /// Who said it: the authenticated other end of the stream.
        from: AgentId,
        /// What it said.
        message: Message,
    },

    /// Owner: a person wants this done. Its plan is already on disk.
    AddJob {
        /// The job.
        job: JobId,
        /// Larger goes first.
        priority: i32,
        /// The whole source, if it is hashed already.
        source: Option<BlobRef>,
        /// The plan's tasks; their position is their index.
        tasks: Vec<TaskSpec>,
    },
    /// Owner: a person finds the job more or less urgent than before.
    SetPriority {
        /// The job.
        job: JobId,
        /// Larger goes first.
        priority: i32,
    },
    /// Owner: all tasks of the job are replaced by these; earlier results are dropped. A join that
    /// runs is ended by the runtime before it gives this input: it reads those results.
    Replan {
        /// The job.
        job: JobId,
        /// The new tasks.
        tasks: Vec<TaskSpec>,
    },
    /// Owner: the source is hashed; tasks that need the whole of it can be granted.
    SourceReady {
        /// The job.
        job: JobId,
        /// The source.
        blob: BlobRef,
    },
    /// Owner: a person cancels the job.
    CancelJob(JobId),
    /// Owner: the job cannot be done.
    FailJob {
        /// The job.
        job: JobId,
        /// Why, for people.
        errors: Vec<String>,
    },
    /// Owner: a person wants a failed or cancelled job tried again; committed tasks stay.
    RetryJob(JobId),
    /// Owner: a person removes a job that is over from the list.
    RemoveJob(JobId),
    /// Owner: the job is over, and what people see of it is durable elsewhere: it leaves the memory.
    ShelveJob(JobId),
    /// Owner: a job from the shelf is wanted again; its records, the job before its tasks.
    UnshelveJob(Vec<Record>),
    /// Owner: the piece asked for by [`Output::Cut`](super::Output::Cut) is a blob.
    PieceReady {
        /// The task.
        task: TaskId,
        /// The piece.
        blob: BlobRef,
    },
    /// Owner: a fetched result passed verification and is in the store.
    ResultGood {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
    },
    /// Owner: a result could not be fetched or did not pass. A failure that does not blame (the
    /// connection broke, this disk is full) leaves the result where it is: it is fetched again when
    /// the worker lists it again.
    ResultBad {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// Why; a failure that blames counts against the worker.
        failure: Failure,
    },
    /// Owner: the task must be done again another way (one rung lower), committed or not.
    Redo {
        /// The task.
        task: TaskId,
        /// The new specification.
        spec: TaskSpec,
    },
    /// Owner: the job's result is published.
    Joined(JobId),
    /// Submitter: a person wants the job handed over whole; its source is hashed.
    HandOver {
        /// The job.
        job: JobId,
        /// What is to be done.
        handed: HandedJob,
    },
    /// Submitter: a person wants the job back; this agent does it itself.
    TakeBack(JobId),
    /// Submitter: the custodian's result is fetched, verified and published.
    HandedPublished(JobId),
    /// Submitter: the custodian's result could not be fetched now, or it is not right.
    HandedBad {
        /// The job.
        job: JobId,
        /// Why. `Verify` and `Input`: it is not right, this agent does the job itself. `Busy`: it was
        /// not served. Other kinds: trouble of this agent's own, it is tried again.
        failure: Failure,
    },
    /// Submitter: the custodian's result cannot be published, whoever made it.
    HandedFailed {
        /// The job.
        job: JobId,
        /// Why.
        error: String,
    },
    /// Custodian: the whole source is in the store.
    CustodySource(JobId),
    /// Custodian: the job is planned. Its plan is already on disk.
    AddCustodyJob {
        /// The job.
        job: JobId,
        /// The source, in the store.
        source: BlobRef,
        /// The plan's tasks.
        tasks: Vec<TaskSpec>,
    },
    /// Custodian: this agent cannot go on with the job; another one may.
    CustodyGivenUp {
        /// The job.
        job: JobId,
        /// Why.
        why: String,
    },
    /// Custodian: nobody could do it: there is no plan for such a source.
    CustodyFailed {
        /// The job.
        job: JobId,
        /// Why.
        why: String,
    },
    /// Custodian: the result of a job of another agent is a blob, or lies in the inbox (`None`).
    CustodyResult {
        /// The job.
        job: JobId,
        /// The result.
        result: Option<BlobRef>,
    },

    /// Worker: the input of the attempt is here.
    InputReady(AttemptId),
    /// Worker: ffmpeg got this far.
    Worked {
        /// The attempt.
        attempt: AttemptId,
        /// How far.
        progress: Progress,
    },
    /// Worker: the attempt's blobs are durable in the store.
    WorkDone {
        /// The attempt.
        attempt: AttemptId,
        /// What it made.
        result: TaskResult,
    },
    /// Worker: the attempt failed.
    WorkFailed {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        failure: Failure,
    },
}
