//! Which jobs are open: those that wait get in when others leave, those that are over leave the
//! memory, and one that is tried again comes back.
//!
//! A job leaves in two durable steps: what people see of it, then its records in the state machine.
//! A crash between the two is mended at the next start.

use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::id::JobId;
use dmc_protocol::mesh::{Input, Mesh};
use dmc_store::StoreError;
use tracing::warn;

use crate::http::gather;
use crate::intake::{self, Refusal};
use crate::jobs::past::Past;
use crate::jobs::{Ended, Lane, Phase, Priority, Status};
use crate::media::streams::Probe;
use crate::runtime::Shared;
use crate::worker::chain;
use crate::{owner, source};

/// How often it is looked whether open jobs are stuck, so that others may get in.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Jobs that are stuck make room for so many times the usual number.
const OPEN_TIMES_MAX: usize = 8;

// ---- in ----

/// Begins jobs that wait, as many as there are seats for. `probed`: what was read of one just now.
pub async fn admit(shared: &Arc<Shared>, mut probed: Option<(JobId, Probe)>) {
    begin_next(shared, Lane::Here, 0, &mut probed).await;
    begin_next(shared, Lane::Away, 0, &mut probed).await;
}

/// The same, and jobs that cannot go on do not keep others from it.
async fn admit_beside_stuck(shared: &Arc<Shared>) {
    for lane in [Lane::Here, Lane::Away] {
        let stuck = stuck(shared, lane).await;
        begin_next(shared, lane, stuck, &mut None).await;
    }
}

async fn begin_next(
    shared: &Arc<Shared>,
    lane: Lane,
    stuck: usize,
    probed: &mut Option<(JobId, Probe)>,
) {
    let admitted = match admit_lane(shared, lane, stuck).await {
        Ok(admitted) => admitted,
        Err(e) => return warn!("waiting jobs cannot begin: {}", chain(&e)),
    };
    for job in admitted {
        let probe = probed.take_if(|(of, _)| *of == job).map(|(_, probe)| probe);
        match lane {
            Lane::Away => owner::hand_over(Arc::clone(shared), job),
            Lane::Open | Lane::Here => intake::begin(Arc::clone(shared), job, probe),
        }
    }
}

async fn admit_lane(
    shared: &Arc<Shared>,
    lane: Lane,
    stuck: usize,
) -> Result<Vec<JobId>, StoreError> {
    let max = shared.settings.jobs_open_max;
    let (open, next) = shared.jobs.urgencies(lane, 1)?;
    if seats(max, stuck, open, &next) == 0 {
        return Ok(Vec::new()); // the usual case while many wait
    }
    let _turn = shared.jobs.turn().await;
    let (open, next) = shared.jobs.urgencies(lane, max)?;
    match seats(max, stuck, open, &next) {
        0 => Ok(Vec::new()),
        seats => shared.jobs.admit(lane, seats).await,
    }
}

/// How many of the next get in. Jobs that are stuck do not count as open, nor do less urgent ones: else a
/// job would wait for films that take days. There is an end to both.
fn seats(max: usize, stuck: usize, mut open: Vec<Priority>, next: &[Priority]) -> usize {
    let most = max.saturating_mul(OPEN_TIMES_MAX);
    let mut count = 0;
    for priority in next {
        let ahead = open.iter().filter(|of| *of >= priority).count();
        if ahead >= max.saturating_add(stuck) || open.len() >= most {
            break;
        }
        open.push(*priority);
        count += 1;
    }
    count
}

/// Open jobs that wait for room on a disk, or for an agent that can do them.
async fn stuck(shared: &Arc<Shared>, lane: Lane) -> usize {
    let open = shared.jobs.open_in(lane);
    if open.len() < shared.settings.jobs_open_max {
        return 0; // there are seats anyway
    }
    let (here, asked): (Vec<JobId>, Vec<JobId>) =
        open.iter().partition(|job| shared.room.job(**job).is_some());
    let told = shared.ask(move |mesh, now| {
        let jobs = asked.into_iter().filter_map(|id| mesh.jobs().get(id));
        jobs.filter(|job| mesh.waiting_for(now, job).is_some()).count()
    });
    here.len() + told.await.unwrap_or(0)
}

/// Looks now and then, until the agent stops.
pub fn keep_admitting(shared: Arc<Shared>) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => admit_beside_stuck(&shared).await,
                () = shared.stop.cancelled() => return,
            }
        }
    });
}

/// Ends a job that waits: only its request changes. False: it does not wait.
pub async fn cancel_waiting(shared: &Arc<Shared>, job: JobId) -> bool {
    let _turn = shared.jobs.turn().await;
    let waits =
        matches!(shared.jobs.request(job), Ok(Some(request)) if request.phase == Phase::Waiting);
    if !waits {
        return false;
    }
    let ended = Ended {
        status: Status::Cancelled,
        errors: Vec::new(),
        past: Past::nothing(),
        tasks: Vec::new(),
    };
    if let Err(e) = shared.jobs.close(job, ended).await {
        warn!(%job, "it cannot be cancelled: {}", chain(&e));
    }
    true
}

/// Another priority for a job that is not over. False: it is over, or there is none.
pub async fn set_priority(
    shared: &Arc<Shared>,
    job: JobId,
    priority: Priority,
) -> Result<bool, StoreError> {
    {
        // Nobody lets it in, or tells the state machine of it, meanwhile.
        let _turn = shared.jobs.turn().await;
        let Some(request) = shared.jobs.request(job)? else { return Ok(false) };
        if request.status.is_over() || request.phase == Phase::Over {
            return Ok(false);
        }
        shared.jobs.change(job, |request| request.priority = priority).await?;
        if shared.jobs.is_open(job) {
            shared.tell(Input::SetPriority { job, priority: priority.number() }).await;
        }
    }
    admit(shared, None).await;
    Ok(true)
}

// ---- out ----

/// Lets a job leave the memory when nothing of it is under way any more. Harmless at any time.
pub async fn retire(shared: &Arc<Shared>, job: JobId) {
    let left = {
        let _turn = shared.jobs.turn().await;
        leave(shared, job).await
    };
    match left {
        Ok(true) => admit(shared, None).await,
        Ok(false) => {}
        Err(e) => warn!(%job, "it stays in memory: {}", chain(&e)),
    }
}

async fn leave(shared: &Arc<Shared>, job: JobId) -> Result<bool, StoreError> {
    let Some(request) = shared.jobs.request(job)? else { return Ok(false) };
    let held = shared.jobs.with(job, |entry| entry.held) == Some(true);
    let rests = shared.ask(move |mesh, _| mesh.is_at_rest(job)).await == Some(true);
    if held || !rests {
        return Ok(false);
    }
    if request.custody.is_some() {
        // Its submitter let it go, and a crash came before all of it was gone.
        shared.tell(Input::RemoveJob(job)).await;
        shared.ask(|_, _| ()).await;
        return shared.jobs.remove(job).await.map(|()| false);
    }
    if !request.status.is_over() {
        let Some(view) = gather::job(shared, job).await else { return Ok(false) };
        let Ok(status) = view.status.parse::<Status>() else { return Ok(false) };
        if !status.is_over() {
            return Ok(false);
        }
        let past = Past::of(&view);
        let ended = Ended { status, errors: view.errors, past, tasks: view.tasks };
        shared.jobs.close(job, ended).await?;
    }
    shared.jobs.drop_entry(job);
    shared.tell(Input::ShelveJob(job)).await;
    // Answered when it is on the shelf: whoever wants it back finds it there.
    shared.ask(|_, _| ()).await;
    Ok(true)
}

/// After a start: what was over before the agent stopped, and had not left yet.
pub fn retire_leftovers(shared: Arc<Shared>) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let in_core = shared.ask(|mesh: &Mesh, _| {
            let jobs = mesh.jobs().iter().map(|job| job.record.id);
            let handed = mesh.handovers().iter().map(|handed| handed.record.id);
            jobs.chain(handed).filter(|job| mesh.is_at_rest(*job)).collect::<Vec<_>>()
        });
        let mut jobs = in_core.await.unwrap_or_default();
        let open = shared.jobs.open_requests().into_iter();
        jobs.extend(open.filter(|of| of.phase == Phase::Over || of.cancelled).map(|of| of.id));
        for job in jobs {
            if shared.stop.is_cancelled() {
                return;
            }
            retire(&shared, job).await;
        }
        source::unlist_unneeded(&shared).await;
    });
}

// ---- back ----

/// Brings a job that is over back, so that it can be tried again; it stays until [`let_go`].
pub async fn take_back_in(shared: &Arc<Shared>, job: JobId) -> Result<(), Refusal> {
    let _turn = shared.jobs.turn().await;
    let Some(request) = shared.jobs.request(job)? else { return Ok(()) };
    if shared.jobs.with(job, |entry| entry.held) == Some(true) {
        return Err(Refusal::Wish("it is being tried again in this moment".to_owned()));
    }
    let records = crate::state::shelved(&shared.store.kv, job)?;
    shared.jobs.hold(request);
    if !records.is_empty() {
        shared.tell(Input::UnshelveJob(records)).await;
        shared.ask(|_, _| ()).await;
    }
    Ok(())
}

/// The person's wish was followed, or refused: then the job leaves again.
pub async fn let_go(shared: &Arc<Shared>, job: JobId) {
    shared.jobs.with(job, |entry| entry.held = false);
    retire(shared, job).await;
}
