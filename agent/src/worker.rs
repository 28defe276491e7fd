//! What this agent does for owners: fetch the input, run ffmpeg, keep the result.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dmc_protocol::id::{AgentId, AttemptId, BlobRef, TaskId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{AgentInfo, Failure, FailureKind, Progress, TaskResult};
use dmc_store::{Import, Store, StoreError};
use futures::FutureExt as _;
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Settings;
use crate::intact;
use crate::media::run::{TaskOutput, Tools};
use crate::media::verify::{Checked, Look};
use crate::media::{MediaError, run as ffmpeg};
use crate::net::FetchError;
use crate::room::{self, Disk};
use crate::runtime::Shared;

/// How often a worker says that it gets on while there is no other progress to tell.
const STILL_AT_IT: Duration = Duration::from_secs(5);
/// Free disk is told again when it changed by more than this part of itself.
const FREE_DISK_STEP: u64 = 20;

fn attempt_token(shared: &Shared, attempt: AttemptId) -> CancellationToken {
    let mut attempts = shared.attempts.lock().unwrap_or_else(PoisonError::into_inner);
    attempts.entry(attempt).or_insert_with(|| shared.stop.child_token()).clone()
}

/// Who pins the input of an attempt.
pub fn input_holder(attempt: AttemptId) -> String {
    format!("input-{attempt}")
}

/// Who pins the result of an attempt.
pub fn result_holder(attempt: AttemptId) -> String {
    format!("result-{attempt}")
}

/// Brings the input of an attempt into the store. While the owner cannot be reached this goes on:
/// the core gives up when the owner was silent for too long.
pub fn fetch_input(shared: Arc<Shared>, attempt: AttemptId, owner: AgentId, blob: BlobRef) {
    let token = attempt_token(&shared, attempt);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let holder = input_holder(attempt);
        let fetched = tokio::select! {
            biased;
            () = token.cancelled() => return,
            fetched = fetch_blob(&shared, owner, blob, &holder, Duration::MAX) => fetched,
        };
        let input = match fetched {
            Ok(()) => Input::InputReady(attempt),
            // The owner is there, and does not send what it gave out.
            Err(Failure { kind: FailureKind::Busy, reason }) => {
                let failure = Failure::new(FailureKind::Input, reason);
                Input::WorkFailed { attempt, failure }
            }
            Err(failure) => Input::WorkFailed { attempt, failure },
        };
        shared.tell(input).await;
    });
}

/// Fetches a blob, pinned for `holder`; a peer that is out of reach is given `patience` to come
/// back. [`FailureKind::Busy`]: it is there and does not serve, or did not come back.
pub async fn fetch_blob(
    shared: &Shared,
    from: AgentId,
    blob: BlobRef,
    holder: &str,
    patience: Duration,
) -> Result<(), Failure> {
    let blobs = &shared.store.blobs;
    let store_failed = |e: StoreError| Failure::new(store_kind(&e), chain(&e));
    blobs.pin(blob.id, holder).map_err(store_failed)?;
    if blobs.contains(blob.id) {
        return Ok(());
    }
    if from == shared.me {
        return Err(Failure::new(FailureKind::Input, "the piece is gone"));
    }
    room_for(shared, &shared.data_dir, blob.bytes.saturating_mul(2))?;
    let began = Instant::now();
    shared.net.fetch(from, blob, blobs, patience).await.map_err(|e| match e {
        FetchError::Store(e) => store_failed(e),
        FetchError::Wrong(_) | FetchError::Refused(_) => {
            Failure::new(FailureKind::Input, chain(&e))
        }
        _ => Failure::new(FailureKind::Busy, chain(&e)),
    })?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    shared.tell(Input::Transferred { from, bytes: blob.bytes, ms }).await;
    intact::fetched(shared, blob);
    Ok(())
}

/// Whose fault an error of the own store is: a full disk is nobody's.
pub fn store_kind(error: &StoreError) -> FailureKind {
    if error.is_disk_full() { FailureKind::DiskFull } else { FailureKind::Internal }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Refuses work that would not fit on the disk with what must stay free.
pub fn room_for(shared: &Shared, dir: &Path, bytes: u64) -> Result<(), Failure> {
    let checked = room::check(dir, bytes, shared.settings.disk_reserve_bytes);
    checked.map_err(|e| Failure::new(FailureKind::DiskFull, chain(&e)))
}

/// Runs ffmpeg for an attempt and keeps what it made.
pub fn run(
    shared: Arc<Shared>,
    attempt: AttemptId,
    owner: AgentId,
    task: TaskId,
    spec: TaskSpec,
    blob: BlobRef,
) {
    let token = attempt_token(&shared, attempt);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        info!(%task, attempt = ?attempt, "starts {}", spec.label());
        let started = Instant::now();
        let encoding = encode(&shared, attempt, owner, &spec, blob, &token);
        // A bug must fail the attempt, not leave it without an end.
        let done = AssertUnwindSafe(encoding).catch_unwind().await.unwrap_or_else(|_| {
            let why = "dmc itself failed here; its log says where. Please report that";
            Err(Failure::new(FailureKind::Internal, why))
        });
        let input = match done {
            // Its discard did not know of the result yet.
            Ok(result) if token.is_cancelled() => {
                return discard(shared, attempt, blob, Some(result));
            }
            Err(_) if token.is_cancelled() => return,
            Ok(result) => {
                shared.measured(spec.class(), spec.work_units(), result.encode_ms).await;
                let seconds = started.elapsed().as_secs_f32();
                info!(%task, frames = result.frames, "finished {} in {seconds:.1} s", spec.label());
                Input::WorkDone { attempt, result }
            }
            Err(failure) => {
                warn!(%task, "{} failed: {}", spec.label(), failure.reason);
                Input::WorkFailed { attempt, failure }
            }
        };
        shared.tell(input).await;
    });
}

/// The input's file, read whole and right; a damaged one is fetched again.
async fn sound_input(
    shared: &Arc<Shared>,
    attempt: AttemptId,
    owner: AgentId,
    blob: BlobRef,
    token: &CancellationToken,
) -> Result<PathBuf, Failure> {
    let failed = |e: &StoreError| Failure::new(store_kind(e), chain(e));
    match intact::path(shared, blob.id).await {
        Err(e) if intact::is_damage(&e) => warn!("an input is fetched again: {}", chain(&e)),
        checked => return checked.map_err(|e| failed(&e)),
    }
    if owner == shared.me {
        // Nobody is to blame: it is cut anew.
        intact::damaged(Arc::clone(shared), blob.id);
        return Err(Failure::new(FailureKind::Busy, "its piece is damaged on this disk"));
    }
    let holder = input_holder(attempt);
    tokio::select! {
        fetched = fetch_blob(shared, owner, blob, &holder, Duration::MAX) => fetched?,
        () = token.cancelled() => return Err(Failure::new(FailureKind::Busy, "cancelled")),
    }
    intact::path(shared, blob.id).await.map_err(|e| failed(&e))
}

/// The work of an attempt, from its input to a result in the store. Its programs and its files go
/// when this ends, however it ends.
async fn encode(
    shared: &Arc<Shared>,
    attempt: AttemptId,
    owner: AgentId,
    spec: &TaskSpec,
    blob: BlobRef,
    token: &CancellationToken,
) -> Result<TaskResult, Failure> {
    let tools = shared.tools.as_ref();
    let tools = tools.ok_or_else(|| Failure::new(FailureKind::Internal, "no ffmpeg here"))?;
    let tools = &tools.working_for(attempt);
    let _runs = shared.children.begin(attempt);
    let input = sound_input(shared, attempt, owner, blob, token).await?;
    let work_dir = shared.directory("work").join(attempt.to_string());
    let made = std::fs::create_dir_all(&work_dir);
    made.map_err(|e| encode_failed(&MediaError::io("write", &work_dir, e)))?;
    let _removed_at_end = WorkDir(&work_dir);
    let _session = match spec.encoder().hardware() {
        Some(_) => Some(session(shared, token).await?),
        None => None,
    };
    let started = Instant::now();
    // An owner decodes what others send, and would decode it twice if they did so too.
    let look = if owner == shared.me { Look::Frames } else { Look::Packets };
    let files = (input.as_path(), work_dir.as_path());
    let (output, checked) = run_told(shared, attempt, tools, (spec, files, look), token).await?;
    let encode_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (media, proof) = store_output(shared, attempt, output).await?;
    if owner == shared.me {
        let mut all = shared.checked.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert((media.id, proof.id), checked);
    }
    Ok(TaskResult { media, proof, frames: spec.frames().unwrap_or(0), encode_ms })
}

/// A session of the graphics card, which has few.
async fn session<'a>(
    shared: &'a Shared,
    token: &CancellationToken,
) -> Result<SemaphorePermit<'a>, Failure> {
    tokio::select! {
        session = shared.card.acquire() => session.map_err(|e| internal(&e)),
        () = token.cancelled() => Err(Failure::new(FailureKind::Busy, "cancelled")),
    }
}

/// Runs ffmpeg for a task, and tells the core how far it is.
async fn run_told(
    shared: &Shared,
    attempt: AttemptId,
    tools: &Tools,
    (spec, (input, work_dir), look): (&TaskSpec, (&Path, &Path), Look),
    token: &CancellationToken,
) -> Result<(TaskOutput, Checked), Failure> {
    let (teller, mut told) = tokio::sync::watch::channel(None);
    let running = ffmpeg::run_task(
        tools,
        spec,
        input,
        work_dir,
        look,
        |progress: ffmpeg::Progress| {
            let is_first = teller.borrow().is_none_or(|told: Progress| told.frames == 0);
            if is_first && progress.frames > 0 {
                debug!(?attempt, "first frames");
            }
            let _ = teller.send(Some(to_wire(&progress)));
        },
        token,
    );
    let report = async {
        let mut progress = Progress::default();
        loop {
            match tokio::time::timeout(STILL_AT_IT, told.changed()).await {
                Ok(Ok(())) => progress = (*told.borrow_and_update()).unwrap_or(progress),
                Ok(Err(_)) => break,
                // The result is being checked. A program that hangs is ended by its own watchdog, so
                // this worker does get on, and its owner must see so.
                Err(_) => progress.media_ms = progress.media_ms.saturating_add(1),
            }
            shared.tell(Input::Worked { attempt, progress }).await;
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        output = running => output.map_err(|e| encode_failed(&e)),
        () = report => Err(Failure::new(FailureKind::Internal, "progress ended")),
    }
}

/// Moves what was made into the store, pinned for the attempt: the media and its proof.
async fn store_output(
    shared: &Shared,
    attempt: AttemptId,
    output: TaskOutput,
) -> Result<(BlobRef, BlobRef), Failure> {
    let (blobs, holder) = (shared.store.blobs.clone(), result_holder(attempt));
    let stored = tokio::task::spawn_blocking(move || {
        let import = |path: &Path| -> Result<BlobRef, StoreError> {
            let manifest = blobs.import(path, Import::Move)?;
            blobs.pin(manifest.id, &holder)?;
            Ok(BlobRef { id: manifest.id, bytes: manifest.bytes })
        };
        Ok::<_, StoreError>((import(&output.media)?, import(&output.proof)?))
    });
    match stored.await {
        Ok(Ok(stored)) => Ok(stored),
        Ok(Err(e)) => Err(Failure::new(store_kind(&e), chain(&e))),
        Err(e) => Err(internal(&e)),
    }
}

fn internal(error: &dyn std::error::Error) -> Failure {
    Failure::new(FailureKind::Internal, chain(error))
}

fn to_wire(progress: &ffmpeg::Progress) -> Progress {
    Progress {
        frames: progress.frames,
        media_ms: u64::try_from(progress.out_time_us / 1_000).unwrap_or(0),
        bytes: progress.out_bytes,
        fps_x100: (progress.fps.clamp(0.0, 1e6) * 100.0) as u32,
    }
}

fn encode_failed(error: &MediaError) -> Failure {
    let kind = if error.is_disk_full() {
        FailureKind::DiskFull
    } else if error.is_unproven() {
        FailureKind::Unproven
    } else {
        FailureKind::Encode
    };
    Failure::new(kind, chain(error))
}

/// A directory that goes when its work ends, however it ends.
struct WorkDir<'a>(&'a Path);

impl Drop for WorkDir<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0);
    }
}

/// Ends an attempt and deletes what belongs to it.
pub fn discard(shared: Arc<Shared>, attempt: AttemptId, blob: BlobRef, result: Option<TaskResult>) {
    let token = {
        let mut attempts = shared.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.remove(&attempt)
    };
    if let Some(token) = token {
        token.cancel();
    }
    let tasks = shared.tasks.clone();
    tasks.spawn_blocking(move || {
        release(&shared, blob, &input_holder(attempt));
        if let Some(result) = result {
            let mut checked = shared.checked.lock().unwrap_or_else(PoisonError::into_inner);
            checked.remove(&(result.media.id, result.proof.id));
            drop(checked);
            release(&shared, result.media, &result_holder(attempt));
            release(&shared, result.proof, &result_holder(attempt));
        }
    });
}

/// Takes a holder's pin off a blob, and removes the blob when it was the last one.
pub fn release(shared: &Shared, blob: BlobRef, holder: &str) {
    let blobs = &shared.store.blobs;
    if let Err(e) = blobs.unpin(blob.id, holder) {
        warn!("a blob stays pinned: {}", chain(&e));
        return;
    }
    match blobs.remove(blob.id) {
        // Somebody else needs it, or it never came: the sweep sees to the rest.
        Ok(())
        | Err(StoreError::Pinned { .. } | StoreError::InUse { .. } | StoreError::NoBlob { .. }) => {
        }
        Err(e) => warn!("a blob cannot be removed: {}", chain(&e)),
    }
}

/// Bytes that the agent's work may take: what the disk has beside what stays free, and what the
/// quota leaves.
pub fn usable_disk(settings: &Settings, store: &Store, data_dir: &Path) -> u64 {
    let usable = Disk::of(data_dir).map_or(0, |disk| disk.usable(settings.disk_reserve_bytes));
    usable.min(settings.blob_quota_bytes.saturating_sub(store.blobs.usage()))
}

/// What this agent says of itself, when its free disk changed enough to be said again. The less is
/// free, the sooner a change is told.
pub fn refresh_free_disk(shared: &Shared) -> Option<AgentInfo> {
    let free = usable_disk(&shared.settings, &shared.store, &shared.data_dir);
    let mut info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
    let said = info.free_disk_bytes;
    if free.abs_diff(said) <= said / FREE_DISK_STEP {
        return None;
    }
    info.free_disk_bytes = free;
    Some(info.clone())
}
