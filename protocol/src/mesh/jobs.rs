//! What this owner wants done: its jobs, their tasks, and how they end.

use std::collections::BTreeMap;

use crate::handover::HandedEnd;
use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{TaskInput, TaskSpec, WorkClass};
use crate::message::{Failure, FailureKind, Message, OfferedWork, Progress, TaskResult, Verdict};
use crate::record::{Commit, JobRecord, JobState, Record, RecordKey, TaskRecord};
use crate::time::Time;

use super::offers::{Asked, Bid};
use super::peers::PeerState;
use super::{Mesh, Output};

/// Where a task stands, as people see it.
///
/// ```text
/// Waiting ─▶ Cutting ─▶ Ready ─▶ Leased ─▶ Fetching ─▶ Committed
///                         ▲────────┴──────────┘   (lease ended, result bad)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its input is not there yet.
    Waiting,
    /// Its piece is being cut.
    Cutting,
    /// It can be granted.
    Ready,
    /// At least one worker holds a lease.
    Leased,
    /// A result is being fetched and verified.
    Fetching,
    /// A verified result is in the owner's store.
    Committed,
}

impl TaskState {
    /// Whether nobody has been given it yet.
    pub(super) fn is_left(self) -> bool {
        matches!(self, TaskState::Waiting | TaskState::Cutting | TaskState::Ready)
    }
}

/// A lease as its owner sees it.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// When it was granted, or when this agent started.
    pub granted: Time,
    /// What the worker last told, once it runs.
    pub progress: Option<Progress>,
    /// When that last changed; at first when it was granted.
    pub(super) moved: Time,
    /// The most frames and milliseconds that it told of.
    pub(super) farthest: Option<(u64, u64)>,
    /// How often it began anew.
    pub(super) begun: u32,
    /// When it was first heard to run.
    pub(super) started: Option<Time>,
    /// Since when its worker's machine is needed by somebody else, and it is stopped.
    pub(super) paused: Option<Time>,
}

impl Lease {
    pub(super) fn new(now: Time) -> Lease {
        let (progress, farthest, started, paused) = (None, None, None, None);
        Lease { granted: now, progress, moved: now, farthest, begun: 0, started, paused }
    }

    /// Whether it is stopped at its worker, whose machine somebody else needs.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// How much of the task it has done, in parts of 1,000, by the most that it told of.
    pub(super) fn part(&self, spec: &TaskSpec) -> u64 {
        let Some((frames, media_ms)) = self.farthest else { return 0 };
        let (done, all) = match (spec, spec.frames()) {
            (TaskSpec::Audio(task), _) => (media_ms, task.duration_us / 1_000),
            (TaskSpec::Sound(task), _) => (media_ms, task.duration_us / 1_000),
            (_, Some(all)) => (frames, all),
            _ => return 0,
        };
        done.min(all).saturating_mul(1_000).checked_div(all).unwrap_or(0)
    }
}

/// One task of a job.
#[derive(Debug, Clone)]
pub struct Task {
    /// The durable part.
    pub record: TaskRecord,
    /// Times and progress of the leases in the record.
    pub leases: BTreeMap<AttemptId, Lease>,
    pub(super) cutting: bool,
    /// Another way to do it is being looked for.
    pub(super) lowering: bool,
    pub(super) fetching: Option<(AttemptId, AgentId, TaskResult)>,
    /// Fetches of a result that its worker did not serve.
    pub(super) fetch_tries: BTreeMap<AttemptId, u32>,
}

impl Task {
    fn new(record: TaskRecord) -> Task {
        Task {
            record,
            leases: BTreeMap::new(),
            cutting: false,
            lowering: false,
            fetching: None,
            fetch_tries: BTreeMap::new(),
        }
    }

    /// Where it stands. `source` says whether the whole source is hashed.
    pub fn state(&self, source: bool) -> TaskState {
        let has_input = match self.record.spec.input() {
            TaskInput::Piece => self.record.piece.is_some(),
            TaskInput::Source => source,
        };
        if self.record.commit.is_some() {
            TaskState::Committed
        } else if self.fetching.is_some() {
            TaskState::Fetching
        } else if !self.record.leases.is_empty() {
            TaskState::Leased
        } else if self.lowering {
            TaskState::Waiting
        } else if self.cutting {
            TaskState::Cutting
        } else if has_input {
            TaskState::Ready
        } else {
            TaskState::Waiting
        }
    }

    /// How far it is, in parts of 10,000: a film in one piece is one task, and takes long.
    pub(super) fn done(&self) -> u16 {
        if self.record.commit.is_some() {
            return 10_000;
        }
        let frames = self.record.spec.frames().filter(|frames| *frames > 0);
        let told = self.leases.values().filter_map(|lease| lease.progress);
        let furthest = told.map(|progress| progress.frames).max();
        let (Some(frames), Some(furthest)) = (frames, furthest) else { return 0 };
        let part = furthest.min(frames).saturating_mul(9_999) / frames;
        u16::try_from(part).unwrap_or(0)
    }

    pub(super) fn input_blob(&self, source: Option<BlobRef>) -> Option<BlobRef> {
        match self.record.spec.input() {
            TaskInput::Piece => self.record.piece,
            TaskInput::Source => source,
        }
    }

    pub(super) fn save(&self, out: &mut Vec<Output>) {
        out.push(Output::Save(Record::Task(self.record.clone())));
    }
}

/// One job of this owner.
#[derive(Debug, Clone)]
pub struct Job {
    /// The durable part.
    pub record: JobRecord,
    /// Its tasks, by index.
    pub tasks: Vec<Task>,
}

impl Job {
    /// Whether work may be granted.
    pub fn is_active(&self) -> bool {
        self.record.state == JobState::Active
    }

    pub(super) fn save(&self, out: &mut Vec<Output>) {
        out.push(Output::Save(Record::Job(self.record.clone())));
        out.push(Output::Changed(self.record.id));
    }

    /// Whether a task waits for somebody to take it.
    pub(super) fn has_work_left(&self) -> bool {
        let source = self.record.source.is_some();
        self.tasks.iter().any(|task| task.state(source).is_left())
    }

    /// Work that is not granted yet, by class.
    pub(super) fn work_left(&self) -> Vec<OfferedWork> {
        let source = self.record.source.is_some();
        let mut by_class: BTreeMap<WorkClass, OfferedWork> = BTreeMap::new();
        for task in &self.tasks {
            if !task.state(source).is_left() {
                continue;
            }
            let (class, requires) = (task.record.spec.class(), task.record.spec.requires());
            let empty = OfferedWork { class, requires, tasks: 0, units: 0 };
            let offered = by_class.entry(class).or_insert(empty);
            offered.tasks = offered.tasks.saturating_add(1);
            offered.units = offered.units.saturating_add(task.record.spec.work_units());
        }
        by_class.into_values().take(crate::config::CLASSES_MAX).collect()
    }
}

/// The owner side of the state.
#[derive(Debug, Default)]
pub struct Jobs {
    pub(super) all: BTreeMap<JobId, Job>,
    pub(super) bids: BTreeMap<AgentId, Bid>,
    /// Who has heard of which job.
    pub(super) asked: BTreeMap<JobId, Asked>,
    /// Samples of peers that were drawn so far.
    pub(super) samples: u64,
}

impl Jobs {
    /// One job.
    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.all.get(&id)
    }

    /// All jobs in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Job> {
        self.all.values()
    }

    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        self.all.get_mut(&id.job)?.tasks.get_mut(id.index as usize)
    }

    pub(super) fn task(&self, id: TaskId) -> Option<&Task> {
        self.all.get(&id.job)?.tasks.get(id.index as usize)
    }

    /// Attempts that the worker holds a lease for, over all jobs, without those that it has
    /// finished and whose result is being fetched.
    pub fn leases_of(&self, worker: AgentId) -> usize {
        self.lease_counts().get(&worker).copied().unwrap_or(0) as usize
    }

    /// [`Jobs::leases_of`] of every worker in one pass.
    pub(super) fn lease_counts(&self) -> BTreeMap<AgentId, u32> {
        let mut counts = BTreeMap::new();
        for task in self.all.values().flat_map(|job| &job.tasks) {
            let fetched = task.fetching.map(|(attempt, ..)| attempt);
            let leases = task.record.leases.iter().filter(|(of, _)| Some(**of) != fetched);
            for (_, worker) in leases {
                *counts.entry(*worker).or_default() += 1;
            }
        }
        counts
    }
}

fn new_task(job: JobId, index: usize, spec: TaskSpec) -> Task {
    Task::new(TaskRecord {
        id: TaskId { job, index: u32::try_from(index).unwrap_or(u32::MAX) },
        spec,
        piece: None,
        leases: BTreeMap::new(),
        expired: BTreeMap::new(),
        failures: Vec::new(),
        commit: None,
    })
}

/// Ends what runs for the task: its attempts, its piece, its fetch.
fn end_task(task: &mut Task, out: &mut Vec<Output>) {
    let id = task.record.id;
    task.leases.clear();
    task.fetch_tries.clear();
    task.cutting = false;
    task.lowering = false;
    let mut attempts = std::mem::take(&mut task.record.leases);
    attempts.append(&mut task.record.expired);
    if let Some((attempt, worker, result)) = task.fetching.take() {
        attempts.insert(attempt, worker);
        out.push(Output::DropResult { task: id, result });
    }
    if let Some(blob) = task.record.piece.take() {
        out.push(Output::ReleasePiece { task: id, blob });
    }
    for (attempt, to) in attempts {
        let message = Message::Verdict { attempt, verdict: Verdict::Drop };
        out.push(Output::Send { to, message });
    }
}

impl Mesh {
    pub(super) fn on_add_job(
        &mut self,
        now: Time,
        id: JobId,
        priority: i32,
        source: Option<BlobRef>,
        specs: Vec<TaskSpec>,
        out: &mut Vec<Output>,
    ) {
        if self.jobs.all.contains_key(&id) || !self.is_own(id) {
            return; // asked twice, or its custodian's result came while it was planned
        }
        let record = JobRecord {
            id,
            state: JobState::Active,
            tasks: u32::try_from(specs.len()).unwrap_or(u32::MAX),
            priority,
            source,
            pins: BTreeMap::new(),
        };
        let tasks: Vec<Task> =
            specs.into_iter().enumerate().map(|(at, spec)| new_task(id, at, spec)).collect();
        tasks.iter().for_each(|task| task.save(out));
        let job = Job { record, tasks };
        job.save(out);
        self.jobs.all.insert(id, job);
        self.offer(now, id, out);
        self.join_if_complete(id, out);
    }

    pub(super) fn on_set_priority(&mut self, id: JobId, priority: i32, out: &mut Vec<Output>) {
        if let Some(job) = self.jobs.all.get_mut(&id)
            && job.record.priority != priority
        {
            job.record.priority = priority;
            job.save(out);
        }
    }

    pub(super) fn on_replan(
        &mut self,
        now: Time,
        id: JobId,
        specs: Vec<TaskSpec>,
        out: &mut Vec<Output>,
    ) {
        if self.jobs.get(id).is_none_or(|job| job.record.state.is_over()) {
            return;
        }
        let returning = self.is_returning(id);
        // All records of the new plan are one batch: a crash leaves the old plan or the new one.
        let mut after = self.release_tasks(id, &mut Vec::new());
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        for task in job.tasks.iter().skip(specs.len()) {
            out.push(Output::Erase(RecordKey::Task(task.record.id)));
        }
        job.tasks =
            specs.into_iter().enumerate().map(|(at, spec)| new_task(id, at, spec)).collect();
        job.record.tasks = u32::try_from(job.tasks.len()).unwrap_or(u32::MAX);
        job.record.state = if returning { JobState::Joining } else { JobState::Active };
        job.record.pins.clear();
        job.tasks.iter().for_each(|task| task.save(out));
        job.save(out);
        out.append(&mut after);
        self.offer(now, id, out);
        self.join_if_complete(id, out);
    }

    pub(super) fn on_source_ready(&mut self, id: JobId, blob: BlobRef, out: &mut Vec<Output>) {
        if let Some(job) = self.jobs.all.get_mut(&id) {
            job.record.source = Some(blob);
            job.save(out);
        }
    }

    pub(super) fn on_piece_ready(&mut self, id: TaskId, blob: BlobRef, out: &mut Vec<Output>) {
        let wanted = self.jobs.get(id.job).is_some_and(Job::is_active);
        match self.jobs.task_mut(id) {
            Some(task) if wanted && task.cutting && task.record.commit.is_none() => {
                task.cutting = false;
                task.record.piece = Some(blob);
                task.save(out);
            }
            _ => out.push(Output::ReleasePiece { task: id, blob }),
        }
    }

    /// The person, or a fact that no retry changes, ends the job. `false`: it had ended before, or
    /// it cannot end so.
    pub(super) fn end_job(&mut self, id: JobId, state: JobState, out: &mut Vec<Output>) -> bool {
        let Some(job) = self.jobs.all.get_mut(&id) else { return false };
        if !job.record.state.can_become(&state) {
            return false;
        }
        job.record.state = state;
        job.save(out);
        let mut after = self.stop_tasks(id, out);
        out.push(Output::JobOver(id));
        out.append(&mut after);
        self.withdraw(id, out);
        self.own_work_ended(id, out);
        self.custody_job_ended(id, out);
        true
    }

    pub(super) fn on_cancel_job(&mut self, id: JobId, out: &mut Vec<Output>) {
        self.end_handed(id, HandedEnd::Cancelled, out);
        if !self.end_job(id, JobState::Cancelled, out) && self.jobs.get(id).is_none() {
            self.custody_job_ended(id, out);
        }
    }

    pub(super) fn on_fail_job(&mut self, id: JobId, errors: Vec<String>, out: &mut Vec<Output>) {
        // Own work that rests is no reason to give up a result that is on its way.
        if !self.is_returning(id) {
            self.own_plan_failed(id, &errors, out);
            self.end_job(id, JobState::Failed(errors), out);
        }
    }

    pub(super) fn on_joined(&mut self, id: JobId, out: &mut Vec<Output>) {
        // A join that was overtaken (cancelled, a task redone) must not let the results go.
        if self.end_job(id, JobState::Done, out) {
            let mut released = self.release_tasks(id, &mut Vec::new());
            out.append(&mut released);
        }
    }

    pub(super) fn on_retry_job(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        // A job of another agent is tried again by its submitter.
        if self.custody.get(id).is_some() {
            return;
        }
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        if !matches!(job.record.state, JobState::Failed(_) | JobState::Cancelled) {
            return;
        }
        job.record.state = JobState::Active;
        for task in job.tasks.iter_mut().filter(|task| task.record.commit.is_none()) {
            task.record.failures.clear();
            task.save(out);
        }
        job.save(out);
        self.own_again(now, id, out);
        // The person says that the cause is mended: nobody waits for an old back-off.
        self.peers.forgive();
        self.offer(now, id, out);
        self.join_if_complete(id, out);
    }

    pub(super) fn on_remove_job(&mut self, id: JobId, out: &mut Vec<Output>) {
        self.remove_handed(id, out);
        if !self.jobs.get(id).is_some_and(|job| job.record.state.is_over()) {
            return;
        }
        let mut after = self.release_tasks(id, &mut Vec::new());
        let Some(job) = self.jobs.all.remove(&id) else { return };
        for task in &job.tasks {
            out.push(Output::Erase(RecordKey::Task(task.record.id)));
        }
        out.push(Output::Erase(RecordKey::Job(id)));
        out.push(Output::Changed(id));
        out.append(&mut after);
    }

    /// Ends what runs for the job, keeps what is committed (a retry needs it). Returns what may be
    /// said and deleted once the changed records are durable.
    pub(super) fn stop_tasks(&mut self, id: JobId, saves: &mut Vec<Output>) -> Vec<Output> {
        let mut after = Vec::new();
        let Some(job) = self.jobs.all.get_mut(&id) else { return after };
        for task in &mut job.tasks {
            let before = after.len();
            end_task(task, &mut after);
            if after.len() > before {
                task.save(saves);
            }
        }
        after
    }

    /// Ends what runs for the job and lets its results go; see [`Mesh::stop_tasks`].
    fn release_tasks(&mut self, id: JobId, saves: &mut Vec<Output>) -> Vec<Output> {
        let mut after = self.stop_tasks(id, saves);
        let Some(job) = self.jobs.get(id) else { return after };
        for task in &job.tasks {
            if let Some(commit) = task.record.commit {
                after.push(Output::DropResult { task: task.record.id, result: commit.result });
            }
        }
        after
    }

    pub(super) fn on_redo(&mut self, now: Time, id: TaskId, spec: TaskSpec, out: &mut Vec<Output>) {
        let returning = self.is_returning(id.job);
        let Some(job) = self.jobs.all.get_mut(&id.job) else { return };
        if job.record.state.is_over() {
            return;
        }
        let Some(task) = job.tasks.get_mut(id.index as usize) else { return };
        let mut old = std::mem::replace(task, new_task(id.job, id.index as usize, spec));
        task.record.failures = std::mem::take(&mut old.record.failures);
        task.save(out);
        if job.record.state == JobState::Joining && !returning {
            job.record.state = JobState::Active;
        }
        job.save(out);
        if let Some(commit) = old.record.commit {
            out.push(Output::DropResult { task: id, result: commit.result });
        }
        end_task(&mut old, out);
        self.offer(now, id.job, out);
    }

    pub(super) fn on_result_good(&mut self, attempt: AttemptId, id: TaskId, out: &mut Vec<Output>) {
        let Some(task) = self.jobs.task_mut(id) else { return };
        let Some((_, worker, result)) = task.fetching.take_if(|(of, ..)| *of == attempt) else {
            return; // redone or cancelled meanwhile
        };
        let class = task.record.spec.class();
        task.record.commit = Some(Commit { attempt, worker, result });
        let leases = std::mem::take(&mut task.record.leases);
        let expired = std::mem::take(&mut task.record.expired);
        task.leases.clear();
        task.fetch_tries.clear();
        task.cutting = false; // a piece that still comes is released
        let piece = task.record.piece.take();
        task.save(out);
        // Durable from here on: the winner may delete its copy, the others may stop.
        let others = leases.into_iter().chain(expired).filter(|(of, _)| *of != attempt);
        for (attempt, to) in others.chain([(attempt, worker)]) {
            let message = Message::Verdict { attempt, verdict: Verdict::Drop };
            out.push(Output::Send { to, message });
        }
        if let Some(blob) = piece {
            out.push(Output::ReleasePiece { task: id, blob });
        }
        self.judge(Time::default(), worker, class, true);
        let peer = self.peers.entry(Time::default(), worker);
        peer.delivered = peer.delivered.saturating_add(1);
        out.push(Output::Changed(id.job));
        self.join_if_complete(id.job, out);
    }

    pub(super) fn on_result_bad(
        &mut self,
        now: Time,
        attempt: AttemptId,
        id: TaskId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let tries_max = self.config.fetch_tries_max;
        let Some(task) = self.jobs.task_mut(id) else { return };
        let Some((_, worker, _)) = task.fetching.take_if(|(of, ..)| *of == attempt) else { return };
        let mut failure = failure;
        if !failure.kind.blames() {
            let there =
                self.peers.get(worker).is_some_and(|peer| peer.state == PeerState::Connected);
            let Some(task) = self.jobs.task_mut(id) else { return };
            let tries = task.fetch_tries.entry(attempt).or_default();
            *tries += u32::from(there && failure.kind == FailureKind::Busy);
            if *tries < tries_max {
                // Work is dear: the worker keeps the result and lists it until it is fetched, or
                // until its silence ends the lease.
                out.push(Output::Changed(id.job));
                return;
            }
            // Whoever is there and never serves what it promised must not hold the task for ever.
            failure = Failure::new(FailureKind::Verify, failure.reason);
        }
        self.attempt_failed(now, worker, attempt, id, failure, out);
        let message = Message::Verdict { attempt, verdict: Verdict::Drop };
        out.push(Output::Send { to: worker, message });
    }

    pub(super) fn join_if_complete(&mut self, id: JobId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        if job.is_active() && job.tasks.iter().all(|task| task.record.commit.is_some()) {
            job.record.state = JobState::Joining;
            job.save(out);
            out.push(Output::Join(id));
            self.withdraw(id, out);
        }
    }

    // ---- after a restart ----

    pub(super) fn restore_job(&mut self, record: JobRecord) {
        self.jobs.all.insert(record.id, Job { record, tasks: Vec::new() });
    }

    /// Tasks come after their jobs, in the order of their index. Leases count from now: only the
    /// worker's silence ends them.
    pub(super) fn restore_task(&mut self, now: Time, record: TaskRecord, out: &mut Vec<Output>) {
        let workers: Vec<AgentId> = record.leases.values().copied().collect();
        for worker in workers {
            self.peers.entry(now, worker);
        }
        let Some(job) = self.jobs.all.get_mut(&record.id.job) else {
            out.push(Output::Erase(RecordKey::Task(record.id))); // its job was removed
            return;
        };
        let lease = Lease::new(now);
        let mut task = Task::new(record);
        task.leases = task.record.leases.keys().map(|attempt| (*attempt, lease)).collect();
        job.tasks.push(task);
    }

    pub(super) fn resume_jobs(&mut self, out: &mut Vec<Output>) {
        for job in self.jobs.all.values_mut() {
            job.tasks.sort_by_key(|task| task.record.id.index);
        }
        // One whose result comes from a custodian waits for its word.
        let joining = self.jobs.iter().filter(|job| job.record.state == JobState::Joining);
        let joining = joining.filter(|job| !self.is_returning(job.record.id));
        out.extend(joining.map(|job| Output::Join(job.record.id)));
        let ids: Vec<JobId> = self.jobs.all.keys().copied().collect();
        for id in ids {
            self.join_if_complete(id, out);
            // The crash may have come between the end of the job and the release of its results.
            if self.jobs.get(id).is_some_and(|job| job.record.state == JobState::Done) {
                let mut released = self.release_tasks(id, &mut Vec::new());
                out.append(&mut released);
            }
        }
    }
}
