//! A job goes on: when a person tries it again, and after a start.

use std::sync::Arc;

use dmc_protocol::id::JobId;
use dmc_protocol::mesh::Input;
use tracing::warn;

use super::{Refusal, begin, make_plan, no_plan};
use crate::jobs::{Phase, Request};
use crate::media::MediaError;
use crate::runtime::Shared;
use crate::worker::chain;
use crate::{archive, owner, source};

/// Tries a job again that failed or was cancelled; what is committed stays. It begins at once,
/// however many are open.
pub async fn retry(shared: &Arc<Shared>, job: JobId) -> Result<(), Refusal> {
    let shared = Arc::clone(shared);
    // To its end, also when the person does not wait for it.
    let tried = tokio::spawn(async move {
        archive::take_back_in(&shared, job).await?;
        let tried = try_again(&shared, job).await;
        archive::let_go(&shared, job).await;
        tried
    });
    match tried.await {
        Ok(tried) => tried,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

async fn try_again(shared: &Arc<Shared>, job: JobId) -> Result<(), Refusal> {
    shared.jobs.renew_token(job);
    let known = shared.ask(move |mesh, _| mesh.jobs().get(job).is_some()).await == Some(true);
    let Some(request) = shared.jobs.with(job, |entry| entry.request.clone()) else {
        return Ok(());
    };
    if request.custody.is_some() {
        return Err(Refusal::Wish(
            "this job is another agent's; it is tried again there".to_owned(),
        ));
    }
    let handed = is_handed(shared, job).await;
    match source::unchanged(shared, job).await {
        Err(why) if handed => return Err(Refusal::Wish(why)),
        Err(_) => return begin_anew(shared, &request).await,
        Ok(()) => {}
    }
    let kept = shared.jobs.change(job, |request| {
        request.errors.clear();
        request.cancelled = false;
        request.past = None;
        request.phase = if known { Phase::Encoding } else { Phase::Planning };
    });
    kept.await?;
    if known {
        source::list(shared, job, true).await;
        shared.tell(Input::RetryJob(job)).await;
        align(shared, job).await;
    } else if handed {
        shared.tell(Input::TakeBack(job)).await;
    } else {
        begin(Arc::clone(shared), job, None);
    }
    Ok(())
}

/// The source is another one than the job was planned for: nothing that was made of it is of use.
async fn begin_anew(shared: &Arc<Shared>, request: &Request) -> Result<(), Refusal> {
    let (job, input) = (request.id, &request.input.0);
    if !input.exists() {
        let e = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(MediaError::io("read", input, e).into());
    }
    shared.tell(Input::RemoveJob(job)).await;
    let kept = shared.jobs.change(job, |request| {
        request.errors.clear();
        request.notes.clear();
        request.cancelled = false;
        request.phase = Phase::Planning;
        request.rung = None;
        request.past = None;
        request.proof = None;
        request.publishing = None;
    });
    kept.await?;
    shared.jobs.unload(job);
    begin(Arc::clone(shared), job, None);
    Ok(())
}

async fn is_handed(shared: &Shared, job: JobId) -> bool {
    shared.ask(move |mesh, _| mesh.handovers().get(job).is_some()).await == Some(true)
}

/// After a start: open jobs that had no tasks yet are planned, or told to the core; what is over
/// leaves; and those that wait get in.
pub async fn resume(shared: &Arc<Shared>) {
    resume_open(shared).await;
    archive::retire_leftovers(Arc::clone(shared));
    archive::admit(shared, None).await;
    archive::keep_admitting(Arc::clone(shared));
}

async fn resume_open(shared: &Arc<Shared>) {
    for request in shared.jobs.open_requests() {
        let job = request.id;
        if request.phase == Phase::Over || request.cancelled {
            continue;
        }
        let known =
            shared.ask(move |mesh, _| mesh.jobs().get(job).map(|job| job.record.state.is_over()));
        match known.await.flatten() {
            // The core says what is to be done with these; one that it does not know was let go in
            // the moment of a crash.
            None if request.custody.is_some() => {
                let kept = shared.ask(move |mesh, _| mesh.custody().get(job).is_some());
                if kept.await == Some(false)
                    && let Err(e) = shared.jobs.remove(job).await
                {
                    warn!(%job, "it cannot be forgotten: {}", chain(&e));
                }
            }
            None if is_handed(shared, job).await => {
                let (shared, input) = (Arc::clone(shared), request.input.0.clone());
                // Its custodian may still be fetching it.
                shared.tasks.clone().spawn(async move { source::known(&shared, &input).await });
            }
            None if request.phase == Phase::HandedOver => {
                owner::hand_over(Arc::clone(shared), job);
            }
            None => begin(Arc::clone(shared), job, None),
            Some(true) => {}
            Some(false) => {
                // A crash may have come before the core heard of another one.
                let priority = request.priority.number();
                shared.tell(Input::SetPriority { job, priority }).await;
                source::hash(Arc::clone(shared), job, true);
                align(shared, job).await;
            }
        }
    }
}

/// The plan's file is written before the core is told: after a crash between the two, the core
/// follows the plan. A plan that was lost is made again.
async fn align(shared: &Arc<Shared>, job: JobId) {
    let known = shared.ask(move |mesh, _| {
        let tasks = &mesh.jobs().get(job)?.tasks;
        Some(tasks.iter().map(|task| task.record.spec.clone()).collect::<Vec<_>>())
    });
    let Some(known) = known.await.flatten() else { return };
    let planned = match shared.jobs.planned(job) {
        Some(planned) => planned,
        None => {
            let Some(request) = shared.jobs.with(job, |entry| entry.request.clone()) else {
                return;
            };
            let kept = match make_plan(shared, &request, None, true).await {
                Ok(planned) => shared.jobs.save_plan(job, planned).await.map_err(|e| no_plan(&e)),
                Err(e) => Err(chain(&e)),
            };
            match kept {
                Ok(planned) => planned,
                Err(error) => {
                    return shared.tell(Input::FailJob { job, errors: vec![error] }).await;
                }
            }
        }
    };
    if planned.plan.tasks != known {
        shared.tell(Input::Replan { job, tasks: planned.plan.tasks.clone() }).await;
    }
}
