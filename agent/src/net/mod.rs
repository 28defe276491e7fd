//! The network: connections, the control stream to each peer, and blobs on streams of their own.
//!
//! The only files that name libp2p (beside `identity.rs`, which turns its keys into agent ids).

mod admission;
mod behaviour;
mod blobs;
mod control;
mod dialer;
mod doorstep;
pub(crate) mod fuzzing;
mod heard;
#[cfg(test)]
mod hostile_tests;
mod join;
mod links;
mod mirror;
mod node;
mod serving;
#[cfg(test)]
mod stranger_tests;
mod strangers;
mod streams;

use std::net::SocketAddr;
use std::sync::Arc;

use dmc_protocol::id::{AgentId, BlobId};
use dmc_protocol::message::Message;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

pub use admission::{Gate, Stranger};
pub use blobs::FetchError;
pub use join::JoinError;

use crate::members::{Code, Members};
use dmc_store::Blobs;
use heard::Heard;
use node::{Command, Node};
use serving::Refused;

/// Messages, connections and commands that may wait.
const QUEUE: usize = 1_024;

/// What the network tells the runtime.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are messages")]
pub enum NetEvent {
    /// A control stream to the peer is open.
    Up(AgentId),
    /// The last control stream to the peer closed.
    Down(AgentId),
    /// The peer said this.
    Message(AgentId, Message),
    /// The peer speaks this other version of the protocol.
    OtherVersion(AgentId, u8),
    /// The peer was reached at this address.
    Reached(AgentId, SocketAddr),
    /// The agent can be reached here.
    Listening(SocketAddr),
    /// The agent can be reached here no longer.
    NotListening(SocketAddr),
    /// A peer asked for this blob, and its file here is damaged.
    Damaged(BlobId),
    /// Another agent has this one's identity.
    Twin(SocketAddr),
    /// A stranger was asked to join by a code, and this came of it.
    Asked(AgentId, Code, Result<(), JoinError>),
}

/// Why the network does not start.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// libp2p could not be set up.
    #[error("cannot set up the network: {0}")]
    Setup(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {reason}; choose another with --listen")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        reason: String,
    },
    /// A text that is no address.
    #[error("`{text}` is not an address; write HOST:PORT, as in 192.168.1.5:7341")]
    Address {
        /// The text as given.
        text: String,
    },
}

/// A handle on the network; cheap to clone. The network ends when all handles are gone.
#[derive(Clone)]
pub struct Net {
    commands: mpsc::Sender<Command>,
    streams: libp2p_stream::Control,
    heard: Heard,
    refused: Refused,
    members: Arc<Members>,
    times: blobs::Times,
}

impl Net {
    /// Starts to listen, dial, and serve `blobs` to peers.
    pub fn start(
        key: Keypair,
        listen: &[SocketAddr],
        blobs: Blobs,
        members: Arc<Members>,
        events: mpsc::Sender<NetEvent>,
    ) -> Result<Net, NetError> {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let (heard, refused) = (Heard::default(), Refused::default());
        let ears = (heard.clone(), refused.clone());
        let node = Node::new(
            key,
            listen,
            (blobs, Arc::clone(&members)),
            events,
            commands.clone(),
            inbox,
            ears,
        )?;
        let streams = node.streams();
        tokio::spawn(node.run());
        Ok(Net { commands, streams, heard, refused, members, times: blobs::Times::default() })
    }

    /// How often something that a peer sent was refused here: no message, or not the bytes that
    /// were asked for.
    pub fn refused(&self, peer: AgentId) -> u64 {
        self.refused.of(peer)
    }

    /// Says something to a peer. Nothing happens when it is not connected: what matters is said
    /// again when it is.
    pub async fn send(&self, to: AgentId, message: Message) {
        let _ = self.commands.send(Command::Send { to, message }).await;
    }

    /// Adds addresses of a peer, or of somebody unknown yet, and dials them.
    pub async fn know(&self, peer: Option<AgentId>, addresses: Vec<SocketAddr>) {
        let addresses = addresses.into_iter().map(multiaddr).collect();
        let peer = peer.and_then(crate::identity::peer_id);
        let _ = self.commands.send(Command::Know { peer, addresses }).await;
    }

    /// The peer is no member any more: what was said before leaves, then its connections close.
    pub async fn expel(&self, peer: AgentId) {
        let _ = self.commands.send(Command::Expel { peer }).await;
    }

    /// The peer withdrew itself from discovery: it is not dialled any more.
    pub async fn forget(&self, peer: AgentId) {
        if let Some(peer) = crate::identity::peer_id(peer) {
            let _ = self.commands.send(Command::Forget { peer }).await;
        }
    }

    /// Closes all connections after what was said before has left.
    pub async fn close(&self) {
        let (done, closed) = tokio::sync::oneshot::channel();
        if self.commands.send(Command::Close { done }).await.is_ok() {
            let _ = closed.await;
        }
    }
}

fn multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Tcp(addr.port()))
}

fn ip(address: &Multiaddr) -> Option<std::net::IpAddr> {
    socket_addr(address).map(|address| address.ip())
}

fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Reads `HOST:PORT` (a name is looked up) or a multiaddr such as `/ip4/10.0.0.2/tcp/7341`.
pub async fn resolve(text: &str) -> Result<Vec<SocketAddr>, NetError> {
    let bad = || NetError::Address { text: text.to_owned() };
    if text.starts_with('/') {
        let addr: Multiaddr = text.parse().map_err(|_| bad())?;
        return Ok(vec![socket_addr(&addr).ok_or_else(bad)?]);
    }
    let found: Vec<SocketAddr> = tokio::net::lookup_host(text).await.map_err(|_| bad())?.collect();
    if found.is_empty() { Err(bad()) } else { Ok(found) }
}

fn agent(peer: &PeerId) -> Option<AgentId> {
    crate::identity::agent_id(peer)
}
