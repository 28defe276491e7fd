//! Faults at the moments that matter most: during a transfer, a report, a commit, the joining, the
//! last check and the publication.

use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::apart::{apart, ordinary};
use super::host::files_below;
use super::link;
use super::mesh::{Asked, JOB_LIMIT, Mesh};
use super::watch::{Watch, wait_until};
use crate::support::zoo;

/// Longer than a lease and longer than an agent is only suspect.
const LONG: Duration = Duration::from_secs(8);
/// Shorter than both.
const BRIEF: Duration = Duration::from_millis(1_500);

/// When it happens.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// A worker has a part of its input.
    Transfer,
    /// A worker has just finished.
    Report,
    /// The owner checks a result that it fetched.
    Commit,
    /// The owner joins the parts.
    Join,
    /// The owner checks the whole.
    Verify,
    /// The result has its name, and nobody wrote that down yet.
    Publish,
}

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// Owner and worker do not hear each other for so long.
    Part(Duration),
    /// kill -9 of the owner.
    KillOwner,
    /// kill -9 of the worker.
    KillWorker,
}

const TO_AND_FRO: &[(Moment, Blow)] = &[
    (Moment::Transfer, Blow::Part(BRIEF)),
    (Moment::Transfer, Blow::Part(LONG)),
    (Moment::Transfer, Blow::KillWorker),
    (Moment::Transfer, Blow::KillOwner),
    (Moment::Report, Blow::Part(LONG)),
    (Moment::Report, Blow::KillWorker),
    (Moment::Report, Blow::KillOwner),
];

const AT_THE_OWNER: &[(Moment, Blow)] = &[
    (Moment::Commit, Blow::Part(LONG)),
    (Moment::Commit, Blow::KillOwner),
    (Moment::Commit, Blow::KillWorker),
    (Moment::Join, Blow::Part(LONG)),
    (Moment::Join, Blow::KillOwner),
    (Moment::Verify, Blow::KillOwner),
    (Moment::Publish, Blow::Part(BRIEF)),
    (Moment::Publish, Blow::KillOwner),
];

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Moment::Transfer => "a worker has a part of its input",
            Moment::Report => "a worker finished a segment",
            Moment::Commit => "the owner checks a result",
            Moment::Join => "the owner joins",
            Moment::Verify => "the owner checks the whole",
            Moment::Publish => "the result has its name",
        })
    }
}

#[test]
fn a_fault_while_work_goes_to_and_fro_loses_nothing() {
    let name = "moments::a_fault_while_work_goes_to_and_fro_loses_nothing";
    apart(name, ordinary(), |dir| all_cases(dir, TO_AND_FRO));
}

#[test]
fn a_fault_at_any_step_of_the_owner_loses_nothing() {
    let name = "moments::a_fault_at_any_step_of_the_owner_loses_nothing";
    apart(name, ordinary(), |dir| all_cases(dir, AT_THE_OWNER));
}

fn all_cases(dir: &Path, cases: &[(Moment, Blow)]) {
    let mut mesh = Mesh::start(dir, 3, 300);
    for (n, (moment, blow)) in cases.iter().enumerate() {
        println!("when {moment}: {blow:?}");
        one_case(&mut mesh, n, *moment, *blow);
    }
}

fn one_case(mesh: &mut Mesh, n: usize, moment: Moment, blow: Blow) {
    // Pieces of this film have more than one chunk, so a transfer can be cut in its middle.
    let heavy = matches!(moment, Moment::Transfer);
    let source = zoo::get(if heavy { "film.mkv" } else { "plain.mp4" });
    let words = ["--preset", "lossless", "--segment-seconds", "2"];
    if heavy {
        link::slow(0, true);
    }
    let mut watch = Watch::new(mesh);
    let asked = mesh.submit(0, &source, &format!("case-{n}.mkv"), &words);
    let worker = wait_for(mesh, &mut watch, moment, &asked);
    strike(mesh, blow, worker);
    if heavy {
        link::slow(0, false);
    }
    mesh.wait_connected();
    let jobs = mesh.wait_done(JOB_LIMIT);
    mesh.check_result(&asked, &jobs);
    mesh.check_tidy(&jobs);
}

/// Waits for the moment; the worker that it is about, or one of them.
fn wait_for(mesh: &Mesh, watch: &mut Watch, moment: Moment, asked: &Asked) -> usize {
    let out = mesh.hosts[0].out().join(&asked.name);
    let limit = Duration::from_secs(120);
    let says = |watch: &mut Watch, owner: bool, words: &str| {
        let what = moment.to_string();
        watch.until(&what, |host, line| (host == 0) == owner && line.contains(words)).0
    };
    match moment {
        Moment::Transfer => {
            let mut found = 1;
            wait_until("a worker has a part of its input", limit, || {
                let partial = |host: usize| mesh.hosts[host].data().join("partial");
                let has = |host: &usize| !files_below(&partial(*host)).is_empty();
                [1, 2].into_iter().find(has).inspect(|host| found = *host).is_some()
            });
            found
        }
        Moment::Report => says(watch, false, "finished segment"),
        Moment::Commit => {
            let worker = says(watch, false, "finished segment");
            // Its own results it checked when it made them.
            watch.until("the owner checks a result", |host, line| {
                host == 0 && line.contains("decoding the result") && line.contains("/blobs/")
            });
            worker
        }
        Moment::Join => says(watch, true, "joining the result").max(1),
        Moment::Verify => {
            let part = ".dmc-part";
            watch.until("the owner checks the whole", |host, line| {
                host == 0 && line.contains("comparing the packets") && line.contains(part)
            });
            1
        }
        Moment::Publish => {
            wait_until("the result has its name", limit, || fs::exists(&out).unwrap());
            1
        }
    }
}

fn strike(mesh: &mut Mesh, blow: Blow, worker: usize) {
    for n in [0, worker] {
        mesh.hosts[n].note(&format!("FAULT 1 {blow:?}"));
    }
    match blow {
        Blow::Part(time) => {
            link::part(0, worker);
            thread::sleep(time);
            link::join(0, worker);
        }
        Blow::KillOwner | Blow::KillWorker => {
            let n = if matches!(blow, Blow::KillOwner) { 0 } else { worker };
            mesh.hosts[n].kill(false);
            mesh.hosts[n].start();
        }
    }
}
