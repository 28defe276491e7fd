//! How a handed job ends: its result comes home, or this agent does it itself.

use crate::handover::{HandedEnd, HandedState};
use crate::id::JobId;
use crate::mesh::peers::PeerState;
use crate::mesh::{Mesh, Output};
use crate::message::{Failure, FailureKind};
use crate::record::{JobState, RecordKey};
use crate::time::Time;

impl Mesh {
    /// The result was fetched, verified and published here: a fact, also when the job was taken back
    /// in that moment.
    pub(in crate::mesh) fn on_handed_published(&mut self, id: JobId, out: &mut Vec<Output>) {
        if !self.handovers.all.contains_key(&id) {
            return;
        }
        self.end_handed(id, HandedEnd::Published, out);
        if let Some(job) = self.jobs.all.get_mut(&id)
            && job.is_active()
        {
            job.record.state = JobState::Joining;
            job.save(out);
        }
        self.on_joined(id, out);
    }

    /// The result could not be fetched now, or it is not right.
    pub(in crate::mesh) fn on_handed_bad(
        &mut self,
        now: Time,
        id: JobId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        if !self.is_returning(id) {
            return;
        }
        let (tries_max, retry_ms) = (self.config.fetch_tries_max, self.config.custody_retry_ms);
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        handed.fetching = false;
        handed.trouble = Some(failure.reason);
        out.push(Output::Changed(id));
        let to = handed.record.to.and_then(|to| self.peers.get(to));
        let there = to.is_some_and(|peer| peer.state == PeerState::Connected);
        match failure.kind {
            // Fetched again when the custodian tells of it again.
            FailureKind::Busy => {
                handed.tries += u32::from(there);
                if handed.tries >= tries_max {
                    self.blame_custodian(now, id, out);
                }
            }
            // The trouble is here: the result is dear, and waits.
            FailureKind::DiskFull | FailureKind::Internal | FailureKind::Unproven => {
                handed.retry = now + retry_ms;
            }
            FailureKind::Input | FailureKind::Encode | FailureKind::Verify => {
                self.blame_custodian(now, id, out);
            }
        }
    }

    /// Nobody can do it.
    pub(in crate::mesh) fn on_handed_failed(
        &mut self,
        id: JobId,
        error: String,
        out: &mut Vec<Output>,
    ) {
        self.end_handed(id, HandedEnd::Failed(error.clone()), out);
        self.on_fail_job(id, vec![error], out);
    }

    /// Nothing is left to do; the custodian may forget the job.
    pub(in crate::mesh) fn end_handed(&mut self, id: JobId, end: HandedEnd, out: &mut Vec<Output>) {
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        let fetching = std::mem::replace(&mut handed.fetching, false);
        if !handed.become_state(HandedState::Over(end), out) {
            return;
        }
        if fetching {
            out.push(Output::StopHanded(id));
        }
        let (to, epoch) = (handed.record.to, handed.record.epoch);
        out.push(Output::HandedEnded(id));
        if let Some(to) = to {
            self.release_custody(to, id, epoch, out);
        }
    }

    pub(in crate::mesh) fn remove_handed(&mut self, id: JobId, out: &mut Vec<Output>) {
        if self.handovers.get(id).is_some_and(|handed| handed.record.state.is_over()) {
            self.handovers.all.remove(&id);
            out.push(Output::Erase(RecordKey::Handed(id)));
        }
    }

    /// The submitter's own work ended: what a custodian still does for it is in vain.
    pub(in crate::mesh) fn own_work_ended(&mut self, id: JobId, out: &mut Vec<Output>) {
        if self.handovers.get(id).is_some_and(|h| h.record.state == HandedState::Own) {
            self.end_handed(id, HandedEnd::Own, out);
        }
    }

    /// This agent's own planning failed before there was a job.
    pub(in crate::mesh) fn own_plan_failed(
        &mut self,
        id: JobId,
        errors: &[String],
        out: &mut Vec<Output>,
    ) {
        let own = self.handovers.get(id).is_some_and(|h| h.record.state == HandedState::Own);
        if own && self.jobs.get(id).is_none() {
            self.end_handed(id, HandedEnd::Failed(errors.join("; ")), out);
        }
    }

    /// A person tries a job that is over again: this agent does it itself.
    pub(in crate::mesh) fn own_again(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        if let Some(handed) = self.handovers.all.get_mut(&id)
            && handed.record.state.is_over()
        {
            handed.give_up_custodian(now);
            handed.become_state(HandedState::Own, out);
        }
    }
}
