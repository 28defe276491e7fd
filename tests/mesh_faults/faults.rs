//! What can happen to hosts, and the dice that choose.

use std::fmt;
use std::time::Duration;

use dmc_tests::rng::Rng;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// kill -9 of an owner's agent; its encoders live on.
    KillOwner,
    /// kill -9 of a worker's agent; its encoders live on.
    KillWorker,
    /// kill -9 of an owner's agent and of a worker's.
    KillBoth,
    /// An owner's host loses its power: the agent and its encoders are gone.
    PowerOwner,
    /// A worker's host loses its power.
    PowerWorker,
    /// SIGTERM, and a start.
    Restart,
    /// A host sleeps: SIGSTOP of all its processes, SIGCONT later.
    Sleep,
    /// Two hosts do not hear each other.
    Part,
    /// A host hears nobody.
    Alone,
    /// The cable of a host is pulled and plugged in, some times in a row.
    Flap,
    /// A host gets another address.
    Address,
    /// The disk with a host's state is full.
    StateFull,
    /// The disk for a host's results is full.
    OutFull,
    /// A bit of a blob of a host flips.
    Corrupt,
}

impl Kind {
    /// All of them, with how often each comes among hundred.
    pub const ALL: &[(Kind, u64)] = &[
        (Kind::KillOwner, 18),
        (Kind::KillWorker, 18),
        (Kind::KillBoth, 8),
        (Kind::PowerOwner, 6),
        (Kind::PowerWorker, 6),
        (Kind::Restart, 8),
        (Kind::Sleep, 8),
        (Kind::Part, 6),
        (Kind::Alone, 6),
        (Kind::Flap, 5),
        (Kind::Address, 4),
        (Kind::StateFull, 3),
        (Kind::OutFull, 2),
        (Kind::Corrupt, 2),
    ];

    /// The kills of processes alone.
    pub const KILLS: &[(Kind, u64)] = &[
        (Kind::KillOwner, 36),
        (Kind::KillWorker, 36),
        (Kind::KillBoth, 12),
        (Kind::PowerOwner, 8),
        (Kind::PowerWorker, 8),
    ];

    /// Draws one.
    pub fn draw(table: &[(Kind, u64)], rng: &mut Rng) -> Kind {
        let all: u64 = table.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.within((0, all - 1));
        for (kind, weight) in table {
            if at < *weight {
                return *kind;
            }
            at -= weight;
        }
        table[0].0
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.iter().map(|(kind, _)| *kind).find(|kind| kind.to_string() == name)
    }

    /// How long it lasts.
    pub fn lasts(self, rng: &mut Rng) -> Duration {
        let range = match self {
            Kind::Sleep | Kind::Part | Kind::Alone => (500, 9_000),
            Kind::StateFull | Kind::OutFull => (1_000, 6_000),
            Kind::Flap | Kind::Address | Kind::Corrupt => (0, 0),
            _ => (0, 3_000),
        };
        Duration::from_millis(rng.within(range))
    }

    /// Whether it aims at the owner of a job.
    pub fn aims_at_owner(self) -> bool {
        matches!(self, Kind::KillOwner | Kind::KillBoth | Kind::PowerOwner | Kind::OutFull)
    }

    /// Whether it aims at a host that owns nothing.
    pub fn aims_at_worker(self) -> bool {
        matches!(self, Kind::KillWorker | Kind::PowerWorker)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::KillOwner => "kill-owner",
            Kind::KillWorker => "kill-worker",
            Kind::KillBoth => "kill-both",
            Kind::PowerOwner => "power-owner",
            Kind::PowerWorker => "power-worker",
            Kind::Restart => "restart",
            Kind::Sleep => "sleep",
            Kind::Part => "part",
            Kind::Alone => "alone",
            Kind::Flap => "flap",
            Kind::Address => "address",
            Kind::StateFull => "state-full",
            Kind::OutFull => "out-full",
            Kind::Corrupt => "corrupt",
        })
    }
}
