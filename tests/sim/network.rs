//! Connections between agents: latency, order, loss, breaks, walls.

use crate::faults::Road;
use crate::rng::Rng;

/// How much longer a message takes that others overtake.
const OVERTAKEN_MS: (u64, u64) = (100, 3_000);

/// One connection between two agents. Index 0 is the agent with the smaller number.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    up: bool,
    /// Raised when the connection breaks: what is on its way then is lost.
    epoch: u64,
    /// When the last message to each side arrives; later ones arrive later.
    last: [u64; 2],
    /// Who believes to be connected: breaks are noticed late, each side for itself.
    told: [bool; 2],
}

/// When a message arrives, perhaps twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The moments.
    pub at: [Option<u64>; 2],
    /// The connection that carries it.
    pub epoch: u64,
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    agents: usize,
    links: Vec<Link>,
    /// Sets of agents that nobody outside reaches, by a number of their own.
    walls: Vec<(u64, u32)>,
    /// How messages travel.
    pub road: Road,
}

fn side(at: usize, peer: usize) -> usize {
    usize::from(at > peer)
}

impl Network {
    /// Nobody is connected yet.
    pub fn new(agents: usize, road: Road) -> Network {
        Network { agents, links: vec![Link::default(); agents * agents], walls: Vec::new(), road }
    }

    fn link(&self, a: usize, b: usize) -> &Link {
        &self.links[a.min(b) * self.agents + a.max(b)]
    }

    fn link_mut(&mut self, a: usize, b: usize) -> &mut Link {
        &mut self.links[a.min(b) * self.agents + a.max(b)]
    }

    /// When a message arrives, and on which connection; `None` when it is lost.
    pub fn send(&mut self, now: u64, from: usize, to: usize, rng: &mut Rng) -> Option<Arrival> {
        let road = self.road;
        let lost = rng.chance(road.loss_percent) || self.is_walled(from, to);
        let latency = rng.within(road.latency_ms);
        let late = rng.chance(road.late_percent).then(|| rng.within(OVERTAKEN_MS));
        let twice = rng.chance(road.twice_percent).then(|| rng.within(OVERTAKEN_MS));
        let link = self.link_mut(from, to);
        if !link.up || lost {
            return None;
        }
        let last = &mut link.last[side(to, from)];
        let first = match late {
            Some(more) => now + latency + more,
            None => {
                *last = (now + latency).max(*last);
                *last
            }
        };
        Some(Arrival { at: [Some(first), twice.map(|more| first + more)], epoch: link.epoch })
    }

    /// Whether a message of this epoch still arrives.
    pub fn carries(&self, a: usize, b: usize, epoch: u64) -> bool {
        let link = self.link(a, b);
        link.up && link.epoch == epoch && !self.is_walled(a, b)
    }

    /// Whether bytes pass between the two.
    pub fn connected(&self, a: usize, b: usize) -> bool {
        a == b || (self.link(a, b).up && !self.is_walled(a, b))
    }

    /// Whether there is a connection, be it dead or not.
    pub fn is_up(&self, a: usize, b: usize) -> bool {
        self.link(a, b).up
    }

    /// Connects the two; `false` when they are connected already or cannot be.
    pub fn connect(&mut self, a: usize, b: usize) -> bool {
        if self.is_walled(a, b) {
            return false;
        }
        !std::mem::replace(&mut self.link_mut(a, b).up, true)
    }

    /// Breaks the connection; returns its new epoch when there was one.
    pub fn cut(&mut self, a: usize, b: usize) -> Option<u64> {
        let link = self.link_mut(a, b);
        if !link.up {
            return None;
        }
        link.up = false;
        link.epoch += 1;
        Some(link.epoch)
    }

    /// The connection's epoch.
    pub fn epoch(&self, a: usize, b: usize) -> u64 {
        self.link(a, b).epoch
    }

    /// Whether the break of this epoch is still the last thing that happened to the connection.
    pub fn is_down_since(&self, a: usize, b: usize, epoch: u64) -> bool {
        let link = self.link(a, b);
        !link.up && link.epoch == epoch
    }

    /// Nothing passes between this set of agents and the others until the wall falls.
    pub fn build_wall(&mut self, number: u64, set: u32) {
        self.walls.push((number, set));
    }

    /// The wall falls.
    pub fn tear_down_wall(&mut self, number: u64) {
        self.walls.retain(|(of, _)| *of != number);
    }

    /// Whether a wall stands between the two.
    pub fn is_walled(&self, a: usize, b: usize) -> bool {
        self.walls.iter().any(|(_, set)| (set >> a) & 1 != (set >> b) & 1)
    }

    /// Notes what `at` believes of `peer`; returns whether that is new.
    pub fn tell(&mut self, at: usize, peer: usize, up: bool) -> bool {
        let told = &mut self.link_mut(at, peer).told[side(at, peer)];
        std::mem::replace(told, up) != up
    }
}
