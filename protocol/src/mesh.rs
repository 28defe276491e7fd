//! The state machine of one agent, as owner and as worker.
//!
//! **Contract of [`Mesh::handle`]:** outputs are in order; what changes records ([`Output::Save`],
//! [`Output::Erase`], [`Output::Shelve`], [`Output::Unshelve`]) is durable before a later output of
//! another kind is acted on, and neighbours of that kind ([`Output::Changed`] may stand between)
//! become durable together. Time,
//! attempt ids and everything random arrive inside inputs; all maps are ordered; the same inputs
//! give the same outputs. The core never waits: long work (cut, fetch, encode, verify, join) is an
//! output that the runtime starts and whose end comes back as an input.
//!
//! One subject a file: [`peers`] who is there, [`jobs`] what this owner wants done, [`leases`] who
//! may do it, [`work`] what this worker does for others, [`placement`] who gets what, [`forecast`]
//! when it would be done, [`hedge`] second attempts at stragglers, [`offers`]
//! who hears of work, [`fairness`] whose turn it is at a worker,
//! [`reconcile`] what two agents tell each other when they meet again, [`handover`] whole jobs
//! that this agent gave away, [`custody`] those that it keeps for others, [`shelf`] those that are over
//! and leave the memory.

pub mod custody;
mod evict;
mod fairness;
mod forecast;
pub mod handover;
mod hedge;
pub mod jobs;
pub mod leases;
mod offers;
pub mod peers;
pub mod placement;
pub mod reconcile;
pub mod shelf;
pub mod work;

use std::collections::VecDeque;

use crate::config::Config;
use crate::handover::HandedJob;
use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{TaskInput, TaskSpec};
use crate::message::{AgentInfo, Failure, Message, Progress, TaskResult};
use crate::record::{JobState, Record, RecordKey};
use crate::time::Time;

use custody::Custody;
use handover::Handovers;
use jobs::Jobs;
use peers::Peers;
use placement::Builds;
use work::Work;

/// What the runtime tells the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; sent about once a second.
    Tick,
    /// Fresh random attempt ids, asked for by [`Output::NeedIds`].
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
    /// back to their owners. [`Mesh::waits_to_stop`] says whether waiting makes sense.
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
    /// Owner: the piece asked for by [`Output::Cut`] is a blob.
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

/// What the core wants the runtime to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Make this durable before any later `Send`.
    Save(Record),
    /// Forget this durably before any later `Send`.
    Erase(RecordKey),
    /// Keep this durably apart from what [`Input::Restore`] brings, and no longer there.
    Shelve(Record),
    /// The other way: from the shelf to what [`Input::Restore`] brings.
    Unshelve(Record),
    /// Say this to a connected peer. A peer that is gone by then is no error.
    Send {
        /// To whom; never this agent itself.
        to: AgentId,
        /// What.
        message: Message,
    },
    /// Few attempt ids are left: answer with [`Input::Ids`].
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

/// Attempt ids that are asked for at a time; a new batch is asked for at half of it.
pub const IDS_BATCH: usize = 64;

/// The whole state of one agent. See the [module documentation](self) for the contract.
#[derive(Debug)]
pub struct Mesh {
    me: AgentId,
    config: Config,
    ids: VecDeque<AttemptId>,
    ids_asked: bool,
    peers: Peers,
    jobs: Jobs,
    work: Work,
    handovers: Handovers,
    custody: Custody,
    builds: Builds,
}

impl Output {
    /// Whether it changes what is durable.
    pub fn is_record(&self) -> bool {
        matches!(self, Output::Save(_) | Output::Erase(_) | Output::Shelve(_) | Output::Unshelve(_))
    }
}

impl Mesh {
    /// An agent that knows nothing yet.
    pub fn new(me: AgentId, config: Config) -> Mesh {
        Mesh {
            me,
            config,
            ids: VecDeque::new(),
            ids_asked: false,
            peers: Peers::default(),
            jobs: Jobs::default(),
            work: Work::default(),
            handovers: Handovers::default(),
            custody: Custody::default(),
            builds: Builds::default(),
        }
    }

    /// This agent.
    pub fn me(&self) -> AgentId {
        self.me
    }

    /// Who is there.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// What this owner wants done.
    pub fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    /// What this worker does.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// Whole jobs that this agent handed over.
    pub fn handovers(&self) -> &Handovers {
        &self.handovers
    }

    /// Whole jobs that this agent keeps for others.
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// The one door: takes an input, changes the state, and returns what is to be done, in order.
    pub fn handle(&mut self, now: Time, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.notice_sleep(now, matches!(input, Input::Tick));
        let moves = placement::may_move_work(&input);
        self.dispatch(now, input, &mut out);
        if moves {
            self.place(now, &mut out);
        }
        self.schedule_work(&mut out);
        self.loop_back(now, &mut out);
        // Bids come last: what this agent grants itself meanwhile is no seat for others.
        while self.say_bids(&mut out) {
            self.loop_back(now, &mut out);
        }
        self.ask_for_ids(&mut out);
        out
    }

    fn dispatch(&mut self, now: Time, input: Input, out: &mut Vec<Output>) {
        self.builds.note(&input);
        match input {
            Input::Tick => self.on_tick(now, out),
            Input::Ids(ids) => self.on_ids(ids),
            Input::Restore(records) => self.on_restore(now, records, out),
            Input::Local(info) => self.on_local(now, info, out),
            Input::SetPaused(paused) => self.on_set_paused(paused, out),
            Input::SetOffHours(off) => self.on_set_off_hours(off, out),
            Input::SetYielding { yields, stopped } => self.on_set_yielding(yields, stopped, out),
            Input::GiveBack => self.give_back(out),
            Input::Stop { grace_ms } => self.on_stop(grace_ms, out),
            Input::StopNow => self.on_stop_now(out),
            Input::PeerUp(peer) => self.on_peer_up(now, peer, out),
            Input::PeerDown(peer) => self.on_peer_down(now, peer),
            Input::Evicted(peer) => self.on_evicted(now, peer, out),
            Input::Received { from, message } => self.on_message(now, from, message, out),
            Input::Transferred { from, bytes, ms } => self.on_transferred(now, from, bytes, ms),
            Input::AddJob { job, priority, source, tasks } => {
                self.on_add_job(now, job, priority, source, tasks, out);
            }
            Input::SetPriority { job, priority } => self.on_set_priority(job, priority, out),
            Input::Replan { job, tasks } => self.on_replan(now, job, tasks, out),
            Input::SourceReady { job, blob } => self.on_source_ready(job, blob, out),
            Input::CancelJob(job) => self.on_cancel_job(job, out),
            Input::FailJob { job, errors } => self.on_fail_job(job, errors, out),
            Input::RetryJob(job) => self.on_retry_job(now, job, out),
            Input::RemoveJob(job) => self.on_remove_job(job, out),
            Input::ShelveJob(job) => self.on_shelve_job(job, out),
            Input::UnshelveJob(records) => self.on_unshelve_job(now, records, out),
            Input::PieceReady { task, blob } => self.on_piece_ready(task, blob, out),
            Input::ResultGood { attempt, task } => self.on_result_good(attempt, task, out),
            Input::ResultBad { attempt, task, failure } => {
                self.on_result_bad(now, attempt, task, failure, out);
            }
            Input::Redo { task, spec } => self.on_redo(now, task, spec, out),
            Input::Joined(job) => self.on_joined(job, out),
            Input::HandOver { job, handed } => self.on_hand_over(now, job, handed, out),
            Input::TakeBack(job) => self.take_back(now, job, out),
            Input::HandedPublished(job) => self.on_handed_published(job, out),
            Input::HandedBad { job, failure } => self.on_handed_bad(now, job, failure, out),
            Input::HandedFailed { job, error } => self.on_handed_failed(job, error, out),
            Input::CustodySource(job) => self.on_custody_source(job, out),
            Input::AddCustodyJob { job, source, tasks } => {
                self.on_add_custody_job(now, job, source, tasks, out);
            }
            Input::CustodyFailed { job, why } => self.on_custody_failed(job, why, out),
            Input::CustodyGivenUp { job, why } => self.on_custody_given_up(job, why, out),
            Input::CustodyResult { job, result } => self.on_custody_result(job, result, out),
            Input::InputReady(attempt) => self.on_input_ready(attempt),
            Input::Worked { attempt, progress } => self.on_worked(attempt, progress),
            Input::WorkDone { attempt, result } => self.on_work_done(now, attempt, result, out),
            Input::WorkFailed { attempt, failure } => {
                self.on_work_failed(now, attempt, failure, out);
            }
        }
    }

    fn on_message(&mut self, now: Time, from: AgentId, message: Message, out: &mut Vec<Output>) {
        self.heard(now, from);
        match message {
            Message::Info(info) => self.on_info(now, from, info, out),
            Message::Heartbeat { held } => self.on_heartbeat(now, from, held, out),
            Message::Offer { job, work } => self.on_offer(from, job, &work, out),
            Message::Accept { job, want } => self.on_accept(from, job, want, out),
            Message::Decline { job } => self.on_decline(from, job),
            Message::Grant { attempt, task, spec, input, blob } => {
                let grant = work::Grant { attempt, owner: from, task, spec, input, blob };
                self.on_grant(now, grant, out);
            }
            Message::Done { attempt, task, result } => {
                self.on_done(now, from, attempt, task, result, out);
            }
            Message::Failed { attempt, task, failure } => {
                self.on_failed(now, from, attempt, task, failure, out);
            }
            Message::Verdict { attempt, verdict } => self.on_verdict(from, attempt, verdict, out),
            Message::Goodbye => self.on_goodbye(now, from, out),
            Message::HandOver { job, epoch, handed } => {
                self.on_asked_to_keep(now, from, job, epoch, handed, out);
            }
            Message::Custody { held } => self.on_custody(now, from, held, out),
            Message::Release { job, epoch } => self.on_release(from, job, epoch, out),
            // Who belongs to the mesh is decided before the core hears anything.
            Message::Roster { .. } => {}
        }
    }

    /// What this agent says to itself never leaves it: the owner's own machine works through the
    /// same path as any other. Terminates because each message asks for strictly less than the
    /// one before it: offer → accept → grant → (work) → done → verdict.
    fn loop_back(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut at = 0;
        while at < out.len() {
            let to_me = matches!(&out[at], Output::Send { to, .. } if *to == self.me);
            if !to_me {
                at += 1;
                continue;
            }
            let Output::Send { message, .. } = out.remove(at) else { continue };
            self.builds.heard(&message);
            let mut more = Vec::new();
            self.on_message(now, self.me, message, &mut more);
            self.place(now, &mut more);
            self.schedule_work(&mut more);
            out.append(&mut more);
        }
    }

    fn on_ids(&mut self, ids: Vec<AttemptId>) {
        self.ids.extend(ids);
        self.ids_asked = false;
    }

    fn ask_for_ids(&mut self, out: &mut Vec<Output>) {
        if self.ids.len() < IDS_BATCH / 2 && !self.ids_asked {
            self.ids_asked = true;
            out.push(Output::NeedIds);
        }
    }

    fn on_tick(&mut self, now: Time, out: &mut Vec<Output>) {
        self.tick_peers(now, out);
        self.tick_leases(now, out);
        self.tick_hedges(now, out);
        self.tick_offers(now, out);
        self.tick_work(now, out);
        self.tick_handovers(now, out);
        self.tick_custody(now, out);
    }

    fn on_restore(&mut self, now: Time, records: Vec<Record>, out: &mut Vec<Output>) {
        for record in records {
            match record {
                Record::Job(job) => self.restore_job(job),
                Record::Task(task) => self.restore_task(now, task, out),
                Record::Work(work) => self.restore_work(now, work),
                Record::Handed(handed) => self.restore_handed(now, handed),
                Record::Custody(custody) => self.restore_custody(now, custody),
                Record::Paused(paused) => self.work.paused = paused,
            }
        }
        self.resume_jobs(out);
        self.resume_work(out);
        self.resume_custody(out);
        self.resume_handovers(out);
    }

    fn on_stop(&mut self, grace_ms: u64, out: &mut Vec<Output>) {
        self.work.stopping = true;
        self.work.grace_ms = grace_ms;
        self.return_work(grace_ms, out);
        self.bid_again();
    }

    /// Whether something will soon be over that a stop would lose or put off: attempts that end
    /// within the grace, results that a connected owner is about to fetch, a film being joined.
    pub fn waits_to_stop(&self) -> bool {
        let joins = self.jobs.iter().any(|job| job.record.state == JobState::Joining);
        let there = |owner| {
            self.peers.get(owner).is_some_and(|peer| peer.state == peers::PeerState::Connected)
        };
        joins
            || self.work.held().any(|held| match held.stage {
                work::Stage::Running(_) => held.ends_within(self.work.grace_ms),
                work::Stage::Done { .. } => there(held.record.owner),
                work::Stage::Fetching | work::Stage::Ready => false,
            })
    }

    fn on_stop_now(&mut self, out: &mut Vec<Output>) {
        self.work.stopping = true;
        self.return_work(0, out);
        for to in self.peers.connected() {
            out.push(Output::Send { to, message: Message::Goodbye });
        }
    }
}
