//! What the owner of a job does beside deciding: cut pieces, fetch and verify results, join.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{Failure, FailureKind, TaskResult};
use dmc_protocol::record::JobState;
use dmc_store::Import;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::jobs::{Phase, Planned, Proof, Stamp};
use crate::media::plan::{self, Demotion, Plan};
use crate::media::run::{TaskOutput, Tools};
use crate::media::{MediaError, cut as cutting, join as joining, publish, verify};
use crate::runtime::Shared;
use crate::worker::{chain, fetch_blob, release, room_for, store_kind};

/// Most bytes of a proof: a few bytes for each frame of a very long film.
const PROOF_BYTES_MAX: u64 = 1 << 30;

/// How long a worker may be out of reach while its result is fetched; it lists the result again
/// when it is back.
const PATIENCE: Duration = Duration::from_secs(30);

/// What verification knows of a job: the proofs of results that passed, and the parameters that
/// all parts must share.
#[derive(Debug, Default)]
pub struct Verified {
    proofs: BTreeMap<u32, PathBuf>,
    extradata: BTreeMap<u32, String>,
}

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
    stamp: Stamp,
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
    let stamp = request.stamp;
    let (input, output) = (request.input.0, request.output.0);
    let overwrite = request.overwrite;
    Some(Ok(Scene { tools, planned, input, output, overwrite, stamp, token }))
}

impl Scene {
    /// How a task is done in the plan that this scene was set for.
    fn spec(&self, task: u32) -> Option<TaskSpec> {
        self.planned.plan.tasks.get(task as usize).cloned()
    }

    /// A source that changed since it was read is never mixed with what it was before.
    fn source_unchanged(&self) -> Result<(), String> {
        match Stamp::of(&self.input) {
            Ok(now) if now == self.stamp => Ok(()),
            Ok(_) => Err(format!(
                "{} changed while it was being converted; start the job again when it is complete",
                self.input.display()
            )),
            Err(e) => Err(format!("cannot read {} any more: {e}", self.input.display())),
        }
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

/// What cannot be cut may still be done another way; a full disk or a changed source cannot.
async fn cut_failed(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    error: MediaError,
) -> Result<Option<BlobRef>, String> {
    if error.is_cancelled() {
        return Ok(None);
    }
    scene.source_unchanged()?;
    if error.is_disk_full() {
        return Err(chain(&error));
    }
    demote(shared, scene, task, scene.spec(task.index), &chain(&error)).await;
    Ok(None)
}

async fn cut_piece(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
) -> Result<Option<BlobRef>, String> {
    scene.source_unchanged()?;
    let unique: u32 = rand::random();
    let out = shared.store.blobs.temp_dir().join(format!("{}-{unique:08x}", piece_holder(task)));
    let plan = &scene.planned.plan;
    let cut =
        cutting::cut_piece(&scene.tools, &scene.input, plan, task.index, &out, &scene.token).await;
    let blobs = shared.store.blobs.clone();
    match cut {
        // The task was lowered meanwhile: another cut, for its new shape, answers.
        Ok(()) if !still_planned(shared, plan, task) => {
            let _ = std::fs::remove_file(&out);
            Ok(None)
        }
        Ok(()) => {
            let imported = tokio::task::spawn_blocking(move || {
                let manifest = blobs.import(&out, Import::Move)?;
                blobs.pin(manifest.id, &piece_holder(task))?;
                Ok::<_, dmc_store::StoreError>(BlobRef { id: manifest.id, bytes: manifest.bytes })
            });
            let imported = imported.await.map_err(|e| e.to_string())?;
            imported.map(Some).map_err(|e| chain(&e))
        }
        Err(e) => {
            let _ = std::fs::remove_file(&out);
            cut_failed(shared, scene, task, e).await
        }
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
    tasks.spawn_blocking(move || {
        release(&shared, result.media, &part_holder(task));
        release(&shared, result.proof, &part_holder(task));
    });
}

/// The job is over: its IO ends. A retry gets a new token.
pub fn job_over(shared: Arc<Shared>, job: JobId) {
    shared.jobs.with(job, |entry| entry.token.cancel());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let _ = shared.jobs.change(job, |request| request.phase = Phase::Over).await;
        shared.jobs.unload(job);
        unlist_source(&shared, job).await;
    });
}

/// Once a job is done, nobody needs its source from this agent any more. A failed or cancelled one
/// keeps it: it may be tried again.
async fn unlist_source(shared: &Shared, job: JobId) {
    let source = shared.ask(move |mesh, _| {
        let done = mesh.jobs().get(job).filter(|job| job.record.state == JobState::Done)?;
        let source = done.record.source?;
        let mut open = mesh.jobs().iter().filter(|job| job.record.state != JobState::Done);
        (!open.any(|job| job.record.source == Some(source))).then_some(source)
    });
    let Some(source) = source.await.flatten() else { return };
    let path = shared.jobs.with(job, |entry| entry.request.input.clone());
    // A job that is only being planned has listed it already, perhaps, and not told so yet.
    let wanted = shared.jobs.requests().into_iter().any(|request| {
        request.phase != Phase::Over && request.id != job && Some(&request.input) == path.as_ref()
    });
    if !wanted && let Err(e) = shared.store.blobs.remove_external(source.id) {
        warn!("the source stays listed: {}", chain(&e));
    }
}

/// Fetches a result and verifies it.
pub fn fetch(
    shared: Arc<Shared>,
    attempt: AttemptId,
    task: TaskId,
    from: AgentId,
    result: TaskResult,
) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let scene = match scene(&shared, task.job) {
            Some(Ok(scene)) => scene,
            Some(Err(error)) => return fail(&shared, task.job, error).await,
            None => return,
        };
        let token = scene.token.clone();
        let decided = tokio::select! {
            decided = fetch_and_verify(&shared, &scene, task, from, result) => decided,
            () = token.cancelled() => return,
        };
        match decided {
            Decided::Good => shared.tell(Input::ResultGood { attempt, task }).await,
            Decided::Bad(failure) => {
                warn!(%task, worker = %from.short(), "result refused: {}", failure.reason);
                if failure.kind.blames() {
                    release_part(&shared, task, result).await;
                } // else it is fetched again, and what came of it is kept
                shared.tell(Input::ResultBad { attempt, task, failure }).await;
            }
            Decided::Demote(suspect, why) => {
                if suspect == task.index {
                    release_part(&shared, task, result).await;
                } else {
                    // This result is good; its neighbour is not.
                    shared.tell(Input::ResultGood { attempt, task }).await;
                }
                let task = TaskId { job: task.job, index: suspect };
                demote(&shared, &scene, task, scene.spec(suspect), &why).await;
            }
        }
    });
}

async fn release_part(shared: &Arc<Shared>, task: TaskId, result: TaskResult) {
    let shared = Arc::clone(shared);
    let released = tokio::task::spawn_blocking(move || {
        release(&shared, result.media, &part_holder(task));
        release(&shared, result.proof, &part_holder(task));
    });
    let _ = released.await;
}

enum Decided {
    Good,
    Bad(Failure),
    /// This task must be done another way, because of this.
    Demote(u32, String),
}

async fn fetch_and_verify(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    from: AgentId,
    result: TaskResult,
) -> Decided {
    let bad = |kind, reason: String| Decided::Bad(Failure::new(kind, reason));
    if result.proof.bytes > PROOF_BYTES_MAX {
        return bad(FailureKind::Verify, "the proof is larger than any film needs".to_owned());
    }
    if let Err(failure) = room_for(shared, &shared.data_dir, result.media.bytes) {
        return Decided::Bad(failure);
    }
    let holder = part_holder(task);
    for blob in [result.media, result.proof] {
        if let Err(failure) = fetch_blob(shared, from, blob, &holder, PATIENCE).await {
            return Decided::Bad(match failure.kind {
                // Here it is the worker that did not serve what it promised.
                FailureKind::Input => Failure { kind: FailureKind::Verify, ..failure },
                _ => failure,
            });
        }
    }
    let path = |blob: BlobRef| shared.store.blobs.path(blob.id);
    let (media, proof) = match (path(result.media), path(result.proof)) {
        (Ok(media), Ok(proof)) => (media, proof),
        (Err(e), _) | (_, Err(e)) => return bad(store_kind(&e), chain(&e)),
    };
    let plan = &scene.planned.plan;
    let checked =
        verify::verify_result(&scene.tools, plan, task.index, &media, &proof, &scene.token).await;
    match checked {
        Ok(verify::Verdict::Good(checked)) => {
            check_against_others(shared, scene, task, &proof, checked.extradata).await
        }
        Ok(verify::Verdict::Unproven(why)) => Decided::Demote(task.index, why),
        Ok(verify::Verdict::Damaged(why)) => bad(FailureKind::Verify, why),
        Err(e) if e.is_disk_full() => bad(FailureKind::DiskFull, chain(&e)),
        Err(e) => bad(FailureKind::Verify, chain(&e)),
    }
}

/// A segment must share its stream parameters with the others, and must have decoded the last
/// frames before its start exactly as the segment before it did.
async fn check_against_others(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    proof: &Path,
    extradata: String,
) -> Decided {
    let Some(verifying) = shared.jobs.with(task.job, |entry| Arc::clone(&entry.verifying)) else {
        return Decided::Good;
    };
    let mut verified = verifying.lock().await;
    let plan = &scene.planned.plan;
    if plan.tasks.get(task.index as usize).is_none_or(|spec| spec.video().is_none()) {
        return Decided::Good;
    }
    let others = verified.extradata.iter().find(|(index, _)| **index != task.index);
    if others.is_some_and(|(_, other)| *other != extradata) {
        let reason = "its stream parameters differ from those of the other segments: the encoder \
                      is another build";
        return Decided::Bad(Failure::new(FailureKind::Verify, reason));
    }
    verified.extradata.insert(task.index, extradata);
    verified.proofs.insert(task.index, proof.to_owned());
    for (before, after) in neighbours(&scene.planned, task.index) {
        let (Some(a), Some(b)) = (verified.proofs.get(&before), verified.proofs.get(&after)) else {
            continue;
        };
        // A neighbour that was dropped meanwhile proves nothing; it comes again.
        if !a.exists() || !b.exists() {
            continue;
        }
        if let Err(why) = linked(plan, after, a, b).await {
            verified.proofs.remove(&after);
            verified.extradata.remove(&after);
            return Decided::Demote(after, why);
        }
    }
    Decided::Good
}

/// The pairs of consecutive segments that a task is part of.
fn neighbours(planned: &Planned, index: u32) -> Vec<(u32, u32)> {
    let segments = planned.plan.video_tasks();
    let pairs = segments.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(before, after)| *before == index || *after == index).collect()
}

async fn linked(plan: &Plan, task: u32, before: &Path, after: &Path) -> Result<(), String> {
    match verify::link_ok(plan, task, before, after).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("frames before its start decode differently than in the segment before \
                          it"
        .to_owned()),
        Err(e) => Err(chain(&e)),
    }
}

/// Has a task done one rung lower. `judged` is the way that did not do: when the plan has another
/// one by now, somebody was faster, and nothing is left to do.
async fn demote(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    judged: Option<TaskSpec>,
    why: &str,
) {
    info!(%task, "to be done another way: {why}");
    let Some(verifying) = shared.jobs.with(task.job, |entry| Arc::clone(&entry.verifying)) else {
        return;
    };
    let mut verified = verifying.lock().await;
    // Another result may have led to a new plan meanwhile.
    let Some(planned) = shared.jobs.planned(task.job) else { return };
    let planned_now = planned.plan.tasks.get(task.index as usize);
    if judged.is_none() || planned_now != judged.as_ref() {
        return;
    }
    let index = crate::media::index::index(&scene.tools, &scene.input, &planned.probe).await;
    let index = match index {
        Ok(index) => index,
        Err(e) => return fail(shared, task.job, chain(&e)).await,
    };
    let label = planned.plan.tasks.get(task.index as usize).map(|spec| spec.label());
    let label = label.unwrap_or_default();
    let demotion =
        plan::demote(&planned.probe, &index, &planned.plan.preset, &planned.plan, task.index);
    let mut plan = planned.plan.clone();
    let (input, note) = match demotion {
        Demotion::Retry(replacement) => {
            let spec = replacement.spec.clone();
            plan.replace(task.index, replacement);
            (Input::Redo { task, spec }, format!("{label} was done another way: {why}"))
        }
        Demotion::WholeFile(whole) => {
            plan = *whole;
            *verified = Verified::default();
            let tasks = plan.tasks.clone();
            let note = format!("the film was converted in one piece: {label}: {why}");
            (Input::Replan { job: task.job, tasks }, note)
        }
        Demotion::GiveUp => {
            let error = format!("no way to convert {} exactly: {why}", scene.input.display());
            return fail(shared, task.job, error).await;
        }
    };
    verified.proofs.remove(&task.index);
    verified.extradata.remove(&task.index);
    if scene.token.is_cancelled() {
        return; // what nobody will do need not be planned
    }
    let rung = plan.rung;
    let next = Planned { probe: planned.probe.clone(), plan };
    if let Err(e) = shared.jobs.save_plan(task.job, next) {
        return fail(shared, task.job, format!("cannot save the plan: {e}")).await;
    }
    let noted = shared.jobs.change(task.job, |request| {
        request.note(note);
        request.rung = Some(rung);
    });
    let _ = noted.await;
    shared.tell(input).await;
}

/// Joins the results, verifies the whole, publishes it.
pub fn join(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let scene = match scene(&shared, job) {
            Some(Ok(scene)) => scene,
            Some(Err(error)) => return fail(&shared, job, error).await,
            None => return,
        };
        if is_published(&shared, &scene, job) {
            return shared.tell(Input::Joined(job)).await;
        }
        let temp = publish::temp_path(&scene.output, &job.to_string());
        let joined = tokio::select! {
            joined = join_and_verify(&shared, &scene, job, &temp) => joined,
            () = scene.token.cancelled() => Err(Ended::Cancelled),
        };
        // From here on nothing is cut short: the file gets its name, and that is kept, or not.
        let published = match joined {
            Ok(proof) => publish_result(&shared, &scene, job, &temp, proof).await,
            Err(ended) => Err(ended),
        };
        match published {
            Ok(()) => shared.tell(Input::Joined(job)).await,
            Err(ended) => {
                let _ = std::fs::remove_file(&temp);
                match ended {
                    Ended::Cancelled => debug!(%job, "joining was cancelled"),
                    Ended::Failed(error) => fail(&shared, job, error).await,
                    Ended::Suspect(task, why) => {
                        demote(&shared, &scene, task, scene.spec(task.index), &why).await;
                    }
                }
            }
        }
    });
}

enum Ended {
    Cancelled,
    Failed(String),
    Suspect(TaskId, String),
}

impl From<MediaError> for Ended {
    fn from(error: MediaError) -> Ended {
        if error.is_cancelled() { Ended::Cancelled } else { Ended::Failed(chain(&error)) }
    }
}

/// Whether a run that was cut short had published the result already.
fn is_published(shared: &Shared, scene: &Scene, job: JobId) -> bool {
    let publishing = shared.jobs.with(job, |entry| entry.request.publishing).flatten();
    publishing.is_some() && inode(&scene.output) == publishing
}

/// Device and inode: the name of a file that a rename does not change.
fn inode(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

async fn publish_result(
    shared: &Arc<Shared>,
    scene: &Scene,
    job: JobId,
    temp: &Path,
    proof: Proof,
) -> Result<(), Ended> {
    let publishing = inode(temp);
    let kept = shared.jobs.change(job, |request| {
        request.phase = Phase::Publishing;
        request.publishing = publishing;
        request.proof = Some(proof);
    });
    kept.await.map_err(|e| Ended::Failed(chain(&e)))?;
    let (from, to, source) = (temp.to_owned(), scene.output.clone(), scene.input.clone());
    let overwrite = scene.overwrite;
    let published =
        tokio::task::spawn_blocking(move || publish::publish(&from, &to, &source, overwrite));
    let published = match published.await {
        Ok(published) => published.map_err(Ended::from),
        Err(e) => Err(Ended::Failed(e.to_string())),
    };
    if published.is_err() {
        let _ = shared.jobs.change(job, |request| request.proof = None).await;
    }
    published
}

async fn join_and_verify(
    shared: &Arc<Shared>,
    scene: &Scene,
    job: JobId,
    temp: &Path,
) -> Result<Proof, Ended> {
    let phase = async |phase: Phase| {
        let _ = shared.jobs.change(job, |request| request.phase = phase).await;
    };
    phase(Phase::Joining).await;
    let parts = committed(shared, job).await?;
    let plan = &scene.planned.plan;
    check_all_links(shared, scene, job, &parts).await?;
    scene.source_unchanged().map_err(Ended::Failed)?;
    let path =
        |blob: BlobRef| shared.store.blobs.path(blob.id).map_err(|e| Ended::Failed(chain(&e)));
    let results = parts.iter().map(|part| {
        Ok::<_, Ended>(TaskOutput { media: path(part.media)?, proof: path(part.proof)? })
    });
    let results = results.collect::<Result<Vec<_>, _>>()?;
    let (tools, token) = (&scene.tools, &scene.token);
    joining::join(tools, plan, &scene.input, &results, temp, |_| {}, token).await?;
    phase(Phase::Verifying).await;
    let probe = &scene.planned.probe;
    let report = verify::verify_output(tools, plan, probe, &results, temp, token).await?;
    scene.source_unchanged().map_err(Ended::Failed)?;
    let streams =
        report.streams.iter().map(|(kind, count)| format!("{count} {kind:?}").to_lowercase());
    Ok(Proof {
        frames: report.frames,
        pts_error_us_max: report.max_pts_error_us,
        pixels_equal: report.pixels_equal,
        streams: streams.collect(),
        bytes: report.bytes,
    })
}

async fn committed(shared: &Shared, job: JobId) -> Result<Vec<TaskResult>, Ended> {
    let results = shared.ask(move |mesh, _| {
        let job = mesh.jobs().get(job)?;
        job.tasks.iter().map(|task| Some(task.record.commit?.result)).collect::<Option<Vec<_>>>()
    });
    results.await.flatten().ok_or(Ended::Cancelled)
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

/// Finds another way to do a task that a worker could not prove.
pub fn lower(shared: Arc<Shared>, task: TaskId, reason: String) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        match scene(&shared, task.job) {
            Some(Ok(scene)) => {
                let judged = shared.ask(move |mesh, _| {
                    let job = mesh.jobs().get(task.job)?;
                    Some(job.tasks.get(task.index as usize)?.record.spec.clone())
                });
                let judged = judged.await.flatten();
                demote(&shared, &scene, task, judged, &reason).await;
            }
            Some(Err(error)) => fail(&shared, task.job, error).await,
            None => {}
        }
    });
}
