//! The programs that work for this agent now: which ones, for which attempt, and how they are held
//! back while somebody else needs the machine.
//!
//! What works for an attempt can be stopped as a whole (SIGSTOP to its process group) and goes on where
//! it was. Programs that answer a person at once (probes, cuts, joins) are never stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmc_protocol::id::AttemptId;
use tokio::time::Instant;

use crate::jobs::now_ms;
use crate::machine;

/// A program that runs now.
#[derive(Debug, Clone)]
pub struct Child {
    /// Its process, and its group.
    pub pid: u32,
    /// What it does, for people.
    pub step: &'static str,
    /// The attempt that it works for.
    pub attempt: Option<AttemptId>,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// How long it was stopped, over and done.
    stopped: Duration,
    /// Since when it is stopped.
    since: Option<Instant>,
}

impl Child {
    fn stopped(&self) -> Duration {
        self.stopped + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<u32, Child>,
    /// When each attempt began to run here.
    began: BTreeMap<AttemptId, i64>,
    /// Its person needs the machine.
    held: bool,
    /// The part of a period in which nothing runs.
    off: bool,
}

/// All programs that an agent has started and that have not ended.
#[derive(Debug, Default)]
pub struct Children(Mutex<State>);

impl Children {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole at each point where a panic could come.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops all that works for an attempt, and all that will, or lets it go on.
    pub fn hold(&self, held: bool) {
        let mut state = self.lock();
        state.held = held;
        state.settle();
    }

    /// The same for a moment, within [`Children::hold`]: for a share of the time.
    pub fn rest(&self, off: bool) {
        let mut state = self.lock();
        state.off = off;
        state.settle();
    }

    /// How many programs are stopped because the machine is needed.
    pub fn held(&self) -> usize {
        let state = self.lock();
        if state.held {
            state.running.values().filter(|child| child.since.is_some()).count()
        } else {
            0
        }
    }

    /// Whether anything works for an attempt.
    pub fn any(&self) -> bool {
        self.lock().running.values().any(|child| child.attempt.is_some())
    }

    /// An attempt begins to run, until the guard goes.
    pub fn begin(self: &Arc<Self>, attempt: AttemptId) -> Begun {
        self.lock().began.insert(attempt, now_ms());
        Begun { children: Arc::clone(self), attempt }
    }

    /// When the attempt began to run, and the program that works for it now.
    pub fn of(&self, attempt: AttemptId) -> (Option<i64>, Option<Child>) {
        let state = self.lock();
        let child = state.running.values().find(|child| child.attempt == Some(attempt));
        (state.began.get(&attempt).copied(), child.cloned())
    }

    /// Processor time that this agent and its programs took so far, in the kernel's ticks.
    pub fn ticks(&self) -> u64 {
        let pids: Vec<u32> = self.lock().running.keys().copied().collect();
        // Those first: one that ends between is counted with what this process has waited for.
        let live: u64 = pids.into_iter().filter_map(machine::ticks_of).sum();
        live + machine::ticks_of(std::process::id()).unwrap_or(0)
    }

    /// A program was started.
    pub(super) fn started(
        self: &Arc<Self>,
        pid: u32,
        step: &'static str,
        attempt: Option<AttemptId>,
    ) -> Running {
        let (stopped, since) = (Duration::ZERO, None);
        let child = Child { pid, step, attempt, started_ms: now_ms(), stopped, since };
        let mut state = self.lock();
        state.running.insert(pid, child);
        state.settle();
        drop(state);
        Running { children: Arc::clone(self), pid }
    }
}

impl State {
    /// Makes every program of an attempt run or not, as it should.
    fn settle(&mut self) {
        let stop = self.held || self.off;
        let worker = |child: &&mut Child| child.attempt.is_some();
        for child in self.running.values_mut().filter(worker) {
            if stop == child.since.is_some() {
                continue;
            }
            signal(child.pid, stop);
            child.stopped = child.stopped();
            child.since = stop.then(Instant::now);
        }
    }
}

/// To the whole group: what the program started stops with it.
fn signal(pid: u32, stop: bool) {
    #[cfg(unix)]
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        use rustix::process::{Signal, kill_process_group};
        // One that has just ended needs nothing.
        let _ = kill_process_group(pid, if stop { Signal::STOP } else { Signal::CONT });
    }
    #[cfg(not(unix))]
    let _ = (pid, stop);
}

/// A program that runs; dropped when it has ended.
#[derive(Debug)]
pub(super) struct Running {
    children: Arc<Children>,
    pid: u32,
}

impl Running {
    /// How long it was stopped since it was started: that is no time in which it made no progress.
    pub fn stopped(&self) -> Duration {
        self.children.lock().running.get(&self.pid).map_or(Duration::ZERO, Child::stopped)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.children.lock().running.remove(&self.pid);
    }
}

/// An attempt that runs here.
#[derive(Debug)]
pub struct Begun {
    children: Arc<Children>,
    attempt: AttemptId,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.children.lock().began.remove(&self.attempt);
    }
}
