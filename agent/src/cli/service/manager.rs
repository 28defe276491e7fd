//! Programs of the system that make a service. Beside ffmpeg, these are the only ones that dmc
//! starts, and only for a person who asks for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, bail};
use dmc_agent::service::{NAME, STATE_DIR};

/// Groups that may use graphics cards.
const CARD_GROUPS: [&str; 2] = ["video", "render"];

/// Whether systemd runs this machine.
pub(super) fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

pub(super) fn needs_root(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "this needs root: `sudo dmc service {what}`; or `dmc service {what} --user`, for you alone"
    )
}

fn call(program: &str, words: &[&str]) -> anyhow::Result<Output> {
    let output = Command::new(program).args(words).output();
    output.with_context(|| format!("cannot run {program}, which `dmc service` needs"))
}

/// Calls a program that must succeed.
fn must(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = call(program, words)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{program} {}` failed: {}", words.join(" "), said.trim());
    }
    Ok(())
}

/// `systemctl`, of the machine or of the user.
pub(super) fn systemctl(user: bool, words: &[&str]) -> anyhow::Result<()> {
    let mut all = if user { vec!["--user"] } else { Vec::new() };
    all.extend(words);
    must("systemctl", &all)
}

/// What systemd knows of the service.
pub(super) fn properties(user: bool) -> anyhow::Result<BTreeMap<String, String>> {
    if !cfg!(target_os = "linux") || !is_here() {
        bail!("systemd does not run here, so dmc cannot ask for its service");
    }
    let wanted = "LoadState,ActiveState,SubState,MainPID,FragmentPath,StatusText";
    let unit = format!("{NAME}.service");
    let mut words = if user { vec!["--user"] } else { Vec::new() };
    words.extend(["show", "--property", wanted, &unit]);
    let output = call("systemctl", &words)?;
    if !output.status.success() {
        bail!("systemctl cannot be asked: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// Whether there is a user of this name.
pub(super) fn has_user(name: &str) -> anyhow::Result<bool> {
    Ok(call("id", &["-u", name])?.status.success())
}

/// The user that the service runs as, when it is not there yet.
pub(super) fn make_user() -> anyhow::Result<()> {
    if !has_user(NAME)? {
        must(
            "useradd",
            &[
                "--system",
                "--user-group",
                "--no-create-home",
                "--home-dir",
                STATE_DIR,
                "--shell",
                "/usr/sbin/nologin",
                NAME,
            ],
        )?;
    }
    for group in CARD_GROUPS {
        if call("getent", &["group", group])?.status.success() {
            must("usermod", &["--append", "--groups", group, NAME])?;
        }
    }
    Ok(())
}

/// The number of a user, and those of all its groups.
pub(super) fn ids_of(name: &str) -> anyhow::Result<(u32, Vec<u32>)> {
    let numbers = |flag: &str| -> anyhow::Result<Vec<u32>> {
        let output = call("id", &[flag, name])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
    };
    let user = numbers("-u")?.first().copied();
    Ok((user.with_context(|| format!("there is no user {name}"))?, numbers("-G")?))
}
