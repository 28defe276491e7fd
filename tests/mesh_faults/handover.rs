//! Jobs that are handed over: the submitter may leave, the custodian may die, and the result is
//! published once.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::apart::{apart, ordinary};
use super::mesh::{Asked, JOB_LIMIT, Mesh};
use super::watch::wait_until;
use crate::support::compare::Depth;
use crate::support::dmc::Job;
use crate::support::process::run;
use crate::support::zoo;

const WORDS: &[&str] =
    &["--codec", "h264", "--encoder-speed", "veryslow", "--segment-seconds", "2"];
/// The command returns when the custodian has it all.
const HAND_LIMIT: Duration = Duration::from_secs(120);

/// Hands a job over from host 0; the job and its custodian once the command returned.
fn hand_over(mesh: &mut Mesh) -> (Asked, usize) {
    let source = zoo::get("plain.mp4");
    let mut command = mesh.hosts[0].dmc();
    command.args(["convert", "--json", "--hand-over"]).args(WORDS).arg("-o");
    command.arg(mesh.hosts[0].out().join("film.mkv")).arg("--").arg(&source);
    let done = run(&mut command, HAND_LIMIT);
    assert!(done.ok(), "{done}");
    let job = Job::last_of(&done.stdout).unwrap_or_else(|| panic!("no job: {done}"));
    let custodian = job.0["custodian"].as_str().unwrap_or_else(|| panic!("{:#}", job.0)).to_owned();
    let host = (1..mesh.hosts.len()).find(|n| {
        let status = mesh.hosts[*n].ask(&["status"]).unwrap_or_default();
        [&status["name"], &status["id"]].iter().any(|word| **word == custodian.as_str())
    });
    let asked = Asked {
        host: 0,
        id: Some(job.id().to_owned()),
        source,
        name: "film.mkv".to_owned(),
        depth: Depth::Times,
    };
    (asked, host.unwrap_or_else(|| panic!("nobody is {custodian}")))
}

/// Waits until the custodian says that the job is finished.
fn wait_until_made(mesh: &mut Mesh, custodian: usize, asked: &Asked) {
    let host = &mut mesh.hosts[custodian];
    wait_until("the custodian has the result", JOB_LIMIT, || {
        assert!(host.is_up());
        let job = asked.id.as_ref().and_then(|id| host.job(id));
        job.is_some_and(|job| job.status() == "finished_successful")
    });
}

/// Waits until the submitter has the file, and checks that nothing is done to it afterwards.
fn check_published_once(mesh: &mut Mesh, asked: &Asked) {
    let out = mesh.hosts[0].out().join(&asked.name);
    wait_until("the submitter's job is over", JOB_LIMIT, || {
        assert!(mesh.hosts[0].is_up());
        let job = asked.id.as_ref().and_then(|id| mesh.hosts[0].job(id));
        let status = job.as_ref().map(|job| job.status().to_owned()).unwrap_or_default();
        assert!(!status.contains("errors") && status != "cancelled", "{job:#?}");
        status == "finished_successful"
    });
    let stamp = |path| fs::metadata(path).and_then(|meta| meta.modified()).unwrap();
    let published = stamp(&out);
    // Others may come back, and everybody has time to do it again.
    for host in &mut mesh.hosts {
        if !host.is_up() {
            host.start();
        }
    }
    mesh.wait_connected();
    thread::sleep(Duration::from_secs(8));
    assert_eq!(stamp(&out), published, "it was published again");
    let jobs = mesh.wait_done(JOB_LIMIT);
    mesh.check_result(asked, &jobs);
    mesh.check_tidy(&jobs);
}

#[test]
fn the_submitter_may_leave_and_gets_the_file_when_it_is_back() {
    apart(
        "handover::the_submitter_may_leave_and_gets_the_file_when_it_is_back",
        ordinary(),
        |dir| {
            let mut mesh = Mesh::start(dir, 3, 300);
            let since = Instant::now();
            let (asked, custodian) = hand_over(&mut mesh);
            let handed = since.elapsed();
            mesh.hosts[0].note("FAULT 1 kill -9 when the command returned");
            mesh.hosts[0].kill(true);
            wait_until_made(&mut mesh, custodian, &asked);
            let out = mesh.hosts[0].out().join(&asked.name);
            assert!(!out.exists(), "somebody else wrote {}", out.display());
            mesh.hosts[0].start();
            let since = Instant::now();
            wait_until("the file comes", JOB_LIMIT, || out.exists());
            println!(
                "handed over in {:.1} s; the file came {:.1} s after the submitter started",
                handed.as_secs_f32(),
                since.elapsed().as_secs_f32()
            );
            check_published_once(&mut mesh, &asked);
            // The submitter had no part in the encoding.
            assert!(!mesh.hosts[0].log().contains(" starts segment"), "{}", mesh.hosts[0].tail());
        },
    );
}

#[test]
fn a_custodian_that_dies_is_replaced_by_the_submitter() {
    apart("handover::a_custodian_that_dies_is_replaced_by_the_submitter", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 300);
        let (asked, custodian) = hand_over(&mut mesh);
        mesh.hosts[custodian].note("FAULT 1 the custodian dies");
        mesh.hosts[custodian].kill(true);
        check_published_once(&mut mesh, &asked);
    });
}

#[test]
fn a_custodian_that_crashes_goes_on_with_the_job() {
    apart("handover::a_custodian_that_crashes_goes_on_with_the_job", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 300);
        let (asked, custodian) = hand_over(&mut mesh);
        mesh.hosts[0].kill(true);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(2_500));
            mesh.hosts[custodian].note("FAULT 1 the custodian crashes");
            mesh.hosts[custodian].kill(false);
            mesh.hosts[custodian].start();
        }
        mesh.hosts[custodian].wait_ready();
        wait_until_made(&mut mesh, custodian, &asked);
        mesh.hosts[0].start();
        check_published_once(&mut mesh, &asked);
    });
}
