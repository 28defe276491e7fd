//! What owners offer, and how much of it this agent wants.

use crate::id::{AgentId, JobId};
use crate::mesh::{Mesh, Output};
use crate::message::{Message, OfferedWork};
use crate::time::Time;

use super::{DiskFull, Work};

/// In the place of a bid that was not said yet.
const UNSAID: u32 = u32::MAX;

impl Work {
    pub(in crate::mesh) fn forget_offers(&mut self, owner: AgentId) {
        self.offers.remove(&owner);
        self.turns.leave(owner);
    }

    /// The owner takes a seat less for granted than was said: the next bid is said in any case.
    pub(super) fn unsay(&mut self, owner: AgentId) {
        let offers = self.offers.get_mut(&owner);
        offers.into_iter().flatten().for_each(|(_, said)| *said = UNSAID);
        self.bids_changed = true;
    }

    fn forget_offer(&mut self, owner: AgentId, job: JobId) {
        let Some(offers) = self.offers.get_mut(&owner) else { return };
        offers.remove(&job);
        if offers.is_empty() {
            self.forget_offers(owner);
        }
    }
}

impl Mesh {
    pub(in crate::mesh) fn on_offer(
        &mut self,
        owner: AgentId,
        job: JobId,
        work: &[OfferedWork],
        out: &mut Vec<Output>,
    ) {
        if work.is_empty() {
            self.work.forget_offer(owner, job);
            return self.bid_again();
        }
        let able = self.peers.get(self.me).is_some_and(|me| {
            me.slots() > 0 && work.iter().any(|offered| me.has_all(&offered.requires))
        });
        let full = self.work.offers.get(&owner).is_some_and(|offers| {
            offers.len() >= self.config.offers_per_owner_max && !offers.contains_key(&job)
        });
        if !able || full || self.work.rests() || self.work.stopping {
            self.work.forget_offer(owner, job);
            out.push(Output::Send { to: owner, message: Message::Decline { job } });
            return;
        }
        self.work.turns.enter(owner);
        let want = self.want_of(owner, self.hearers().contains(&owner));
        self.work.offers.entry(owner).or_default().insert(job, want);
        out.push(Output::Send { to: owner, message: Message::Accept { job, want } });
    }

    /// How many attempts of this owner this agent wants to hold: what it holds for it, plus what
    /// is free after all owners' attempts when it is its turn.
    fn want_of(&self, owner: AgentId, its_turn: bool) -> u32 {
        let slots = self.peers.slots_of(self.me);
        if slots == 0 {
            return 0; // this agent only owns jobs
        }
        let full = self.work.stopping || self.work.disk_full.contains_key(&owner);
        let free = slots
            .saturating_add(self.config.grants_ahead)
            .saturating_sub(u32::try_from(self.work.unfinished()).unwrap_or(u32::MAX));
        let kept = u32::from(self.last_seat_is_for_others(owner));
        let free = if full || !its_turn { 0 } else { free.saturating_sub(kept) };
        free.saturating_add(u32::try_from(self.work.unfinished_for(owner)).unwrap_or(u32::MAX))
    }

    /// What this agent wants may have changed; its owners hear of it at the end of the step.
    pub(in crate::mesh) fn bid_again(&mut self) {
        self.work.bids_changed = true;
    }

    /// Says to owners with standing offers how much this agent wants now, where that changed;
    /// whether it said anything.
    pub(in crate::mesh) fn say_bids(&mut self, out: &mut Vec<Output>) -> bool {
        if !std::mem::take(&mut self.work.bids_changed) {
            return false;
        }
        let before = out.len();
        let hearers = self.hearers();
        let owners: Vec<AgentId> = self.work.offers.keys().copied().collect();
        for owner in owners {
            let want = self.want_of(owner, hearers.contains(&owner));
            for (job, said) in self.work.offers.get_mut(&owner).into_iter().flatten() {
                if *said != want {
                    *said = want;
                    let message = Message::Accept { job: *job, want };
                    out.push(Output::Send { to: owner, message });
                }
            }
        }
        out.len() > before
    }

    pub(super) fn note_disk_full(&mut self, now: Time, owner: AgentId) {
        let free_bytes = self.peers.get(self.me).and_then(|me| me.info.as_ref());
        let free_bytes = free_bytes.map_or(0, |info| info.free_disk_bytes);
        self.work.disk_full.insert(owner, DiskFull { since: now, free_bytes });
    }

    /// Bids again once clearly more is free than when work did not fit, or after a while.
    pub(in crate::mesh) fn bid_if_room_changed(&mut self, now: Time) {
        let (pause_ms, me) = (self.config.disk_full_pause_ms, self.peers.get(self.me));
        let before = self.work.disk_full.len();
        self.work.disk_full.retain(|_, full| {
            let more = full.free_bytes.saturating_add(full.free_bytes / 16).saturating_add(1);
            !me.is_some_and(|me| me.has_room(more)) && now.since_ms(full.since) <= pause_ms
        });
        if self.work.disk_full.len() < before {
            self.bid_again();
        }
    }
}
