//! The long work of the agents: how long it takes, and how it ends.

use dmc_protocol::id::{AttemptId, JobId, TaskId};
use dmc_protocol::media::{TaskInput, TaskSpec};
use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::{Failure, FailureKind, Progress, TaskResult};
use dmc_protocol::record::{Record, RecordKey};

use super::{Event, World};
use crate::executor::{Work, WorkKey};
use crate::faults::{Habit, Lie, Span};
use crate::fixture::{self, index_of};

/// An input or film that does not come on a living connection is given up after so long.
const SERVE_MS: u64 = 60_000;
/// A result that does not come is given up after so long.
const PATIENCE_MS: u64 = 20_000;
const AGAIN_MS: u64 = 1_000;
/// What is over leaves the memory a little later.
const RETIRE_MS: Span = (0, 3_000);

impl World {
    pub(super) fn effect(&mut self, at: usize, output: Output) {
        let now = self.now;
        let io = &mut self.agents[at].io;
        match output {
            Output::Cut(task) => self.begin(at, (50, 900), Work::Cut(task)),
            Output::ReleasePiece { task, blob } => {
                io.pieces.remove(&(task, blob));
            }
            Output::Fetch { attempt, task, from, result } => {
                let until = now + PATIENCE_MS;
                self.begin(at, (20, 1_500), Work::Fetch { attempt, task, from, result, until });
            }
            Output::DropResult { task, result } => io.drop_result(task, &result),
            Output::Lower { task, .. } => self.begin(at, (50, 900), Work::Lower(task)),
            Output::Join(job) => self.begin(at, (300, 4_000), Work::Join(job)),
            Output::JobOver(job) => {
                io.job_over(job);
                self.retires_soon(at, job);
            }
            Output::FetchInput { attempt, owner, task, blob } => {
                let until = now + SERVE_MS;
                let work = Work::FetchInput { attempt, owner, task, blob, until };
                self.begin(at, (20, 2_000), work);
            }
            Output::Run { attempt, spec, .. } => self.begin_run(at, attempt, spec),
            Output::Discard { attempt, result, .. } => io.discard(attempt, result.is_some()),
            Output::TakeBack(job) | Output::BeginCustody(job) => {
                self.begin(at, (50, 3_000), Work::Plan(job));
            }
            Output::FetchHanded { job, from, result } => {
                let until = now + PATIENCE_MS;
                self.begin(at, (300, 4_000), Work::FetchHanded { job, from, result, until });
            }
            Output::StopHanded(job) => io.end(WorkKey::Handed(job)),
            Output::HandedEnded(job) => self.retires_soon(at, job),
            Output::FetchSource { job, from, source } => {
                self.begin(at, (300, 4_000), Work::FetchSource { job, from, source });
            }
            Output::KeepResult(job) => self.begin(at, (50, 900), Work::Keep(job)),
            Output::EndCustody { job, result, .. } => io.end_custody(job, result),
            Output::Save(_)
            | Output::Erase(_)
            | Output::Shelve(_)
            | Output::Unshelve(_)
            | Output::Send { .. }
            | Output::NeedIds
            | Output::Changed(_) => {}
        }
    }

    /// A job of another agent goes when that says so.
    fn retires_soon(&mut self, at: usize, job: JobId) {
        if fixture::submitter(job) == at {
            let (boot, delay) = (self.agents[at].boot, self.rng.within(RETIRE_MS));
            self.after(delay, Event::Retire { at, boot });
        }
    }

    fn begin(&mut self, at: usize, span: Span, work: Work) {
        self.next += 1;
        let (token, key, boot) = (self.next, work.key(), self.agents[at].boot);
        self.agents[at].io.start(token, work);
        let delay = self.rng.within(span);
        self.after(delay, Event::WorkEnds { at, boot, token, key });
    }

    fn begin_run(&mut self, at: usize, attempt: AttemptId, spec: TaskSpec) {
        let slow = self.agents[at].slowness();
        let takes_ms = self.rng.within((2_000 * slow, 7_000 * slow));
        self.ledger.begins();
        self.next += 1;
        let (token, boot, key) = (self.next, self.agents[at].boot, WorkKey::Attempt(attempt));
        // Short tasks tell their progress once, long ones often enough not to look stalled.
        let told = 1 + takes_ms / 120_000;
        for number in 1..=told {
            let percent = 100 * number / (told + 1);
            let delay = takes_ms * percent / 100;
            self.after(delay, Event::Progress { at, boot, token, key, percent });
        }
        self.agents[at].io.start(token, Work::Run { attempt, spec, takes_ms });
        self.after(takes_ms, Event::WorkEnds { at, boot, token, key });
    }

    pub(super) fn work_advances(&mut self, at: usize, token: u64, key: WorkKey, percent: u64) {
        let Some(Work::Run { attempt, spec, takes_ms, .. }) = self.agents[at].io.get(key, token)
        else {
            return;
        };
        let total = spec.frames().unwrap_or(0);
        let fps_x100 = u32::try_from(total * 100_000 / takes_ms.max(&1)).unwrap_or(u32::MAX);
        let (attempt, frames) = (*attempt, total * percent / 100);
        let progress = Progress { frames, media_ms: percent, bytes: frames, fps_x100 };
        self.give(at, Input::Worked { attempt, progress });
    }

    pub(super) fn work_ends(&mut self, at: usize, token: u64, work: Work) {
        let key = work.key();
        match work {
            Work::Cut(task) => self.cut_ends(at, token, task),
            Work::FetchInput { .. } => self.input_comes(at, token, &work),
            Work::Run { attempt, spec, .. } => self.run_ends(at, token, attempt, &spec),
            Work::Fetch { .. } => self.result_comes(at, token, &work),
            Work::Join(job) => self.join_ends(at, token, job),
            Work::Lower(task) => self.lower_ends(at, task),
            Work::Plan(job) => self.plan_ends(at, job),
            Work::FetchSource { .. } => self.source_comes(at, token, &work),
            Work::Keep(job) => {
                self.agents[at].io.end(key);
                let blob = fixture::blob(token);
                // After a crash the pin tells which blob it is.
                let result = *self.agents[at].io.kept.entry(job).or_insert(blob);
                self.give(at, Input::CustodyResult { job, result: Some(result) });
            }
            Work::FetchHanded { .. } => self.film_comes_home(at, token, &work),
        }
    }

    fn plan_ends(&mut self, at: usize, job: JobId) {
        self.agents[at].io.end(WorkKey::Plan(job));
        let submitter = fixture::submitter(job);
        let source = fixture::source(submitter);
        let tasks = fixture::plan(self.story.tasks);
        let input = match submitter == at {
            true => Input::AddJob { job, priority: 0, source: Some(source), tasks },
            false => Input::AddCustodyJob { job, source, tasks },
        };
        self.give(at, input);
    }

    /// An owner without room waits for it; nobody is to blame.
    fn cut_ends(&mut self, at: usize, token: u64, task: TaskId) {
        let key = WorkKey::Cut(task);
        if self.is_full(at) {
            return self.look_again(at, token, key);
        }
        self.agents[at].io.end(key);
        let blob = fixture::blob(token);
        self.agents[at].io.pieces.insert((task, blob));
        self.give(at, Input::PieceReady { task, blob });
    }

    fn lower_ends(&mut self, at: usize, task: TaskId) {
        self.agents[at].io.end(WorkKey::Lower(task));
        let Some(spec) = self.lower_rung(at, task) else { return };
        self.respecify(task);
        self.give(at, Input::Redo { task, spec });
    }

    fn look_again(&mut self, at: usize, token: u64, key: WorkKey) {
        let boot = self.agents[at].boot;
        self.after(AGAIN_MS, Event::WorkEnds { at, boot, token, key });
    }

    /// Whether the agent answers requests for its blobs now.
    fn serves(&self, to: usize, from: usize) -> bool {
        let agent = &self.agents[from];
        let drips = matches!(agent.lie(), Some(Lie::Drips | Lie::Starves));
        self.network.connected(to, from) && agent.is_up() && !self.sleeps(from) && !drips
    }

    fn has_input(&self, at: usize, task: TaskId, blob: dmc_protocol::id::BlobRef) -> bool {
        let io = &self.agents[at].io;
        blob == fixture::source(at)
            || io.pieces.contains(&(task, blob))
            || io.sources.values().any(|source| *source == blob)
    }

    fn input_comes(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::FetchInput { attempt, owner, task, blob, until } = work else { return };
        let from = index_of(owner);
        if !self.serves(at, from) {
            // The owner may come back; one that is there and does not serve will not.
            if !self.network.connected(at, from) || self.now < until {
                return self.look_again(at, token, key);
            }
            self.agents[at].io.end(key);
            let failure = Failure::new(FailureKind::Input, "its owner does not serve the input");
            return self.give(at, Input::WorkFailed { attempt, failure });
        }
        self.agents[at].io.end(key);
        let full = (self.is_full(at) || self.agents[at].has(Habit::DiskFull)) && from != at;
        let failure = match (self.has_input(from, task, blob), full) {
            (_, true) => Some(Failure::new(FailureKind::DiskFull, "no room for the input")),
            (false, _) => Some(Failure::new(FailureKind::Input, "the piece is gone")),
            (true, false) => None,
        };
        match failure {
            Some(failure) => self.give(at, Input::WorkFailed { attempt, failure }),
            None => {
                self.agents[at].io.inputs.insert(attempt);
                self.give(at, Input::InputReady(attempt));
            }
        }
    }

    fn run_ends(&mut self, at: usize, token: u64, attempt: AttemptId, spec: &TaskSpec) {
        self.agents[at].io.end(WorkKey::Attempt(attempt));
        if let Some(failure) = self.run_fails(at, spec) {
            return self.give(at, Input::WorkFailed { attempt, failure });
        }
        let result = TaskResult {
            media: fixture::blob(token << 1),
            proof: fixture::blob(token << 1 | 1),
            frames: spec.frames().unwrap_or(0),
            encode_ms: 1_000,
        };
        if let Some(Record::Work(work)) = self.agents[at].disk.get(&RecordKey::Work(attempt)) {
            self.ledger.finishes(attempt, work.task);
        }
        self.agents[at].io.results.insert(attempt, result);
        self.give(at, Input::WorkDone { attempt, result });
    }

    fn run_fails(&self, at: usize, spec: &TaskSpec) -> Option<Failure> {
        let agent = &self.agents[at];
        if self.is_full(at) {
            return Some(Failure::new(FailureKind::DiskFull, "no room for the result"));
        }
        if agent.has(Habit::Fails) {
            return Some(Failure::new(FailureKind::Encode, "ffmpeg: conversion failed"));
        }
        let unproven = matches!(spec, TaskSpec::Segment(task)
            if task.number % 5 == 2 && spec.input() == TaskInput::Piece);
        let other = "other frames than promised";
        (unproven && agent.has(Habit::Unproves)).then(|| Failure::new(FailureKind::Unproven, other))
    }

    fn result_comes(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::Fetch { attempt, task, from, result, until } = work else { return };
        let worker = index_of(from);
        if !self.serves(at, worker) {
            if self.now < until {
                return self.look_again(at, token, key);
            }
            self.agents[at].io.end(key);
            let failure = Failure::new(FailureKind::Busy, "the worker does not answer");
            return self.give(at, Input::ResultBad { attempt, task, failure });
        }
        if self.is_full(at) {
            return self.look_again(at, token, key);
        }
        self.agents[at].io.end(key);
        let there = self.agents[worker].io.results.get(&attempt) == Some(&result);
        if !there || self.agents[worker].has(Habit::Corrupts) {
            let failure = Failure::new(FailureKind::Verify, "frame 7 differs");
            return self.give(at, Input::ResultBad { attempt, task, failure });
        }
        if let Some(spec) = self.redo_before_commit(at, task) {
            self.respecify(task);
            return self.give(at, Input::Redo { task, spec });
        }
        self.agents[at].io.fetched.insert((task, result.media));
        self.give(at, Input::ResultGood { attempt, task });
    }

    /// Every seventh segment turns out to need another rung when its result comes.
    fn redo_before_commit(&mut self, at: usize, task: TaskId) -> Option<TaskSpec> {
        let redoes = self.agents[at].has(Habit::Redoes) && task.index % 7 == 3;
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

    fn join_ends(&mut self, at: usize, token: u64, job: JobId) {
        let key = WorkKey::Join(job);
        if self.is_full(at) {
            return self.look_again(at, token, key);
        }
        self.agents[at].io.end(key);
        self.check_joinable(at, job);
        let task = TaskId { job, index: 0 };
        if self.agents[at].has(Habit::Redoes)
            && self.agents[at].redone.insert(task)
            && let Some(spec) = self.lower_rung(at, task)
        {
            self.respecify(task);
            return self.give(at, Input::Redo { task, spec });
        }
        self.publish(at, job);
        self.give(at, Input::Joined(job));
    }

    /// The film gets its name. After a crash it is found under it.
    fn publish(&mut self, at: usize, job: JobId) {
        let agent = &mut self.agents[at];
        let again = agent.io.published.insert(job, agent.boot) == Some(agent.boot);
        self.oracle.on_publish(job, again, &agent.disk);
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

    // ---- whole jobs ----

    fn source_comes(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::FetchSource { job, from, source } = work else { return };
        if !self.serves(at, index_of(from)) {
            return self.look_again(at, token, key);
        }
        self.agents[at].io.end(key);
        if self.is_full(at) {
            let why = "no room for the source".to_owned();
            return self.give(at, Input::CustodyGivenUp { job, why });
        }
        self.agents[at].io.sources.insert(job, source);
        self.give(at, Input::CustodySource(job));
    }

    fn film_comes_home(&mut self, at: usize, token: u64, work: &Work) {
        let key = work.key();
        let &Work::FetchHanded { job, from, result, until } = work else { return };
        let custodian = index_of(from);
        if !self.serves(at, custodian) || self.is_full(at) {
            if self.now < until {
                return self.look_again(at, token, key);
            }
            self.agents[at].io.end(key);
            let failure = Failure::new(FailureKind::Busy, "the custodian does not answer");
            return self.give(at, Input::HandedBad { job, failure });
        }
        self.agents[at].io.end(key);
        let good = self.agents[custodian].io.kept.get(&job) == Some(&result);
        if !good || self.agents[custodian].has(Habit::Corrupts) {
            let failure = Failure::new(FailureKind::Verify, "it is not the film");
            return self.give(at, Input::HandedBad { job, failure });
        }
        self.publish(at, job);
        self.give(at, Input::HandedPublished(job));
    }
}
