//! From a person's request to a job with tasks.

mod again;
mod delivery;
mod place;
mod planning;
mod settle;
mod wish;

use std::sync::Arc;

use dmc_protocol::id::JobId;
use dmc_protocol::media::Preset;
use dmc_protocol::mesh::Input;
use uuid::Uuid;

use crate::archive;
use crate::jobs::{Phase, Request, Stamp};
use crate::media::plan::{self, Plan, PlanHints};
use crate::media::run::Tools;
use crate::media::streams::Probe;
use crate::media::{MediaError, index, probe};
use crate::presets;
use crate::replace::Replaced;
use crate::runtime::Shared;

use place::output_path;

pub use again::{resume, retry};
pub use place::{check_output, container_of};
pub use planning::begin;
pub(crate) use planning::{make_plan, no_plan, not_begun};
pub use wish::{Refusal, Wish};

/// Accepts a wish: everything that can be known at once is refused here, before a job exists.
pub async fn accept(shared: &Arc<Shared>, wish: Wish) -> Result<JobId, Refusal> {
    let id = JobId(Uuid::now_v7());
    accept_as(shared, id, wish).await?;
    Ok(id)
}

/// [`accept`] for a job that has an id already.
pub async fn accept_as(shared: &Arc<Shared>, id: JobId, wish: Wish) -> Result<(), Refusal> {
    let own = shared.settings.presets.as_deref();
    let preset = presets::find(own, &wish.preset)?.with(&wish.overrides)?;
    let mut notes = Vec::new();
    let preset = settle::family(shared, preset, &mut notes).await?;
    if let Some(seconds) = wish.segment_seconds
        && !(1..=600).contains(&seconds)
    {
        return Err(Refusal::Wish("--segment-seconds must be 1 to 600".to_owned()));
    }
    let tools = shared.tools.as_ref().ok_or(MediaError::NoTool { program: "ffmpeg" })?;
    let input = wish.input.0.clone();
    let probe = probe::probe(tools, &input).await?;
    let trial = try_plan(tools, &wish, &preset, &probe).await?;
    let replacement = place::replacement(&wish, &trial)?;
    let output = match &replacement {
        Some(replacement) => replacement.output.clone(),
        None => {
            let output = output_path(&wish, &preset, &trial)?;
            check_output(&input, &output, wish.overwrite)?;
            output
        }
    };
    let stamp = Stamp::of(&input).map_err(|e| MediaError::io("read", &input, e))?;
    let delivery =
        delivery::decide(shared, &wish, (trial.kind, &preset), &output, &mut notes).await?;
    // Both ends must cut the same borders away.
    let preset = match delivery {
        Some(_) => settle::crop(tools, &input, &probe, preset, &mut notes).await?,
        None => preset,
    };
    let request = Request {
        overwrite: wish.overwrite,
        segment_s: wish.segment_seconds,
        notes,
        hand_over: delivery,
        priority: wish.priority,
        strip_gps: wish.strip_gps,
        ..Request::new(id, input, output, preset, stamp)
    };
    if let Some(replacement) = replacement {
        // Before the job: it must not publish beside its source what is to take its place.
        shared.undo.want(Replaced::wanted(id, replacement, wish.sidecars)).await?;
    }
    shared.jobs.add(vec![request]).await?;
    archive::admit(shared, Some((id, probe))).await;
    Ok(())
}

/// What the preset cannot do with such a source shows without reading all of it.
async fn try_plan(
    tools: &Tools,
    wish: &Wish,
    preset: &Preset,
    probe: &Probe,
) -> Result<Plan, MediaError> {
    let input = &wish.input.0;
    let hints = PlanHints { strip_gps: wish.strip_gps, ..PlanHints::default() };
    let trial = plan::plan(probe, &index::Index::default(), preset, &hints)
        .map_err(|e| plan::with_path(e, input))?;
    settle::can_filter(tools, &trial).await?;
    settle::can_measure(tools, preset, input).await?;
    Ok(trial)
}

/// Ends a job, whether it has tasks already or not.
pub async fn cancel(shared: &Arc<Shared>, job: JobId) {
    if archive::cancel_waiting(shared, job).await {
        return;
    }
    shared.jobs.with(job, |entry| entry.token.cancel());
    let planning = shared
        .jobs
        .with(job, |entry| matches!(entry.request.phase, Phase::Planning | Phase::HandedOver));
    if planning == Some(true) {
        // It may be told to the core in this very moment: both are told.
        let _ = shared
            .jobs
            .change(job, |request| {
                request.phase = Phase::Over;
                request.cancelled = true;
            })
            .await;
    }
    shared.tell(Input::CancelJob(job)).await;
    // Answered after the cancellation was handled.
    shared.ask(|_, _| ()).await;
    archive::retire(shared, job).await;
}
