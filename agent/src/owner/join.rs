//! Joins the results, verifies the whole, and gives it its name.

use std::path::Path;
use std::sync::Arc;

use dmc_protocol::id::{BlobRef, JobId, TaskId};
use dmc_protocol::media::MediaKind;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::TaskResult;
use tracing::debug;

use crate::intact;
use crate::intake;
use crate::jobs::{Phase, Planned, Proof};
use crate::library;
use crate::media::run::TaskOutput;
use crate::media::{MediaError, join as joining, publish, quality, remux, verify};
use crate::replace::{SwapError, service};
use crate::room;
use crate::runtime::Shared;
use crate::source;
use crate::worker::chain;

use super::check::linked;
use super::{Scene, demote, fail, scene};

/// Joins the results, verifies the whole, publishes it. While a disk is full this waits.
pub fn join(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let scene = match scene(&shared, job) {
            Some(Ok(scene)) => scene,
            Some(Err(error)) => return fail(&shared, job, error).await,
            None => return,
        };
        let ended = loop {
            match is_published(&shared, &scene.output, job).await {
                Ok(true) => return shared.tell(Input::Joined(job)).await,
                Ok(false) => {}
                Err(ended) => break ended,
            }
            match make_result(&shared, &scene, job).await {
                Ok(()) => return shared.tell(Input::Joined(job)).await,
                Err(Ended::Full(why)) => {
                    if !shared.room.wait(job, &why, &scene.token).await {
                        break Ended::Cancelled;
                    }
                }
                Err(ended) => break ended,
            }
        };
        match ended {
            Ended::Cancelled | Ended::Full(_) => debug!(%job, "joining was cancelled"),
            Ended::Failed(error) => fail(&shared, job, error).await,
            Ended::Unwanted(why) => {
                debug!(%job, "{why}");
                intake::cancel(&shared, job).await;
            }
            Ended::Damaged(task) => {
                if let Some(spec) = scene.spec(task.index) {
                    intact::redo(&shared, task, spec, "its result").await;
                }
            }
            Ended::Suspect(task, why) => {
                demote(&shared, &scene, task, scene.spec(task.index), &why).await;
            }
        }
    });
}

/// One try. What it wrote is gone unless it got its name.
async fn make_result(shared: &Arc<Shared>, scene: &Scene, job: JobId) -> Result<(), Ended> {
    let temp = publish::temp_path(&scene.output, &job.to_string());
    let desk = shared.directory("work").join(format!("join-{job}"));
    let joined = tokio::select! {
        joined = join_and_verify(shared, scene, job, &temp, &desk) => joined,
        () = scene.token.cancelled() => Err(Ended::Cancelled),
    };
    let _ = std::fs::remove_dir_all(&desk);
    // From here on nothing is cut short: the file gets its name, and that is kept, or not.
    let published = match joined {
        Ok(proof) => publish_result(shared, scene, job, &temp, proof).await,
        Err(ended) => Err(ended),
    };
    if published.is_err() {
        let _ = std::fs::remove_file(&temp);
    }
    published
}

pub(super) enum Ended {
    Cancelled,
    /// A disk is full: nobody's fault, and it passes.
    Full(String),
    Failed(String),
    /// The rules of its folder throw the result away: it would save too little.
    Unwanted(String),
    /// The result of a task is damaged on this disk.
    Damaged(TaskId),
    Suspect(TaskId, String),
}

impl From<MediaError> for Ended {
    fn from(error: MediaError) -> Ended {
        match () {
            () if error.is_cancelled() => Ended::Cancelled,
            () if error.is_disk_full() => Ended::Full(chain(&error)),
            () => Ended::Failed(chain(&error)),
        }
    }
}

/// What kept a result from taking the place of its source.
impl From<SwapError> for Ended {
    fn from(error: SwapError) -> Ended {
        match error.is_disk_full() {
            true => Ended::Full(chain(&error)),
            false => Ended::Failed(chain(&error)),
        }
    }
}

/// Whether a run that was cut short had published the result already.
pub(super) async fn is_published(
    shared: &Arc<Shared>,
    output: &Path,
    job: JobId,
) -> Result<bool, Ended> {
    if service::is_wanted(shared, job)? {
        return Ok(service::is_done(shared, job).await?);
    }
    let publishing = shared.jobs.with(job, |entry| entry.request.publishing).flatten();
    Ok(publishing.is_some() && inode(output) == publishing)
}

/// Device and inode: the name of a file that a rename does not change.
fn inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

pub(super) async fn publish_result(
    shared: &Arc<Shared>,
    scene: &Scene,
    job: JobId,
    temp: &Path,
    proof: Proof,
) -> Result<(), Ended> {
    if let Some(why) = library::unwanted(shared, job, proof.bytes).await {
        return Err(Ended::Unwanted(why));
    }
    let publishing = inode(temp);
    let kept = shared.jobs.change(job, |request| {
        request.phase = Phase::Publishing;
        request.publishing = publishing;
        request.proof = Some(proof);
    });
    kept.await.map_err(|e| Ended::Failed(chain(&e)))?;
    let published = if service::is_wanted(shared, job)? {
        service::publish(shared, job, temp).await.map_err(Ended::from)
    } else {
        publish_beside(scene, temp).await
    };
    if published.is_err() && !service::is_under_way(shared, job) {
        let _ = shared.jobs.change(job, |request| request.proof = None).await;
    }
    published
}

/// The result gets a name of its own.
async fn publish_beside(scene: &Scene, temp: &Path) -> Result<(), Ended> {
    let (from, to, source) = (temp.to_owned(), scene.output.clone(), scene.input.clone());
    let overwrite = scene.overwrite;
    let published =
        tokio::task::spawn_blocking(move || publish::publish(&from, &to, &source, overwrite));
    match published.await {
        Ok(published) => published.map_err(Ended::from),
        Err(e) => Err(Ended::Failed(e.to_string())),
    }
}

async fn join_and_verify(
    shared: &Arc<Shared>,
    scene: &Scene,
    job: JobId,
    temp: &Path,
    desk: &Path,
) -> Result<Proof, Ended> {
    let phase = async |phase: Phase| {
        let _ = shared.jobs.change(job, |request| request.phase = phase).await;
    };
    phase(Phase::Joining).await;
    let parts = committed(shared, job).await?;
    let plan = &scene.planned.plan;
    check_all_parts(shared, job, &parts).await?;
    check_all_links(shared, scene, job, &parts).await?;
    source::unchanged(shared, job).await.map_err(Ended::Failed)?;
    let path =
        |blob: BlobRef| shared.store.blobs.path(blob.id).map_err(|e| Ended::Failed(chain(&e)));
    let results = parts.iter().map(|part| {
        Ok::<_, Ended>(TaskOutput { media: path(part.media)?, proof: path(part.proof)? })
    });
    let results = results.collect::<Result<Vec<_>, _>>()?;
    let (tools, token) = (&scene.tools, &scene.token);
    let bytes = parts.iter().map(|part| part.media.bytes).sum();
    let dir = scene.output.parent().unwrap_or(Path::new("/"));
    room::check(dir, bytes, shared.settings.disk_reserve_bytes)?;
    std::fs::create_dir_all(desk).map_err(|e| MediaError::io("write", desk, e))?;
    joining::join(tools, plan, &scene.input, &results, temp, desk, token).await?;
    phase(Phase::Verifying).await;
    let probe = &scene.planned.probe;
    let mut report =
        verify::verify_output(tools, plan, (probe, &scene.input), &results, temp, token).await?;
    if plan.preset.copies_pictures() {
        remux::prove(tools, plan, probe, (&scene.input, temp), &mut report, token).await?;
    }
    measure(shared, scene, job, temp).await;
    source::unchanged(shared, job).await.map_err(Ended::Failed)?;
    Ok(proof_of(plan.kind, &report))
}

/// Who wanted a quality is told what came of it. A result that cannot be measured is no worse.
async fn measure(shared: &Shared, scene: &Scene, job: JobId, result: &Path) {
    let Planned { plan, probe } = &*scene.planned;
    let work = plan.tasks.iter().find_map(|task| task.video());
    let (Some(target), Some(work)) = (plan.preset.options.target, work) else { return };
    let (source, metric) = ((scene.input.as_path(), probe), target.metric);
    let what = (work, result);
    let measured = quality::whole(&scene.tools, source, what, metric, &scene.token).await;
    let note = match measured {
        Ok(score) => format!("measured over the whole film: {metric} {score:.4}"),
        Err(e) => format!("{metric} of the whole film could not be measured: {}", chain(&e)),
    };
    if let Err(e) = shared.jobs.change(job, |request| request.note(note)).await {
        debug!(%job, "its quality cannot be noted: {}", chain(&e));
    }
}

/// What is told of a verified result of that kind.
pub(super) fn proof_of(kind: MediaKind, report: &verify::Report) -> Proof {
    let there = report.streams.iter().filter(|(_, count)| *count > 0);
    let streams = there.map(|(kind, count)| format!("{count} {kind:?}").to_lowercase());
    let streams: Vec<String> = match (kind, report.frames) {
        (MediaKind::Image, 1) => vec!["1 picture, compared with its source".to_owned()],
        (MediaKind::Image, count) => {
            vec![format!("{count} pictures that move, each compared with its source")]
        }
        _ => streams.collect(),
    };
    Proof {
        frames: report.frames,
        pts_error_us_max: report.max_pts_error_us,
        pixels_equal: report.pixels_equal,
        streams,
        bytes: report.bytes,
    }
}

async fn committed(shared: &Shared, job: JobId) -> Result<Vec<TaskResult>, Ended> {
    let results = shared.ask(move |mesh, _| {
        let job = mesh.jobs().get(job)?;
        job.tasks.iter().map(|task| Some(task.record.commit?.result)).collect::<Option<Vec<_>>>()
    });
    results.await.flatten().ok_or(Ended::Cancelled)
}

/// What was committed lay on this disk since, for days perhaps.
async fn check_all_parts(
    shared: &Arc<Shared>,
    job: JobId,
    parts: &[TaskResult],
) -> Result<(), Ended> {
    for (index, part) in (0..).zip(parts) {
        for blob in [part.media, part.proof] {
            match intact::path(shared, blob.id).await {
                Ok(_) => {}
                Err(e) if intact::is_damage(&e) => {
                    return Err(Ended::Damaged(TaskId { job, index }));
                }
                Err(e) => return Err(Ended::Failed(chain(&e))),
            }
        }
    }
    Ok(())
}

/// Every segment against the one before it, whatever happened between: after a restart nothing is
/// taken from memory.
async fn check_all_links(
    shared: &Shared,
    scene: &Scene,
    job: JobId,
    parts: &[TaskResult],
) -> Result<(), Ended> {
    let proof = |index: u32| {
        let part = parts.get(index as usize)?;
        shared.store.blobs.path(part.proof.id).ok()
    };
    for pair in scene.planned.plan.video_tasks().windows(2) {
        let (Some(before), Some(after)) = (proof(pair[0]), proof(pair[1])) else {
            return Err(Ended::Failed("a committed proof is gone from the store".to_owned()));
        };
        if let Err(why) = linked(&scene.planned.plan, pair[1], &before, &after).await {
            return Err(Ended::Suspect(TaskId { job, index: pair[1] }, why));
        }
    }
    Ok(())
}
