//! The custodian's long work: bring the source here, plan the job as its owner, keep the result for
//! the submitter.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmc_protocol::handover::CustodyRecord;
use dmc_protocol::id::{AgentId, BlobRef, JobId};
use dmc_protocol::mesh::Input;
use dmc_store::{Import, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::intake;
use crate::jobs::{Custody, Phase, Request, Stamp};
use crate::media::index::Index;
use crate::media::plan::{self, PlanHints};
use crate::media::{MediaError, probe};
use crate::runtime::Shared;
use crate::worker::{chain, fetch_blob, release};

/// Who pins the source of a job that is kept.
pub fn source_holder(job: JobId) -> String {
    format!("custody-{}", job.0.simple())
}

/// Who pins its result.
pub fn result_holder(job: JobId) -> String {
    format!("kept-{}", job.0.simple())
}

/// What ends the transfer of this job.
pub(crate) fn token(shared: &Shared, job: JobId) -> CancellationToken {
    let mut all = shared.custody.lock().unwrap_or_else(PoisonError::into_inner);
    all.entry(job).or_insert_with(|| shared.stop.child_token()).clone()
}

/// Ends the transfer of this job, if there is one.
pub(crate) fn end_token(shared: &Shared, job: JobId) {
    let running = {
        let mut all = shared.custody.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&job)
    };
    if let Some(token) = running {
        token.cancel();
    }
}

/// Brings the whole source into the store. While the submitter cannot be reached this goes on: the
/// core gives up when it was silent for too long.
pub fn fetch_source(shared: Arc<Shared>, job: JobId, from: AgentId, source: BlobRef) {
    let token = token(&shared, job);
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let holder = source_holder(job);
        let fetched = tokio::select! {
            biased;
            () = token.cancelled() => return,
            fetched = fetch_blob(&shared, from, source, &holder, Duration::MAX) => fetched,
        };
        shared
            .tell(match fetched {
                Ok(()) => Input::CustodySource(job),
                Err(failure) => Input::CustodyGivenUp { job, why: failure.reason },
            })
            .await;
    });
}

/// This agent owns the job from now on.
pub fn begin(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let record =
            shared.ask(move |mesh, _| mesh.custody().get(job).map(|kept| kept.record.clone()));
        let Some(record) = record.await.flatten() else { return };
        let known = match shared.jobs.request(job) {
            Ok(known) => known,
            Err(e) => {
                let why = chain(&e);
                return shared.tell(Input::CustodyGivenUp { job, why }).await;
            }
        };
        match known.map(|request| request.custody.map(|custody| custody.from)) {
            Some(Some(from)) if from == record.from => {} // begun before a restart
            // Somebody hands over what is this agent's own.
            Some(_) => {
                let why = "it has another job of this id".to_owned();
                return shared.tell(Input::CustodyGivenUp { job, why }).await;
            }
            None => {
                let refused = match accept(&shared, &record).await {
                    Ok(request) => {
                        let why = |e: StoreError| Input::CustodyGivenUp { job, why: chain(&e) };
                        shared.jobs.add(vec![request]).await.err().map(why)
                    }
                    Err(Unfit::Here(why)) => Some(Input::CustodyGivenUp { job, why }),
                    Err(Unfit::Anywhere(why)) => Some(Input::CustodyFailed { job, why }),
                };
                if let Some(refused) = refused {
                    return shared.tell(refused).await;
                }
            }
        }
        info!(%job, name = %record.handed.name, "keeps a job of another agent");
        intake::begin(Arc::clone(&shared), job, None);
    });
}

/// Why a job does not begin.
enum Unfit {
    /// This agent cannot; another one may.
    Here(String),
    /// No agent can.
    Anywhere(String),
}

/// The request that the custodian makes of what it was handed. Nothing in it is a path of the
/// submitter's.
async fn accept(shared: &Arc<Shared>, record: &CustodyRecord) -> Result<Request, Unfit> {
    let handed = &record.handed;
    let here = |e: &dyn std::error::Error| Unfit::Here(chain(e));
    let media = |e: MediaError| Unfit::Anywhere(chain(&e));
    let tools = shared.tools.as_ref();
    let tools = tools.ok_or_else(|| Unfit::Here("there is no ffmpeg".to_owned()))?;
    let input = shared.store.blobs.path(handed.source.id).map_err(|e| here(&e))?;
    let probe = probe::probe(tools, &input).await.map_err(media)?;
    let trial = plan::plan(&probe, &Index::default(), &handed.preset, &PlanHints::default());
    let trial = trial.map_err(media)?;
    let extension = trial.join.container.extension();
    let output = match &handed.deliver_as {
        Some(path) => inbox_path(shared, path).map_err(Unfit::Here)?,
        None => {
            let dir = shared.jobs.dir_of(record.id);
            std::fs::create_dir_all(&dir).map_err(|e| here(&e))?;
            dir.join(format!("result.{extension}"))
        }
    };
    let stamp = Stamp::of(&input).map_err(|e| here(&e))?;
    Ok(Request {
        segment_s: handed.segment_s,
        phase: Phase::Planning,
        custody: Some(Custody {
            from: record.from,
            source: handed.source,
            delivers: handed.deliver_as.is_some(),
        }),
        ..Request::new(record.id, input, output, handed.preset.clone(), stamp)
    })
}

/// A place below the inbox, also when directories in it are links.
fn inbox_path(shared: &Shared, path: &str) -> Result<PathBuf, String> {
    let inbox = shared.settings.inbox.as_deref();
    let inbox = inbox.ok_or("it has no inbox; its person sets one with `inbox = \"DIR\"`")?;
    let failed = |dir: &Path, e: std::io::Error| format!("its inbox {}: {e}", dir.display());
    let inbox = std::fs::canonicalize(inbox).map_err(|e| failed(inbox, e))?;
    let target = inbox.join(path);
    let dir = target.parent().unwrap_or(&inbox);
    // Before anything is made: a link in it may lead elsewhere.
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&inbox);
    let real = std::fs::canonicalize(there).map_err(|e| failed(there, e))?;
    if !real.starts_with(&inbox) {
        return Err("the path leads out of its inbox".to_owned());
    }
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    if target.symlink_metadata().is_ok() {
        return Err(format!("{path} exists in its inbox"));
    }
    Ok(target)
}

/// The published file becomes a blob that waits for the submitter.
pub fn keep_result(shared: Arc<Shared>, job: JobId) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Some((output, custody)) =
            shared.jobs.with(job, |entry| (entry.request.output.0.clone(), entry.request.custody))
        else {
            return;
        };
        let Some(custody) = custody else { return }; // never a job of this agent's own
        if custody.delivers {
            return shared.tell(Input::CustodyResult { job, result: None }).await;
        }
        let blobs = shared.store.blobs.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let holder = result_holder(job);
            // A crash may have come after the import: then the pin tells which blob it is.
            let known = blobs.pins().into_iter().find(|(_, by)| *by == holder);
            if let Some((id, bytes)) = known.and_then(|(id, _)| Some((id, blobs.bytes(id)?))) {
                return Ok(BlobRef { id, bytes });
            }
            let manifest = blobs.hash_file(&output)?;
            blobs.pin(manifest.id, &holder)?;
            blobs.import(&output, Import::Move)?;
            Ok::<_, StoreError>(BlobRef { id: manifest.id, bytes: manifest.bytes })
        });
        let input = match kept.await {
            Ok(Ok(result)) => Input::CustodyResult { job, result: Some(result) },
            Ok(Err(e)) => Input::CustodyGivenUp { job, why: chain(&e) },
            Err(e) => Input::CustodyGivenUp { job, why: e.to_string() },
        };
        shared.tell(input).await;
    });
}

/// The submitter has what it wanted: everything of the job goes.
pub fn end(shared: Arc<Shared>, job: JobId, source: BlobRef, result: Option<BlobRef>) {
    end_token(&shared, job);
    // Never a job of this agent's own.
    let kept = shared.jobs.with(job, |entry| {
        let kept = entry.request.custody.is_some();
        if kept {
            entry.token.cancel();
        }
        kept
    });
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        if kept == Some(true)
            && let Err(e) = shared.jobs.remove(job).await
        {
            warn!(%job, "a kept job cannot be forgotten: {}", chain(&e));
        }
        let released = tokio::task::spawn_blocking(move || {
            release(&shared, source, &source_holder(job));
            if let Some(result) = result {
                release(&shared, result, &result_holder(job));
            }
            // One that was being kept in this moment.
            let unpinned = shared.store.blobs.unpin_all(&result_holder(job));
            unpinned.unwrap_or_else(|e| warn!(%job, "its result stays pinned: {}", chain(&e)));
        });
        let _ = released.await;
    });
}
