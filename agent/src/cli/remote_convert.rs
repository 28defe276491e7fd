//! `dmc --agent URL convert`: sends files to another machine's agent, and brings the results here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use dmc_agent::http::views::JobView;
use dmc_agent::intake::{self, Wish};
use dmc_agent::paths::AnyPath;
use dmc_protocol::media::Preset;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::ConvertArgs;
use super::client::Client;
use super::convert::{Ended, follow, say_end};
use super::download::{self, Target};
use super::progress::Screen;
use super::remote::Refused;
use super::upload::{self, Order, plain_name};
use super::{End, Usage, show};

/// How long an agent is given to read a result for its checksum.
const SUM_MAX: Duration = Duration::from_secs(600);
const SUM_LOOK: Duration = Duration::from_millis(200);

/// A file, and how far it is.
struct Film {
    wish: Wish,
    /// Its job on the agent, once it was sent.
    id: Option<String>,
}

/// What cannot be meant together with `--agent`.
pub(crate) fn check(options: &ConvertArgs) -> anyhow::Result<()> {
    let here_only = [
        (options.hand_over, "--hand-over: the agent has the job already, this machine may leave"),
        (options.deliver_to.is_some(), "--deliver-to: the result comes to this machine"),
        (options.replace, "--replace: the film is on this machine; take --agent out"),
        (options.segment_seconds.is_some(), "--segment-seconds: the agent chooses"),
    ];
    match here_only.into_iter().find(|(given, _)| *given) {
        Some((_, why)) => Err(Usage(format!("with --agent there is no {why}")).into()),
        None => Ok(()),
    }
}

/// Converts files there. They all are sent before the first is waited for: the agent has work
/// while the others come.
pub(crate) async fn run(
    client: &Client,
    wishes: Vec<Wish>,
    options: &ConvertArgs,
) -> anyhow::Result<End> {
    let mut refused = false;
    let mut films = Vec::new();
    for wish in wishes {
        match check_here(&wish) {
            Ok(()) => films.push(Film { wish, id: None }),
            Err(e) => {
                say_refused(client, &wish, &e);
                refused = true;
            }
        }
    }
    takes_files(client).await?;
    let mut screen = Screen::new(client.json);
    client.draw(screen.drawn());
    let work = Work { client, client_id: client_id(), keep: options.keep, detach: options.detach };
    let ended = work.all(&mut films, &mut screen).await;
    screen.clear();
    client.draw(None);
    match ended {
        Ok(End::Done) if refused => Ok(End::Failed),
        Ok(End::Interrupted) => {
            say_left(client, &films);
            Ok(End::Interrupted)
        }
        Err(e) => {
            say_left(client, &films);
            Err(e)
        }
        ended => ended,
    }
}

/// Whose the items are on the agent: this machine's.
fn client_id() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let good = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let host: String = host.chars().filter(good).take(48).collect();
    format!("dmc-{host}")
}

/// What can be known of a wish before gigabytes are sent for it.
fn check_here(wish: &Wish) -> anyhow::Result<()> {
    let input = &wish.input.0;
    let meta =
        std::fs::metadata(input).with_context(|| format!("cannot read {}", input.display()))?;
    anyhow::ensure!(meta.is_file(), "{} is no file", input.display());
    std::fs::File::open(input).with_context(|| format!("cannot read {}", input.display()))?;
    // One that only the agent knows is for it to judge.
    let Ok(preset) = Preset::builtin(&wish.preset) else { return Ok(()) };
    let preset = preset.with(&wish.overrides)?;
    let extension = preset.container.extension();
    let end = format!(".{}.{extension}", preset.made_of());
    Ok(intake::check_output(input, &output(wish, &end), wish.overwrite)?)
}

/// The result's place, as a local conversion would name it; `end` follows the name of the source.
fn output(wish: &Wish, end: &str) -> PathBuf {
    let mut name = wish.input.file_stem().unwrap_or_default().to_owned();
    name.push(end);
    match (&wish.output, &wish.output_dir) {
        (Some(output), _) => output.0.clone(),
        (None, Some(dir)) => dir.join(name),
        (None, None) => wish.input.with_file_name(name),
    }
}

/// What the agent put behind the name of what was sent.
fn end_of(job: &JobView, wish: &Wish) -> String {
    let sent = plain_name(wish.input.file_name().unwrap_or_default());
    let stem = Path::new(&sent).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let made = job.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    made.strip_prefix(&stem).map_or_else(|| format!(".{made}"), str::to_owned)
}

/// Agents from before items cannot take files.
async fn takes_files(client: &Client) -> anyhow::Result<()> {
    let asked: anyhow::Result<Value> = client.get(&format!("/item/{}?limit=1", client_id())).await;
    match asked {
        Err(e) if Refused::is(&e, StatusCode::NOT_FOUND) => {
            let status: Value = client.get("/status").await?;
            let version = status.get("version").and_then(Value::as_str).unwrap_or("unknown");
            anyhow::bail!(
                "the agent at {} is too old to take files (dmc {version}); bring it up to date",
                client.home()
            )
        }
        other => other.map(|_items| ()),
    }
}

fn say_refused(client: &Client, wish: &Wish, error: &anyhow::Error) {
    let text = format!("{error:#}");
    if client.json {
        show::json(&json!({ "event": "refused", "input": wish.input, "error": text }));
    }
    show::error(&format!("dmc: {text}"));
}

/// What stays on the agent, and how to go on.
fn say_left(client: &Client, films: &[Film]) {
    let dmc = client.command();
    for film in films {
        let input = show::clean(&film.wish.input.display().to_string());
        match &film.id {
            None => show::note(&format!("{input}: not sent, nothing of it is on the agent")),
            Some(id) => {
                show::note(&format!("{input}: the agent goes on with it, as job {id}"));
                show::note(&format!("  how far it is:         {dmc} status {id}"));
                show::note(&format!("  copy the result here:  {dmc} fetch {id} -o NAME"));
                show::note(&format!("  end its work:          {dmc} jobs cancel {id}"));
                show::note(&format!("  remove what is there:  {dmc} jobs remove {id}"));
            }
        }
    }
}

struct Work<'a> {
    client: &'a Client,
    client_id: String,
    keep: bool,
    detach: bool,
}

impl Work<'_> {
    /// Films that are done are taken out: the others are left when this ends early.
    async fn all(&self, films: &mut Vec<Film>, screen: &mut Screen) -> anyhow::Result<End> {
        let mut stop = Stop::new()?;
        let mut failed = false;
        let mut at = 0;
        while let Some(film) = films.get_mut(at) {
            let sent = tokio::select! {
                sent = self.send(film, screen) => sent,
                () = stop.wanted() => return Ok(End::Interrupted),
            };
            match sent {
                Ok(()) => at += 1,
                Err(e) if e.is::<Usage>() => return Err(e),
                Err(e) => {
                    say_refused(self.client, &film.wish, &e);
                    films.remove(at);
                    failed = true;
                }
            }
        }
        if self.detach {
            films.clear();
        }
        while let Some(film) = films.first() {
            match self.bring(film, screen).await? {
                End::Interrupted => return Ok(End::Interrupted),
                End::Failed => failed = true,
                End::Done => {}
            }
            films.remove(0);
        }
        Ok(if failed { End::Failed } else { End::Done })
    }

    async fn send(&self, film: &mut Film, screen: &mut Screen) -> anyhow::Result<()> {
        let wish = &film.wish;
        let order = Order {
            client_id: &self.client_id,
            preset: &wish.preset,
            overrides: &wish.overrides,
            priority: wish.priority,
        };
        let sent = upload::send(self.client, &wish.input.0, &order, screen).await?;
        if self.client.json {
            let job: JobView = self.client.get(&format!("/jobs/{}", sent.item_id)).await?;
            show::json(&json!({ "event": "added", "job": job }));
        } else if self.detach {
            show::line(&sent.item_id);
        }
        film.id = Some(sent.item_id);
        Ok(())
    }

    /// Waits for a film's end and fetches its result.
    async fn bring(&self, film: &Film, screen: &mut Screen) -> anyhow::Result<End> {
        let id = film.id.as_deref().unwrap_or_default();
        let Some(mut job) = follow(self.client, id, screen, Ended::There).await? else {
            return Ok(End::Interrupted);
        };
        job.input.clone_from(&film.wish.input);
        if job.status != "finished_successful" {
            screen.clear();
            say_end(self.client, &job);
            let (dmc, what) = (self.client.command(), "what was sent is still on the agent");
            show::note(&format!("{what}: `{dmc} jobs retry {id}`, `{dmc} jobs remove {id}`"));
            return Ok(End::Failed);
        }
        let to = output(&film.wish, &end_of(&job, &film.wish));
        // The agent said a part of the name: it must not be that of the source.
        intake::check_output(&film.wish.input.0, &to, film.wish.overwrite)?;
        let target = Target { path: &to, overwrite: film.wish.overwrite };
        let sum = async || self.sum_of(id).await;
        // From now on: what was pressed before meant the job.
        let mut stop = Stop::new()?;
        let fetched = tokio::select! {
            fetched = download::result(self.client, &job, &target, sum, screen) => fetched,
            () = stop.wanted() => return Ok(End::Interrupted),
        };
        fetched.with_context(|| format!("{} is not here yet", to.display()))?;
        job.output = AnyPath(to);
        screen.clear();
        say_end(self.client, &job);
        self.tidy(id).await;
        Ok(End::Done)
    }

    /// The checksum of the result. The agent computes it when it is first asked for; one that never
    /// has it is an older one.
    async fn sum_of(&self, id: &str) -> anyhow::Result<Option<String>> {
        let end = Instant::now() + SUM_MAX;
        loop {
            let item: Value = self.client.get(&format!("/item/{}/{id}", self.client_id)).await?;
            match item.get("result_checksum") {
                None => return Ok(None),
                Some(Value::Null) if Instant::now() < end => tokio::time::sleep(SUM_LOOK).await,
                Some(sum) => return Ok(sum.as_str().map(str::to_owned)),
            }
        }
    }

    /// Removes the job with all files from the agent. The result is here: failing is no failure.
    async fn tidy(&self, id: &str) {
        let (dmc, client) = (self.client.command(), self.client);
        if self.keep {
            return show::note(&format!("the agent keeps its copy: `{dmc} jobs remove {id}`"));
        }
        if let Err(e) = client.delete(&format!("/jobs/{id}")).await {
            show::note(&format!("the agent still has its copy ({e:#}): `{dmc} jobs remove {id}`"));
        }
    }
}

/// Ctrl-C, or the system's wish that this ends.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Stop> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Stop { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    async fn wanted(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
