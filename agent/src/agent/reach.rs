//! Where peers reach this agent, and how they hear of that.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::id::AgentId;
use dmc_store::Store;
use tokio::sync::mpsc;
use tracing::warn;

use super::{CHANNEL, PEER_PORT, StartError};
use crate::config::Settings;
use crate::discovery::Discovery;
use crate::identity::Keypair;
use crate::members::{Change, Members};
use crate::net::{self, Gate, Net, NetEvent};
use crate::runtime::Event;
use crate::worker::chain;

/// How long the system may take to let this agent listen.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The network, and what comes from it.
pub(super) struct Reach {
    pub(super) net: Net,
    pub(super) net_inbox: mpsc::Receiver<NetEvent>,
    pub(super) members: Arc<Members>,
    pub(super) changes: mpsc::Receiver<Change>,
    /// Where peers reach this agent; 0 when they cannot.
    pub(super) port: u16,
    pub(super) discovery: Option<Discovery>,
}

/// Reads who belongs to the mesh, listens, dials the peers of the settings, and lets discovery
/// announce all that.
pub(super) async fn open(
    (me, key): (AgentId, Keypair),
    name: &str,
    settings: &Settings,
    store: &Store,
    events: &mpsc::Sender<Event>,
) -> Result<Reach, StartError> {
    let (net_events, net_inbox) = mpsc::channel(CHANNEL);
    let (members, changes) = Members::open(
        (me, key.clone()),
        name.to_owned(),
        store.kv.clone(),
        Gate::default(),
        settings.door,
    )
    .await?;
    // The first slice of a door that is open: before anybody sees this agent.
    if let Err(e) = members.tick().await {
        warn!("the door stays closed: {}", chain(&e));
    }
    let net = Net::start(
        key,
        &listen_addresses(settings),
        store.blobs.clone(),
        Arc::clone(&members),
        net_events,
    )?;
    for peer in &settings.peers {
        net.know(None, net::resolve(peer).await?).await;
    }
    let (port, net_inbox) = wait_for_port(net_inbox, events).await;
    let discovery = discover(settings, &members, name, port, events);
    Ok(Reach { net, net_inbox, members, changes, port, discovery })
}

/// Where to listen for peers: as told, or the usual port, or a free one.
fn listen_addresses(settings: &Settings) -> Vec<SocketAddr> {
    if !settings.listen.is_empty() {
        return settings.listen.clone();
    }
    let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let free = std::net::TcpListener::bind(any(PEER_PORT)).is_ok();
    vec![any(if free { PEER_PORT } else { 0 })]
}

/// The first port that the system gave us; discovery announces it.
async fn wait_for_port(
    mut inbox: mpsc::Receiver<NetEvent>,
    events: &mpsc::Sender<Event>,
) -> (u16, mpsc::Receiver<NetEvent>) {
    let first = async {
        while let Some(event) = inbox.recv().await {
            let port = match &event {
                NetEvent::Listening(addr) => Some(addr.port()),
                _ => None,
            };
            let _ = events.send(Event::Net(event)).await;
            if let Some(port) = port {
                return port;
            }
        }
        0
    };
    let port = tokio::time::timeout(LISTEN_TIMEOUT, first).await.unwrap_or_else(|_| {
        warn!("no address to listen on came up; peers cannot reach this agent");
        0
    });
    (port, inbox)
}

fn discover(
    settings: &Settings,
    members: &Members,
    name: &str,
    port: u16,
    events: &mpsc::Sender<Event>,
) -> Option<Discovery> {
    if !settings.discovery || port == 0 {
        return None;
    }
    let (sightings, inbox) = mpsc::channel(CHANNEL);
    let port_mdns = Some(settings.discovery_port).filter(|port| *port != 0);
    match Discovery::start(members.me(), name, port, port_mdns, members.door().open, sightings) {
        Ok(discovery) => {
            forward(inbox, events.clone(), Event::Sighting);
            Some(discovery)
        }
        Err(e) => {
            warn!("{}", chain(&e));
            None
        }
    }
}

/// Passes everything on to the loop.
pub(super) fn forward<T: Send + 'static>(
    mut from: mpsc::Receiver<T>,
    to: mpsc::Sender<Event>,
    wrap: fn(T) -> Event,
) {
    tokio::spawn(async move {
        while let Some(event) = from.recv().await {
            if to.send(wrap(event)).await.is_err() {
                return;
            }
        }
    });
}
