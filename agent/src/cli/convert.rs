//! `dmc convert`: asks the agent, shows what happens, says how it ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use dmc_agent::agent;
use dmc_agent::http::views::JobView;
use dmc_agent::intake::{Wish, container_of};
use dmc_agent::paths::AnyPath;
use dmc_agent::presets;
use dmc_protocol::media::PresetOverrides;
use futures::StreamExt as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ConvertArgs;
use super::client::{Client, Place};
use super::progress::Screen;
use super::{End, Usage, jobs, remote_convert, show};

/// Files that are added at the same time: the agent reads what each is.
const ADDED_AT_ONCE: usize = 8;
/// How often the job is looked at.
const POLL: Duration = Duration::from_millis(500);
/// How long a second Ctrl-C is waited for.
const SECOND_PRESS: Duration = Duration::from_secs(3);
/// An agent that was just started here gets this long to find others before a job is planned.
const MEET: Duration = Duration::from_millis(500);

pub(crate) async fn run(place: &Place, mut options: ConvertArgs) -> anyhow::Result<End> {
    let wishes = wishes(place, &options)?;
    if place.remote.is_some() {
        remote_convert::check(&options)?;
        return remote_convert::run(&Client::connect(place).await?, wishes, &options).await;
    }
    if options.keep {
        return Err(Usage("--keep is for another machine's agent: see --agent".to_owned()).into());
    }
    let found = Client::find(place).await?;
    if found.is_none() && options.detach {
        anyhow::bail!(
            "--detach needs a running agent: start one with `dmc agent`, or leave --detach out"
        );
    }
    if let Some(client) = found {
        return convert(&client, wishes, options.detach, true).await;
    }
    let mut settings = super::agent::settings(place, std::mem::take(&mut options.agent))?;
    settings.calibrate = false; // it is here for this work only
    let mut running = agent::start(&place.data_dir, settings).await?;
    if running.shared.settings.discovery {
        tokio::time::sleep(MEET).await;
    }
    let client = Client::connect(place).await?;
    let ended = tokio::select! {
        ended = convert(&client, wishes, false, false) => ended,
        why = running.ended() => return Err(anyhow::anyhow!("the agent in this process ended: {why}")),
    };
    super::agent::stop(running).await?;
    ended
}

/// What is wrong in the words alone is said before anything is started.
fn wishes(place: &Place, options: &ConvertArgs) -> anyhow::Result<Vec<Wish>> {
    let usage = |text: String| anyhow::Error::new(Usage(text));
    if options.output.is_some() && options.files.len() > 1 {
        return Err(usage("-o names one result; use --output-dir for several files".to_owned()));
    }
    let overrides = PresetOverrides {
        codec: options.codec,
        crf: options.crf,
        encoder_speed: options.encoder_speed,
        container: options.container.or_else(|| container_of(options.output.as_deref()?)),
        max_height: options.max_height,
        audio_codec: options.audio_codec,
        quality: options.quality,
        ..options.options.overrides()
    };
    // A preset of another machine's agent need not be known here.
    match presets::find(place.settings()?.presets.as_deref(), &options.preset) {
        Ok(preset) => _ = preset.with(&overrides).map_err(|e| usage(e.to_string()))?,
        Err(_) if place.remote.is_some() => {}
        Err(e) => return Err(usage(e.to_string())),
    }
    let absolute = |path: &Path| -> anyhow::Result<AnyPath> {
        let path = std::path::absolute(path)
            .with_context(|| format!("`{}` is no file name", path.display()))?;
        Ok(AnyPath(path))
    };
    let optional = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
    let wishes = options.files.iter().map(|file| {
        Ok(Wish {
            input: absolute(file)?,
            output: optional(&options.output)?,
            output_dir: optional(&options.output_dir)?,
            preset: options.preset.clone(),
            overrides: overrides.clone(),
            overwrite: options.overwrite,
            replace: options.replace,
            sidecars: options.sidecars,
            strip_gps: options.strip_gps,
            segment_seconds: options.segment_seconds,
            hand_over: options.hand_over,
            deliver_to: options.deliver_to.clone(),
            deliver_as: options.deliver_as.clone(),
            priority: options.priority,
        })
    });
    wishes.collect()
}

async fn convert(
    client: &Client,
    wishes: Vec<Wish>,
    detach: bool,
    stays: bool,
) -> anyhow::Result<End> {
    let mut ids = Vec::new();
    let mut failed = false;
    let add = async |wish: Wish| {
        let added: anyhow::Result<JobView> = client.post("/jobs", &wish).await;
        (wish, added)
    };
    // In their order, but the agent looks at several of them at the same time.
    let mut all = std::pin::pin!(futures::stream::iter(wishes).map(add).buffered(ADDED_AT_ONCE));
    while let Some((wish, added)) = all.next().await {
        match added {
            Ok(job) => {
                if client.json {
                    show::json(&json!({ "event": "added", "job": job }));
                } else if detach {
                    show::line(&job.id);
                }
                ids.push(job.id);
            }
            Err(e) if e.is::<Usage>() => return Err(e),
            Err(e) => {
                failed = true;
                if client.json {
                    let input = &wish.input;
                    let error = format!("{e:#}");
                    show::json(&json!({ "event": "refused", "input": input, "error": error }));
                }
                show::error(&format!("dmc: {e:#}"));
                if client.is_service {
                    advise_service(&wish.input.0);
                }
            }
        }
    }
    let end = if detach { End::Done } else { watch(client, &ids, stays).await? };
    Ok(if failed && matches!(end, End::Done) { End::Failed } else { end })
}

/// A file that is plainly there, and that the service refuses, may be one that it cannot see.
fn advise_service(input: &Path) {
    let folder = input.parent().unwrap_or(input);
    if input.exists() {
        show::note(&format!(
            "the agent is this machine's service: it sees only its media folders, as the user that it \
             runs as. `sudo dmc service install --media '{}'` adds this one",
            show::clean(&folder.display().to_string())
        ));
    }
}

async fn watch(client: &Client, ids: &[String], stays: bool) -> anyhow::Result<End> {
    let mut screen = Screen::new(client.json);
    let mut end = End::Done;
    for id in ids {
        let after = if stays { Ended::Stays } else { Ended::Here };
        let job = match follow(client, id, &mut screen, after).await? {
            Some(job) => job,
            None => return Ok(End::Interrupted),
        };
        screen.clear();
        if is_away(&job) {
            say_away(client, &job);
            continue;
        }
        if job.status != "finished_successful" {
            end = End::Failed;
        }
        say_end(client, &job);
    }
    Ok(end)
}

/// Whether another agent owns the job: there is nothing to wait for here.
fn is_away(job: &JobView) -> bool {
    job.phase == "handed_over"
}

fn say_away(client: &Client, job: &JobView) {
    if client.json {
        return show::json(job);
    }
    let name = show::clean(job.custodian.as_deref().unwrap_or("another agent"));
    show::line(&format!("{name} keeps the job: this machine may leave"));
    let then = match &job.delivered_as {
        Some(path) => format!("the result goes to its inbox as {}", show::clean(path)),
        None => "the result comes when it is back".to_owned(),
    };
    show::line(&format!("{then}; `dmc status {}` shows the job", job.id));
}

pub(crate) fn say_end(client: &Client, job: &JobView) {
    if client.json {
        return show::json(job);
    }
    let input = show::clean(&job.input.display().to_string());
    for error in &job.errors {
        let error = show::clean(error);
        let named = if error.contains(&input) { error } else { format!("{input}: {error}") };
        show::error(&format!("dmc: {named}"));
    }
    if job.status == "cancelled" {
        show::error("dmc: cancelled");
    }
    if job.status != "finished_successful" {
        return;
    }
    job.notes.iter().for_each(|note| show::line(&format!("note: {}", show::clean(note))));
    if job.undo.as_ref().is_some_and(|undo| undo.state == "kept") {
        show::line(&format!("{input} was replaced; `dmc undo {}` brings it back", job.id));
    }
    let output = show::clean(&job.output.display().to_string());
    show::line(&format!("{output} ({})", show::bytes(job.bytes)));
    let by = job.workers.iter().filter(|worker| worker.segments > 0).map(|worker| {
        let tasks = if worker.segments == 1 { "task" } else { "tasks" };
        format!("{} {} {tasks}", show::clean(&worker.name), worker.segments)
    });
    let by: Vec<String> = by.collect();
    if !by.is_empty() {
        show::line(&format!("made by: {}", by.join(", ")));
    }
    jobs::proof_lines(job).iter().for_each(|proof| show::line(&format!("proof: {proof}")));
}

/// Where the job goes on when the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nowhere: the agent is in this process.
    Here,
    /// In this machine's agent.
    Stays,
    /// In another machine's agent.
    There,
}

/// Follows one job to its end; `None` when the person left it to the agent.
pub(crate) async fn follow(
    client: &Client,
    id: &str,
    screen: &mut Screen,
    after: Ended,
) -> anyhow::Result<Option<JobView>> {
    let path = format!("/jobs/{id}");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        // Looking may take as long as the agent is away.
        let look = async {
            let job: JobView = client.get(&path).await?;
            screen.update(&job);
            let over = job.is_over() || (is_away(&job) && after != Ended::There);
            if !over {
                tokio::time::sleep(POLL).await;
            }
            anyhow::Ok(over.then_some(job))
        };
        tokio::select! {
            looked = look => match looked? {
                Some(job) => return Ok(Some(job)),
                None => continue,
            },
            _ = interrupt.recv() => {}
            // Nobody is there to answer: the job is kept, in this agent or for its next start.
            _ = terminate.recv() => return Ok(None),
        }
        screen.say(match after {
            Ended::Here => "Ctrl-C again within 3 s cancels the job; otherwise it goes on.",
            _ => "The job goes on in the agent. Ctrl-C again within 3 s cancels it.",
        });
        tokio::select! {
            () = tokio::time::sleep(SECOND_PRESS) => {
                if after == Ended::Stays {
                    screen.clear();
                    show::line(&format!("the job goes on: `dmc status {id}` shows it"));
                }
                if after != Ended::Here {
                    return Ok(None);
                }
            }
            _ = interrupt.recv() => {
                let (cancel, nothing) = (format!("{path}/cancel"), json!({}));
                let cancelled = client.post::<JobView>(&cancel, &nothing);
                tokio::select! {
                    cancelled = cancelled => drop(cancelled?),
                    _ = interrupt.recv() => return Ok(None),
                }
            }
        }
    }
}
