//! One host: an agent with its state directory, its disks, its log, and what can happen to them.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::link;
use crate::support::dmc::{self, Job};
use crate::support::process::{Finished, Process, descendants, pull_plug, run, signal};

/// For calls that only ask something; the machine may be very busy.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);
/// An agent that starts tries its encoders first.
const START_LIMIT: Duration = Duration::from_secs(120);
/// An agent that was asked to end has this long: its grace, and what a busy machine adds.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Time-outs for tests: the proportions of the real ones, at a tenth.
const SHORT: &[(&str, &str)] = &[
    ("DMC_MESH_HEARTBEAT_MS", "1000"),
    ("DMC_MESH_HEARTBEAT_BUSY_MS", "500"),
    ("DMC_MESH_GRANT_GRACE_MS", "1500"),
    ("DMC_MESH_SUSPECT_MS", "3000"),
    ("DMC_MESH_LEASE_MS", "6000"),
    ("DMC_MESH_SLEEP_GAP_MS", "2000"),
    ("DMC_MESH_OFFER_REPEAT_MS", "1000"),
    ("DMC_MESH_DISK_FULL_PAUSE_MS", "3000"),
    ("DMC_MESH_BACKOFF_FIRST_MS", "2000"),
    ("DMC_MESH_BACKOFF_MAX_MS", "8000"),
    ("DMC_MESH_CUSTODY_SEEK_MS", "6000"),
    ("DMC_MESH_CUSTODY_OFFER_MS", "10000"),
    ("DMC_MESH_CUSTODY_SILENCE_MS", "15000"),
    ("DMC_STOP_GRACE_S", "2"),
    ("DMC_DISK_RESERVE_BYTES", "8000000"),
    ("DMC_LOG", "info,dmc_agent=debug"),
];

/// A host of the mesh.
pub struct Host {
    /// Its number; its agent is named `h` and this.
    pub n: usize,
    /// All its files: `data`, `out` and the log are below.
    pub dir: PathBuf,
    /// Words for its agent's command.
    pub words: Vec<String>,
    /// Variables for its agent, over the short time-outs.
    pub variables: Vec<(&'static str, String)>,
    child: Option<Child>,
    asleep: bool,
}

impl Host {
    /// A host that is plugged in, with empty disks of so many bytes; no agent runs yet.
    pub fn new(n: usize, dir: &Path, disk_mib: u64) -> Self {
        let dir = dir.join(format!("h{n}"));
        for disk in ["data", "out"] {
            let at = dir.join(disk);
            fs::create_dir_all(&at).unwrap();
            link::must(&format!("mount -t tmpfs -o size={disk_mib}m none {}", at.display()));
        }
        link::add_host(n);
        Self { n, dir, words: Vec::new(), variables: Vec::new(), child: None, asleep: false }
    }

    /// The state directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data/agent")
    }

    /// Where results go.
    pub fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// The log of all runs of its agent, with the faults between.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn log_file(&self) -> File {
        OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap()
    }

    /// Writes down what the test did, where the agent writes down what it did.
    pub fn note(&self, what: &str) {
        writeln!(self.log_file(), "{:.6} {what}", jiff::Timestamp::now()).unwrap();
    }

    /// Starts the agent; does not wait for anything.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "h{} runs already", self.n);
        let mut command = self.dmc();
        command.args(["agent", "--name", &format!("h{}", self.n), "--api", "127.0.0.1:0"]);
        command.args(&self.words);
        let log = self.log_file();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.note("TEST starts the agent");
        self.child = Some(command.spawn().unwrap());
        self.asleep = false;
    }

    /// A call of the program on this host.
    pub fn dmc(&self) -> Command {
        let plain = dmc::dmc(&self.data(), 0);
        let mut command = link::on_host(self.n, dmc::binary());
        command.args(plain.get_args());
        for (key, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        // Its own network has the usual port for itself.
        command.env_remove("DMC_DISCOVERY_PORT");
        command.envs(SHORT.iter().copied());
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Whether the agent runs; an end that nobody asked for is a failure.
    pub fn is_up(&mut self) -> bool {
        let Some(child) = &mut self.child else { return false };
        let ended = child.try_wait().unwrap();
        assert!(
            ended.is_none(),
            "the agent of h{} ended by itself: {ended:?}\n{}",
            self.n,
            self.tail()
        );
        true
    }

    /// Whether it runs and is not stopped.
    pub fn is_awake(&mut self) -> bool {
        self.is_up() && !self.asleep
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let cut = |line: &str| line.chars().take(240).collect::<String>();
        let lines: Vec<String> = log.lines().map(cut).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The process id of the agent.
    pub fn id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// What the agent started and what still runs.
    pub fn children(&self) -> Vec<Process> {
        self.child.as_ref().map(|child| descendants(child.id())).unwrap_or_default()
    }

    /// kill -9. With its encoders it is a power failure, without them a crash.
    pub fn kill(&mut self, with_children: bool) {
        let Some(mut child) = self.child.take() else { return };
        if with_children {
            pull_plug(&mut child);
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end; how long it took.
    pub fn stop(&mut self) -> Duration {
        let Some(mut child) = self.child.take() else { return Duration::ZERO };
        let since = Instant::now();
        signal(child.id(), Signal::TERM);
        while child.try_wait().unwrap().is_none() {
            assert!(since.elapsed() < STOP_LIMIT, "h{} does not stop:\n{}", self.n, self.tail());
            thread::sleep(Duration::from_millis(20));
        }
        let status = child.wait().unwrap();
        // One that is still starting has nothing to give back, and may just go.
        let new = status.signal() == Some(Signal::TERM.as_raw()) && !self.has_started();
        assert!(status.success() || new, "h{} stopped with {status}:\n{}", self.n, self.tail());
        since.elapsed()
    }

    /// Whether the last run of the agent said that it is up.
    fn has_started(&self) -> bool {
        let log = self.log();
        let last = log.rsplit("TEST starts the agent").next().unwrap_or_default();
        last.contains("agent started")
    }

    /// Freezes the agent with its encoders, as a lid that closes does.
    pub fn sleep(&mut self) {
        self.asleep = true;
        signal(self.id(), Signal::STOP);
        for process in self.children() {
            signal(process.id, Signal::STOP);
        }
    }

    /// The end of [`Host::sleep`].
    pub fn wake(&mut self) {
        self.asleep = false;
        for process in self.children() {
            signal(process.id, Signal::CONT);
        }
        signal(self.id(), Signal::CONT);
    }

    /// Takes all room from a disk, `data` or `out`.
    pub fn fill(&self, disk: &str) {
        let at = self.dir.join(disk);
        let file = File::create(at.join("filler")).unwrap();
        let chunk = vec![0; 1 << 20];
        // Down to the last page: writes of any size must fail now.
        for size in [1 << 20, 1 << 12] {
            while (&file).write_all(&chunk[..size]).is_ok() {}
        }
    }

    /// Gives the room back.
    pub fn clear(&self, disk: &str) {
        let _ = fs::remove_file(self.dir.join(disk).join("filler"));
    }

    /// Asks the agent something.
    pub fn call(&self, words: &[&str]) -> Finished {
        run(self.dmc().args(words).arg("--json"), QUESTION_LIMIT)
    }

    /// Asks, and reads the answer; none while the agent does not answer.
    pub fn ask(&self, words: &[&str]) -> Option<Value> {
        let asked = self.call(words);
        if asked.ok() { serde_json::from_str(&asked.stdout).ok() } else { None }
    }

    /// Waits until the agent answers.
    pub fn wait_ready(&mut self) {
        let end = Instant::now() + START_LIMIT;
        while self.ask(&["status"]).is_none() {
            assert!(
                self.is_up() && Instant::now() < end,
                "h{} is not up:\n{}",
                self.n,
                self.tail()
            );
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// How many peers are connected.
    pub fn peers(&self) -> usize {
        let peers = self.ask(&["peers"]).unwrap_or_default();
        peers.as_array().into_iter().flatten().filter(|p| p["state"] == "connected").count()
    }

    /// All jobs that it owns; none while it does not answer.
    pub fn jobs(&self) -> Option<Vec<Job>> {
        let jobs = self.ask(&["jobs", "list"])?;
        Some(jobs.as_array()?.iter().cloned().map(Job).collect())
    }

    /// A job with its tasks.
    pub fn job(&self, id: &str) -> Option<Job> {
        self.ask(&["jobs", "show", id]).map(Job)
    }

    /// Asks for a conversion. The id once the agent said that it took it.
    pub fn submit(&self, source: &Path, name: &str, words: &[&str]) -> Result<String, Finished> {
        let mut command = self.dmc();
        command.args(["convert", "--json", "--detach"]).args(words).arg("-o");
        command.arg(self.out().join(name)).arg("--").arg(source);
        let done = run(&mut command, QUESTION_LIMIT);
        let job = Job::last_of(&done.stdout);
        match job {
            Some(job) if done.ok() => Ok(job.id().to_owned()),
            _ => Err(done),
        }
    }

    /// Files that belong to no job any more: work, pins, plans, half-made results. Transfers that
    /// were cut short are not among them: they stay for the sweep, in case they are wanted again.
    pub fn leftovers(&self) -> Vec<String> {
        let data = self.data();
        let mut left = Vec::new();
        for below in ["work", "tmp", "pins", "jobs", "external"] {
            left.extend(files_below(&data.join(below)));
        }
        left.extend(files_below(&self.out()));
        left
    }
}

/// All files below a directory, but no directories.
pub fn files_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}
