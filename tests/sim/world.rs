//! The discrete-event world: agents with disks and tools, one clock, one queue of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dmc_protocol::codec;
use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::media::{TaskInput, TaskSpec};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{Failure, FailureKind, Message, Progress, TaskResult};
use dmc_protocol::record::{JobState, Record, RecordKey};
use dmc_protocol::time::Time;

use crate::executor::{Io, Work, WorkKey};
use crate::faults::{Expect, Fault, Habit, Scenario, Span};
use crate::fixture;
use crate::network::Network;
use crate::oracle::{Disk, Oracle};
use crate::rng::Rng;

/// The largest record that the store takes.
const RECORD_BYTES_MAX: usize = 64 << 10;
const TICK_MS: u64 = 1_000;
/// How long after the last job messages may still tidy up.
const TIDY_MS: u64 = 150_000;

/// Something that happens at a moment.
#[derive(Debug, Clone)]
enum Event {
    Start(usize),
    Tick { at: usize, boot: u64 },
    AddJob { at: usize, boot: u64 },
    SourceReady { at: usize, boot: u64 },
    Deliver { from: usize, to: usize, epoch: u64, frame: Vec<u8> },
    WorkEnds { at: usize, boot: u64, token: u64, key: WorkKey },
    Connect(usize, usize),
    NoticeDown { at: usize, peer: usize, epoch: u64 },
    Fault(Fault),
    EndIsolation(usize),
    Resume(usize),
    Exit(usize),
}

/// One agent: the state machine and everything around it.
struct Agent {
    mesh: Option<Mesh>,
    boot: u64,
    born: u64,
    disk: Disk,
    io: Io,
    /// Crash after so many more outputs of a step.
    dies_after: Option<(u64, Span)>,
    dead: bool,
    redone: BTreeSet<TaskId>,
    habits: Vec<Habit>,
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
}

/// All of it.
pub struct World {
    now: u64,
    next: u64,
    rng: Rng,
    events: BTreeMap<(u64, u64), Event>,
    agents: Vec<Agent>,
    network: Network,
    oracle: Oracle,
    scenario: Scenario,
    config: Config,
    trace: u64,
}

impl World {
    /// Runs a scenario under a seed to its end.
    pub fn run(scenario: Scenario, seed: u64) -> Report {
        let mut world = World::new(scenario, seed);
        world.play();
        Report {
            broken: world.oracle.broken,
            trace: world.trace,
            late_commits: world.oracle.late_commits,
            over_ms: world.now.saturating_sub(TIDY_MS),
        }
    }

    fn new(scenario: Scenario, seed: u64) -> World {
        let agents = (0..scenario.agents).map(|at| Agent {
            mesh: None,
            boot: 0,
            born: 0,
            disk: Disk::new(),
            io: Io::default(),
            dies_after: None,
            dead: false,
            redone: BTreeSet::new(),
            habits: scenario
                .habits
                .iter()
                .filter(|(of, _)| *of == at)
                .map(|(_, habit)| *habit)
                .collect(),
        });
        let mut world = World {
            now: 0,
            next: 1,
            rng: Rng::new(seed),
            events: BTreeMap::new(),
            agents: agents.collect(),
            network: Network::new(scenario.loss_percent),
            oracle: Oracle::default(),
            scenario,
            config: Config::default(),
            trace: 0xcbf2_9ce4_8422_2325,
        };
        for at in 0..scenario.agents {
            let delay = world.rng.within((0, 500));
            world.after(delay, Event::Start(at));
        }
        for (span, fault) in scenario.faults {
            let delay = world.rng.within(*span);
            world.after(delay, Event::Fault(*fault));
        }
        world
    }

    fn play(&mut self) {
        let faults_end = self.scenario.faults.iter().map(|((_, to), _)| *to).max().unwrap_or(0);
        let deadline = faults_end + self.scenario.within_ms;
        let mut over_since = None;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.step(event);
            if !self.oracle.broken.is_empty() {
                return;
            }
            let over = at > faults_end && self.all_over();
            let since = *over_since.get_or_insert(at);
            match over {
                true => self.network.loss_percent = 0,
                false => over_since = None,
            }
            if over && at - since > TIDY_MS {
                break;
            }
            if !over && at > deadline {
                let states = self.job_states();
                self.oracle.fail(format!("not over after {at} ms: {states:?}"));
                return;
            }
        }
        self.judge();
    }

    fn judge(&mut self) {
        for (_, state) in self.job_states() {
            let ok = match (self.scenario.expect, &state) {
                (Expect::Done, JobState::Done) => true,
                (Expect::Failed, JobState::Failed(errors)) => !errors.is_empty(),
                (Expect::CancelledOrDone, JobState::Cancelled | JobState::Done) => true,
                _ => false,
            };
            if !ok {
                self.oracle.fail(format!("ended as {state:?}"));
            }
        }
        let dead: BTreeSet<AgentId> = (0..self.agents.len())
            .filter(|at| self.agents[*at].dead)
            .map(fixture::agent_id)
            .collect();
        for agent in &self.agents {
            if let Some(mesh) = &agent.mesh {
                self.oracle.after_all(mesh, &agent.io, &agent.disk, &dead);
            }
        }
        self.judge_builds();
        self.judge_shares();
    }

    /// Who made parts, where everybody must.
    fn judge_shares(&mut self) {
        let records = self.agents.iter().flat_map(|agent| agent.disk.values());
        let commits = records.filter_map(|record| match record {
            Record::Task(task) => task.commit.map(|commit| index_of(commit.worker)),
            _ => None,
        });
        let makers: BTreeSet<usize> = commits.collect();
        if self.scenario.all_work && makers.len() < self.agents.len() {
            self.oracle.fail(format!("only {makers:?} made parts"));
        }
    }

    /// Parts of different encoder builds do not join.
    fn judge_builds(&mut self) {
        for owner in 0..self.scenario.owners {
            let mut builds = BTreeSet::new();
            for record in self.agents[owner].disk.values() {
                if let Record::Task(task) = record
                    && let (Some(commit), Some(_)) = (task.commit, task.spec.video())
                {
                    builds.insert(self.build(index_of(commit.worker)));
                }
            }
            if builds.len() > 1 {
                self.oracle.fail(format!("parts of the builds {builds:?} in one film"));
            }
        }
    }

    fn job_states(&self) -> Vec<(JobId, JobState)> {
        let owners = self.agents.iter().take(self.scenario.owners).filter(|agent| !agent.dead);
        let records = owners.flat_map(|agent| agent.disk.values());
        let jobs = records.filter_map(|record| match record {
            Record::Job(job) => Some((job.id, job.state.clone())),
            _ => None,
        });
        jobs.collect()
    }

    fn all_over(&self) -> bool {
        let alive = self.agents.iter().take(self.scenario.owners).filter(|agent| !agent.dead);
        let expected = alive.count();
        let states = self.job_states();
        states.len() == expected && states.iter().all(|(_, state)| state.is_over())
    }

    fn after(&mut self, delay_ms: u64, event: Event) {
        self.next += 1;
        self.events.insert((self.now + delay_ms, self.next), event);
    }

    fn note(&mut self, bytes: &[u8]) {
        let now = self.now.to_le_bytes();
        for byte in now.iter().chain(bytes) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn is_now(&self, at: usize, boot: u64) -> bool {
        self.agents[at].boot == boot && self.agents[at].mesh.is_some()
    }

    fn has(&self, at: usize, habit: Habit) -> bool {
        self.agents[at].habits.contains(&habit)
    }

    fn build(&self, at: usize) -> u8 {
        let mut builds = self.agents[at].habits.iter().filter_map(|habit| match habit {
            Habit::Build(build) => Some(*build),
            _ => None,
        });
        builds.next_back().unwrap_or(0)
    }

    fn slots(&self, at: usize) -> u32 {
        match self.has(at, Habit::NoSlots) {
            true => 0,
            false => 1 + u32::from(at % 3 == 1),
        }
    }

    // ---- events ----

    fn step(&mut self, event: Event) {
        match event {
            Event::Start(at) => self.start(at),
            Event::Tick { at, boot } if self.is_now(at, boot) => {
                self.handle(at, Input::Tick);
                self.after(TICK_MS, Event::Tick { at, boot });
            }
            Event::AddJob { at, boot } if self.is_now(at, boot) => self.add_job(at),
            Event::SourceReady { at, boot } if self.is_now(at, boot) => {
                let (job, blob) = (fixture::job_id(at), fixture::blob(at as u64));
                self.handle(at, Input::SourceReady { job, blob });
            }
            Event::Deliver { from, to, epoch, frame } => self.deliver(from, to, epoch, &frame),
            Event::WorkEnds { at, boot, token, key } if self.is_now(at, boot) => {
                if let Some(work) = self.agents[at].io.get(key, token) {
                    self.work_ends(at, token, work);
                }
            }
            Event::Connect(a, b) => self.connect(a, b),
            Event::NoticeDown { at, peer, epoch } => {
                if self.network.is_down_since(at, peer, epoch) && self.network.tell(at, peer, false)
                {
                    self.handle(at, Input::PeerDown(fixture::agent_id(peer)));
                }
            }
            Event::Fault(fault) => self.fault(fault),
            Event::EndIsolation(at) => {
                self.network.isolate(at, false);
                self.connect_all(at);
            }
            Event::Resume(at) => self.handle(at, Input::SetPaused(false)),
            Event::Exit(at) => {
                self.crash(at);
                self.agents[at].dead = true;
            }
            Event::Tick { .. }
            | Event::AddJob { .. }
            | Event::SourceReady { .. }
            | Event::WorkEnds { .. } => {}
        }
    }

    fn start(&mut self, at: usize) {
        let (slots, build, now) = (self.slots(at), self.build(at), self.now);
        let agent = &mut self.agents[at];
        if agent.dead || agent.mesh.is_some() {
            return;
        }
        agent.boot += 1;
        agent.born = now;
        agent.mesh = Some(Mesh::new(fixture::agent_id(at), self.config.clone()));
        let boot = agent.boot;
        let records = agent.disk.values().cloned().collect();
        self.handle(at, Input::Restore(records));
        self.handle(at, Input::Local(fixture::info(at, boot, slots, build)));
        self.after(TICK_MS, Event::Tick { at, boot });
        if at < self.scenario.owners {
            self.after(300, Event::AddJob { at, boot });
            self.after(2_000, Event::SourceReady { at, boot });
        }
        self.connect_all(at);
    }

    fn add_job(&mut self, at: usize) {
        let job = fixture::job_id(at);
        if self.agents[at].disk.contains_key(&RecordKey::Job(job)) {
            return;
        }
        let tasks = fixture::plan(self.scenario.tasks);
        self.handle(at, Input::AddJob { job, priority: 0, source: None, tasks });
    }

    fn crash(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        if agent.mesh.take().is_none() {
            return;
        }
        agent.dies_after = None;
        agent.io.crash(&agent.disk);
        for peer in 0..self.agents.len() {
            self.cut(at, peer);
            self.network.tell(at, peer, false);
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let Some(epoch) = self.network.cut(a, b) else { return };
        for (at, peer) in [(a, b), (b, a)] {
            let delay = self.rng.within((0, 3_000));
            self.after(delay, Event::NoticeDown { at, peer, epoch });
        }
    }

    fn connect_all(&mut self, at: usize) {
        for peer in (0..self.agents.len()).filter(|peer| *peer != at) {
            let delay = self.rng.within((50, 1_500));
            self.after(delay, Event::Connect(at, peer));
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let alive = self.agents[a].mesh.is_some() && self.agents[b].mesh.is_some();
        if !alive || !self.network.connect(a, b) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            // The old connection is noticed to be gone no later than the new one is there.
            if self.network.tell(at, peer, false) {
                self.handle(at, Input::PeerDown(fixture::agent_id(peer)));
            }
            self.network.tell(at, peer, true);
            self.handle(at, Input::PeerUp(fixture::agent_id(peer)));
        }
    }

    fn deliver(&mut self, from: usize, to: usize, epoch: u64, frame: &[u8]) {
        if !self.network.carries(from, to, epoch) {
            return;
        }
        match codec::decode(frame) {
            Ok(message) => {
                let from = fixture::agent_id(from);
                self.handle(to, Input::Received { from, message });
            }
            Err(error) => self.oracle.fail(format!("a frame does not decode: {error}")),
        }
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Reboot(at, down) => self.reboot(at, down),
            Fault::RebootInStep(at, down) => {
                let outputs = self.rng.within((0, 12));
                self.agents[at].dies_after = Some((outputs, down));
            }
            Fault::Die(at) => {
                self.crash(at);
                self.agents[at].dead = true;
            }
            Fault::Leave(at) => {
                self.handle(at, Input::StopNow);
                self.after(1_000, Event::Exit(at));
            }
            Fault::Break(a, b) => {
                self.cut(a, b);
                let delay = self.rng.within((500, 5_000));
                self.after(delay, Event::Connect(a, b));
            }
            Fault::Isolate(at, span) => {
                (0..self.agents.len()).for_each(|peer| self.cut(at, peer));
                self.network.isolate(at, true);
                let delay = self.rng.within(span);
                self.after(delay, Event::EndIsolation(at));
            }
            Fault::Pause(at, span) => {
                self.handle(at, Input::SetPaused(true));
                let delay = self.rng.within(span);
                self.after(delay, Event::Resume(at));
            }
            Fault::Cancel(at) => self.handle(at, Input::CancelJob(fixture::job_id(at))),
            Fault::Retry(at) => self.handle(at, Input::RetryJob(fixture::job_id(at))),
            Fault::Replan(at) => {
                let job = fixture::job_id(at);
                self.agents[at].io.end(WorkKey::Join(job));
                for index in 0..self.scenario.tasks {
                    self.oracle.respecify(TaskId { job, index });
                }
                self.handle(at, Input::Replan { job, tasks: fixture::whole_plan() });
            }
            Fault::Mend(at) => self.agents[at].habits.retain(|habit| *habit != Habit::Fails),
        }
    }

    fn reboot(&mut self, at: usize, down: Span) {
        self.crash(at);
        let delay = self.rng.within(down);
        self.after(delay, Event::Start(at));
    }

    // ---- one step of one agent ----

    fn handle(&mut self, at: usize, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let agent = &mut self.agents[at];
            let now = Time(self.now - agent.born);
            let Some(mesh) = &mut agent.mesh else { return };
            let outputs = mesh.handle(now, input);
            self.apply(at, outputs, &mut inputs);
            let slots = self.slots(at);
            let agent = &self.agents[at];
            let Some(mesh) = &agent.mesh else { return };
            self.oracle.after_step(mesh, &agent.io, slots, &self.config);
        }
    }

    fn apply(&mut self, at: usize, outputs: Vec<Output>, inputs: &mut VecDeque<Input>) {
        let mut in_batch = false;
        for output in outputs {
            let record = matches!(output, Output::Save(_) | Output::Erase(_) | Output::Changed(_));
            // Neighbouring records become durable together: no crash in between.
            if !(record && in_batch) && self.dies_now(at) {
                return;
            }
            in_batch = record;
            match output {
                Output::Save(record) => self.save(at, record),
                Output::Erase(key) => {
                    self.agents[at].disk.remove(&key);
                    self.note(b"erase");
                }
                Output::Changed(_) => {}
                Output::Send { to, message } => self.send(at, to, &message),
                Output::NeedIds => {
                    let ids = (0..dmc_protocol::mesh::IDS_BATCH).map(|_| self.attempt_id());
                    let ids = ids.collect();
                    inputs.push_back(Input::Ids(ids));
                }
                other => self.effect(at, other),
            }
        }
    }

    fn dies_now(&mut self, at: usize) -> bool {
        let Some((left, down)) = self.agents[at].dies_after else { return false };
        if left > 0 {
            self.agents[at].dies_after = Some((left - 1, down));
            return false;
        }
        self.reboot(at, down);
        true
    }

    fn attempt_id(&mut self) -> AttemptId {
        AttemptId(u128::from(self.rng.bits()) << 64 | u128::from(self.rng.bits()))
    }

    fn save(&mut self, at: usize, record: Record) {
        let me = fixture::agent_id(at);
        let old = self.agents[at].disk.get(&record.key());
        self.oracle.on_save(me, old, &record);
        match codec::to_bytes(&record) {
            Ok(bytes) => {
                self.note(&bytes);
                match codec::from_bytes::<Record>(&bytes, RECORD_BYTES_MAX) {
                    Ok(read) if read == record => {}
                    other => self.oracle.fail(format!("a record reads back as {other:?}")),
                }
            }
            Err(error) => self.oracle.fail(format!("a record does not encode: {error}")),
        }
        self.agents[at].disk.insert(record.key(), record);
    }

    fn send(&mut self, at: usize, to: AgentId, message: &Message) {
        let from = fixture::agent_id(at);
        self.oracle.on_send(self.now, from, to, message, &self.agents[at].disk);
        let to = index_of(to);
        if to == at || to >= self.agents.len() {
            return self.oracle.fail(format!("agent{at} sends {} to agent{to}", message.name()));
        }
        match codec::encode(message) {
            Ok(frame) => {
                self.note(&frame);
                let sent = self.network.send(self.now, at, to, &mut self.rng);
                if let Some((when, epoch)) = sent {
                    let delay = when.saturating_sub(self.now);
                    self.after(delay, Event::Deliver { from: at, to, epoch, frame });
                }
            }
            Err(error) => self.oracle.fail(format!("{} does not encode: {error}", message.name())),
        }
    }

    // ---- long work ----

    fn effect(&mut self, at: usize, output: Output) {
        let now = self.now;
        let io = &mut self.agents[at].io;
        match output {
            Output::Cut(task) => self.begin(at, (50, 900), Work::Cut(task)),
            Output::ReleasePiece { task, blob } => {
                io.pieces.remove(&(task, blob));
            }
            Output::Fetch { attempt, task, from, result } => {
                let work = Work::Fetch { attempt, task, from, result, until: now + 20_000 };
                self.begin(at, (20, 1_500), work);
            }
            Output::DropResult { task, result } => io.drop_result(task, &result),
            Output::Lower { task, .. } => self.begin(at, (50, 900), Work::Lower(task)),
            Output::Join(job) => self.begin(at, (300, 4_000), Work::Join(job)),
            Output::JobOver(job) => io.job_over(job),
            Output::FetchInput { attempt, owner, task, blob } => {
                self.begin(at, (20, 2_000), Work::FetchInput { attempt, owner, task, blob });
            }
            Output::Run { attempt, spec, .. } => {
                let slow = self.agents[at].habits.iter().find_map(|habit| match habit {
                    Habit::Slow(times) => Some(*times),
                    _ => None,
                });
                let slow = slow.unwrap_or(1);
                self.begin(at, (2_000 * slow, 7_000 * slow), Work::Run(attempt, spec));
            }
            Output::Discard { attempt, .. } => io.discard(attempt),
            // No scenario hands jobs over.
            Output::TakeBack(_)
            | Output::FetchHanded { .. }
            | Output::StopHanded(_)
            | Output::HandedEnded(_)
            | Output::FetchSource { .. }
            | Output::BeginCustody(_)
            | Output::KeepResult(_)
            | Output::EndCustody { .. } => {}
            Output::Save(_)
            | Output::Erase(_)
            | Output::Send { .. }
            | Output::NeedIds
            | Output::Changed(_) => {}
        }
    }

    fn begin(&mut self, at: usize, span: Span, work: Work) {
        self.next += 1;
        let (token, key, boot) = (self.next, work.key(), self.agents[at].boot);
        self.agents[at].io.start(token, work);
        let delay = self.rng.within(span);
        self.after(delay, Event::WorkEnds { at, boot, token, key });
    }

    fn work_ends(&mut self, at: usize, token: u64, work: Work) {
        let key = work.key();
        match work {
            Work::Cut(task) => {
                self.agents[at].io.end(key);
                let blob = fixture::blob(token);
                self.agents[at].io.pieces.insert((task, blob));
                self.handle(at, Input::PieceReady { task, blob });
            }
            Work::FetchInput { .. } => self.input_comes(at, token, &work),
            Work::Run(attempt, spec) => self.run_ends(at, token, attempt, &spec),
            Work::Fetch { .. } => self.result_comes(at, token, &work),
            Work::Join(job) => self.join_ends(at, job),
            Work::Lower(task) => self.lower_ends(at, task),
        }
    }

    fn lower_ends(&mut self, at: usize, task: TaskId) {
        self.agents[at].io.end(WorkKey::Lower(task));
        let Some(spec) = self.lower_rung(at, task) else { return };
        self.oracle.respecify(task);
        self.handle(at, Input::Redo { task, spec });
    }

    fn retry_later(&mut self, at: usize, token: u64, key: WorkKey) {
        let boot = self.agents[at].boot;
        self.after(1_000, Event::WorkEnds { at, boot, token, key });
    }

    fn input_comes(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::FetchInput { attempt, owner, task, blob } = work else { return };
        let from = index_of(owner);
        if !self.network.connected(at, from) {
            return self.retry_later(at, token, key); // it may come back
        }
        self.agents[at].io.end(key);
        let source = blob == fixture::blob(from as u64);
        let there = source || self.agents[from].io.pieces.contains(&(task, blob));
        let failure = match (there, self.has(at, Habit::DiskFull)) {
            (_, true) => Some(Failure::new(FailureKind::DiskFull, "no room for the input")),
            (false, _) => Some(Failure::new(FailureKind::Input, "the piece is gone")),
            (true, false) => None,
        };
        match failure {
            Some(failure) => self.handle(at, Input::WorkFailed { attempt, failure }),
            None => {
                self.agents[at].io.inputs.insert(attempt);
                self.handle(at, Input::InputReady(attempt));
            }
        }
    }

    fn run_ends(&mut self, at: usize, token: u64, attempt: AttemptId, spec: &TaskSpec) {
        self.agents[at].io.end(WorkKey::Attempt(attempt));
        let progress = Progress { frames: 10, ..Progress::default() };
        if self.has(at, Habit::Fails) {
            let failure = Failure::new(FailureKind::Encode, "ffmpeg: conversion failed");
            return self.handle(at, Input::WorkFailed { attempt, failure });
        }
        let unproven = matches!(spec, TaskSpec::Segment(task)
            if task.number % 5 == 2 && spec.input() == TaskInput::Piece);
        if unproven && self.has(at, Habit::Unproves) {
            let failure = Failure::new(FailureKind::Unproven, "other frames than promised");
            return self.handle(at, Input::WorkFailed { attempt, failure });
        }
        self.handle(at, Input::Worked { attempt, progress });
        let result = TaskResult {
            media: fixture::blob(token << 1),
            proof: fixture::blob(token << 1 | 1),
            frames: spec.frames().unwrap_or(0),
            encode_ms: 1_000,
        };
        self.agents[at].io.results.insert(attempt, result);
        self.handle(at, Input::WorkDone { attempt, result });
    }

    fn result_comes(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::Fetch { attempt, task, from, result, until } = work else { return };
        let worker = index_of(from);
        if !self.network.connected(at, worker) {
            if self.now < until {
                return self.retry_later(at, token, key);
            }
            self.agents[at].io.end(key);
            let failure = Failure::new(FailureKind::Busy, "the worker does not answer");
            return self.handle(at, Input::ResultBad { attempt, task, failure });
        }
        self.agents[at].io.end(key);
        let there = self.agents[worker].io.results.get(&attempt) == Some(&result);
        if !there || self.has(worker, Habit::Corrupts) {
            let failure = Failure::new(FailureKind::Verify, "frame 7 differs");
            return self.handle(at, Input::ResultBad { attempt, task, failure });
        }
        if let Some(spec) = self.redo_before_commit(at, task) {
            self.oracle.respecify(task);
            return self.handle(at, Input::Redo { task, spec });
        }
        self.agents[at].io.fetched.insert((task, result.media));
        self.handle(at, Input::ResultGood { attempt, task });
    }

    /// Every seventh segment turns out to need another rung when its result comes.
    fn redo_before_commit(&mut self, at: usize, task: TaskId) -> Option<TaskSpec> {
        let redoes = self.has(at, Habit::Redoes) && task.index % 7 == 3;
        if !redoes || !self.agents[at].redone.insert(task) {
            return None;
        }
        self.lower_rung(at, task)
    }

    fn lower_rung(&self, at: usize, task: TaskId) -> Option<TaskSpec> {
        match self.agents[at].disk.get(&RecordKey::Task(task))? {
            Record::Task(record) => fixture::lower_rung(&record.spec),
            _ => None,
        }
    }

    fn join_ends(&mut self, at: usize, job: JobId) {
        self.agents[at].io.end(WorkKey::Join(job));
        self.check_joinable(at, job);
        let task = TaskId { job, index: 0 };
        if self.has(at, Habit::Redoes)
            && self.agents[at].redone.insert(task)
            && let Some(spec) = self.lower_rung(at, task)
        {
            self.oracle.respecify(task);
            return self.handle(at, Input::Redo { task, spec });
        }
        self.handle(at, Input::Joined(job));
    }

    /// A join needs every committed result in the owner's store.
    fn check_joinable(&mut self, at: usize, job: JobId) {
        let agent = &self.agents[at];
        let Some(Record::Job(of)) = agent.disk.get(&RecordKey::Job(job)) else {
            return self.oracle.fail("joins a job that is not on disk");
        };
        let missing = (0..of.tasks).find(|index| {
            let task = TaskId { job, index: *index };
            let commit = match agent.disk.get(&RecordKey::Task(task)) {
                Some(Record::Task(record)) => record.commit,
                _ => None,
            };
            commit.is_none_or(|of| !agent.io.fetched.contains(&(task, of.result.media)))
        });
        if let Some(index) = missing {
            self.oracle.fail(format!("joins without the result of task {index}"));
        }
    }
}

fn index_of(id: AgentId) -> usize {
    usize::from(id.0[31])
}
