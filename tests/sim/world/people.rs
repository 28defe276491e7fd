//! What persons do: ask for jobs, change their mind, stop an agent.

use dmc_protocol::handover::HandedState;
use dmc_protocol::id::TaskId;
use dmc_protocol::mesh::Input;
use dmc_protocol::record::{JobState, Record, RecordKey};

use super::{Event, RETIRE_AGAIN_MS, World};
use crate::agent::Past;
use crate::executor::WorkKey;
use crate::faults::{Fault, Habit, Span};
use crate::fixture;

/// How long a stop waits for attempts that are almost finished.
const GRACE_MS: u64 = 10_000;
const STOP_CHECK_MS: u64 = 500;
const RESUME_AGAIN_MS: u64 = 5_000;
const RETRY_AGAIN_MS: u64 = 100;
/// How long after its last word the process is gone.
const EXIT_MS: u64 = 1_000;

impl World {
    pub(super) fn add_job(&mut self, at: usize) {
        let job = fixture::job_id(at);
        let agent = &self.agents[at];
        let records = agent.records();
        let known = [RecordKey::Job(job), RecordKey::Handed(job)];
        if known.iter().any(|key| records.contains_key(key)) || agent.past.contains_key(&job) {
            return;
        }
        match fixture::handed(at) {
            Some(handed) if self.story.hands_over.contains(&at) => {
                self.give(at, Input::HandOver { job, handed });
            }
            _ => {
                let tasks = fixture::plan(self.story.tasks);
                self.give(at, Input::AddJob { job, priority: 0, source: None, tasks });
            }
        }
    }

    pub(super) fn person(&mut self, fault: Fault) {
        match fault {
            Fault::Pause(at, span) => {
                self.give(at, Input::SetPaused(true));
                let delay = self.rng.within(span);
                self.relief(delay, Event::Resume(at));
            }
            Fault::Yield(at, span) => {
                let stopped = self.rng.chance(50);
                self.give(at, Input::SetYielding { yields: true, stopped });
                let delay = self.rng.within(span);
                if self.rng.chance(50) {
                    self.relief(delay / 2, Event::GiveBack(at));
                }
                self.relief(delay, Event::Free(at));
            }
            Fault::Cancel(at) => self.give(at, Input::CancelJob(fixture::job_id(at))),
            Fault::Retry(at) => self.retry(at),
            Fault::TakeBack(at) => self.give(at, Input::TakeBack(fixture::job_id(at))),
            Fault::Replan(at) => self.replan(at),
            Fault::Mend(at) => self.agents[at].habits.retain(|habit| *habit != Habit::Fails),
            Fault::Leave(at) => self.stop(at, None),
            Fault::StopAndStart(at, down) => self.stop(at, Some(down)),
            _ => {}
        }
    }

    /// A film that got its name while its job was cancelled is found under it.
    fn retry(&mut self, at: usize) {
        let job = fixture::job_id(at);
        if self.agents[at].group.is_some() {
            // Its records may be on their way to the shelf.
            return self.relief(RETRY_AGAIN_MS, Event::Fault(Fault::Retry(at)));
        }
        if let Some(boot) = self.agents[at].io.published.get_mut(&job) {
            *boot = 0;
        }
        let shelf: Vec<Record> = self.agents[at].shelf.values().cloned().collect();
        self.give(at, Input::UnshelveJob(shelf));
        // Nobody told a job that had left that its source is hashed.
        self.give(at, Input::SourceReady { job, blob: fixture::source(at) });
        self.give(at, Input::RetryJob(job));
    }

    /// What people see of a job that is over is kept, and it leaves the memory.
    pub(super) fn retire(&mut self, at: usize, boot: u64) {
        let job = fixture::job_id(at);
        let agent = &self.agents[at];
        let Some(mesh) = &agent.mesh else { return };
        if agent.group.is_some() || !agent.inbox.is_empty() {
            return self.after(RETIRE_AGAIN_MS, Event::Retire { at, boot });
        }
        let over_of_others = mesh
            .jobs()
            .iter()
            .map(|job| job.record.id)
            .find(|id| fixture::submitter(*id) != at && mesh.is_at_rest(*id));
        if let Some(other) = over_of_others {
            // A crash came while it was being let go.
            self.give(at, Input::RemoveJob(other));
            return self.after(RETIRE_AGAIN_MS, Event::Retire { at, boot });
        }
        if at >= self.story.owners {
            return;
        }
        let over = self.outcome(at).filter(JobState::is_over);
        let (true, Some(state)) = (mesh.is_at_rest(job), over) else { return };
        let of = |key: &RecordKey| match key {
            RecordKey::Job(of) | RecordKey::Handed(of) => *of == job,
            RecordKey::Task(task) => task.job == job,
            RecordKey::Work(_) | RecordKey::Custody(_) | RecordKey::Paused => false,
        };
        let records: Vec<Record> = agent
            .disk
            .iter()
            .filter(|(key, _)| of(key))
            .map(|(_, record)| record.clone())
            .collect();
        if records.is_empty() {
            return; // it has left
        }
        self.agents[at].past.insert(job, Past { state, records });
        self.agents[at].io.end(WorkKey::Plan(job));
        self.give(at, Input::ShelveJob(job));
    }

    /// The person resumes the agent, and looks whether it took.
    pub(super) fn resume(&mut self, at: usize) {
        let agent = &self.agents[at];
        if agent.dead {
            return;
        }
        let listens =
            agent.is_up() && !agent.deaf && agent.sleep.is_none() && agent.group.is_none();
        let paused = agent.disk.get(&RecordKey::Paused) == Some(&Record::Paused(true));
        if listens {
            self.give(at, Input::SetPaused(false));
        }
        if paused || !listens {
            self.relief(RESUME_AGAIN_MS, Event::Resume(at));
        }
    }

    /// The agent sees that its machine is free.
    pub(super) fn free(&mut self, at: usize) {
        let agent = &self.agents[at];
        let yields = agent.mesh.as_ref().is_some_and(|mesh| mesh.work().is_yielding());
        if agent.dead || !yields {
            return; // a start begins without
        }
        if agent.is_up() && !agent.deaf && agent.sleep.is_none() && agent.group.is_none() {
            self.give(at, Input::SetYielding { yields: false, stopped: false });
        }
        self.relief(RESUME_AGAIN_MS, Event::Free(at));
    }

    /// The owner finds that pieces do not do.
    fn replan(&mut self, at: usize) {
        let job = fixture::job_id(at);
        let handed = match self.agents[at].disk.get(&RecordKey::Handed(job)) {
            Some(Record::Handed(handed)) => Some(&handed.state),
            _ => None,
        };
        if handed.is_some_and(|state| *state != HandedState::Own) {
            return; // nobody plans a job that is somebody else's
        }
        if self.agents[at].group.is_some() {
            return; // a join may be among what waits for the disk: it could not be ended
        }
        self.agents[at].io.end(WorkKey::Join(job));
        for index in 0..self.story.tasks {
            self.respecify(TaskId { job, index });
        }
        self.give(at, Input::Replan { job, tasks: fixture::whole_plan() });
    }

    fn stop(&mut self, at: usize, back: Option<Span>) {
        if self.agents[at].mesh.is_none() || self.agents[at].sleep.is_some() {
            return;
        }
        let (boot, until) = (self.agents[at].boot, self.now + GRACE_MS);
        self.give(at, Input::Stop { grace_ms: GRACE_MS });
        self.after(STOP_CHECK_MS, Event::StopCheck { at, boot, until, back });
    }

    pub(super) fn stop_check(&mut self, at: usize, until: u64, back: Option<Span>) {
        let agent = &self.agents[at];
        let boot = agent.boot;
        let waits = agent.mesh.as_ref().is_some_and(dmc_protocol::mesh::Mesh::waits_to_stop);
        if waits && self.now < until {
            return self.after(STOP_CHECK_MS, Event::StopCheck { at, boot, until, back });
        }
        self.give(at, Input::StopNow);
        if self.is_now(at, boot) {
            self.agents[at].deaf = true;
            self.after(EXIT_MS, Event::Exit { at, boot, back });
        }
    }

    /// The process ends; its last commit is through, unless the disk is full.
    pub(super) fn exit(&mut self, at: usize, back: Option<Span>) {
        self.crash(at);
        match back {
            Some(down) => {
                let delay = self.rng.within(down);
                self.relief(delay, Event::Start(at));
            }
            None => self.agents[at].dead = true,
        }
    }
}
