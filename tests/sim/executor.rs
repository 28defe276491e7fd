//! The fake long work of one agent: cuts, fetches, encodes, joins, and the blobs that they make.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::message::TaskResult;
use dmc_protocol::record::{Record, RecordKey};

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
    },
    /// ffmpeg runs.
    Run(AttemptId, TaskSpec),
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
}

impl Work {
    /// Its key.
    pub fn key(&self) -> WorkKey {
        match self {
            Work::Cut(task) => WorkKey::Cut(*task),
            Work::FetchInput { attempt, .. } | Work::Run(attempt, _) => WorkKey::Attempt(*attempt),
            Work::Fetch { task, .. } => WorkKey::Fetch(*task),
            Work::Join(job) => WorkKey::Join(*job),
            Work::Lower(task) => WorkKey::Lower(*task),
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
}

impl Io {
    /// Starts work; what had the same key is ended.
    pub fn start(&mut self, token: u64, work: Work) {
        self.under_way.insert(work.key(), (token, work));
    }

    /// The work with this token, if nothing ended it. It stays under way.
    pub fn get(&self, key: WorkKey, token: u64) -> Option<Work> {
        let (of, work) = self.under_way.get(&key)?;
        (*of == token).then(|| work.clone())
    }

    /// Ends work.
    pub fn end(&mut self, key: WorkKey) {
        self.under_way.remove(&key);
    }

    /// Encodes that run.
    pub fn running(&self) -> usize {
        self.under_way.values().filter(|(_, work)| matches!(work, Work::Run(..))).count()
    }

    /// The worker lets an attempt go.
    pub fn discard(&mut self, attempt: AttemptId) {
        self.end(WorkKey::Attempt(attempt));
        self.inputs.remove(&attempt);
        self.results.remove(&attempt);
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
            WorkKey::Join(of) => *of != job,
            WorkKey::Attempt(_) => true,
        });
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
        self.results.retain(|attempt, _| held(attempt));
    }

    /// What is left and should not be, once all is over.
    pub fn leaks(
        &self,
        disk: &Disk,
        done: &BTreeSet<JobId>,
        dead: &BTreeSet<AgentId>,
    ) -> Vec<String> {
        let excused = |attempt: &AttemptId| match disk.get(&RecordKey::Work(*attempt)) {
            Some(Record::Work(work)) => dead.contains(&work.owner),
            _ => false,
        };
        let mut leaks: Vec<String> = Vec::new();
        let work = self.under_way.keys().filter(|key| match key {
            WorkKey::Attempt(attempt) => !excused(attempt),
            _ => true,
        });
        leaks.extend(work.map(|key| format!("{key:?} is still under way")));
        leaks.extend(self.pieces.iter().map(|(task, _)| format!("piece of {task} is left")));
        let fetched = self.fetched.iter().filter(|(task, blob)| {
            let committed = match disk.get(&RecordKey::Task(*task)) {
                Some(Record::Task(task)) => task.commit.is_some_and(|of| of.result.media == *blob),
                _ => false,
            };
            // A failed or cancelled job keeps what is committed: a retry needs it.
            done.contains(&task.job) || !committed
        });
        leaks.extend(fetched.map(|(task, _)| format!("result of {task} is left")));
        let inputs = self.inputs.iter().filter(|attempt| !excused(attempt));
        leaks.extend(inputs.map(|attempt| format!("input of {attempt:?} is left")));
        let results = self.results.keys().filter(|attempt| !excused(attempt));
        leaks.extend(results.map(|attempt| format!("blobs of {attempt:?} are left")));
        leaks
    }
}
