//! What this owner wants done: its jobs, and how they begin, change and survive a restart.

mod end;
mod results;
mod task;

use std::collections::BTreeMap;

use crate::id::{AgentId, BlobRef, JobId, TaskId};
use crate::media::{TaskSpec, WorkClass};
use crate::message::OfferedWork;
use crate::record::{JobRecord, JobState, Record, RecordKey, TaskRecord};
use crate::time::Time;

use super::offers::{Asked, Bid};
use super::{Mesh, Output};

use task::new_task;

pub use task::{Lease, Task, TaskState};

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
