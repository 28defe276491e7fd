//! Jobs, from what was asked for and from what became of it.

use std::sync::Arc;

use dmc_protocol::id::JobId;
use dmc_protocol::record::JobState;
use tracing::warn;

use super::facts::{Core, core_of_past, facts_of};
use super::rfc3339;
use crate::http::views::JobView;
use crate::jobs::{Phase, Request};
use crate::media::plan::Rung;
use crate::replace::view::UndoView;
use crate::runtime::Shared;
use crate::worker::chain;

/// Why a job is not begun.
const OTHERS_FIRST: &str = "other jobs go first";

/// These jobs, without their tasks.
pub async fn jobs(shared: &Arc<Shared>, requests: Vec<Request>) -> Option<Vec<JobView>> {
    let ids: Vec<JobId> = requests.iter().map(|request| request.id).collect();
    let cores = shared.ask(move |mesh, now| {
        ids.into_iter().map(|id| facts_of(mesh, now, id, false)).collect::<Vec<_>>()
    });
    Some(
        requests
            .into_iter()
            .zip(cores.await?)
            .map(|(request, core)| assemble(shared, request, core))
            .collect(),
    )
}

/// One job with its tasks.
pub async fn job(shared: &Arc<Shared>, id: JobId) -> Option<JobView> {
    let core = shared.ask(move |mesh, now| facts_of(mesh, now, id, true)).await?;
    let read = shared.jobs.request(id).and_then(|request| match request {
        Some(request) if request.past.is_some() => Ok(Some((request, shared.jobs.past_tasks(id)?))),
        request => Ok(request.map(|request| (request, Vec::new()))),
    });
    let read = read.inspect_err(|e| warn!(job = %id, "it cannot be read: {}", chain(e)));
    let (request, tasks) = read.ok().flatten()?;
    let mut view = assemble(shared, request, core);
    if view.tasks.is_empty() {
        view.tasks = tasks;
    }
    Some(view)
}

/// What becomes of the source of a job.
fn undo(shared: &Shared, id: JobId) -> Option<UndoView> {
    let found = shared.undo.get(id).inspect_err(|e| warn!(job = %id, "{}", chain(e)));
    Some(UndoView::of(&found.ok().flatten()?, shared.settings.undo_keep_days))
}

/// What people see of a job.
fn assemble(shared: &Shared, request: Request, mut core: Core) -> JobView {
    if let Some(past) = request.past.as_ref().filter(|_| core.state.is_none()) {
        core = core_of_past(&request, past);
    }
    let mut errors = request.errors.clone();
    let handed = core.handed.take();
    if let Some(handed) = handed.as_ref().filter(|handed| handed.stands.is_some()) {
        core.progress = handed.progress;
        core.waiting.clone_from(&handed.waiting);
        if errors.is_empty() {
            errors.extend(handed.error.clone());
        }
    }
    let stands = handed.as_ref().and_then(|handed| handed.stands);
    let over = request.cancelled
        || request.phase == Phase::Over
        || core.state.as_ref().is_some_and(JobState::is_over);
    let no_room = if over { None } else { shared.room.job(request.id) };
    let waits_for_room = no_room.is_some();
    let others_first = request.phase == Phase::Waiting && !over;
    core.waiting = no_room.or(core.waiting).or(others_first.then(|| OTHERS_FIRST.to_owned()));
    let (status, phase) = standing(&request, &core, stands, waits_for_room, &mut errors);
    let done = status == "finished_successful";
    let bytes = request.proof.as_ref().map_or(core.bytes, |proof| proof.bytes);
    JobView {
        id: request.id.to_string(),
        status: status.to_owned(),
        phase: phase.to_owned(),
        progress: if done { 1.0 } else { core.progress },
        frames: core.frames,
        frames_total: core.frames_total,
        fps: core.fps,
        bytes,
        rung: request.rung.map(|rung| rung_word(rung).to_owned()),
        delivered_as: request.hand_over.and_then(|delivery| delivery.path),
        custodian: handed.and_then(|handed| handed.custodian),
        submitter: core.submitter.as_ref().map(|(name, _)| name.clone()),
        workers: core.workers,
        waiting: core.waiting,
        notes: request.notes,
        errors,
        proof: request.proof,
        undo: undo(shared, request.id),
        tasks_done: core.done,
        tasks_total: core.total,
        tasks: core.tasks,
        created_at: rfc3339(request.created_ms),
        updated_at: rfc3339(request.updated_ms),
        input: core.submitter.map_or(request.input, |(_, source)| source),
        output: request.output,
        preset: request.preset.name,
        priority: request.priority,
    }
}

/// Status and phase. The reasons of a job that failed become its errors. `stands`: where it stands
/// with the agent that it was handed over to.
fn standing(
    request: &Request,
    core: &Core,
    stands: Option<(&'static str, &'static str)>,
    waits_for_room: bool,
    errors: &mut Vec<String>,
) -> (&'static str, &'static str) {
    match &core.state {
        _ if !errors.is_empty() => ("finished_with_errors", "over"),
        _ if request.cancelled => ("cancelled", "over"),
        // Its own work may rest beside it.
        state if !state.as_ref().is_some_and(JobState::is_over) && stands.is_some() => {
            stands.unwrap_or_default()
        }
        None if request.phase == Phase::Waiting => ("to_do", "waiting"),
        None if request.phase == Phase::HandedOver => ("to_do", "handing_over"),
        None if waits_for_room => ("to_do", "waiting"),
        None => ("to_do", "planning"),
        Some(JobState::Done) => ("finished_successful", "over"),
        Some(JobState::Cancelled) => ("cancelled", "over"),
        Some(JobState::Failed(reasons)) => {
            errors.clone_from(reasons);
            ("finished_with_errors", "over")
        }
        Some(JobState::Joining) if waits_for_room => ("in_progress", "waiting"),
        Some(JobState::Joining) => (
            "in_progress",
            match request.phase {
                Phase::Verifying => "verifying",
                Phase::Publishing => "publishing",
                _ => "joining",
            },
        ),
        Some(JobState::Active) if core.waiting.is_some() => ("in_progress", "waiting"),
        Some(JobState::Active) => ("in_progress", "encoding"),
    }
}

fn rung_word(rung: Rung) -> &'static str {
    match rung {
        Rung::Pieces => "pieces",
        Rung::Seek => "seek",
        Rung::Whole => "whole",
        Rung::Remux => "remux",
        Rung::Image => "image",
    }
}
