//! The fake long work of one agent: cuts, fetches, encodes, joins, and the blobs that they make.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::handover::CustodyState;
use dmc_protocol::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::message::TaskResult;
use dmc_protocol::record::{JobState, Record, RecordKey, WorkState};

use crate::fixture;
use crate::oracle::Disk;

/// Long work under way. Its end is an event that carries the same token; work that was ended or
/// replaced meanwhile has another token or none.
#[derive(Debug, Clone)]
pub enum Work {
    /// A piece is cut.
    Cut(TaskId),
    /// An input comes from its owner.
    FetchInput {
        /// The attempt.
        attempt: AttemptId,
        /// Who has it.
        owner: AgentId,
        /// The task.
        task: TaskId,
        /// The bytes.
        blob: BlobRef,
        /// When the owner's silence on the line ends the fetch.
        until: u64,
    },
    /// ffmpeg runs.
    Run {
        /// The attempt.
        attempt: AttemptId,
        /// What is done.
        spec: TaskSpec,
        /// How long it takes in milliseconds.
        takes_ms: u64,
    },
    /// A result comes from its worker.
    Fetch {
        /// The attempt.
        attempt: AttemptId,
        /// The task.
        task: TaskId,
        /// Who has it.
        from: AgentId,
        /// The bytes.
        result: TaskResult,
        /// After this moment the owner gives up for now.
        until: u64,
    },
    /// The film is joined.
    Join(JobId),
    /// Another way to do a task is looked for.
    Lower(TaskId),
    /// A job that this agent owns (again) is planned.
    Plan(JobId),
    /// The source of a job of another agent comes.
    FetchSource {
        /// The job.
        job: JobId,
        /// Who has it.
        from: AgentId,
        /// The bytes.
        source: BlobRef,
    },
    /// The published film becomes a blob for its submitter.
    Keep(JobId),
    /// The finished film comes home from its custodian.
    FetchHanded {
        /// The job.
        job: JobId,
        /// Who has it.
        from: AgentId,
        /// The bytes.
        result: BlobRef,
        /// After this moment the submitter gives up for now.
        until: u64,
    },
}

/// What makes two works the same: a new one ends the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkKey {
    /// A cut for this task.
    Cut(TaskId),
    /// Input or encode of this attempt.
    Attempt(AttemptId),
    /// A fetch for this task.
    Fetch(TaskId),
    /// A join of this job.
    Join(JobId),
    /// The search for another way to do this task.
    Lower(TaskId),
    /// The planning of this job.
    Plan(JobId),
    /// The fetch of this job's source.
    Source(JobId),
    /// The import of this job's result.
    Keep(JobId),
    /// The fetch of this job's result from its custodian.
    Handed(JobId),
}

impl Work {
    /// Its key.
    pub fn key(&self) -> WorkKey {
        match self {
            Work::Cut(task) => WorkKey::Cut(*task),
            Work::FetchInput { attempt, .. } | Work::Run { attempt, .. } => {
                WorkKey::Attempt(*attempt)
            }
            Work::Fetch { task, .. } => WorkKey::Fetch(*task),
            Work::Join(job) => WorkKey::Join(*job),
            Work::Lower(task) => WorkKey::Lower(*task),
            Work::Plan(job) => WorkKey::Plan(*job),
            Work::FetchSource { job, .. } => WorkKey::Source(*job),
            Work::Keep(job) => WorkKey::Keep(*job),
            Work::FetchHanded { job, .. } => WorkKey::Handed(*job),
        }
    }
}

/// Long work and blobs of one agent.
#[derive(Debug, Default)]
pub struct Io {
    under_way: BTreeMap<WorkKey, (u64, Work)>,
    /// Owner: pieces that exist.
    pub pieces: BTreeSet<(TaskId, BlobRef)>,
    /// Owner: results that were fetched.
    pub fetched: BTreeSet<(TaskId, BlobRef)>,
    /// Worker: attempts whose input is here.
    pub inputs: BTreeSet<AttemptId>,
    /// Worker: results that are kept.
    pub results: BTreeMap<AttemptId, TaskResult>,
    /// Custodian: sources of jobs of others.
    pub sources: BTreeMap<JobId, BlobRef>,
    /// Custodian: finished films of jobs of others.
    pub kept: BTreeMap<JobId, BlobRef>,
    /// Films that have their name here, and the start of the agent in which they got it last.
    pub published: BTreeMap<JobId, u64>,
}

impl Io {
    /// Starts work; what had the same key is ended.
    pub fn start(&mut self, token: u64, work: Work) {
        self.under_way.insert(work.key(), (token, work));
    }

    /// The work with this token, if nothing ended it. It stays under way.
    pub fn get(&self, key: WorkKey, token: u64) -> Option<&Work> {
        let (of, work) = self.under_way.get(&key)?;
        (*of == token).then_some(work)
    }

    /// Ends work.
    pub fn end(&mut self, key: WorkKey) {
        self.under_way.remove(&key);
    }

    /// Encodes that run.
    pub fn running(&self) -> usize {
        self.under_way.values().filter(|(_, work)| matches!(work, Work::Run { .. })).count()
    }

    /// The worker lets an attempt go, and its result as far as the core knows of it.
    pub fn discard(&mut self, attempt: AttemptId, with_result: bool) {
        self.end(WorkKey::Attempt(attempt));
        self.inputs.remove(&attempt);
        if with_result {
            self.results.remove(&attempt);
        }
    }

    /// The owner lets a result go, or its fetch.
    pub fn drop_result(&mut self, task: TaskId, result: &TaskResult) {
        let key = WorkKey::Fetch(task);
        let fetching = self.under_way.get(&key);
        if matches!(fetching, Some((_, Work::Fetch { result: of, .. })) if of == result) {
            self.end(key);
        }
        self.fetched.remove(&(task, result.media));
    }

    /// The job is over: its owner's IO ends.
    pub fn job_over(&mut self, job: JobId) {
        self.under_way.retain(|key, _| match key {
            WorkKey::Cut(task) | WorkKey::Fetch(task) | WorkKey::Lower(task) => task.job != job,
            WorkKey::Join(of) | WorkKey::Plan(of) => *of != job,
            WorkKey::Attempt(_) | WorkKey::Source(_) | WorkKey::Keep(_) | WorkKey::Handed(_) => {
                true
            }
        });
    }

    /// The custodian lets a job go, and its film as far as the core knows of it.
    pub fn end_custody(&mut self, job: JobId, result: Option<BlobRef>) {
        self.job_over(job);
        self.end(WorkKey::Source(job));
        self.end(WorkKey::Keep(job));
        self.sources.remove(&job);
        if self.kept.get(&job) == result.as_ref() {
            self.kept.remove(&job);
        }
        self.published.remove(&job);
    }

    /// A crash ends all work. At the next start blobs that no record names are swept.
    pub fn crash(&mut self, disk: &Disk) {
        self.under_way.clear();
        let task = |id: &TaskId| match disk.get(&RecordKey::Task(*id)) {
            Some(Record::Task(task)) => Some(task),
            _ => None,
        };
        self.pieces.retain(|(id, blob)| task(id).is_some_and(|task| task.piece == Some(*blob)));
        self.fetched.retain(|(id, blob)| {
            task(id).and_then(|task| task.commit).is_some_and(|of| of.result.media == *blob)
        });
        let held = |attempt: &AttemptId| disk.contains_key(&RecordKey::Work(*attempt));
        self.inputs.retain(held);
        self.results.retain(|attempt, _| match disk.get(&RecordKey::Work(*attempt)) {
            Some(Record::Work(work)) => work.state != WorkState::Queued,
            _ => false,
        });
        let custody = |job: &JobId| match disk.get(&RecordKey::Custody(*job)) {
            Some(Record::Custody(custody)) => Some(&custody.state),
            _ => None,
        };
        self.sources.retain(|job, _| custody(job).is_some());
        self.kept.retain(|job, _| matches!(custody(job), Some(CustodyState::Done(_))));
    }

    /// What is left and should not be, once all is over. `excused` owners are dead or lie.
    pub fn leaks(&self, disk: &Disk, excused: &BTreeSet<AgentId>) -> Vec<String> {
        let done: BTreeSet<JobId> = disk.values().filter_map(done_job).collect();
        let kept_for_excused = |job: &JobId| excused.contains(&fixture::submitter_id(*job));
        let of_excused = |attempt: &AttemptId| match disk.get(&RecordKey::Work(*attempt)) {
            Some(Record::Work(work)) => {
                excused.contains(&work.owner) || kept_for_excused(&work.task.job)
            }
            _ => false,
        };
        let mut leaks: Vec<String> = Vec::new();
        let work = self.under_way.keys().filter(|key| match key {
            WorkKey::Attempt(attempt) => !of_excused(attempt),
            WorkKey::Source(job) => !kept_for_excused(job),
            WorkKey::Cut(task) | WorkKey::Fetch(task) | WorkKey::Lower(task) => {
                !kept_for_excused(&task.job)
            }
            WorkKey::Join(job) | WorkKey::Plan(job) | WorkKey::Keep(job) => !kept_for_excused(job),
            WorkKey::Handed(_) => true,
        });
        leaks.extend(work.map(|key| format!("{key:?} is still under way")));
        let pieces = self.pieces.iter().filter(|(task, _)| !kept_for_excused(&task.job));
        leaks.extend(pieces.map(|(task, _)| format!("piece of {task} is left")));
        let fetched = self.fetched.iter().filter(|(task, blob)| {
            let committed = match disk.get(&RecordKey::Task(*task)) {
                Some(Record::Task(task)) => task.commit.is_some_and(|of| of.result.media == *blob),
                _ => false,
            };
            // A failed or cancelled job keeps what is committed: a retry needs it.
            (done.contains(&task.job) || !committed) && !kept_for_excused(&task.job)
        });
        leaks.extend(fetched.map(|(task, _)| format!("result of {task} is left")));
        let inputs = self.inputs.iter().filter(|attempt| !of_excused(attempt));
        leaks.extend(inputs.map(|attempt| format!("input of {attempt:?} is left")));
        let results = self.results.keys().filter(|attempt| !of_excused(attempt));
        leaks.extend(results.map(|attempt| format!("blobs of {attempt:?} are left")));
        let films =
            self.sources.keys().chain(self.kept.keys()).filter(|job| !kept_for_excused(job));
        leaks.extend(films.map(|job| format!("source or film of {job} is left")));
        leaks
    }
}

fn done_job(record: &Record) -> Option<JobId> {
    match record {
        Record::Job(job) if job.state == JobState::Done => Some(job.id),
        _ => None,
    }
}
