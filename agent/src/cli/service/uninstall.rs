//! `dmc service uninstall`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dmc_agent::config;
use dmc_agent::service::{CONFIG_DIR, NAME, STATE_DIR, unit};

use super::{Places, UninstallArgs, manager};
use crate::cli::{End, show};

pub(super) fn run(options: &UninstallArgs) -> anyhow::Result<End> {
    let places = Places::of(options.user, options.root.as_ref())?;
    let live = options.root.is_none();
    if !options.user && live {
        manager::needs_root("uninstall")?;
        if let Some(unit) = places.packaged() {
            bail!(
                "{} belongs to a package: `sudo apt remove dmc` removes it, `sudo apt purge dmc` its \
                 state as well",
                unit.display()
            );
        }
    }
    let name = format!("{NAME}.service");
    let running = live && manager::is_here();
    if running && places.unit.exists() {
        manager::systemctl(options.user, &["disable", "--now", &name])?;
    }
    let mut removed = remove_ours(&places.unit)?;
    removed |= remove_ours(&places.addition)?;
    if let Some(dir) = places.addition.parent() {
        // What a person put there stays.
        let _ = fs::remove_dir(dir);
    }
    if running {
        manager::systemctl(options.user, &["daemon-reload"])?;
    }
    if options.purge {
        purge(options.user, &places)?;
    } else if !options.user {
        show::line(&format!("kept {STATE_DIR} and {CONFIG_DIR}; --purge removes them"));
    }
    if !removed {
        show::line("there was no service to remove");
    }
    Ok(End::Done)
}

/// Removes a file that `dmc service install` wrote.
fn remove_ours(path: &Path) -> anyhow::Result<bool> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(unit::MARK) => {}
        Ok(_) => bail!("{} was not written by dmc; remove it by hand", path.display()),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    show::line(&format!("removed {}", path.display()));
    Ok(true)
}

/// State and settings. The user stays: results that it made belong to it.
fn purge(user: bool, places: &Places) -> anyhow::Result<()> {
    let gone: Vec<PathBuf> = if user {
        let settings = config::default_file();
        let settings = settings.as_deref().and_then(Path::parent).map(Path::to_owned);
        settings.into_iter().chain([config::default_data_dir()?]).collect()
    } else {
        vec![places.below(STATE_DIR), places.below(CONFIG_DIR)]
    };
    for dir in gone {
        match fs::remove_dir_all(&dir) {
            Ok(()) => show::line(&format!("removed {}", dir.display())),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot remove {}", dir.display())),
        }
    }
    if !user {
        show::line(&format!("the user {NAME} stays: results that it made belong to it"));
    }
    Ok(())
}
