//! The submitter of a job that is handed over whole: who gets it, when it is taken back, and how
//! its result comes home.
//!
//! The submitter alone publishes, and each custodian holds the job under a number of its own (the
//! epoch). What an earlier custodian says is answered by `Release`, unless it has the result; so two
//! custodians at the same time waste work and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::handover::{CustodyReport, HandedEnd, HandedJob, HandedRecord, HandedState};
use crate::id::{AgentId, BlobRef, JobId};
use crate::message::{Failure, FailureKind, Message};
use crate::record::{JobState, Record, RecordKey};
use crate::time::Time;

use super::leases::INPUT_BYTES_A_MS_MIN;
use super::peers::{Peer, PeerState};
use super::{Mesh, Output};

/// Longer uptimes are as good as this: then the free disk decides.
const UPTIME_S_MAX: u64 = 24 * 3_600;
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

/// Better custodians are larger: those that have been there for long, then those with more room.
fn rank(peer: &Peer) -> (u64, u64) {
    let info = peer.info.as_ref();
    let uptime_s = info.map_or(0, |info| info.uptime_s.min(UPTIME_S_MAX));
    (uptime_s / 600, info.map_or(0, |info| info.free_disk_bytes))
}

// ---- giving away ----

impl Mesh {
    pub(super) fn on_hand_over(
        &mut self,
        now: Time,
        id: JobId,
        handed: HandedJob,
        out: &mut Vec<Output>,
    ) {
        let known = self.handovers.all.contains_key(&id) || self.jobs.all.contains_key(&id);
        if known || self.custody.get(id).is_some() {
            return; // asked twice
        }
        let state = HandedState::Offered;
        let former = BTreeMap::new();
        let record = HandedRecord { id, handed, epoch: 0, to: None, former, state };
        let new = Handed::new(now, record);
        new.save(out);
        self.handovers.all.insert(id, new);
        self.choose_custodian(now, id, out);
    }

    /// The best willing member that did not refuse; nobody is worse than a bad one, so this may
    /// find none for now.
    fn choose_custodian(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let Some(handed) = self.handovers.all.get(&id) else { return };
        let needed = handed.record.handed.disk_bytes();
        let only = handed.record.handed.deliver_to;
        let willing = |id: &AgentId, peer: &Peer| {
            let info = peer.info.as_ref();
            *id != self.me
                && peer.is_usable()
                && info.is_some_and(|info| info.custodian && !info.on_battery)
                && peer.has_room(needed)
                && !handed.refused.contains_key(id)
                && only.is_none_or(|only| only == *id && info.is_some_and(|info| info.inbox))
        };
        let candidates = self.peers.iter().filter(|(id, peer)| willing(id, peer));
        let Some((to, _)) = candidates.max_by_key(|(id, peer)| (rank(peer), *id)) else { return };
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        handed.record.to = Some(to);
        handed.record.epoch = handed.record.epoch.saturating_add(1);
        (handed.heard, handed.report) = (now, None);
        (handed.moved, handed.done) = (now, None);
        handed.save(out);
        self.say_hand_over(id, out);
    }

    /// Said again and again, so that a custodian that lost its memory begins anew.
    fn say_hand_over(&self, id: JobId, out: &mut Vec<Output>) {
        let Some(handed) = self.handovers.all.get(&id) else { return };
        let (HandedState::Offered | HandedState::Away, Some(to)) =
            (&handed.record.state, handed.record.to)
        else {
            return;
        };
        if self.peers.get(to).is_some_and(|peer| peer.state != PeerState::Gone) {
            let (epoch, handed) = (handed.record.epoch, handed.record.handed.clone());
            out.push(Output::Send { to, message: Message::HandOver { job: id, epoch, handed } });
        }
    }

    pub(super) fn hand_over_again_to(&self, peer: AgentId, out: &mut Vec<Output>) {
        for (id, handed) in &self.handovers.all {
            if handed.record.to == Some(peer) {
                self.say_hand_over(*id, out);
            }
        }
    }

    /// A custodian that says nothing of the job is gone, and nobody waits for ever. On a battery
    /// this agent leaves the work to the custodian for as long as it takes.
    pub(super) fn tick_handovers(&mut self, now: Time, out: &mut Vec<Output>) {
        let again = now.since_ms(self.handovers.said) >= self.config.heartbeat_ms;
        if again {
            self.handovers.said = now;
        }
        let mains = self.peers.get(self.me).and_then(|me| me.info.as_ref());
        let mains = mains.is_none_or(|info| !info.on_battery);
        let ids: Vec<JobId> = self.handovers.all.keys().copied().collect();
        for id in ids {
            let Some(handed) = self.handovers.all.get_mut(&id) else { continue };
            let (silent_ms, delivery) = (now.since_ms(handed.heard), handed.is_delivery());
            let config = &self.config;
            let stalled = handed.is_stalled(now, config.custody_stall_ms);
            match (&handed.record.state, handed.record.to) {
                (HandedState::Offered, None) if silent_ms <= config.custody_seek_ms => {
                    self.choose_custodian(now, id, out);
                }
                (HandedState::Offered, None) if delivery => {
                    handed.refused.clear();
                    handed.heard = now;
                }
                (HandedState::Offered, None) => self.take_back(now, id, out),
                (HandedState::Offered, Some(_)) if silent_ms > config.custody_offer_ms => {
                    self.next_custodian(now, id, "it went away", out);
                }
                (HandedState::Offered, Some(_)) if stalled => {
                    self.next_custodian(now, id, "the source did not get there", out);
                }
                (HandedState::Away, Some(_)) if stalled && mains && !delivery => {
                    self.take_back(now, id, out);
                }
                (HandedState::Away | HandedState::Returning(_), Some(_))
                    if silent_ms > config.custody_silence_ms
                        && mains
                        && !delivery
                        && !handed.fetching =>
                {
                    self.take_back(now, id, out);
                }
                _ if again => self.say_hand_over(id, out),
                _ => {}
            }
        }
    }

    fn next_custodian(&mut self, now: Time, id: JobId, why: &str, out: &mut Vec<Output>) {
        let to = self.handovers.get(id).and_then(|handed| handed.record.to);
        let name = to.map(|to| self.name_of(to)).unwrap_or_default();
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        if let Some(old) = handed.give_up_custodian(now) {
            handed.refused.insert(old, format!("{name}: {why}"));
        }
        handed.record.state = HandedState::Offered;
        handed.save(out);
        self.choose_custodian(now, id, out);
    }

    /// The custodian is not a member any more: another one, or this agent, does the job.
    pub(super) fn lose_custodian(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        match self.handovers.get(id).map(|handed| &handed.record.state) {
            Some(HandedState::Offered) => self.next_custodian(now, id, "it was evicted", out),
            Some(HandedState::Away | HandedState::Returning(_)) => self.take_back(now, id, out),
            Some(HandedState::Own | HandedState::Over(_)) | None => {}
        }
    }

    /// This agent owns the job again, under a number that makes all said before untrue.
    pub(super) fn take_back(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let Some(handed) = self.handovers.all.get_mut(&id) else { return };
        if !handed.record.state.can_become(&HandedState::Own) {
            return;
        }
        let fetching = std::mem::replace(&mut handed.fetching, false);
        let custodian = handed.give_up_custodian(now);
        handed.become_state(HandedState::Own, out);
        let epoch = handed.record.epoch;
        if fetching {
            out.push(Output::StopHanded(id));
        }
        if let Some(to) = custodian {
            self.release_custody(to, id, epoch, out);
        }
        if let Some(job) = self.jobs.all.get_mut(&id) {
            // Its own work rested while a late result was fetched.
            if job.record.state == JobState::Joining {
                job.record.state = JobState::Active;
                job.save(out);
            }
            self.offer(now, id, out);
            self.join_if_complete(id, out);
        } else {
            out.push(Output::TakeBack(id));
        }
    }

    fn release_custody(&self, to: AgentId, job: JobId, epoch: u32, out: &mut Vec<Output>) {
        if self.peers.get(to).is_some_and(|peer| peer.state != PeerState::Gone) {
            out.push(Output::Send { to, message: Message::Release { job, epoch } });
        }
    }
}

// ---- what custodians say ----

impl Mesh {
    pub(super) fn on_custody(
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
            && self.jobs.get(id).is_none_or(super::jobs::Job::is_active)
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
    fn blame_custodian(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        let Some(of) = self.handovers.get(id).and_then(|handed| handed.record.to) else { return };
        self.count_refused(now, of);
        self.take_back(now, id, out);
        if let Some(handed) = self.handovers.all.get_mut(&id) {
            handed.record.former.remove(&of);
            handed.save(out);
        }
    }
}

// ---- coming home ----

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

    /// The result was fetched, verified and published here: a fact, also when the job was taken back
    /// in that moment.
    pub(super) fn on_handed_published(&mut self, id: JobId, out: &mut Vec<Output>) {
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
    pub(super) fn on_handed_bad(
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
    pub(super) fn on_handed_failed(&mut self, id: JobId, error: String, out: &mut Vec<Output>) {
        self.end_handed(id, HandedEnd::Failed(error.clone()), out);
        self.on_fail_job(id, vec![error], out);
    }

    /// Nothing is left to do; the custodian may forget the job.
    pub(super) fn end_handed(&mut self, id: JobId, end: HandedEnd, out: &mut Vec<Output>) {
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

    pub(super) fn remove_handed(&mut self, id: JobId, out: &mut Vec<Output>) {
        if self.handovers.get(id).is_some_and(|handed| handed.record.state.is_over()) {
            self.handovers.all.remove(&id);
            out.push(Output::Erase(RecordKey::Handed(id)));
        }
    }

    /// The submitter's own work ended: what a custodian still does for it is in vain.
    pub(super) fn own_work_ended(&mut self, id: JobId, out: &mut Vec<Output>) {
        if self.handovers.get(id).is_some_and(|h| h.record.state == HandedState::Own) {
            self.end_handed(id, HandedEnd::Own, out);
        }
    }

    /// This agent's own planning failed before there was a job.
    pub(super) fn own_plan_failed(&mut self, id: JobId, errors: &[String], out: &mut Vec<Output>) {
        let own = self.handovers.get(id).is_some_and(|h| h.record.state == HandedState::Own);
        if own && self.jobs.get(id).is_none() {
            self.end_handed(id, HandedEnd::Failed(errors.join("; ")), out);
        }
    }

    /// A person tries a job that is over again: this agent does it itself.
    pub(super) fn own_again(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        if let Some(handed) = self.handovers.all.get_mut(&id)
            && handed.record.state.is_over()
        {
            handed.give_up_custodian(now);
            handed.become_state(HandedState::Own, out);
        }
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
