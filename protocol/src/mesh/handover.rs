//! The submitter of a job that is handed over whole: who gets it, when it is taken back, and how
//! its result comes home.
//!
//! The submitter alone publishes, and each custodian holds the job under a number of its own (the
//! epoch). What an earlier custodian says is answered by `Release`, unless it has the result; so two
//! custodians at the same time waste work and nothing else.

mod give;
mod home;
mod reports;

use std::collections::{BTreeMap, BTreeSet};

use crate::handover::{CustodyReport, HandedRecord, HandedState};
use crate::id::{AgentId, JobId};
use crate::record::Record;
use crate::time::Time;

use super::leases::INPUT_BYTES_A_MS_MIN;
use super::{Mesh, Output};

/// Custodians that were given up and are remembered.
const FORMER_MAX: usize = 16;

/// A job that was handed over, as its submitter sees it.
#[derive(Debug, Clone)]
pub struct Handed {
    /// The durable part.
    pub record: HandedRecord,
    /// What the custodian last said.
    pub report: Option<CustodyReport>,
    /// Why its result is not here yet, for people.
    pub trouble: Option<String>,
    /// When the custodian was chosen or last spoke of the job, or the search began.
    heard: Time,
    /// When its work last got further.
    moved: Time,
    /// How far its work was at most, in parts of 10,000; `None` while it fetches the source.
    done: Option<u16>,
    /// Agents that will not take it, and why.
    refused: BTreeMap<AgentId, String>,
    /// Its result is being fetched.
    fetching: bool,
    /// Fetches that the custodian did not serve.
    tries: u32,
    /// No fetch before then.
    retry: Time,
}

/// Everything that this agent handed over.
#[derive(Debug, Default)]
pub struct Handovers {
    pub(super) all: BTreeMap<JobId, Handed>,
    said: Time,
}

impl Handovers {
    /// One job.
    pub fn get(&self, job: JobId) -> Option<&Handed> {
        self.all.get(&job)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Handed> {
        self.all.values()
    }

    /// This agent slept: nobody was silent meanwhile.
    pub(super) fn shift(&mut self, later: impl Fn(Time) -> Time) {
        for handed in self.all.values_mut() {
            handed.heard = later(handed.heard);
            handed.moved = later(handed.moved);
        }
    }
}

impl Handed {
    fn new(now: Time, record: HandedRecord) -> Handed {
        Handed {
            record,
            report: None,
            trouble: None,
            heard: now,
            moved: now,
            done: None,
            refused: BTreeMap::new(),
            fetching: false,
            tries: 0,
            retry: now,
        }
    }

    fn become_state(&mut self, state: HandedState, out: &mut Vec<Output>) -> bool {
        if !self.record.state.can_become(&state) {
            return false;
        }
        self.record.state = state;
        self.save(out);
        true
    }

    fn save(&self, out: &mut Vec<Output>) {
        out.push(Output::Save(Record::Handed(self.record.clone())));
        out.push(Output::Changed(self.record.id));
    }

    /// The custodian is one no longer; the next number makes all that it says untrue.
    fn give_up_custodian(&mut self, now: Time) -> Option<AgentId> {
        let old = self.record.to.take();
        if let Some(old) = old {
            let any = self.record.former.keys().next().copied();
            if let (true, Some(any)) = (self.record.former.len() >= FORMER_MAX, any) {
                self.record.former.remove(&any);
            }
            self.record.former.insert(old, self.record.epoch);
        }
        self.record.epoch = self.record.epoch.saturating_add(1);
        (self.heard, self.report, self.trouble) = (now, None, None);
        (self.tries, self.retry) = (0, now);
        (self.moved, self.done) = (now, None);
        old
    }

    /// What the custodian says of its work; only more than ever before is progress.
    fn note_progress(&mut self, now: Time, report: &CustodyReport) {
        if let CustodyReport::Working { done } = report
            && self.done.is_none_or(|before| *done > before)
        {
            (self.moved, self.done) = (now, Some(*done));
        }
    }

    /// Whether the custodian speaks and its work does not get on: it hangs, or it lies.
    fn is_stalled(&self, now: Time, stall_ms: u64) -> bool {
        let travel_ms = match self.record.state {
            HandedState::Offered => self.record.handed.source.bytes / INPUT_BYTES_A_MS_MIN,
            _ => 0,
        };
        now.since_ms(self.moved) > stall_ms.saturating_add(travel_ms)
    }

    /// A result that stays at its custodian is not made anywhere else by itself.
    fn is_delivery(&self) -> bool {
        self.record.handed.deliver_to.is_some()
    }

    /// Why the job has no custodian yet, for people.
    pub fn refusals(&self) -> Vec<String> {
        let reasons: BTreeSet<&String> = self.refused.values().collect();
        reasons.into_iter().cloned().collect()
    }
}

impl Mesh {
    /// Whether tasks of this job may be done here: not while a custodian has it.
    pub(super) fn is_own(&self, id: JobId) -> bool {
        self.handovers.get(id).is_none_or(|handed| handed.record.state == HandedState::Own)
    }

    /// Whether the result of this job comes from a custodian, not from a join here.
    pub(super) fn is_returning(&self, id: JobId) -> bool {
        let state = self.handovers.get(id).map(|handed| &handed.record.state);
        matches!(state, Some(HandedState::Returning(_)))
    }

    pub(super) fn restore_handed(&mut self, now: Time, record: HandedRecord) {
        if let Some(to) = record.to {
            self.peers.entry(now, to);
        }
        self.handovers.all.insert(record.id, Handed::new(now, record));
    }

    /// After the jobs are restored: one that is this agent's own and was not planned yet.
    pub(super) fn resume_handovers(&self, out: &mut Vec<Output>) {
        let own = self.handovers.iter().filter(|h| h.record.state == HandedState::Own);
        let unplanned = own.filter(|h| self.jobs.get(h.record.id).is_none());
        out.extend(unplanned.map(|h| Output::TakeBack(h.record.id)));
    }
}
