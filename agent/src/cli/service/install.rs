//! `dmc service install`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dmc_agent::service::{self, CONFIG, CONFIG_DIR, NAME, foreign, unit};

use super::{InstallArgs, Manager, Places, manager};
use crate::cli::{End, show};

/// Places that the system's agent cannot see, or that do not last.
const NO_PLACE_FOR_A_PROGRAM: [&str; 4] = ["/home", "/root", "/run", "/tmp"];

/// Prints a definition and changes nothing.
pub(super) fn print(options: &InstallArgs) -> anyhow::Result<End> {
    let program = program()?;
    let usual = if cfg!(target_os = "macos") {
        Manager::Launchd
    } else if options.user {
        Manager::SystemdUser
    } else {
        Manager::Systemd
    };
    let text = match options.format.unwrap_or(usual) {
        Manager::Systemd => {
            let addition = wanted(options)?.unwrap_or_default();
            format!("{}{addition}", unit::system(&program)?)
        }
        Manager::SystemdUser => unit::user(&program)?,
        Manager::Launchd => foreign::launchd(&program),
        Manager::Windows => foreign::windows(&program),
    };
    show::line(text.trim_end());
    Ok(End::Done)
}

pub(super) fn run(options: &InstallArgs) -> anyhow::Result<End> {
    if !cfg!(target_os = "linux") {
        bail!(
            "here dmc only prints a definition, which nobody tested: `dmc service install --print`"
        );
    }
    let places = Places::of(options.user, options.root.as_ref())?;
    let (live, program) = (options.root.is_none(), program()?);
    let addition = wanted(options)?;
    let packaged = if options.user { None } else { places.packaged() };
    if !options.user && live {
        manager::needs_root("install")?;
        if packaged.is_none() {
            may_run(&program)?;
        }
        prepare(options.run_as.as_deref())?;
    }
    if packaged.is_none() {
        let text = if options.user { unit::user(&program)? } else { unit::system(&program)? };
        write(&places.unit, &text)?;
    }
    if let Some(addition) = &addition {
        write(&places.addition, addition)?;
    }
    if !options.user {
        write_config(&places)?;
    }
    if !live || !manager::is_here() {
        show::line("the service is written; nothing is started, because systemd does not run here");
        return Ok(End::Done);
    }
    start(options.user)?;
    advise(options)?;
    Ok(End::Done)
}

fn start(user: bool) -> anyhow::Result<()> {
    let unit = format!("{NAME}.service");
    manager::systemctl(user, &["daemon-reload"])?;
    manager::systemctl(user, &["enable", &unit])?;
    // One that runs already takes over what was changed. This waits until it listens.
    let flag = if user { "--user " } else { "" };
    manager::systemctl(user, &["restart", &unit])
        .with_context(|| format!("it does not start; `journalctl {flag}-u {NAME} -e` says why"))
}

/// The program as the service will name it.
fn program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot tell where this program is")
}

fn may_run(program: &Path) -> anyhow::Result<()> {
    if NO_PLACE_FOR_A_PROGRAM.iter().any(|place| program.starts_with(place)) {
        bail!(
            "the machine's service cannot run a program of {}: install it first, with `sudo install \
             '{}' /usr/local/bin/`, then `sudo /usr/local/bin/dmc service install`",
            program.parent().unwrap_or(program).display(),
            program.display()
        );
    }
    Ok(())
}

/// What is to be added to the unit; none when nothing was said, and what was said earlier stays.
fn wanted(options: &InstallArgs) -> anyhow::Result<Option<String>> {
    if options.media.is_empty() && options.run_as.is_none() {
        return Ok(None);
    }
    if let Some(name) = &options.run_as {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            bail!("`{name}` is no name of a user");
        }
    }
    let folders: Result<Vec<PathBuf>, _> = options.media.iter().map(std::path::absolute).collect();
    Ok(Some(unit::addition(&folders?, options.run_as.as_deref())?))
}

/// The user that the service runs as.
fn prepare(run_as: Option<&str>) -> anyhow::Result<()> {
    match run_as {
        Some(name) if !manager::has_user(name)? => bail!("there is no user {name}"),
        _ => manager::make_user(),
    }
}

/// Writes a file of ours; one that another wrote is left alone.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let there = fs::read_to_string(path).unwrap_or_default();
    if !there.is_empty() && !there.starts_with(unit::MARK) {
        bail!("{} was not written by dmc: remove it, or change it by hand", path.display());
    }
    put(path, text)?;
    show::line(&format!("wrote {}", path.display()));
    Ok(())
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(failed)?;
    }
    fs::write(path, text).with_context(failed)
}

/// Settings to begin with; a person's own are never touched.
fn write_config(places: &Places) -> anyhow::Result<()> {
    let path = places.below(CONFIG_DIR).join("config.toml");
    if path.exists() {
        return Ok(());
    }
    put(&path, CONFIG)?;
    show::line(&format!("wrote {}", path.display()));
    Ok(())
}

/// What a person has to do now.
fn advise(options: &InstallArgs) -> anyhow::Result<()> {
    show::line("the agent runs; `dmc service status` and `dmc peers` show it");
    if options.user {
        show::note("it ends when you log out; `loginctl enable-linger` lets it go on");
        return Ok(());
    }
    show::note(&format!(
        "members of the group {NAME} may use it: `sudo usermod -aG {NAME} $USER`, then log in again"
    ));
    let name = options.run_as.as_deref().unwrap_or(service::NAME);
    let (user, groups) = manager::ids_of(name)?;
    for folder in &options.media {
        let Ok(found) = fs::metadata(folder) else {
            show::note(&format!("{} is not there now", folder.display()));
            continue;
        };
        if !may_write(&found, user, &groups) && !has_acl(folder) {
            let dir = folder.display();
            show::note(&format!(
                "the user {name} cannot write in {dir}; this lets it: sudo setfacl -R -m \
                 u:{name}:rwX -m d:u:{name}:rwX '{dir}' (of the package acl)"
            ));
        }
    }
    Ok(())
}

/// Whether the permissions let a user write in a directory.
fn may_write(dir: &fs::Metadata, user: u32, groups: &[u32]) -> bool {
    let bits = dir.mode() & 0o777;
    let wanted = 0o3;
    if dir.uid() == user {
        return bits >> 6 & wanted == wanted;
    }
    let bits = if groups.contains(&dir.gid()) { bits >> 3 } else { bits };
    bits & wanted == wanted
}

/// Whether somebody gave rights beyond the permissions: they are that person's to judge.
fn has_acl(dir: &Path) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::getxattr(dir, "system.posix_acl_access", &mut none).is_ok_and(|bytes| bytes > 0)
}
