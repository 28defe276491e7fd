//! What this agent does for owners, itself included: offers it knows, attempts it holds.

use std::collections::BTreeMap;

use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{TaskInput, TaskSpec};
use crate::message::{
    Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, Progress, TaskResult,
    Verdict,
};
use crate::record::{Record, RecordKey, WorkRecord, WorkState};
use crate::time::Time;

use super::{Mesh, Output};

/// A lease as it arrives.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The attempt.
    pub attempt: AttemptId,
    /// Who granted it.
    pub owner: AgentId,
    /// The task.
    pub task: TaskId,
    /// What is to be done.
    pub spec: TaskSpec,
    /// Piece or whole source.
    pub input: TaskInput,
    /// The input's bytes.
    pub blob: BlobRef,
}

/// Where an attempt stands here. `Ready` and `Running` are `Queued` on disk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage {
    /// The input is on its way.
    Fetching,
    /// The input is here; a slot is not free yet.
    Ready,
    /// ffmpeg runs.
    Running(Progress),
    /// Finished and kept for the owner.
    Done {
        /// What it made.
        result: TaskResult,
        /// When it was finished, or this agent started.
        since: Time,
    },
}

/// One attempt that this agent holds.
#[derive(Debug, Clone)]
pub struct Held {
    /// The durable part.
    pub record: WorkRecord,
    /// Where it stands.
    pub stage: Stage,
    /// Order of arrival.
    order: u64,
}

/// The worker side of the state.
#[derive(Debug, Default)]
pub struct Work {
    pub(super) paused: bool,
    pub(super) stopping: bool,
    held: BTreeMap<AttemptId, Held>,
    offers: BTreeMap<AgentId, BTreeMap<JobId, u32>>,
    order: u64,
}

impl Work {
    /// Whether a person paused this agent.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Attempts that this agent holds, finished ones included.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// Attempts whose ffmpeg runs now.
    pub fn running(&self) -> usize {
        self.held.values().filter(|held| matches!(held.stage, Stage::Running(_))).count()
    }

    /// Attempts that are not finished.
    pub fn unfinished(&self) -> usize {
        self.held.values().filter(|held| !matches!(held.stage, Stage::Done { .. })).count()
    }

    pub(super) fn unfinished_for(&self, owner: AgentId) -> usize {
        self.held
            .values()
            .filter(|held| held.record.owner == owner)
            .filter(|held| !matches!(held.stage, Stage::Done { .. }))
            .count()
    }

    pub(super) fn forget_offers(&mut self, owner: AgentId) {
        self.offers.remove(&owner);
    }

    pub(super) fn held_for(&self, owner: AgentId) -> Vec<HeldAttempt> {
        let mine = self.held.values().filter(|held| held.record.owner == owner);
        mine.map(|held| HeldAttempt {
            attempt: held.record.attempt,
            task: held.record.task,
            state: match held.stage {
                Stage::Fetching | Stage::Ready => HeldState::Queued,
                Stage::Running(progress) => HeldState::Running(progress),
                Stage::Done { result, .. } => HeldState::Done(result),
            },
        })
        .collect()
    }

    fn insert(&mut self, record: WorkRecord, stage: Stage) {
        self.order += 1;
        self.held.insert(record.attempt, Held { record, stage, order: self.order });
    }
}

impl Mesh {
    pub(super) fn on_offer(
        &mut self,
        owner: AgentId,
        job: JobId,
        work: &[OfferedWork],
        out: &mut Vec<Output>,
    ) {
        let offers = self.work.offers.entry(owner).or_default();
        if work.is_empty() {
            offers.remove(&job);
            return;
        }
        let able = self.peers.get(self.me).is_some_and(|me| {
            me.slots() > 0 && work.iter().any(|offered| me.has_all(&offered.requires))
        });
        let full = offers.len() >= self.config.offers_per_owner_max && !offers.contains_key(&job);
        if !able || full || self.work.paused || self.work.stopping {
            offers.remove(&job);
            out.push(Output::Send { to: owner, message: Message::Decline { job } });
            return;
        }
        let want = self.want_of(owner);
        self.work.offers.entry(owner).or_default().insert(job, want);
        out.push(Output::Send { to: owner, message: Message::Accept { job, want } });
    }

    /// How many attempts of this owner this agent wants to hold: what it holds for it, plus what
    /// is free after all owners' attempts.
    fn want_of(&self, owner: AgentId) -> u32 {
        let slots = self.peers.get(self.me).map_or(0, super::peers::Peer::slots);
        if slots == 0 {
            return 0; // this agent only owns jobs
        }
        let free = slots
            .saturating_add(self.config.grants_ahead)
            .saturating_sub(u32::try_from(self.work.unfinished()).unwrap_or(u32::MAX));
        free.saturating_add(u32::try_from(self.work.unfinished_for(owner)).unwrap_or(u32::MAX))
    }

    pub(super) fn on_grant(&mut self, grant: Grant, out: &mut Vec<Output>) {
        if self.work.held.contains_key(&grant.attempt) {
            return; // said twice
        }
        if let Err(failure) = self.admit(&grant) {
            let (attempt, task) = (grant.attempt, grant.task);
            let message = Message::Failed { attempt, task, failure };
            out.push(Output::Send { to: grant.owner, message });
            // The owner counts on nothing from here now, so the next bid must be said again.
            let offers = self.work.offers.entry(grant.owner).or_default();
            offers.values_mut().for_each(|said| *said = 0);
            return;
        }
        let Grant { attempt, owner, task, spec, input, blob } = grant;
        let state = WorkState::Queued;
        let record = WorkRecord { attempt, owner, task, spec, input, blob, state };
        out.push(Output::Save(Record::Work(record.clone())));
        self.work.insert(record, Stage::Fetching);
        out.push(Output::FetchInput { attempt, owner, task, blob });
    }

    fn admit(&self, grant: &Grant) -> Result<(), Failure> {
        let busy = |reason: &str| Err(Failure::new(FailureKind::Busy, reason));
        let Some(me) = self.peers.get(self.me) else { return busy("just starting") };
        if self.work.paused {
            return busy("paused by its person");
        }
        if self.work.stopping {
            return busy("stopping");
        }
        let room = me.slots().saturating_add(self.config.grants_ahead) as usize;
        if self.work.unfinished() >= room || self.work.held.len() >= self.config.held_max {
            return busy("all slots are taken");
        }
        if !me.has_all(&grant.spec.requires()) {
            return Err(Failure::new(FailureKind::Encode, "a needed encoder does not work here"));
        }
        Ok(())
    }

    pub(super) fn on_input_ready(&mut self, attempt: AttemptId) {
        if let Some(held) = self.work.held.get_mut(&attempt)
            && held.stage == Stage::Fetching
        {
            held.stage = Stage::Ready;
        }
    }

    /// Starts the oldest attempts whose input is here while slots are free.
    pub(super) fn schedule_work(&mut self, out: &mut Vec<Output>) {
        let slots = self.peers.get(self.me).map_or(0, super::peers::Peer::slots) as usize;
        while self.work.running() < slots && !self.work.stopping {
            let ready = self.work.held.values_mut().filter(|held| held.stage == Stage::Ready);
            let Some(held) = ready.min_by_key(|held| held.order) else { return };
            held.stage = Stage::Running(Progress::default());
            let WorkRecord { attempt, owner, task, spec, input, blob, .. } = held.record.clone();
            out.push(Output::Run { attempt, owner, task, spec, input, blob });
        }
    }

    pub(super) fn on_worked(&mut self, attempt: AttemptId, progress: Progress) {
        if let Some(held) = self.work.held.get_mut(&attempt)
            && let Stage::Running(so_far) = &mut held.stage
        {
            *so_far = progress;
        }
    }

    pub(super) fn on_work_done(
        &mut self,
        now: Time,
        attempt: AttemptId,
        result: TaskResult,
        out: &mut Vec<Output>,
    ) {
        let Some(held) = self.work.held.get_mut(&attempt) else {
            // Cancelled meanwhile, and the discard did not know of the result.
            out.push(Output::Discard { attempt, blob: result.media, result: Some(result) });
            return;
        };
        held.stage = Stage::Done { result, since: now };
        held.record.state = WorkState::Done(result);
        let (to, task) = (held.record.owner, held.record.task);
        out.push(Output::Save(Record::Work(held.record.clone())));
        out.push(Output::Send { to, message: Message::Done { attempt, task, result } });
        self.bid_again(out);
    }

    pub(super) fn on_work_failed(
        &mut self,
        attempt: AttemptId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let Some(held) = self.work.held.get(&attempt) else { return };
        let (to, task) = (held.record.owner, held.record.task);
        self.drop_held(attempt, out);
        out.push(Output::Send { to, message: Message::Failed { attempt, task, failure } });
        self.bid_again(out);
    }

    /// Says to owners with standing offers how much this agent wants now, where that changed.
    fn bid_again(&mut self, out: &mut Vec<Output>) {
        let owners: Vec<AgentId> = self.work.offers.keys().copied().collect();
        for owner in owners {
            let want = self.want_of(owner);
            for (job, said) in self.work.offers.entry(owner).or_default() {
                if *said != want {
                    *said = want;
                    let message = Message::Accept { job: *job, want };
                    out.push(Output::Send { to: owner, message });
                }
            }
        }
    }

    /// The owner has the result or does not want it: what belongs to the attempt goes. Only its
    /// owner may say so.
    pub(super) fn on_verdict(
        &mut self,
        from: AgentId,
        attempt: AttemptId,
        verdict: Verdict,
        out: &mut Vec<Output>,
    ) {
        let of_owner = self.work.held.get(&attempt).is_some_and(|held| held.record.owner == from);
        if of_owner && verdict != Verdict::Keep {
            self.drop_held(attempt, out);
            self.bid_again(out);
        }
    }

    fn drop_held(&mut self, attempt: AttemptId, out: &mut Vec<Output>) {
        let Some(held) = self.work.held.remove(&attempt) else { return };
        let result = match held.stage {
            Stage::Done { result, .. } => Some(result),
            _ => None,
        };
        out.push(Output::Erase(RecordKey::Work(attempt)));
        out.push(Output::Discard { attempt, blob: held.record.blob, result });
    }

    /// This agent stops: other owners get unfinished attempts back at once. Its own stay queued and
    /// go on after the next start.
    pub(super) fn return_work(&mut self, out: &mut Vec<Output>) {
        let me = self.me;
        let theirs =
            self.work.held.values().filter(|held| {
                held.record.owner != me && !matches!(held.stage, Stage::Done { .. })
            });
        let theirs: Vec<_> =
            theirs.map(|held| (held.record.attempt, held.record.owner, held.record.task)).collect();
        for (attempt, to, task) in theirs {
            self.drop_held(attempt, out);
            let failure = Failure::new(FailureKind::Busy, "the agent stops");
            out.push(Output::Send { to, message: Message::Failed { attempt, task, failure } });
        }
    }

    /// Results that nobody fetched for a week go. So do attempts that wait for the input of an owner
    /// that has gone: they would take the room of work for others, and the owner grants anew.
    pub(super) fn tick_work(&mut self, now: Time, out: &mut Vec<Output>) {
        let kept_ms = self.config.result_kept_ms;
        let (lease_ms, me, peers) = (self.config.lease_ms, self.me, &self.peers);
        let gone = |owner: AgentId| {
            owner != me && peers.get(owner).is_none_or(|peer| now.since_ms(peer.heard) > lease_ms)
        };
        let old = self.work.held.values().filter(|held| match held.stage {
            Stage::Done { since, .. } => now.since_ms(since) > kept_ms,
            Stage::Fetching => gone(held.record.owner),
            Stage::Ready | Stage::Running(_) => false,
        });
        let old: Vec<AttemptId> = old.map(|held| held.record.attempt).collect();
        if old.is_empty() {
            return;
        }
        for attempt in old {
            self.drop_held(attempt, out);
        }
        self.bid_again(out);
    }

    pub(super) fn restore_work(&mut self, now: Time, record: WorkRecord) {
        let stage = match record.state {
            WorkState::Queued => Stage::Fetching,
            WorkState::Done(result) => Stage::Done { result, since: now },
        };
        self.peers.entry(now, record.owner);
        self.work.insert(record, stage);
    }

    pub(super) fn resume_work(&mut self, out: &mut Vec<Output>) {
        for held in self.work.held.values().filter(|held| held.stage == Stage::Fetching) {
            let WorkRecord { attempt, owner, task, blob, .. } = held.record;
            out.push(Output::FetchInput { attempt, owner, task, blob });
        }
    }
}
