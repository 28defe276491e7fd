//! The command line: one file a subcommand.

mod agent;
mod args;
mod client;
mod convert;
#[cfg(test)]
mod docs_tests;
mod doctor;
mod download;
mod examples;
mod fetch;
mod forecast;
mod jobs;
mod log;
mod man;
mod mesh;
mod options;
mod peers;
mod presets;
mod progress;
mod remote;
mod remote_convert;
mod service;
mod show;
mod tokens;
mod undo;
mod upload;
mod watch;

use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Command, ConfigCommand};
use client::Client;
use dmc_agent::config;

/// How a command ended.
pub(crate) enum End {
    /// Exit code 0.
    Done,
    /// Exit code 1; what was wrong has been said.
    Failed,
    /// Exit code 130: ended by Ctrl-C.
    Interrupted,
}

/// A command line that cannot mean anything: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub String);

pub(crate) fn main() -> ExitCode {
    let matches = examples::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = cli.json;
    log::start(&cli);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return say_error(&anyhow::Error::new(e).context("cannot start"), json),
    };
    let ended = runtime.block_on(run(cli));
    // Work that is still running belongs to nobody: do not wait for it.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(End::Done) => ExitCode::SUCCESS,
        Ok(End::Failed) => ExitCode::from(1),
        Ok(End::Interrupted) => ExitCode::from(130),
        Err(error) => say_error(&error, json),
    }
}

fn say_error(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = if error.chain().any(|cause| cause.is::<Usage>()) { 2 } else { 1 };
    if json {
        show::json(&serde_json::json!({ "error": format!("{error:#}"), "exit_code": code }));
    }
    show::error(&format!("dmc: {error:#}"));
    ExitCode::from(code)
}

async fn run(cli: Cli) -> anyhow::Result<End> {
    let data_dir = match &cli.data_dir {
        Some(dir) => dir.clone(),
        None => config::default_data_dir()?,
    };
    let remote = remote::Remote::of(&cli.remote)?;
    if remote.is_some() {
        only_here(&cli.command)?;
    }
    let place = client::Place {
        data_dir,
        is_usual: cli.data_dir.is_none(),
        config: cli.config.clone(),
        json: cli.json,
        remote,
    };
    match cli.command {
        Command::Agent(options) => agent::run(&place, options).await,
        Command::Convert(options) => convert::run(&place, *options).await,
        Command::Jobs { command } => jobs::run(&Client::connect(&place).await?, command).await,
        Command::Status { id: Some(id) } => jobs::show(&Client::connect(&place).await?, &id).await,
        Command::Status { id: None } => peers::status(&Client::connect(&place).await?).await,
        Command::Fetch(options) => fetch::run(&Client::connect(&place).await?, options).await,
        Command::Undo(options) => undo::run(&Client::connect(&place).await?, options).await,
        Command::Peers => peers::run(&Client::connect(&place).await?).await,
        Command::Mesh { command } => mesh::run(&place, command).await,
        Command::Token { command } => tokens::run(&Client::connect(&place).await?, command).await,
        Command::Watch { command } => watch::run(&Client::connect(&place).await?, command).await,
        Command::Dashboard => tokens::dashboard(&Client::connect(&place).await?).await,
        Command::Pause => peers::pause(&Client::connect(&place).await?, true).await,
        Command::Resume => peers::pause(&Client::connect(&place).await?, false).await,
        Command::Presets { command } => presets::run(&place, command),
        Command::Forecast(options) => forecast::run(&place, options).await,
        Command::Doctor => doctor::run(&place).await,
        Command::Completions { shell } => {
            let name = "dmc";
            clap_complete::generate(shell, &mut Cli::command(), name, &mut std::io::stdout());
            Ok(End::Done)
        }
        Command::Service { command } => service::run(command, cli.json),
        Command::Man { dir } => man::run(&dir),
        Command::Config { command } => show_config(&place, &command),
    }
}

/// What is about this machine means nothing together with another one's agent.
fn only_here(command: &Command) -> anyhow::Result<()> {
    let what = match command {
        Command::Agent(_) => "`dmc agent` runs an agent on this machine",
        Command::Doctor => "`dmc doctor` looks at this machine",
        Command::Service { .. } => "`dmc service` is about this machine",
        Command::Forecast(_) => "`dmc forecast` samples films of this machine",
        Command::Config { .. } => "`dmc config` shows the settings of this machine",
        Command::Mesh { command: Some(args::MeshCommand::Reset { .. }) } => {
            "`dmc mesh reset` needs the agent's own files, on its machine"
        }
        _ => return Ok(()),
    };
    Err(Usage(format!("{what}: leave out --agent, or the variable DMC_AGENT")).into())
}

fn show_config(place: &client::Place, command: &ConfigCommand) -> anyhow::Result<End> {
    match command {
        ConfigCommand::Path => {
            let path = place.config.clone().or_else(config::default_file);
            let path = path.context("no home directory: name a file with --config")?;
            show::line(&path.display().to_string());
        }
        ConfigCommand::Show => {
            let settings = place.settings()?;
            if place.json {
                show::json(&settings);
            } else {
                show::line(toml::to_string(&settings)?.trim_end());
            }
        }
    }
    Ok(End::Done)
}
