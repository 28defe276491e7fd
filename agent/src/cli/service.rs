//! `dmc service`: an agent in the background. [`install`] and [`uninstall`] write and remove what
//! makes it one; [`manager`] calls the programs of the system that this needs.

mod install;
mod manager;
mod uninstall;

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use dmc_agent::service::{NAME, STATE_DIR, unit};
use serde::Serialize;

use super::{End, show};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Start an agent now and with the machine.
    Install(InstallArgs),
    /// Stop it and remove the service; state and media stay.
    Uninstall(UninstallArgs),
    /// Whether it runs, and with which media folders.
    Status {
        /// The agent of this user.
        #[arg(long)]
        user: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// For this user alone, without root; it runs while the user is logged in.
    #[arg(long, conflicts_with_all = ["media", "run_as"])]
    pub user: bool,
    /// A folder whose films it may read and write, beside /srv, /mnt and /media. Those named
    /// earlier are replaced.
    #[arg(long, value_name = "DIR")]
    pub media: Vec<PathBuf>,
    /// The user that it runs as [default: dmc, which is made].
    #[arg(long, value_name = "USER")]
    pub run_as: Option<String>,
    /// Write everything below DIR, for images of systems, and start nothing.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Only print the definition.
    #[arg(long)]
    pub print: bool,
    /// Which definition to print.
    #[arg(long, value_enum, requires = "print", value_name = "MANAGER")]
    pub format: Option<Manager>,
}

#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    /// That of this user.
    #[arg(long)]
    pub user: bool,
    /// Remove state and settings as well. Media are never removed.
    #[arg(long)]
    pub purge: bool,
    /// Remove it from below DIR, for images of systems.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What starts services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Manager {
    /// Linux, the machine's.
    Systemd,
    /// Linux, a user's.
    SystemdUser,
    /// macOS; untested.
    Launchd,
    /// Windows; untested.
    Windows,
}

pub(crate) fn run(command: ServiceCommand, json: bool) -> anyhow::Result<End> {
    match command {
        ServiceCommand::Install(options) if options.print => install::print(&options),
        ServiceCommand::Install(options) => install::run(&options),
        ServiceCommand::Uninstall(options) => uninstall::run(&options),
        ServiceCommand::Status { user } => status(user, json),
    }
}

/// Where the files of the service are.
pub(super) struct Places {
    /// Below which all others are; `/` but for images.
    root: PathBuf,
    unit: PathBuf,
    addition: PathBuf,
}

impl Places {
    fn of(user: bool, root: Option<&PathBuf>) -> anyhow::Result<Places> {
        let units = if user {
            match directories::BaseDirs::new() {
                Some(dirs) => dirs.config_dir().join("systemd/user"),
                None => bail!("no home directory, so there is no place for a user's service"),
            }
        } else {
            PathBuf::from("/etc/systemd/system")
        };
        let root = root.cloned().unwrap_or_else(|| PathBuf::from("/"));
        let units = below(&root, &units);
        Ok(Places {
            unit: units.join(format!("{NAME}.service")),
            addition: units.join(format!("{NAME}.service.d/install.conf")),
            root,
        })
    }

    fn below(&self, path: &str) -> PathBuf {
        below(&self.root, std::path::Path::new(path))
    }

    /// The unit of a package, which is not ours to write or remove.
    fn packaged(&self) -> Option<PathBuf> {
        let places = ["/usr/lib/systemd/system", "/lib/systemd/system"];
        places
            .iter()
            .map(|dir| self.below(dir).join(format!("{NAME}.service")))
            .find(|p| p.exists())
    }
}

fn below(root: &std::path::Path, path: &std::path::Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[derive(Serialize)]
struct StatusView {
    installed: bool,
    active: bool,
    state: String,
    detail: String,
    pid: Option<u32>,
    unit: Option<String>,
    media: Vec<String>,
}

fn status(user: bool, json: bool) -> anyhow::Result<End> {
    let places = Places::of(user, None)?;
    let known = manager::properties(user)?;
    let of = |key: &str| known.get(key).cloned().unwrap_or_default();
    let addition = std::fs::read_to_string(&places.addition).unwrap_or_default();
    let view = StatusView {
        installed: of("LoadState") == "loaded",
        active: of("ActiveState") == "active",
        state: format!("{} ({})", of("ActiveState"), of("SubState")),
        detail: of("StatusText"),
        pid: of("MainPID").parse().ok().filter(|pid| *pid != 0),
        unit: Some(of("FragmentPath")).filter(|path| !path.is_empty()),
        media: unit::folders(&addition),
    };
    let end = if view.active { End::Done } else { End::Failed };
    if json {
        show::json(&view);
        return Ok(end);
    }
    if !view.installed {
        let how = if user { "dmc service install --user" } else { "sudo dmc service install" };
        show::line(&format!("not installed; `{how}` installs and starts it"));
        return Ok(end);
    }
    show::line(&format!("service  {}", view.state));
    if !view.detail.is_empty() {
        show::line(&format!("says     {}", show::clean(&view.detail)));
    }
    if let Some(unit) = &view.unit {
        show::line(&format!("unit     {unit}"));
    }
    if !user {
        show::line(&format!("state    {STATE_DIR}"));
        let more = view.media.iter().map(|dir| format!(" {}", show::clean(dir)));
        show::line(&format!("media    /srv /mnt /media{}", more.collect::<String>()));
    }
    let flag = if user { "--user " } else { "" };
    show::line(&format!("log      journalctl {flag}-u {NAME}"));
    Ok(end)
}
