//! Scenarios × seeds on all cores, and what came of it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::faults::Scenario;
use crate::ledger::Cost;
use crate::world::{Report, World};

/// Seeds that one thread takes at a time.
const SEEDS_AT_ONCE: u64 = 16;
/// Broken runs of one scenario that are kept in full.
const KEPT_MAX: usize = 40;

/// All runs of one scenario.
#[derive(Debug, Clone)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static str,
    /// How many runs there were.
    pub runs: u64,
    /// Runs in which a rule was broken.
    pub violations: u64,
    /// The first of these: seed and broken rules.
    pub broken: Vec<(u64, Vec<String>)>,
    /// The longest virtual time until all was over, in milliseconds.
    pub longest_ms: u64,
    /// Results of ended leases that were used.
    pub late: u64,
    /// Things that went wrong.
    pub faults: u64,
    /// Encodes that ran to their end and were not used.
    pub redone: u64,
    /// The most of these in one run.
    pub redone_max: u32,
    /// Encodes that did not run to their end.
    pub broken_off: u64,
    /// Processor time, about.
    pub took: Duration,
}

impl Row {
    fn new(scenario: &Scenario) -> Row {
        Row {
            scenario: scenario.name,
            runs: 0,
            violations: 0,
            broken: Vec::new(),
            longest_ms: 0,
            late: 0,
            faults: 0,
            redone: 0,
            redone_max: 0,
            broken_off: 0,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, seed: u64, report: Report, took: Duration) {
        let Cost { faults, redone, broken_off } = report.cost;
        self.runs += 1;
        self.longest_ms = self.longest_ms.max(report.over_ms);
        self.late += u64::from(report.late_commits);
        self.faults += u64::from(faults);
        self.redone += u64::from(redone);
        self.redone_max = self.redone_max.max(redone);
        self.broken_off += u64::from(broken_off);
        self.took += took;
        if !report.broken.is_empty() {
            self.violations += 1;
            self.broken.push((seed, report.broken));
            self.broken.sort_by_key(|(seed, _)| *seed);
            self.broken.truncate(KEPT_MAX);
        }
    }

    /// What was broken, with the line that replays it.
    pub fn complaints(&self) -> Vec<String> {
        let told = self.broken.iter().map(|(seed, rules)| {
            format!(
                "{} under seed {seed}:\n  {}\n  replay: cargo run -p tests --bin sim -- \
                 --scenario {} --seeds {seed}..{}",
                self.scenario,
                rules.join("\n  "),
                self.scenario,
                seed + 1,
            )
        });
        told.collect()
    }
}

/// One run; a panic is a broken rule.
fn run(scenario: &Scenario, seed: u64) -> Report {
    catch_unwind(AssertUnwindSafe(|| World::run(scenario, seed))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
        Report {
            broken: vec![format!("panic: {text}")],
            trace: 0,
            late_commits: 0,
            over_ms: 0,
            cost: Cost::default(),
        }
    })
}

/// Runs every scenario under every seed, on so many threads.
pub fn run_all(scenarios: &[&'static Scenario], seeds: &Range<u64>, threads: usize) -> Vec<Row> {
    let rows: Vec<Mutex<Row>> = scenarios.iter().map(|of| Mutex::new(Row::new(of))).collect();
    let parts = (seeds.end - seeds.start).div_ceil(SEEDS_AT_ONCE);
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let place = usize::try_from(number / parts.max(1)).unwrap_or(usize::MAX);
            let (Some(scenario), Some(row)) = (scenarios.get(place), rows.get(place)) else {
                return;
            };
            let from = seeds.start + (number % parts) * SEEDS_AT_ONCE;
            for seed in from..(from + SEEDS_AT_ONCE).min(seeds.end) {
                let started = Instant::now();
                let report = run(scenario, seed);
                let took = started.elapsed();
                if let Ok(mut row) = row.lock() {
                    row.add(seed, report, took);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    rows.into_iter().filter_map(|row| row.into_inner().ok()).collect()
}

/// As many threads as there are cores.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let head = [
        "scenario",
        "runs",
        "violations",
        "longest s",
        "late",
        "faults",
        "redone",
        "/fault",
        "most",
        "broken off",
        "ms",
    ];
    let mut lines: Vec<[String; 11]> = vec![head.map(str::to_owned)];
    for row in rows {
        let per_fault = match row.faults {
            0 => "-".to_owned(),
            faults => format!("{:.3}", row.redone as f64 / faults as f64),
        };
        lines.push([
            row.scenario.to_owned(),
            row.runs.to_string(),
            row.violations.to_string(),
            format!("{:.1}", row.longest_ms as f64 / 1_000.0),
            row.late.to_string(),
            row.faults.to_string(),
            row.redone.to_string(),
            per_fault,
            row.redone_max.to_string(),
            row.broken_off.to_string(),
            row.took.as_millis().to_string(),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String; 11]| {
        let cells = cells.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<String>>().join("  ")
    };
    lines.iter().map(line).collect::<Vec<String>>().join("\n")
}
