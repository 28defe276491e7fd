//! When each peer was last heard, on whatever stream. A slow line that is full of one blob may keep
//! other streams waiting for long: as long as bytes come, the peer is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dmc_protocol::id::AgentId;
use tokio::time::Instant;

/// Shared by all streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<AgentId, Instant>>>);

impl Heard {
    /// Bytes came from a peer.
    pub(super) fn touch(&self, peer: AgentId) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(peer, Instant::now());
    }

    /// When bytes came last, if ever while it is connected.
    pub(super) fn last(&self, peer: AgentId) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&peer).copied()
    }

    /// The peer is not connected any more.
    pub(super) fn forget(&self, peer: AgentId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }
}
