//! How a machine is: what it says of itself beside what it can do.
//!
//! On the wire each fact is a number and a value, so that an agent skips what it does not know and
//! misses nothing that an older one does not say: a new fact needs no new version of the wire.

use serde::{Deserialize, Serialize};

/// Facts that one message may hold.
pub const FACTS_MAX: usize = 64;

/// Why an agent leaves its machine to the person who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Yields {
    /// Other programs need the processor.
    Load,
    /// The machine runs on its battery.
    Battery,
    /// Something that this version has no word for.
    Other,
}

impl Yields {
    fn number(self) -> u64 {
        match self {
            Yields::Load => 1,
            Yields::Battery => 2,
            Yields::Other => 3,
        }
    }

    fn of(number: u64) -> Option<Yields> {
        match number {
            0 => None,
            1 => Some(Yields::Load),
            2 => Some(Yields::Battery),
            _ => Some(Yields::Other),
        }
    }
}

/// How a machine is. Nothing in it is a permission, and none of it decides about work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
pub struct Condition {
    /// Load average of the last minute, in hundredths.
    pub load_x100: Option<u32>,
    /// Threads of its processor.
    pub threads: Option<u32>,
    /// The processor's temperature in degrees Celsius.
    pub temperature_c: Option<u8>,
    /// Why it takes no work now.
    pub yields: Option<Yields>,
    /// Whether what it was at is stopped meanwhile.
    pub stopped: bool,
    /// The part of the time in which its encoders run, in per cent, where that is not all of it.
    pub share_percent: Option<u8>,
}

/// The numbers of the facts: never change or reuse one.
mod fact {
    pub const LOAD: u16 = 1;
    pub const THREADS: u16 = 2;
    pub const TEMPERATURE: u16 = 3;
    pub const YIELDS: u16 = 4;
    pub const STOPPED: u16 = 5;
    pub const SHARE: u16 = 6;
}

impl From<Condition> for Vec<(u16, u64)> {
    fn from(of: Condition) -> Vec<(u16, u64)> {
        let facts = [
            (fact::LOAD, of.load_x100.map(u64::from)),
            (fact::THREADS, of.threads.map(u64::from)),
            (fact::TEMPERATURE, of.temperature_c.map(u64::from)),
            (fact::YIELDS, of.yields.map(Yields::number)),
            (fact::STOPPED, of.stopped.then_some(1)),
            (fact::SHARE, of.share_percent.map(u64::from)),
        ];
        facts.into_iter().filter_map(|(number, value)| Some((number, value?))).collect()
    }
}

impl TryFrom<Vec<(u16, u64)>> for Condition {
    type Error = String;

    /// A value that cannot be is as good as none: no number of a peer's does harm.
    fn try_from(facts: Vec<(u16, u64)>) -> Result<Condition, String> {
        if facts.len() > FACTS_MAX {
            return Err(format!("more than {FACTS_MAX} facts"));
        }
        let mut found = Condition::default();
        for (number, value) in facts {
            match number {
                fact::LOAD => found.load_x100 = u32::try_from(value).ok(),
                fact::THREADS => found.threads = u32::try_from(value).ok(),
                fact::TEMPERATURE => found.temperature_c = u8::try_from(value).ok(),
                fact::YIELDS => found.yields = Yields::of(value),
                fact::STOPPED => found.stopped = value != 0,
                fact::SHARE => found.share_percent = u8::try_from(value).ok(),
                _ => {}
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_other_versions_are_skipped_and_missed() {
        let all = Condition {
            load_x100: Some(123),
            threads: Some(8),
            temperature_c: Some(61),
            yields: Some(Yields::Load),
            stopped: true,
            share_percent: Some(50),
        };
        let mut facts = Vec::from(all);
        assert_eq!(Condition::try_from(facts.clone()), Ok(all));
        facts.push((9_999, 7));
        assert_eq!(Condition::try_from(facts), Ok(all), "a newer agent says more");
        assert_eq!(Condition::try_from(Vec::new()), Ok(Condition::default()), "an older one less");
        let odd = vec![(1, u64::MAX), (3, 4_000), (4, 77)];
        let found = Condition::try_from(odd).unwrap();
        assert_eq!((found.load_x100, found.temperature_c), (None, None));
        assert_eq!(found.yields, Some(Yields::Other));
        assert!(Condition::try_from(vec![(9, 9); FACTS_MAX + 1]).is_err());
    }
}
