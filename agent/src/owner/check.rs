//! Fetches results and verifies them, each alone and against its neighbours.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, TaskId};
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{Failure, FailureKind, TaskResult};
use tracing::warn;

use crate::intact;
use crate::jobs::Planned;
use crate::media::plan::Plan;
use crate::media::verify;
use crate::runtime::Shared;
use crate::worker::{chain, fetch_blob, room_for, store_kind};

use super::{Scene, demote, fail, part_holder, release_result, scene};

/// Most bytes of a proof: a few bytes for each frame of a very long film.
const PROOF_BYTES_MAX: u64 = 1 << 30;

/// How long a worker may be out of reach while its result is fetched; it lists the result again
/// when it is back.
const PATIENCE: Duration = Duration::from_secs(30);

/// What verification knows of a job: the proofs of results that passed, and the parameters that
/// all parts must share.
#[derive(Debug, Default)]
pub struct Verified {
    pub(super) proofs: BTreeMap<u32, BlobId>,
    pub(super) extradata: BTreeMap<u32, String>,
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
                if failure.kind == FailureKind::DiskFull {
                    // The worker lists it again, and then it is fetched again.
                    if !shared.room.wait(task.job, &failure.reason, &token).await {
                        return;
                    }
                } else {
                    warn!(%task, worker = %from.short(), "result refused: {}", failure.reason);
                }
                if failure.kind.blames() {
                    release_part(&shared, task, result).await;
                } // else it is fetched again, and what came of it is kept
                shared.tell(Input::ResultBad { attempt, task, failure }).await;
            }
            Decided::Redo(damaged) => {
                if damaged != task.index {
                    shared.tell(Input::ResultGood { attempt, task }).await;
                }
                let task = TaskId { job: task.job, index: damaged };
                if let Some(spec) = scene.spec(damaged) {
                    intact::redo(&shared, task, spec, "its proof").await;
                }
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
    let released = tokio::task::spawn_blocking(move || release_result(&shared, task, result));
    let _ = released.await;
}

enum Decided {
    Good,
    Bad(Failure),
    /// This task must be done another way, because of this.
    Demote(u32, String),
    /// The proof of this task is damaged on this disk: it is done again.
    Redo(u32),
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
    let is_here = shared.store.blobs.contains(result.media.id);
    if !is_here && let Err(failure) = room_for(shared, &shared.data_dir, result.media.bytes) {
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
    let known = {
        let all = shared.checked.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(result.media.id, result.proof.id)).filter(|_| from == shared.me).cloned()
    };
    if let Some(checked) = known {
        return check_against_others(shared, scene, task, result.proof.id, checked.extradata).await;
    }
    let desk = shared.directory("work").join(format!("check-{holder}"));
    let (files, places) = ((media.as_path(), proof.as_path()), (scene.input.as_path(), &*desk));
    let checked =
        verify::verify_result(&scene.tools, plan, task.index, files, places, &scene.token);
    let checked = checked.await;
    let _ = std::fs::remove_dir_all(&desk); // mostly it was never made
    match checked {
        Ok(verify::Verdict::Good(checked)) => {
            check_against_others(shared, scene, task, result.proof.id, checked.extradata).await
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
    proof: BlobId,
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
    verified.proofs.insert(task.index, proof);
    for (before, after) in neighbours(&scene.planned, task.index) {
        let file = |index| {
            let proof = verified.proofs.get(&index)?;
            shared.store.blobs.path(*proof).ok().filter(|path| path.exists())
        };
        // A neighbour that was dropped meanwhile proves nothing; it comes again.
        let (Some(a), Some(b)) = (file(before), file(after)) else { continue };
        if let Err(why) = linked(plan, after, &a, &b).await {
            for index in [before, after] {
                if is_damaged(shared, verified.proofs.get(&index).copied()).await {
                    verified.proofs.remove(&index);
                    return Decided::Redo(index);
                }
            }
            verified.proofs.remove(&after);
            verified.extradata.remove(&after);
            return Decided::Demote(after, why);
        }
    }
    Decided::Good
}

async fn is_damaged(shared: &Arc<Shared>, proof: Option<BlobId>) -> bool {
    let Some(proof) = proof else { return false };
    intact::path(shared, proof).await.is_err_and(|e| intact::is_damage(&e))
}

/// The pairs of consecutive segments that a task is part of.
fn neighbours(planned: &Planned, index: u32) -> Vec<(u32, u32)> {
    let segments = planned.plan.video_tasks();
    let pairs = segments.windows(2).map(|pair| (pair[0], pair[1]));
    pairs.filter(|(before, after)| *before == index || *after == index).collect()
}

/// Whether `after` decoded the end of `before` as that one did itself.
pub(super) async fn linked(
    plan: &Plan,
    task: u32,
    before: &Path,
    after: &Path,
) -> Result<(), String> {
    match verify::link_ok(plan, task, before, after).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("frames before its start decode differently than in the segment before \
                          it"
        .to_owned()),
        Err(e) => Err(chain(&e)),
    }
}
