//! Connections between agents: latency, order per direction, loss, breaks.

use std::collections::{BTreeMap, BTreeSet};

use crate::faults::Span;
use crate::rng::Rng;

const LATENCY_MS: Span = (1, 60);

/// One connection between two agents.
#[derive(Debug, Clone, Default)]
struct Link {
    up: bool,
    /// Raised when the connection breaks: what is on its way then is lost.
    epoch: u64,
    /// When the last message of each direction arrives; later ones arrive later.
    last: BTreeMap<usize, u64>,
}

/// All connections.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<(usize, usize), Link>,
    isolated: BTreeSet<usize>,
    /// Who believes to be connected to whom: breaks are noticed late, each side for itself.
    told_up: BTreeSet<(usize, usize)>,
    /// Messages that are lost.
    pub loss_percent: u64,
}

fn key(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    /// Nobody is connected yet.
    pub fn new(loss_percent: u64) -> Network {
        Network { loss_percent, ..Network::default() }
    }

    /// When a message arrives, and under which epoch; `None` when it is lost.
    pub fn send(&mut self, now: u64, from: usize, to: usize, rng: &mut Rng) -> Option<(u64, u64)> {
        let lost = rng.chance(self.loss_percent);
        let latency = rng.within(LATENCY_MS);
        let link = self.links.get_mut(&key(from, to)).filter(|link| link.up && !lost)?;
        let last = link.last.entry(to).or_default();
        *last = (now + latency).max(*last);
        Some((*last, link.epoch))
    }

    /// Whether a message of this epoch still arrives.
    pub fn carries(&self, a: usize, b: usize, epoch: u64) -> bool {
        self.links.get(&key(a, b)).is_some_and(|link| link.up && link.epoch == epoch)
    }

    /// Whether the two are connected.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        a == b || self.links.get(&key(a, b)).is_some_and(|link| link.up)
    }

    /// Connects the two; `false` when they are connected already or cannot be.
    pub fn connect(&mut self, a: usize, b: usize) -> bool {
        if self.isolated.contains(&a) || self.isolated.contains(&b) {
            return false;
        }
        let link = self.links.entry(key(a, b)).or_default();
        !std::mem::replace(&mut link.up, true)
    }

    /// Breaks the connection; returns its new epoch when there was one.
    pub fn cut(&mut self, a: usize, b: usize) -> Option<u64> {
        let link = self.links.get_mut(&key(a, b)).filter(|link| link.up)?;
        link.up = false;
        link.epoch += 1;
        Some(link.epoch)
    }

    /// Whether the break of this epoch is still the last thing that happened to the connection.
    pub fn is_down_since(&self, a: usize, b: usize, epoch: u64) -> bool {
        self.links.get(&key(a, b)).is_some_and(|link| !link.up && link.epoch == epoch)
    }

    /// Keeps the agent from connecting to anybody, or lets it again.
    pub fn isolate(&mut self, agent: usize, isolated: bool) {
        match isolated {
            true => self.isolated.insert(agent),
            false => self.isolated.remove(&agent),
        };
    }

    /// Notes what `at` believes of `peer`; returns what it believed before.
    pub fn tell(&mut self, at: usize, peer: usize, up: bool) -> bool {
        if up { !self.told_up.insert((at, peer)) } else { self.told_up.remove(&(at, peer)) }
    }
}
