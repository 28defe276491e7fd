//! The source of a job: what it is, by its hash, and whether it is still that.
//!
//! Its size, times and inode tell cheaply that it may have changed. Then it is read whole: the
//! same content is the same source, whoever touched the file. Two versions are never mixed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::handover::{HandedEnd, HandedState};
use dmc_protocol::id::{BlobId, BlobRef, JobId};
use dmc_protocol::mesh::Input;
use dmc_protocol::record::JobState;
use dmc_store::{Blobs, Manifest, StoreError};
use tracing::{info, warn};

use crate::jobs::{Request, Stamp, Status};
use crate::replace;
use crate::runtime::Shared;
use crate::worker::chain;

/// Jobs of each way to end without a result whose sources stay listed.
const LATELY: usize = 64;

/// Fails, with words for people, when the source of a job is not what it was when the job was
/// planned, or cannot be read.
pub async fn unchanged(shared: &Arc<Shared>, job: JobId) -> Result<(), String> {
    let entry = shared.jobs.with(job, |entry| {
        (entry.request.input.0.clone(), Arc::clone(&entry.source), entry.request.custody)
    });
    let Some((input, one_at_a_time, custody)) = entry else { return Ok(()) };
    if replace::service::is_under_way(shared, job) {
        return Ok(()); // it was as planned, and its result has its name, or is about to
    }
    if is_as_planned(shared, job, &input)? {
        return Ok(());
    }
    let _one = one_at_a_time.lock().await;
    if is_as_planned(shared, job, &input)? {
        return Ok(()); // somebody else has just read it whole
    }
    let content = match custody {
        Some(custody) => Some(custody.source.id),
        None => content_of(shared, job).await.map(|source| source.id),
    };
    let Some(content) = content else { return Err(changed(&input)) };
    let (blobs, path) = (shared.store.blobs.clone(), input.clone());
    let read = tokio::task::spawn_blocking(move || same_content(&blobs, &path, content));
    let stamp = match read.await {
        Ok(Ok(Some(stamp))) => stamp,
        Ok(Ok(None)) => return Err(changed(&input)),
        Ok(Err(e)) => return Err(unreadable(&input, &e)),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    };
    info!(%job, "its source was touched, and its content is the same");
    let kept = shared.jobs.change(job, |request| request.stamp = stamp).await;
    kept.map_err(|e| chain(&e))
}

/// Whether its stamp is that of the plan. A file of another size is another file.
fn is_as_planned(shared: &Shared, job: JobId, input: &Path) -> Result<bool, String> {
    let Some(planned) = shared.jobs.with(job, |entry| entry.request.stamp) else { return Ok(true) };
    match Stamp::of(input) {
        Ok(now) if now == planned => Ok(true),
        Ok(now) if now.bytes != planned.bytes => Err(changed(input)),
        Ok(_) => Ok(false),
        Err(e) => Err(unreadable(input, &e)),
    }
}

/// Reads a file whole. Its stamp, when it has that content and did not change meanwhile.
fn same_content(blobs: &Blobs, path: &Path, id: BlobId) -> Result<Option<Stamp>, StoreError> {
    let before = Stamp::of(path).ok();
    let manifest = blobs.hash_file(path)?;
    if manifest.id != id || before.is_none() || Stamp::of(path).ok() != before {
        return Ok(None);
    }
    if blobs.find_external(path).is_none() && blobs.path(id).is_ok_and(|known| known == path) {
        // Known by its new times from now on, so that nobody reads it whole once more.
        blobs.add_external(manifest, path)?;
    }
    Ok(before)
}

async fn content_of(shared: &Shared, job: JobId) -> Option<BlobRef> {
    let source = shared.ask(move |mesh, _| match mesh.jobs().get(job) {
        Some(job) => job.record.source,
        None => mesh.handovers().get(job).map(|handed| handed.record.handed.source),
    });
    source.await.flatten()
}

/// What is said when a source is another one now.
pub fn changed(input: &Path) -> String {
    format!(
        "{} changed while it was being converted; `dmc jobs retry` converts it as it is then",
        input.display()
    )
}

fn unreadable(input: &Path, error: &dyn std::error::Error) -> String {
    format!("cannot read {} any more: {}", input.display(), chain(error))
}

/// Hashes the source in the background: the identity of the item, and what lets workers fetch the
/// whole of it, chunk by chunk, from where it lies. `wanted`: the job cannot do without.
pub fn hash(shared: Arc<Shared>, job: JobId, wanted: bool) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        list(&shared, job, wanted).await;
        // A short job may be over before its source is hashed.
        unlist_unneeded(&shared).await;
    });
}

/// [`hash`], and waits for it.
pub async fn list(shared: &Arc<Shared>, job: JobId, wanted: bool) {
    let entry = shared.jobs.with(job, |entry| {
        (entry.request.input.0.clone(), entry.request.stamp, entry.request.custody)
    });
    let Some((input, stamp, custody)) = entry else { return };
    if let Some(custody) = custody {
        // It lies in the store.
        return shared.tell(Input::SourceReady { job, blob: custody.source }).await;
    }
    if replace::service::is_under_way(shared, job) {
        return; // nobody needs it any more
    }
    let before = content_of(shared, job).await;
    if before.is_some()
        && let Err(error) = unchanged(shared, job).await
    {
        return shared.tell(Input::FailJob { job, errors: vec![error] }).await;
    }
    match known(shared, &input).await {
        Ok(blob) => {
            let same = match before {
                Some(before) => blob == before,
                // It was planned as it was then, so that must be what was hashed.
                None => Stamp::of(&input).is_ok_and(|now| now == stamp),
            };
            if !same && replace::service::is_under_way(shared, job) {
                return; // replaced while it was read
            }
            shared
                .tell(match same {
                    true => Input::SourceReady { job, blob },
                    false => Input::FailJob { job, errors: vec![changed(&input)] },
                })
                .await;
        }
        Err(_) if replace::service::is_under_way(shared, job) => {}
        Err(error) if wanted => shared.tell(Input::FailJob { job, errors: vec![error] }).await,
        Err(error) => warn!(%job, "the source cannot be hashed: {error}"),
    }
}

/// A file's hash, and that peers may fetch it from where it lies. Waits while the disk is full.
pub async fn known(shared: &Arc<Shared>, input: &Path) -> Result<BlobRef, String> {
    loop {
        let (shared_, path) = (Arc::clone(shared), input.to_owned());
        let known = tokio::task::spawn_blocking(move || add(&shared_, &path));
        match known.await {
            Ok(Ok(blob)) => return Ok(blob),
            Ok(Err(e)) if e.is_disk_full() && shared.jobs.wait_for_room(chain(&e)).await => {}
            Ok(Err(e)) => return Err(format!("cannot read {}: {}", input.display(), chain(&e))),
            Err(e) => return Err(e.to_string()),
        }
    }
}

fn add(shared: &Shared, path: &Path) -> Result<BlobRef, StoreError> {
    let blobs = &shared.store.blobs;
    let of = |manifest: &Manifest| BlobRef { id: manifest.id, bytes: manifest.bytes };
    {
        let _one_at_a_time = shared.jobs.listing();
        if let Some(manifest) = blobs.find_external(path) {
            return Ok(of(&manifest));
        }
    }
    let manifest = blobs.hash_file(path)?;
    let blob = of(&manifest);
    let _one_at_a_time = shared.jobs.listing();
    blobs.add_external(manifest, path)?;
    Ok(blob)
}

/// Peers may no longer fetch the sources that only jobs needed which are over. The last ones that
/// failed or were cancelled keep theirs: they may be tried again, and need not be hashed again then.
///
/// This looks at what there is, not at what just happened: a crash may have come between the end of
/// a job and what follows from it, and a source may be listed after its job was over.
pub async fn unlist_unneeded(shared: &Arc<Shared>) {
    let told = shared.ask(|mesh, _| {
        let jobs = || mesh.jobs().iter().map(|job| &job.record);
        let done = jobs().filter(|job| job.state == JobState::Done).map(|job| job.id);
        let brought = mesh.handovers().iter().map(|handed| &handed.record).filter(|handed| {
            matches!(handed.state, HandedState::Over(HandedEnd::Published | HandedEnd::Delivered))
        });
        let done: BTreeSet<JobId> = done.chain(brought.map(|handed| handed.id)).collect();
        let open = jobs().filter(|job| job.state != JobState::Done);
        (done, open.filter_map(|job| Some(job.source?.id)).collect::<BTreeSet<BlobId>>())
    });
    let Some((done, open)) = told.await else { return };
    let shared = Arc::clone(shared);
    let unlisted = tokio::task::spawn_blocking(move || {
        // Who asks for a job now finds its source after this, or not at all and lists it.
        let _one_at_a_time = shared.jobs.listing();
        let blobs = &shared.store.blobs;
        let listed = blobs.externals();
        if listed.is_empty() {
            return;
        }
        let requests = shared.jobs.open_requests().into_iter().chain(lately_ended(&shared));
        let wanted = requests.filter(|request| !done.contains(&request.id));
        let wanted: BTreeSet<PathBuf> = wanted
            .map(|request| std::fs::canonicalize(&request.input.0).unwrap_or(request.input.0))
            .collect();
        for (id, path) in listed {
            if !open.contains(&id)
                && !wanted.contains(&path)
                && let Err(e) = blobs.remove_external(id)
            {
                warn!("the source {} stays listed: {}", path.display(), chain(&e));
            }
        }
    });
    if let Err(stopped) = unlisted.await {
        std::panic::resume_unwind(stopped.into_panic());
    }
}

fn lately_ended(shared: &Shared) -> Vec<Request> {
    let ended = [Status::FinishedWithErrors, Status::Cancelled].map(|status| {
        let page = shared.jobs.page(Some(status), None, LATELY);
        page.inspect_err(|e| warn!("ended jobs cannot be read: {}", chain(e))).unwrap_or_default()
    });
    ended.into_iter().flatten().collect()
}

/// A peer asked for a part of a source, and it is not there any more as it was.
pub async fn check_all(shared: &Arc<Shared>, id: BlobId) {
    let jobs = shared.ask(move |mesh, _| {
        let open = mesh.jobs().iter().filter(|job| !job.record.state.is_over());
        let of = open.filter(|job| job.record.source.is_some_and(|source| source.id == id));
        of.map(|job| job.record.id).collect::<Vec<_>>()
    });
    for job in jobs.await.unwrap_or_default() {
        if let Err(error) = unchanged(shared, job).await {
            shared.tell(Input::FailJob { job, errors: vec![error] }).await;
        }
    }
}
