//! One agent and bad luck: killed, stopped, out of room, files that change under its hands.

mod disks;
mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::compare::{Depth, same_film};
use crate::support::dmc::Job;
use crate::support::process::{descendants, run, signal};
use crate::support::wait::wait_until;
use crate::support::zoo;

const FILM_LIMIT: Duration = Duration::from_secs(240);
/// For `long.mp4`: four segments, each of which takes seconds on a fast machine too.
const LONG: &[&str] = &["--preset", "h264", "--encoder-speed", "medium", "--segment-seconds", "12"];

/// Asks agent `n` for a film without waiting for it; returns the job's id.
fn ask_for(bed: &Bed, n: usize, source: &Path, out: &Path, words: &[&str]) -> String {
    let mut command = bed.dmc(n);
    command.args(["convert", "--json", "--detach"]).args(words).arg("-o").arg(out).arg(source);
    let asked = run(&mut command, Duration::from_secs(60));
    assert!(asked.ok(), "{asked}");
    Job::last_of(&asked.stdout).unwrap_or_else(|| panic!("{asked}")).id().to_owned()
}

/// Waits until a job is over, and for its success.
fn wait_for_success(bed: &Bed, n: usize, id: &str) -> Job {
    wait_until("the job is over", FILM_LIMIT, || {
        bed.job(n, id).status().starts_with("finished") || bed.job(n, id).status() == "cancelled"
    });
    let job = bed.job(n, id);
    assert_eq!(job.status(), "finished_successful", "{:#}", job.0);
    job
}

fn is_alive(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some(None | Some('Z' | 'X')))
}

/// Waits until an agent runs that encoder; its process.
fn running_encoder(agent: u32, encoder: &str) -> u32 {
    let mut found = None;
    wait_until("an encoder runs", FILM_LIMIT, || {
        found = descendants(agent).into_iter().map(|process| process.id).find(|id| {
            let words = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            words.contains(encoder) && words.contains("-progress")
        });
        found.is_some()
    });
    found.unwrap()
}

/// The encoder that an agent runs, held still so that it cannot end by itself.
fn hold_encoder(agent: u32, encoder: &str) -> u32 {
    let encoder = running_encoder(agent, encoder);
    signal(encoder, Signal::STOP);
    encoder
}

/// Everything below a directory that a finished conversion should not leave.
fn leftovers(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn what_a_killed_agent_left_behind_goes_at_its_next_start() {
    let mut bed = Bed::start(1, Meeting::Address);
    let (source, dir) = (zoo::get("long.mp4"), bed.dir("out"));
    let out = dir.join("film.mkv");
    let id = ask_for(&bed, 0, &source, &out, &["--preset", "hevc", "--segment-seconds", "4"]);
    // A program of somebody else, with the name of another agent in its environment.
    let mut stranger = Command::new("sleep").arg("300").env("DMC_CHILD_OF", "x").spawn().unwrap();
    let encoder = running_encoder(bed.process_id(0), "libx265");
    bed.kill(0);
    // Held only now: what is stopped when its parent dies is hung up by the kernel (POSIX,
    // "orphaned process groups").
    signal(encoder, Signal::STOP);
    let half_made = dir.join(format!(".film.mkv.{id}.dmc-part"));
    fs::write(&half_made, "half a film").unwrap();
    fs::write(bed.data(0).join("tmp/piece-left"), "half a piece").unwrap();
    fs::create_dir_all(bed.data(0).join("work/left")).unwrap();
    assert!(is_alive(encoder), "the test needs an encoder that outlives its agent");

    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    let stranger_lives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(!is_alive(encoder), "the encoder of the killed agent runs on:\n{}", bed.log(0));
    assert!(stranger_lives, "a program of somebody else was ended:\n{}", bed.log(0));
    assert!(!half_made.exists() && !bed.data(0).join("work/left").exists());
    assert!(!bed.data(0).join("tmp/piece-left").exists());
    wait_for_success(&bed, 0, &id);
    assert_eq!(leftovers(&dir), [out], "beside the result");
    assert_eq!(leftovers(&bed.data(0).join("work")), Vec::<PathBuf>::new());
}

/// A job of a film of its own, held in the middle of its second segment or later.
fn half_done(bed: &Bed) -> (String, PathBuf, PathBuf, u32) {
    let source = bed.dir("in").join("film.mp4");
    fs::copy(zoo::get("plain.mp4"), &source).unwrap();
    let out = bed.dir("out").join("film.mkv");
    let words = ["--preset", "lossless", "--segment-seconds", "2"];
    let id = ask_for(bed, 0, &source, &out, &words);
    wait_until("a segment is committed", FILM_LIMIT, || {
        bed.job(0, &id).0["tasks_done"].as_u64() > Some(0)
    });
    let encoder = hold_encoder(bed.process_id(0), "ffv1");
    (id, source, out, encoder)
}

#[test]
fn jobs_wait_for_their_turn_and_one_that_left_comes_back_with_what_was_done() {
    let mut bed = Bed::start_with(1, Meeting::Address, |_, command| {
        command.args(["--slots", "1"]).env("DMC_JOBS_OPEN_MAX", "1");
    });
    let (first, source, out, _encoder) = half_done(&bed);
    let ask = |name: &str| ask_for(&bed, 0, &zoo::get("tiny.mp4"), &bed.dir("out").join(name), &[]);
    let (second, third) = (ask("second.mkv"), ask("third.mkv"));
    for id in [&second, &third] {
        let job = bed.job(0, id);
        assert_eq!(
            (job.status(), &job.0["phase"]),
            ("to_do", &Value::from("waiting")),
            "{}",
            job.0
        );
    }
    // One that waits is ended on the disk alone; one that is open makes room for the next.
    for id in [&third, &first] {
        let cancelled = run(bed.dmc(0).args(["jobs", "cancel", id]), Duration::from_secs(60));
        assert!(cancelled.ok(), "{cancelled}");
        assert_eq!(bed.job(0, id).status(), "cancelled");
    }
    let done = wait_for_success(&bed, 0, &second);
    assert_eq!((done.tasks().is_empty(), done.workers()), (false, vec!["agent-0".to_owned()]));
    let commits = |job: &Job| -> Vec<Value> {
        let committed = job.tasks().iter().filter(|task| task["state"] == "committed");
        committed.map(|task| task["attempts"].clone()).collect()
    };
    let before = commits(&bed.job(0, &first));
    assert!(!before.is_empty());

    bed.kill(0);
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    let counts = bed.ask(0, &["status"])["jobs"].clone();
    let numbers = ["to_do", "in_progress", "finished_successful", "cancelled"];
    assert_eq!(numbers.map(|status| counts[status].as_u64().unwrap()), [0, 0, 1, 2]);
    let listed = bed.ask(0, &["jobs", "list", "--status", "cancelled"]);
    let ids: Vec<&str> =
        listed.as_array().unwrap().iter().filter_map(|j| j["id"].as_str()).collect();
    assert_eq!(ids, [&first, &third]);
    assert_eq!(commits(&bed.job(0, &first)), before);
    for id in [&first, &third] {
        // The end of an id will do.
        let retried = run(bed.dmc(0).args(["jobs", "retry", &id[24..]]), Duration::from_secs(60));
        assert!(retried.ok(), "{retried}");
    }
    let job = wait_for_success(&bed, 0, &first);
    let after = commits(&job);
    assert!(before.iter().all(|done| after.contains(done)), "done again: {before:?} {after:?}");
    same_film(&source, &out, Depth::Lossless);
    wait_for_success(&bed, 0, &third);
    let removed = run(bed.dmc(0).args(["jobs", "remove", &first]), Duration::from_secs(60));
    assert!(removed.ok(), "{removed}");
    assert_eq!(bed.ask(0, &["jobs", "list"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_stopped_agent_hands_over_what_it_can_finish_and_pause_survives() {
    let mut bed = Bed::start_with(2, Meeting::Address, |_, command| {
        command.args(["--slots", "1"]).env("DMC_STOP_GRACE_S", "100");
    });
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    // Only the other one works.
    bed.ask(0, &["pause"]);
    let id = ask_for(&bed, 0, &source, &out, LONG);
    wait_until("agent-1 is in the middle of a segment", FILM_LIMIT, || {
        let job = bed.job(0, &id);
        job.0["fps"].as_f64() > Some(1.0) && held_by(&job, "agent-1").contains(&"running".into())
    });
    let done = bed.job(0, &id).0["tasks_done"].as_u64();
    let below = descendants(bed.process_id(1));
    assert!(bed.stop(1), "it had to be forced:\n{}", bed.log(1));
    assert!(below.iter().all(|process| !is_alive(process.id)), "it left programs running");
    let job = bed.job(0, &id);
    assert!(job.0["tasks_done"].as_u64() > done, "its segment is lost: {:#}", job.0);
    // What it had not begun came back: nobody waits for a time-out.
    wait_until("nothing is held by it", Duration::from_secs(20), || {
        held_by(&bed.job(0, &id), "agent-1").is_empty()
    });
    assert_eq!(leftovers(&bed.data(1).join("work")), Vec::<PathBuf>::new());

    assert!(bed.stop(0), "it had to be forced:\n{}", bed.log(0));
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    assert_eq!(bed.ask(0, &["status"])["paused"], true, "pause survives a restart");
    bed.ask(0, &["resume"]);
    wait_for_success(&bed, 0, &id);
}

/// The states of what an agent holds of a job.
fn held_by(job: &Job, name: &str) -> Vec<String> {
    let workers = job.0["workers"].as_array().into_iter().flatten();
    let held = workers.filter(|w| w["name"] == name).filter_map(|w| w["holds"].as_array());
    held.flatten().filter_map(|hold| hold["state"].as_str()).map(str::to_owned).collect()
}

#[test]
fn a_result_is_kept_for_an_owner_that_is_away_and_that_is_said() {
    let mut bed = Bed::start_with(2, Meeting::Address, |_, command| {
        command.args(["--slots", "1"]);
    });
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    bed.ask(0, &["pause"]);
    let id = ask_for(&bed, 0, &source, &out, LONG);
    wait_until("agent-1 works", FILM_LIMIT, || {
        held_by(&bed.job(0, &id), "agent-1").contains(&"running".into())
    });
    bed.kill(0);
    let mut kept = Value::Null;
    wait_until("agent-1 keeps a result", FILM_LIMIT, || {
        kept = bed.ask(1, &["status"])["kept"].clone();
        kept[0]["owner_away"] == true
    });
    assert_eq!((&kept[0]["owner_name"], &kept[0]["job"]), (&"agent-0".into(), &id.as_str().into()));
    let said = run(bed.dmc(1).arg("status"), Duration::from_secs(30));
    assert!(said.stdout.contains("for agent-0, which is away"), "{said}");
    bed.start_again(0);
    bed.wait_for_peers(0, 1);
    wait_until("the owner has it", FILM_LIMIT, || {
        bed.ask(1, &["status"])["kept"].as_array().is_some_and(Vec::is_empty)
    });
    bed.ask(0, &["resume"]);
    let job = wait_for_success(&bed, 0, &id);
    assert!(job.workers().contains(&"agent-1".to_owned()), "{:#}", job.0);
}

#[test]
fn a_source_is_served_only_while_a_job_may_need_it() {
    let mut bed = Bed::start(1, Meeting::Address);
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    let served = bed.data(0).join("external");
    let id = ask_for(&bed, 0, &source, &out, LONG);
    wait_until("it is served", FILM_LIMIT, || leftovers(&served).len() == 1);
    bed.ask(0, &["jobs", "cancel", &id]);
    wait_until("it is cancelled", FILM_LIMIT, || bed.job(0, &id).status() == "cancelled");
    // It may be tried again...
    assert!(bed.stop(0), "it had to be forced:\n{}", bed.log(0));
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    let listed = leftovers(&served);
    assert_eq!(listed.len(), 1, "{listed:?}");
    let record = fs::read(&listed[0]).unwrap();
    // ...until it is forgotten.
    let removed = run(bed.dmc(0).args(["jobs", "remove", &id]), Duration::from_secs(30));
    assert!(removed.ok(), "{removed}");
    wait_until("it is not served any more", FILM_LIMIT, || leftovers(&served).is_empty());
    // A crash right after the end of a job leaves this.
    bed.kill(0);
    fs::write(&listed[0], record).unwrap();
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    wait_until("nobody needs it", FILM_LIMIT, || leftovers(&served).is_empty());
}
