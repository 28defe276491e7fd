//! Whom to dial, and when again: an address book with back-off. Pure; time is an input.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dmc_protocol::id::AgentId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

/// Pause before the second dial; each further one is longer.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Whoever was there a while ago is likely to come back: a cable, a lid, a restart.
const LONGEST_DELAY_AT_FIRST: Duration = Duration::from_secs(6);
/// How long that lasts.
const AT_FIRST: Duration = Duration::from_secs(600);
/// The same for a peer that discovery does not see any more.
const AT_FIRST_WITHDRAWN: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A peer that discovery does not see any more is forgotten after so long without a connection.
const WITHDRAWN_KEPT: Duration = Duration::from_secs(3_600);
/// Dials that are begun at a time. A thousand peers that come back at once take some seconds.
const DIALS_AT_ONCE: usize = 16;
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
    /// Discovery saw it go; it may be wrong, and is no reason not to try.
    withdrawn: bool,
    /// Since when it is not connected.
    lost: Instant,
    delay: Duration,
    /// Whether the connection that it has, or had last, was of use.
    well: bool,
    /// When it is dialled next, and when it was last.
    next: Instant,
    dialled: Option<Instant>,
}

impl Entry {
    fn new(now: Instant, next: Instant, permanent: bool) -> Entry {
        Entry {
            addresses: Vec::new(),
            permanent,
            withdrawn: false,
            lost: now,
            delay: FIRST_DELAY,
            well: false,
            next,
            dialled: None,
        }
    }

    fn longest_delay(&self, now: Instant) -> Duration {
        let at_first = if self.withdrawn { AT_FIRST_WITHDRAWN } else { AT_FIRST };
        let fresh = now.duration_since(self.lost) < at_first;
        if fresh { LONGEST_DELAY_AT_FIRST } else { LONGEST_DELAY }
    }

    /// A sign that a dial may succeed now.
    fn hurry(&mut self, now: Instant, wait: Duration) {
        self.delay = FIRST_DELAY;
        // Signs may come in dozens.
        let soon = self.dialled.map_or(now, |at| now.max(at + FIRST_DELAY));
        self.next = self.next.min(soon + wait);
    }
}

/// The address book.
#[derive(Debug)]
pub(super) struct Dialer {
    me: PeerId,
    entries: BTreeMap<Target, Entry>,
    connected: BTreeSet<PeerId>,
    /// Spreads the dials of many agents and to many peers; the own id begins the series.
    noise: u64,
}

impl Dialer {
    pub(super) fn new(me: PeerId) -> Dialer {
        let id = me.to_bytes();
        let noise = id.iter().fold(1, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte));
        Dialer { me, entries: BTreeMap::new(), connected: BTreeSet::new(), noise }
    }

    /// Adds addresses. A peer that is seen, and is not connected, is tried soon.
    pub(super) fn know(&mut self, now: Instant, peer: Option<PeerId>, addresses: Vec<Multiaddr>) {
        if peer == Some(self.me) {
            return;
        }
        let Some(peer) = peer else {
            for address in addresses {
                let target = Target::Address(address.clone());
                if self.entries.len() < ENTRIES_MAX || self.entries.contains_key(&target) {
                    let entry = self.entries.entry(target);
                    entry.or_insert_with(|| Entry::new(now, now, true)).addresses = vec![address];
                }
            }
            return;
        };
        let wait = self.politeness(peer);
        if let Some(entry) = self.enter(now, peer, addresses) {
            entry.withdrawn = false;
            entry.hurry(now, wait);
        }
    }

    /// Keeps addresses of a peer; `None` when the book is full.
    fn enter(&mut self, now: Instant, peer: PeerId, found: Vec<Multiaddr>) -> Option<&mut Entry> {
        let (target, wait) = (Target::Peer(peer), self.politeness(peer));
        if self.entries.len() >= ENTRIES_MAX && !self.entries.contains_key(&target) {
            return None;
        }
        let entry = self.entries.entry(target);
        let entry = entry.or_insert_with(|| Entry::new(now, now + wait, false));
        // The newest last: the oldest go first.
        entry.addresses.retain(|known| !found.contains(known));
        entry.addresses.extend(found);
        let too_many = entry.addresses.len().saturating_sub(ADDRESSES_MAX);
        entry.addresses.drain(..too_many);
        Some(entry)
    }

    fn politeness(&self, peer: PeerId) -> Duration {
        if peer < self.me { POLITE_DELAY } else { Duration::ZERO }
    }

    /// The peer withdrew its announcement, or its announcement was not heard for a while.
    pub(super) fn forget(&mut self, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            entry.withdrawn = true;
        }
    }

    /// The own addresses changed: whoever could not be reached may be reachable now. Spread over
    /// a second.
    pub(super) fn hurry(&mut self, now: Instant) {
        let noise = &mut self.noise;
        for entry in self.entries.values_mut() {
            entry.hurry(now, spread(noise, Duration::from_millis(500)));
        }
    }

    /// A connection was made. The address that was dialled belongs to this peer from now on.
    pub(super) fn connected(&mut self, now: Instant, peer: PeerId, dialled: Option<&Multiaddr>) {
        self.connected.insert(peer);
        if let Some(address) = dialled {
            let bare = without_peer(address);
            let permanent = self.entries.remove(&Target::Address(bare.clone())).is_some();
            if let Some(entry) = self.enter(now, peer, vec![bare]) {
                entry.permanent |= permanent;
            }
        }
    }

    /// The connection is of use: the peer speaks with us.
    pub(super) fn is_well(&mut self, peer: AgentId) {
        let Some(peer) = crate::identity::peer_id(peer) else { return };
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            (entry.well, entry.delay, entry.dialled) = (true, FIRST_DELAY, None);
        }
    }

    /// The peer does not want to speak with us, or cannot: it is tried again rarely, until there is a
    /// sign that this may have changed.
    pub(super) fn is_refused(&mut self, now: Instant, peer: PeerId) {
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            entry.well = false;
            entry.delay = LONGEST_DELAY;
            entry.next = now + spread(&mut self.noise, LONGEST_DELAY);
        }
    }

    /// The peer is none any more.
    pub(super) fn drop_peer(&mut self, peer: PeerId) {
        self.entries.remove(&Target::Peer(peer));
    }

    /// The last connection closed: dial again, soon and then ever more rarely.
    pub(super) fn disconnected(&mut self, now: Instant, peer: PeerId) {
        self.connected.remove(&peer);
        let wait = self.politeness(peer) + spread(&mut self.noise, FIRST_DELAY / 2);
        if let Some(entry) = self.entries.get_mut(&Target::Peer(peer)) {
            // One that shuts us out at once is not dialled again at once.
            if std::mem::take(&mut entry.well) {
                (entry.lost, entry.next) = (now, now + wait);
            }
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

    /// When somebody is to be dialled next, as things stand.
    pub(super) fn next(&self) -> Option<Instant> {
        let waits = |(target, entry): (&Target, &Entry)| {
            let connected = matches!(target, Target::Peer(peer) if self.connected.contains(peer));
            (!connected && !entry.addresses.is_empty()).then_some(entry.next)
        };
        self.entries.iter().filter_map(waits).min()
    }

    /// Who is to be dialled now, those first that wait longest; each gets its next time, about
    /// twice as far away.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Target, Vec<Multiaddr>)> {
        let connected = &self.connected;
        let is_connected =
            |target: &Target| matches!(target, Target::Peer(peer) if connected.contains(peer));
        self.entries.retain(|target, entry| {
            let gone = entry.withdrawn && !entry.permanent && !is_connected(target);
            !(gone && now.duration_since(entry.lost) > WITHDRAWN_KEPT)
        });
        let due = self.entries.iter_mut().filter(|(target, entry)| {
            entry.next <= now && !entry.addresses.is_empty() && !is_connected(target)
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(_, entry)| entry.next);
        due.truncate(DIALS_AT_ONCE);
        let noise = &mut self.noise;
        let dial = due.into_iter().map(|(target, entry)| {
            entry.next = now + spread(noise, entry.delay);
            entry.dialled = Some(now);
            entry.delay = (entry.delay * 2).min(entry.longest_delay(now));
            (target.clone(), entry.addresses.clone())
        });
        dial.collect()
    }
}

/// Between 3/4 and 5/4 of a time.
fn spread(noise: &mut u64, around: Duration) -> Duration {
    // An xorshift: this only has to differ between agents and from time to time.
    *noise ^= *noise << 13;
    *noise ^= *noise >> 7;
    *noise ^= *noise << 17;
    around * 3 / 4 + around / 2 * u32::try_from(*noise % 1_000).unwrap_or(0) / 1_000
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
        assert_eq!(dialer.next(), Some(t0));
        assert_eq!(dialer.due(t0).len(), 1);
        assert!(dialer.next().is_some_and(|next| next > t0), "again, later");
        dialer.connected(t0, other, Some(&address(1)));
        assert_eq!(dialer.next(), None, "nobody is left to dial");
        assert!(dialer.due(t0 + LONGEST_DELAY).is_empty(), "connected");
        dialer.know(t0, Some(other), vec![address(1)]);
        assert!(dialer.due(t0 + LONGEST_DELAY).is_empty(), "seen while connected");
        dialer.disconnected(t0, other);
        let late = t0 + POLITE_DELAY + FIRST_DELAY;
        assert!(dialer.next().is_some_and(|next| next <= late));
        assert_eq!(dialer.due(late), vec![(Target::Peer(other), vec![address(1)])]);
        assert!(dialer.due(late).is_empty(), "backs off");
        dialer.is_another(late, other, &address(1));
        let due = dialer.due(late + LONGEST_DELAY);
        assert_eq!(due, vec![(Target::Address(address(1)), vec![address(1)])], "a new agent there");
    }

    #[test]
    fn one_that_cannot_speak_with_us_is_dialled_rarely_although_it_is_there() {
        let other = libp2p::identity::Keypair::generate_ed25519().public().to_peer_id();
        let id = super::super::agent(&other).unwrap();
        let mut dialer = Dialer::new(PeerId::random());
        let t0 = Instant::now();
        dialer.know(t0, Some(other), vec![address(1)]);
        dialer.connected(t0, other, None);
        dialer.is_well(id);
        dialer.is_refused(t0, other);
        dialer.disconnected(t0, other);
        assert!(dials(&mut dialer, t0, 40).is_empty(), "not for 45 s at least");
        dialer.know(t0, Some(other), vec![address(2)]);
        assert!(!dials(&mut dialer, t0, 5).is_empty(), "it is announced anew");
    }

    /// Dials of one peer within a time, looked at every 250 ms.
    fn dials(dialer: &mut Dialer, from: Instant, seconds: u32) -> Vec<Duration> {
        let times = (0..seconds * 4).map(|n| Duration::from_millis(250) * n);
        times.filter(|after| !dialer.due(from + *after).is_empty()).collect()
    }

    fn longest_gap(dials: &[Duration]) -> Duration {
        dials.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    #[test]
    fn a_lost_peer_is_dialled_often_at_first_and_then_rarely() {
        let other = PeerId::random();
        let mut dialer = Dialer::new(PeerId::random());
        let t0 = Instant::now();
        dialer.know(t0, Some(other), vec![address(1)]);
        dialer.connected(t0, other, None);
        dialer.disconnected(t0, other);
        let first = dials(&mut dialer, t0, 590);
        assert!(longest_gap(&first) <= Duration::from_secs(8), "{first:?}");
        assert!((70..200).contains(&first.len()), "{}", first.len());
        let later = t0 + AT_FIRST + Duration::from_secs(120);
        let then = dials(&mut dialer, later, 1_200);
        assert!((15..30).contains(&then.len()), "{then:?}");
        // A sign of life at any time begins anew.
        let seen = later + Duration::from_secs(1_200);
        dialer.know(seen, Some(other), vec![address(1)]);
        assert_eq!(dialer.due(seen + POLITE_DELAY).len(), 1);
        dialer.hurry(seen + FIRST_DELAY * 4);
        assert_eq!(dialer.due(seen + FIRST_DELAY * 5).len(), 1, "the own address changed");
    }

    #[test]
    fn a_peer_that_discovery_misses_is_still_dialled_and_forgotten_in_the_end() {
        let other = PeerId::random();
        let mut dialer = Dialer::new(PeerId::random());
        let t0 = Instant::now();
        dialer.know(t0, Some(other), vec![address(1)]);
        dialer.connected(t0, other, None);
        dialer.disconnected(t0, other);
        dialer.forget(other);
        let first = dials(&mut dialer, t0, 50);
        assert!(longest_gap(&first) <= Duration::from_secs(8), "{first:?}");
        dials(&mut dialer, t0 + AT_FIRST_WITHDRAWN, 60);
        let then = dials(&mut dialer, t0 + Duration::from_secs(300), 600);
        assert!(then.len() < 20, "{then:?}");
        let end = t0 + WITHDRAWN_KEPT + Duration::from_secs(1);
        assert!(dialer.due(end).is_empty() && dialer.entries.is_empty());
    }

    #[test]
    fn a_thousand_lost_peers_are_no_storm() {
        let mut dialer = Dialer::new(PeerId::random());
        let t0 = Instant::now();
        for n in 0..1_000 {
            let peer = PeerId::random();
            dialer.know(t0, Some(peer), vec![address(n)]);
            dialer.connected(t0, peer, None);
            dialer.disconnected(t0, peer);
        }
        let times = (0..400).map(|n| t0 + Duration::from_millis(250) * n);
        let dials: Vec<Vec<_>> = times.map(|at| dialer.due(at)).collect();
        assert!(dials.iter().all(|now| now.len() <= DIALS_AT_ONCE));
        let mut all: Vec<Target> = dials.into_iter().flatten().map(|(to, _)| to).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 1_000, "nobody is left out");
    }

    #[test]
    fn own_addresses_are_not_dialled() {
        let me = PeerId::random();
        let mut dialer = Dialer::new(me);
        dialer.know(Instant::now(), Some(me), vec![address(1)]);
        assert!(dialer.due(Instant::now()).is_empty());
    }
}
