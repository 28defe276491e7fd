//! The discrete-event world: agents with disks and tools, one clock, one queue of events.

mod judge;
mod people;
mod step;
mod tools;
mod trouble;

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use dmc_protocol::config::Config;
use dmc_protocol::id::TaskId;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::Message;

use crate::agent::{Agent, Clock};
use crate::executor::WorkKey;
use crate::faults::{Fault, Habit, Scenario, Span, Story};
use crate::fixture;
use crate::ledger::{Cost, Ledger};
use crate::liar::{Liar, Rumour};
use crate::network::Network;
use crate::oracle::Oracle;
use crate::rng::Rng;

const TICK_MS: u64 = 1_000;
/// After a start, and when a commit is under way, it is looked so much later whether a job is over.
const RETIRE_AGAIN_MS: u64 = 100;
/// How long after the last job messages may still tidy up.
const TIDY_MS: u64 = 150_000;
/// Most runs end when all is tidy, but no sooner than so long after the last job.
const TIDY_MS_MIN: u64 = 25_000;
/// Liars hear of the last so many grants of others.
const RUMOURS: usize = 16;
/// One seed in so many has everything encoded and decoded again on its way.
const THOROUGH_SEEDS: u64 = 4;

/// Something that happens at a moment.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The agent starts.
    Start(usize),
    /// A second passed.
    Tick { at: usize, boot: u64 },
    /// A person asks for the agent's job, if it is not known yet.
    AddJob { at: usize, boot: u64 },
    /// The agent's source is hashed.
    SourceReady { at: usize, boot: u64 },
    /// The agent's job leaves its memory, if it is over.
    Retire { at: usize, boot: u64 },
    /// A message arrives.
    Deliver { from: usize, to: usize, epoch: u64, message: Box<Message> },
    /// Long work ends, or wants to be looked at.
    WorkEnds { at: usize, boot: u64, token: u64, key: WorkKey },
    /// Long work got so far, in per cent.
    Progress { at: usize, boot: u64, token: u64, key: WorkKey, percent: u64 },
    /// The disk has taken the records.
    Committed { at: usize, boot: u64 },
    /// Two agents try to connect.
    Connect(usize, usize),
    /// The agent notices that a connection is gone.
    NoticeDown { at: usize, peer: usize, epoch: u64 },
    /// A connection that carries nothing is given up.
    LinkDies { a: usize, b: usize, epoch: u64 },
    /// Something goes wrong.
    Fault(Fault),
    /// The wall of this number falls.
    WallFalls { number: u64, set: u32 },
    /// The agent wakes.
    Wake(usize),
    /// The person's pause ends.
    Resume(usize),
    /// The machine has been needed for long.
    GiveBack(usize),
    /// The machine is free again.
    Free(usize),
    /// The agent looks whether it may stop now.
    StopCheck { at: usize, boot: u64, until: u64, back: Option<Span> },
    /// The agent's process ends.
    Exit { at: usize, boot: u64, back: Option<Span> },
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// What a run was like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Rules that were broken; empty is good.
    pub broken: Vec<String>,
    /// Hash over all records and messages with their times.
    pub trace: u64,
    /// Commits of attempts whose lease had ended.
    pub late_commits: u32,
    /// Virtual milliseconds until the last job was over.
    pub over_ms: u64,
    /// Work in vain.
    pub cost: Cost,
}

/// All of it.
#[derive(Debug)]
pub struct World {
    now: u64,
    next: u64,
    rng: Rng,
    events: BinaryHeap<Scheduled>,
    agents: Vec<Agent>,
    network: Network,
    oracle: Oracle,
    ledger: Ledger,
    story: Story,
    config: Config,
    rumours: VecDeque<Rumour>,
    /// What has gone wrong so far lasts until then.
    trouble_until: u64,
    /// When the last job was over.
    over_ms: u64,
    /// Records of one commit are carried out one after another, as the contract of `handle` says,
    /// or all of them before anything else, as the runtime does it.
    one_by_one: bool,
    thorough: bool,
    /// Every input, record and message is told on standard error.
    tells: bool,
    trace: u64,
}

impl World {
    /// Runs a scenario under a seed to its end.
    pub fn run(scenario: &Scenario, seed: u64) -> Report {
        World::new(scenario, seed).end()
    }

    /// The same, and tells on standard error what happens.
    pub fn tell(scenario: &Scenario, seed: u64) -> Report {
        let mut world = World::new(scenario, seed);
        world.tells = true;
        world.say(|| format!("{:?}", world.story));
        world.end()
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:>9}  {}", self.now, what());
        }
    }

    fn end(self) -> Report {
        let mut world = self;
        world.play();
        Report {
            broken: world.oracle.broken,
            trace: world.trace,
            late_commits: world.oracle.late_commits,
            over_ms: world.over_ms,
            cost: world.ledger.cost(),
        }
    }

    fn new(scenario: &Scenario, seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let story = scenario.story(&mut rng);
        let habits = |at: usize| -> Vec<Habit> {
            story.habits.iter().filter(|(of, _)| *of == at).map(|(_, habit)| *habit).collect()
        };
        let agents: Vec<Agent> = (0..story.agents).map(|at| Agent::new(habits(at))).collect();
        let network = Network::new(story.agents, story.road);
        let mut world = World {
            now: 0,
            next: 1 << 20,
            one_by_one: rng.chance(50),
            thorough: seed.is_multiple_of(THOROUGH_SEEDS),
            rng,
            events: BinaryHeap::new(),
            agents,
            network,
            oracle: Oracle::default(),
            ledger: Ledger::default(),
            story,
            config: Config::default(),
            rumours: VecDeque::new(),
            trouble_until: 0,
            over_ms: 0,
            tells: false,
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for at in 0..world.agents.len() {
            let delay = world.rng.within((0, 500));
            world.after(delay, Event::Start(at));
        }
        for (at, fault) in std::mem::take(&mut world.story.faults) {
            world.after(at, Event::Fault(fault));
        }
        world
    }

    fn play(&mut self) {
        let faults_end = self.story.faults_end;
        let deadline = faults_end + self.story.within_ms;
        let mut over_since = None;
        while let Some(Scheduled { at, event, .. }) = self.events.pop() {
            let looks = at / TICK_MS != self.now / TICK_MS;
            self.now = at;
            self.step(event);
            if !self.oracle.broken.is_empty() {
                return;
            }
            // Whether all is over is looked at once a second.
            if !looks {
                continue;
            }
            let over = at > faults_end.max(self.trouble_until) && self.all_over();
            let since = *over_since.get_or_insert(at);
            match over {
                true => self.network.road.loss_percent = 0,
                false => over_since = None,
            }
            let waited_ms = at - since;
            let tidy = !self.thorough && waited_ms > TIDY_MS_MIN && self.is_tidy();
            if over && (waited_ms > TIDY_MS || tidy) {
                self.over_ms = since;
                break;
            }
            if !over && at > deadline {
                let states = self.outcomes();
                self.over_ms = at;
                self.oracle.fail(format!("not over after {at} ms: {states:?}"));
                return;
            }
        }
        self.judge();
    }

    /// Trouble ends with this event.
    fn relief(&mut self, delay_ms: u64, event: Event) {
        self.trouble_until = self.trouble_until.max(self.now + delay_ms);
        self.after(delay_ms, event);
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.next += 1;
        self.events.push(Scheduled { at: self.now + delay_ms, order: self.next, event });
    }

    fn note(&mut self, bytes: &[u8]) {
        let mut trace = self.trace ^ self.now;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            trace = (trace ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            trace ^= trace >> 29;
        }
        self.trace = trace;
    }

    fn is_now(&self, at: usize, boot: u64) -> bool {
        self.agents[at].boot == boot && self.agents[at].is_up()
    }

    fn slots(&self, at: usize) -> u32 {
        match self.agents[at].has(Habit::NoSlots) {
            true => 0,
            false => 1 + u32::from(at % 3 == 1),
        }
    }

    fn step(&mut self, event: Event) {
        if let Some(at) = sleeper(&event)
            && self.agents[at].sleep.is_some()
        {
            return self.postpone(at, event);
        }
        match event {
            Event::Start(at) => self.start(at),
            Event::Tick { at, boot } if self.is_now(at, boot) => self.tick(at, boot),
            Event::AddJob { at, boot } if self.is_now(at, boot) => self.add_job(at),
            Event::SourceReady { at, boot } if self.is_now(at, boot) => {
                let (job, blob) = (fixture::job_id(at), fixture::source(at));
                self.give(at, Input::SourceReady { job, blob });
            }
            Event::Retire { at, boot } if self.is_now(at, boot) => self.retire(at, boot),
            Event::Deliver { from, to, epoch, message }
                if self.network.carries(from, to, epoch) =>
            {
                self.deliver(from, to, *message);
            }
            Event::WorkEnds { at, boot, token, key } if self.is_now(at, boot) => {
                if let Some(work) = self.agents[at].io.get(key, token).cloned() {
                    self.work_ends(at, token, work);
                }
            }
            Event::Progress { at, boot, token, key, percent } if self.is_now(at, boot) => {
                self.work_advances(at, token, key, percent);
            }
            Event::Committed { at, boot } if self.is_now(at, boot) => self.committed(at),
            Event::Connect(a, b) => self.connect(a, b),
            Event::NoticeDown { at, peer, epoch }
                if self.network.is_down_since(at, peer, epoch) =>
            {
                self.notice_down(at, peer);
            }
            Event::LinkDies { a, b, epoch } => {
                let dead = self.network.is_walled(a, b) || self.sleeps(a) || self.sleeps(b);
                if dead && self.network.epoch(a, b) == epoch {
                    self.cut(a, b);
                }
            }
            Event::Fault(fault) => {
                self.ledger.faults += 1;
                self.say(|| format!("{fault:?}"));
                self.fault(fault);
            }
            Event::WallFalls { number, set } => self.wall_falls(number, set),
            Event::Wake(at) => self.wake(at),
            Event::Resume(at) => self.resume(at),
            Event::GiveBack(at) => self.give(at, Input::GiveBack),
            Event::Free(at) => self.free(at),
            Event::StopCheck { at, boot, until, back } if self.is_now(at, boot) => {
                self.stop_check(at, until, back);
            }
            Event::Exit { at, boot, back } if self.is_now(at, boot) => self.exit(at, back),
            _ => {} // of a process or connection that is gone
        }
    }

    fn start(&mut self, at: usize) {
        let (slots, now) = (self.slots(at), self.now);
        let agent = &mut self.agents[at];
        if agent.dead || agent.is_up() {
            return;
        }
        agent.boot += 1;
        agent.deaf = false;
        agent.clock = Clock::new(now, agent.clock_percent());
        let boot = agent.boot;
        if let Some(lie) = agent.lie() {
            agent.liar = Some(Liar::new(at, boot, lie));
        } else {
            self.start_mesh(at, slots);
        }
        self.after(TICK_MS, Event::Tick { at, boot });
        if at < self.story.owners {
            self.after(300, Event::AddJob { at, boot });
            self.after(2_000, Event::SourceReady { at, boot });
        }
        self.after(RETIRE_AGAIN_MS, Event::Retire { at, boot });
        self.connect_all(at);
    }

    fn tick(&mut self, at: usize, boot: u64) {
        self.after(TICK_MS, Event::Tick { at, boot });
        if let Some(liar) = &mut self.agents[at].liar {
            let said = liar.ticks(self.now, self.rumours.make_contiguous(), &mut self.rng);
            return self.speak(at, said);
        }
        self.give(at, Input::Tick);
        self.say_room(at);
    }

    fn respecify(&mut self, task: TaskId) {
        self.oracle.respecify(task);
        self.ledger.changes(task);
    }
}

/// Who must be awake for this.
fn sleeper(event: &Event) -> Option<usize> {
    match event {
        Event::Tick { at, .. }
        | Event::AddJob { at, .. }
        | Event::SourceReady { at, .. }
        | Event::Retire { at, .. }
        | Event::WorkEnds { at, .. }
        | Event::Progress { at, .. }
        | Event::Committed { at, .. }
        | Event::NoticeDown { at, .. }
        | Event::StopCheck { at, .. }
        | Event::Exit { at, .. } => Some(*at),
        Event::Deliver { to, .. } => Some(*to),
        Event::Start(_)
        | Event::Resume(_)
        | Event::GiveBack(_)
        | Event::Free(_)
        | Event::Connect(..)
        | Event::LinkDies { .. }
        | Event::Fault(_)
        | Event::WallFalls { .. }
        | Event::Wake(_) => None,
    }
}
