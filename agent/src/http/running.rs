//! The conversions that run on this agent now, for itself and for others: `GET /api/v1/running`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use dmc_protocol::id::{AgentId, AttemptId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::work::{Held, Stage};
use dmc_protocol::message::Progress;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::stopping;
use super::gather::rfc3339;
use super::problem::{Problem, Refused};
use crate::paths::AnyPath;
use crate::runtime::Shared;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(running))
}

/// A conversion that runs on this agent now.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunningView {
    /// The process of ffmpeg; none in the moments between two of them.
    pub pid: Option<u32>,
    /// What that process does.
    pub step: Option<String>,
    /// When the conversion began here, RFC 3339.
    pub started_at: Option<String>,
    /// The file that is converted, where the job is this agent's own.
    #[schema(value_type = Option<String>)]
    pub item: Option<AnyPath>,
    /// The job.
    pub job: String,
    /// The task's position in the job's plan.
    pub task: u32,
    /// What the task is.
    pub label: String,
    /// The attempt.
    pub attempt: String,
    /// The agent whose job it is.
    pub owner: String,
    /// Its name.
    pub owner_name: String,
    /// Whether that is this agent.
    pub own: bool,
    /// The encoder.
    pub encoder: String,
    /// 0 to 1, where the length is known.
    pub progress: Option<f64>,
    /// Frames so far.
    pub frames: u64,
    /// Frames in all, where known.
    pub frames_total: Option<u64>,
    /// Frames a second.
    pub fps: f64,
    /// Bytes written so far.
    pub bytes: u64,
    /// Whether it is stopped, because the machine is needed, and will go on where it was.
    pub paused: bool,
}

/// What the core knows of an attempt that runs.
struct Runs {
    attempt: AttemptId,
    owner: AgentId,
    owner_name: String,
    task: TaskId,
    spec: TaskSpec,
    progress: Progress,
}

impl Runs {
    fn of(mesh: &Mesh, held: &Held) -> Option<Runs> {
        let Stage::Running(progress) = held.stage else { return None };
        let record = &held.record;
        Some(Runs {
            attempt: record.attempt,
            owner: record.owner,
            owner_name: mesh.name_of(record.owner),
            task: record.task,
            spec: record.spec.clone(),
            progress,
        })
    }

    /// How much of it is done, 0 to 1.
    fn part(&self) -> Option<f64> {
        let part = match (&self.spec, self.spec.frames()) {
            (_, Some(all)) if all > 0 => self.progress.frames as f64 / all as f64,
            (TaskSpec::Audio(task), _) if task.duration_us > 0 => {
                self.progress.media_ms as f64 * 1_000.0 / task.duration_us as f64
            }
            _ => return None,
        };
        Some(part.clamp(0.0, 1.0))
    }

    fn view(self, shared: &Shared, paused: bool) -> RunningView {
        let (began, child) = shared.children.of(self.attempt);
        let own = self.owner == shared.me;
        let job = self.task.job;
        let input = || shared.jobs.with(job, |entry| entry.request.input.clone());
        RunningView {
            pid: child.as_ref().map(|child| child.pid),
            step: child.map(|child| child.step.to_owned()),
            started_at: began.map(rfc3339),
            item: if own { input() } else { None },
            job: job.to_string(),
            task: self.task.index,
            label: self.spec.label(),
            attempt: self.attempt.to_string(),
            owner: self.owner.to_string(),
            own,
            encoder: self.spec.encoder().name().to_owned(),
            progress: self.part(),
            frames: self.progress.frames,
            frames_total: self.spec.frames(),
            fps: if paused { 0.0 } else { f64::from(self.progress.fps_x100) / 100.0 },
            bytes: self.progress.bytes,
            owner_name: self.owner_name,
            paused,
        }
    }
}

/// The conversions that run here now, the oldest first; `None` while the agent stops.
pub async fn gather(shared: &Arc<Shared>) -> Option<Vec<RunningView>> {
    let asked = shared.ask(|mesh, _| {
        let runs = mesh.work().held().filter_map(|held| Runs::of(mesh, held));
        (runs.collect::<Vec<_>>(), mesh.work().is_stopped())
    });
    let (runs, paused) = asked.await?;
    let mut views: Vec<_> = runs.into_iter().map(|runs| runs.view(shared, paused)).collect();
    views.sort_by(|a, b| a.started_at.cmp(&b.started_at));
    Some(views)
}

/// The conversions that run on this agent now, for itself and for others, the oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/running",
    tag = "agent",
    responses((status = 200, description = "What runs here now", body = Vec<RunningView>), Refused),
)]
async fn running(State(shared): State<Arc<Shared>>) -> Result<Json<Vec<RunningView>>, Problem> {
    Ok(Json(gather(&shared).await.ok_or_else(stopping)?))
}
