//! What this agent does for owners, itself included: offers it knows, attempts it holds.

mod attempts;
mod bids;
mod grants;

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{AgentId, AttemptId, JobId};
use crate::media::MediaKind;
use crate::message::{HeldAttempt, HeldState, Progress, TaskResult};
use crate::record::{Record, WorkRecord, WorkState};
use crate::time::Time;

use super::fairness::Turns;
use super::peers::PeerState;
use super::{Mesh, Output};

pub use grants::Grant;

/// How often the time that results wait is made durable.
pub(super) const KEPT_SAVE_MS: u64 = 3_600_000;

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
    /// Whether it is still to be run, or runs.
    pub(super) fn is_unfinished(&self) -> bool {
        !matches!(self.stage, Stage::Done { .. })
    }

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
        let unfinished = self.held.values().filter(|held| held.is_unfinished());
        unfinished.map(|held| held.record.owner).collect()
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
        self.held.values().filter(|held| held.is_unfinished()).count()
    }

    fn unfinished_of(&self, kind: MediaKind) -> usize {
        let unfinished = self.held.values().filter(|held| held.is_unfinished());
        unfinished.filter(|held| held.record.spec.encoder().kind() == kind).count()
    }

    pub(super) fn unfinished_for(&self, owner: AgentId) -> usize {
        let unfinished = self.held.values().filter(|held| held.is_unfinished());
        unfinished.filter(|held| held.record.owner == owner).count()
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
