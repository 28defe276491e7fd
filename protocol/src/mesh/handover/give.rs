//! To whom a job is given, when the next one gets it, and when it is taken back.

use std::collections::BTreeMap;

use crate::handover::{HandedJob, HandedRecord, HandedState};
use crate::id::{AgentId, JobId};
use crate::mesh::peers::{Peer, PeerState};
use crate::mesh::{Mesh, Output};
use crate::message::Message;
use crate::record::JobState;
use crate::time::Time;

use super::Handed;

/// Longer uptimes are as good as this: then the free disk decides.
const UPTIME_S_MAX: u64 = 24 * 3_600;

/// Better custodians are larger: those that have been there for long, then those with more room.
fn rank(peer: &Peer) -> (u64, u64) {
    let info = peer.info.as_ref();
    let uptime_s = info.map_or(0, |info| info.uptime_s.min(UPTIME_S_MAX));
    (uptime_s / 600, info.map_or(0, |info| info.free_disk_bytes))
}

impl Mesh {
    pub(in crate::mesh) fn on_hand_over(
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

    pub(in crate::mesh) fn hand_over_again_to(&self, peer: AgentId, out: &mut Vec<Output>) {
        for (id, handed) in &self.handovers.all {
            if handed.record.to == Some(peer) {
                self.say_hand_over(*id, out);
            }
        }
    }

    /// A custodian that says nothing of the job is gone, and nobody waits for ever. On a battery
    /// this agent leaves the work to the custodian for as long as it takes.
    pub(in crate::mesh) fn tick_handovers(&mut self, now: Time, out: &mut Vec<Output>) {
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

    pub(super) fn next_custodian(
        &mut self,
        now: Time,
        id: JobId,
        why: &str,
        out: &mut Vec<Output>,
    ) {
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
    pub(in crate::mesh) fn lose_custodian(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
        match self.handovers.get(id).map(|handed| &handed.record.state) {
            Some(HandedState::Offered) => self.next_custodian(now, id, "it was evicted", out),
            Some(HandedState::Away | HandedState::Returning(_)) => self.take_back(now, id, out),
            Some(HandedState::Own | HandedState::Over(_)) | None => {}
        }
    }

    /// This agent owns the job again, under a number that makes all said before untrue.
    pub(in crate::mesh) fn take_back(&mut self, now: Time, id: JobId, out: &mut Vec<Output>) {
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

    pub(super) fn release_custody(
        &self,
        to: AgentId,
        job: JobId,
        epoch: u32,
        out: &mut Vec<Output>,
    ) {
        if self.peers.get(to).is_some_and(|peer| peer.state != PeerState::Gone) {
            out.push(Output::Send { to, message: Message::Release { job, epoch } });
        }
    }
}
