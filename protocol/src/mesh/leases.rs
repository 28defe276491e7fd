//! Who may do a task, and for how long.
//!
//! A lease has no end date that two clocks would have to agree on: it lasts while its owner hears
//! the worker, and ends after [`crate::config::Config::lease_ms`] of silence on the owner's own
//! clock. A worker that comes back later may still deliver: the first verified result wins.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AgentId, AttemptId, TaskId};
use crate::message::{Failure, FailureKind, HeldState, Message, TaskResult, Verdict};
use crate::record::FailedTry;
use crate::time::Time;

use super::jobs::{Job, Lease, Task};
use super::peers::PeerState;
use super::{Mesh, Output};

/// Failures of one task that are remembered.
const FAILURES_KEPT_MAX: usize = 8;
/// Ended leases of one task whose late result is still welcome.
const EXPIRED_KEPT_MAX: usize = 64;
/// How often an attempt may begin anew before that counts as no progress.
const BEGUN_MAX: u32 = 8;
/// Frames before its segment that a worker may decode and throw away.
const PREROLL_FRAMES_MAX: u64 = 100_000;
/// Whoever waits for its input is given the time that this takes over a slow radio link.
pub(super) const INPUT_BYTES_A_MS_MIN: u64 = 500;
/// Grants in a row that may be lost on their way.
const FORGOT_MAX: u32 = 3;

impl Mesh {
    /// Ends the leases of workers that were silent for too long.
    pub(super) fn tick_leases(&mut self, now: Time, out: &mut Vec<Output>) {
        let (lease_ms, me) = (self.config.lease_ms, self.me);
        self.end_stalled(now, out);
        let peers = &self.peers;
        let mut broken = Vec::new();
        let silent = |worker: AgentId, lease: &Lease| {
            let heard = peers.get(worker).map_or(lease.granted, |peer| peer.heard);
            worker != me && now.since_ms(heard.max(lease.granted)) > lease_ms
        };
        for job in self.jobs.all.values_mut().filter(|job| job.is_active()) {
            for task in &mut job.tasks {
                let leases = task.leases.iter();
                let ended: Vec<AttemptId> = leases
                    .filter(|(id, lease)| {
                        task.record.leases.get(id).is_none_or(|worker| silent(*worker, lease))
                    })
                    .map(|(id, _)| *id)
                    .collect();
                if ended.is_empty() {
                    continue;
                }
                for attempt in ended {
                    broken.extend(task.record.leases.get(&attempt).copied());
                    expire(task, attempt);
                }
                task.save(out);
            }
        }
        broken.into_iter().for_each(|worker| self.note_broken(now, worker));
    }

    /// A worker let a lease end: its promises are worth less until it delivers.
    fn note_broken(&mut self, now: Time, worker: AgentId) {
        let peer = self.peers.entry(now, worker);
        peer.broken = peer.broken.saturating_add(1);
    }

    /// Ends leases whose worker lists them and does not get on: a program that hangs, a disk that
    /// does not answer, a liar. One that runs is the worker's failure; one that only waits there is
    /// nobody's, and stays unless somebody else could do it.
    fn end_stalled(&mut self, now: Time, out: &mut Vec<Output>) {
        let mut ended = Vec::new();
        for job in self.jobs.iter().filter(|job| job.is_active()) {
            for task in job.tasks.iter().filter(|task| !task.leases.is_empty()) {
                for (attempt, lease) in &task.leases {
                    let Some(worker) = task.record.leases.get(attempt).copied() else { continue };
                    let fetched = task.fetching.is_some_and(|(of, ..)| of == *attempt);
                    let runs = lease.progress.is_some();
                    let stall_ms = self.stall_ms(job, task, runs);
                    if fetched || now.since_ms(lease.moved) <= stall_ms {
                        continue;
                    }
                    if runs || self.others_could(now, job, task, worker) {
                        ended.push((task.record.id, *attempt, worker, runs, stall_ms));
                    }
                }
            }
        }
        for (id, attempt, worker, runs, stall_ms) in ended {
            let (kind, what) = match runs {
                true => (FailureKind::Internal, "it made no progress"),
                false => (FailureKind::Busy, "it did not begin"),
            };
            let reason = format!("{what} for {} min", stall_ms / 60_000);
            self.note_broken(now, worker);
            self.attempt_failed(now, worker, attempt, id, Failure::new(kind, reason), out);
            let message = Message::Verdict { attempt, verdict: Verdict::Drop };
            out.push(Output::Send { to: worker, message });
        }
    }

    /// How long an attempt may make no progress; one that waits for its input has time for that.
    fn stall_ms(&self, job: &Job, task: &Task, runs: bool) -> u64 {
        let input = task.input_blob(job.record.source).map_or(0, |blob| blob.bytes);
        let travel_ms = if runs { 0 } else { input / INPUT_BYTES_A_MS_MIN };
        self.config.stall_ms.saturating_add(travel_ms)
    }

    /// Whether another worker has a free seat for the task.
    fn others_could(&self, now: Time, job: &Job, task: &Task, worker: AgentId) -> bool {
        let leases = self.jobs.lease_counts();
        self.candidates(now, job, task).into_iter().any(|other| {
            let held = leases.get(&other).copied().unwrap_or(0);
            let slots = self.peers.slots_of(other);
            // One that was offered nothing, because nothing was left, or that wanted nothing then, may
            // well have room.
            let bid = self.jobs.bids.get(&other).filter(|bid| bid.want > 0);
            let seats = bid.map_or(slots, |bid| bid.want.min(slots));
            other != worker && held < seats && self.has_room_for(job, task, other)
        })
    }

    /// The worker says that it stops: its unfinished attempts go back at once.
    pub(super) fn end_leases_of(&mut self, worker: AgentId, out: &mut Vec<Output>) {
        self.expire_where(out, |of, _, _| of == worker);
    }

    /// The worker's heartbeat does not list these: a grant was lost, or the worker was
    /// reinstalled. Waiting for silence would wait for ever, because it speaks.
    pub(super) fn end_unlisted_leases(
        &mut self,
        now: Time,
        worker: AgentId,
        listed: &BTreeSet<AttemptId>,
        out: &mut Vec<Output>,
    ) {
        let grace_ms = self.config.grant_grace_ms;
        let unlisted = |attempt: AttemptId, lease: &Lease| {
            !listed.contains(&attempt) && now.since_ms(lease.granted) > grace_ms
        };
        let mut classes = BTreeSet::new();
        for task in self.jobs.iter().filter(|job| job.is_active()).flat_map(|job| &job.tasks) {
            let of = |(id, lease): (&AttemptId, &Lease)| {
                task.record.leases.get(id) == Some(&worker) && unlisted(*id, lease)
            };
            if task.leases.iter().any(of) {
                classes.insert(task.record.spec.class());
            }
        }
        if classes.is_empty() {
            return;
        }
        self.expire_where(out, |of, attempt, lease| of == worker && unlisted(attempt, lease));
        // A grant may be lost now and then; one that takes grants and forgets them every time must
        // not be given the same again at once.
        let peer = self.peers.entry(now, worker);
        peer.forgot = peer.forgot.saturating_add(1);
        if peer.forgot >= FORGOT_MAX {
            for class in classes {
                self.judge(now, worker, class, false);
            }
        }
        if let Some(bid) = self.jobs.bids.get_mut(&worker) {
            bid.want = 0;
        }
    }

    fn expire_where(
        &mut self,
        out: &mut Vec<Output>,
        ends: impl Fn(AgentId, AttemptId, &Lease) -> bool,
    ) {
        for job in self.jobs.all.values_mut().filter(|job| job.is_active()) {
            for task in &mut job.tasks {
                let record = &task.record;
                let leases = task.leases.iter().filter(|(id, lease)| {
                    record.leases.get(id).is_some_and(|worker| ends(*worker, **id, lease))
                });
                let ended: Vec<AttemptId> = leases.map(|(id, _)| *id).collect();
                if !ended.is_empty() {
                    ended.into_iter().for_each(|attempt| expire(task, attempt));
                    task.save(out);
                }
            }
        }
    }

    /// What the owner wants with an attempt that a worker says it holds.
    pub(super) fn verdict_on(&self, from: AgentId, attempt: AttemptId, id: TaskId) -> Verdict {
        let Some(job) = self.jobs.get(id.job) else { return Verdict::Unknown };
        let Some(task) = self.jobs.task(id) else { return Verdict::Unknown };
        let granted = |map: &BTreeMap<AttemptId, AgentId>| map.get(&attempt) == Some(&from);
        let known = granted(&task.record.leases) || granted(&task.record.expired);
        if known && job.is_active() && task.record.commit.is_none() {
            Verdict::Keep
        } else {
            Verdict::Drop
        }
    }

    /// A listed attempt that is wanted: its lease lives (again), and people see how far it is.
    pub(super) fn adopt_lease(
        &mut self,
        now: Time,
        from: AgentId,
        attempt: AttemptId,
        id: TaskId,
        state: HeldState,
        out: &mut Vec<Output>,
    ) {
        // A worker that said goodbye still lists what it is about to stop.
        if self.peers.get(from).is_none_or(|peer| peer.state == PeerState::Gone) {
            return;
        }
        self.peers.entry(now, from).forgot = 0;
        let paused_max_ms = self.config.paused_max_ms;
        let Some(task) = self.jobs.task_mut(id) else { return };
        if task.record.expired.remove(&attempt).is_some() {
            task.record.leases.insert(attempt, from);
            task.save(out);
        }
        // More frames than the task has are no progress.
        let frames_max = task.record.spec.frames().unwrap_or(u64::MAX / 8);
        let frames_max = frames_max.saturating_mul(4).saturating_add(PREROLL_FRAMES_MAX);
        let lease = task.leases.entry(attempt).or_insert(Lease::new(now));
        let paused = matches!(state, HeldState::Paused(_));
        let since = lease.paused.unwrap_or(now);
        lease.paused = paused.then_some(since);
        match state {
            HeldState::Running(progress) => {
                // Only more than ever before is progress.
                let farther = lease.farthest.is_none_or(|(frames, media_ms)| {
                    progress.frames > frames || progress.media_ms > media_ms
                });
                if farther && progress.frames <= frames_max {
                    let (frames, media_ms) = lease.farthest.unwrap_or_default();
                    let farthest = (progress.frames.max(frames), progress.media_ms.max(media_ms));
                    (lease.moved, lease.farthest) = (now, Some(farthest));
                }
                lease.progress = Some(progress);
                lease.started = lease.started.or(Some(now));
                out.push(Output::Changed(id.job));
            }
            // To be stopped for a while is no fault; its worker gives it back before this gets long.
            HeldState::Paused(progress) => {
                if now.since_ms(since) < paused_max_ms {
                    lease.moved = now;
                }
                lease.progress = Some(progress);
                lease.started = lease.started.or(Some(now));
                out.push(Output::Changed(id.job));
            }
            // It started again: its input has to come once more.
            HeldState::Queued if lease.progress.is_some() && lease.begun < BEGUN_MAX => {
                *lease = Lease { begun: lease.begun + 1, ..Lease::new(now) };
            }
            HeldState::Queued | HeldState::Done(_) => {}
        }
    }

    /// A worker says that an attempt is finished. The first result is fetched and verified; a
    /// second one waits until that is decided (the worker lists it again).
    pub(super) fn on_done(
        &mut self,
        now: Time,
        from: AgentId,
        attempt: AttemptId,
        id: TaskId,
        result: TaskResult,
        out: &mut Vec<Output>,
    ) {
        let verdict = self.verdict_on(from, attempt, id);
        if verdict != Verdict::Keep {
            self.refuse(now, from, id);
            out.push(Output::Send { to: from, message: Message::Verdict { attempt, verdict } });
            return;
        }
        let Some(task) = self.jobs.task_mut(id) else { return };
        if let Some(lease) = task.leases.get_mut(&attempt) {
            lease.moved = now;
        }
        // While another way is being looked for a late result only waits: the answer replaces the task.
        if task.fetching.is_none() && !task.lowering {
            // Its seat may be promised to somebody else by now; it says so next.
            if let Some(bid) = self.jobs.bids.get_mut(&from) {
                bid.want = bid.want.saturating_sub(1);
            }
            let Some(task) = self.jobs.task_mut(id) else { return };
            task.fetching = Some((attempt, from, result));
            out.push(Output::Fetch { attempt, task: id, from, result });
            out.push(Output::Changed(id.job));
        }
    }

    pub(super) fn on_failed(
        &mut self,
        now: Time,
        from: AgentId,
        attempt: AttemptId,
        id: TaskId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        if self.verdict_on(from, attempt, id) == Verdict::Keep {
            self.attempt_failed(now, from, attempt, id, failure, out);
        }
    }

    /// The attempt is over without a result: the task is free again, the worker is judged, and a
    /// task that nobody can do fails its job with every reason.
    pub(super) fn attempt_failed(
        &mut self,
        now: Time,
        worker: AgentId,
        attempt: AttemptId,
        id: TaskId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let Some(task) = self.jobs.task_mut(id) else { return };
        task.record.leases.remove(&attempt);
        task.record.expired.remove(&attempt);
        task.leases.remove(&attempt);
        task.fetch_tries.remove(&attempt);
        let (class, blames) = (task.record.spec.class(), failure.kind.blames());
        let blames_worker = failure.kind.blames_worker();
        if failure.kind == FailureKind::Unproven && task.fetching.is_none() {
            let lowering = std::mem::replace(&mut task.lowering, true);
            task.save(out);
            if !lowering {
                out.push(Output::Lower { task: id, reason: failure.reason });
            }
            return;
        }
        if blames {
            // Only so many are kept: a record has a largest size.
            if task.record.failures.len() >= FAILURES_KEPT_MAX {
                task.record.failures.remove(0);
            }
            task.record.failures.push(FailedTry { worker, failure });
        }
        task.save(out);
        out.push(Output::Changed(id.job));
        if blames {
            if blames_worker {
                self.judge(now, worker, class, false);
                self.count_refused(now, worker);
            }
            self.fail_if_hopeless(now, id, out);
        } else if let Some(bid) = self.jobs.bids.get_mut(&worker) {
            // It has no room now; its next bid says when it has.
            (bid.want, bid.wanted) = (0, 0);
        }
        if let Some(bid) = self.jobs.bids.get_mut(&worker) {
            bid.want = bid.want.saturating_sub(1);
        }
    }

    /// A result that nobody asked this agent for. One for a task that somebody else committed
    /// first is honest and not counted.
    fn refuse(&mut self, now: Time, from: AgentId, id: TaskId) {
        let honest = self.jobs.get(id.job).is_some_and(|job| {
            let task = job.tasks.get(id.index as usize);
            !job.is_active() || task.is_some_and(|task| task.record.commit.is_some())
        });
        if !honest {
            self.count_refused(now, from);
        }
    }

    pub(super) fn count_refused(&mut self, now: Time, from: AgentId) {
        let peer = self.peers.entry(now, from);
        peer.refused = peer.refused.saturating_add(1);
    }

    fn fail_if_hopeless(&mut self, now: Time, id: TaskId, out: &mut Vec<Output>) {
        let (Some(job), Some(task)) = (self.jobs.get(id.job), self.jobs.task(id)) else { return };
        let failures = &task.record.failures;
        let failed: BTreeSet<AgentId> = failures.iter().map(|failed| failed.worker).collect();
        // While none of its parts is committed the job may still turn to another build of its encoder.
        let encoder = task.record.spec.encoder();
        let committed = job
            .tasks
            .iter()
            .any(|task| task.record.commit.is_some() && task.record.spec.encoder() == encoder);
        let able = match committed {
            true => self.candidates(now, job, task),
            false => self.able(now, &BTreeMap::new(), task),
        };
        let fresh = able.iter().any(|id| !failed.contains(id));
        let many_workers = failed.len() >= self.config.task_workers_failed_max;
        let nobody_else = failures.len() >= self.config.task_failures_max && !fresh;
        if !many_workers && !nobody_else {
            return;
        }
        let what = task.record.spec.label();
        let mut errors: Vec<String> = Vec::new();
        for failed in failures {
            let name = self.name_of(failed.worker);
            let error = format!("{what} failed on {name}: {}", failed.failure.reason);
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        self.on_fail_job(id.job, errors, out);
    }

    /// The agent's name for people, or the end of its id.
    pub fn name_of(&self, id: AgentId) -> String {
        let info = self.peers.get(id).and_then(|peer| peer.info.as_ref());
        info.map_or_else(|| id.short(), |info| info.name.clone())
    }

    /// Why an active job does not advance, when no agent can do what is left of it.
    pub fn waiting_for(&self, now: Time, job: &Job) -> Option<String> {
        if !job.is_active() {
            return None;
        }
        let source = job.record.source.is_some();
        let left = job.tasks.iter().find(|task| {
            use super::jobs::TaskState::{Committed, Fetching, Leased};
            !matches!(task.state(source), Committed | Leased | Fetching)
                && (self.candidates(now, job, task).is_empty()
                    || self.lacks_only_room(now, job, task))
        })?;
        Some(self.say_who_is_missing(now, job, left))
    }
}

pub(super) fn expire(task: &mut super::jobs::Task, attempt: AttemptId) {
    task.leases.remove(&attempt);
    let Some(worker) = task.record.leases.remove(&attempt) else { return };
    let fetched = task.fetching.map(|(of, ..)| of);
    let mut kept = task.record.expired.keys().filter(|of| Some(**of) != fetched);
    if task.record.expired.len() >= EXPIRED_KEPT_MAX
        && let Some(any) = kept.next().copied()
    {
        task.record.expired.remove(&any);
    }
    task.record.expired.insert(attempt, worker);
}
