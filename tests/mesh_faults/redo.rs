//! How much work was done more than once, and which fault cost it: read from the agents' logs.

use std::collections::BTreeMap;

use super::mesh::Mesh;

/// Faults that end what runs on a host, as the logs name them.
const ENDING: &[&str] = &["kill", "power", "restart"];

/// A fault, as the logs tell it.
struct Blow {
    at: String,
    host: usize,
    number: usize,
    ends: bool,
}

/// One run of a task.
struct Run {
    at: String,
    host: usize,
}

/// What the logs tell of some jobs.
#[derive(Default)]
pub struct Redone {
    /// How many runs were in vain, by the number of the fault that they are put down to.
    pub by_fault: BTreeMap<usize, usize>,
    /// Runs in vain that no fault explains, each with what the logs say of its task.
    pub unexplained: Vec<String>,
    /// Runs in all.
    pub runs: usize,
}

/// What the logs have.
#[derive(Default)]
struct Logs {
    runs: BTreeMap<String, Vec<Run>>,
    blows: Vec<Blow>,
    /// Tasks that could not be proven and were done another way: that is no fault's doing.
    lowered: Vec<String>,
}

/// Reads the logs from `from` on (an RFC 3339 time, as the logs have it).
///
/// A task that was started more than once was in vain each time but the last. That is put down to
/// a fault between that start and the next: one that ended what ran on that host, else the first
/// one of that host or of the owner.
pub fn count(mesh: &Mesh, from: &str, owners: &BTreeMap<String, usize>) -> Redone {
    let logs = Logs::read(mesh, from);
    let mut redone = Redone::default();
    for (task, runs) in &logs.runs {
        redone.runs += runs.len();
        if logs.lowered.contains(task) {
            continue;
        }
        let owner = task.split('/').next().and_then(|job| owners.get(job));
        for pair in runs.windows(2) {
            match logs.cause(&pair[0], &pair[1], owner) {
                Some(blow) => *redone.by_fault.entry(blow).or_default() += 1,
                None => redone.unexplained.push(story(mesh, task)),
            }
        }
    }
    redone
}

impl Logs {
    fn read(mesh: &Mesh, from: &str) -> Self {
        let mut logs = Self::default();
        for host in &mesh.hosts {
            for line in host.log().lines() {
                match line.split_once(' ') {
                    Some((at, rest)) if at >= from => logs.add(host.n, at, rest),
                    _ => {}
                }
            }
        }
        for runs in logs.runs.values_mut() {
            runs.sort_by(|a, b| a.at.cmp(&b.at));
        }
        logs.blows.sort_by(|a, b| a.at.cmp(&b.at));
        logs
    }

    fn add(&mut self, host: usize, at: &str, rest: &str) {
        let at = at.to_owned();
        if let Some(fault) = rest.strip_prefix("FAULT ") {
            let (number, kind) = fault.split_once(' ').unwrap();
            let ends = ENDING.iter().any(|word| kind.starts_with(word));
            self.blows.push(Blow { at, host, number: number.parse().unwrap(), ends });
        } else if let Some(task) = task_of(rest) {
            if rest.contains(" starts ") {
                self.runs.entry(task).or_default().push(Run { at, host });
            } else if rest.contains("to be done another way") {
                self.lowered.push(task);
            }
        }
    }

    /// The fault that made a run vain.
    fn cause(&self, run: &Run, next: &Run, owner: Option<&usize>) -> Option<usize> {
        let between = || self.blows.iter().filter(|b| b.at >= run.at && b.at <= next.at);
        let ended = between().find(|b| b.ends && b.host == run.host);
        let any = || between().find(|b| b.host == run.host || Some(&b.host) == owner);
        ended.or_else(any).map(|blow| blow.number)
    }
}

/// The task that a line of a log is about.
fn task_of(line: &str) -> Option<String> {
    let after = line.split_once("task=")?.1;
    Some(after.split(' ').next().unwrap_or_default().to_owned())
}

/// What all hosts say of a task and its job, in the order of time.
fn story(mesh: &Mesh, task: &str) -> String {
    let job = task.split('/').next().unwrap_or_default();
    let mut lines = Vec::new();
    for host in &mesh.hosts {
        for line in host.log().lines() {
            let (at, rest) = line.split_once(' ').unwrap_or_default();
            if rest.contains(&format!("task={task} ")) || rest.contains(&format!("job={job}")) {
                lines.push(format!("    {at} h{}: {rest}", host.n));
            }
        }
    }
    lines.sort();
    format!("{task}\n{}", lines.join("\n"))
}
