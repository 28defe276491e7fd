//! `dmc agent`.

use dmc_agent::agent::{self, Running};
use dmc_agent::config::Settings;
use tokio::signal::unix::{SignalKind, signal};

use super::args::AgentArgs;
use super::client::Place;
use super::{End, show};

/// The command line wins over the file and the environment.
pub(crate) fn settings(place: &Place, options: AgentArgs) -> anyhow::Result<Settings> {
    let mut settings = place.settings()?;
    if let Some(name) = options.name {
        settings.name = name;
    }
    if !options.listen.is_empty() {
        settings.listen = options.listen;
    }
    settings.api = options.api.or(settings.api);
    settings.peers.extend(options.peer);
    settings.slots = options.slots.unwrap_or(settings.slots);
    settings.door = options.door.unwrap_or(settings.door);
    settings.discovery &= !options.no_discovery;
    settings.api_insecure |= options.insecure;
    Ok(settings)
}

pub(crate) async fn run(place: &Place, options: AgentArgs) -> anyhow::Result<End> {
    // From the first moment: who stops an agent that is only starting gets the same clean end.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let settings = settings(place, options)?;
    let mut running = tokio::select! {
        running = agent::start(&place.data_dir, settings) => running?,
        _ = interrupt.recv() => return Ok(End::Done),
        _ = terminate.recv() => return Ok(End::Done),
    };
    if place.json {
        let api = running.api.to_string();
        show::json(&serde_json::json!({ "id": running.shared.me, "api": api }));
    }
    let why = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        why = running.ended() => Some(why),
    };
    match why {
        None => {
            tracing::info!("stopping; once more to stop at once");
            stop(running).await?;
            Ok(End::Done)
        }
        Some(why) => anyhow::bail!("the agent ended: {why}"),
    }
}

/// Stops gracefully; a second signal ends at once.
pub(crate) async fn stop(running: Running) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        () = running.stop() => {}
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
