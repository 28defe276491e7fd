//! How much work was done more than once, and which fault cost it: read from the agents' logs.

use std::collections::BTreeMap;

use super::mesh::Mesh;

/// A fault, as the logs tell it.
struct Blow {
    at: String,
    number: usize,
}

/// One run of a task.
struct Run {
    at: String,
    host: usize,
}

/// What the logs tell of the work of one owner's jobs.
#[derive(Default)]
pub struct Redone {
    /// How many runs were in vain, by the number of the fault that they are put down to.
    pub by_fault: BTreeMap<usize, usize>,
    /// Runs in vain that no fault explains, as text.
    pub unexplained: Vec<String>,
    /// Runs in all.
    pub runs: usize,
}

/// Reads the logs from `from` on (an RFC 3339 time, as the logs have it).
///
/// A task that was started more than once was in vain each time but the last. That is put down to
/// the first fault, after that start, of a host that had to do with it: the one where it ran, or
/// its owner.
pub fn count(mesh: &Mesh, from: &str, owners: &BTreeMap<String, usize>) -> Redone {
    let mut runs: BTreeMap<String, Vec<Run>> = BTreeMap::new();
    let mut blows: BTreeMap<usize, Vec<Blow>> = BTreeMap::new();
    let mut lowered: Vec<String> = Vec::new();
    for host in &mesh.hosts {
        for line in host.log().lines() {
            let Some((at, rest)) = line.split_once(' ') else { continue };
            if at < from {
                continue;
            }
            if let Some(number) = rest.strip_prefix("FAULT ") {
                let number = number.split(' ').next().and_then(|n| n.parse().ok()).unwrap();
                blows.entry(host.n).or_default().push(Blow { at: at.to_owned(), number });
            } else if let Some(task) = task_of(rest) {
                if rest.contains(" starts ") {
                    let run = Run { at: at.to_owned(), host: host.n };
                    runs.entry(task).or_default().push(run);
                } else if rest.contains("to be done another way") {
                    lowered.push(task);
                }
            }
        }
    }
    let mut redone = Redone::default();
    for (task, mut runs) in runs {
        redone.runs += runs.len();
        runs.sort_by(|a, b| a.at.cmp(&b.at));
        let owner = task.split('/').next().and_then(|job| owners.get(job));
        // What cannot be proven is done another way: that is no fault's doing.
        let vain = runs.len() - 1;
        if lowered.contains(&task) {
            continue;
        }
        for run in &runs[..vain] {
            let concerned = [Some(&run.host), owner];
            let blow = concerned
                .into_iter()
                .flatten()
                .filter_map(|host| blows.get(host)?.iter().find(|blow| blow.at >= run.at))
                .min_by(|a, b| a.at.cmp(&b.at));
            match blow {
                Some(blow) => *redone.by_fault.entry(blow.number).or_default() += 1,
                None => redone.unexplained.push(format!("{task} at h{} from {}", run.host, run.at)),
            }
        }
    }
    redone
}

/// The task that a line of a log is about.
fn task_of(line: &str) -> Option<String> {
    let after = line.split_once("task=")?.1;
    Some(after.split(' ').next().unwrap_or_default().to_owned())
}
