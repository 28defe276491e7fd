//! Whose turn it is at a worker: every owner gets the same share of it, in time that its attempts
//! hold a seat, for as long as it has work (start-time fair queueing, Goyal, Vin, Cheng 1996).
//!
//! A free seat is told to the owner that was served least. When it is not taken within a second,
//! twice as many owners hear of it: a seat is never kept free for an owner that has nothing ready.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::AgentId;

use super::Mesh;
use super::work::Stage;

/// What an attempt that has just come counts for.
const SEAT_MS_MIN: u64 = 1_000;

/// What the owners got of this worker.
#[derive(Debug)]
pub(super) struct Turns {
    /// Milliseconds that attempts of owners with standing offers held a seat.
    served: BTreeMap<AgentId, u64>,
    /// Owners beyond the idle slots that hear of free seats.
    width: usize,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns { served: BTreeMap::new(), width: 1 }
    }
}

impl Turns {
    /// An owner has work. One that was not there before begins where the others are: nobody saves
    /// up turns.
    pub fn enter(&mut self, owner: AgentId) {
        let least = self.served.values().copied().min().unwrap_or(0);
        self.served.entry(owner).or_insert(least);
    }

    /// An owner has no work any more.
    pub fn leave(&mut self, owner: AgentId) {
        self.served.remove(&owner);
    }

    /// An attempt of the owner held a seat for so long.
    pub fn serve(&mut self, owner: AgentId, seat_ms: u64) {
        if let Some(served) = self.served.get_mut(&owner) {
            *served = served.saturating_add(seat_ms.max(1));
        }
    }

    /// A seat was taken.
    pub fn taken(&mut self) {
        self.width = 1;
    }

    /// What the owner got; one without standing offers comes last.
    pub fn served(&self, owner: AgentId) -> u64 {
        self.served.get(&owner).copied().unwrap_or(u64::MAX)
    }
}

impl Mesh {
    /// Owners that hear of free seats now: those that were served least, work at hand included.
    pub(super) fn hearers(&self) -> BTreeSet<AgentId> {
        let turns = &self.work.turns;
        let slots = self.peers.slots_of(self.me) as usize;
        let idle = slots.saturating_sub(self.work.unfinished());
        let hear = turns.width.saturating_add(idle);
        if turns.served.len() <= hear {
            return turns.served.keys().copied().collect();
        }
        let mut at_hand: BTreeMap<AgentId, u64> = BTreeMap::new();
        for held in self.work.held().filter(|held| held.is_unfinished()) {
            // Also one that has only just come holds a seat.
            let seat_ms = at_hand.entry(held.record.owner).or_default();
            *seat_ms += self.work.clock.since_ms(held.since).max(SEAT_MS_MIN);
        }
        let share = |owner: AgentId| {
            let seat_ms = at_hand.get(&owner).copied().unwrap_or(0);
            // Workers would all favour the same one of equals otherwise.
            let distance: Vec<u8> = owner.0.iter().zip(self.me.0).map(|(a, b)| a ^ b).collect();
            (turns.served(owner).saturating_add(seat_ms), distance)
        };
        let mut owners: Vec<AgentId> = turns.served.keys().copied().collect();
        owners.sort_by_cached_key(|owner| share(*owner));
        owners.into_iter().take(hear).collect()
    }

    /// An owner whose input is on its way does not get the last seat while others have work, too: it
    /// may never send it.
    pub(super) fn last_seat_is_for_others(&self, owner: AgentId) -> bool {
        let mut held = self.work.held().filter(|held| held.record.owner == owner);
        let others = self.work.turns.served.keys().any(|of| *of != owner);
        owner != self.me && others && held.any(|held| held.stage == Stage::Fetching)
    }

    /// A slot that stayed idle is told to more owners; whether that is anybody new.
    pub(super) fn widen(&mut self) -> bool {
        let slots = self.peers.slots_of(self.me) as usize;
        let idle = self.work.unfinished() < slots;
        let turns = &mut self.work.turns;
        if !idle || turns.width >= turns.served.len() {
            return false;
        }
        turns.width = turns.width.saturating_mul(2);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_late_begins_where_the_others_are() {
        let (a, b) = (AgentId([1; 32]), AgentId([2; 32]));
        let mut turns = Turns::default();
        turns.enter(a);
        turns.serve(a, 500);
        turns.enter(b);
        assert_eq!(turns.served(b), 500);
        turns.serve(b, 1);
        turns.leave(a);
        turns.enter(a);
        assert_eq!(turns.served(a), 501, "to leave and come back wins nothing");
        assert_eq!(turns.served(AgentId([3; 32])), u64::MAX);
    }
}
