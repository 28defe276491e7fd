//! The submitter's side of a job that was handed over: give it away, take it back, bring its result
//! home.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::handover::HandedJob;
use dmc_protocol::id::{AgentId, BlobRef, JobId};
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{Failure, FailureKind};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::jobs::{Phase, Proof, Status};
use crate::media::{MediaError, index, publish, verify};
use crate::runtime::Shared;
use crate::source;
use crate::worker::{chain, fetch_blob, release, room_for};
use crate::{archive, custody, intake};

use super::join::{Ended, is_published, proof_of, publish_result};
use super::{Scene, scene};

/// How long the custodian may be out of reach before the fetch waits for its next word.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who pins a result that comes home.
pub fn handed_holder(job: JobId) -> String {
    format!("handed-{}", job.0.simple())
}

/// Hashes the source, so that a custodian can fetch it from where it lies, and tells the core.
pub fn hand_over(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Some((input, token)) =
            shared.jobs.with(job, |entry| (entry.request.input.0.clone(), entry.token.clone()))
        else {
            return;
        };
        let known = tokio::select! {
            known = source::known(&shared, &input) => known,
            () = token.cancelled() => return,
        };
        let source = match known {
            Ok(source) => source,
            Err(error) => return intake::not_begun(&shared, job, error).await,
        };
        // A person may have changed their mind while the source was read.
        let wanted = shared.jobs.with(job, |entry| {
            let open = !entry.request.cancelled && entry.request.phase == Phase::HandedOver;
            open.then(|| entry.request.clone())
        });
        let Some(request) = wanted.flatten() else { return };
        let delivery = request.hand_over.unwrap_or_default();
        let name = request.input.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let handed = HandedJob {
            name: name.replace('\\', "_"),
            source,
            preset: request.preset,
            segment_s: request.segment_s,
            deliver_to: delivery.to,
            deliver_as: delivery.path,
        };
        // It has a custodian from now on, or will.
        let kept = shared.jobs.change(job, |request| request.status = Status::InProgress).await;
        if let Err(e) = kept {
            warn!(%job, "its status cannot be saved: {}", chain(&e));
        }
        let _turn = shared.jobs.turn().await;
        if !shared.jobs.is_open(job) {
            return;
        }
        shared.tell(Input::HandOver { job, handed }).await;
        if token.is_cancelled() {
            shared.tell(Input::CancelJob(job)).await;
        }
    });
}

/// A person wants the job back before it was offered to anybody.
pub async fn keep_here(shared: &Arc<Shared>, job: JobId) {
    let changed = shared.jobs.change(job, |request| {
        request.hand_over = None;
        request.phase = Phase::Planning;
    });
    match changed.await {
        Ok(()) => intake::begin(Arc::clone(shared), job, None),
        Err(e) => warn!(%job, "it cannot be taken back: {}", chain(&e)),
    }
}

/// This agent does the job itself after all, unless its result is published already.
pub fn take_back(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        unpin_result(&shared, job).await;
        let output = shared.jobs.with(job, |entry| entry.request.output.0.clone());
        let published = match output {
            Some(output) => is_published(&shared, &output, job).await,
            None => return,
        };
        if matches!(published, Ok(true)) {
            return shared.tell(Input::HandedPublished(job)).await;
        }
        info!(%job, "taken back: this agent converts it itself");
        shared.jobs.renew_token(job);
        let changed = shared.jobs.change(job, |request| {
            request.phase = Phase::Planning;
            request.note("no other agent finished it, so this one did".to_owned());
        });
        if let Err(e) = changed.await {
            warn!(%job, "its phase cannot be saved: {}", chain(&e));
        }
        intake::begin(Arc::clone(&shared), job, None);
    });
}

/// The job is over: at its custodian, here, or because a person cancelled it.
pub async fn ended(shared: Arc<Shared>, job: JobId) {
    let changed = shared.jobs.change(job, |request| request.phase = Phase::Over);
    if let Err(e) = changed.await {
        warn!(%job, "its end cannot be saved: {}", chain(&e));
    }
    custody::end_token(&shared, job);
    unpin_result(&shared, job).await;
    shared.jobs.unload(job);
    archive::retire(&shared, job).await;
    source::unlist_unneeded(&shared).await;
}

/// What was fetched of a custodian's result goes.
async fn unpin_result(shared: &Arc<Shared>, job: JobId) {
    let blobs = shared.store.blobs.clone();
    let released = tokio::task::spawn_blocking(move || blobs.unpin_all(&handed_holder(job))).await;
    if let Ok(Err(e)) = released {
        warn!(%job, "its result stays pinned: {}", chain(&e));
    }
}

/// Fetches the custodian's result, verifies it against the source here, and publishes it.
pub fn fetch_handed(shared: Arc<Shared>, job: JobId, from: AgentId, result: BlobRef) {
    let token = custody::token(&shared, job);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let brought = bring_home(&shared, job, from, result, &token).await;
        let input = match brought {
            Err(_) if token.is_cancelled() => return,
            Ok(()) => Input::HandedPublished(job),
            Err(Trouble::Cancelled) => return,
            Err(Trouble::Bad(failure)) => {
                warn!(%job, "its result is not here yet: {}", failure.reason);
                Input::HandedBad { job, failure }
            }
            Err(Trouble::Final(error)) => Input::HandedFailed { job, error },
        };
        shared.tell(input).await;
    });
}

/// Ends such a fetch; what is being published in this moment still is.
pub fn stop_handed(shared: &Shared, job: JobId) {
    custody::end_token(shared, job);
}

enum Trouble {
    Cancelled,
    /// The core decides what follows.
    Bad(Failure),
    /// Nothing that another agent does could change it.
    Final(String),
}

impl Trouble {
    /// Of this agent's own: the result waits until it is mended.
    fn own(why: impl Into<String>) -> Trouble {
        Trouble::Bad(Failure::new(FailureKind::Internal, why))
    }
}

/// Only a result that is wrong, or that cannot be decoded, is its maker's fault.
impl From<MediaError> for Trouble {
    fn from(error: MediaError) -> Trouble {
        let kind = match &error {
            _ if error.is_cancelled() => return Trouble::Cancelled,
            _ if error.is_disk_full() => FailureKind::DiskFull,
            MediaError::Wrong { .. } | MediaError::Failed { .. } => FailureKind::Verify,
            _ => FailureKind::Internal,
        };
        Trouble::Bad(Failure::new(kind, chain(&error)))
    }
}

async fn bring_home(
    shared: &Arc<Shared>,
    job: JobId,
    from: AgentId,
    result: BlobRef,
    token: &CancellationToken,
) -> Result<(), Trouble> {
    if shared.jobs.planned(job).is_none() {
        plan(shared, job).await?;
    }
    let scene = match scene(shared, job) {
        // Own work on the job rests and has the job's token.
        Some(Ok(scene)) => Scene { token: token.clone(), ..scene },
        Some(Err(error)) => return Err(Trouble::own(error)),
        None => return Err(Trouble::Cancelled),
    };
    match is_published(shared, &scene.output, job).await {
        Ok(false) => {}
        Ok(true) => return Ok(()),
        Err(ended) => return Err(trouble(ended)),
    }
    let dir = scene.output.parent().unwrap_or(Path::new("/"));
    room_for(shared, dir, result.bytes).map_err(Trouble::Bad)?;
    let holder = handed_holder(job);
    let fetched = tokio::select! {
        fetched = fetch_blob(shared, from, result, &holder, PATIENCE) => fetched,
        () = scene.token.cancelled() => return Err(Trouble::Cancelled),
    };
    fetched.map_err(Trouble::Bad)?;
    let temp = handed_temp(&scene.output, job);
    let published = publish_copy(shared, &scene, job, result, &temp).await;
    if published.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    // Published, or wrong; only where it is tried again is the copy kept.
    let again = |failure: &Failure| {
        matches!(failure.kind, FailureKind::Internal | FailureKind::DiskFull | FailureKind::Busy)
    };
    if !matches!(&published, Err(Trouble::Bad(failure)) if again(failure)) {
        release(shared, result, &holder);
    }
    published
}

/// Another name than that of a join here, which may be under way.
pub fn handed_temp(output: &Path, job: JobId) -> PathBuf {
    publish::temp_path(output, &format!("{job}-home"))
}

async fn plan(shared: &Arc<Shared>, job: JobId) -> Result<(), Trouble> {
    let request = shared.jobs.with(job, |entry| entry.request.clone()).ok_or(Trouble::Cancelled)?;
    let planned = intake::make_plan(shared, &request, None, false).await;
    let planned = planned.map_err(|e| Trouble::own(chain(&e)))?;
    let saved = shared.jobs.save_plan(job, planned).await;
    saved.map_err(|e| Trouble::own(e.to_string()))?;
    Ok(())
}

async fn publish_copy(
    shared: &Arc<Shared>,
    scene: &Scene,
    job: JobId,
    result: BlobRef,
    temp: &Path,
) -> Result<(), Trouble> {
    // A source that is not what was handed over is no measure for the result.
    unchanged(shared, scene, job).await?;
    let from = shared.store.blobs.path(result.id).map_err(|e| Trouble::own(chain(&e)))?;
    let to = temp.to_owned();
    let copied = tokio::task::spawn_blocking(move || std::fs::copy(from, to)).await;
    let copied = copied.map_err(|e| Trouble::own(e.to_string()))?;
    copied.map_err(|e| MediaError::io("write", temp, e))?;
    let proof = verify_here(scene, temp).await?;
    unchanged(shared, scene, job).await?;
    if scene.token.is_cancelled() {
        return Err(Trouble::Cancelled);
    }
    publish_result(shared, scene, job, temp, proof).await.map_err(trouble)
}

fn trouble(ended: Ended) -> Trouble {
    match ended {
        Ended::Cancelled => Trouble::Cancelled,
        Ended::Full(why) => Trouble::Bad(Failure::new(FailureKind::DiskFull, why)),
        Ended::Failed(error) | Ended::Unwanted(error) | Ended::Suspect(_, error) => {
            Trouble::own(error)
        }
        Ended::Damaged(_) => Trouble::own("a part is damaged".to_owned()),
    }
}

/// A source on a disk that is not there may come back; one that changed will not.
async fn unchanged(shared: &Arc<Shared>, scene: &Scene, job: JobId) -> Result<(), Trouble> {
    let there = scene.input.exists();
    source::unchanged(shared, job).await.map_err(|why| match there {
        true => Trouble::Final(why),
        false => Trouble::own(why),
    })
}

async fn verify_here(scene: &Scene, file: &Path) -> Result<Proof, MediaError> {
    let (plan, probe) = (&scene.planned.plan, &scene.planned.probe);
    let index = index::index(&scene.tools, &scene.input, probe).await?;
    let source = (plan, probe, &index);
    let report =
        verify::verify_handed(&scene.tools, source, &scene.input, file, &scene.token).await?;
    Ok(proof_of(plan.kind, &report))
}
