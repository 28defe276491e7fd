//! The task that owns the libp2p swarm: commands in, events out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::id::AgentId;
use dmc_protocol::message::Message;
use dmc_store::Blobs;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::identity::Keypair;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::behaviour::{Behaviour, BehaviourEvent, PING_TIMEOUT, build_swarm};
use super::dialer::{Dialer, Target};
use super::heard::Heard;
use super::links::{self, Links};
use super::mirror::Mirror;
use super::serving::{Refused, Serving};
use super::{NetError, NetEvent, agent, blobs, control, join, multiaddr, socket_addr};
use crate::members::{Code, Members};

/// How often the address book is looked at while something may be due in it, and while not.
const DIAL_TICK: Duration = Duration::from_millis(250);
const IDLE_TICK: Duration = Duration::from_secs(60);
/// Strangers that are joined at a time.
const JOINS_MAX: usize = 8;
/// How long a stranger may stay connected without joining.
pub(super) const STRANGER_TIME: Duration = Duration::from_secs(20);
/// How long what is said to somebody who is expelled has to leave.
pub(super) const EXPEL_TIME: Duration = Duration::from_millis(500);

/// What the rest of the agent, and the tasks of this module, ask of the swarm's task.
#[expect(clippy::large_enum_variant, reason = "nearly all are messages")]
pub(super) enum Command {
    Send { to: AgentId, message: Message },
    Know { peer: Option<PeerId>, addresses: Vec<Multiaddr> },
    Forget { peer: PeerId },
    StreamUp { peer: AgentId, outbox: mpsc::Sender<Vec<u8>>, number: oneshot::Sender<u64> },
    StreamDown { peer: AgentId, number: u64 },
    Useless { peer: AgentId },
    Disconnect { peer: PeerId },
    Expel { peer: AgentId },
    Asked { peer: PeerId, id: AgentId, code: Option<Code>, outcome: Result<(), join::JoinError> },
    Close { done: oneshot::Sender<()> },
}

/// The swarm and what belongs to it; consumed by [`Node::run`].
pub(super) struct Node {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) dialer: Dialer,
    links: Links,
    mirror: Mirror,
    pub(super) heard: Heard,
    pub(super) refused: Refused,
    pub(super) serving: Serving,
    control_streams: libp2p_stream::IncomingStreams,
    blob_streams: libp2p_stream::IncomingStreams,
    join_streams: libp2p_stream::IncomingStreams,
    pub(super) joining: Arc<Semaphore>,
    pub(super) members: Arc<Members>,
    pub(super) outboxes: BTreeMap<AgentId, BTreeMap<u64, mpsc::Sender<Vec<u8>>>>,
    numbers: u64,
    /// When the address book is looked at next.
    look: Instant,
    pub(super) blobs: Blobs,
    pub(super) events: mpsc::Sender<NetEvent>,
    /// Events that wait for room: this task must never wait for the runtime, which waits for it.
    pub(super) pending: VecDeque<NetEvent>,
    pub(super) commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
}

impl Node {
    pub(super) fn new(
        key: Keypair,
        listen: &[SocketAddr],
        (blobs, members): (Blobs, Arc<Members>),
        events: mpsc::Sender<NetEvent>,
        commands: mpsc::Sender<Command>,
        inbox: mpsc::Receiver<Command>,
        (heard, refused): (Heard, Refused),
    ) -> Result<Node, NetError> {
        let mut swarm = build_swarm(key, members.gate().clone())?;
        for addr in listen {
            let reason = |e: &dyn std::error::Error| e.to_string();
            swarm
                .listen_on(multiaddr(*addr))
                .map_err(|e| NetError::Listen { addr: *addr, reason: reason(&e) })?;
        }
        let mut streams = swarm.behaviour().streams.new_control();
        let setup = |e: libp2p_stream::AlreadyRegistered| NetError::Setup(e.to_string());
        let control_streams = streams.accept(control::CONTROL).map_err(setup)?;
        let blob_streams = streams.accept(blobs::BLOB).map_err(setup)?;
        let join_streams = streams.accept(join::JOIN).map_err(setup)?;
        let dialer = Dialer::new(*swarm.local_peer_id());
        let outboxes = BTreeMap::new();
        Ok(Node {
            swarm,
            dialer,
            links: Links::default(),
            mirror: Mirror::default(),
            heard,
            refused,
            serving: Serving::default(),
            control_streams,
            blob_streams,
            join_streams,
            joining: Arc::new(Semaphore::new(JOINS_MAX)),
            members,
            outboxes,
            numbers: 0,
            look: Instant::now(),
            blobs,
            events,
            pending: VecDeque::new(),
            commands,
            inbox,
        })
    }

    pub(super) fn streams(&self) -> libp2p_stream::Control {
        self.swarm.behaviour().streams.new_control()
    }

    /// Runs until a `Close` command. Accept loops only spawn: a slow one would lose streams.
    pub(super) async fn run(mut self) {
        let events = self.events.clone();
        let look = tokio::time::sleep_until(self.look);
        tokio::pin!(look);
        loop {
            tokio::select! {
                Ok(room) = events.reserve(), if !self.pending.is_empty() => {
                    if let Some(event) = self.pending.pop_front() {
                        room.send(event);
                    }
                }
                event = self.swarm.select_next_some() => self.on_swarm(event),
                Some((peer, stream)) = self.control_streams.next() => self.accept_control(peer, stream),
                Some((peer, stream)) = self.blob_streams.next() => self.accept_blobs(peer, stream),
                Some((peer, stream)) = self.join_streams.next() => self.accept_join(peer, stream),
                command = self.inbox.recv() => match command {
                    Some(Command::Close { done }) => return self.close(done).await,
                    Some(command) => self.on_command(command),
                    None => return,
                },
                () = &mut look => self.dial_due(),
            }
            if look.deadline() != self.look {
                look.as_mut().reset(self.look);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Send { to, message } => self.send(to, &message),
            Command::Know { peer, addresses } => {
                self.dialer.know(Instant::now(), peer, addresses);
                self.dial_due();
            }
            Command::Forget { peer } => self.dialer.forget(peer),
            // It may have been evicted since the stream was opened.
            Command::StreamUp { peer, .. } if !self.members.gate().admits(peer) => {}
            Command::StreamUp { peer, outbox, number } => {
                self.numbers += 1;
                self.outboxes.entry(peer).or_default().insert(self.numbers, outbox);
                self.heard.touch(peer);
                self.dialer.is_well(peer);
                // Also when an older stream is registered: that one may be dead, and what was
                // said on it lost.
                self.pending.push_back(NetEvent::Up(peer));
                let _ = number.send(self.numbers);
            }
            Command::StreamDown { peer, number } => self.on_stream_down(peer, number),
            // It speaks, but not our language.
            Command::Useless { peer } => {
                if let Some(peer) = crate::identity::peer_id(peer) {
                    self.dialer.is_refused(Instant::now(), peer);
                }
            }
            Command::Disconnect { peer } => {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            Command::Expel { peer } => self.expel(peer),
            Command::Asked { peer, id, code, outcome } => self.on_asked(peer, id, code, outcome),
            Command::Close { .. } => {} // handled by the loop
        }
    }

    fn on_stream_down(&mut self, peer: AgentId, number: u64) {
        let Some(open) = self.outboxes.get_mut(&peer) else { return };
        if open.remove(&number).is_none() || !open.is_empty() {
            return;
        }
        self.outboxes.remove(&peer);
        self.heard.forget(peer);
        self.pending.push_back(NetEvent::Down(peer));
        // A connection without a control stream is useless: begin anew.
        if let Some(peer) = crate::identity::peer_id(peer) {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn send(&mut self, to: AgentId, message: &Message) {
        let Some(open) = self.outboxes.get_mut(&to) else { return };
        let frame = match codec::encode(message) {
            Ok(frame) => frame,
            Err(e) => return warn!(peer = %to, message = message.name(), "not sent: {e}"),
        };
        let Some((&number, outbox)) = open.iter().next_back() else { return };
        if outbox.try_send(frame).is_err() {
            // Full or closed: a peer that takes nothing is as good as gone. Dropping the sender
            // ends the stream's task, which reports the end.
            debug!(peer = %to.short(), "control stream given up: the peer is too slow");
            open.remove(&number);
            let commands = self.commands.clone();
            let down = Command::StreamDown { peer: to, number };
            if open.is_empty() {
                open.insert(number, mpsc::channel(1).0);
            }
            tokio::spawn(async move { commands.send(down).await });
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        // Connections and addresses that come and go change who is to be dialled.
        if !matches!(event, SwarmEvent::Behaviour(_)) {
            self.look = self.look.min(now + DIAL_TICK);
        }
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                if let Some(addr) = socket_addr(&address) {
                    self.pending.push_back(NetEvent::Listening(addr));
                }
                self.dialer.hurry(now);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_address_lost(&address),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.links.closed(connection_id);
                if num_established == 0 {
                    self.dialer.disconnected(now, peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => match (peer_id, error) {
                (_, DialError::LocalPeerId { address }) => {
                    self.dialer.is_self(&address);
                    if let Some(addr) = socket_addr(&address) {
                        self.mirror.dialled(now, addr);
                    }
                }
                (Some(peer), DialError::WrongPeerId { address, .. }) => {
                    self.dialer.is_another(now, peer, &address);
                }
                (_, error) => debug!(peer = ?peer_id, "cannot connect: {error}"),
            },
            SwarmEvent::IncomingConnectionError {
                error: ListenError::LocalPeerId { address },
                ..
            } => {
                if let Some(addr) = socket_addr(&address) {
                    self.mirror.accepted(now, addr);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(e),
            })) => self.on_no_pong(peer, connection, &e),
            _ => {}
        }
    }

    /// A line that is full of a blob keeps pings waiting: a peer that is heard is there.
    fn on_no_pong(&mut self, peer: PeerId, connection: ConnectionId, error: &ping::Failure) {
        let last = agent(&peer).and_then(|peer| self.heard.last(peer));
        let heard = last.is_some_and(|last| last.elapsed() < PING_TIMEOUT);
        if heard && self.links.count(peer) < 2 {
            return;
        }
        debug!(%peer, "no answer to a ping: {error}");
        self.swarm.close_connection(connection);
    }

    /// An own address is gone, and with it every connection that used it.
    fn on_address_lost(&mut self, address: &Multiaddr) {
        let Some(addr) = socket_addr(address) else { return };
        debug!(%addr, "this agent's address is gone");
        for connection in self.links.with_address(addr.ip()) {
            self.swarm.close_connection(connection);
        }
        self.dialer.hurry(Instant::now());
        self.pending.push_back(NetEvent::NotListening(addr));
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        // Others are not let in as far as this.
        let Some(id) = agent(&peer) else { return };
        let now = Instant::now();
        let (dialled, local) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => {
                (Some(address), socket_addr(address).and_then(links::local_towards))
            }
            ConnectedPoint::Listener { local_addr, .. } => {
                (None, socket_addr(local_addr).map(|addr| addr.ip()))
            }
        };
        for dead in self.links.opened(now, connection, peer, local, dialled.is_none()) {
            debug!(%peer, "an old connection is closed: the peer made a new one");
            self.swarm.close_connection(dead);
        }
        self.dialer.connected(now, peer, dialled);
        if !self.members.gate().admits(id) {
            self.watch_stranger(peer, id);
        }
        let Some(address) = dialled else {
            return; // the dialling side opens the control stream
        };
        if let Some(addr) = socket_addr(address) {
            self.pending.push_back(NetEvent::Reached(id, addr));
        }
        match self.members.gate().admits(id) {
            true => self.open_control(peer, id),
            false => self.ask_to_join(peer, id),
        }
    }

    fn dial_due(&mut self) {
        let now = Instant::now();
        let twins = self.mirror.twins(now);
        self.pending.extend(twins.into_iter().map(NetEvent::Twin));
        let due = self.dialer.due(now);
        let (soon, late) = (now + DIAL_TICK, now + IDLE_TICK);
        self.look = match self.dialer.next() {
            Some(next) if self.mirror.is_empty() => next.clamp(soon, late),
            None if self.mirror.is_empty() => late,
            _ => soon,
        };
        for (target, addresses) in due {
            let options = match target {
                Target::Peer(peer) => DialOpts::peer_id(peer)
                    .addresses(addresses)
                    .condition(PeerCondition::DisconnectedAndNotDialing)
                    // The port of a connection that died without a word is not free at its end.
                    .allocate_new_port()
                    .build(),
                Target::Address(address) => {
                    DialOpts::unknown_peer_id().address(address).allocate_new_port().build()
                }
            };
            if let Err(e) = self.swarm.dial(options) {
                debug!("not dialled: {e}");
            }
        }
    }

    /// Lets what was said leave: closing the outboxes ends each stream after its last frame.
    async fn close(mut self, done: oneshot::Sender<()>) {
        self.outboxes.clear();
        let flush = tokio::time::sleep(Duration::from_millis(300));
        tokio::pin!(flush);
        loop {
            tokio::select! {
                _ = self.swarm.select_next_some() => {}
                () = &mut flush => break,
            }
        }
        let _ = done.send(());
    }
}
