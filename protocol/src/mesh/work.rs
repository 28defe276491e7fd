//! What this agent does for owners, itself included: offers it knows, attempts it holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{MediaKind, TaskInput, TaskSpec};
use crate::message::{
    Failure, FailureKind, HeldAttempt, HeldState, Message, OfferedWork, Progress, TaskResult,
    Verdict,
};
use crate::record::{Record, RecordKey, WorkRecord, WorkState};
use crate::time::Time;

use super::fairness::Turns;
use super::peers::PeerState;
use super::{Mesh, Output};

/// How often the time that results wait is made durable.
const KEPT_SAVE_MS: u64 = 3_600_000;
/// In the place of a bid that was not said yet.
const UNSAID: u32 = u32::MAX;

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
        /// When the time that it is kept was last added up.
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
    /// When it took its seat.
    pub(super) since: Time,
}

impl Held {
    /// Whether it runs and will be finished so soon, as far as its speed tells.
    pub(super) fn ends_within(&self, ms: u64) -> bool {
        let Stage::Running(progress) = self.stage else { return false };
        let (Some(frames), true) = (self.record.spec.frames(), progress.fps_x100 > 0) else {
            return false;
        };
        let left = frames.saturating_sub(progress.frames);
        left.saturating_mul(100_000) / u64::from(progress.fps_x100) <= ms
    }
}

/// The worker side of the state.
#[derive(Debug, Default)]
pub struct Work {
    pub(super) paused: bool,
    /// Whether it is outside the hours in which this agent works.
    pub(super) off_hours: bool,
    /// Whether its person needs the machine.
    pub(super) yields: bool,
    /// Whether what runs is stopped meanwhile.
    pub(super) stopped: bool,
    pub(super) stopping: bool,
    /// How long a stop waits, in milliseconds.
    pub(super) grace_ms: u64,
    held: BTreeMap<AttemptId, Held>,
    offers: BTreeMap<AgentId, BTreeMap<JobId, u32>>,
    pub(super) turns: Turns,
    order: u64,
    bids_changed: bool,
    /// The time of the last tick.
    pub(super) clock: Time,
    /// Owners whose work did not fit: what one says of its input must not keep others waiting.
    disk_full: BTreeMap<AgentId, DiskFull>,
}

/// A task did not fit on the disk: no bids to its owner until more is free.
#[derive(Debug, Clone, Copy)]
struct DiskFull {
    since: Time,
    free_bytes: u64,
}

impl Work {
    /// Whether a person paused this agent.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it is outside the hours in which this agent works.
    pub fn is_off_hours(&self) -> bool {
        self.off_hours
    }

    /// Whether its person needs the machine.
    pub fn is_yielding(&self) -> bool {
        self.yields
    }

    /// Whether what runs is stopped, because the machine is needed.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Owners of attempts that are not finished.
    pub(super) fn owners(&self) -> BTreeSet<AgentId> {
        let unfinished = |held: &&Held| !matches!(held.stage, Stage::Done { .. });
        self.held.values().filter(unfinished).map(|held| held.record.owner).collect()
    }

    /// Whether this agent takes no new work, by its person's word, by its hours or for the sake of
    /// others who use the machine.
    pub(super) fn rests(&self) -> bool {
        self.paused || self.off_hours || self.yields
    }

    /// Whether this agent does not bid to somebody because its disk is full.
    pub fn is_disk_full(&self) -> bool {
        !self.disk_full.is_empty()
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

    fn unfinished_of(&self, kind: MediaKind) -> usize {
        let unfinished = |held: &&Held| !matches!(held.stage, Stage::Done { .. });
        let of_kind = |held: &&Held| held.record.spec.encoder().kind() == kind;
        self.held.values().filter(unfinished).filter(of_kind).count()
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
        self.turns.leave(owner);
    }

    /// The owner takes a seat less for granted than was said: the next bid is said in any case.
    fn unsay(&mut self, owner: AgentId) {
        let offers = self.offers.get_mut(&owner);
        offers.into_iter().flatten().for_each(|(_, said)| *said = UNSAID);
        self.bids_changed = true;
    }

    fn forget_offer(&mut self, owner: AgentId, job: JobId) {
        let Some(offers) = self.offers.get_mut(&owner) else { return };
        offers.remove(&job);
        if offers.is_empty() {
            self.forget_offers(owner);
        }
    }

    pub(super) fn held_for(&self, owner: AgentId) -> Vec<HeldAttempt> {
        let mine = self.held.values().filter(|held| held.record.owner == owner);
        mine.map(|held| HeldAttempt {
            attempt: held.record.attempt,
            task: held.record.task,
            state: match held.stage {
                Stage::Fetching | Stage::Ready => HeldState::Queued,
                Stage::Running(progress) if self.stopped => HeldState::Paused(progress),
                Stage::Running(progress) => HeldState::Running(progress),
                Stage::Done { result, .. } => HeldState::Done(result),
            },
        })
        .collect()
    }

    fn insert(&mut self, record: WorkRecord, stage: Stage) {
        self.order += 1;
        let (order, since) = (self.order, self.clock);
        self.held.insert(record.attempt, Held { record, stage, order, since });
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
        if work.is_empty() {
            self.work.forget_offer(owner, job);
            return self.bid_again();
        }
        let able = self.peers.get(self.me).is_some_and(|me| {
            me.slots() > 0 && work.iter().any(|offered| me.has_all(&offered.requires))
        });
        let full = self.work.offers.get(&owner).is_some_and(|offers| {
            offers.len() >= self.config.offers_per_owner_max && !offers.contains_key(&job)
        });
        if !able || full || self.work.rests() || self.work.stopping {
            self.work.forget_offer(owner, job);
            out.push(Output::Send { to: owner, message: Message::Decline { job } });
            return;
        }
        self.work.turns.enter(owner);
        let want = self.want_of(owner, self.hearers().contains(&owner));
        self.work.offers.entry(owner).or_default().insert(job, want);
        out.push(Output::Send { to: owner, message: Message::Accept { job, want } });
    }

    /// How many attempts of this owner this agent wants to hold: what it holds for it, plus what
    /// is free after all owners' attempts when it is its turn.
    fn want_of(&self, owner: AgentId, its_turn: bool) -> u32 {
        let slots = self.peers.slots_of(self.me);
        if slots == 0 {
            return 0; // this agent only owns jobs
        }
        let full = self.work.stopping || self.work.disk_full.contains_key(&owner);
        let free = slots
            .saturating_add(self.config.grants_ahead)
            .saturating_sub(u32::try_from(self.work.unfinished()).unwrap_or(u32::MAX));
        let kept = u32::from(self.last_seat_is_for_others(owner));
        let free = if full || !its_turn { 0 } else { free.saturating_sub(kept) };
        free.saturating_add(u32::try_from(self.work.unfinished_for(owner)).unwrap_or(u32::MAX))
    }

    pub(super) fn on_grant(&mut self, now: Time, grant: Grant, out: &mut Vec<Output>) {
        if self.work.held.contains_key(&grant.attempt) {
            return; // said twice
        }
        if let Err(failure) = self.admit(&grant) {
            if failure.kind == FailureKind::DiskFull {
                self.note_disk_full(now, grant.owner);
            }
            let (attempt, task) = (grant.attempt, grant.task);
            let message = Message::Failed { attempt, task, failure };
            out.push(Output::Send { to: grant.owner, message });
            // The owner counts on nothing from here now, so the next bid must be said again; but not
            // at once: one that grants whatever it is told would never come to an end.
            let offers = self.work.offers.get_mut(&grant.owner);
            offers.into_iter().flatten().for_each(|(_, said)| *said = 0);
            return;
        }
        let Grant { attempt, owner, task, spec, input, blob } = grant;
        let state = WorkState::Queued;
        let record = WorkRecord { attempt, owner, task, spec, input, blob, state, kept_ms: 0 };
        out.push(Output::Save(Record::Work(record.clone())));
        self.work.insert(record, Stage::Fetching);
        self.work.turns.taken();
        out.push(Output::FetchInput { attempt, owner, task, blob });
        self.bid_again();
    }

    fn admit(&self, grant: &Grant) -> Result<(), Failure> {
        let busy = |reason: &str| Err(Failure::new(FailureKind::Busy, reason));
        let Some(me) = self.peers.get(self.me) else { return busy("just starting") };
        if self.work.paused {
            return busy("paused by its person");
        }
        if self.work.off_hours {
            return busy("outside its hours");
        }
        if self.work.yields {
            return busy("its person needs the machine");
        }
        if self.work.stopping {
            return busy("stopping");
        }
        let room = me.slots().saturating_add(self.config.grants_ahead) as usize;
        if self.work.unfinished() >= room || self.work.held.len() >= self.config.held_max {
            return busy("all slots are taken");
        }
        let kind = grant.spec.encoder().kind();
        let limit = me.slots_for(kind);
        if limit < me.slots() && self.work.unfinished_of(kind) >= limit as usize {
            return busy("all slots for this kind of work are taken");
        }
        if self.work.unfinished() + 1 >= room && self.last_seat_is_for_others(grant.owner) {
            return busy("the last slot is for another owner until the input is here");
        }
        if !me.has_all(&grant.spec.requires()) {
            return Err(Failure::new(FailureKind::Encode, "a needed encoder does not work here"));
        }
        let needed = self.disk_needed(grant);
        if !me.has_room(needed) {
            let mib = needed >> 20;
            let reason = format!("not enough room on its disk: {mib} MiB are needed");
            return Err(Failure::new(FailureKind::DiskFull, reason));
        }
        Ok(())
    }

    /// Bytes that this grant and those before it will still take: each input once, and twice each
    /// result.
    fn disk_needed(&self, grant: &Grant) -> u64 {
        let mut inputs = BTreeMap::from([(grant.blob.id, (grant.owner, grant.blob.bytes))]);
        let mut bytes = grant.spec.disk_bytes(grant.blob.bytes) - grant.blob.bytes;
        let unfinished =
            self.work.held.values().filter(|held| !matches!(held.stage, Stage::Done { .. }));
        for held in unfinished {
            let (blob, spec) = (held.record.blob, &held.record.spec);
            bytes = bytes.saturating_add(spec.disk_bytes(blob.bytes) - blob.bytes);
            if held.stage == Stage::Fetching {
                inputs.insert(blob.id, (held.record.owner, blob.bytes));
            }
        }
        let fetched = inputs.values().filter(|(owner, _)| *owner != self.me);
        fetched.fold(bytes, |sum, (_, input)| sum.saturating_add(*input))
    }

    fn note_disk_full(&mut self, now: Time, owner: AgentId) {
        let free_bytes = self.peers.get(self.me).and_then(|me| me.info.as_ref());
        let free_bytes = free_bytes.map_or(0, |info| info.free_disk_bytes);
        self.work.disk_full.insert(owner, DiskFull { since: now, free_bytes });
    }

    /// Bids again once clearly more is free than when work did not fit, or after a while.
    pub(super) fn bid_if_room_changed(&mut self, now: Time) {
        let (pause_ms, me) = (self.config.disk_full_pause_ms, self.peers.get(self.me));
        let before = self.work.disk_full.len();
        self.work.disk_full.retain(|_, full| {
            let more = full.free_bytes.saturating_add(full.free_bytes / 16).saturating_add(1);
            !me.is_some_and(|me| me.has_room(more)) && now.since_ms(full.since) <= pause_ms
        });
        if self.work.disk_full.len() < before {
            self.bid_again();
        }
    }

    pub(super) fn on_input_ready(&mut self, attempt: AttemptId) {
        if let Some(held) = self.work.held.get_mut(&attempt)
            && held.stage == Stage::Fetching
        {
            held.stage = Stage::Ready;
        }
    }

    /// Starts attempts whose input is here while slots are free: of the owner that was served least
    /// the oldest one.
    pub(super) fn schedule_work(&mut self, out: &mut Vec<Output>) {
        let slots = self.peers.slots_of(self.me) as usize;
        while self.work.running() < slots && !self.work.stopping && !self.work.yields {
            let turns = &self.work.turns;
            let ready = self.work.held.values_mut().filter(|held| held.stage == Stage::Ready);
            let turn = |held: &&mut Held| (turns.served(held.record.owner), held.order);
            let Some(held) = ready.min_by_key(turn) else { return };
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
        self.work.turns.serve(to, self.work.clock.since_ms(held.since));
        out.push(Output::Save(Record::Work(held.record.clone())));
        out.push(Output::Send { to, message: Message::Done { attempt, task, result } });
        self.work.unsay(to);
    }

    pub(super) fn on_work_failed(
        &mut self,
        now: Time,
        attempt: AttemptId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let Some(held) = self.work.held.get(&attempt) else { return };
        let (to, task) = (held.record.owner, held.record.task);
        if failure.kind == FailureKind::DiskFull {
            self.note_disk_full(now, to);
        }
        self.drop_held(attempt, out);
        out.push(Output::Send { to, message: Message::Failed { attempt, task, failure } });
        self.work.unsay(to);
    }

    /// What this agent wants may have changed; its owners hear of it at the end of the step.
    pub(super) fn bid_again(&mut self) {
        self.work.bids_changed = true;
    }

    /// Says to owners with standing offers how much this agent wants now, where that changed;
    /// whether it said anything.
    pub(super) fn say_bids(&mut self, out: &mut Vec<Output>) -> bool {
        if !std::mem::take(&mut self.work.bids_changed) {
            return false;
        }
        let before = out.len();
        let hearers = self.hearers();
        let owners: Vec<AgentId> = self.work.offers.keys().copied().collect();
        for owner in owners {
            let want = self.want_of(owner, hearers.contains(&owner));
            for (job, said) in self.work.offers.get_mut(&owner).into_iter().flatten() {
                if *said != want {
                    *said = want;
                    let message = Message::Accept { job: *job, want };
                    out.push(Output::Send { to: owner, message });
                }
            }
        }
        out.len() > before
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
            self.bid_again();
        }
    }

    /// The owner is not a member any more: nobody wants this.
    pub(super) fn drop_work_of(&mut self, owner: AgentId, out: &mut Vec<Output>) {
        let theirs = self.work.held.values().filter(|held| held.record.owner == owner);
        let theirs: Vec<AttemptId> = theirs.map(|held| held.record.attempt).collect();
        for attempt in theirs {
            self.drop_held(attempt, out);
        }
    }

    fn drop_held(&mut self, attempt: AttemptId, out: &mut Vec<Output>) {
        let Some(held) = self.work.held.remove(&attempt) else { return };
        let result = match held.stage {
            Stage::Done { result, .. } => Some(result),
            _ => {
                let seat_ms = self.work.clock.since_ms(held.since);
                self.work.turns.serve(held.record.owner, seat_ms);
                None
            }
        };
        out.push(Output::Erase(RecordKey::Work(attempt)));
        out.push(Output::Discard { attempt, blob: held.record.blob, result });
    }

    /// This agent stops: other owners get attempts back that do not end within `grace_ms`. Its own
    /// stay queued and go on after the next start.
    pub(super) fn return_work(&mut self, grace_ms: u64, out: &mut Vec<Output>) {
        let (me, stopped) = (self.me, self.work.stopped);
        let theirs = self.work.held.values().filter(|held| {
            let done = matches!(held.stage, Stage::Done { .. });
            let ends = !stopped && held.ends_within(grace_ms);
            held.record.owner != me && !done && !ends
        });
        let theirs: Vec<_> = theirs.map(|held| held.record.attempt).collect();
        self.return_these(theirs, "the agent stops", out);
    }

    /// The machine is needed for long: unfinished attempts go back. Those of its own jobs only where
    /// somebody else may do them: they would but begin anew here.
    pub(super) fn give_back(&mut self, out: &mut Vec<Output>) {
        if !self.work.yields {
            return; // it was free again before this was heard
        }
        let me = self.me;
        let others = self.peers.iter().any(|(id, peer)| id != me && peer.is_usable());
        let back = self.work.held.values().filter(|held| {
            let done = matches!(held.stage, Stage::Done { .. });
            !done && (held.record.owner != me || others)
        });
        let back = back.map(|held| held.record.attempt).collect();
        self.return_these(back, "its person needs the machine", out);
    }

    /// Nobody is to blame.
    fn return_these(&mut self, attempts: Vec<AttemptId>, why: &str, out: &mut Vec<Output>) {
        for attempt in attempts {
            let Some(held) = self.work.held.get(&attempt) else { continue };
            let (to, task) = (held.record.owner, held.record.task);
            self.drop_held(attempt, out);
            let failure = Failure::new(FailureKind::Busy, why);
            out.push(Output::Send { to, message: Message::Failed { attempt, task, failure } });
        }
    }

    /// Results that nobody fetched for a week go. So do attempts that wait for the input of an owner
    /// that has gone: they would take the room of work for others, and the owner grants anew.
    pub(super) fn tick_work(&mut self, now: Time, out: &mut Vec<Output>) {
        self.work.clock = now;
        self.bid_if_room_changed(now);
        if self.widen() {
            self.bid_again();
        }
        self.add_up_kept(now, out);
        let kept_ms = self.config.result_kept_ms;
        let (lease_ms, me, peers) = (self.config.lease_ms, self.me, &self.peers);
        let gone = |owner: AgentId| {
            owner != me && peers.get(owner).is_none_or(|peer| now.since_ms(peer.heard) > lease_ms)
        };
        let old = self.work.held.values().filter(|held| match held.stage {
            Stage::Done { since, .. } => held.record.kept_ms + now.since_ms(since) > kept_ms,
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
        self.bid_again();
    }

    /// How long results wait for owners that are away, saved now and then: a restart must not
    /// begin the week anew. While the owner is there, it does not count.
    fn add_up_kept(&mut self, now: Time, out: &mut Vec<Output>) {
        for held in self.work.held.values_mut() {
            let Stage::Done { since, .. } = &mut held.stage else { continue };
            let owner = held.record.owner;
            let there = self.peers.get(owner).is_some_and(|peer| peer.state != PeerState::Gone);
            let waited_ms = now.since_ms(*since);
            if there {
                *since = now;
            } else if waited_ms >= KEPT_SAVE_MS {
                *since = now;
                held.record.kept_ms = held.record.kept_ms.saturating_add(waited_ms);
                out.push(Output::Save(Record::Work(held.record.clone())));
            }
        }
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
