//! A mesh of real agents on this machine, each a process with a data directory and a log.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::dmc::{Job, dmc};
use super::process::{Finished, end_tree, pull_plug, run};

/// Agents on one machine see each other within a second; a busy machine may need more.
const MEETING_LIMIT: Duration = Duration::from_secs(60);
/// An agent that was asked to end has this long.
const GRACE: Duration = Duration::from_secs(120);
/// For calls that only ask something.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// How the agents of a bed find each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// By mDNS, on a port of the bed's own.
    Discovery,
    /// Each knows the addresses of those that started before it; no mDNS.
    Address,
}

/// Some agents; dropping it ends them and removes their files.
pub struct Bed {
    agents: Vec<Agent>,
    discovery_port: u16,
    dir: TempDir,
}

struct Agent {
    name: String,
    data: PathBuf,
    log: PathBuf,
    command: Command,
    child: Option<Child>,
}

impl Bed {
    /// Starts `count` agents and waits until everybody is connected with everybody.
    pub fn start(count: usize, meeting: Meeting) -> Self {
        Self::start_with(count, meeting, |_, _| {})
    }

    /// The same, with a last word on each agent's command.
    pub fn start_with(
        count: usize,
        meeting: Meeting,
        change: impl Fn(usize, &mut Command),
    ) -> Self {
        let dir = tempfile::Builder::new().prefix("dmc-test-").tempdir().unwrap();
        let mut bed = Self { agents: Vec::new(), discovery_port: free_udp_port(), dir };
        let mut addresses: Vec<String> = Vec::new();
        for n in 0..count {
            let name = format!("agent-{n}");
            let data = bed.dir.path().join(&name);
            fs::create_dir(&data).unwrap();
            let mut command = dmc(&data, bed.discovery_port);
            // A variable: a test may want another place.
            command.env("DMC_API", "127.0.0.1:0");
            command.args(["agent", "--name", &name, "--listen"]);
            if meeting == Meeting::Discovery {
                command.arg("127.0.0.1:0");
            } else {
                let address = format!("127.0.0.1:{}", free_tcp_port());
                command.arg(&address).arg("--no-discovery");
                for earlier in &addresses {
                    command.args(["--peer", earlier]);
                }
                addresses.push(address);
            }
            change(n, &mut command);
            bed.launch(name, data, command);
        }
        for n in 0..count {
            bed.wait_for_peers(n, count - 1);
        }
        bed
    }

    /// Starts one more agent, which looks for the others by mDNS, and does not wait for it to meet
    /// anybody; its number.
    pub fn add(&mut self, change: impl Fn(&mut Command)) -> usize {
        let n = self.agents.len();
        let name = format!("agent-{n}");
        let data = self.dir.path().join(&name);
        fs::create_dir_all(&data).unwrap();
        let mut command = dmc(&data, self.discovery_port);
        command.args(["agent", "--name", &name, "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        change(&mut command);
        self.launch(name, data, command);
        self.wait_for_peers(n, 0);
        n
    }

    fn launch(&mut self, name: String, data: PathBuf, command: Command) {
        let log = self.dir.path().join(format!("{name}.log"));
        self.agents.push(Agent { name, data, log, command, child: None });
        self.start_again(self.agents.len() - 1);
    }

    /// Starts an agent that ended, as it was started before; what it logs is added to its log.
    pub fn start_again(&mut self, n: usize) {
        let Agent { log, command, child, .. } = &mut self.agents[n];
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        *child = Some(command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}")));
    }

    /// Changes how an agent is started from its next start on.
    #[allow(dead_code, reason = "only some tests from outside do")]
    pub fn change(&mut self, n: usize, change: impl FnOnce(&mut Command)) {
        change(&mut self.agents[n].command);
    }

    /// Waits until an agent is connected with `count` others.
    pub fn wait_for_peers(&mut self, n: usize, count: usize) {
        let end = Instant::now() + MEETING_LIMIT;
        loop {
            let running = self.agents[n].child.as_mut().unwrap().try_wait().unwrap().is_none();
            assert!(running, "{} ended:\n{}", self.agents[n].name, self.log(n));
            let asked = run(self.dmc(n).args(["peers", "--json"]), QUESTION_LIMIT);
            // Until the agent wrote down its address, the question fails; that is no error here.
            if asked.ok() && connected(&asked.stdout) >= count {
                return;
            }
            assert!(Instant::now() < end, "agent-{n} does not see {count} others: {asked}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A call of the program that talks to the agent `n`.
    pub fn dmc(&self, n: usize) -> Command {
        dmc(&self.agents[n].data, self.discovery_port)
    }

    /// Asks agent `n` something and reads the answer as JSON.
    pub fn ask(&self, n: usize, words: &[&str]) -> Value {
        let asked = run(self.dmc(n).args(words).arg("--json"), QUESTION_LIMIT);
        assert!(asked.ok(), "{asked}");
        serde_json::from_str(&asked.stdout).unwrap_or_else(|e| panic!("{e}: {asked}"))
    }

    /// A job with its tasks, as its owner `n` shows it.
    pub fn job(&self, n: usize, id: &str) -> Job {
        Job(self.ask(n, &["jobs", "show", id]))
    }

    /// Converts a file to a place and waits for it; the job is none if there was none to show.
    pub fn convert(
        &self,
        n: usize,
        source: &Path,
        out: &Path,
        words: &[&str],
        limit: Duration,
    ) -> (Finished, Option<Job>) {
        let mut command = self.dmc(n);
        command.args(["convert", "--json"]).args(words).arg("-o").arg(out).arg("--").arg(source);
        let done = run(&mut command, limit);
        let job = Job::last_of(&done.stdout).map(|job| self.job(n, job.id()));
        (done, job)
    }

    /// A directory for the test's own files, removed with the bed.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// What an agent logged so far.
    pub fn log(&self, n: usize) -> String {
        fs::read_to_string(&self.agents[n].log).unwrap_or_default()
    }

    /// Ends an agent and its encoders without warning, as a pulled plug would.
    pub fn pull_plug(&mut self, n: usize) {
        if let Some(mut child) = self.agents[n].child.take() {
            pull_plug(&mut child);
        }
    }

    /// Ends an agent without warning; its encoders live on, as they do after `kill -9`.
    pub fn kill(&mut self, n: usize) {
        if let Some(mut child) = self.agents[n].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The data directory of an agent.
    pub fn data(&self, n: usize) -> &Path {
        &self.agents[n].data
    }

    /// Asks an agent to end; false if it had to be forced.
    pub fn stop(&mut self, n: usize) -> bool {
        self.agents[n].child.take().is_none_or(|mut child| end_tree(&mut child, GRACE))
    }

    /// The process id of an agent that runs.
    pub fn process_id(&self, n: usize) -> u32 {
        self.agents[n].child.as_ref().unwrap().id()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for n in 0..self.agents.len() {
            self.stop(n);
        }
        if thread::panicking() {
            // The files go away with the bed, so this is the last chance to see them.
            for n in 0..self.agents.len() {
                let log = self.log(n);
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(40);
                eprintln!("--- end of the log of agent-{n}\n{}", lines[from..].join("\n"));
            }
        }
    }
}

/// How many peers are connected.
fn connected(peers: &str) -> usize {
    let peers: Value = serde_json::from_str(peers).unwrap_or_default();
    peers.as_array().into_iter().flatten().filter(|p| p["state"] == "connected").count()
}

/// A UDP port that nobody uses now. All agents of a bed share it, so it cannot be held.
pub fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// A TCP port that nobody uses now.
pub fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
