//! What a run of many faults has to tell.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::faults::Kind;
use super::redo::Redone;

/// The figures of a run.
pub struct Report {
    seed: u64,
    began: Instant,
    kinds: BTreeMap<Kind, usize>,
    kind_of: Vec<Kind>,
    redone: BTreeMap<usize, usize>,
    unexplained: Vec<String>,
    runs: usize,
    jobs: usize,
    unanswered: usize,
    rounds: usize,
    slowest_meeting: Duration,
    slowest_recovery: Duration,
    slowest_stop: Duration,
}

impl Report {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            seed,
            began: Instant::now(),
            kinds: BTreeMap::new(),
            kind_of: Vec::new(),
            redone: BTreeMap::new(),
            unexplained: Vec::new(),
            runs: 0,
            jobs: 0,
            unanswered: 0,
            rounds: 0,
            slowest_meeting: Duration::ZERO,
            slowest_recovery: Duration::ZERO,
            slowest_stop: Duration::ZERO,
        }
    }

    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.kind_of.len()
    }

    /// Counts a fault; its number.
    pub fn fault(&mut self, kind: Kind) -> usize {
        *self.kinds.entry(kind).or_default() += 1;
        self.kind_of.push(kind);
        self.faults()
    }

    /// Counts a call that asked for a job.
    pub fn asked(&mut self, answered: bool) {
        self.unanswered += usize::from(!answered);
    }

    /// How long an agent took to stop when it was asked to.
    pub fn stopped(&mut self, took: Duration) {
        self.slowest_stop = self.slowest_stop.max(took);
    }

    /// Adds a round that ended well.
    pub fn round(&mut self, jobs: usize, redone: &Redone, meeting: Duration, recovery: Duration) {
        self.rounds += 1;
        self.jobs += jobs;
        self.runs += redone.runs;
        for (fault, count) in &redone.by_fault {
            *self.redone.entry(*fault).or_default() += count;
        }
        self.unexplained.extend(redone.unexplained.iter().cloned());
        self.slowest_meeting = self.slowest_meeting.max(meeting);
        self.slowest_recovery = self.slowest_recovery.max(recovery);
        println!(
            "round {}: {} faults, {} jobs whole, {} runs of tasks, {} again; all connected after \
             {:.1} s, all done after {:.1} s; {:.0} s in all",
            self.rounds,
            self.faults(),
            self.jobs,
            self.runs,
            self.redone.values().sum::<usize>() + self.unexplained.len(),
            meeting.as_secs_f32(),
            recovery.as_secs_f32(),
            self.began.elapsed().as_secs_f32(),
        );
    }

    /// Prints all of it.
    pub fn print(&self) {
        println!(
            "\nseed {}: {} faults in {:.0} s",
            self.seed,
            self.faults(),
            self.began.elapsed().as_secs_f32()
        );
        for (kind, count) in &self.kinds {
            let cost: usize = (1..=self.faults())
                .filter(|n| self.kind_of[n - 1] == *kind)
                .filter_map(|n| self.redone.get(&n))
                .sum();
            println!("  {kind:<14}{count:>5}   tasks redone {cost}");
        }
        println!("jobs: {}, all results whole, nothing lost", self.jobs);
        println!("calls that were not answered because the agent was struck: {}", self.unanswered);
        println!("runs of tasks: {}", self.runs);
        println!("tasks redone per fault:");
        let most = self.redone.values().copied().max().unwrap_or(0);
        for count in 0..=most {
            let faults = match count {
                0 => self.faults() - self.redone.len(),
                _ => self.redone.values().filter(|n| **n == count).count(),
            };
            println!("  {count}: {faults} faults");
        }
        println!("redone without a fault: {}", self.unexplained.len());
        for what in &self.unexplained {
            println!("  {what}");
        }
        println!(
            "longest, after the last fault of a round ended: until all are connected {:.1} s, until \
             all jobs are done {:.1} s; longest graceful stop {:.1} s",
            self.slowest_meeting.as_secs_f32(),
            self.slowest_recovery.as_secs_f32(),
            self.slowest_stop.as_secs_f32(),
        );
    }
}
