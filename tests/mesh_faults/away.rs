//! Agents that are away for a while: owners, sleepers, and those that come back elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::apart::{apart, ordinary};
use super::link;
use super::mesh::{JOB_LIMIT, MEETING_LIMIT, Mesh};
use super::watch::{Watch, wait_until};
use crate::support::dmc::Job;
use crate::support::process::pull_plug;
use crate::support::zoo;

/// Work that takes its time: six segments of a second or more each.
const SLOW: &[&str] = &["--codec", "h264", "--encoder-speed", "veryslow", "--segment-seconds", "2"];
/// Workers finish what they hold within this time.
const WORK_LIMIT: Duration = Duration::from_secs(180);

/// The attempts at each task that were started so far, by any agent.
fn attempts(mesh: &Mesh) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let logs: Vec<String> = mesh.hosts.iter().map(|host| host.log()).collect();
    for line in logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(" starts ")) {
        let Some((_, after)) = line.split_once("task=") else { continue };
        let Some((task, attempt)) = after.split_once(" attempt=") else { continue };
        all.entry(task.to_owned()).or_default().insert(attempt.to_owned());
    }
    all
}

/// The tasks that a host finished so far.
fn finished_by(mesh: &Mesh, n: usize) -> Vec<String> {
    let log = mesh.hosts[n].log();
    let lines = log.lines().filter(|line| line.contains(" finished "));
    lines
        .filter_map(|line| Some(line.split_once("task=")?.1.split(' ').next()?.to_owned()))
        .collect()
}

/// The tasks of a job that are in one of these states.
fn are_in(job: &Job, states: &[&str]) -> Vec<String> {
    let is_in = |task: &&Value| states.iter().any(|state| task["state"] == *state);
    let tasks = job.tasks().iter().filter(is_in);
    tasks.map(|task| format!("{}/{}", job.id(), task["index"])).collect()
}

#[test]
fn workers_keep_results_for_an_owner_that_crashed() {
    apart("away::workers_keep_results_for_an_owner_that_crashed", ordinary(), |dir| {
        owner_away(dir, |mesh| mesh.hosts[0].kill(true));
    });
}

#[test]
fn workers_keep_results_for_an_owner_that_was_stopped() {
    apart("away::workers_keep_results_for_an_owner_that_was_stopped", ordinary(), |dir| {
        owner_away(dir, |mesh| {
            mesh.hosts[0].stop();
        });
    });
}

fn owner_away(dir: &std::path::Path, leave: impl Fn(&mut Mesh)) {
    // The lease of every day: a busy machine needs more than a few seconds to meet again.
    let mut mesh = Mesh::start_with(dir, 3, 300, |host| {
        host.variables.push(("DMC_MESH_LEASE_MS", "60000".to_owned()));
    });
    let mut watch = Watch::new(&mesh);
    let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
    let id = asked.id.clone().unwrap();
    for worker in [1, 2] {
        watch.until("both work", |host, line| host == worker && line.contains(" starts "));
    }
    let before = mesh.hosts[0].job(&id).map(|job| are_in(&job, &["committed"])).unwrap_or_default();
    leave(&mut mesh);
    // They finish all that they were granted, and then there is nothing more to do.
    wait_until("the workers finished what they hold", WORK_LIMIT, || {
        let done: usize = [1, 2].iter().map(|n| finished_by(&mesh, *n).len()).sum();
        done > 0 && mesh.hosts[1..].iter().all(|host| host.children().is_empty())
    });
    // An absence that is longer than a lease and than a peer is only suspect.
    thread::sleep(Duration::from_secs(8));
    let held: Vec<String> = [1, 2].iter().flat_map(|n| finished_by(&mesh, *n)).collect();
    let held: Vec<String> = held.into_iter().filter(|task| !before.contains(task)).collect();
    assert!(!held.is_empty(), "nobody did anything while the owner was away");
    for host in &mut mesh.hosts[1..] {
        assert!(host.is_up());
    }

    let begun = attempts(&mesh);
    let mut watch = Watch::new(&mesh);
    mesh.hosts[0].start();
    watch.until("a worker is back", |host, line| host == 0 && line.contains("connected peer="));
    let since = Instant::now();
    let wait_for = |what: &str, states: &[&str]| {
        wait_until(what, JOB_LIMIT, || {
            let job = mesh.hosts[0].job(&id);
            job.is_some_and(|job| held.iter().all(|task| are_in(&job, states).contains(task)))
        });
        since.elapsed().as_secs_f32()
    };
    // Knowing of a result is the reconciling; checking it takes the time that decoding takes.
    let known = wait_for("the owner knows what was done", &["fetching", "committed"]);
    let checked = wait_for("the owner has what was done", &["committed"]);
    let jobs = mesh.wait_done(JOB_LIMIT);
    mesh.check_result(&asked, &jobs);
    // What the owner itself had begun before it left may go on until it knows of the result.
    let (after, workers) = (attempts(&mesh), finished_by(&mesh, 1));
    let finished: Vec<String> = workers.into_iter().chain(finished_by(&mesh, 2)).collect();
    for task in &held {
        assert_eq!(after[task], begun[task], "{task} was given out again though it was held");
        let times = finished.iter().filter(|done| *done == task).count();
        assert_eq!(times, 1, "{task} was encoded {times} times");
    }
    mesh.check_tidy(&jobs);
    println!(
        "owner away: {} results were held; after the first worker was back the owner knew them all \
         in {known:.2} s and had checked them in {checked:.2} s; none was encoded again",
        held.len()
    );
}

#[test]
fn a_restarted_agent_ends_its_own_encoders_and_no_others() {
    apart("away::a_restarted_agent_ends_its_own_encoders_and_no_others", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 2, 300);
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
        for worker in [0, 1] {
            watch.until("both work", |host, line| host == worker && line.contains(" starts "));
        }
        // Somebody else's encoder on the same host, which looks like one of ours.
        let mut other = Command::new("ffmpeg");
        other.args(
            "-nostdin -v error -re -f lavfi -i testsrc2=s=64x64:r=1 -t 600 -f null -".split(' '),
        );
        let mut other = other.stdin(Stdio::null()).spawn().unwrap();
        let others = mesh.hosts[0].id();
        // Its log may be ahead of its encoder, or one segment may just be over.
        let mut own = Vec::new();
        wait_until("it has an encoder", WORK_LIMIT, || {
            own = mesh.hosts[1].children();
            own.retain(|process| command_line(process.id).contains("libx264"));
            !own.is_empty()
        });
        mesh.hosts[1].note("FAULT 1 kill -9 of the agent alone");
        mesh.hosts[1].kill(false);
        assert!(
            own.iter().any(|p| p.still_runs()),
            "its encoder ended with it: the test shows nothing"
        );
        mesh.hosts[1].start();
        mesh.hosts[1].wait_ready();
        let took = wait_until("its encoders are gone", Duration::from_secs(30), || {
            !own.iter().any(|p| p.still_runs())
        });
        println!("gone {:.2} s after the agent answered again", took.as_secs_f32());
        assert!(other.try_wait().unwrap().is_none(), "it ended an encoder that is not its own");
        assert_eq!(mesh.hosts[0].id(), others);
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        assert!(!mesh.hosts[0].log().contains("failed:"), "{}", mesh.hosts[0].tail());
        pull_plug(&mut other);
        mesh.check_tidy(&jobs);
    });
}

/// What a process was started with.
fn command_line(id: u32) -> String {
    let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

/// How often a host's log says that somebody connected to it.
fn meetings(mesh: &Mesh, n: usize) -> usize {
    mesh.hosts[n].log().lines().filter(|line| line.contains(" connected peer=")).count()
}

#[test]
fn an_agent_that_slept_is_back_soon_and_harms_nothing() {
    let named = env::var("DMC_SLEEP_S").ok();
    let limit = if named.is_some() { None } else { ordinary() };
    apart("away::an_agent_that_slept_is_back_soon_and_harms_nothing", limit, |dir| {
        let time = named.as_ref().map_or(9, |text| text.parse().unwrap());
        let mut mesh = Mesh::start(dir, 3, 300);
        for sleeper in [1, 0] {
            let mut watch = Watch::new(&mesh);
            let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
            watch.until("it works", |host, line| host == sleeper && line.contains(" starts "));
            let before = meetings(&mesh, sleeper);
            mesh.hosts[sleeper].note("FAULT 1 sleep");
            mesh.hosts[sleeper].sleep();
            thread::sleep(Duration::from_secs(time));
            mesh.hosts[sleeper].wake();
            let back = wait_until("it is connected again", MEETING_LIMIT, || {
                mesh.hosts[sleeper].peers() == 2
            });
            let jobs = mesh.wait_done(JOB_LIMIT);
            mesh.check_result(&asked, &jobs);
            for task in jobs.values().flat_map(Job::tasks) {
                let won = |a: &&Value| a["state"] == "committed";
                let wins = task["attempts"].as_array().into_iter().flatten().filter(won).count();
                assert_eq!(wins, 1, "{task:#}");
            }
            mesh.check_tidy(&jobs);
            let met = meetings(&mesh, sleeper) - before;
            assert!(met <= 8, "a storm of {met} connections at h{sleeper}");
            println!(
                "h{sleeper} slept {time} s, was connected {:.1} s later, by {met} new connections",
                back.as_secs_f32()
            );
        }
    });
}

#[test]
fn a_cable_and_an_address_come_back_within_seconds() {
    apart("away::a_cable_and_an_address_come_back_within_seconds", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 100);
        for seconds in [1, 12] {
            link::plug(1, false);
            thread::sleep(Duration::from_secs(seconds));
            link::plug(1, true);
            let took = wait_until("everybody is connected", MEETING_LIMIT, || {
                mesh.hosts.iter().all(|host| host.peers() == 2)
            });
            println!("cable out for {seconds} s: back after {:.1} s", took.as_secs_f32());
        }
        // The old connections look well until somebody says something, so new ones count.
        let before = meetings(&mesh, 1);
        link::change_address(1, 0, 1);
        let took = wait_until("it has new connections", MEETING_LIMIT, || {
            meetings(&mesh, 1) >= before + 2 && mesh.hosts[1].peers() == 2
        });
        println!("another address: back after {:.1} s", took.as_secs_f32());
        let source = zoo::get("plain.mp4");
        let words = ["--preset", "lossless", "--segment-seconds", "2"];
        let asked = mesh.submit(1, &source, "film.mkv", &words);
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}
