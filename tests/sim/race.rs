//! How well a mesh shares work: real state machines, unequal machines, one network, virtual time.
//!
//! Nothing goes wrong here; [`crate::world`] is for that. What counts is the *makespan*, the time
//! until the last task of the last job is committed, against the ideal: all work divided by the
//! speed of all machines, as if nothing had to be cut, sent, found out or waited for. And how many
//! messages that took.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use dmc_protocol::config::Config;
use dmc_protocol::id::{AttemptId, BlobRef, TaskId};
use dmc_protocol::media::lengths::{self, Pace};
use dmc_protocol::media::{Feed, TaskSpec, WorkClass};
use dmc_protocol::mesh::peers::smoothed;
use dmc_protocol::mesh::{IDS_BATCH, Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Message, Progress, TaskResult};
use dmc_protocol::time::Time;

use crate::fixture;
use crate::rng::Rng;

const TICK_MS: u64 = 1_000;
const LATENCY_MS: u64 = 1;
/// To cut a piece, and to verify a result.
const CUT_MS: u64 = 120;
const VERIFY_MS: u64 = 150;
/// To start ffmpeg and to check its result, at the worker.
const START_MS: u64 = 300;
/// Work units in a second of film: 25 pictures of 640 × 360, as the fixture has them.
const UNITS_A_SECOND: u64 = 25 * 640 * 360;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Race {
    /// How many agents there are; all of them work.
    pub agents: usize,
    /// The first so many have a film each.
    pub owners: usize,
    /// Length of a film in seconds.
    pub film_s: u64,
    /// Speed of the slowest and of the fastest machine, in per cent of the film's own.
    pub speed_percent: (u64, u64),
    /// How wrong the first estimates of speed are, and how much tasks of one kind differ, in per
    /// cent.
    pub noise_percent: u64,
    /// Bytes a second of each machine's link, each way.
    pub link_bytes_s: u64,
    /// Bytes of a second of film.
    pub film_bytes_s: u64,
    /// This machine works at a tenth of its speed from the start, and does not know it.
    pub straggler: Option<usize>,
    /// All random choices.
    pub seed: u64,
}

impl Race {
    /// One film of two hours, 1080p at 5 Mbit/s, on gigabit Ethernet.
    pub fn film(agents: usize, seed: u64) -> Race {
        Race {
            agents,
            owners: 1,
            film_s: 7_200,
            speed_percent: (25, 200),
            noise_percent: 20,
            link_bytes_s: 117_000_000,
            film_bytes_s: 625_000,
            straggler: None,
            seed,
        }
    }

    /// Every agent has a film of its own.
    pub fn films(agents: usize, film_s: u64, seed: u64) -> Race {
        Race { owners: agents, film_s, ..Race::film(agents, seed) }
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Until the last result was committed, in milliseconds.
    pub makespan_ms: u64,
    /// All work by all machines, in milliseconds.
    pub ideal_ms: u64,
    /// Tasks that were committed.
    pub tasks: u64,
    /// Attempts that were granted.
    pub grants: u64,
    /// Messages by name, until then.
    pub messages: BTreeMap<&'static str, u64>,
    /// When each owner's film was done, in milliseconds.
    pub ends_ms: Vec<u64>,
}

impl Outcome {
    /// Part of the ideal speed that was reached.
    pub fn efficiency(&self) -> f64 {
        self.ideal_ms as f64 / self.makespan_ms.max(1) as f64
    }

    /// Messages about work for each task, without those that agents tell each other anyway.
    pub fn work_messages_per_task(&self) -> f64 {
        let idle = ["info", "heartbeat", "custody"];
        let about = self.messages.iter().filter(|(name, _)| !idle.contains(*name));
        about.map(|(_, count)| *count).sum::<u64>() as f64 / self.tasks.max(1) as f64
    }

    /// All messages of one agent in a second.
    pub fn messages_per_agent_second(&self, agents: usize) -> f64 {
        let all: u64 = self.messages.values().sum();
        all as f64 / agents.max(1) as f64 / (self.makespan_ms.max(1) as f64 / 1_000.0)
    }
}

#[derive(Debug)]
enum Event {
    Tick(usize),
    Deliver {
        from: usize,
        to: usize,
        message: Box<Message>,
    },
    Tell {
        at: usize,
        input: Box<Input>,
    },
    /// An encode is over, if it still runs.
    Encoded {
        at: usize,
        attempt: AttemptId,
    },
}

/// An encode that runs.
#[derive(Debug, Clone)]
struct Run {
    spec: TaskSpec,
    since: u64,
    takes_ms: u64,
}

#[derive(Debug)]
struct Machine {
    mesh: Mesh,
    /// Work units a second.
    rate: u64,
    /// What it believes of that.
    believed: u64,
    running: BTreeMap<AttemptId, Run>,
    /// When its link is free, each way: out, in.
    link_free: [u64; 2],
    done: Option<u64>,
}

struct World {
    race: Race,
    now: u64,
    order: u64,
    rng: Rng,
    /// Time, order, place of the event.
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: BTreeMap<usize, Event>,
    machines: Vec<Machine>,
    messages: BTreeMap<&'static str, u64>,
    /// The class of all tasks.
    class: Option<WorkClass>,
    tasks: u64,
    grants: u64,
    attempts: u64,
}

impl Race {
    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end within 30 times the ideal: that is a defect of the mesh.
    pub fn run(self) -> Outcome {
        let mut world = World::new(self);
        let units: u64 = (self.film_s * UNITS_A_SECOND).saturating_mul(self.owners as u64);
        let rates: u64 = world.machines.iter().map(|machine| machine.rate).sum();
        let ideal_ms = units.saturating_mul(1_000) / rates.max(1);
        while world.machines[..self.owners].iter().any(|machine| machine.done.is_none()) {
            assert!(world.now < 30 * ideal_ms + 600_000, "it does not end: {self:?}");
            world.step();
        }
        let ends = world.machines[..self.owners].iter().filter_map(|machine| machine.done);
        Outcome {
            makespan_ms: world.now,
            ideal_ms,
            tasks: world.tasks,
            grants: world.grants,
            messages: world.messages,
            ends_ms: ends.collect(),
        }
    }

    fn plan(&self, machines: &[Machine]) -> Vec<TaskSpec> {
        let film_s = self.film_s as f64;
        let pace = |machine: &Machine| Pace {
            slots: 1,
            pace: machine.believed as f64 / UNITS_A_SECOND as f64,
        };
        let paces: Vec<Pace> = machines.iter().map(pace).collect();
        let travel = self.film_bytes_s as f64 / self.link_bytes_s as f64;
        let target_s = lengths::segment_target_s(film_s, travel, &paces);
        let mut borders = vec![0.0];
        while let Some(begins_s) = borders.last().copied() {
            let ends_s: f64 = begins_s + lengths::segment_s(target_s, begins_s, film_s);
            if film_s - ends_s < target_s * 0.1 {
                break;
            }
            borders.push(ends_s);
        }
        borders.push(film_s);
        let segments = u32::try_from(borders.len() - 1).unwrap_or(u32::MAX);
        let spans = borders.windows(2).zip(0..segments);
        let piece = Feed::Piece { shift_s: 0, preroll_keyframes: 1 };
        let tasks = spans.filter_map(|(span, number)| {
            let TaskSpec::Segment(mut task) = fixture::segment(number, segments, piece.clone())?
            else {
                return None;
            };
            task.a_pts = (span[0] * 1_000.0) as i64;
            task.b_pts = (span[1] * 1_000.0) as i64;
            task.expected.count = ((span[1] - span[0]) * 25.0) as u32;
            Some(TaskSpec::Segment(task))
        });
        tasks.collect()
    }
}

impl World {
    fn new(race: Race) -> World {
        let mut rng = Rng::new(race.seed);
        let (slowest, fastest) = race.speed_percent;
        let machines = (0..race.agents).map(|at| {
            // Speeds are spread by their logarithm: many are slow, few are fast.
            let part = rng.within((0, 1_000)) as f64 / 1_000.0;
            let percent = slowest as f64 * (fastest as f64 / slowest as f64).powf(part);
            let rate = (UNITS_A_SECOND as f64 * percent / 100.0) as u64;
            let wrong = rng.within((100 - race.noise_percent, 100 + race.noise_percent));
            Machine {
                mesh: Mesh::new(fixture::agent_id(at), Config::default()),
                rate: if race.straggler == Some(at) { rate / 10 } else { rate },
                believed: rate * wrong / 100,
                running: BTreeMap::new(),
                link_free: [0; 2],
                done: None,
            }
        });
        let machines: Vec<Machine> = machines.collect();
        let mut world = World {
            race,
            now: 0,
            order: 0,
            rng,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            machines,
            messages: BTreeMap::new(),
            class: race.plan(&[]).first().map(TaskSpec::class),
            tasks: 0,
            grants: 0,
            attempts: 0,
        };
        world.begin();
        world
    }

    /// Everybody is connected, has calibrated itself, and the films are planned.
    fn begin(&mut self) {
        let agents = self.race.agents;
        for at in 0..agents {
            let ids = self.ids();
            self.give(at, Input::Ids(ids));
            let info = self.info(at);
            self.give(at, Input::Local(info));
            let first = self.rng.within((1, TICK_MS));
            self.after(first, Event::Tick(at));
        }
        for at in 0..agents {
            for peer in (0..agents).filter(|peer| *peer != at) {
                self.give(at, Input::PeerUp(fixture::agent_id(peer)));
            }
        }
        // What they tell each other at first is not counted.
        while self.now < 10 {
            self.step();
        }
        self.messages.clear();
        let tasks = self.race.plan(&self.machines);
        for at in 0..self.race.owners {
            let (job, tasks) = (fixture::job_id(at), tasks.clone());
            let add = Input::AddJob { job, priority: 0, source: None, tasks };
            self.give(at, add);
        }
        self.now = 0;
    }

    fn ids(&mut self) -> Vec<AttemptId> {
        let first = self.attempts;
        self.attempts += IDS_BATCH as u64;
        (first..self.attempts).map(|number| AttemptId(u128::from(number))).collect()
    }

    fn info(&self, at: usize) -> AgentInfo {
        let speeds = self.class.into_iter().map(|class| (class, self.machines[at].believed));
        let speeds = speeds.collect();
        AgentInfo { speeds, ..fixture::info(at, 1, 1, 0) }
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.order += 1;
        let place = usize::try_from(self.order).unwrap_or(usize::MAX);
        self.queue.push(Reverse((self.now + delay_ms, self.order, place)));
        self.events.insert(place, event);
    }

    fn step(&mut self) {
        let Some(Reverse((now, _, place))) = self.queue.pop() else { return };
        self.now = now.max(self.now);
        match self.events.remove(&place) {
            Some(Event::Tick(at)) => {
                self.after(TICK_MS, Event::Tick(at));
                self.tell_progress(at);
                self.give(at, Input::Tick);
            }
            Some(Event::Deliver { from, to, message }) => {
                let from = fixture::agent_id(from);
                self.give(to, Input::Received { from, message: *message });
            }
            Some(Event::Tell { at, input }) => self.give(at, *input),
            Some(Event::Encoded { at, attempt }) => self.encoded(at, attempt),
            None => {}
        }
    }

    fn tell_progress(&mut self, at: usize) {
        let told: Vec<(AttemptId, Progress)> = self.machines[at]
            .running
            .iter()
            .map(|(attempt, run)| {
                let frames = run.spec.frames().unwrap_or(0);
                let done = frames * (self.now - run.since) / run.takes_ms.max(1);
                (*attempt, Progress { frames: done.min(frames), ..Progress::default() })
            })
            .collect();
        for (attempt, progress) in told {
            self.give(at, Input::Worked { attempt, progress });
        }
    }

    fn encoded(&mut self, at: usize, attempt: AttemptId) {
        let machine = &mut self.machines[at];
        let Some(run) = machine.running.remove(&attempt) else { return };
        let rate = run.spec.work_units().saturating_mul(1_000) / run.takes_ms.max(1);
        machine.believed = smoothed(Some(machine.believed), rate);
        let info = self.info(at);
        self.give(at, Input::Local(info));
        let bytes = self.film_bytes(&run.spec) / 2;
        let number = u64::try_from(attempt.0).unwrap_or(u64::MAX);
        let media = BlobRef { bytes, ..fixture::blob(1_000_000 + number) };
        let result = TaskResult {
            media,
            proof: fixture::blob(2_000_000 + number),
            frames: run.spec.frames().unwrap_or(0),
            encode_ms: run.takes_ms,
        };
        self.give(at, Input::WorkDone { attempt, result });
    }

    fn film_bytes(&self, spec: &TaskSpec) -> u64 {
        spec.work_units() / UNITS_A_SECOND * self.race.film_bytes_s
    }

    /// When so many bytes have gone from one machine to another: each link carries one transfer
    /// after another.
    fn transfer(&mut self, from: usize, to: usize, bytes: u64) -> u64 {
        if from == to {
            return 0;
        }
        let takes_ms = bytes * 1_000 / self.race.link_bytes_s.max(1);
        let free = self.machines[from].link_free[0].max(self.machines[to].link_free[1]);
        let done = free.max(self.now) + takes_ms;
        self.machines[from].link_free[0] = done;
        self.machines[to].link_free[1] = done;
        done - self.now + LATENCY_MS
    }

    fn give(&mut self, at: usize, input: Input) {
        let now = Time(self.now + 1_000_000);
        let outputs = self.machines[at].mesh.handle(now, input);
        outputs.into_iter().for_each(|output| self.perform(at, output));
    }

    fn later(&mut self, at: usize, delay_ms: u64, input: Input) {
        self.after(delay_ms, Event::Tell { at, input: Box::new(input) });
    }

    fn perform(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                *self.messages.entry(message.name()).or_default() += 1;
                self.grants += u64::from(matches!(message, Message::Grant { .. }));
                let (from, to) = (at, fixture::index_of(to));
                let deliver = Event::Deliver { from, to, message: Box::new(message) };
                self.after(LATENCY_MS, deliver);
            }
            Output::NeedIds => {
                let ids = self.ids();
                self.give(at, Input::Ids(ids));
            }
            Output::Cut(task) => self.cut(at, task),
            Output::FetchInput { attempt, owner, blob, .. } => {
                let from = fixture::index_of(owner);
                let delay_ms = self.transfer(from, at, blob.bytes);
                self.later(at, delay_ms, Input::InputReady(attempt));
                let (from, bytes, ms) = (owner, blob.bytes, delay_ms);
                self.later(at, delay_ms, Input::Transferred { from, bytes, ms });
            }
            Output::Run { attempt, spec, .. } => self.run(at, attempt, spec),
            Output::Discard { attempt, .. } => {
                self.machines[at].running.remove(&attempt);
            }
            Output::Fetch { attempt, task, from, result } => {
                let worker = fixture::index_of(from);
                let delay_ms = self.transfer(worker, at, result.media.bytes);
                let (bytes, ms) = (result.media.bytes, delay_ms);
                self.later(at, delay_ms, Input::Transferred { from, bytes, ms });
                self.later(at, delay_ms + VERIFY_MS, Input::ResultGood { attempt, task });
                self.tasks += 1;
            }
            Output::Join(job) => {
                self.machines[at].done.get_or_insert(self.now);
                self.later(at, 1_000, Input::Joined(job));
            }
            _ => {}
        }
    }

    fn cut(&mut self, at: usize, task: TaskId) {
        let specs = self.machines[at].mesh.jobs().get(task.job);
        let spec = specs.and_then(|job| job.tasks.get(task.index as usize));
        let Some(spec) = spec.map(|task| task.record.spec.clone()) else { return };
        let number = 3_000_000 + (at as u64) * 10_000 + u64::from(task.index);
        let blob = BlobRef { bytes: self.film_bytes(&spec) * 123 / 100, ..fixture::blob(number) };
        self.later(at, CUT_MS, Input::PieceReady { task, blob });
    }

    fn run(&mut self, at: usize, attempt: AttemptId, spec: TaskSpec) {
        let noise = self.race.noise_percent / 2;
        let percent = self.rng.within((100 - noise, 100 + noise));
        let rate = self.machines[at].rate.max(1);
        let takes_ms = START_MS + spec.work_units().saturating_mul(10) / rate * percent;
        let run = Run { spec, since: self.now, takes_ms };
        self.machines[at].running.insert(attempt, run);
        self.after(takes_ms, Event::Encoded { at, attempt });
    }
}

/// The median of what several seeds reach.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
