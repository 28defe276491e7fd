//! Whom to dial, and when again: an address book with back-off. Pure; time is an input.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// How long the side with the larger id leaves the first dial to the other one, so that two agents
/// that discover each other at the same moment do not make two connections.
const POLITE_DELAY: Duration = Duration::from_millis(1_500);
/// Addresses kept for one peer; the oldest go first.
const ADDRESSES_MAX: usize = 16;
/// Peers and bare addresses in the book.
const ENTRIES_MAX: usize = 4_096;

/// Somebody to dial.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// A peer whose id is known.
    Peer(PeerId),
    /// An address whose peer is not known yet (`--peer`).
    Address(Multiaddr),
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Multiaddr>,
    /// An address that a person gave stays when discovery withdraws the peer.
    permanent: bool,
    connected: bool,
    delay: Duration,
    next: Instant,
}

/// The address book.
#[derive(Debug)]
pub(super) struct Dialer {
    me: PeerId,
    entries: BTreeMap<Target, Entry>,
}

impl Dialer {
    pub(super) fn new(me: PeerId) -> Dialer {
        Dialer { me, entries: BTreeMap::new() }
    }

    /// Adds addresses. New ones of a peer that is not connected are tried soon.
    pub(super) fn know(&mut self, now: Instant, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        if peer == Some(self.me) || self.entries.len() >= ENTRIES_MAX {
            return;
        }
        let Some(peer) = peer else {
            for address in addresses {
                let entry = Entry {
                    addresses: vec![address.clone()],
                    permanent: true,
                    connected: false,
                    delay: FIRST_DELAY,
                    next: now,
                };
                self.entries.entry(Target::Address(address)).or_insert(entry);
            }
            return;
        };
        let wait = if peer < self.me { POLITE_DELAY } else { Duration::ZERO };
        let entry = self.entries.entry(Target::Peer(peer)).or_insert_with(|| Entry {
            addresses: Vec::new(),
            permanent: false,
            connected: false,
            delay: FIRST_DELAY,
            next: now + wait,
        });
        for address in addresses {
            if !entry.addresses.contains(&address) {
                entry.addresses.push(address);
                entry.next = entry.next.min(now + wait);
                entry.delay = FIRST_DELAY;
            }
        }
        let too_many = entry.addresses.len().saturating_sub(ADDRESSES_MAX);
        entry.addresses.drain(..too_many);
    }

    pub(super) fn forget(&mut self, peer: PeerId) {
        let target = Target::Peer(peer);
        if self.entries.get(&target).is_some_and(|entry| !entry.permanent && !entry.connected) {
            self.entries.remove(&target);
        }
    }

    /// A connection was made. The address that was dialled belongs to this peer from now on.
    pub(super) fn connected(&mut self, now: Instant, peer: PeerId, dialled: Option<&Multiaddr>) {
        if let Some(address) = dialled {
            let bare = without_peer(address);
            let permanent = self.entries.remove(&Target::Address(bare.clone())).is_some();
            self.know(now, Some(peer), vec![bare]);
            if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
                entry.permanent |= permanent;
            }
        }
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            entry.connected = true;
            entry.delay = FIRST_DELAY;
        }
    }

    /// The last connection closed: dial again, soon and then ever more rarely.
    pub(super) fn disconnected(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            entry.connected = false;
            entry.next = now + if peer < self.me { POLITE_DELAY } else { FIRST_DELAY };
        }
    }

    /// Somebody else answers at the address of a peer: it was reinstalled, or its address was given
    /// away. An address that a person named is dialled again, whoever is there.
    pub(super) fn is_another(&mut self, now: Instant, peer: PeerId, address: &Multiaddr) {
        let bare = without_peer(address);
        let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) else { return };
        entry.addresses.retain(|known| *known != bare);
        if entry.permanent {
            self.know(now, None, vec![bare]);
        }
    }

    /// An address turned out to be this agent itself.
    pub(super) fn is_self(&mut self, address: &Multiaddr) {
        self.entries.remove(&Target::Address(address.clone()));
    }

    /// Everybody who is to be dialled now; each gets its next time, twice as far away.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Target, Vec<Multiaddr>)> {
        let due = self.entries.iter_mut().filter(|(_, entry)| {
            !entry.connected && entry.next <= now && !entry.addresses.is_empty()
        });
        due.map(|(target, entry)| {
            entry.next = now + entry.delay;
            entry.delay = (entry.delay * 2).min(LONGEST_DELAY);
            (target.clone(), entry.addresses.clone())
        })
        .collect()
    }
}

fn without_peer(address: &Multiaddr) -> Multiaddr {
    let parts = address.iter();
    parts.filter(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        super::super::multiaddr(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn an_address_becomes_its_peer_and_is_redialled_with_backoff() {
        let (me, other) = (PeerId::random(), PeerId::random());
        let mut dialer = Dialer::new(me);
        let t0 = Instant::now();
        dialer.know(t0, None, vec![address(1)]);
        assert_eq!(dialer.due(t0).len(), 1);
        dialer.connected(t0, other, Some(&address(1)));
        assert!(dialer.due(t0 + LONGEST_DELAY).is_empty(), "connected");
        dialer.disconnected(t0, other);
        let late = t0 + POLITE_DELAY;
        assert_eq!(dialer.due(late), vec![(Target::Peer(other), vec![address(1)])]);
        assert!(dialer.due(late).is_empty(), "backs off");
        dialer.forget(other);
        assert_eq!(dialer.due(late + FIRST_DELAY).len(), 1, "a person's address stays");
        dialer.is_another(late, other, &address(1));
        let due = dialer.due(late + LONGEST_DELAY);
        assert_eq!(due, vec![(Target::Address(address(1)), vec![address(1)])], "a new agent there");
    }

    #[test]
    fn own_addresses_are_not_dialled() {
        let me = PeerId::random();
        let mut dialer = Dialer::new(me);
        dialer.know(Instant::now(), Some(me), vec![address(1)]);
        assert!(dialer.due(Instant::now()).is_empty());
    }
}
