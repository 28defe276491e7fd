//! What goes first, what runs, and how an agent leaves the machine to the person who uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::{Running, run};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(400);

/// Adds a job that nobody waits for; its id.
fn add(bed: &Bed, film: &str, out: &str, words: &[&str]) -> String {
    let mut command = bed.dmc(0);
    command.args(["convert", "--detach", "--preset", "h264"]).args(words);
    command.arg("-o").arg(bed.dir("out").join(out)).arg("--").arg(zoo::get(film));
    let added = run(&mut command, LIMIT);
    assert!(added.ok(), "{added}");
    added.stdout.trim().to_owned()
}

/// Waits until `what` is told of.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not seen: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn an_urgent_job_overtakes_those_that_wait_and_one_that_runs() {
    // One job is open at a time, and one part runs.
    let bed = Bed::start_with(1, Meeting::Address, |_, command| {
        command.args(["--slots", "1"]).env("DMC_JOBS_OPEN_MAX", "1");
    });
    let slow = ["--encoder-speed", "veryslow", "--segment-seconds", "1"];
    let long = add(&bed, "long.mp4", "long.mp4", &slow);
    let short = |name: &str, words: &[&str]| add(&bed, "tiny.mp4", &format!("{name}.mp4"), words);
    let low = short("low", &["--priority", "low"]);
    let waiting: Vec<String> = (0..3).map(|n| short(&format!("waits-{n}"), &[])).collect();
    let raised = bed.ask(0, &["jobs", "priority", &waiting[2], "high"]);
    assert_eq!(raised["priority"], 50, "{raised:#}");
    let urgent = short("urgent", &["--priority", "80"]);
    let ended = |id: &str| {
        let job = until("the end of a job", || {
            let job = bed.job(0, id).0;
            text(&job["status"]).starts_with("finished").then_some(job)
        });
        assert_eq!(job["status"], "finished_successful", "{job:#}");
        text(&job["updated_at"]).parse::<jiff::Timestamp>().unwrap()
    };
    // They do not wait for the seat of the one that was there, nor for its parts.
    let first = [&urgent, &waiting[2]].map(|id| ended(id));
    assert!(first.is_sorted(), "not in the order of urgency: {first:?}");
    assert_eq!(bed.job(0, &long).0["status"], "in_progress");
    for id in [&waiting[0], &waiting[1], &low] {
        assert_eq!(text(&bed.job(0, id).0["waiting"]), "other jobs go first");
    }
    assert!(run(bed.dmc(0).args(["jobs", "cancel", &long]), LIMIT).ok());
    let rest = [&waiting[0], &waiting[1], &low].map(|id| ended(id));
    assert!(rest.is_sorted(), "not in the order of urgency: {rest:?}");
    let late = run(bed.dmc(0).args(["jobs", "priority", &low, "high"]), LIMIT);
    assert_eq!(late.code, Some(1), "what is over has no priority: {late}");
    let wrong = run(bed.dmc(0).args(["jobs", "priority", &low, "soon"]), LIMIT);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("low, normal, high"), "{wrong}");
}

/// The state of a process, as `R`, `S` or `T`; none when it has ended.
fn state_of(pid: u64) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Seconds of processor time that a process took.
fn cpu_of(pid: u64) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = words.get(11)?.parse::<f64>().ok()? + words.get(12)?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// What runs on an agent; one that stops answers nothing.
fn running(bed: &Bed, n: usize) -> Vec<Value> {
    let contact = fs::read_to_string(bed.data(n).join("agent.json")).unwrap();
    let contact: Value = serde_json::from_str(&contact).unwrap();
    let token = fs::read_to_string(bed.data(n).join("api.token")).unwrap();
    let mut curl = std::process::Command::new("curl");
    curl.args(["-sf", "-H", &format!("Authorization: Bearer {token}")]);
    let asked = run(curl.arg(format!("http://{}/api/v1/running", text(&contact["api"]))), LIMIT);
    assert!(asked.ok(), "{asked}");
    serde_json::from_str::<Value>(&asked.stdout).unwrap().as_array().unwrap().clone()
}

/// The first conversion on an agent whose program runs, and its process.
fn first_running(bed: &Bed, n: usize) -> (Value, u64) {
    until("a conversion that runs", || {
        let all = running(bed, n);
        let one = all.iter().find(|one| one["frames"].as_u64() > Some(0))?;
        Some((one.clone(), one["pid"].as_u64()?))
    })
}

/// A job of one long part, which is waited for in the background.
fn long_job(bed: &Bed, out: &Path) -> Running {
    let mut command = bed.dmc(0);
    command.args(["convert", "--json", "--preset", "h264", "--encoder-speed", "medium"]);
    command.args(["--segment-seconds", "20", "-o"]).arg(out).arg("--").arg(zoo::get("long.mp4"));
    Running::start(&mut command)
}

#[test]
fn what_runs_is_told_with_its_process() {
    let bed = Bed::start_with(2, Meeting::Address, |_, _| {});
    // The other one does it all.
    assert!(run(bed.dmc(0).arg("pause"), LIMIT).ok());
    let out = bed.dir("out").join("a film.mkv");
    let converting = long_job(&bed, &out);
    let (one, pid) = first_running(&bed, 1);
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert!(name.starts_with("ffmpeg"), "{name}: {one:#}");
    assert_eq!((&one["owner_name"], &one["own"]), (&"agent-0".into(), &false.into()));
    assert_eq!((&one["item"], &one["encoder"]), (&Value::Null, &"libx264".into()));
    assert!(one["frames_total"].as_u64() >= one["frames"].as_u64(), "{one:#}");
    let started: jiff::Timestamp = text(&one["started_at"]).parse().unwrap();
    let age = jiff::Timestamp::now().duration_since(started);
    assert!((0..180).contains(&age.as_secs()), "{started}");
    let shown = run(bed.dmc(1).arg("status"), LIMIT);
    assert!(shown.stdout.contains(&format!("process {pid}")), "{shown}");
    assert!(running(&bed, 0).is_empty());
    // Its own jobs are told with their files.
    assert!(run(bed.dmc(0).arg("resume"), LIMIT).ok());
    let (own, _) = first_running(&bed, 0);
    assert_eq!(own["own"], true, "{own:#}");
    assert!(text(&own["item"]).ends_with("long.mp4"), "{own:#}");
    drop(converting);
}

/// A machine of a test's own making: `/proc/stat` and `/sys` for one agent.
struct Machine {
    root: PathBuf,
    /// The part of the processor that others use, in per cent.
    others: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    clock: Option<JoinHandle<()>>,
}

impl Machine {
    /// Idle, and with a battery that is full.
    fn at(root: &Path) -> Machine {
        let supply = root.join("sys/class/power_supply/BAT0");
        let sensor = root.join("sys/class/hwmon/hwmon0");
        fs::create_dir_all(root.join("proc")).unwrap();
        fs::create_dir_all(&supply).unwrap();
        fs::create_dir_all(&sensor).unwrap();
        fs::write(supply.join("type"), "Battery\n").unwrap();
        fs::write(supply.join("status"), "Full\n").unwrap();
        fs::write(sensor.join("name"), "k10temp\n").unwrap();
        fs::write(sensor.join("temp1_input"), "57250\n").unwrap();
        fs::write(root.join("proc/loadavg"), "3.21 1 1 1/1 1\n").unwrap();
        let (others, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (used, end, stat) = (Arc::clone(&others), Arc::clone(&ends), root.join("proc/stat"));
        // A processor so large that what the agent's own programs use does not show.
        let clock = thread::spawn(move || {
            let (mut busy, mut idle) = (0, 0);
            while !end.load(Ordering::Relaxed) {
                let percent = used.load(Ordering::Relaxed);
                (busy, idle) = (busy + 1_000 * percent, idle + 1_000 * (100 - percent));
                let next = stat.with_extension("new");
                fs::write(&next, format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n")).unwrap();
                fs::rename(&next, &stat).unwrap();
                thread::sleep(Duration::from_millis(50));
            }
        });
        Machine { root: root.to_owned(), others, ends, clock: Some(clock) }
    }

    fn others_use(&self, percent: u64) {
        self.others.store(percent, Ordering::Relaxed);
    }

    fn battery(&self, status: &str) {
        fs::write(self.root.join("sys/class/power_supply/BAT0/status"), status).unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.clock.take().unwrap().join().unwrap();
    }
}

/// An owner that does nothing itself, and a worker that yields, on a machine of its own.
fn owner_and_worker(settings: &[(&str, &str)]) -> (tempfile::TempDir, Machine, Bed) {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::at(dir.path());
    let bed = Bed::start_with(2, Meeting::Address, |n, command| {
        // Whoever is not heard to get on loses what it has, soon; one that checks its result tells
        // that it gets on every five seconds.
        command.env("DMC_MESH_LEASE_MS", "5000").env("DMC_MESH_STALL_MS", "15000");
        if n == 1 {
            command.env("DMC_SYSTEM_ROOT", dir.path()).env("DMC_YIELD_AFTER_S", "2");
            command.env("DMC_YIELD_UNTIL_S", "2").envs(settings.iter().copied());
        }
    });
    assert!(run(bed.dmc(0).arg("pause"), LIMIT).ok());
    (dir, machine, bed)
}

#[test]
fn while_others_need_the_processor_work_is_stopped_and_then_goes_on_where_it_was() {
    let (_dir, machine, bed) = owner_and_worker(&[("DMC_YIELD_LOAD", "0.5")]);
    let out = bed.dir("out").join("film.mkv");
    let converting = long_job(&bed, &out);
    let (_, pid) = first_running(&bed, 1);
    until("its load and temperature at the owner", || {
        let peer = bed.ask(0, &["peers"])[0].clone();
        (peer["temperature_c"] == 57 && peer["load"] == 3.21).then_some(())
    });
    machine.others_use(80);
    until("ffmpeg is stopped", || (state_of(pid) == Some('T')).then_some(()));
    let status = until("the agent says why", || {
        let status = bed.ask(1, &["status"]);
        text(&status["waiting"]).contains("other programs").then_some(status)
    });
    assert!(text(&status["waiting"]).contains("stopped"), "{status:#}");
    let attempts = |n: usize| -> Vec<String> {
        running(&bed, n).iter().map(|one| text(&one["attempt"]).to_owned()).collect()
    };
    let before = attempts(1);
    until("its owner says so", || {
        let job = bed.ask(0, &["jobs"])[0].clone();
        let holds = job["workers"][0]["holds"].as_array().cloned().unwrap_or_default();
        holds.iter().any(|hold| hold["state"] == "paused").then_some(())
    });
    let peer = bed.ask(0, &["peers"])[0].clone();
    assert!(peer["paused"] == true && text(&peer["waiting"]).contains("stopped"), "{peer:#}");
    // Longer than the lease lasts without a word, and than a program may make no progress.
    let used = cpu_of(pid).unwrap();
    let end = Instant::now() + Duration::from_secs(18);
    while Instant::now() < end {
        assert_eq!(state_of(pid), Some('T'));
        thread::sleep(Duration::from_millis(200));
    }
    assert!(cpu_of(pid).unwrap() - used < 0.1, "it took processor time while it was stopped");
    assert_eq!(attempts(1), before, "it keeps what it has");
    machine.others_use(10);
    until("ffmpeg goes on", || matches!(state_of(pid), Some('R' | 'S')).then_some(()));
    let done = converting.wait(LIMIT);
    assert!(done.ok(), "{done}");
    let job = bed.ask(0, &["jobs"])[0].clone();
    let job = bed.job(0, text(&job["id"])).0;
    let tries: Vec<&Value> = job["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|t| t["attempts"].as_array().unwrap())
        .collect();
    assert!(tries.iter().all(|one| one["state"] == "committed"), "{tries:#?}");
}

#[test]
fn on_its_battery_an_agent_finishes_what_it_has_and_takes_nothing_new() {
    let how = [("DMC_YIELD_ON_BATTERY", "true"), ("DMC_YIELD_HOW", "finish")];
    let (_dir, machine, bed) = owner_and_worker(&how);
    let out = bed.dir("out").join("film.mkv");
    let converting = long_job(&bed, &out);
    let (_, pid) = first_running(&bed, 1);
    machine.battery("Discharging\n");
    let peer = until("its owner hears of it", || {
        let peer = bed.ask(0, &["peers"])[0].clone();
        text(&peer["waiting"]).contains("battery").then_some(peer)
    });
    assert!(text(&peer["waiting"]).contains("finishes"), "{peer:#}");
    until("what it has is finished", || {
        assert_ne!(state_of(pid), Some('T'), "it is not stopped");
        running(&bed, 1).is_empty().then_some(())
    });
    let job = bed.ask(0, &["jobs"])[0].clone();
    assert_eq!(job["status"], "in_progress", "the rest waits: {job:#}");
    machine.battery("Charging\n");
    let done = converting.wait(LIMIT);
    assert!(done.ok(), "{done}");
}

#[test]
fn what_is_stopped_for_long_goes_to_another_agent() {
    let give_back = [("DMC_YIELD_LOAD", "0.5"), ("DMC_YIELD_GIVE_BACK_MIN", "0")];
    let (_dir, machine, bed) = owner_and_worker(&give_back);
    let out = bed.dir("out").join("film.mkv");
    let converting = long_job(&bed, &out);
    let (_, pid) = first_running(&bed, 1);
    machine.others_use(100);
    until("it is given back", || (state_of(pid).is_none()).then_some(()));
    assert!(run(bed.dmc(0).arg("resume"), LIMIT).ok());
    let done = converting.wait(LIMIT);
    assert!(done.ok(), "{done}");
    let job = bed.ask(0, &["jobs"])[0].clone();
    let job = bed.job(0, text(&job["id"])).0;
    let tries =
        job["tasks"].as_array().unwrap().iter().flat_map(|t| t["attempts"].as_array().unwrap());
    assert!(tries.clone().all(|one| one["state"] != "failed"), "nobody is to blame: {job:#}");
}

#[test]
fn encoders_get_the_share_of_the_time_that_is_set() {
    let bed = Bed::start_with(1, Meeting::Address, |_, command| {
        command.env("DMC_CPU_SHARE_PERCENT", "25");
    });
    let out = bed.dir("out").join("film.mkv");
    let converting = long_job(&bed, &out);
    let (_, pid) = first_running(&bed, 0);
    let (began, used) = (Instant::now(), cpu_of(pid).unwrap());
    let (mut looks, mut stopped) = (0_u32, 0_u32);
    while began.elapsed() < Duration::from_secs(6) && state_of(pid).is_some() {
        looks += 1;
        stopped += u32::from(state_of(pid) == Some('T'));
        thread::sleep(Duration::from_millis(7));
    }
    let cores = thread::available_parallelism().unwrap().get() as f64;
    let share = (cpu_of(pid).unwrap() - used) / began.elapsed().as_secs_f64() / cores;
    let stopped = f64::from(stopped) / f64::from(looks);
    assert!((0.5..0.97).contains(&stopped), "stopped {stopped:.2} of the time");
    assert!(share < 0.4 && share > 0.0, "{share:.2} of the processor");
    drop(converting);
}
