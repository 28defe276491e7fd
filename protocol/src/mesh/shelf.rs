//! Jobs that are over leave the memory.
//!
//! What people see of such a job is kept elsewhere before it leaves. A job that cannot be tried again
//! leaves nothing here; one that can puts its records on the shelf, which no restart reads, and takes
//! them back before it is tried again.

use crate::handover::{HandedEnd, HandedState};
use crate::id::JobId;
use crate::record::{JobState, Record, RecordKey};
use crate::time::Time;

use super::{Mesh, Output};

impl Mesh {
    /// Whether nothing of the job is under way here any more, neither by this agent nor by others for
    /// it. A job that is kept for another agent is over when its submitter says so.
    pub fn is_at_rest(&self, id: JobId) -> bool {
        let over = self.jobs.get(id).is_none_or(|job| job.record.state.is_over());
        let handed = self.handovers.get(id).is_none_or(|handed| handed.record.state.is_over());
        over && handed && self.custody.get(id).is_none()
    }

    pub(super) fn on_shelve_job(&mut self, id: JobId, out: &mut Vec<Output>) {
        if !self.is_at_rest(id) {
            return; // tried again meanwhile
        }
        let again = self.can_be_tried_again(id);
        let mut put = |record: Record| {
            out.push(match again {
                true => Output::Shelve(record),
                false => Output::Erase(record.key()),
            });
        };
        // The job last: where so many records do not become durable at once, a restart finds it and
        // the rest of them follows.
        let job = self.jobs.all.remove(&id);
        let (job, tasks) = job.map(|job| (job.record, job.tasks)).unzip();
        tasks.into_iter().flatten().for_each(|task| put(Record::Task(task.record)));
        if let Some(handed) = self.handovers.all.remove(&id) {
            put(Record::Handed(handed.record));
        }
        if let Some(job) = job {
            put(Record::Job(job));
        }
    }

    fn can_be_tried_again(&self, id: JobId) -> bool {
        let done = self.jobs.get(id).is_some_and(|job| job.record.state == JobState::Done);
        let handed = self.handovers.get(id).map(|handed| &handed.record.state);
        let brought =
            matches!(handed, Some(HandedState::Over(HandedEnd::Published | HandedEnd::Delivered)));
        !done && !brought
    }

    /// The records of one job come back as they left: over, until somebody says what follows.
    pub(super) fn on_unshelve_job(
        &mut self,
        now: Time,
        records: Vec<Record>,
        out: &mut Vec<Output>,
    ) {
        for record in records {
            let known = match record.key() {
                RecordKey::Job(id) => self.jobs.get(id).is_some(),
                RecordKey::Task(id) => self.jobs.task(id).is_some(),
                RecordKey::Handed(id) => self.handovers.get(id).is_some(),
                RecordKey::Work(_) | RecordKey::Custody(_) | RecordKey::Paused => true,
            };
            if known {
                continue; // never left, or came back already
            }
            out.push(Output::Unshelve(record.clone()));
            match record {
                Record::Job(job) => self.restore_job(job),
                Record::Task(task) => self.restore_task(now, task, out),
                Record::Handed(handed) => self.restore_handed(now, handed),
                Record::Work(_) | Record::Custody(_) | Record::Paused(_) => {}
            }
        }
    }
}
