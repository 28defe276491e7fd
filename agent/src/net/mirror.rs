//! Connections between this agent and itself. Pure; time is an input.
//!
//! An agent that dials its own address by mistake sees both ends of the connection. When only one
//! end is here, the other belongs to an agent that has the same identity: a copied data directory.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Both ends of one connection are seen within this time.
const SPAN: Duration = Duration::from_secs(3);
/// Ends that wait for the other one; more say nothing new.
const ENDS_MAX: usize = 64;

/// Ends of connections whose other end has this agent's identity.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    dialled: Vec<(Instant, SocketAddr)>,
    accepted: Vec<(Instant, SocketAddr)>,
}

impl Mirror {
    /// This agent dialled, and its own key answered.
    pub(super) fn dialled(&mut self, now: Instant, at: SocketAddr) {
        if self.dialled.len() < ENDS_MAX {
            self.dialled.push((now, at));
        }
    }

    /// Somebody with this agent's key connected.
    pub(super) fn accepted(&mut self, now: Instant, from: SocketAddr) {
        if self.accepted.len() < ENDS_MAX {
            self.accepted.push((now, from));
        }
    }

    /// Whether there is nothing to be judged.
    pub(super) fn is_empty(&self) -> bool {
        self.dialled.is_empty() && self.accepted.is_empty()
    }

    /// Where another agent with this one's identity turned out to be.
    pub(super) fn twins(&mut self, now: Instant) -> Vec<SocketAddr> {
        let near = |a: Instant, b: Instant| a.max(b).duration_since(a.min(b)) < SPAN;
        // A mistake: both ends are here.
        while let Some((d, a)) = self.dialled.iter().enumerate().find_map(|(d, (at, _))| {
            let other = self.accepted.iter().position(|(other, _)| near(*at, *other));
            other.map(|a| (d, a))
        }) {
            self.dialled.remove(d);
            self.accepted.remove(a);
        }
        let mut twins = Vec::new();
        for ends in [&mut self.dialled, &mut self.accepted] {
            let old = |at: Instant| now.duration_since(at) >= SPAN;
            twins.extend(ends.iter().filter(|(at, _)| old(*at)).map(|(_, addr)| *addr));
            ends.retain(|(at, _)| !old(*at));
        }
        twins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_address_is_a_mistake_and_a_strange_one_a_twin() {
        let t0 = Instant::now();
        let (own, other) = (([127, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 2).into());
        let mut mirror = Mirror::default();
        mirror.dialled(t0, own);
        mirror.accepted(t0 + Duration::from_millis(50), own);
        assert_eq!(mirror.twins(t0 + SPAN * 2), []);
        mirror.dialled(t0, other);
        assert_eq!(mirror.twins(t0), [], "its other end may still show");
        assert_eq!(mirror.twins(t0 + SPAN), [other]);
        mirror.accepted(t0, other);
        assert_eq!(mirror.twins(t0 + SPAN), [other]);
        assert_eq!(mirror.twins(t0 + SPAN), [], "said once");
    }
}
