//! Whether a job of a watched folder pays: asked while it runs, and when its result is there.

use std::sync::Arc;

use dmc_protocol::id::{BlobId, JobId};
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Mesh;
use dmc_store::StoreError;
use tracing::{info, warn};

use super::content;
use super::pay::{self, Part};
use super::records::{Content, Errand};
use crate::intake;
use crate::runtime::Shared;
use crate::worker::chain;

/// What is known of a job that runs.
struct Running {
    parts: Vec<Part>,
    frames: u64,
    source: Option<BlobId>,
}

fn running(mesh: &Mesh, job: JobId) -> Option<Running> {
    let job = mesh.jobs().get(job)?;
    let pictures = job.tasks.iter().filter(|task| !matches!(task.record.spec, TaskSpec::Audio(_)));
    let (mut parts, mut frames) = (Vec::new(), 0);
    for task in pictures {
        let expected = task.record.spec.frames().unwrap_or(0);
        frames += expected;
        if let Some(commit) = task.record.commit {
            let done = commit.result.frames;
            let bytes = commit.result.media.bytes;
            parts.push(Part { frames: if done > 0 { done } else { expected }, bytes });
        }
    }
    Some(Running { parts, frames, source: job.record.source.map(|source| source.id) })
}

/// Looks after a job of this folder: what its source is as a whole, and whether it still pays.
pub async fn watch_over(shared: &Arc<Shared>, job: JobId) -> Result<(), StoreError> {
    let book = &shared.library.book;
    let Some(errand) = book.errand(job)? else { return Ok(()) };
    let Some(Some(now)) = shared.ask(move |mesh, _| running(mesh, job)).await else {
        return Ok(());
    };
    if let Some(full) = now.source
        && errand.before > content::WHOLE_BYTES_MAX
        && let Some(known) = book.content(&errand.content)?
        && known.full.is_none()
    {
        let mut changes = book.change(errand.watch);
        changes.put_content(&errand.content, &Content { full: Some(full), ..known })?;
        changes.save().await?;
    }
    let Some(least) = errand.least_percent.filter(|_| errand.unwanted.is_none()) else {
        return Ok(());
    };
    if let Some(why) = pay::hopeless(&now.parts, now.frames, errand.before, least) {
        let (frames, bytes) = now.parts.iter().fold((0_u64, 0_u64), |(frames, bytes), part| {
            (frames + part.frames, bytes + part.bytes)
        });
        let about = bytes as f64 / frames.max(1) as f64 * now.frames as f64;
        refuse(shared, job, errand, &why, about as u64).await?;
        intake::cancel(shared, job).await;
    }
    Ok(())
}

/// Whether the finished result of a job is to be thrown away, and why. Noted before it is.
pub async fn unwanted(shared: &Arc<Shared>, job: JobId, after: u64) -> Option<String> {
    let errand = shared.library.book.errand(job);
    let errand = errand.inspect_err(|e| warn!(%job, "its rules cannot be read: {}", chain(e)));
    let errand = errand.ok().flatten()?;
    let why = pay::unwanted(errand.before, after, errand.least_percent?)?;
    match refuse(shared, job, errand, &why, after).await {
        Ok(()) => Some(why),
        // What cannot be noted is not thrown away.
        Err(e) => {
            warn!(%job, "a result that saves too little is kept: {}", chain(&e));
            None
        }
    }
}

async fn refuse(
    shared: &Arc<Shared>,
    job: JobId,
    errand: Errand,
    why: &str,
    bytes: u64,
) -> Result<(), StoreError> {
    info!(%job, "{why}");
    let unwanted = Some((why.to_owned(), bytes));
    shared.library.book.refuse(job, &Errand { unwanted, ..errand }).await?;
    let why = why.to_owned();
    shared.jobs.change(job, |request| request.note(why)).await
}
