//! One agent: the state machine and everything around it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dmc_protocol::id::{JobId, TaskId};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::record::{JobState, Record};
use dmc_protocol::time::Time;

use crate::executor::Io;
use crate::faults::{Habit, Lie, Span};
use crate::liar::Liar;
use crate::oracle::Disk;
use crate::world::Event;

/// A monotonic clock that only its agent knows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    born: u64,
    percent: u64,
    ahead: u64,
}

impl Clock {
    /// Begins at zero; so many per cent of the true time pass.
    pub fn new(now: u64, percent: u64) -> Clock {
        Clock { born: now, percent, ahead: 0 }
    }

    /// What it shows.
    pub fn time(&self, now: u64) -> Time {
        Time(now.saturating_sub(self.born) * self.percent / 100 + self.ahead)
    }

    /// It jumps ahead.
    pub fn jump(&mut self, ms: u64) {
        self.ahead += ms;
    }

    /// It stood still for the last so many milliseconds.
    pub fn stood(&mut self, ms: u64) {
        self.born += ms;
    }
}

/// A sleep of the agent.
#[derive(Debug)]
pub struct Sleep {
    /// When it began.
    pub since: u64,
    /// Whether its tools sleep, too.
    pub tools: bool,
    /// Whether its clock stands still.
    pub clock: bool,
    /// What reached it meanwhile.
    pub backlog: Vec<Event>,
}

/// What an agent keeps of a job of its own that is over.
#[derive(Debug)]
pub struct Past {
    /// How it ended.
    pub state: JobState,
    /// Its records at that time.
    pub records: Vec<Record>,
}

/// One agent. An honest one has a `mesh` while it runs; a liar has a `liar`.
#[derive(Debug)]
pub struct Agent {
    /// The state machine, while it runs.
    pub mesh: Option<Mesh>,
    /// What speaks in its stead.
    pub liar: Option<Liar>,
    /// How often it was started.
    pub boot: u64,
    /// Its clock.
    pub clock: Clock,
    /// Its records, as they are durable.
    pub disk: Disk,
    /// Records of jobs that are over and may be tried again: no start reads them.
    pub shelf: Disk,
    /// What is kept of its own jobs that left the memory.
    pub past: BTreeMap<JobId, Past>,
    /// Its long work and its files.
    pub io: Io,
    /// Inputs that wait for a commit.
    pub inbox: VecDeque<Input>,
    /// What is being made durable, and then done.
    pub group: Option<Vec<Output>>,
    /// Crash after so many more commits and outputs.
    pub dies_after: Option<(u64, Span)>,
    /// It never comes back.
    pub dead: bool,
    /// It has stopped on purpose and will not listen any more.
    pub deaf: bool,
    /// It sleeps.
    pub sleep: Option<Sleep>,
    /// No room for files until then.
    pub full_until: u64,
    /// Whether it says that there is none.
    pub said_full: bool,
    /// No room for records until then.
    pub state_full_until: u64,
    /// Tasks that it has had done another way.
    pub redone: BTreeSet<TaskId>,
    /// How it differs.
    pub habits: Vec<Habit>,
}

impl Agent {
    /// One that has never run.
    pub fn new(habits: Vec<Habit>) -> Agent {
        Agent {
            mesh: None,
            liar: None,
            boot: 0,
            clock: Clock::default(),
            disk: Disk::new(),
            shelf: Disk::new(),
            past: BTreeMap::new(),
            io: Io::default(),
            inbox: VecDeque::new(),
            group: None,
            dies_after: None,
            dead: false,
            deaf: false,
            sleep: None,
            full_until: 0,
            said_full: false,
            state_full_until: 0,
            redone: BTreeSet::new(),
            habits,
        }
    }

    /// What is on its disk, the shelf included.
    pub fn records(&self) -> Disk {
        let mut records = self.shelf.clone();
        records.extend(self.disk.iter().map(|(key, record)| (*key, record.clone())));
        records
    }

    /// The same, and what is kept of jobs that cannot be tried again.
    pub fn records_ever(&self) -> Disk {
        let past = self.past.values().flat_map(|past| &past.records);
        let mut records: Disk = past.map(|record| (record.key(), record.clone())).collect();
        records.append(&mut self.records());
        records
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.mesh.is_some() || self.liar.is_some()
    }

    /// Whether it has this habit.
    pub fn has(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    /// How it lies, if it does.
    pub fn lie(&self) -> Option<Lie> {
        self.habits.iter().find_map(|habit| match habit {
            Habit::Lies(lie) => Some(*lie),
            _ => None,
        })
    }

    /// The build of its encoder.
    pub fn build(&self) -> u8 {
        let mut builds = self.habits.iter().filter_map(|habit| match habit {
            Habit::Build(build) => Some(*build),
            _ => None,
        });
        builds.next_back().unwrap_or(0)
    }

    /// How many times longer it takes.
    pub fn slowness(&self) -> u64 {
        let slow = self.habits.iter().find_map(|habit| match habit {
            Habit::Slow(times) => Some(*times),
            _ => None,
        });
        slow.unwrap_or(1)
    }

    /// How much of the true time its clock shows.
    pub fn clock_percent(&self) -> u64 {
        let percent = self.habits.iter().find_map(|habit| match habit {
            Habit::Clock(percent) => Some(*percent),
            _ => None,
        });
        percent.unwrap_or(100)
    }

    /// How long a commit may take.
    pub fn commit_ms(&self) -> Span {
        let slow = self.habits.iter().find_map(|habit| match habit {
            Habit::SlowDisk(ms) => Some((0, *ms)),
            _ => None,
        });
        slow.unwrap_or((0, 3))
    }
}
