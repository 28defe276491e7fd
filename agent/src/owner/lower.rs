//! The way down the ladder: another way for a task whose result cannot be proven.

use std::sync::Arc;

use dmc_protocol::id::TaskId;
use dmc_protocol::media::TaskSpec;
use dmc_protocol::mesh::Input;
use tracing::info;

use crate::intake::no_plan;
use crate::jobs::Planned;
use crate::media::index::{self, Index};
use crate::media::plan::{self, Demotion, Plan};
use crate::runtime::Shared;
use crate::worker::chain;

use super::{Scene, Verified, fail, scene};

/// Has a task done one rung lower. `judged` is the way that did not do: when the plan has another
/// one by now, somebody was faster, and nothing is left to do.
pub(super) async fn demote(
    shared: &Arc<Shared>,
    scene: &Scene,
    task: TaskId,
    judged: Option<TaskSpec>,
    why: &str,
) {
    info!(%task, "to be done another way: {why}");
    let Some(verifying) = shared.jobs.with(task.job, |entry| Arc::clone(&entry.verifying)) else {
        return;
    };
    let mut verified = verifying.lock().await;
    // Another result may have led to a new plan meanwhile.
    let Some(planned) = shared.jobs.planned(task.job) else { return };
    let planned_now = planned.plan.tasks.get(task.index as usize);
    if judged.is_none() || planned_now != judged.as_ref() {
        return;
    }
    let index = index::index(&scene.tools, &scene.input, &planned.probe).await;
    let index = match index {
        Ok(index) => index,
        Err(e) => return fail(shared, task.job, chain(&e)).await,
    };
    let Some((plan, input, note)) = another_way(&planned, &index, task, why) else {
        let error = format!("no way to convert {} exactly: {why}", scene.input.display());
        return fail(shared, task.job, error).await;
    };
    if matches!(input, Input::Replan { .. }) {
        *verified = Verified::default();
    }
    verified.proofs.remove(&task.index);
    verified.extradata.remove(&task.index);
    if scene.token.is_cancelled() {
        return; // what nobody will do need not be planned
    }
    let rung = plan.rung;
    let next = Planned { probe: planned.probe.clone(), plan };
    if let Err(e) = shared.jobs.save_plan(task.job, next).await {
        return fail(shared, task.job, no_plan(&e)).await;
    }
    let noted = shared.jobs.change(task.job, |request| {
        request.note(note);
        request.rung = Some(rung);
    });
    let _ = noted.await;
    shared.tell(input).await;
}

/// The plan with another way for a task, what the core is told of it, and what people are.
fn another_way(
    planned: &Planned,
    index: &Index,
    task: TaskId,
    why: &str,
) -> Option<(Plan, Input, String)> {
    let label = planned.plan.tasks.get(task.index as usize).map(|spec| spec.label());
    let label = label.unwrap_or_default();
    let preset = &planned.plan.preset;
    match plan::demote(&planned.probe, index, preset, &planned.plan, task.index) {
        Demotion::Retry(replacement) => {
            let mut plan = planned.plan.clone();
            let spec = replacement.spec.clone();
            plan.replace(task.index, replacement);
            let note = format!("{label} was done another way: {why}");
            Some((plan, Input::Redo { task, spec }, note))
        }
        Demotion::WholeFile(whole) => {
            let tasks = whole.tasks.clone();
            let note = format!("the film was converted in one piece: {label}: {why}");
            Some((*whole, Input::Replan { job: task.job, tasks }, note))
        }
        Demotion::GiveUp => None,
    }
}

/// Finds another way to do a task that a worker could not prove.
pub fn lower(shared: Arc<Shared>, task: TaskId, reason: String) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        match scene(&shared, task.job) {
            Some(Ok(scene)) => {
                let judged = shared.ask(move |mesh, _| {
                    let job = mesh.jobs().get(task.job)?;
                    Some(job.tasks.get(task.index as usize)?.record.spec.clone())
                });
                let judged = judged.await.flatten();
                demote(&shared, &scene, task, judged, &reason).await;
            }
            Some(Err(error)) => fail(&shared, task.job, error).await,
            None => {}
        }
    });
}
