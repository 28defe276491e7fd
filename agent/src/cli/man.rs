//! `dmc man`: manual pages, for packages.

use std::path::Path;

use anyhow::Context;

use super::End;
use super::examples;

/// Writes a page for each subcommand.
pub(crate) fn run(dir: &Path) -> anyhow::Result<End> {
    let failed = || format!("cannot write manual pages into {}", dir.display());
    std::fs::create_dir_all(dir).with_context(failed)?;
    let command = examples::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir).with_context(failed)?;
    Ok(End::Done)
}
