//! Which connections there are, and which of them cannot live any more. Pure; time is an input.
//!
//! A connection that died without a word (a cable pulled, an address lost, a machine asleep) looks
//! alive for as long as TCP tries. What tells sooner: the own address is gone, or the peer made a
//! new connection, which it does only when it has none.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

/// Two agents that dial each other at the same moment make two good connections. One that is
/// older than this when the peer makes another one is dead at the peer's end.
const SIMULTANEOUS: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Link {
    peer: PeerId,
    /// The own end; `None` when it cannot be known.
    local: Option<IpAddr>,
    since: Instant,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<ConnectionId, Link>);

impl Links {
    /// A connection was made, `inbound` by the peer. Returns those that it replaces.
    pub(super) fn opened(
        &mut self,
        now: Instant,
        id: ConnectionId,
        peer: PeerId,
        local: Option<IpAddr>,
        inbound: bool,
    ) -> Vec<ConnectionId> {
        let dead = |link: &Link| {
            inbound && link.peer == peer && now.duration_since(link.since) > SIMULTANEOUS
        };
        let replaced = self.0.iter().filter(|(_, link)| dead(link)).map(|(id, _)| *id).collect();
        self.0.insert(id, Link { peer, local, since: now });
        replaced
    }

    pub(super) fn closed(&mut self, id: ConnectionId) {
        self.0.remove(&id);
    }

    /// How many connections there are with a peer.
    pub(super) fn count(&self, peer: PeerId) -> usize {
        self.0.values().filter(|link| link.peer == peer).count()
    }

    /// Connections whose own end had this address, which is gone.
    pub(super) fn with_address(&self, ip: IpAddr) -> Vec<ConnectionId> {
        let lost = self.0.iter().filter(|(_, link)| link.local == Some(ip));
        lost.map(|(id, _)| *id).collect()
    }
}

/// The own address that the system uses towards another one. Sends nothing.
pub(super) fn local_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_connects_anew_has_lost_its_old_connection() {
        let (peer, other) = (PeerId::random(), PeerId::random());
        let id = ConnectionId::new_unchecked;
        let t0 = Instant::now();
        let later = t0 + SIMULTANEOUS + Duration::from_secs(1);
        let mut links = Links::default();
        assert_eq!(links.opened(t0, id(1), peer, None, true), []);
        assert_eq!(links.opened(t0, id(2), peer, None, true), [], "both dialled at once");
        assert_eq!(links.opened(t0, id(3), other, None, true), []);
        assert_eq!(links.opened(later, id(4), peer, None, false), [], "we dialled");
        assert_eq!(links.opened(later, id(5), peer, None, true), [id(1), id(2)]);
        links.closed(id(1));
        links.closed(id(2));
        assert_eq!(links.opened(later, id(6), peer, None, true), []);
    }

    #[test]
    fn a_lost_address_takes_its_connections_along() {
        let (peer, now, id) = (PeerId::random(), Instant::now(), ConnectionId::new_unchecked);
        let mut links = Links::default();
        let loopback = local_towards(([127, 0, 0, 1], 9).into());
        assert_eq!(loopback, Some([127, 0, 0, 1].into()));
        links.opened(now, id(1), peer, loopback, false);
        links.opened(now, id(2), peer, Some([10, 0, 0, 2].into()), true);
        links.opened(now, id(3), peer, None, false);
        assert_eq!(links.with_address([127, 0, 0, 1].into()), [id(1)]);
    }
}
