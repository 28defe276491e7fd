//! Disks without room: waited out, and nobody is blamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FILM_LIMIT, ask_for, leftovers, wait_for_success};
use crate::support::bed::{Bed, Meeting};
use crate::support::namespaces::{mount_disk, on_small_disks};
use crate::support::process::run;
use crate::support::wait::wait_until;
use crate::support::zoo;

/// A file that takes all the room of a disk.
struct Filler(PathBuf);

impl Filler {
    fn fill(disk: &Path) -> Self {
        let filler = Self(disk.join("filler"));
        filler.take_more();
        filler
    }

    /// Takes what has become free since.
    fn take_more(&self) {
        let mut file = fs::File::options().create(true).append(true).open(&self.0).unwrap();
        let part = vec![1; 1 << 16];
        while file.write_all(&part).is_ok() {}
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Starts agents whose data directories are disks of that many MiB, where a number is given.
fn bed_on_disks(mib: &[Option<u32>]) -> Bed {
    Bed::start_with(mib.len(), Meeting::Address, |n, command| {
        let words: Vec<_> = command.get_args().collect();
        let at = words.iter().position(|word| *word == "--data-dir").unwrap();
        let data = PathBuf::from(words[at + 1]);
        if let Some(mib) = mib[n] {
            mount_disk(&data, mib);
        }
        command.args(["--slots", "1"]).env("DMC_DISK_RESERVE_BYTES", "1000000");
    })
}

fn waits_for_room(bed: &Bed, id: &str) -> bool {
    let job = bed.job(0, id);
    assert!(!job.status().starts_with("finished"), "{:#}", job.0);
    let why = job.0["waiting"].as_str().unwrap_or_default();
    job.0["phase"] == "waiting" && why.contains("waiting for room")
}

const SLOW: &[&str] = &["--preset", "h264", "--encoder-speed", "slow", "--segment-seconds", "3"];

#[test]
fn a_full_disk_of_the_state_is_waited_out() {
    zoo::get("plain.mp4");
    if !on_small_disks(module_path!(), "a_full_disk_of_the_state_is_waited_out") {
        return;
    }
    let bed = bed_on_disks(&[Some(200)]);
    let (source, out) = (zoo::get("plain.mp4"), bed.dir("out").join("film.mkv"));
    assert!(bed.data(0).join("ballast").exists());
    let id = ask_for(&bed, 0, &source, &out, SLOW);
    wait_until("it encodes", FILM_LIMIT, || bed.job(0, &id).0["phase"] == "encoding");
    let filler = Filler::fill(bed.data(0));
    // The ballast's room goes as well, to whoever fills the disk.
    wait_until("the job waits for room", FILM_LIMIT, || {
        filler.take_more();
        waits_for_room(&bed, &id)
    });
    // A wish must be written down: first the ballast gives its room, then the state has none.
    wait_until("the agent says why", FILM_LIMIT, || {
        bed.ask(0, &["pause"]);
        bed.ask(0, &["resume"]);
        filler.take_more();
        let status = bed.ask(0, &["status"]);
        status["waiting"].as_str().is_some_and(|why| why.contains("write the state"))
    });
    assert!(!bed.data(0).join("ballast").exists());
    // Nothing new is taken on, and that is said.
    let mut more = bed.dmc(0);
    more.args(["convert", "--detach", "-o"]).arg(out.with_extension("mp4")).arg(&source);
    let refused = run(&mut more, Duration::from_secs(60));
    assert!(!refused.ok() && refused.stderr.contains("the disk is full"), "{refused}");
    drop(filler);
    let job = wait_for_success(&bed, 0, &id);
    assert!(job.0["errors"].as_array().is_some_and(Vec::is_empty), "{:#}", job.0);
    // The word stays for some seconds, and the film may be done before.
    wait_until("nothing is said any more", FILM_LIMIT, || {
        bed.ask(0, &["status"])["waiting"].is_null()
    });
}

#[test]
fn an_agent_with_a_full_disk_still_stops_cleanly() {
    zoo::get("plain.mp4");
    if !on_small_disks(module_path!(), "an_agent_with_a_full_disk_still_stops_cleanly") {
        return;
    }
    let mut bed = bed_on_disks(&[Some(200)]);
    let (source, out) = (zoo::get("plain.mp4"), bed.dir("out").join("film.mkv"));
    let id = ask_for(&bed, 0, &source, &out, SLOW);
    wait_until("it encodes", FILM_LIMIT, || bed.job(0, &id).0["phase"] == "encoding");
    let filler = Filler::fill(bed.data(0));
    wait_until("the job waits for room", FILM_LIMIT, || {
        filler.take_more();
        waits_for_room(&bed, &id)
    });
    assert!(bed.stop(0), "it had to be forced:\n{}", bed.log(0));
    drop(filler);
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    wait_for_success(&bed, 0, &id);
}

#[test]
fn a_full_destination_is_waited_out() {
    zoo::get("plain.mp4");
    if !on_small_disks(module_path!(), "a_full_destination_is_waited_out") {
        return;
    }
    let bed = bed_on_disks(&[None]);
    let dir = bed.dir("out");
    mount_disk(&dir, 64);
    let (source, out) = (zoo::get("plain.mp4"), dir.join("film.mkv"));
    let id = ask_for(&bed, 0, &source, &out, SLOW);
    wait_until("it encodes", FILM_LIMIT, || bed.job(0, &id).0["phase"] == "encoding");
    let filler = Filler::fill(&dir);
    wait_until("the job waits for room", FILM_LIMIT, || waits_for_room(&bed, &id));
    let job = bed.job(0, &id);
    assert_eq!(job.0["tasks_done"], job.0["tasks_total"], "only the end is missing: {:#}", job.0);
    assert_eq!(leftovers(&dir), std::slice::from_ref(&filler.0), "a half-made result");
    drop(filler);
    wait_for_success(&bed, 0, &id);
    assert_eq!(leftovers(&dir), [out]);

    // It waits as well before it begins.
    let filler = Filler::fill(&dir);
    let id = ask_for(&bed, 0, &source, &dir.join("again.mkv"), SLOW);
    wait_until("the job waits for room", FILM_LIMIT, || waits_for_room(&bed, &id));
    assert_eq!(bed.job(0, &id).0["tasks_total"], 0);
    drop(filler);
    wait_for_success(&bed, 0, &id);
}

#[test]
fn a_worker_without_room_gets_nothing_and_is_not_blamed() {
    zoo::get("plain.mp4");
    if !on_small_disks(module_path!(), "a_worker_without_room_gets_nothing_and_is_not_blamed") {
        return;
    }
    let bed = bed_on_disks(&[None, Some(64)]);
    let (source, dir) = (zoo::get("plain.mp4"), bed.dir("out"));
    let filler = Filler::fill(bed.data(1));
    wait_until("the owner knows", FILM_LIMIT, || {
        bed.ask(0, &["peers"])[0]["free_disk_bytes"].as_u64() < Some(1 << 20)
    });
    let id = ask_for(&bed, 0, &source, &dir.join("film.mkv"), SLOW);
    let job = wait_for_success(&bed, 0, &id);
    assert_eq!(job.workers(), ["agent-0"], "{:#}", job.0);
    drop(filler);
    wait_until("the owner knows", FILM_LIMIT, || {
        bed.ask(0, &["peers"])[0]["free_disk_bytes"].as_u64() > Some(30 << 20)
    });
    let id = ask_for(&bed, 0, &source, &dir.join("again.mkv"), SLOW);
    let job = wait_for_success(&bed, 0, &id);
    assert_eq!(job.workers(), ["agent-0", "agent-1"], "nobody was blamed: {:#}", job.0);
}
