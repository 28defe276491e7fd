//! Grants as they arrive: taken, or refused with the reason.

use std::collections::BTreeMap;

use crate::id::{AgentId, AttemptId, BlobRef, TaskId};
use crate::media::{TaskInput, TaskSpec};
use crate::mesh::{Mesh, Output};
use crate::message::{Failure, FailureKind, Message};
use crate::record::{Record, WorkRecord, WorkState};
use crate::time::Time;

use super::Stage;

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

impl Mesh {
    pub(in crate::mesh) fn on_grant(&mut self, now: Time, grant: Grant, out: &mut Vec<Output>) {
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
        for held in self.work.held.values().filter(|held| held.is_unfinished()) {
            let (blob, spec) = (held.record.blob, &held.record.spec);
            bytes = bytes.saturating_add(spec.disk_bytes(blob.bytes) - blob.bytes);
            if held.stage == Stage::Fetching {
                inputs.insert(blob.id, (held.record.owner, blob.bytes));
            }
        }
        let fetched = inputs.values().filter(|(owner, _)| *owner != self.me);
        fetched.fold(bytes, |sum, (_, input)| sum.saturating_add(*input))
    }
}
