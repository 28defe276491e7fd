//! Whose turn it is at a worker: every owner gets the same share of it, in work units, for as long
//! as it has work (start-time fair queueing, Goyal, Vin, Cheng 1996).
//!
//! A free seat is told to the owner that was served least. When it is not taken within a second,
//! twice as many owners hear of it: a seat is never kept free for an owner that has nothing ready.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::AgentId;

use super::Mesh;
use super::work::Stage;

/// What the owners got of this worker.
#[derive(Debug)]
pub(super) struct Turns {
    /// Work units that were done for owners with standing offers.
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

    /// An attempt of so many work units was done for the owner.
    pub fn serve(&mut self, owner: AgentId, units: u64) {
        if let Some(served) = self.served.get_mut(&owner) {
            *served = served.saturating_add(units);
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
        let slots = self.peers.get(self.me).map_or(0, super::peers::Peer::slots) as usize;
        let idle = slots.saturating_sub(self.work.unfinished());
        let hear = turns.width.saturating_add(idle);
        if turns.served.len() <= hear {
            return turns.served.keys().copied().collect();
        }
        let mut at_hand: BTreeMap<AgentId, u64> = BTreeMap::new();
        for held in self.work.held().filter(|held| !matches!(held.stage, Stage::Done { .. })) {
            let units = at_hand.entry(held.record.owner).or_default();
            *units = units.saturating_add(held.record.spec.work_units());
        }
        let share = |owner: AgentId| {
            let units = at_hand.get(&owner).copied().unwrap_or(0);
            // Workers would all favour the same one of equals otherwise.
            let distance: Vec<u8> = owner.0.iter().zip(self.me.0).map(|(a, b)| a ^ b).collect();
            (turns.served(owner).saturating_add(units), distance)
        };
        let mut owners: Vec<AgentId> = turns.served.keys().copied().collect();
        owners.sort_by_cached_key(|owner| share(*owner));
        owners.into_iter().take(hear).collect()
    }

    /// A slot that stayed idle is told to more owners; whether that is anybody new.
    pub(super) fn widen(&mut self) -> bool {
        let slots = self.peers.get(self.me).map_or(0, super::peers::Peer::slots) as usize;
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
