//! Second attempts at stragglers: when nothing is left to grant, an idle worker that would be done
//! much sooner tries the same task. The first verified result wins, the other attempt is dropped.

use crate::id::{AgentId, TaskId};
use crate::time::Time;

use super::forecast::Seat;
use super::jobs::{Job, Task};
use super::placement::Load;
use super::{Mesh, Output};

/// A straggler and who would be done sooner.
struct Hedge {
    task: TaskId,
    worker: AgentId,
    gain_ms: u64,
}

impl Mesh {
    /// Hedges the stragglers that gain most, within the part of all slots that hedges may take.
    pub(super) fn tick_hedges(&mut self, now: Time, out: &mut Vec<Output>) {
        let active = || self.jobs.iter().filter(|job| job.is_active());
        if self.config.hedge_slots_percent == 0 || active().any(Job::has_work_left) {
            return;
        }
        let running = active().flat_map(|job| &job.tasks).filter(|task| is_hedged(task)).count();
        let slots: u64 = self
            .peers
            .iter()
            .filter(|(_, p)| p.is_usable())
            .map(|(_, p)| u64::from(p.slots()))
            .sum();
        let allowed = (slots * u64::from(self.config.hedge_slots_percent) / 100).max(1);
        let mut free = usize::try_from(allowed).unwrap_or(usize::MAX).saturating_sub(running);
        while free > 0 && !self.ids.is_empty() {
            let Some(hedge) = self.best_hedge(now) else { return };
            self.grant(now, hedge.task, hedge.worker, out);
            free -= 1;
        }
    }

    fn best_hedge(&self, now: Time) -> Option<Hedge> {
        let load = self.load(now);
        let jobs = self.jobs.iter().filter(|job| job.is_active());
        let tasks = jobs.flat_map(|job| job.tasks.iter().map(move |task| (job, task)));
        let hedges = tasks.filter_map(|(job, task)| self.hedge_for(now, job, task, &load));
        hedges.max_by_key(|hedge| (hedge.gain_ms, hedge.task))
    }

    /// Who would finish the task clearly sooner than its one attempt, if anybody.
    fn hedge_for(&self, now: Time, job: &Job, task: &Task, load: &Load) -> Option<Hedge> {
        let alone = task.record.leases.len() == 1 && task.leases.len() == 1;
        let input = task.input_blob(job.record.source).is_some();
        if !alone || !input || task.fetching.is_some() || task.lowering {
            return None;
        }
        let (holder, left_ms) = self.task_left_ms(now, task).first().copied()?;
        if left_ms < self.config.hedge_left_ms {
            return None;
        }
        let soon_ms = left_ms.saturating_mul(u64::from(self.config.hedge_gain_percent)) / 100;
        let units = task.record.spec.work_units();
        let seats = self.seats(now, job, task, load).into_iter().map(|seat| Seat {
            want: self
                .jobs
                .bids
                .get(&seat.worker)
                .map_or(seat.want, |bid| bid.wanted.max(seat.want)),
            ..seat
        });
        let idle = seats.filter(|seat| seat.idle() && seat.credit > 0 && seat.worker != holder);
        let best = idle.min_by_key(|seat| (seat.finish_ms(units), seat.worker))?;
        let finish_ms = best.finish_ms(units);
        (finish_ms < soon_ms).then(|| Hedge {
            task: task.record.id,
            worker: best.worker,
            gain_ms: left_ms - finish_ms,
        })
    }
}

fn is_hedged(task: &Task) -> bool {
    task.record.commit.is_none() && task.record.leases.len() > 1
}
