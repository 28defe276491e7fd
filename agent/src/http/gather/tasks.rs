//! A task and its attempts.

use dmc_protocol::id::{AgentId, AttemptId};
use dmc_protocol::media::{Feed, TaskSpec};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::jobs::{Lease, Task, TaskState};
use dmc_protocol::mesh::work::Stage;

use crate::http::views::{AttemptView, TaskView};

/// How far an unfinished task is, by the attempt that is farthest.
pub(super) struct Running {
    /// 0 to 1.
    pub(super) part: f64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) fps: f64,
}

type WireProgress = dmc_protocol::message::Progress;

/// This agent's own attempts are known to the moment, others by their last heartbeat.
pub(super) fn progress_of(mesh: &Mesh, task: &Task, attempt: AttemptId) -> Option<WireProgress> {
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
pub(super) fn is_paused(mesh: &Mesh, task: &Task, attempt: AttemptId) -> bool {
    let own = mesh.work().held().any(|held| held.record.attempt == attempt);
    let lease = task.leases.get(&attempt);
    if own { mesh.work().is_stopped() } else { lease.is_some_and(Lease::is_paused) }
}

pub(super) fn running(mesh: &Mesh, task: &Task) -> Option<Running> {
    let progress = task.record.leases.keys().filter_map(|id| progress_of(mesh, task, *id));
    let best = progress.max_by_key(|progress| (progress.frames, progress.media_ms))?;
    let part = match task.record.spec.frames() {
        Some(frames) if frames > 0 => best.frames as f64 / frames as f64,
        _ => match &task.record.spec {
            TaskSpec::Audio(audio) if audio.duration_us > 0 => {
                best.media_ms as f64 * 1_000.0 / audio.duration_us as f64
            }
            TaskSpec::Sound(sound) if sound.duration_us > 0 => {
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

/// A task with its attempts; `source`: whether the job knows the hash of its source.
pub(super) fn view(mesh: &Mesh, task: &Task, source: bool) -> TaskView {
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
