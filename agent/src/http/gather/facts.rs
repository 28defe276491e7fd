//! What the core knows of a job, or what was kept of one that it does not know any more.

use std::collections::BTreeMap;

use dmc_protocol::id::{AgentId, JobId};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::jobs::{Job, Task, TaskState};
use dmc_protocol::mesh::peers::PeerState;
use dmc_protocol::record::JobState;
use dmc_protocol::time::Time;

use super::tasks;
use crate::http::handed::{self, HandedView};
use crate::http::held;
use crate::http::views::{TaskView, WorkerView};
use crate::jobs::past::Past;
use crate::jobs::{Request, Status};
use crate::paths::AnyPath;

/// What the core knows of a job.
#[derive(Default)]
pub(super) struct Core {
    pub(super) state: Option<JobState>,
    /// 0 to 1, by work units.
    pub(super) progress: f64,
    pub(super) frames: u64,
    pub(super) frames_total: u64,
    /// Frames a second over all agents.
    pub(super) fps: f64,
    /// Bytes of what is encoded so far.
    pub(super) bytes: u64,
    pub(super) workers: Vec<WorkerView>,
    /// What it waits for.
    pub(super) waiting: Option<String>,
    pub(super) tasks: Vec<TaskView>,
    /// Tasks that are committed, and all of them.
    pub(super) done: usize,
    pub(super) total: usize,
    pub(super) handed: Option<HandedView>,
    /// The submitter's name, and what the source is called there.
    pub(super) submitter: Option<(String, AnyPath)>,
}

/// What was kept of a job that the core does not know any more.
pub(super) fn core_of_past(request: &Request, past: &Past) -> Core {
    let workers = past.workers.iter().map(|worker| WorkerView {
        id: worker.id.clone(),
        name: worker.name.clone(),
        segments: worker.segments as usize,
        now: Vec::new(),
        fps: 0.0,
        away: false,
        holds: Vec::new(),
    });
    let state = match request.status {
        Status::FinishedSuccessful => Some(JobState::Done),
        Status::FinishedWithErrors => Some(JobState::Failed(request.errors.clone())),
        Status::Cancelled => Some(JobState::Cancelled),
        Status::ToDo | Status::InProgress => None,
    };
    Core {
        state,
        progress: past.progress,
        frames: past.frames,
        frames_total: past.frames_total,
        bytes: past.bytes,
        workers: workers.collect(),
        done: past.tasks_done as usize,
        total: past.tasks_total as usize,
        handed: past.custodian.clone().map(HandedView::of_past),
        ..Core::default()
    }
}

/// What the core has of a job: as owner, as submitter and as custodian.
pub(super) fn facts_of(mesh: &Mesh, now: Time, id: JobId, with_tasks: bool) -> Core {
    let core = mesh.jobs().get(id).map(|job| core_of(mesh, now, job, with_tasks));
    let handed = mesh.handovers().get(id).map(|handed| handed::view(mesh, handed));
    let kept = mesh.custody().get(id);
    let submitter = kept.map(|kept| {
        (mesh.name_of(kept.record.from), AnyPath(kept.record.handed.name.clone().into()))
    });
    Core { handed, submitter, ..core.unwrap_or_default() }
}

fn core_of(mesh: &Mesh, now: Time, job: &Job, with_tasks: bool) -> Core {
    let core = Core {
        state: Some(job.record.state.clone()),
        total: job.tasks.len(),
        waiting: mesh.waiting_for(now, job),
        ..Core::default()
    };
    let mut tally = Tally { mesh, core, units: 0.0, units_total: 0.0, workers: BTreeMap::new() };
    job.tasks.iter().for_each(|task| tally.add(task));
    let Tally { mut core, units, units_total, workers, .. } = tally;
    core.progress = if units_total > 0.0 { (units / units_total).min(1.0) } else { 0.0 };
    core.workers = workers.into_values().collect();
    if with_tasks {
        let source = job.record.source.is_some();
        core.tasks = job.tasks.iter().map(|task| tasks::view(mesh, task, source)).collect();
    }
    core
}

/// What the tasks of a job come to.
struct Tally<'a> {
    mesh: &'a Mesh,
    core: Core,
    /// Work that is done, in the units of [`dmc_protocol::media::TaskSpec::work_units`].
    units: f64,
    /// All of it.
    units_total: f64,
    workers: BTreeMap<AgentId, WorkerView>,
}

impl Tally<'_> {
    fn add(&mut self, task: &Task) {
        let (mesh, core) = (self.mesh, &mut self.core);
        let all = task.record.spec.work_units() as f64;
        let frames = task.record.spec.frames().unwrap_or(0);
        self.units_total += all;
        core.frames_total += frames;
        if let Some(commit) = task.record.commit {
            self.units += all;
            core.done += 1;
            core.frames += if commit.result.frames > 0 { commit.result.frames } else { frames };
            core.bytes += commit.result.media.bytes;
            self.worker(commit.worker).segments += 1;
            return;
        }
        if task.state(true) == TaskState::Fetching {
            self.units += all;
            core.frames += frames;
        } else if let Some(held) = tasks::running(mesh, task) {
            self.units += all * held.part;
            core.frames += held.frames;
            core.bytes += held.bytes;
            core.fps += held.fps;
        }
        for (attempt, id) in &task.record.leases {
            let progress = tasks::progress_of(mesh, task, *attempt);
            let paused = tasks::is_paused(mesh, task, *attempt);
            let worker = self.worker(*id);
            worker.holds.push(held::hold(task, *attempt, progress.is_some(), paused));
            if let Some(progress) = progress.filter(|_| !paused) {
                worker.now.push(task.record.spec.label());
                worker.fps += f64::from(progress.fps_x100) / 100.0;
            }
        }
    }

    fn worker(&mut self, id: AgentId) -> &mut WorkerView {
        let mesh = self.mesh;
        self.workers.entry(id).or_insert_with(|| WorkerView {
            id: id.to_string(),
            name: mesh.name_of(id),
            segments: 0,
            now: Vec::new(),
            fps: 0.0,
            away: mesh.peers().get(id).is_none_or(|peer| peer.state == PeerState::Gone),
            holds: Vec::new(),
        })
    }
}
