//! How many blob streams of peers are served at a time, and what was refused from each peer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dmc_protocol::id::AgentId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Streams of one peer: four for each blob that it fetches at a time.
const STREAMS_OF_PEER: usize = 64;
/// Streams of all peers; each has a chunk in memory.
const STREAMS: usize = 256;

/// Streams that are served.
#[derive(Debug)]
pub(super) struct Serving {
    all: Arc<Semaphore>,
    peers: BTreeMap<AgentId, Arc<Semaphore>>,
}

/// The place of one stream, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl Default for Serving {
    fn default() -> Serving {
        Serving { all: Arc::new(Semaphore::new(STREAMS)), peers: BTreeMap::new() }
    }
}

impl Serving {
    /// A place for one more stream of a peer; `None` when it has too many, or all together have.
    pub(super) fn place(&mut self, peer: AgentId) -> Option<Place> {
        self.peers.retain(|_, of_peer| of_peer.available_permits() < STREAMS_OF_PEER);
        let of_peer = self.peers.entry(peer);
        let of_peer = of_peer.or_insert_with(|| Arc::new(Semaphore::new(STREAMS_OF_PEER)));
        let of_peer = Arc::clone(of_peer).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Place { _of_all: of_all, _of_peer: of_peer })
    }
}

/// How often something of a peer was refused on the wire: frames that are none, wrong bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Refused(Arc<Mutex<BTreeMap<AgentId, u64>>>);

/// Peers that are counted; those beyond are not.
const PEERS_MAX: usize = 4_096;

impl Refused {
    pub(super) fn count(&self, peer: AgentId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < PEERS_MAX || all.contains_key(&peer) {
            let count = all.entry(peer).or_default();
            *count = count.saturating_add(1);
        }
    }

    pub(super) fn of(&self, peer: AgentId) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&peer).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_all_places_and_all_cannot_take_more() {
        let mut serving = Serving::default();
        let peer = |n: u8| AgentId([n; 32]);
        let mut places = Vec::new();
        while let Some(place) = serving.place(peer(0)) {
            places.push(place);
        }
        assert_eq!(places.len(), STREAMS_OF_PEER);
        for n in 1..=255 {
            places.extend((0..8).filter_map(|_| serving.place(peer(n))));
        }
        assert_eq!(places.len(), STREAMS);
        assert!(serving.place(peer(9)).is_none());
        places.clear();
        assert!(serving.place(peer(0)).is_some());
        assert!(serving.peers.len() < 3, "peers that have no stream are forgotten");
    }
}
