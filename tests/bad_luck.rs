//! One agent and bad luck: killed, out of room, a source that changes under its hands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::bed::{Bed, Meeting};
use crate::support::dmc::Job;
use crate::support::process::{descendants, run, signal};
use crate::support::zoo;

const FILM_LIMIT: Duration = Duration::from_secs(240);

/// Asks agent `n` for a film without waiting for it; returns the job's id.
fn ask_for(bed: &Bed, n: usize, source: &Path, out: &Path, words: &[&str]) -> String {
    let mut command = bed.dmc(n);
    command.args(["convert", "--json", "--detach"]).args(words).arg("-o").arg(out).arg(source);
    let asked = run(&mut command, Duration::from_secs(60));
    assert!(asked.ok(), "{asked}");
    Job::last_of(&asked.stdout).unwrap_or_else(|| panic!("{asked}")).id().to_owned()
}

fn wait_until(what: &str, limit: Duration, mut now: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !now() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
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

/// The encoder that an agent runs, held still so that it cannot end by itself.
fn hold_encoder(agent: u32) -> u32 {
    let mut found = None;
    wait_until("an encoder runs", FILM_LIMIT, || {
        found = descendants(agent).into_iter().map(|process| process.id).find(|id| {
            let words = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            words.contains("libx265") && words.contains("-progress")
        });
        found.is_some()
    });
    let encoder = found.unwrap();
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
    let encoder = hold_encoder(bed.process_id(0));
    // A program of somebody else, with the name of another agent in its environment.
    let mut stranger = Command::new("sleep").arg("300").env("DMC_CHILD_OF", "x").spawn().unwrap();
    bed.kill(0);
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
