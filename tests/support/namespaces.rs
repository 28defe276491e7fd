//! Tests in namespaces of their own: networks, mounts and processes that nobody else sees, and that
//! are all gone with the first process there, however it ends.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::run;

/// A host of its own, with disks, processes and a network.
pub const HOST: &[&str] = &["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Disks and processes of its own, on the network of this machine.
const DISKS: &[&str] = &["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
/// Set where a test runs that may mount file systems of its own.
const INSIDE: &str = "DMC_TEST_INSIDE";
const RUN_LIMIT: Duration = Duration::from_secs(400);

/// What begins a command in namespaces of those kinds, for a person who is root and one who is not;
/// none, and a word that the test is skipped, where nobody else may have them.
pub fn unshare(kinds: &[&str]) -> Option<Command> {
    let root = rustix::process::geteuid().is_root();
    let as_root: &[&str] = if root { &[] } else { &["--user", "--map-root-user"] };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(kinds).args(as_root);
        command
    };
    let possible = run(unshare().arg("true"), Duration::from_secs(10));
    if !possible.ok() && !root {
        eprintln!("skipped: this machine lets only root make namespaces");
        return None;
    }
    assert!(possible.ok(), "{possible}");
    Some(unshare())
}

/// Runs a test once more, where it may mount small disks. True: this is there.
///
/// `module` is the caller's `module_path!()`. Films that the test needs must be there: only the parent
/// may make them.
pub fn on_small_disks(module: &str, test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let Some(mut command) = unshare(DISKS) else { return false };
    let name = match module.split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    };
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", &name]).env(INSIDE, "1");
    // Inside, a directory with a disk in it cannot be removed; here the disk is gone.
    let dir = tempfile::tempdir().unwrap();
    command.env("TMPDIR", dir.path());
    super::dmc::binary(); // what only the parent may build
    let done = run(&mut command, RUN_LIMIT);
    // No test of that name would be no failure.
    assert!(done.ok() && done.stdout.contains("1 passed"), "{done}");
    false
}

/// Mounts a disk of that many MiB, in the memory.
pub fn mount_disk(at: &Path, mib: u32) {
    let size = format!("size={mib}m");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(at);
    let done = run(&mut mount, Duration::from_secs(10));
    assert!(done.ok(), "{done}");
}
