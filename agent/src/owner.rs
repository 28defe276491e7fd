//! What the owner of a job does beside deciding: cut pieces here, fetch and verify results in
//! `check`, find another way in `lower`, join and publish in `join`, give jobs away and bring
//! their results home in `handed`.

mod check;
mod handed;
mod join;
mod lower;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::id::{BlobRef, JobId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::TaskResult;
use dmc_store::{Import, StoreError};
use tokio_util::sync::CancellationToken;

use crate::archive;
use crate::jobs::{Phase, Planned};
use crate::media::plan::Plan;
use crate::media::run::Tools;
use crate::media::{MediaError, cut as cutting};
use crate::room;
use crate::runtime::Shared;
use crate::source;
use crate::worker::{chain, release};

pub use check::{Verified, fetch};
pub use handed::{
    ended, fetch_handed, hand_over, handed_holder, handed_temp, keep_here, stop_handed, take_back,
};
pub use join::join;
pub use lower::lower;

use lower::demote;

/// Who pins the piece of a task.
pub fn piece_holder(task: TaskId) -> String {
    format!("piece-{}-{}", task.job.0.simple(), task.index)
}

/// Who pins the fetched result of a task.
pub fn part_holder(task: TaskId) -> String {
    format!("part-{}-{}", task.job.0.simple(), task.index)
}

/// What the owner's IO for a job needs.
struct Scene {
    tools: Tools,
    planned: Arc<Planned>,
    input: PathBuf,
    output: PathBuf,
    overwrite: bool,
    token: CancellationToken,
}

/// `None`: the job is gone, nothing is to be done.
fn scene(shared: &Shared, job: JobId) -> Option<Result<Scene, String>> {
    let (request, token) =
        shared.jobs.with(job, |entry| (entry.request.clone(), entry.token.clone()))?;
    if token.is_cancelled() {
        return None;
    }
    let Some(tools) = shared.tools.clone() else {
        return Some(Err("ffmpeg is not installed on this machine any more".to_owned()));
    };
    let Some(planned) = shared.jobs.planned(job) else {
        return Some(
            Err("the plan of the job is lost; `dmc jobs retry` makes it again".to_owned()),
        );
    };
    let (input, output) = (request.input.0, request.output.0);
    let overwrite = request.overwrite;
    Some(Ok(Scene { tools, planned, input, output, overwrite, token }))
}

impl Scene {
    /// How a task is done in the plan that this scene was set for.
    fn spec(&self, task: u32) -> Option<TaskSpec> {
        self.planned.plan.tasks.get(task as usize).cloned()
    }
}

async fn fail(shared: &Shared, job: JobId, error: String) {
    shared.tell(Input::FailJob { job, errors: vec![error] }).await;
}

/// Cuts the piece for a task into the store.
pub fn cut(shared: Arc<Shared>, task: TaskId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Some(scene) = scene(&shared, task.job) else { return };
        let cut = match scene {
            Ok(scene) => cut_piece(&shared, &scene, task).await,
            Err(error) => Err(error),
        };
        match cut {
            Ok(Some(blob)) => shared.tell(Input::PieceReady { task, blob }).await,
            Ok(None) => {} // cancelled
            Err(error) => fail(&shared, task.job, error).await,
        }
    });
}

/// What cannot be cut may still be done another way; with a changed source nothing can.
async fn cut_failed(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    error: MediaError,
) -> Result<Option<BlobRef>, String> {
    if error.is_cancelled() {
        return Ok(None);
    }
    source::unchanged(shared, task.job).await?;
    demote(shared, scene, task, scene.spec(task.index), &chain(&error)).await;
    Ok(None)
}

/// While the disk is full this waits: pieces of other tasks go when their work is done.
async fn cut_piece(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
) -> Result<Option<BlobRef>, String> {
    loop {
        source::unchanged(shared, task.job).await?;
        let unique: u32 = rand::random();
        let name = format!("{}-{unique:08x}", piece_holder(task));
        let out = shared.store.blobs.temp_dir().join(name);
        let cut = cut_and_import(shared, scene, task, &out).await;
        if cut.is_err() {
            let _ = std::fs::remove_file(&out);
        }
        let full = match cut {
            Ok(piece) => return Ok(piece),
            Err(NoPiece::Store(e)) if e.is_disk_full() => chain(&e),
            Err(NoPiece::Store(e)) => return Err(chain(&e)),
            Err(NoPiece::Media(e)) if e.is_disk_full() => chain(&e),
            Err(NoPiece::Media(e)) => return cut_failed(shared, scene, task, e).await,
        };
        if !shared.room.wait(task.job, &full, &scene.token).await {
            return Ok(None);
        }
    }
}

/// Why there is no piece.
enum NoPiece {
    Media(MediaError),
    Store(StoreError),
}

async fn cut_and_import(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    out: &Path,
) -> Result<Option<BlobRef>, NoPiece> {
    let plan = &scene.planned.plan;
    let cut = plan.cuts.get(task.index as usize).and_then(Option::as_ref);
    let reserve = shared.settings.disk_reserve_bytes;
    room::check(&shared.data_dir, cut.map_or(0, |cut| cut.bytes), reserve)
        .map_err(NoPiece::Media)?;
    cutting::cut_piece(&scene.tools, &scene.input, plan, task.index, out, &scene.token)
        .await
        .map_err(NoPiece::Media)?;
    // The task may have been lowered meanwhile: another cut, for its new shape, answers.
    if !still_planned(shared, plan, task) {
        let _ = std::fs::remove_file(out);
        return Ok(None);
    }
    let (blobs, out) = (shared.store.blobs.clone(), out.to_owned());
    let imported = tokio::task::spawn_blocking(move || {
        let manifest = blobs.import(&out, Import::Move)?;
        blobs.pin(manifest.id, &piece_holder(task))?;
        Ok::<_, StoreError>(BlobRef { id: manifest.id, bytes: manifest.bytes })
    });
    match imported.await {
        Ok(imported) => imported.map(Some).map_err(NoPiece::Store),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

fn still_planned(shared: &Shared, plan: &Plan, task: TaskId) -> bool {
    let at = task.index as usize;
    let now = shared.jobs.planned(task.job);
    now.is_some_and(|now| now.plan.tasks.get(at) == plan.tasks.get(at))
}

/// The piece of a task is not needed any more.
pub fn release_piece(shared: Arc<Shared>, task: TaskId, blob: BlobRef) {
    let tasks = shared.tasks.clone();
    tasks.spawn_blocking(move || release(&shared, blob, &piece_holder(task)));
}

/// A committed result is not needed any more.
pub fn drop_result(shared: Arc<Shared>, task: TaskId, result: TaskResult) {
    let tasks = shared.tasks.clone();
    tasks.spawn_blocking(move || release_result(&shared, task, result));
}

/// The task whose fetched result a holder of that form pins.
pub fn task_of_part(holder: &str) -> Option<TaskId> {
    let (job, index) = holder.strip_prefix("part-")?.split_once('-')?;
    Some(TaskId { job: job.parse().ok()?, index: index.parse().ok()? })
}

fn release_result(shared: &Shared, task: TaskId, result: TaskResult) {
    let holder = part_holder(task);
    release(shared, result.media, &holder);
    release(shared, result.proof, &holder);
}

/// The job is over: its IO ends. A retry gets a new token.
pub fn job_over(shared: Arc<Shared>, job: JobId) {
    shared.jobs.with(job, |entry| entry.token.cancel());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let _ = shared.jobs.change(job, |request| request.phase = Phase::Over).await;
        shared.jobs.unload(job);
        archive::retire(&shared, job).await;
        source::unlist_unneeded(&shared).await;
    });
}
