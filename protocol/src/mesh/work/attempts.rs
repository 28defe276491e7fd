//! The attempts that this agent holds: they run, end, are dropped, or go back.

use crate::id::{AgentId, AttemptId};
use crate::mesh::{Mesh, Output};
use crate::message::{Failure, FailureKind, Message, Progress, TaskResult, Verdict};
use crate::record::{Record, RecordKey, WorkRecord, WorkState};
use crate::time::Time;

use super::{Held, Stage};

impl Mesh {
    pub(in crate::mesh) fn on_input_ready(&mut self, attempt: AttemptId) {
        if let Some(held) = self.work.held.get_mut(&attempt)
            && held.stage == Stage::Fetching
        {
            held.stage = Stage::Ready;
        }
    }

    /// Starts attempts whose input is here while slots are free: of the owner that was served least
    /// the oldest one.
    pub(in crate::mesh) fn schedule_work(&mut self, out: &mut Vec<Output>) {
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

    pub(in crate::mesh) fn on_worked(&mut self, attempt: AttemptId, progress: Progress) {
        if let Some(held) = self.work.held.get_mut(&attempt)
            && let Stage::Running(so_far) = &mut held.stage
        {
            *so_far = progress;
        }
    }

    pub(in crate::mesh) fn on_work_done(
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

    pub(in crate::mesh) fn on_work_failed(
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

    /// The owner has the result or does not want it: what belongs to the attempt goes. Only its
    /// owner may say so.
    pub(in crate::mesh) fn on_verdict(
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
    pub(in crate::mesh) fn drop_work_of(&mut self, owner: AgentId, out: &mut Vec<Output>) {
        let theirs = self.work.held.values().filter(|held| held.record.owner == owner);
        let theirs: Vec<AttemptId> = theirs.map(|held| held.record.attempt).collect();
        for attempt in theirs {
            self.drop_held(attempt, out);
        }
    }

    pub(super) fn drop_held(&mut self, attempt: AttemptId, out: &mut Vec<Output>) {
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
    pub(in crate::mesh) fn return_work(&mut self, grace_ms: u64, out: &mut Vec<Output>) {
        let (me, stopped) = (self.me, self.work.stopped);
        let theirs = self.work.held.values().filter(|held| {
            let ends = !stopped && held.ends_within(grace_ms);
            held.record.owner != me && held.is_unfinished() && !ends
        });
        let theirs: Vec<_> = theirs.map(|held| held.record.attempt).collect();
        self.return_these(theirs, "the agent stops", out);
    }

    /// The machine is needed for long: unfinished attempts go back. Those of its own jobs only where
    /// somebody else may do them: they would but begin anew here.
    pub(in crate::mesh) fn give_back(&mut self, out: &mut Vec<Output>) {
        if !self.work.yields {
            return; // it was free again before this was heard
        }
        let me = self.me;
        let others = self.peers.iter().any(|(id, peer)| id != me && peer.is_usable());
        let back = self
            .work
            .held
            .values()
            .filter(|held| held.is_unfinished() && (held.record.owner != me || others));
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
}
