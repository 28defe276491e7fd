//! The libp2p swarm: what it is made of, and its time limits.

use std::time::Duration;

use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Swarm, SwarmBuilder, Transport, noise, ping, tcp, yamux};

use super::admission::Gate;
use super::doorstep::Doorstep;
use super::{NetError, admission};

/// A connection without streams is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pings find dead connections that have a living one beside them; the rest is found sooner by the
/// silence on the control stream.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A connection on which a ping is not answered for so long is dead, unless its peer is heard.
pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is not made within this time is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one connection: those that both sides fetch blobs on, and the control streams.
const STREAMS_MAX: usize = 256;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    /// First: what it does not let in gets no further.
    admission: admission::Behaviour,
    pub(super) streams: libp2p_stream::Behaviour,
    ping: ping::Behaviour,
}

/// The swarm, over TCP alone: encrypted, and with the strangers kept out that `gate` does not admit.
pub(super) fn build_swarm(key: Keypair, gate: Gate) -> Result<Swarm<Behaviour>, NetError> {
    let setup = |e: &dyn std::fmt::Display| NetError::Setup(e.to_string());
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
    let swarm = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|key| {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            let noise = noise::Config::new(key)?;
            let secure = Doorstep::before(tcp).upgrade(Version::V1Lazy).authenticate(noise);
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(secure.multiplex(streams_config()))
        })
        .map_err(|e| setup(&e))?
        .with_behaviour(|_| Behaviour {
            admission: admission::Behaviour::new(gate),
            streams: libp2p_stream::Behaviour::new(),
            ping: ping::Behaviour::new(ping),
        })
        .map_err(|e| setup(&e))?
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
        .with_connection_timeout(CONNECT_TIMEOUT)
        .build();
    Ok(swarm)
}

/// Each stream may have a quarter of a MiB on its way that nobody reads.
fn streams_config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    config
}
