//! From a person's request to a job with tasks.

mod place;
mod settle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::handover::is_relative_path;
use dmc_protocol::id::JobId;
use dmc_protocol::media::{MediaKind, PresetOverrides, TaskInput, lengths};
use dmc_protocol::mesh::Input;
use dmc_store::StoreError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::config::HandOver;
use crate::jobs::{Delivery, Phase, Planned, Priority, Request, Stamp, Status, now_ms};
use crate::media::plan::{self, PlanHints};
use crate::media::probe;
use crate::media::streams::Probe;
use crate::media::{MediaError, index};
use crate::paths::AnyPath;
use crate::replace::{Replaced, SwapError};
use crate::room::{self, Disk};
use crate::runtime::Shared;
use crate::source;
use crate::worker::chain;
use crate::{archive, owner, power, presets};

use place::output_path;
pub use place::{check_output, container_of};

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Wish {
    /// The source, absolute.
    #[schema(value_type = String)]
    pub input: AnyPath,
    /// The result, absolute; `None`: `name.<codec>.<container>` beside the source or in
    /// `output_dir`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output: Option<AnyPath>,
    /// Directory of the result.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output_dir: Option<AnyPath>,
    /// Name of the preset.
    pub preset: String,
    /// Changes to the preset.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub overrides: PresetOverrides,
    /// Whether an existing result may be replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// Whether the result takes the place of its source.
    #[serde(default)]
    pub replace: bool,
    /// Whether files that carry the source's whole name, as `film.avi.srt`, are then renamed along.
    #[serde(default)]
    pub sidecars: bool,
    /// Whether the place where a picture was taken is removed from its metadata.
    #[serde(default)]
    pub strip_gps: bool,
    /// Wanted length of segments in seconds.
    #[serde(default)]
    pub segment_seconds: Option<u32>,
    /// Whether the whole job is given to another agent, so that this one may leave.
    #[serde(default)]
    pub hand_over: bool,
    /// The agent (name or id) in whose inbox the result stays.
    #[serde(default)]
    pub deliver_to: Option<String>,
    /// The result's name below that inbox.
    #[serde(default)]
    pub deliver_as: Option<String>,
    /// Which of the agent's jobs go first: `low`, `normal`, `high`, or a number from -100 to 100.
    #[serde(default)]
    pub priority: Priority,
}

impl Wish {
    /// A file with a preset as it is, beside its source; all else is what nobody asked for.
    pub fn plain(input: PathBuf, preset: String) -> Wish {
        Wish {
            input: AnyPath(input),
            output: None,
            output_dir: None,
            preset,
            overrides: PresetOverrides::default(),
            overwrite: false,
            replace: false,
            sidecars: false,
            strip_gps: false,
            segment_seconds: None,
            hand_over: false,
            deliver_to: None,
            deliver_as: None,
            priority: Priority::NORMAL,
        }
    }
}

/// Why a request is refused; nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No ffmpeg on this machine.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The preset or its changes are wrong.
    #[error(transparent)]
    Preset(#[from] dmc_protocol::media::PresetError),
    /// There is no such preset, or its file is wrong.
    #[error(transparent)]
    Own(#[from] presets::Problem),
    /// The request itself is wrong.
    #[error("{0}")]
    Wish(String),
    /// The result cannot take the place of its source.
    #[error(transparent)]
    Replace(#[from] SwapError),
    /// The agent's own state failed.
    #[error("the agent cannot keep the job")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Whether the person wrote something that cannot mean anything.
    pub fn is_usage(&self) -> bool {
        matches!(self, Refusal::Preset(_) | Refusal::Own(_) | Refusal::Wish(_))
    }
}

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
    // What the preset cannot do with such a source shows without reading all of it.
    let hints = PlanHints { strip_gps: wish.strip_gps, ..PlanHints::default() };
    let trial = plan::plan(&probe, &index::Index::default(), &preset, &hints)
        .map_err(|e| plan::with_path(e, &input))?;
    settle::can_filter(tools, &trial).await?;
    settle::can_measure(tools, &preset, &input).await?;
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
    // A picture takes less time than its way to somebody else.
    let delivery = match trial.kind {
        MediaKind::Image if wish.deliver_to.is_none() => None,
        MediaKind::Image => {
            return Err(Refusal::Wish("pictures are converted here, not handed over".to_owned()));
        }
        // So does a copy.
        _ if preset.copies_pictures() && wish.deliver_to.is_none() => None,
        _ if preset.copies_pictures() => {
            return Err(Refusal::Wish("films are copied here, not handed over".to_owned()));
        }
        MediaKind::Video | MediaKind::Audio => delivery(shared, &wish, &output).await?,
    };
    // Both ends must cut the same borders away.
    let preset = match delivery {
        Some(_) => settle::crop(tools, &input, &probe, preset, &mut notes).await?,
        None => preset,
    };
    let request = Request {
        id,
        input: wish.input,
        output: AnyPath(output),
        preset,
        overwrite: wish.overwrite,
        segment_s: wish.segment_seconds,
        stamp,
        created_ms: now_ms(),
        updated_ms: now_ms(),
        phase: Phase::Waiting,
        cancelled: false,
        errors: Vec::new(),
        notes,
        rung: None,
        publishing: None,
        proof: None,
        hand_over: delivery,
        custody: None,
        status: Status::ToDo,
        past: None,
        priority: wish.priority,
        strip_gps: wish.strip_gps,
    };
    if let Some(replacement) = replacement {
        // Before the job: it must not publish beside its source what is to take its place.
        shared.undo.want(Replaced::wanted(id, replacement, wish.sidecars)).await?;
    }
    shared.jobs.add(vec![request]).await?;
    archive::admit(shared, Some((id, probe))).await;
    Ok(())
}

/// Whether and where to the job is handed over: when the person says so, or when this machine runs
/// on its battery and somebody else could take it.
async fn delivery(
    shared: &Shared,
    wish: &Wish,
    output: &Path,
) -> Result<Option<Delivery>, Refusal> {
    if let Some(agent) = wish.deliver_to.clone() {
        let name = agent.clone();
        let found = shared.ask(move |mesh, _| {
            let all = mesh.peers().iter().map(|(id, _)| id).filter(|id| *id != mesh.me());
            let all = all.filter(|id| id.to_string() == name || mesh.name_of(*id) == name);
            let inbox = |id| mesh.peers().get(id).and_then(|peer| peer.info.as_ref());
            all.map(|id| (id, inbox(id).is_some_and(|info| info.inbox))).collect::<Vec<_>>()
        });
        let [(to, has_inbox)] = found.await.unwrap_or_default()[..] else {
            let text = format!("there is no one agent {agent}; `dmc peers` lists names and ids");
            return Err(Refusal::Wish(text));
        };
        if !has_inbox {
            let text = format!("{agent} takes no results: set `inbox = \"DIR\"` in its settings");
            return Err(Refusal::Wish(text));
        }
        let path = match &wish.deliver_as {
            Some(path) => path.clone(),
            None => output.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        if !is_relative_path(&path) {
            let text = format!("`{path}` is no name below an inbox; write it as in new/film.mkv");
            return Err(Refusal::Wish(text));
        }
        return Ok(Some(Delivery { to: Some(to), path: Some(path) }));
    }
    if wish.deliver_as.is_some() {
        return Err(Refusal::Wish("--deliver-as needs --deliver-to".to_owned()));
    }
    let by_itself = shared.settings.hand_over == HandOver::Auto && power::on_battery() && {
        let others = shared.ask(|mesh, _| {
            let mut peers = mesh.peers().iter().filter(|(id, _)| *id != mesh.me());
            peers.any(|(_, peer)| {
                let info = peer.info.as_ref();
                peer.is_usable() && info.is_some_and(|info| info.custodian && !info.on_battery)
            })
        });
        others.await == Some(true)
    };
    Ok((wish.hand_over || by_itself).then(Delivery::default))
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
    let slots = shared.ask(|mesh, _| {
        let usable = mesh.peers().iter().filter(|(_, peer)| peer.is_usable());
        usable.map(|(_, peer)| f64::from(peer.slots())).sum::<f64>()
    });
    let slots = slots.await.unwrap_or(1.0).max(1.0);
    let seconds = probe.duration_us.unwrap_or(0) as f64 / 1e6;
    let chosen = lengths::segment_target_s(seconds, slots);
    let segment_target_s = request.segment_s.map_or(chosen, f64::from);
    let hints = PlanHints { segment_target_s, strip_gps: request.strip_gps };
    let mut plan = plan::plan(&probe, &index, &preset, &hints)
        .map_err(|e| plan::with_path(e, &request.input))?;
    settle::can_filter(tools, &plan).await?;
    if let Some(work) = plan.tasks.iter().find_map(|task| task.video()).filter(|_| search) {
        let input: &Path = &request.input;
        let what = (input, &probe);
        let (found, words) = settle::quality(shared, request.id, what, (&preset, work)).await?;
        notes.extend(words);
        plan = plan::plan(&probe, &index, &found, &hints)
            .map_err(|e| plan::with_path(e, &request.input))?;
    }
    plan.notes.splice(0..0, notes);
    Ok(Planned { probe, plan })
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
