//! The custodian: jobs of other agents that this one keeps, as their owner in the submitter's stead.
//!
//! This agent owns such a job from the moment when its source is durably here and the record says
//! `Working`; only then does it tell the submitter, who may leave when it has heard so.

use std::collections::BTreeMap;

use crate::config::REASON_BYTES_MAX;
use crate::handover::{CustodyRecord, CustodyReport, CustodyState, HandedJob};
use crate::id::{AgentId, BlobRef, JobId};
use crate::media::TaskSpec;
use crate::message::{Message, bounded};
use crate::record::{JobState, Record, RecordKey};
use crate::time::Time;

use super::peers::PeerState;
use super::work::KEPT_SAVE_MS;
use super::{Mesh, Output};

/// A job of another agent.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The durable part.
    pub record: CustodyRecord,
    /// When it came, or when the time that it is kept was last added up.
    since: Time,
}

/// All jobs that this agent keeps.
#[derive(Debug, Default)]
pub struct Custody {
    all: BTreeMap<JobId, Kept>,
}

impl Custody {
    /// One job.
    pub fn get(&self, job: JobId) -> Option<&Kept> {
        self.all.get(&job)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Kept> {
        self.all.values()
    }

    /// This agent slept: nobody was silent meanwhile.
    pub(super) fn shift(&mut self, later: impl Fn(Time) -> Time) {
        self.all.values_mut().for_each(|kept| kept.since = later(kept.since));
    }
}

impl Mesh {
    pub(super) fn on_asked_to_keep(
        &mut self,
        now: Time,
        from: AgentId,
        id: JobId,
        epoch: u32,
        handed: HandedJob,
        out: &mut Vec<Output>,
    ) {
        if let Some(kept) = self.custody.all.get_mut(&id).filter(|kept| kept.record.from == from) {
            if epoch > kept.record.epoch {
                kept.record.epoch = epoch;
                out.push(Output::Save(Record::Custody(kept.record.clone())));
            }
            return self.report_custody_of(id, out);
        }
        if let Err(why) = self.may_keep(from, id, &handed) {
            let held = vec![(id, epoch, CustodyReport::Refused(why))];
            out.push(Output::Send { to: from, message: Message::Custody { held } });
            return;
        }
        let source = handed.source;
        let state = CustodyState::Fetching;
        let record = CustodyRecord { id, from, epoch, handed, state, kept_ms: 0 };
        out.push(Output::Save(Record::Custody(record.clone())));
        self.custody.all.insert(id, Kept { record, since: now });
        out.push(Output::FetchSource { job: id, from, source });
        self.report_custody_of(id, out);
    }

    fn may_keep(&self, from: AgentId, id: JobId, handed: &HandedJob) -> Result<(), String> {
        let me = self.peers.get(self.me);
        let willing = me.and_then(|me| me.info.as_ref()).is_some_and(|info| info.custodian);
        let inbox = me.and_then(|me| me.info.as_ref()).is_some_and(|info| info.inbox);
        let needed = handed.disk_bytes();
        let of_one = self.custody.iter().filter(|kept| kept.record.from == from).count();
        let of_own = self.jobs.get(id).is_some() || self.handovers.get(id).is_some();
        let kept_bytes: u64 = self.custody.iter().map(|k| k.record.handed.source.bytes).sum();
        let why = if !willing {
            "it keeps no jobs of others"
        } else if self.work.paused {
            "its person paused it"
        } else if self.work.off_hours {
            "it is outside its hours"
        } else if self.work.stopping {
            "it is stopping"
        } else if self.custody.all.len() >= self.config.custody_max
            || of_one >= self.config.custody_per_submitter_max
        {
            "it keeps too many jobs already"
        } else if of_own || self.custody.get(id).is_some() {
            "it has another job of this id"
        } else if !me.is_some_and(|me| me.has_room(needed.saturating_add(kept_bytes))) {
            "it has not enough room"
        } else if handed.deliver_to.is_some_and(|to| to != self.me) {
            "the result is for another agent"
        } else if handed.deliver_as.is_some() && !inbox {
            "it has no inbox"
        } else {
            return Ok(());
        };
        Err(why.to_owned())
    }

    /// The whole source is in the store: from here on this agent is the owner.
    pub(super) fn on_custody_source(&mut self, id: JobId, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.all.get_mut(&id) else { return };
        if kept.record.state == CustodyState::Fetching {
            self.custody_becomes(id, CustodyState::Working, out);
            out.push(Output::BeginCustody(id));
        }
    }

    /// The plan is made. The submitter may have released the job meanwhile: then nothing begins, and
    /// what planning left goes.
    pub(super) fn on_add_custody_job(
        &mut self,
        now: Time,
        id: JobId,
        source: BlobRef,
        tasks: Vec<TaskSpec>,
        out: &mut Vec<Output>,
    ) {
        if self.custody.get(id).is_some_and(|kept| kept.record.state == CustodyState::Working) {
            self.on_add_job(now, id, 0, Some(source), tasks, out);
        } else if self.custody.get(id).is_none() {
            out.push(Output::EndCustody { job: id, source, result: None });
        }
    }

    /// The job cannot be kept or done.
    pub(super) fn on_custody_failed(&mut self, id: JobId, why: String, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.all.get(&id) else { return };
        if matches!(kept.record.state, CustodyState::Fetching | CustodyState::Working) {
            let why = bounded(why, REASON_BYTES_MAX);
            self.custody_becomes(id, CustodyState::Failed(why), out);
        }
    }

    /// This agent gives the job up. The record stays until the submitter knows, because that would
    /// ask again.
    pub(super) fn on_custody_given_up(&mut self, id: JobId, why: String, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.all.get(&id) else { return };
        if matches!(kept.record.state, CustodyState::Fetching | CustodyState::Working) {
            let source = kept.record.handed.source;
            let why = bounded(why, REASON_BYTES_MAX);
            self.custody_becomes(id, CustodyState::GivenUp(why), out);
            self.end_job(id, JobState::Cancelled, out);
            self.on_remove_job(id, out);
            out.push(Output::EndCustody { job: id, source, result: None });
        }
    }

    /// The result is a blob (`None`: it lies in the inbox).
    pub(super) fn on_custody_result(
        &mut self,
        id: JobId,
        result: Option<BlobRef>,
        out: &mut Vec<Output>,
    ) {
        let Some(kept) = self.custody.all.get(&id) else { return };
        if kept.record.state != CustodyState::Working {
            let source = kept.record.handed.source;
            out.push(Output::EndCustody { job: id, source, result });
        } else {
            let state = result.map_or(CustodyState::Delivered, CustodyState::Done);
            self.custody_becomes(id, state, out);
        }
    }

    fn custody_becomes(&mut self, id: JobId, state: CustodyState, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.all.get_mut(&id) else { return };
        kept.record.state = state;
        out.push(Output::Save(Record::Custody(kept.record.clone())));
        out.push(Output::Changed(id));
        self.report_custody_of(id, out);
    }

    /// A job ended here that is another agent's.
    pub(super) fn custody_job_ended(&mut self, id: JobId, out: &mut Vec<Output>) {
        if self.custody.get(id).is_none() {
            return;
        }
        match self.jobs.get(id).map(|job| job.record.state.clone()) {
            Some(JobState::Done) => out.push(Output::KeepResult(id)),
            Some(JobState::Failed(errors)) => self.on_custody_failed(id, errors.join("; "), out),
            Some(JobState::Cancelled) => {
                self.on_custody_given_up(id, "it was cancelled there".to_owned(), out);
            }
            // A person ended it while it was planned.
            None => self.on_custody_given_up(id, "it was cancelled there".to_owned(), out),
            _ => {}
        }
    }

    fn report_of(&self, kept: &Kept) -> CustodyReport {
        match &kept.record.state {
            CustodyState::Fetching => CustodyReport::Fetching,
            CustodyState::Working => {
                let tasks = self.jobs.get(kept.record.id).map(|job| job.tasks.as_slice());
                let tasks = tasks.unwrap_or_default();
                let done: u64 = tasks.iter().map(|task| u64::from(task.done())).sum();
                let part = done / (tasks.len() as u64).max(1);
                CustodyReport::Working { done: u16::try_from(part).unwrap_or(0) }
            }
            CustodyState::Done(result) => CustodyReport::Done(*result),
            CustodyState::Delivered => CustodyReport::Delivered,
            CustodyState::Failed(why) => CustodyReport::Failed(why.clone()),
            CustodyState::GivenUp(why) => CustodyReport::Refused(why.clone()),
        }
    }

    fn report_custody_of(&self, id: JobId, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.get(id) else { return };
        let to = kept.record.from;
        if self.peers.get(to).is_some_and(|peer| peer.state != PeerState::Gone) {
            let held = vec![(id, kept.record.epoch, self.report_of(kept))];
            out.push(Output::Send { to, message: Message::Custody { held } });
        }
    }

    /// Everything that is kept for this submitter.
    pub(super) fn report_custody_to(&self, to: AgentId, out: &mut Vec<Output>) {
        let of = self.custody.iter().filter(|kept| kept.record.from == to);
        let held: Vec<_> =
            of.map(|kept| (kept.record.id, kept.record.epoch, self.report_of(kept))).collect();
        for held in held.chunks(crate::config::CUSTODY_REPORTS_MAX / 8) {
            let held = held.to_vec();
            out.push(Output::Send { to, message: Message::Custody { held } });
        }
    }

    /// Only the submitter may say so, and only with a number that is not older than what is kept.
    pub(super) fn on_release(
        &mut self,
        from: AgentId,
        id: JobId,
        epoch: u32,
        out: &mut Vec<Output>,
    ) {
        let kept = self.custody.get(id);
        if kept.is_some_and(|kept| kept.record.from == from && epoch >= kept.record.epoch) {
            self.drop_custody(id, out);
        }
    }

    /// The submitter is not a member any more: nobody wants this.
    pub(super) fn drop_custody_of(&mut self, from: AgentId, out: &mut Vec<Output>) {
        let theirs = self.custody.iter().filter(|kept| kept.record.from == from);
        let theirs: Vec<JobId> = theirs.map(|kept| kept.record.id).collect();
        for job in theirs {
            self.drop_custody(job, out);
        }
    }

    fn drop_custody(&mut self, id: JobId, out: &mut Vec<Output>) {
        let Some(kept) = self.custody.all.remove(&id) else { return };
        out.push(Output::Erase(RecordKey::Custody(id)));
        self.on_cancel_job(id, out);
        self.on_remove_job(id, out);
        let result = match kept.record.state {
            CustodyState::Done(result) => Some(result),
            _ => None,
        };
        let source = kept.record.handed.source;
        out.push(Output::EndCustody { job: id, source, result });
    }

    /// A source whose submitter went away before it was here is let go: the submitter still owns
    /// the job. Results wait for a week.
    pub(super) fn tick_custody(&mut self, now: Time, out: &mut Vec<Output>) {
        let (offer_ms, kept_ms_max) = (self.config.custody_offer_ms, self.config.result_kept_ms);
        let mut old = Vec::new();
        for (id, kept) in &mut self.custody.all {
            let submitter = self.peers.get(kept.record.from);
            let there = submitter.is_some_and(|peer| peer.state != PeerState::Gone);
            let silent_ms = submitter.map_or(u64::MAX, |peer| now.since_ms(peer.heard));
            let waited_ms = now.since_ms(kept.since);
            match kept.record.state {
                CustodyState::Fetching if !there && silent_ms.min(waited_ms) > 2 * offer_ms => {
                    old.push(*id);
                }
                CustodyState::Fetching | CustodyState::Working => {}
                _ if there => kept.since = now,
                _ if kept.record.kept_ms.saturating_add(waited_ms) > kept_ms_max => old.push(*id),
                _ if waited_ms >= KEPT_SAVE_MS => {
                    kept.since = now;
                    kept.record.kept_ms = kept.record.kept_ms.saturating_add(waited_ms);
                    out.push(Output::Save(Record::Custody(kept.record.clone())));
                }
                _ => {}
            }
        }
        for id in old {
            self.drop_custody(id, out);
        }
    }

    pub(super) fn restore_custody(&mut self, now: Time, record: CustodyRecord) {
        self.peers.entry(now, record.from);
        self.custody.all.insert(record.id, Kept { record, since: now });
    }

    /// After the jobs are restored: what was under way goes on.
    pub(super) fn resume_custody(&mut self, out: &mut Vec<Output>) {
        let ids: Vec<JobId> = self.custody.all.keys().copied().collect();
        for id in ids {
            let Some(kept) = self.custody.get(id) else { continue };
            let (from, source) = (kept.record.from, kept.record.handed.source);
            match kept.record.state {
                CustodyState::Fetching => out.push(Output::FetchSource { job: id, from, source }),
                CustodyState::Working if self.jobs.get(id).is_none() => {
                    out.push(Output::BeginCustody(id));
                }
                CustodyState::Working => self.custody_job_ended(id, out),
                _ => {}
            }
        }
    }
}
