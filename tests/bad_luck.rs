//! One agent and bad luck: killed, out of room, a source that changes under its hands.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::compare::{Depth, compare};
use crate::support::dmc::Job;
use crate::support::film::Film;
use crate::support::namespaces::{mount_disk, on_small_disks};
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

/// Files in the store that are held by names with that beginning.
fn held_files(data: &Path, holder: &str) -> Vec<PathBuf> {
    let holder: String = holder.bytes().map(|byte| format!("{byte:02x}")).collect();
    let pins = leftovers(&data.join("pins"));
    let names = pins.iter().filter_map(|pin| pin.file_name()?.to_str()?.split_once('.'));
    let held = names.filter(|(_, by)| by.starts_with(&holder));
    let mut files: Vec<PathBuf> =
        held.map(|(id, _)| data.join("blobs").join(&id[..2]).join(id)).collect();
    files.sort();
    files.dedup();
    files
}

/// Flips a bit in the middle of a file, as a bad disk does.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn files_that_a_bad_disk_damages_are_made_anew() {
    let bed = Bed::start(1, Meeting::Address);
    let (source, out) = (zoo::get("plain.mp4"), bed.dir("out").join("film.mkv"));
    let words = ["--preset", "lossless", "--segment-seconds", "2"];
    let id = ask_for(&bed, 0, &source, &out, &words);
    wait_until("a segment is committed", FILM_LIMIT, || {
        bed.job(0, &id).0["tasks_done"].as_u64() > Some(0)
    });
    let encoder = hold_encoder(bed.process_id(0), "ffv1");
    let mut parts = Vec::new();
    wait_until("a piece waits beside that of the encoder", FILM_LIMIT, || {
        parts = held_files(bed.data(0), "part-");
        held_files(bed.data(0), "piece-").len() > 1
    });
    let words = fs::read_to_string(format!("/proc/{encoder}/cmdline")).unwrap();
    let idle = |file: &PathBuf| !words.contains(file.to_str().unwrap());
    let pieces: Vec<_> = held_files(bed.data(0), "piece-").into_iter().filter(idle).collect();
    assert!(!pieces.is_empty() && !parts.is_empty(), "{pieces:?} {parts:?}");
    damage(&pieces[0]);
    // The largest is a film, the smallest a list of frames.
    parts.sort_by_key(|file| fs::metadata(file).unwrap().len());
    damage(parts.last().unwrap());
    signal(encoder, Signal::CONT);
    let job = wait_for_success(&bed, 0, &id);
    assert!(job.0["proof"]["pixels_equal"].as_bool().unwrap(), "{:#}", job.0);
    let (source, result) = (Film::open(&source).unwrap(), Film::open(&out).unwrap());
    let verdict = compare(&source, &result, Depth::Lossless).unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
    let log = bed.log(0);
    for what in ["its piece is damaged", "its result is damaged"] {
        assert!(log.contains(what), "not noticed: {what}");
    }
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

fn is_the_same_film(source: &Path, out: &Path) {
    let (source, result) = (Film::open(source).unwrap(), Film::open(out).unwrap());
    let verdict = compare(&source, &result, Depth::Lossless).unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
}

#[test]
fn a_source_that_is_only_touched_is_still_the_source() {
    let bed = Bed::start(1, Meeting::Address);
    let (id, source, out, encoder) = half_done(&bed);
    // Other times, another inode, the same bytes.
    let copy = source.with_extension("copy");
    fs::copy(&source, &copy).unwrap();
    fs::rename(&copy, &source).unwrap();
    signal(encoder, Signal::CONT);
    wait_for_success(&bed, 0, &id);
    is_the_same_film(&source, &out);
    assert!(bed.log(0).contains("its content is the same"), "{}", bed.log(0));
}

#[test]
fn a_source_that_changes_fails_its_job_and_a_retry_converts_the_new_one() {
    let bed = Bed::start(1, Meeting::Address);
    let (id, source, out, encoder) = half_done(&bed);
    // The same size and modification time, other bytes.
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    damage(&source);
    fs::File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    signal(encoder, Signal::CONT);
    wait_until("the job is over", FILM_LIMIT, || bed.job(0, &id).status().starts_with("finished"));
    let job = bed.job(0, &id);
    assert_eq!(job.status(), "finished_with_errors", "{:#}", job.0);
    let errors = job.0["errors"].to_string();
    assert!(errors.contains("changed while it was being converted"), "{errors}");
    assert_eq!(leftovers(out.parent().unwrap()), Vec::<PathBuf>::new(), "nothing is mixed");

    fs::copy(zoo::get("h264_opengop.mkv"), &source).unwrap();
    let retried = run(bed.dmc(0).args(["jobs", "retry", &id]), Duration::from_secs(60));
    assert!(retried.ok(), "{retried}");
    wait_for_success(&bed, 0, &id);
    is_the_same_film(&source, &out);
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
    is_the_same_film(&source, &out);
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

/// For `long.mp4`: four segments, each of which takes seconds on a fast machine too.
const LONG: &[&str] = &["--preset", "h264", "--encoder-speed", "medium", "--segment-seconds", "12"];

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
    assert!(bed.ask(0, &["status"])["waiting"].is_null());
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

/// An ffmpeg that spoils the first picture part that it makes in a way that only decoding shows:
/// bytes in the middle, no packet more or less.
fn spoiling_ffmpeg(dir: &Path) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&search).map(|at| at.join("ffmpeg")).find(|at| at.exists());
    let (script, real) = (dir.join("ffmpeg"), real.unwrap());
    let text = format!(
        r#"#!/bin/sh
{real} "$@" || exit
for word; do case "$word" in file:*/media.mp4) part=${{word#file:}};; esac; done
case "$*" in *-progress*-c:v*) ;; *) exit 0;; esac
[ -n "$part" ] && mkdir {mark} 2>/dev/null || exit 0
size=$(stat -c %s "$part")
head -c 3000 /dev/zero | dd of="$part" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
"#,
        real = real.display(),
        mark = dir.join("spoilt").display(),
    );
    fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    script
}

#[test]
fn a_part_that_was_spoilt_while_it_was_made_is_found_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ffmpeg = spoiling_ffmpeg(dir.path());
    let bed = Bed::start_with(1, Meeting::Address, |_, command| {
        // The sandbox lets ffmpeg start no other program.
        command.env("DMC_FFMPEG", &ffmpeg).env("DMC_SANDBOX", "off");
    });
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    let words = ["--preset", "h264", "--encoder-speed", "ultrafast", "--segment-seconds", "12"];
    let (done, _) = bed.convert(0, &source, &out, &words, FILM_LIMIT);
    assert!(done.ok(), "{done}\n{}", bed.log(0));
    assert!(dir.path().join("spoilt").exists(), "nothing was spoilt");
    assert!(bed.log(0).contains("decoding the result"), "{}", bed.log(0));
    let (source, result) = (Film::open(&source).unwrap(), Film::open(&out).unwrap());
    let verdict = compare(&source, &result, Depth::Times).unwrap();
    assert!(verdict.differences.is_empty(), "{:?}", verdict.differences);
    assert_eq!(Film::strict_complaint(&out), None);
}
