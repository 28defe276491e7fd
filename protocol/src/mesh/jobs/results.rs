//! What becomes of results: committed, refused, made again another way, joined.

use crate::id::{AttemptId, JobId, TaskId};
use crate::media::TaskSpec;
use crate::mesh::peers::PeerState;
use crate::mesh::{Mesh, Output};
use crate::message::{Failure, FailureKind, Message, Verdict};
use crate::record::{Commit, JobState};
use crate::time::Time;

use super::end::end_task;
use super::task::new_task;

impl Mesh {
    pub(in crate::mesh) fn on_result_good(
        &mut self,
        now: Time,
        attempt: AttemptId,
        id: TaskId,
        out: &mut Vec<Output>,
    ) {
        let Some(task) = self.jobs.task_mut(id) else { return };
        let Some((_, worker, result)) = task.fetching.take_if(|(of, ..)| *of == attempt) else {
            return; // redone or cancelled meanwhile
        };
        let class = task.record.spec.class();
        task.record.commit = Some(Commit { attempt, worker, result });
        let leases = std::mem::take(&mut task.record.leases);
        let expired = std::mem::take(&mut task.record.expired);
        task.leases.clear();
        task.fetch_tries.clear();
        task.cutting = false; // a piece that still comes is released
        let piece = task.record.piece.take();
        task.save(out);
        // Durable from here on: the winner may delete its copy, the others may stop.
        let others = leases.into_iter().chain(expired).filter(|(of, _)| *of != attempt);
        for (attempt, to) in others.chain([(attempt, worker)]) {
            let message = Message::Verdict { attempt, verdict: Verdict::Drop };
            out.push(Output::Send { to, message });
        }
        if let Some(blob) = piece {
            out.push(Output::ReleasePiece { task: id, blob });
        }
        self.judge(now, worker, class, true);
        let peer = self.peers.entry(now, worker);
        peer.delivered = peer.delivered.saturating_add(1);
        out.push(Output::Changed(id.job));
        self.join_if_complete(id.job, out);
    }

    pub(in crate::mesh) fn on_result_bad(
        &mut self,
        now: Time,
        attempt: AttemptId,
        id: TaskId,
        failure: Failure,
        out: &mut Vec<Output>,
    ) {
        let tries_max = self.config.fetch_tries_max;
        let Some(task) = self.jobs.task_mut(id) else { return };
        let Some((_, worker, _)) = task.fetching.take_if(|(of, ..)| *of == attempt) else { return };
        let mut failure = failure;
        if !failure.kind.blames() {
            let there =
                self.peers.get(worker).is_some_and(|peer| peer.state == PeerState::Connected);
            let Some(task) = self.jobs.task_mut(id) else { return };
            let tries = task.fetch_tries.entry(attempt).or_default();
            *tries += u32::from(there && failure.kind == FailureKind::Busy);
            if *tries < tries_max {
                // Work is dear: the worker keeps the result and lists it until it is fetched, or
                // until its silence ends the lease.
                out.push(Output::Changed(id.job));
                return;
            }
            // Whoever is there and never serves what it promised must not hold the task for ever.
            failure = Failure::new(FailureKind::Verify, failure.reason);
        }
        self.attempt_failed(now, worker, attempt, id, failure, out);
        let message = Message::Verdict { attempt, verdict: Verdict::Drop };
        out.push(Output::Send { to: worker, message });
    }

    pub(in crate::mesh) fn on_redo(
        &mut self,
        now: Time,
        id: TaskId,
        spec: TaskSpec,
        out: &mut Vec<Output>,
    ) {
        let returning = self.is_returning(id.job);
        let Some(job) = self.jobs.all.get_mut(&id.job) else { return };
        if job.record.state.is_over() {
            return;
        }
        let Some(task) = job.tasks.get_mut(id.index as usize) else { return };
        let mut old = std::mem::replace(task, new_task(id.job, id.index as usize, spec));
        task.record.failures = std::mem::take(&mut old.record.failures);
        task.save(out);
        if job.record.state == JobState::Joining && !returning {
            job.record.state = JobState::Active;
        }
        job.save(out);
        if let Some(commit) = old.record.commit {
            out.push(Output::DropResult { task: id, result: commit.result });
        }
        end_task(&mut old, out);
        self.offer(now, id.job, out);
    }

    pub(in crate::mesh) fn join_if_complete(&mut self, id: JobId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.all.get_mut(&id) else { return };
        if job.is_active() && job.tasks.iter().all(|task| task.record.commit.is_some()) {
            job.record.state = JobState::Joining;
            job.save(out);
            out.push(Output::Join(id));
            self.withdraw(id, out);
        }
    }
}
