//! This test binary again, as a child process that can be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const DIR: &str = "DMC_STORE_TEST_DIR";

/// The directory that the parent gave, in a child; `None` when the test runs by itself.
pub fn directory() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// A command that runs one test of this binary on `dir`.
pub fn command(program: &[&str], test: &str, dir: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut words: Vec<_> = program.iter().map(Into::into).collect();
    words.push(exe.into_os_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args([test, "--exact", "--nocapture"]).env(DIR, dir);
    command
}

pub fn spawn(test: &str, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = command(&[], test, dir).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// Runs a test until it has printed `lines` lines that begin with `word`, then stops it with
/// `stop`. Returns those lines, and the ones that were on their way.
pub fn stop_after(
    (lines, word): (usize, &str),
    test: &str,
    dir: &Path,
    stop: impl Fn(&mut Child),
) -> Vec<String> {
    let (mut child, stdout) = spawn(test, dir);
    let mut seen = Vec::new();
    for line in stdout.lines() {
        let line = line.unwrap();
        // The harness prints "test name ... " without a line end before the first line.
        if let Some(at) = line.find(word) {
            seen.push(line[at + word.len()..].to_owned());
            if seen.len() == lines {
                stop(&mut child);
            }
        }
    }
    let status = child.wait().unwrap();
    assert!(seen.len() >= lines, "the child ended by itself: {status}");
    seen
}

/// The usual way to stop: kill -9.
pub fn kill(child: &mut Child) {
    child.kill().unwrap();
}
