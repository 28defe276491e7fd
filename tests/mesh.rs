//! Several agents, one film: they find each other, all of them work, and any of them may leave.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::compare::{Depth, same_film};
use crate::support::dmc::{Job, binary};
use crate::support::namespaces::{HOST, unshare};
use crate::support::process::{Finished, Running, descendants, run};
use crate::support::wait::wait_until;
use crate::support::zoo;

const FILM_LIMIT: Duration = Duration::from_secs(240);
const CHANGE_LIMIT: Duration = Duration::from_secs(60);
const LOSSLESS: &[&str] = &["--preset", "lossless", "--segment-seconds", "4"];

fn finished(done: &Finished, job: Option<Job>) -> Job {
    assert!(done.ok(), "{done}");
    let job = job.unwrap_or_else(|| panic!("no job in the last line: {done}"));
    assert_eq!(job.status(), "finished_successful", "{:#}", job.0);
    job
}

#[test]
fn three_agents_find_each_other_and_share_a_film() {
    let bed = Bed::start(3, Meeting::Discovery);
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    let (done, job) = bed.convert(0, &source, &out, LOSSLESS, FILM_LIMIT);
    let job = finished(&done, job);
    assert_eq!(job.workers(), ["agent-0", "agent-1", "agent-2"], "{:#}", job.0);
    let done_by = |worker: &Value| worker["segments"].as_u64().unwrap_or_default();
    let workers = job.0["workers"].as_array().unwrap();
    assert!(workers.iter().all(|w| done_by(w) > 0), "{workers:#?}");
    assert!(job.tasks().len() > 3, "{:#}", job.0);
    assert!(job.tasks().iter().all(|t| !t["worker"].is_null()), "{:#}", job.0);
    same_film(&source, &out, Depth::Lossless);
}

#[test]
fn agents_that_know_addresses_need_no_multicast() {
    let bed = Bed::start(3, Meeting::Address);
    let (source, out) = (zoo::get("h264_opengop.mkv"), bed.dir("out").join("film.mkv"));
    let words = ["--preset", "lossless", "--segment-seconds", "2"];
    let (done, job) = bed.convert(1, &source, &out, &words, FILM_LIMIT);
    let job = finished(&done, job);
    assert!(job.workers().len() > 1, "{:#}", job.0);
    same_film(&source, &out, Depth::Lossless);
}

#[test]
fn a_film_survives_the_death_of_a_worker() {
    let mut bed = Bed::start(3, Meeting::Discovery);
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    let victim = name_of(&bed, "agent-2");
    let mut command = bed.dmc(0);
    command.args(["convert", "--json", "--preset", "hevc", "--segment-seconds", "4", "-o"]);
    let converting = Running::start(command.arg(&out).arg(&source));
    wait_until("agent-2 has a task", CHANGE_LIMIT, || {
        let jobs = bed.ask(0, &["jobs", "list"]);
        let id = jobs[0]["id"].as_str().map(str::to_owned);
        id.is_some_and(|id| works_for(&bed.job(0, &id), &victim))
    });
    bed.pull_plug(2);
    let done = converting.wait(FILM_LIMIT);
    let job = finished(&done, Job::last_of(&done.stdout).map(|job| bed.job(0, job.id())));
    assert!(job.workers().contains(&"agent-0".to_owned()), "{:#}", job.0);
    same_film(&source, &out, Depth::Times);
}

/// Everything by which a job may name an agent.
fn name_of(bed: &Bed, name: &str) -> Vec<String> {
    let peers = bed.ask(0, &["peers"]);
    let peer = peers.as_array().unwrap().iter().find(|p| p["name"] == name);
    let id = peer.and_then(|p| p["id"].as_str()).unwrap();
    vec![name.to_owned(), id.to_owned()]
}

/// Whether an agent has a task of the job in hand.
fn works_for(job: &Job, agent: &[String]) -> bool {
    job.tasks().iter().any(|task| {
        let worker = &task["worker"];
        let names = [worker, &worker["name"], &worker["id"]];
        names.iter().filter_map(|n| n.as_str()).any(|n| agent.iter().any(|a| a == n))
    })
}

#[test]
fn an_agent_that_is_asked_to_end_says_so_and_leaves_nothing_running() {
    let mut bed = Bed::start(2, Meeting::Discovery);
    let before = descendants(bed.process_id(1));
    assert!(bed.stop(1), "it had to be forced:\n{}", bed.log(1));
    for process in before {
        let path = format!("/proc/{}", process.id);
        assert!(!Path::new(&path).exists(), "{process:?} still runs");
    }
    wait_until("agent-0 misses agent-1", CHANGE_LIMIT, || {
        let peers = bed.ask(0, &["peers"]);
        peers.as_array().unwrap().iter().all(|p| p["state"] != "connected")
    });
}

/// Three hosts with a switch between them, as far as the kernel can play that.
#[test]
fn three_hosts_on_one_link_find_each_other_and_share_a_film() {
    let Some(mut command) = unshare(HOST) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (source, out) = (zoo::get("long.mp4"), dir.path().join("film.mkv"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/three_hosts.sh");
    command.arg("bash").arg(script);
    command.args([binary(), &source, &out, dir.path()]);
    let done = run(&mut command, FILM_LIMIT);
    let log = |n: usize| fs::read_to_string(dir.path().join(format!("host{n}.log")));
    assert!(done.ok(), "{done}\n{:?}\n{:?}", log(1), log(2));
    let jobs: Value =
        serde_json::from_str(&fs::read_to_string(dir.path().join("jobs.json")).unwrap()).unwrap();
    let job = Job(jobs[0].clone());
    assert_eq!(job.status(), "finished_successful", "{jobs:#}");
    assert_eq!(job.workers(), ["host1", "host2", "host3"], "{jobs:#}");
    same_film(&source, &out, Depth::Lossless);
}

/// A link that goes down and up, an address that changes, an agent that sleeps. The promise is ten
/// seconds; a busy machine gets more.
#[test]
fn hosts_that_lose_each_other_are_together_again_soon() {
    const AWAY_S: &str = "13";
    let Some(mut command) = unshare(HOST) else { return };
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("support/recovery.sh");
    command.arg("bash").arg(script);
    command.args([binary(), dir.path(), Path::new(AWAY_S)]);
    let done = run(&mut command, FILM_LIMIT);
    let log = |n: usize| fs::read_to_string(dir.path().join(format!("host{n}.log")));
    assert!(done.ok(), "{done}\n{:?}\n{:?}", log(1), log(2));
    let seconds = fs::read_to_string(dir.path().join("seconds")).unwrap();
    let took: Vec<f64> =
        seconds.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(took.len(), 3, "{seconds}");
    assert!(took.iter().all(|seconds| *seconds < 40.0), "{seconds}\n{:?}", log(2));
}
