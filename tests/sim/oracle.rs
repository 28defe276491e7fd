//! A separate, smaller model of what must be true. It sees every record that is written, every
//! message that leaves, and the state after every step, and knows nothing of how `Mesh` works.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::message::{HeldState, Message, Verdict};
use dmc_protocol::record::{JobRecord, Record, RecordKey, TaskRecord, WorkRecord, WorkState};

use crate::executor::Io;

/// Messages of one agent in one second beyond which something bounces.
const MESSAGES_A_SECOND_MAX: u32 = 600;

/// A fake disk: what a restarted agent finds.
pub type Disk = BTreeMap<RecordKey, Record>;

/// What the oracle remembers, and what it found.
#[derive(Debug, Default)]
pub struct Oracle {
    granted: BTreeMap<AttemptId, (TaskId, AgentId)>,
    /// Tasks whose specification an input changed: their commit may change once.
    respecified: BTreeSet<TaskId>,
    second: BTreeMap<AgentId, (u64, u32)>,
    /// Commits of attempts whose lease had ended before.
    pub late_commits: u32,
    /// Rules that were broken, in words.
    pub broken: Vec<String>,
}

impl Oracle {
    /// Notes a broken rule. Only the first few matter: the rest follow from them.
    pub fn fail(&mut self, what: impl Into<String>) {
        if self.broken.len() < 10 {
            self.broken.push(what.into());
        }
    }

    fn require(&mut self, ok: bool, what: impl FnOnce() -> String) {
        if !ok {
            self.fail(what());
        }
    }

    /// An input replaced the task's specification.
    pub fn respecify(&mut self, task: TaskId) {
        self.respecified.insert(task);
    }

    /// A record is about to replace `old` on the disk of `at`.
    pub fn on_save(&mut self, at: AgentId, old: Option<&Record>, new: &Record) {
        match (old, new) {
            (Some(Record::Job(old)), Record::Job(new)) => self.on_save_job(old, new),
            (old, Record::Task(new)) => {
                let old = match old {
                    Some(Record::Task(old)) => Some(old),
                    _ => None,
                };
                self.on_save_task(old, new);
            }
            (_, Record::Work(work)) => self.on_save_work(at, work),
            _ => {}
        }
    }

    fn on_save_job(&mut self, old: &JobRecord, new: &JobRecord) {
        let ok = old.state == new.state || old.state.can_become(&new.state);
        self.require(ok, || format!("job {} went from {:?} to {:?}", new.id, old.state, new.state));
    }

    fn on_save_task(&mut self, old: Option<&TaskRecord>, new: &TaskRecord) {
        let ties = new.leases.iter().chain(&new.expired);
        for (attempt, worker) in ties {
            let tie = (new.id, *worker);
            let first = *self.granted.entry(*attempt).or_insert(tie);
            self.require(first == tie, || format!("{attempt:?} was granted twice"));
        }
        let before = old.and_then(|old| old.commit);
        if before == new.commit {
            return;
        }
        if before.is_some() {
            let allowed = self.respecified.remove(&new.id);
            self.require(allowed, || format!("{} lost or changed its commit", new.id));
        }
        let Some(commit) = new.commit else { return };
        let granted = self.granted.get(&commit.attempt) == Some(&(new.id, commit.worker));
        self.require(granted, || format!("{} committed what was never granted", new.id));
        let late = old.is_some_and(|old| old.expired.contains_key(&commit.attempt));
        self.late_commits += u32::from(late);
    }

    fn on_save_work(&mut self, at: AgentId, work: &WorkRecord) {
        let granted = self.granted.get(&work.attempt) == Some(&(work.task, at));
        self.require(granted, || format!("{:?} works without a grant", work.attempt));
    }

    /// A message leaves: what it says must be on disk.
    pub fn on_send(
        &mut self,
        now: u64,
        from: AgentId,
        to: AgentId,
        message: &Message,
        disk: &Disk,
    ) {
        let (second, count) = self.second.entry(from).or_default();
        if *second != now / 1_000 {
            (*second, *count) = (now / 1_000, 0);
        }
        *count += 1;
        let calm = *count < MESSAGES_A_SECOND_MAX;
        self.require(calm, || format!("a storm of {} messages at {now} ms", message.name()));
        match message {
            Message::Grant { attempt, task, .. } => {
                let saved = lease_on_disk(disk, *task, *attempt);
                self.require(saved == Some(to), || format!("grant of {attempt:?} before its save"));
            }
            Message::Done { attempt, result, .. } => {
                let state = work_on_disk(disk, *attempt).map(|work| work.state);
                let saved = state == Some(WorkState::Done(*result));
                self.require(saved, || format!("done of {attempt:?} before its save"));
            }
            Message::Heartbeat { held } => {
                for held in held {
                    let state = work_on_disk(disk, held.attempt).map(|work| work.state);
                    let saved = match held.state {
                        HeldState::Done(result) => state == Some(WorkState::Done(result)),
                        HeldState::Queued | HeldState::Running(_) => {
                            state == Some(WorkState::Queued)
                        }
                    };
                    self.require(saved, || format!("lists {:?} before its save", held.attempt));
                }
            }
            Message::Failed { attempt, .. } => {
                let gone = work_on_disk(disk, *attempt).is_none();
                self.require(gone, || format!("{attempt:?} failed and is still on disk"));
            }
            Message::Verdict { attempt, verdict: Verdict::Drop } => {
                let wanted = disk.values().any(|record| match record {
                    Record::Task(task) => {
                        task.leases.contains_key(attempt) || task.expired.contains_key(attempt)
                    }
                    _ => false,
                });
                self.require(!wanted, || format!("drops {attempt:?}, which the disk still wants"));
            }
            _ => {}
        }
    }

    /// After every step of an agent.
    pub fn after_step(&mut self, mesh: &Mesh, io: &Io, slots: u32, config: &Config) {
        let (slots, ahead) = (slots as usize, config.grants_ahead as usize);
        let running = mesh.work().running().max(io.running());
        self.require(running <= slots, || format!("{running} run on {slots} slots"));
        let held = mesh.work().unfinished();
        self.require(held <= slots + ahead, || format!("holds {held} with {slots} slots"));
    }

    /// Once all is over: nothing may be left on a living agent. `dead` owners are excused.
    pub fn after_all(&mut self, mesh: &Mesh, io: &Io, disk: &Disk, dead: &BTreeSet<AgentId>) {
        let me = mesh.me().short();
        for held in mesh.work().held().filter(|held| !dead.contains(&held.record.owner)) {
            self.fail(format!("{me} still holds {:?} ({:?})", held.record.attempt, held.stage));
        }
        let done: BTreeSet<JobId> = disk
            .values()
            .filter_map(|record| match record {
                Record::Job(job) if job.state == dmc_protocol::record::JobState::Done => {
                    Some(job.id)
                }
                _ => None,
            })
            .collect();
        for record in disk.values() {
            if let Record::Task(task) = record {
                let free = task.leases.is_empty() && task.expired.is_empty();
                self.require(free && task.piece.is_none(), || {
                    format!("{me}: {} is over and still has a lease or piece", task.id)
                });
                let committed = !done.contains(&task.id.job) || task.commit.is_some();
                self.require(committed, || format!("{} is missing in a done job", task.id));
            }
        }
        for leak in io.leaks(disk, &done, dead) {
            self.fail(format!("{me}: {leak}"));
        }
    }
}

fn lease_on_disk(disk: &Disk, task: TaskId, attempt: AttemptId) -> Option<AgentId> {
    match disk.get(&RecordKey::Task(task))? {
        Record::Task(task) => task.leases.get(&attempt).copied(),
        _ => None,
    }
}

fn work_on_disk(disk: &Disk, attempt: AttemptId) -> Option<&WorkRecord> {
    match disk.get(&RecordKey::Work(attempt))? {
        Record::Work(work) => Some(work),
        _ => None,
    }
}
