//! Who may speak with this agent. The one place where that is decided.
//!
//! A connection of somebody who is not a member is refused when it is established, before anything
//! is read from it. While this agent's door is open, or one of its codes is valid, strangers may
//! keep a few connections, on which they may speak the join protocol and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use dmc_protocol::id::AgentId;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::{agent, ip};

/// Connections that may be half made at a time, and of these from one address: whoever opens
/// connections and then says nothing gets no further than this.
const PENDING_MAX: usize = 128;
const PENDING_OF_ADDRESS_MAX: usize = 16;
/// Connections of strangers, in all and of each.
const STRANGERS_MAX: usize = 16;
const OF_STRANGER_MAX: usize = 2;
/// Connections of one member: each side may dial, and an old connection may linger.
const OF_MEMBER_MAX: usize = 8;
/// Strangers that are remembered for people.
const REFUSED_MAX: usize = 256;

/// Somebody who was refused.
#[derive(Debug, Clone)]
pub struct Stranger {
    /// Where it came from last.
    pub address: Option<IpAddr>,
    /// How often.
    pub times: u64,
}

#[derive(Debug, Default)]
struct State {
    members: BTreeSet<AgentId>,
    evicted: BTreeSet<AgentId>,
    joining: bool,
    refused: BTreeMap<AgentId, Stranger>,
}

/// Who is let in; shared by everything that speaks with peers.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<RwLock<State>>);

impl Gate {
    /// Whether a peer may use our protocols.
    pub fn admits(&self, peer: AgentId) -> bool {
        self.read(|state| state.members.contains(&peer))
    }

    /// Whether a stranger may speak the join protocol.
    pub fn lets_join(&self, peer: AgentId) -> bool {
        self.read(|state| state.joining && !state.evicted.contains(&peer))
    }

    /// Who is a member from now on, and who never will be.
    pub fn set_members(&self, members: BTreeSet<AgentId>, evicted: BTreeSet<AgentId>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.refused.retain(|peer, _| !members.contains(peer));
        (state.members, state.evicted) = (members, evicted);
    }

    /// Whether strangers may speak the join protocol from now on.
    pub fn set_joining(&self, joining: bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).joining = joining;
    }

    /// Strangers that were refused since this agent started.
    pub fn refused(&self) -> BTreeMap<AgentId, Stranger> {
        self.read(|state| state.refused.clone())
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn note_refused(&self, peer: AgentId, address: Option<IpAddr>) {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.refused.len() < REFUSED_MAX || state.refused.contains_key(&peer) {
            let stranger = state.refused.entry(peer);
            let stranger = stranger.or_insert(Stranger { address, times: 0 });
            stranger.address = address.or(stranger.address);
            stranger.times = stranger.times.saturating_add(1);
        }
    }
}

/// Why a connection is not kept.
#[derive(Debug, thiserror::Error)]
enum Denied {
    #[error("not a member of the mesh")]
    Stranger,
    #[error("too many connections")]
    TooMany,
}

fn deny(why: Denied) -> ConnectionDenied {
    ConnectionDenied::new(why)
}

/// The part of the swarm that closes what the [`Gate`] does not let in.
pub(super) struct Behaviour {
    gate: Gate,
    pending: HashMap<ConnectionId, Option<IpAddr>>,
    established: HashMap<ConnectionId, PeerId>,
}

impl Behaviour {
    pub(super) fn new(gate: Gate) -> Behaviour {
        let (pending, established) = (HashMap::new(), HashMap::new());
        Behaviour { gate, pending, established }
    }

    fn admit(&self, peer: PeerId, from: Option<IpAddr>) -> Result<(), ConnectionDenied> {
        let Some(id) = agent(&peer) else { return Err(deny(Denied::Stranger)) };
        let of_peer = self.established.values().filter(|of| **of == peer).count();
        if self.gate.admits(id) {
            let room = of_peer < OF_MEMBER_MAX;
            return if room { Ok(()) } else { Err(deny(Denied::TooMany)) };
        }
        if !self.gate.lets_join(id) {
            self.gate.note_refused(id, from);
            return Err(deny(Denied::Stranger));
        }
        let is_stranger = |of: &&PeerId| agent(of).is_none_or(|id| !self.gate.admits(id));
        let strangers = self.established.values().filter(is_stranger).count();
        if of_peer >= OF_STRANGER_MAX || strangers >= STRANGERS_MAX {
            return Err(deny(Denied::TooMany));
        }
        Ok(())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let from = ip(remote);
        let of_address = self.pending.values().filter(|of| **of == from).count();
        let full = self.pending.len() >= PENDING_MAX || of_address >= PENDING_OF_ADDRESS_MAX;
        if full {
            return Err(deny(Denied::TooMany));
        }
        self.pending.insert(id, from);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&id);
        self.admit(peer, ip(remote)).map(|()| dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(peer, ip(remote)).map(|()| dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(made) => {
                self.established.insert(made.connection_id, made.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.established.remove(&closed.connection_id);
            }
            FromSwarm::ListenFailure(failed) => {
                self.pending.remove(&failed.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    fn peer() -> (PeerId, AgentId) {
        let id = Keypair::generate_ed25519().public().to_peer_id();
        (id, agent(&id).unwrap())
    }

    fn remote(n: u8) -> Multiaddr {
        super::super::multiaddr(([10, 0, 0, n], 7).into())
    }

    #[test]
    fn strangers_are_refused_until_they_may_join_and_the_evicted_always() {
        let gate = Gate::default();
        let behaviour = Behaviour::new(gate.clone());
        let ((member, member_id), (stranger, stranger_id), (evicted, evicted_id)) =
            (peer(), peer(), peer());
        gate.set_members([member_id].into(), [evicted_id].into());
        assert!(behaviour.admit(member, None).is_ok());
        assert!(behaviour.admit(stranger, ip(&remote(9))).is_err());
        assert_eq!(gate.refused()[&stranger_id].address, ip(&remote(9)));
        gate.set_joining(true);
        assert!(behaviour.admit(stranger, None).is_ok());
        assert!(!gate.admits(stranger_id), "it may only join");
        assert!(behaviour.admit(evicted, None).is_err());
        gate.set_members([member_id, stranger_id].into(), [evicted_id].into());
        gate.set_joining(false);
        assert!(behaviour.admit(stranger, None).is_ok());
        assert!(!gate.refused().contains_key(&stranger_id), "it is none any more");
    }

    #[test]
    fn nobody_takes_all_connections() {
        let gate = Gate::default();
        gate.set_joining(true);
        let mut behaviour = Behaviour::new(gate.clone());
        let id = ConnectionId::new_unchecked;
        let here = remote(1);
        for n in 0..PENDING_OF_ADDRESS_MAX {
            assert!(behaviour.handle_pending_inbound_connection(id(n), &here, &remote(2)).is_ok());
        }
        assert!(behaviour.handle_pending_inbound_connection(id(90), &here, &remote(2)).is_err());
        assert!(behaviour.handle_pending_inbound_connection(id(91), &here, &remote(3)).is_ok());
        let mut made = 0;
        while made < 100 {
            let (stranger, _) = peer();
            if behaviour.admit(stranger, None).is_err() {
                break;
            }
            behaviour.established.insert(id(200 + made), stranger);
            made += 1;
        }
        assert_eq!(made, STRANGERS_MAX);
        let (member, member_id) = peer();
        gate.set_members([member_id].into(), BTreeSet::new());
        assert!(behaviour.admit(member, None).is_ok(), "strangers take nothing from members");
    }
}
