//! How jobs end, and what goes with them; how one that failed is tried again.

use crate::handover::HandedEnd;
use crate::id::JobId;
use crate::mesh::{Mesh, Output};
use crate::message::{Message, Verdict};
use crate::record::{JobState, RecordKey};
use crate::time::Time;

use super::Task;

impl Mesh {
    /// The person, or a fact that no retry changes, ends the job. `false`: it had ended before, or
    /// it cannot end so.
    pub(in crate::mesh) fn end_job(
        &mut self,
        id: JobId,
        state: JobState,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(job) = self.jobs.all.get_mut(&id) else { return false };
        if !job.record.state.can_become(&state) {
            return false;
        }
        job.record.state = state;
        job.save(out);
        let mut after = self.stop_tasks(id, out);
        out.push(Output::JobOver(id));
        out.append(&mut after);
        self.withdraw(id, out);
        self.own_work_ended(id, out);
        self.custody_job_ended(id, out);
        true
    }

    pub(in crate::mesh) fn on_cancel_job(&mut self, id: JobId, out: &mut Vec<Output>) {
        self.end_handed(id, HandedEnd::Cancelled, out);
        if !self.end_job(id, JobState::Cancelled, out) && self.jobs.get(id).is_none() {
            self.custody_job_ended(id, out);
        }
    }

    pub(in crate::mesh) fn on_fail_job(
        &mut self,
        id: JobId,
        errors: Vec<String>,
        out: &mut Vec<Output>,
    ) {
        // Own work that rests is no reason to give up a result that is on its way.
        if !self.is_returning(id) {
            self.own_plan_failed(id, &errors, out);
            self.end_job(id, JobState::Failed(errors), out);
        }
    }

    pub(in crate::mesh) fn on_joined(&mut self, id: JobId, out: &mut Vec<Output>) {
        // A join that was overtaken (cancelled, a task redone) must not let the results go.
        if self.end_job(id, JobState::Done, out) {
            let mut released = self.release_tasks(id, &mut Vec::new());
            out.append(&mut released);
        }
    }

    pub(in crate::mesh) fn on_retry_job(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        // A job of another agent is tried again by its submitter.
        if self.custody.get(id).is_some() {
            return;
        }
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        if !matches!(job.record.state, JobState::Failed(_) | JobState::Cancelled) {
            return;
        }
        job.record.state = JobState::Active;
        for task in job.tasks.iter_mut().filter(|task| task.record.commit.is_none()) {
            task.record.failures.clear();
            task.save(out);
        }
        job.save(out);
        self.own_again(now, id, out);
        // The person says that the cause is mended: nobody waits for an old back-off.
        self.peers.forgive();
        self.offer(now, id, out);
        self.join_if_complete(id, out);
    }

    pub(in crate::mesh) fn on_remove_job(&mut self, id: JobId, out: &mut Vec<Output>) {
        self.remove_handed(id, out);
        if !self.jobs.get(id).is_some_and(|job| job.record.state.is_over()) {
            return;
        }
        let mut after = self.release_tasks(id, &mut Vec::new());
        let Some(job) = self.jobs.all.remove(&id) else { return };
        for task in &job.tasks {
            out.push(Output::Erase(RecordKey::Task(task.record.id)));
        }
        out.push(Output::Erase(RecordKey::Job(id)));
        out.push(Output::Changed(id));
        out.append(&mut after);
    }

    /// Ends what runs for the job, keeps what is committed (a retry needs it). Returns what may be
    /// said and deleted once the changed records are durable.
    pub(in crate::mesh) fn stop_tasks(
        &mut self,
        id: JobId,
        saves: &mut Vec<Output>,
    ) -> Vec<Output> {
        let mut after = Vec::new();
        let Some(job) = self.jobs.all.get_mut(&id) else { return after };
        for task in &mut job.tasks {
            let before = after.len();
            end_task(task, &mut after);
            if after.len() > before {
                task.save(saves);
            }
        }
        after
    }

    /// Ends what runs for the job and lets its results go; see [`Mesh::stop_tasks`].
    pub(super) fn release_tasks(&mut self, id: JobId, saves: &mut Vec<Output>) -> Vec<Output> {
        let mut after = self.stop_tasks(id, saves);
        let Some(job) = self.jobs.get(id) else { return after };
        for task in &job.tasks {
            if let Some(commit) = task.record.commit {
                after.push(Output::DropResult { task: task.record.id, result: commit.result });
            }
        }
        after
    }
}

/// Ends what runs for the task: its attempts, its piece, its fetch.
pub(super) fn end_task(task: &mut Task, out: &mut Vec<Output>) {
    let id = task.record.id;
    task.leases.clear();
    task.fetch_tries.clear();
    task.cutting = false;
    task.lowering = false;
    let mut attempts = std::mem::take(&mut task.record.leases);
    attempts.append(&mut task.record.expired);
    if let Some((attempt, worker, result)) = task.fetching.take() {
        attempts.insert(attempt, worker);
        out.push(Output::DropResult { task: id, result });
    }
    if let Some(blob) = task.record.piece.take() {
        out.push(Output::ReleasePiece { task: id, blob });
    }
    for (attempt, to) in attempts {
        let message = Message::Verdict { attempt, verdict: Verdict::Drop };
        out.push(Output::Send { to, message });
    }
}
