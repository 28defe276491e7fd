//! A separate, smaller model of what must be true. It sees every record that becomes durable, every
//! message that leaves, and the state after every step, and knows nothing of how `Mesh` works.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::handover::{CustodyReport, CustodyState, HandedState};
use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::message::{HeldState, Message, Verdict};
use dmc_protocol::record::{
    JobRecord, JobState, Record, RecordKey, TaskRecord, WorkRecord, WorkState,
};

use crate::executor::Io;
use crate::fixture;

/// Messages of one agent in one second beyond which something bounces.
const MESSAGES_A_SECOND_MAX: u32 = 600;
/// Ended leases and failures that one task record may carry.
const EXPIRED_MAX: usize = 64;
const FAILURES_MAX: usize = 8;

/// A fake disk: what a restarted agent finds.
pub type Disk = BTreeMap<RecordKey, Record>;

/// What the oracle remembers, and what it found.
#[derive(Debug, Default)]
pub struct Oracle {
    granted: BTreeMap<AttemptId, (TaskId, AgentId)>,
    /// Finished attempts whose owner was heard to say that it needs them no more.
    let_go: BTreeSet<AttemptId>,
    /// Custodies whose submitter was heard to say that it needs them no more.
    released: BTreeSet<JobId>,
    /// Tasks whose specification an input changed: their commit may change once.
    respecified: BTreeSet<TaskId>,
    second: BTreeMap<AgentId, (u64, u32)>,
    /// Messages that an agent got in this second: it may answer each.
    heard: BTreeMap<AgentId, (u64, u32)>,
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
            (Some(Record::Handed(old)), Record::Handed(new)) => {
                let ok = old.state == new.state || old.state.can_become(&new.state);
                self.require(ok, || {
                    format!("handed {} went from {:?} to {:?}", new.id, old.state, new.state)
                });
                let fence = old.epoch <= new.epoch;
                self.require(fence, || format!("the fence of {} went back", new.id));
            }
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
        let bounded = new.expired.len() <= EXPIRED_MAX && new.failures.len() <= FAILURES_MAX;
        self.require(bounded, || format!("the record of {} grows without end", new.id));
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
        // A liar's grants are on no disk.
        let granted = self.granted.get(&work.attempt);
        let ok = granted.is_none_or(|tie| *tie == (work.task, at));
        self.require(ok, || format!("{:?} works at another's grant", work.attempt));
    }

    /// A record is about to go from the disk of `at`. What was said to be kept is kept until its
    /// owner lets it go; nothing here takes a week.
    pub fn on_erase(&mut self, at: AgentId, old: Option<&Record>) {
        match old {
            // What an agent tells itself is no message.
            Some(Record::Work(work)) if work.owner == at => {}
            Some(Record::Work(work)) if matches!(work.state, WorkState::Done(_)) => {
                let ok = self.let_go.contains(&work.attempt);
                self.require(ok, || format!("{:?} was finished and is lost", work.attempt));
            }
            Some(Record::Custody(custody)) if custody.state != CustodyState::Fetching => {
                let ok = self.released.contains(&custody.id);
                self.require(ok, || format!("the custody of {} is lost", custody.id));
            }
            _ => {}
        }
    }

    /// A message from `from` reaches `at`, the agent with this disk.
    pub fn on_receive(
        &mut self,
        now: u64,
        at: AgentId,
        from: AgentId,
        message: &Message,
        disk: &Disk,
    ) {
        let (second, count) = self.heard.entry(at).or_default();
        if *second != now / 1_000 {
            (*second, *count) = (now / 1_000, 0);
        }
        *count += 1;
        match message {
            Message::Verdict { attempt, verdict: Verdict::Drop | Verdict::Unknown } => {
                if let Some(work) = work_on_disk(disk, *attempt)
                    && work.owner == from
                {
                    self.let_go.insert(*attempt);
                }
            }
            Message::Release { job, epoch } => {
                if let Some(Record::Custody(custody)) = disk.get(&RecordKey::Custody(*job))
                    && custody.from == from
                    && *epoch >= custody.epoch
                {
                    self.released.insert(*job);
                }
            }
            _ => {}
        }
    }

    /// A message leaves: nobody talks without end.
    pub fn count_message(&mut self, now: u64, from: AgentId, message: &Message) {
        let (second, count) = self.second.entry(from).or_default();
        if *second != now / 1_000 {
            (*second, *count) = (now / 1_000, 0);
        }
        *count += 1;
        let heard = self.heard.get(&from).filter(|(second, _)| *second == now / 1_000);
        let answers = heard.map_or(0, |(_, count)| *count);
        let calm = *count < MESSAGES_A_SECOND_MAX + answers;
        self.require(calm, || format!("a storm of {} messages at {now} ms", message.name()));
    }

    /// A message to `to` leaves: what it says must be on disk.
    pub fn on_send(&mut self, to: AgentId, message: &Message, disk: &Disk) {
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
                        HeldState::Queued | HeldState::Running(_) | HeldState::Paused(_) => {
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
            Message::Verdict { attempt, verdict } => {
                self.on_send_verdict(to, *attempt, *verdict, disk);
            }
            Message::Custody { held } => {
                for (job, _, report) in held {
                    self.on_send_report(*job, report, disk);
                }
            }
            Message::HandOver { job, epoch, .. } => {
                let saved = matches!(disk.get(&RecordKey::Handed(*job)),
                    Some(Record::Handed(handed)) if handed.epoch == *epoch
                        && handed.to == Some(to));
                self.require(saved, || format!("hands {job} over before its save"));
            }
            _ => {}
        }
    }

    fn on_send_verdict(&mut self, to: AgentId, attempt: AttemptId, verdict: Verdict, disk: &Disk) {
        // Somebody who lists the attempt of another is told so.
        let tie = self.granted.get(&attempt).filter(|(_, worker)| *worker == to);
        let task = tie.map(|(task, _)| *task);
        let record = task.and_then(|task| match disk.get(&RecordKey::Task(task)) {
            Some(Record::Task(record)) => Some(record),
            _ => None,
        });
        let wanted = record.is_some_and(|task| {
            task.leases.contains_key(&attempt) || task.expired.contains_key(&attempt)
        });
        let gone = verdict != Verdict::Keep;
        self.require(!(gone && wanted), || {
            format!("drops {attempt:?}, which the disk still wants")
        });
    }

    fn on_send_report(&mut self, job: JobId, report: &CustodyReport, disk: &Disk) {
        let state = match disk.get(&RecordKey::Custody(job)) {
            Some(Record::Custody(custody)) => Some(&custody.state),
            _ => None,
        };
        let saved = match report {
            // It never took it, or gave it up.
            CustodyReport::Refused(_) => matches!(state, None | Some(CustodyState::GivenUp(_))),
            CustodyReport::Fetching => state == Some(&CustodyState::Fetching),
            CustodyReport::Working { .. } => state == Some(&CustodyState::Working),
            CustodyReport::Done(result) => state == Some(&CustodyState::Done(*result)),
            CustodyReport::Delivered => state == Some(&CustodyState::Delivered),
            CustodyReport::Failed(_) => matches!(state, Some(CustodyState::Failed(_))),
        };
        self.require(saved, || format!("says {report:?} of {job} before its save"));
    }

    /// The film of a job gets its name. `was_published`: it had it, and nothing was lost since.
    pub fn on_publish(&mut self, job: JobId, was_published: bool, disk: &Disk) {
        self.require(!was_published, || format!("{job} is published twice"));
        let away = matches!(disk.get(&RecordKey::Handed(job)),
            Some(Record::Handed(handed)) if handed.state == HandedState::Away);
        self.require(!away, || format!("{job} is published here and is somebody else's"));
    }

    /// After every step of an agent.
    pub fn after_step(&mut self, mesh: &Mesh, io: &Io, slots: u32, agents: usize, config: &Config) {
        let (slots, ahead) = (slots as usize, config.grants_ahead as usize);
        let running = mesh.work().running().max(io.running());
        self.require(running <= slots, || format!("{running} run on {slots} slots"));
        let held = mesh.work().unfinished();
        self.require(held <= slots + ahead, || format!("holds {held} with {slots} slots"));
        let met = mesh.peers().iter().count();
        self.require(met <= agents, || format!("knows {met} of {agents} agents"));
    }

    /// Once all is over: nothing may be left on a living agent. `excused` agents are dead or lie.
    pub fn after_all(&mut self, mesh: &Mesh, io: &Io, disk: &Disk, excused: &BTreeSet<AgentId>) {
        let me = mesh.me().short();
        // Also what others do for its custodian.
        let kept_for_excused = |job: JobId| excused.contains(&fixture::submitter_id(job));
        for held in mesh.work().held() {
            let record = &held.record;
            if excused.contains(&record.owner) || kept_for_excused(record.task.job) {
                continue;
            }
            self.fail(format!("{me} still holds {:?} ({:?})", held.record.attempt, held.stage));
        }
        let over = mesh.jobs().iter().filter(|job| job.record.state.is_over());
        for job in over.filter(|job| mesh.is_at_rest(job.record.id)) {
            self.fail(format!("{me} has {} in memory, which is over", job.record.id));
        }
        for kept in mesh.custody().iter().filter(|kept| !excused.contains(&kept.record.from)) {
            self.fail(format!("{me} still keeps {} ({:?})", kept.record.id, kept.record.state));
        }
        for record in disk.values() {
            let Record::Task(task) = record else { continue };
            let job = match disk.get(&RecordKey::Job(task.id.job)) {
                Some(Record::Job(job)) => Some(&job.state),
                _ => None,
            };
            if job.is_some_and(|state| !state.is_over()) {
                continue; // kept for an agent that is dead or lies
            }
            let free = task.leases.is_empty() && task.expired.is_empty();
            self.require(free && task.piece.is_none(), || {
                format!("{me}: {} is over and still has a lease or piece", task.id)
            });
            let elsewhere =
                matches!(disk.get(&RecordKey::Handed(task.id.job)), Some(Record::Handed(_)));
            let complete = job != Some(&JobState::Done) || task.commit.is_some() || elsewhere;
            self.require(complete, || format!("{} is missing in a done job", task.id));
        }
        for leak in io.leaks(disk, excused) {
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
