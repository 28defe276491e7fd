//! Running other programs with a time limit, and ending what was started.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A program that ended, or was ended because its time was up.
pub struct Finished {
    /// The whole command, for messages.
    pub command: String,
    /// The exit code; none if a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Everything it printed.
    pub stdout: String,
    /// Everything it said on the side.
    pub stderr: String,
    /// Whether the time limit ended it.
    pub late: bool,
}

impl Finished {
    /// Whether it exited with 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.late, self.code) {
            (true, _) => "was stopped: out of time".to_owned(),
            (_, Some(code)) => format!("exited with {code}"),
            (_, None) => "was ended by a signal".to_owned(),
        };
        writeln!(f, "{}\n{end}", self.command)?;
        writeln!(f, "stdout: {}", tail(&self.stdout))?;
        write!(f, "stderr: {}", tail(&self.stderr))
    }
}

fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(3_000);
    let from = (from..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len());
    &text[from..]
}

/// Runs a command to its end, or ends it and all its children after `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Finished {
    Running::start(command).wait(limit)
}

/// A program that runs beside the test.
pub struct Running {
    command: String,
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command; what it prints is read in the background, so that it never blocks.
    pub fn start(command: &mut Command) -> Self {
        let words = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {words}: {e}"));
        let stdout = child.stdout.take().map(read_all);
        let stderr = child.stderr.take().map(read_all);
        Self { command: words, child, stdout, stderr }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end, or brings it about after `limit`.
    pub fn wait(mut self, limit: Duration) -> Finished {
        let code = wait_for_exit(&mut self.child, limit);
        let late = code.is_none();
        if late {
            end_tree(&mut self.child, Duration::from_secs(5));
        }
        let text = |handle: Option<JoinHandle<String>>| {
            handle.map(|h| h.join().unwrap_or_default()).unwrap_or_default()
        };
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Finished {
            command: std::mem::take(&mut self.command),
            code: code.flatten(),
            stdout,
            stderr,
            late,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end_tree(&mut self.child, Duration::from_secs(5));
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe only means that there is no more to read.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The exit code once the child ended; none if it still runs after `limit`.
fn wait_for_exit(child: &mut Child, limit: Duration) -> Option<Option<i32>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.code());
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(Duration::from_millis(15));
    }
}

/// Sends a signal to one process that a test started.
pub fn signal(id: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, signal);
    }
}

/// Asks a child to end, makes it end after `grace`, and ends whatever it leaves behind.
pub fn end_tree(child: &mut Child, grace: Duration) -> bool {
    if child.try_wait().unwrap().is_some() {
        return true;
    }
    let below = descendants(child.id());
    signal(child.id(), Signal::TERM);
    let obeyed = wait_for_exit(child, grace).is_some();
    if !obeyed {
        let _ = child.kill();
        let _ = child.wait();
    }
    kill_all(&below);
    obeyed
}

/// Ends a child and everything below it at once, as a pulled plug would.
pub fn pull_plug(child: &mut Child) {
    let below = descendants(child.id());
    let _ = child.kill();
    let _ = child.wait();
    kill_all(&below);
}

fn kill_all(processes: &[Process]) {
    for process in processes {
        // The number may belong to somebody else by now; the start time says who it is.
        if look(process.id).is_some_and(|(_, now)| now.started == process.started) {
            signal(process.id, Signal::KILL);
        }
    }
}

/// A process as `/proc` names it.
#[derive(Clone, Debug)]
pub struct Process {
    /// The process id.
    pub id: u32,
    started: u64,
}

impl Process {
    /// Whether it still runs. One that ended and was not asked for its result does not.
    #[allow(dead_code, reason = "only the tests of faults ask")]
    pub fn still_runs(&self) -> bool {
        let same = look(self.id).is_some_and(|(_, now)| now.started == self.started);
        let state = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        same && !state.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
    }
}

/// Everything that a process started, directly or not.
pub fn descendants(root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((parent, process)) = id.and_then(look) {
            children.entry(parent).or_default().push(process);
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(id) = open.pop() {
        for process in children.remove(&id).unwrap_or_default() {
            open.push(process.id);
            found.push(process);
        }
    }
    found
}

/// The parent and the identity of a process; none if there is no such process.
fn look(id: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let started = fields.get(19)?.parse().ok()?;
    Some((fields.get(1)?.parse().ok()?, Process { id, started }))
}
