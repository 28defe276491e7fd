//! How many jobs of watched folders there may be at a time, and whose turn it is. A library is fed
//! gently: what waits, waits in its folder, where it can still change, go, or be forbidden by new rules.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::records::WatchId;

#[derive(Debug, Clone, Copy, Default)]
struct Stand {
    priority: i32,
    /// It has files that wait.
    hungry: bool,
    /// Jobs that it has.
    given: usize,
}

/// The seats of all folders.
#[derive(Debug)]
pub struct Seats {
    max: usize,
    stands: Mutex<BTreeMap<WatchId, Stand>>,
}

impl Seats {
    /// So many.
    pub fn new(max: usize) -> Seats {
        Seats { max, stands: Mutex::default() }
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<WatchId, Stand>) -> T) -> T {
        change(&mut self.stands.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How a folder stands. True: others may have a turn now that had none.
    pub fn tell(&self, watch: WatchId, priority: i32, hungry: bool, given: usize) -> bool {
        self.with(|stands| {
            let now = Stand { priority, hungry, given };
            let before = stands.insert(watch, now).unwrap_or_default();
            before.given > given || before.hungry && !hungry || before.priority > priority
        })
    }

    /// A folder is not watched any more.
    pub fn leave(&self, watch: WatchId) {
        self.with(|stands| stands.remove(&watch));
    }

    /// Takes a seat, when one is free and nobody goes first: a greater priority, or among equals who
    /// has fewer.
    pub fn take(&self, watch: WatchId) -> bool {
        self.with(|stands| {
            let Some(own) = stands.get(&watch).copied() else { return false };
            let taken: usize = stands.values().map(|stand| stand.given).sum();
            let before = |other: &Stand| {
                let equal = other.priority == own.priority;
                other.priority > own.priority || equal && other.given < own.given
            };
            let others = stands.iter().filter(|(id, _)| **id != watch);
            let is_last = others.map(|(_, other)| other).any(|other| other.hungry && before(other));
            if taken >= self.max || is_last {
                return false;
            }
            stands.entry(watch).or_default().given += 1;
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let seats = Seats::new(2);
        seats.tell(1, 0, true, 0);
        assert!(seats.take(1) && seats.take(1) && !seats.take(1));
        assert!(seats.tell(1, 0, true, 1), "one is over");
        assert!(seats.take(1) && !seats.take(1));
        assert!(!seats.take(9), "of no folder");
    }

    #[test]
    fn the_greater_priority_goes_first_and_equals_take_turns() {
        let seats = Seats::new(4);
        seats.tell(1, 0, true, 0);
        seats.tell(2, 5, true, 0);
        assert!(!seats.take(1), "2 goes first");
        assert!(seats.take(2));
        assert!(seats.tell(2, 5, false, 1), "others may have a turn");
        assert!(seats.take(1));
        seats.tell(3, 0, true, 0);
        assert!(!seats.take(1) && seats.take(3), "3 has fewer");
        seats.leave(3);
        assert!(seats.take(1));
    }
}
