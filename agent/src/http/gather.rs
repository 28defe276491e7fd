//! Gathers what people and scripts see, from the core and the job book.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use dmc_protocol::condition::Condition;
use dmc_protocol::id::{AgentId, AttemptId, JobId};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::jobs::{Job, Lease, Task, TaskState};
use dmc_protocol::mesh::peers::{Peer, PeerState};
use dmc_protocol::mesh::work::Stage;
use dmc_protocol::record::JobState;
use dmc_protocol::time::Time;
use tracing::warn;

use crate::jobs::past::Past;
use crate::jobs::{Phase, Request, Status};
use crate::manners;
use crate::paths::AnyPath;
use crate::replace::view::UndoView;
use crate::runtime::Shared;
use crate::worker::chain;

use super::handed::{self, HandedView};
use super::held;
use super::views::{
    AttemptView, CapabilitiesView, JobView, PeerView, StatusView, TaskView, WorkerView,
};

/// Why this agent does not bid.
const NO_ROOM: &str = "waiting for room: a task did not fit on this disk, so nothing is taken on \
                       for now";

/// Why a job is not begun.
const OTHERS_FIRST: &str = "other jobs go first";

/// A moment as RFC 3339 text.
pub(super) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

/// Why an agent leaves its machine to others, and what becomes of its work.
fn yielding(condition: &Condition) -> Option<String> {
    let why = manners::reason(condition.yields?);
    let work = if condition.stopped { "its work is stopped" } else { "it finishes what it has" };
    Some(format!("{why}: {work}, and it takes nothing new until the machine is free"))
}

/// Why this agent does nothing new, or nothing for others.
fn waiting(shared: &Shared, off_hours: bool, no_room: bool) -> Option<String> {
    let condition = shared.info.lock().unwrap_or_else(PoisonError::into_inner).condition;
    if let Some(yields) = yielding(&condition) {
        return Some(yields);
    }
    if off_hours {
        let hours = &shared.settings.hours;
        return Some(format!("outside its hours ({hours}): it takes no new work"));
    }
    shared.room.state().or_else(|| no_room.then(|| NO_ROOM.to_owned()))
}

/// This agent; `None` while it stops.
pub async fn status(shared: &Arc<Shared>) -> Option<StatusView> {
    let (running, paused, peers, jobs_active, waits, kept) = shared
        .ask(|mesh, now| {
            let connected = mesh.peers().connected().len().saturating_sub(1);
            let active = mesh.jobs().iter().filter(|job| !job.record.state.is_over()).count();
            let work = mesh.work();
            let kept = held::kept(mesh, now);
            let waits = (work.is_off_hours(), work.is_disk_full());
            (work.running(), work.is_paused(), connected, active, waits, kept)
        })
        .await?;
    let counts =
        shared.jobs.counts().inspect_err(|e| warn!("jobs cannot be counted: {}", chain(e)));
    let jobs = counts.unwrap_or_default();
    let info = shared.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let listening = shared.listening.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some(StatusView {
        id: shared.me.to_string(),
        name: info.name,
        version: info.version,
        addresses: listening.iter().map(ToString::to_string).collect(),
        peers,
        paused,
        slots: info.slots,
        running,
        load: info.condition.load_x100.map(|load| f64::from(load) / 100.0),
        threads: info.condition.threads,
        temperature_c: info.condition.temperature_c,
        share_percent: info.condition.share_percent,
        jobs_active,
        jobs: jobs.into_iter().map(|(of, count)| (of.word().to_owned(), count)).collect(),
        free_disk_bytes: info.free_disk_bytes,
        kept,
        waiting: waiting(shared, waits.0, waits.1),
        door: shared.members.door().text(),
        trouble: super::mesh::trouble(shared),
    })
}

/// All peers, this agent not among them.
pub async fn peers(shared: &Arc<Shared>) -> Option<Vec<PeerView>> {
    let me = shared.me;
    let met = shared.met.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (net, members) = (shared.net.clone(), shared.members.all());
    shared
        .ask(move |mesh, _| {
            let others = mesh.peers().iter().filter(|(id, _)| *id != me && members.contains(id));
            let addresses = |id| met.get(&id).into_iter().flatten().map(ToString::to_string);
            others
                .map(|(id, peer)| PeerView {
                    addresses: addresses(id).collect(),
                    refused: peer.refused.saturating_add(net.refused(id)),
                    ..peer_view(mesh, id, peer)
                })
                .collect()
        })
        .await
}

fn peer_view(mesh: &Mesh, id: AgentId, peer: &Peer) -> PeerView {
    let info = peer.info.as_ref();
    let capabilities = info.map(|info| CapabilitiesView {
        ffmpeg: info.capabilities.ffmpeg_version.clone(),
        encoders: info.capabilities.encoders.keys().map(|e| e.name().to_owned()).collect(),
        kinds: info.capabilities.kinds.iter().map(ToString::to_string).collect(),
    });
    let speed = info.into_iter().flat_map(|info| &info.speeds);
    let condition = info.map(|info| info.condition).unwrap_or_default();
    PeerView {
        id: id.to_string(),
        name: mesh.name_of(id),
        state: match peer.state {
            PeerState::Connected => "connected",
            PeerState::Suspect => "suspect",
            PeerState::Gone => "gone",
        }
        .to_owned(),
        addresses: Vec::new(),
        capabilities: capabilities.unwrap_or_default(),
        speed: speed.map(|(class, units)| (class.to_string(), *units as f64 / 1e6)).collect(),
        running: mesh.jobs().leases_of(id),
        slots: peer.slots(),
        paused: info.is_some_and(|info| info.paused),
        waiting: info.and_then(|info| yielding(&info.condition)),
        load: condition.load_x100.map(|load| f64::from(load) / 100.0),
        threads: condition.threads,
        temperature_c: condition.temperature_c,
        share_percent: condition.share_percent,
        refused: peer.refused,
        free_disk_bytes: info.map_or(0, |info| info.free_disk_bytes),
    }
}

/// What the core knows of a job.
#[derive(Default)]
struct Core {
    state: Option<JobState>,
    progress: f64,
    frames: u64,
    frames_total: u64,
    fps: f64,
    bytes: u64,
    workers: Vec<WorkerView>,
    waiting: Option<String>,
    tasks: Vec<TaskView>,
    done: usize,
    total: usize,
    handed: Option<HandedView>,
    /// The submitter's name, and what the source is called there.
    submitter: Option<(String, AnyPath)>,
}

/// These jobs, without their tasks.
pub async fn jobs(shared: &Arc<Shared>, requests: Vec<Request>) -> Option<Vec<JobView>> {
    let ids: Vec<JobId> = requests.iter().map(|request| request.id).collect();
    let cores = shared.ask(move |mesh, now| {
        ids.into_iter().map(|id| facts_of(mesh, now, id, false)).collect::<Vec<_>>()
    });
    Some(
        requests
            .into_iter()
            .zip(cores.await?)
            .map(|(request, core)| assemble(shared, request, core))
            .collect(),
    )
}

/// One job with its tasks.
pub async fn job(shared: &Arc<Shared>, id: JobId) -> Option<JobView> {
    let core = shared.ask(move |mesh, now| facts_of(mesh, now, id, true)).await?;
    let read = shared.jobs.request(id).and_then(|request| match request {
        Some(request) if request.past.is_some() => Ok(Some((request, shared.jobs.past_tasks(id)?))),
        request => Ok(request.map(|request| (request, Vec::new()))),
    });
    let read = read.inspect_err(|e| warn!(job = %id, "it cannot be read: {}", chain(e)));
    let (request, tasks) = read.ok().flatten()?;
    let mut view = assemble(shared, request, core);
    if view.tasks.is_empty() {
        view.tasks = tasks;
    }
    Some(view)
}

/// What was kept of a job that the core does not know any more.
fn core_of_past(request: &Request, past: &Past) -> Core {
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

fn facts_of(mesh: &Mesh, now: Time, id: JobId, with_tasks: bool) -> Core {
    let core = mesh.jobs().get(id).map(|job| core_of(mesh, now, job, with_tasks));
    let handed = mesh.handovers().get(id).map(|handed| handed::view(mesh, handed));
    let kept = mesh.custody().get(id);
    let submitter = kept.map(|kept| {
        (mesh.name_of(kept.record.from), AnyPath(kept.record.handed.name.clone().into()))
    });
    Core { handed, submitter, ..core.unwrap_or_default() }
}

fn core_of(mesh: &Mesh, now: Time, job: &Job, with_tasks: bool) -> Core {
    let mut core = Core {
        state: Some(job.record.state.clone()),
        total: job.tasks.len(),
        waiting: mesh.waiting_for(now, job),
        ..Core::default()
    };
    let (mut units, mut units_total) = (0.0, 0.0);
    let mut workers: BTreeMap<AgentId, WorkerView> = BTreeMap::new();
    let mut worker = |id: AgentId, note: &mut dyn FnMut(&mut WorkerView)| {
        note(workers.entry(id).or_insert_with(|| WorkerView {
            id: id.to_string(),
            name: mesh.name_of(id),
            segments: 0,
            now: Vec::new(),
            fps: 0.0,
            away: mesh.peers().get(id).is_none_or(|peer| peer.state == PeerState::Gone),
            holds: Vec::new(),
        }));
    };
    for task in &job.tasks {
        let all = task.record.spec.work_units() as f64;
        let frames = task.record.spec.frames().unwrap_or(0);
        units_total += all;
        core.frames_total += frames;
        if let Some(commit) = task.record.commit {
            units += all;
            core.done += 1;
            core.frames += if commit.result.frames > 0 { commit.result.frames } else { frames };
            core.bytes += commit.result.media.bytes;
            worker(commit.worker, &mut |worker| worker.segments += 1);
            continue;
        }
        if task.state(true) == TaskState::Fetching {
            units += all;
            core.frames += frames;
        } else if let Some(held) = running(mesh, task) {
            units += all * held.part;
            core.frames += held.frames;
            core.bytes += held.bytes;
            core.fps += held.fps;
        }
        for (attempt, id) in &task.record.leases {
            let progress = progress_of(mesh, task, *attempt);
            worker(*id, &mut |worker| {
                let paused = is_paused(mesh, task, *attempt);
                worker.holds.push(held::hold(task, *attempt, progress.is_some(), paused));
                if let Some(progress) = progress.filter(|_| !paused) {
                    worker.now.push(task.record.spec.label());
                    worker.fps += f64::from(progress.fps_x100) / 100.0;
                }
            });
        }
    }
    core.progress = if units_total > 0.0 { (units / units_total).min(1.0) } else { 0.0 };
    core.workers = workers.into_values().collect();
    if with_tasks {
        let source = job.record.source.is_some();
        core.tasks = job.tasks.iter().map(|task| task_view(mesh, task, source)).collect();
    }
    core
}

struct Running {
    part: f64,
    frames: u64,
    bytes: u64,
    fps: f64,
}

type WireProgress = dmc_protocol::message::Progress;

/// This agent's own attempts are known to the moment, others by their last heartbeat.
fn progress_of(mesh: &Mesh, task: &Task, attempt: AttemptId) -> Option<WireProgress> {
    let own = mesh.work().held().find(|held| held.record.attempt == attempt);
    match own.map(|held| held.stage) {
        Some(Stage::Running(progress)) => Some(progress),
        Some(Stage::Done { .. }) => Some(WireProgress {
            frames: task.record.spec.frames().unwrap_or(0),
            ..WireProgress::default()
        }),
        Some(_) => None,
        None => task.leases.get(&attempt)?.progress,
    }
}

/// Whether it is stopped where it runs, because that machine is needed.
fn is_paused(mesh: &Mesh, task: &Task, attempt: AttemptId) -> bool {
    let own = mesh.work().held().any(|held| held.record.attempt == attempt);
    let lease = task.leases.get(&attempt);
    if own { mesh.work().is_stopped() } else { lease.is_some_and(Lease::is_paused) }
}

fn running(mesh: &Mesh, task: &Task) -> Option<Running> {
    let progress = task.record.leases.keys().filter_map(|id| progress_of(mesh, task, *id));
    let best = progress.max_by_key(|progress| (progress.frames, progress.media_ms))?;
    let part = match task.record.spec.frames() {
        Some(frames) if frames > 0 => best.frames as f64 / frames as f64,
        _ => match &task.record.spec {
            dmc_protocol::media::TaskSpec::Audio(audio) if audio.duration_us > 0 => {
                best.media_ms as f64 * 1_000.0 / audio.duration_us as f64
            }
            dmc_protocol::media::TaskSpec::Sound(sound) if sound.duration_us > 0 => {
                best.media_ms as f64 * 1_000.0 / sound.duration_us as f64
            }
            _ => 0.0,
        },
    };
    Some(Running {
        part: part.clamp(0.0, 1.0),
        frames: best.frames,
        bytes: best.bytes,
        fps: f64::from(best.fps_x100) / 100.0,
    })
}

fn task_view(mesh: &Mesh, task: &Task, source: bool) -> TaskView {
    use dmc_protocol::media::{Feed, TaskSpec};
    let record = &task.record;
    let attempt = |id: String, worker: AgentId, state: &str, reason: Option<String>| AttemptView {
        id,
        worker: worker.to_string(),
        worker_name: mesh.name_of(worker),
        state: state.to_owned(),
        reason,
    };
    let leased = record.leases.iter().map(|(id, by)| attempt(id.to_string(), *by, "leased", None));
    let expired =
        record.expired.iter().map(|(id, by)| attempt(id.to_string(), *by, "expired", None));
    let failed = record.failures.iter().map(|failed| {
        attempt(String::new(), failed.worker, "failed", Some(failed.failure.reason.clone()))
    });
    let committed =
        record.commit.iter().map(|c| attempt(c.attempt.to_string(), c.worker, "committed", None));
    let rung = match &record.spec {
        TaskSpec::Segment(segment) => match segment.feed {
            Feed::Piece { .. } => "pieces",
            Feed::Seek { .. } => "seek",
        },
        TaskSpec::Whole(_) => "whole",
        TaskSpec::Audio(_) => "audio",
        TaskSpec::Image(_) | TaskSpec::Still(_) => "image",
        TaskSpec::Sound(_) => "audio",
    };
    let state = match task.state(source) {
        TaskState::Waiting => "waiting",
        TaskState::Cutting => "cutting",
        TaskState::Ready => "ready",
        TaskState::Leased => "leased",
        TaskState::Fetching => "fetching",
        TaskState::Committed => "committed",
    };
    TaskView {
        index: record.id.index,
        label: record.spec.label(),
        state: state.to_owned(),
        rung: rung.to_owned(),
        worker: record.commit.map(|commit| commit.worker.to_string()),
        worker_name: record.commit.map(|commit| mesh.name_of(commit.worker)),
        frames: record.commit.map(|c| c.result.frames).or_else(|| record.spec.frames()),
        encode_s: record.commit.map(|commit| commit.result.encode_ms as f64 / 1_000.0),
        bytes: record.commit.map(|commit| commit.result.media.bytes),
        attempts: failed.chain(expired).chain(leased).chain(committed).collect(),
    }
}

/// What becomes of the source of a job.
fn undo(shared: &Shared, id: JobId) -> Option<UndoView> {
    let found = shared.undo.get(id).inspect_err(|e| warn!(job = %id, "{}", chain(e)));
    Some(UndoView::of(&found.ok().flatten()?, shared.settings.undo_keep_days))
}

fn assemble(shared: &Shared, request: Request, mut core: Core) -> JobView {
    if let Some(past) = request.past.as_ref().filter(|_| core.state.is_none()) {
        core = core_of_past(&request, past);
    }
    let mut errors = request.errors.clone();
    let handed = core.handed.take();
    if let Some(handed) = handed.as_ref().filter(|handed| handed.stands.is_some()) {
        core.progress = handed.progress;
        core.waiting.clone_from(&handed.waiting);
        if errors.is_empty() {
            errors.extend(handed.error.clone());
        }
    }
    let stands = handed.as_ref().and_then(|handed| handed.stands);
    let over = request.cancelled
        || request.phase == Phase::Over
        || core.state.as_ref().is_some_and(JobState::is_over);
    let no_room = if over { None } else { shared.room.job(request.id) };
    let waits_for_room = no_room.is_some();
    let others_first = request.phase == Phase::Waiting && !over;
    core.waiting = no_room.or(core.waiting).or(others_first.then(|| OTHERS_FIRST.to_owned()));
    let (status, phase) = match &core.state {
        _ if !errors.is_empty() => ("finished_with_errors", "over"),
        _ if request.cancelled => ("cancelled", "over"),
        // Its own work may rest beside it.
        state if !state.as_ref().is_some_and(JobState::is_over) && stands.is_some() => {
            stands.unwrap_or_default()
        }
        None if request.phase == Phase::Waiting => ("to_do", "waiting"),
        None if request.phase == Phase::HandedOver => ("to_do", "handing_over"),
        None if waits_for_room => ("to_do", "waiting"),
        None => ("to_do", "planning"),
        Some(JobState::Done) => ("finished_successful", "over"),
        Some(JobState::Cancelled) => ("cancelled", "over"),
        Some(JobState::Failed(reasons)) => {
            errors.clone_from(reasons);
            ("finished_with_errors", "over")
        }
        Some(JobState::Joining) if waits_for_room => ("in_progress", "waiting"),
        Some(JobState::Joining) => (
            "in_progress",
            match request.phase {
                Phase::Verifying => "verifying",
                Phase::Publishing => "publishing",
                _ => "joining",
            },
        ),
        Some(JobState::Active) if core.waiting.is_some() => ("in_progress", "waiting"),
        Some(JobState::Active) => ("in_progress", "encoding"),
    };
    let rung = request.rung.map(|rung| match rung {
        crate::media::plan::Rung::Pieces => "pieces",
        crate::media::plan::Rung::Seek => "seek",
        crate::media::plan::Rung::Whole => "whole",
        crate::media::plan::Rung::Remux => "remux",
        crate::media::plan::Rung::Image => "image",
    });
    let done = status == "finished_successful";
    let bytes = request.proof.as_ref().map_or(core.bytes, |proof| proof.bytes);
    JobView {
        id: request.id.to_string(),
        status: status.to_owned(),
        phase: phase.to_owned(),
        progress: if done { 1.0 } else { core.progress },
        frames: core.frames,
        frames_total: core.frames_total,
        fps: core.fps,
        bytes,
        rung: rung.map(str::to_owned),
        delivered_as: request.hand_over.and_then(|delivery| delivery.path),
        custodian: handed.and_then(|handed| handed.custodian),
        submitter: core.submitter.as_ref().map(|(name, _)| name.clone()),
        workers: core.workers,
        waiting: core.waiting,
        notes: request.notes,
        errors,
        proof: request.proof,
        undo: undo(shared, request.id),
        tasks_done: core.done,
        tasks_total: core.total,
        tasks: core.tasks,
        created_at: rfc3339(request.created_ms),
        updated_at: rfc3339(request.updated_ms),
        input: core.submitter.map_or(request.input, |(_, source)| source),
        output: request.output,
        preset: request.preset.name,
        priority: request.priority,
    }
}
