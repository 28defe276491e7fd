//! Whether the machine is needed by its person. Pure: what was seen comes in once a second.

use std::collections::VecDeque;

use dmc_protocol::condition::Yields;

use crate::config::Settings;

/// The machine is free again when others use less than this part of what made the agent yield: else it would
/// stop and go on at the border all the time.
const FREE_PART: f64 = 0.7;

/// What was seen in one look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    /// The part of all threads that others use, 0 to 1.
    pub others: Option<f64>,
    /// Whether it runs on its battery.
    pub battery: bool,
}

/// Decides from one look to the next.
#[derive(Debug)]
pub(super) struct Judge {
    /// The part of the processor from which others need the machine; 0: never.
    load: f64,
    on_battery: bool,
    /// Looks that must agree before it yields, and before it works again.
    after: usize,
    until: usize,
    /// What others used, the newest last.
    looks: VecDeque<f64>,
    busy: bool,
    /// Looks since it ran on its battery last.
    powered: usize,
}

impl Judge {
    pub fn new(settings: &Settings) -> Judge {
        let looks = |seconds: u64| usize::try_from(seconds).unwrap_or(usize::MAX).max(1);
        let (after, until) = (looks(settings.yield_after_s), looks(settings.yield_until_s));
        Judge {
            load: settings.yield_load,
            on_battery: settings.yield_on_battery,
            after,
            until,
            looks: VecDeque::new(),
            busy: false,
            powered: until,
        }
    }

    /// Why it should yield now, after one more look.
    pub fn judge(&mut self, seen: Seen) -> Option<Yields> {
        self.note(seen);
        // A battery is empty for good: it is told first.
        if self.on_battery && self.powered < self.until {
            return Some(Yields::Battery);
        }
        self.busy.then_some(Yields::Load)
    }

    fn note(&mut self, seen: Seen) {
        self.powered = if seen.battery { 0 } else { self.powered.saturating_add(1) };
        let Some(others) = seen.others.filter(|_| self.load > 0.0) else { return };
        self.looks.push_back(others);
        while self.looks.len() > self.after.max(self.until) {
            self.looks.pop_front();
        }
        let before = self.busy;
        self.busy = match before {
            true => self.mean(self.until).is_none_or(|mean| mean >= self.load * FREE_PART),
            false => self.mean(self.after).is_some_and(|mean| mean >= self.load),
        };
        if self.busy != before {
            self.looks.clear(); // what was before says nothing about what is now
        }
    }

    /// What others used over the last looks; `None`: there were not so many yet.
    fn mean(&self, looks: usize) -> Option<f64> {
        let newest = self.looks.iter().rev().take(looks);
        (self.looks.len() >= looks).then(|| newest.sum::<f64>() / looks as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(load: f64, on_battery: bool) -> Judge {
        Judge::new(&Settings {
            yield_load: load,
            yield_on_battery: on_battery,
            yield_after_s: 3,
            yield_until_s: 4,
            ..Settings::default()
        })
    }

    /// What it says after each of these looks: `.` works, `L` and `B` yields.
    fn said(judge: &mut Judge, others: &[f64], battery: bool) -> String {
        let words = others.iter().map(|others| {
            match judge.judge(Seen { others: Some(*others), battery }) {
                None => '.',
                Some(Yields::Load) => 'L',
                Some(_) => 'B',
            }
        });
        words.collect()
    }

    #[test]
    fn a_moment_of_work_is_no_reason_and_a_moment_of_rest_neither() {
        let mut judge = judge(0.5, false);
        assert_eq!(said(&mut judge, &[0.9, 0.0, 0.1, 0.9, 0.1, 0.2], false), "......");
        assert_eq!(said(&mut judge, &[0.6, 0.6, 0.6], false), "..L");
        // Above seven tenths of it on the average of four looks, it stays.
        assert_eq!(said(&mut judge, &[0.0, 0.6, 0.6, 0.6, 0.4, 0.0], false), "LLLLLL");
        assert_eq!(said(&mut judge, &[0.3, 0.3], false), "..");
        assert_eq!(said(&mut judge, &[0.5, 0.5, 0.5], false), "..L");
    }

    #[test]
    fn a_battery_counts_at_once_and_for_a_while() {
        let mut judge = judge(0.0, true);
        assert_eq!(said(&mut judge, &[1.0, 1.0], false), "..", "load was not asked for");
        assert_eq!(said(&mut judge, &[1.0], true), "B");
        assert_eq!(said(&mut judge, &[1.0; 5], false), "BBB..");
        let mut other = self::judge(0.5, false);
        assert_eq!(said(&mut other, &[0.0; 5], true), ".....", "nor was this");
    }

    #[test]
    fn without_a_measure_nothing_changes() {
        let mut judge = judge(0.5, false);
        let unknown = Seen { others: None, battery: false };
        assert_eq!(judge.judge(unknown), None);
        said(&mut judge, &[1.0; 3], false);
        assert_eq!(judge.judge(unknown), Some(Yields::Load));
    }
}
