//! What custodians say of the jobs that they were given.

use crate::handover::{CustodyReport, HandedEnd, HandedState};
use crate::id::{AgentId, BlobRef, JobId};
use crate::mesh::jobs::Job;
use crate::mesh::{Mesh, Output};
use crate::message::Message;
use crate::record::JobState;
use crate::time::Time;

impl Mesh {
    pub(in crate::mesh) fn on_custody(
        &mut self,
        now: Time,
        from: AgentId,
        held: Vec<(JobId, u32, CustodyReport)>,
        out: &mut Vec<Output>,
    ) {
        for (id, epoch, report) in held {
            // Whoever speaks can be answered, also before its connection was reported.
            let release = Output::Send { to: from, message: Message::Release { job: id, epoch } };
            let Some(handed) = self.handovers.all.get(&id) else {
                out.push(release);
                continue;
            };
            // A late result is held under the number of that time.
            let awaited = matches!((&handed.record.state, &report),
                (HandedState::Returning(wanted), CustodyReport::Done(result)) if wanted == result);
            let current =
                handed.record.to == Some(from) && (handed.record.epoch == epoch || awaited);
            match (current && !handed.record.state.is_over(), &report) {
                (true, _) => self.on_report(now, from, id, report, out),
                (false, CustodyReport::Done(result))
                    if self.is_late_result_welcome(from, id, epoch) =>
                {
                    self.accept_late(now, from, id, *result, out);
                }
                (false, _) => out.push(release),
            }
        }
    }

    fn on_report(
        &mut self,
        now: Time,
        from: AgentId,
        id: JobId,
        report: CustodyReport,
        out: &mut Vec<Output>,
    ) {
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        handed.heard = now;
        handed.note_progress(now, &report);
        if handed.report.as_ref() != Some(&report) {
            handed.report = Some(report.clone());
            out.push(Output::Changed(id));
        }
        let (offered, delivery) =
            (handed.record.state == HandedState::Offered, handed.is_delivery());
        match report {
            CustodyReport::Refused(why) if offered || delivery => {
                self.next_custodian(now, id, &why, out);
            }
            CustodyReport::Refused(_) => self.take_back(now, id, out),
            CustodyReport::Fetching => {}
            CustodyReport::Working { .. } => {
                if offered {
                    handed.become_state(HandedState::Away, out);
                }
            }
            CustodyReport::Done(result) if !delivery => {
                if !matches!(handed.record.state, HandedState::Returning(_)) {
                    handed.become_state(HandedState::Returning(result), out);
                }
                self.fetch_handed(now, id, from, out);
            }
            CustodyReport::Delivered if delivery => {
                self.end_handed(id, HandedEnd::Delivered, out);
            }
            CustodyReport::Failed(why) => {
                let error = format!("{}: {why}", self.name_of(from));
                self.end_handed(id, HandedEnd::Failed(error), out);
            }
            // It was not asked to put the result there, or to keep it.
            CustodyReport::Done(_) | CustodyReport::Delivered => {
                self.blame_custodian(now, id, out);
            }
        }
    }

    fn fetch_handed(&mut self, now: Time, id: JobId, from: AgentId, out: &mut Vec<Output>) {
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        if let HandedState::Returning(result) = handed.record.state
            && now >= handed.retry
            && !std::mem::replace(&mut handed.fetching, true)
        {
            out.push(Output::FetchHanded { job: id, from, result });
        }
    }

    /// A result of a custodian that was given up is welcome while nothing better is in sight.
    fn is_late_result_welcome(&self, from: AgentId, id: JobId, epoch: u32) -> bool {
        let Some(handed) = self.handovers.get(id) else { return false };
        let open = matches!(
            handed.record.state,
            HandedState::Offered | HandedState::Away | HandedState::Own
        );
        open && !handed.is_delivery()
            && handed.record.former.get(&from) == Some(&epoch)
            && self.jobs.get(id).is_none_or(Job::is_active)
    }

    fn accept_late(
        &mut self,
        now: Time,
        from: AgentId,
        id: JobId,
        result: BlobRef,
        out: &mut Vec<Output>,
    ) {
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        handed.give_up_custodian(now);
        handed.record.to = Some(from);
        handed.become_state(HandedState::Returning(result), out);
        // Own work rests meanwhile; what is committed stays.
        if let Some(job) = self.jobs.all.get_mut(&id) {
            job.record.state = JobState::Joining;
            job.save(out);
            let mut after = self.stop_tasks(id, out);
            out.append(&mut after);
            self.withdraw(id, out);
        }
        self.fetch_handed(now, id, from, out);
    }

    /// What it has or says is not right: nothing more is expected of it.
    pub(super) fn blame_custodian(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let Some(of) = self.handovers.get(id).and_then(|handed| handed.record.to) else { return };
        self.count_refused(now, of);
        self.take_back(now, id, out);
        if let Some(handed) = self.handovers.all.get_mut(&id) {
            handed.record.former.remove(&of);
            handed.save(out);
        }
    }
}
