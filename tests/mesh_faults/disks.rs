//! Disks that are full, and disks that lie.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::apart::{apart, ordinary};
use super::blobs::flip_in;
use super::host::files_below;
use super::mesh::{JOB_LIMIT, Mesh};
use super::watch::{Watch, wait_until};
use crate::support::zoo;

const LOSSLESS: &[&str] = &["--preset", "lossless", "--segment-seconds", "2"];
/// Slow enough that a fault meets it in the middle.
const SLOW: &[&str] = &["--codec", "h264", "--encoder-speed", "veryslow", "--segment-seconds", "2"];
/// People must be told this soon.
const TOLD_LIMIT: Duration = Duration::from_secs(60);

/// Waits until a job says that it waits for room, and stays so for a while.
fn wait_for_waiting(mesh: &mut Mesh, id: &str) {
    let shows_room = |mesh: &mut Mesh| {
        assert!(mesh.hosts[0].is_up());
        let job = mesh.hosts[0].job(id).map(|job| job.0).unwrap_or_default();
        let over = job["status"].as_str().is_some_and(|status| status.starts_with("finished"));
        assert!(!over, "it ended although a disk is full: {job:#}");
        let waiting = job["waiting"].as_str().unwrap_or_default().to_lowercase();
        waiting.contains("disk") || waiting.contains("room") || waiting.contains("space")
    };
    wait_until("the job says that it waits for room", TOLD_LIMIT, || shows_room(mesh));
    thread::sleep(Duration::from_secs(3));
    assert!(shows_room(mesh), "it no longer says so: {:?}", mesh.hosts[0].job(id));
}

#[test]
fn a_full_disk_for_the_result_is_waited_for() {
    apart("disks::a_full_disk_for_the_result_is_waited_for", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 2, 200);
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", LOSSLESS);
        watch.until("the job runs", |_, line| line.contains(" starts "));
        mesh.hosts[0].fill("out");
        wait_for_waiting(&mut mesh, &asked.id.clone().unwrap());
        mesh.hosts[0].clear("out");
        let since = Instant::now();
        let jobs = mesh.wait_done(JOB_LIMIT);
        println!("done {:.1} s after there was room", since.elapsed().as_secs_f32());
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}

#[test]
fn a_full_state_disk_of_the_owner_is_waited_for() {
    apart("disks::a_full_state_disk_of_the_owner_is_waited_for", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 2, 200);
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
        watch.until("work goes on", |host, line| host == 1 && line.contains(" finished "));
        mesh.hosts[0].fill("data");
        wait_for_waiting(&mut mesh, &asked.id.clone().unwrap());
        mesh.hosts[0].clear("data");
        let since = Instant::now();
        let jobs = mesh.wait_done(JOB_LIMIT);
        println!("done {:.1} s after there was room", since.elapsed().as_secs_f32());
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}

#[test]
fn a_worker_with_a_full_disk_is_worked_around_and_comes_back() {
    let name = "disks::a_worker_with_a_full_disk_is_worked_around_and_comes_back";
    apart(name, ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 200);
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
        watch.until("the worker works", |host, line| host == 1 && line.contains(" starts "));
        mesh.hosts[1].fill("data");
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.hosts[1].clear("data");
        mesh.check_tidy(&jobs);
        let since = Instant::now();
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "again.mkv", SLOW);
        watch.until("it works again", |host, line| host == 1 && line.contains(" finished "));
        println!("it works again {:.1} s after there was room", since.elapsed().as_secs_f32());
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}

/// Flips a bit in every blob of an agent; how many.
fn flip_all(data: &Path) -> usize {
    files_below(&data.join("blobs")).iter().filter(|path| flip_in(path.as_ref())).count()
}

#[test]
fn blobs_that_a_disk_damages_never_reach_a_result() {
    apart("disks::blobs_that_a_disk_damages_never_reach_a_result", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 300);
        for (n, victim) in [1, 0, 1, 0].into_iter().enumerate() {
            let mut watch = Watch::new(&mesh);
            let asked = mesh.submit(0, &zoo::get("plain.mp4"), &format!("film-{n}.mkv"), SLOW);
            let what = if n < 2 { " starts " } else { " finished " };
            watch.until("it has blobs", |host, line| host == victim && line.contains(what));
            let flipped = flip_all(&mesh.hosts[victim].data());
            mesh.hosts[victim].note(&format!("FAULT {n} {flipped} blobs damaged"));
            let jobs = mesh.wait_done(JOB_LIMIT);
            mesh.check_result(&asked, &jobs);
            mesh.check_tidy(&jobs);
            println!("{flipped} damaged blobs of h{victim}: the result is whole");
        }
    });
}

#[test]
fn results_that_a_disk_damages_while_they_are_kept_are_made_again() {
    let name = "disks::results_that_a_disk_damages_while_they_are_kept_are_made_again";
    apart(name, ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 2, 300);
        let mut watch = Watch::new(&mesh);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", SLOW);
        watch.until("the worker works", |host, line| host == 1 && line.contains(" starts "));
        mesh.hosts[0].kill(true);
        watch.until("it keeps a result", |host, line| host == 1 && line.contains(" finished "));
        wait_until("it is idle", JOB_LIMIT, || mesh.hosts[1].children().is_empty());
        assert!(flip_all(&mesh.hosts[1].data()) > 0, "it keeps nothing");
        mesh.hosts[0].start();
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}

/// Bytes that an agent's state takes, but for the record database, which is a log.
fn bytes_below(dir: &Path) -> u64 {
    let files = files_below(dir);
    files.iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum()
}

#[test]
fn disks_are_as_empty_after_a_job_as_before() {
    apart("disks::disks_are_as_empty_after_a_job_as_before", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 200);
        let asked = mesh.submit(0, &zoo::get("plain.mp4"), "film.mkv", LOSSLESS);
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
        for host in &mesh.hosts {
            assert_eq!(bytes_below(&host.data().join("blobs")), 0, "h{} keeps blobs", host.n);
        }
    });
}
