//! The program under test: where it is, how it is called, what it says.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::process::run;

/// The program: `DMC_BIN`, or the one of this workspace, brought up to date first.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("DMC_BIN") {
        // Cargo runs tests in their package's directory; a person means the workspace.
        Some(named) => workspace().join(named),
        None => built(),
    })
}

/// A call of the program with a data directory of its own and no user settings.
pub fn dmc(data: &Path, discovery_port: u16) -> Command {
    let mut command = Command::new(binary());
    command.arg("--data-dir").arg(data);
    for (key, _) in env::vars_os() {
        // What a person set for their own agent must not steer the tests.
        if key.to_string_lossy().starts_with("DMC_") {
            command.env_remove(key);
        }
    }
    command.env("XDG_CONFIG_HOME", data.join("no-config"));
    // Hundreds of agents start here, and none of them needs to know how fast it is. Several share a
    // machine that is one agent's to use otherwise.
    command.env("DMC_CALIBRATE", "false");
    command.env("DMC_SLOTS", "1");
    command.env("DMC_DISCOVERY_PORT", discovery_port.to_string());
    command
}

/// `target/<profile>/dmc` beside this test.
///
/// Cargo builds a package's program for that package's own tests only, and this is another
/// package. Asking cargo is always right and costs seconds; so it is asked only when the list of
/// sources that it left beside the program has something newer, or is another checkout's.
fn built() -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile_dir = test.parent().and_then(Path::parent).unwrap();
    let program = profile_dir.join("dmc");
    if !is_fresh(&program) {
        build(profile_dir.file_name().unwrap());
    }
    assert!(program.exists(), "{} is missing after the build", program.display());
    program
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn is_fresh(program: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let Some(built) = changed(program) else { return false };
    let Ok(list) = fs::read_to_string(program.with_extension("d")) else { return false };
    let Some((_, sources)) = list.split_once(": ") else { return false };
    // A space inside a path is written as `\ `.
    let sources = sources.trim().replace("\\ ", "\0");
    let older = |path: &Path| changed(path).is_some_and(|when: SystemTime| when <= built);
    sources
        .split(' ')
        .map(|s| PathBuf::from(s.replace('\0', " ")))
        .all(|s| s.starts_with(workspace()) && older(&s))
        && [
            "Cargo.lock",
            "Cargo.toml",
            "agent/Cargo.toml",
            "protocol/Cargo.toml",
            "store/Cargo.toml",
        ]
        .iter()
        .all(|manifest| older(&workspace().join(manifest)))
}

/// Cargo's own lock makes tests that come here together wait for one another.
fn build(profile_dir: &OsStr) {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(["build", "--quiet", "-p", "dmc-agent", "--bin", "dmc"]);
    let profile = if profile_dir == "debug" { OsStr::new("dev") } else { profile_dir };
    command.arg("--profile").arg(profile);
    // Where this test was built to, whatever said so.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    command.arg("--target-dir").arg(target);
    for (key, _) in env::vars_os() {
        // The outer cargo describes this package to us; build scripts must not see that.
        let key = key.to_string_lossy();
        if key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*key);
        }
    }
    let done = run(&mut command, Duration::from_secs(1_200));
    assert!(done.ok(), "{done}");
}

/// A job as the program prints it in JSON.
#[derive(Clone, Debug)]
pub struct Job(pub Value);

impl Job {
    /// The job in what `convert --json` printed: the last line.
    pub fn last_of(stdout: &str) -> Option<Self> {
        let last: Value = serde_json::from_str(stdout.lines().last()?).ok()?;
        let job = last.get("job").filter(|j| j.is_object()).cloned().unwrap_or(last);
        job["id"].is_string().then_some(Self(job))
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.0["id"].as_str().unwrap()
    }

    /// Its state: `to_do`, `in_progress`, `finished_successful`, …
    pub fn status(&self) -> &str {
        self.0["status"].as_str().unwrap_or_default()
    }

    /// How the film was cut.
    pub fn rung(&self) -> &str {
        self.0["rung"].as_str().unwrap_or("unknown")
    }

    /// Its tasks.
    pub fn tasks(&self) -> &[Value] {
        self.0["tasks"].as_array().map_or(&[], Vec::as_slice)
    }

    /// How often each rung was used, where segments went their own ways.
    pub fn rungs(&self) -> String {
        let mut count = std::collections::BTreeMap::new();
        for task in self.tasks() {
            if let Some(rung) = task["rung"].as_str() {
                *count.entry(rung).or_insert(0) += 1;
            }
        }
        let words: Vec<String> = count.iter().map(|(rung, n)| format!("{rung} {n}")).collect();
        if words.is_empty() { self.rung().to_owned() } else { words.join(", ") }
    }

    /// The names of the agents that did some of it, each once.
    pub fn workers(&self) -> Vec<String> {
        let all = self.0["workers"].as_array().into_iter().flatten();
        let mut names: Vec<String> =
            all.filter_map(|w| w["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        names
    }
}
