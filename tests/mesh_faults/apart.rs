//! A test that runs again in namespaces of its own: network, mounts and processes. Whatever it
//! makes there, hosts, links, file systems and processes, is gone with it, however it ends.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::thread;
use std::time::Duration;

use crate::support::namespaces::{HOST, unshare};
use crate::support::process::run;

/// Names the directory of the test that runs apart.
const DIR: &str = "DMC_TEST_APART";
/// Longest run of a test of ordinary size.
const LIMIT: Duration = Duration::from_secs(900);
/// Bash as the first process of the namespace reaps the orphans, as the init of a real host does.
const FIRST: &str = "\"$@\"; exit $?";

/// Runs `test`, whose full name is `name`, apart; or says that it is skipped.
///
/// `limit` is for the whole run; without one the test is a long one that a person watches, and it
/// prints as it goes.
pub fn apart(name: &str, limit: Option<Duration>, test: impl FnOnce(&Path)) {
    if let Some(dir) = env::var_os(DIR) {
        end_with_the_parent();
        return test(Path::new(&dir));
    }
    // Several of these at a time would only measure how they disturb each other. Who starts a long
    // run decides that alone.
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults.lock")).unwrap();
    if limit.is_some() {
        lock.lock().unwrap();
    }
    let Some(mut command) = unshare(HOST) else { return };
    let dir = tempfile::Builder::new().prefix("dmc-faults-").tempdir().unwrap();
    command.args(["bash", "-c", FIRST, "bash"]).arg(env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]).env(DIR, dir.path());
    let code = watch(&mut command, limit);
    assert_eq!(code, Some(0), "{name} failed; what it said is above");
}

/// Runs a command whose standard input ends when this process does.
fn watch(command: &mut Command, limit: Option<Duration>) -> Option<i32> {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let end = std::time::Instant::now() + limit.unwrap_or(Duration::from_secs(24 * 3_600));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if std::time::Instant::now() > end {
            eprintln!("out of time after {limit:?}");
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The limit of a test of ordinary size.
pub fn ordinary() -> Option<Duration> {
    Some(LIMIT)
}

/// Ends this process, and with it all of the namespace, when the parent is gone.
fn end_with_the_parent() {
    thread::spawn(|| {
        // It gets no bytes, only the end.
        let _ = io::stdin().read(&mut [0]);
        exit(1);
    });
}

/// Where the evidence of a failure is kept.
pub fn evidence_dir() -> PathBuf {
    let named = env::var_os("DMC_EVIDENCE").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let name = format!("evidence-{}", jiff::Timestamp::now().as_second());
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
    })
}

/// Copies the directory of a failed test to where it stays. File systems that were mounted for the
/// test go with its namespace.
pub fn keep_evidence(dir: &Path) {
    let to = evidence_dir();
    let _ = fs::create_dir_all(&to);
    let copy = run(Command::new("cp").arg("-a").arg(dir).arg(&to), Duration::from_secs(120));
    eprintln!("the logs and state directories are kept in {}", to.display());
    if !copy.ok() {
        eprintln!("not all of them: {copy}");
    }
}
