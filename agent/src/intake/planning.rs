//! From a job that is open to its tasks: the source is read and planned, and the core is told.

use std::path::Path;
use std::sync::Arc;

use dmc_protocol::config::UNKNOWN_LINK_BYTES_S;
use dmc_protocol::id::JobId;
use dmc_protocol::media::{Preset, TaskInput, TaskSpec, lengths};
use dmc_protocol::mesh::Input;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::settle;
use crate::jobs::{Phase, Planned, Request, Stamp};
use crate::media::plan::{self, Plan, PlanHints};
use crate::media::streams::Probe;
use crate::media::{MediaError, index, probe};
use crate::room::{self, Disk};
use crate::runtime::Shared;
use crate::worker::chain;
use crate::{archive, source};

/// Reads the source and makes the plan; also after a restart that found no plan.
pub fn begin(shared: Arc<Shared>, job: JobId, probe: Option<Probe>) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        let Some((request, token)) =
            shared.jobs.with(job, |entry| (entry.request.clone(), entry.token.clone()))
        else {
            return;
        };
        let (request, probe) = match as_it_is_now(&shared, request, probe).await {
            Ok(now) => now,
            Err(error) => return not_begun(&shared, job, error).await,
        };
        let roomy_plan = async {
            let planned = make_plan(&shared, &request, probe, true).await?;
            let bytes = planned.plan.output_bytes_estimate;
            wait_for_room(&shared, &request, bytes, &token).await?;
            Ok::<_, MediaError>(planned)
        };
        let planned = tokio::select! {
            planned = roomy_plan => planned,
            () = token.cancelled() => return,
            () = shared.stop.cancelled() => return,
        };
        // A plan is of one version only.
        let same = Stamp::of(&request.input).is_ok_and(|now| now == request.stamp);
        match planned {
            Ok(planned) if same => start(&shared, &request, planned).await,
            Ok(_) => not_begun(&shared, job, source::changed(&request.input)).await,
            Err(error) => not_begun(&shared, job, chain(&error)).await,
        }
    });
}

/// Until it is planned, a source may change as it likes: what is planned is what is there then.
async fn as_it_is_now(
    shared: &Shared,
    mut request: Request,
    probe: Option<Probe>,
) -> Result<(Request, Option<Probe>), String> {
    let stamp =
        Stamp::of(&request.input).map_err(|e| chain(&MediaError::io("read", &request.input, e)))?;
    if stamp == request.stamp {
        return Ok((request, probe));
    }
    request.stamp = stamp;
    let kept = shared.jobs.change(request.id, |request| request.stamp = stamp).await;
    kept.map_err(|e| chain(&e))?;
    Ok((request, None))
}

/// The job ends before it had tasks; the core knows it only when it changes hands.
pub(crate) async fn not_begun(shared: &Arc<Shared>, job: JobId, error: String) {
    let Some(custody) = shared.jobs.with(job, |entry| entry.request.custody) else {
        return; // it was ended meanwhile
    };
    if custody.is_some() {
        return shared.tell(Input::CustodyFailed { job, why: error }).await;
    }
    let failed = shared.jobs.change(job, |request| {
        request.errors = vec![error.clone()];
        request.phase = Phase::Over;
    });
    if let Err(e) = failed.await {
        warn!(%job, "its failure cannot be saved: {}", chain(&e));
    }
    shared.tell(Input::FailJob { job, errors: vec![error] }).await;
    archive::retire(shared, job).await;
}

/// Reads the source and plans. With `search`, the setting that reaches a wanted quality is looked for;
/// who only checks what somebody else made does not need it.
pub(crate) async fn make_plan(
    shared: &Arc<Shared>,
    request: &Request,
    probe: Option<Probe>,
    search: bool,
) -> Result<Planned, MediaError> {
    let tools = shared.tools.as_ref().ok_or(MediaError::NoTool { program: "ffmpeg" })?;
    let probe = match probe {
        Some(probe) => probe,
        None => probe::probe(tools, &request.input).await?,
    };
    let index = index::index(tools, &request.input, &probe).await?;
    let mut notes = Vec::new();
    let preset = request.preset.clone();
    let preset = settle::crop(tools, &request.input, &probe, preset, &mut notes).await?;
    let plan_with = |preset: &Preset, segment_target_s: f64| {
        let hints = PlanHints { segment_target_s, strip_gps: request.strip_gps };
        plan::plan(&probe, &index, preset, &hints).map_err(|e| plan::with_path(e, &request.input))
    };
    let wanted_s = request.segment_s.map(f64::from);
    let mut target_s = wanted_s.unwrap_or(lengths::SEGMENT_S_MIN);
    let mut plan = plan_with(&preset, target_s)?;
    if wanted_s.is_none() && plan.video_tasks().len() > 1 {
        target_s = best_length(shared, &probe, &plan).await;
        if target_s > lengths::SEGMENT_S_MIN {
            plan = plan_with(&preset, target_s)?;
        }
    }
    settle::can_filter(tools, &plan).await?;
    if let Some(work) = plan.tasks.iter().find_map(|task| task.video()).filter(|_| search) {
        let input: &Path = &request.input;
        let what = (input, &probe);
        let (found, words) = settle::quality(shared, request.id, what, (&preset, work)).await?;
        notes.extend(words);
        plan = plan_with(&found, target_s)?;
    }
    plan.notes.splice(0..0, notes);
    Ok(Planned { probe, plan })
}

/// The length of segments that suits the machines that are here now, in seconds. How long the film is
/// the plan says: headers may say anything.
async fn best_length(shared: &Shared, probe: &Probe, plan: &Plan) -> f64 {
    let specs = || plan.tasks.iter().filter(|task| task.segment().is_some());
    let ends = |spec: &TaskSpec| spec.segment().map(|of| (of.a_pts, of.b_pts, of.video.time_base));
    let (Some((a_pts, _, base)), Some((_, b_pts, _)), Some(class)) = (
        specs().next().and_then(ends),
        specs().next_back().and_then(ends),
        specs().next().map(TaskSpec::class),
    ) else {
        return lengths::SEGMENT_S_MIN;
    };
    let film_s = base.ticks_to_s(b_pts.saturating_sub(a_pts));
    if film_s <= 0.0 {
        return lengths::SEGMENT_S_MIN;
    }
    let units: u64 = specs().map(TaskSpec::work_units).fold(0, u64::saturating_add);
    let units_s = (units as f64 / film_s) as u64;
    let machines = shared.ask(move |mesh, _| mesh.paces(class, units_s)).await.unwrap_or_default();
    let travel = probe.bytes as f64 / film_s / UNKNOWN_LINK_BYTES_S as f64;
    lengths::segment_target_s(film_s, travel, &machines)
}

/// Waits while there is no room for the result where it goes. One that is larger than that whole
/// disk never fits.
async fn wait_for_room(
    shared: &Shared,
    request: &Request,
    bytes: u64,
    token: &CancellationToken,
) -> Result<(), MediaError> {
    let dir = request.output.parent().unwrap_or(Path::new("/"));
    let reserve = shared.settings.disk_reserve_bytes;
    while let Err(full) = room::check(dir, bytes, reserve) {
        let could_fit = Disk::of(dir)
            .is_some_and(|disk| bytes.saturating_add(disk.stays_free(reserve)) <= disk.total);
        if !could_fit {
            return Err(full);
        }
        if !shared.room.wait(request.id, &chain(&full), token).await {
            return Err(MediaError::Cancelled);
        }
    }
    Ok(())
}

pub(crate) fn no_plan(error: &std::io::Error) -> String {
    format!("cannot save the plan: {error}")
}

async fn start(shared: &Arc<Shared>, request: &Request, planned: Planned) {
    let job = request.id;
    let specs = planned.plan.tasks.clone();
    let (notes, rung) = (planned.plan.notes.clone(), planned.plan.rung);
    let needs_source = specs.iter().any(|spec| spec.input() == TaskInput::Source);
    if let Err(e) = shared.jobs.save_plan(job, planned).await {
        return not_begun(shared, job, no_plan(&e)).await;
    }
    let changed = shared.jobs.change(job, |request| {
        request.rung = Some(rung);
        if !request.cancelled {
            request.phase = Phase::Encoding;
        }
        notes.into_iter().for_each(|note| request.note(note));
    });
    if let Err(e) = changed.await {
        warn!(%job, "its phase cannot be saved: {}", chain(&e));
    }
    // Nobody tells the core of a job that has left.
    let _turn = shared.jobs.turn().await;
    if !shared.jobs.is_open(job) {
        return;
    }
    if let Some(custody) = request.custody {
        let source = custody.source; // it lies in the store
        return shared.tell(Input::AddCustodyJob { job, source, tasks: specs }).await;
    }
    // What was changed while it was planned counts.
    let priority = shared.jobs.with(job, |entry| entry.request.priority).unwrap_or_default();
    let priority = priority.number();
    shared.tell(Input::AddJob { job, priority, source: None, tasks: specs }).await;
    let token = shared.jobs.with(job, |entry| entry.token.clone());
    if token.is_some_and(|token| token.is_cancelled()) {
        // Cancelled while it was planned, before the core knew it.
        return shared.tell(Input::CancelJob(job)).await;
    }
    source::hash(Arc::clone(shared), job, needs_source);
}
