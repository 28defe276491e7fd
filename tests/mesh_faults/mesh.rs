//! Some hosts on one switch, and what must hold for them whatever happened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::apart::keep_evidence;
use super::host::Host;
use super::link;
use crate::support::compare::{Depth, compare};
use crate::support::dmc::Job;
use crate::support::film::Film;

/// Everything must be connected again this soon after the last fault ended.
pub const MEETING_LIMIT: Duration = Duration::from_secs(90);
/// Jobs of the size that these tests use must be over this soon after the last fault ended.
pub const JOB_LIMIT: Duration = Duration::from_secs(240);
/// What is not needed must be gone this soon.
const TIDY_LIMIT: Duration = Duration::from_secs(30);

/// The hosts; dropping it keeps the evidence when the test failed.
pub struct Mesh {
    /// By number.
    pub hosts: Vec<Host>,
    dir: PathBuf,
}

/// A conversion that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The host that was asked.
    pub host: usize,
    /// The job, once the agent said that it took it.
    pub id: Option<String>,
    /// The source.
    pub source: PathBuf,
    /// The name of the result.
    pub name: String,
    /// How much of it must be equal.
    pub depth: Depth,
}

impl Mesh {
    /// So many hosts, each with disks of so many MiB, with agents that know each other.
    pub fn start(dir: &Path, count: usize, disk_mib: u64) -> Self {
        Self::start_with(dir, count, disk_mib, |_| {})
    }

    /// The same, with a last word on each host.
    pub fn start_with(dir: &Path, count: usize, disk_mib: u64, change: impl Fn(&mut Host)) -> Self {
        link::make_switch();
        let hosts = (0..count).map(|n| Host::new(n, dir, disk_mib)).collect();
        let mut mesh = Self { hosts, dir: dir.to_owned() };
        for host in &mut mesh.hosts {
            change(host);
            host.start();
        }
        mesh.wait_connected();
        mesh
    }

    /// Waits until every agent answers and sees every other one; how long it took.
    pub fn wait_connected(&mut self) -> Duration {
        let since = Instant::now();
        let others = self.hosts.len() - 1;
        for host in &mut self.hosts {
            host.wait_ready();
            while host.peers() < others {
                let late = since.elapsed() > MEETING_LIMIT;
                assert!(!late, "h{} misses others:\n{}", host.n, host.tail());
                thread::sleep(Duration::from_millis(100));
            }
        }
        since.elapsed()
    }

    /// Asks a host to convert a film, which it must take.
    pub fn submit(&self, host: usize, source: &Path, name: &str, words: &[&str]) -> Asked {
        let taken = self.hosts[host].submit(source, name, words);
        let id = taken
            .unwrap_or_else(|e| panic!("h{host} takes no job: {e}\n{}", self.hosts[host].tail()));
        Asked {
            host,
            id: Some(id),
            source: source.to_owned(),
            name: name.to_owned(),
            depth: if words.contains(&"lossless") { Depth::Lossless } else { Depth::Times },
        }
    }

    /// Waits until every job of every host is over and well; all of them with their tasks.
    pub fn wait_done(&mut self, limit: Duration) -> BTreeMap<String, Job> {
        let since = Instant::now();
        let mut done = BTreeMap::new();
        for n in 0..self.hosts.len() {
            loop {
                assert!(self.hosts[n].is_up());
                let jobs = self.hosts[n].jobs();
                let open =
                    jobs.as_ref().and_then(|jobs| jobs.iter().find(|job| !self.is_done(n, job)));
                let late = since.elapsed() > limit;
                if let (Some(jobs), None) = (&jobs, open) {
                    for job in jobs {
                        let job = self.hosts[n].job(job.id()).unwrap();
                        done.insert(job.id().to_owned(), job);
                    }
                    break;
                }
                if late {
                    let shown = open.and_then(|job| self.hosts[n].job(job.id())).map(|job| job.0);
                    panic!(
                        "h{n} is not done after {limit:?}: {shown:#?}\n{}",
                        self.hosts[n].tail()
                    );
                }
                thread::sleep(Duration::from_millis(200));
            }
        }
        done
    }

    /// Whether a job is over; no job may end otherwise than well.
    fn is_done(&self, n: usize, job: &Job) -> bool {
        match job.status() {
            "finished_successful" => true,
            "to_do" | "in_progress" => false,
            other => {
                let shown = self.hosts[n].job(job.id());
                panic!("a job of h{n} is {other}: {shown:#?}\n{}", self.hosts[n].tail())
            }
        }
    }

    /// The result of a conversion is the same film, its job is known, and then both go.
    pub fn check_result(&self, asked: &Asked, jobs: &BTreeMap<String, Job>) {
        let out = self.hosts[asked.host].out().join(&asked.name);
        if let Some(id) = &asked.id {
            assert!(jobs.contains_key(id), "h{} forgot {asked:?}", asked.host);
        } else if !out.exists() {
            // It was never acknowledged, so it need not be there.
            return;
        }
        let (source, result) = (Film::open(&asked.source).unwrap(), Film::open(&out));
        let result = result.unwrap_or_else(|e| panic!("no result of {asked:?}: {e}"));
        let verdict = compare(&source, &result, asked.depth).unwrap();
        assert_eq!(verdict.differences, Vec::<String>::new(), "{asked:?}");
        fs::remove_file(&out).unwrap();
        // Or a power cut brings it back.
        File::open(out.parent().unwrap()).unwrap().sync_all().unwrap();
    }

    /// Removes the jobs, and checks that nothing is left of them.
    pub fn check_tidy(&mut self, jobs: &BTreeMap<String, Job>) {
        for host in &self.hosts {
            for job in host.jobs().unwrap_or_default() {
                assert!(jobs.contains_key(job.id()), "a new job at h{}: {job:?}", host.n);
                let removed = host.call(&["jobs", "remove", job.id()]);
                assert!(removed.ok(), "{removed}");
            }
        }
        let since = Instant::now();
        loop {
            let left: Vec<String> =
                self.hosts.iter().flat_map(Host::leftovers).chain(media_programs()).collect();
            if left.is_empty() {
                return;
            }
            let late = since.elapsed() > TIDY_LIMIT;
            assert!(!late, "left behind: {left:#?}");
            thread::sleep(Duration::from_millis(250));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let failed = thread::panicking();
        for host in &mut self.hosts {
            if failed {
                host.note("TEST failed");
            }
            host.kill(true);
        }
        if failed {
            keep_evidence(&self.dir);
        }
    }
}

/// The ffmpeg and ffprobe processes of all hosts.
pub fn media_programs() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let program = words.split(' ').next().unwrap_or_default();
        if program.ends_with("ffmpeg") || program.ends_with("ffprobe") {
            found.push(format!("process {}: {words}", entry.file_name().display()));
        }
    }
    found
}
