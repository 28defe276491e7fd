//! `dmc agent`.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmc_agent::agent::{self, Running};
use dmc_agent::config::Settings;
use dmc_agent::service::notify;
use tokio::signal::unix::{SignalKind, signal};

use super::args::AgentArgs;
use super::client::Place;
use super::{End, show};

/// Between two looks whether it listens already.
const LISTEN_LOOK: Duration = Duration::from_millis(20);

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
    tell_ready(&running);
    let why = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        why = running.ended() => Some(why),
    };
    match why {
        None => {
            tracing::info!("stopping; once more to stop at once");
            notify::stopping();
            stop(running).await?;
            Ok(End::Done)
        }
        Some(why) => anyhow::bail!("the agent ended: {why}"),
    }
}

/// The service manager hears that the agent is there when peers can reach it as well: an agent that
/// cannot listen is then started again, instead of being up for nobody.
fn tell_ready(running: &Running) {
    let (shared, api) = (Arc::clone(&running.shared), running.api);
    tokio::spawn(async move {
        let port = loop {
            let first = {
                let listening = shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
                listening.first().map(std::net::SocketAddr::port)
            };
            match first {
                Some(port) => break port,
                None => tokio::time::sleep(LISTEN_LOOK).await,
            }
        };
        notify::ready(&format!("peers at port {port}, API at {api}"));
    });
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
