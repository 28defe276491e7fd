//! `dmc forecast`: what converting a folder would bring, before anything is queued.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use dmc_agent::forecast::estimate::Bar;
use dmc_agent::forecast::{self, Effort, Looked, Skipped};
use dmc_agent::http::views::PeerView;
use dmc_agent::media::run::Tools;
use dmc_agent::media::sandbox::Sandbox;
use dmc_agent::presets;
use dmc_protocol::media::options::Family;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Place};
use super::options::ForecastArgs;
use super::{End, Usage, show};

/// How far off a prediction of time is, beside the work itself: machines are used otherwise, too.
const TIME_ERROR: f64 = 0.25;

/// Machines that would share the work, and their speed together in work units a second.
struct Mesh {
    agents: usize,
    speed: f64,
}

pub(crate) async fn run(place: &Place, options: ForecastArgs) -> anyhow::Result<End> {
    let usage = |text: String| anyhow::Error::new(Usage(text));
    let settings = place.settings()?;
    let preset = presets::find(settings.presets.as_deref(), &options.preset);
    let preset = preset.map_err(|e| usage(e.to_string()))?;
    let preset = preset.with(&options.overrides()).map_err(|e| usage(e.to_string()))?;
    if preset.copies_pictures() {
        return Err(usage(format!("preset {} copies: films keep their size", preset.name)));
    }
    let dir = &options.dir;
    let films = forecast::films(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    anyhow::ensure!(!films.is_empty(), "there is no film in {}", dir.display());
    let (sandbox, _) = Sandbox::new(&settings)?;
    let tools = Tools::find()?.confined(&sandbox);
    let desk = tempfile::Builder::new().prefix("dmc-forecast-").tempdir()?;
    let effort = Effort {
        files: usize::from(options.files),
        samples: usize::from(options.samples),
        seed: options.seed,
    };
    let cancel = CancellationToken::new();
    let began = Instant::now();
    let tell = |number: usize, all: usize, path: &Path| {
        if !place.json {
            let name = show::clean(&path.display().to_string());
            show::note(&format!("sampling {} of {all}: {name}", number + 1));
        }
    };
    let looked = tokio::select! {
        looked = forecast::look(&tools, &films, (&preset, effort), desk.path(), tell, &cancel) => looked?,
        _ = tokio::signal::ctrl_c() => return Ok(End::Interrupted),
    };
    let mesh = mesh(place, &looked).await;
    let took = began.elapsed().as_secs_f64();
    let by = preset.options.family != Family::Software;
    let report = Report { looked: &looked, mesh: &mesh, effort, took, software_only: by };
    if place.json {
        show::json(&report.json(dir, &preset.name));
    } else {
        report.print(dir, &preset.name);
    }
    Ok(if looked.estimate.is_some() { End::Done } else { End::Failed })
}

/// This machine and the peers of its agent, where one runs. Whoever was not measured at such work
/// counts as fast as this machine.
async fn mesh(place: &Place, looked: &Looked) -> Mesh {
    let Some((class, own)) = looked.speed else { return Mesh { agents: 1, speed: 0.0 } };
    let alone = Mesh { agents: 1, speed: own };
    let Ok(Some(client)) = Client::find(place).await else { return alone };
    let Ok(peers) = client.get::<Vec<PeerView>>("/peers").await else { return alone };
    let encoder = class.encoder.name();
    let able = peers.iter().filter(|peer| {
        peer.state == "connected"
            && !peer.paused
            && peer.capabilities.encoders.iter().any(|name| name == encoder)
    });
    let class = class.to_string();
    able.fold(alone, |mesh, peer| {
        let slots = f64::from(peer.slots.max(1));
        let speed = peer.speed.get(&class).map_or(own, |speed| speed * 1e6 * slots);
        Mesh { agents: mesh.agents + 1, speed: mesh.speed + speed }
    })
}

struct Report<'a> {
    looked: &'a Looked,
    mesh: &'a Mesh,
    effort: Effort,
    took: f64,
    software_only: bool,
}

impl Report<'_> {
    fn seconds(&self) -> Option<Bar> {
        let units = self.looked.estimate?.units;
        let value = units / Some(self.mesh.speed).filter(|speed| *speed > 0.0)?;
        let (low, high) = (value * (1.0 - TIME_ERROR), value * (1.0 + TIME_ERROR));
        Some(Bar { value, low, high })
    }

    fn saved(&self) -> Option<Bar> {
        let before = self.looked.bytes as f64;
        Some(self.looked.estimate?.bytes.map(|after| before - after))
    }

    fn json(&self, dir: &Path, preset: &str) -> serde_json::Value {
        let looked = self.looked;
        json!({
            "directory": dir.display().to_string(),
            "preset": preset,
            "films": looked.films,
            "bytes": looked.bytes,
            "sampled": looked.drawn,
            "sampled_all": looked.all,
            "seed": self.effort.seed,
            "result_bytes": looked.estimate.map(|estimate| estimate.bytes),
            "saved_bytes": self.saved(),
            "seconds": self.seconds(),
            "agents": self.mesh.agents,
            "ssim_or_vmaf": looked.estimate.and_then(|estimate| estimate.score),
            "skipped": looked.skipped,
            "took_seconds": self.took,
        })
    }

    fn print(&self, dir: &Path, preset: &str) {
        let looked = self.looked;
        let line = |name: &str, text: String| show::line(&format!("{name:<9} {text}"));
        let place = show::clean(&dir.display().to_string());
        let size = show::bytes(looked.bytes);
        line("library", format!("{place}: {} films, {size}", looked.films));
        let which = if looked.all { "all of them" } else { "drawn by size" };
        let (files, samples, seed) = (looked.drawn, self.effort.samples, self.effort.seed);
        line(
            "looked at",
            format!(
                "{files} films ({which}), up to {samples} samples each, seed {seed}, {:.0} s",
                self.took
            ),
        );
        for Skipped { path, why } in looked.skipped.iter().take(10) {
            show::line(&format!(
                "          not counted: {}: {}",
                show::clean(path),
                show::clean(why)
            ));
        }
        let Some(estimate) = looked.estimate else {
            return show::error("dmc: none of the films that were looked at can be converted so");
        };
        let amount = |n: f64| show::bytes(n.max(0.0) as u64);
        let span = |bar: Bar| {
            format!("{} ({} to {})", amount(bar.value), amount(bar.low), amount(bar.high))
        };
        line("result", format!("{} with preset {preset}", span(estimate.bytes)));
        if let Some(saved) = self.saved() {
            let percent = saved.map(|n| n / (looked.bytes as f64).max(1.0) * 100.0);
            let Bar { value, low, high } = percent;
            let less = if value < 0.0 { "it would grow" } else { "saved" };
            line("space", format!("{:.0} % {less} ({low:.0} % to {high:.0} %)", value.abs()));
        }
        if let Some(time) = self.seconds() {
            let text = |n: f64| show::duration(n as u64);
            let agents = self.mesh.agents;
            let who =
                if agents == 1 { "this machine".to_owned() } else { format!("{agents} agents") };
            let span = format!("{} to {}", text(time.low), text(time.high));
            line("time", format!("about {} for {who} ({span})", text(time.value)));
        }
        if let Some(score) = estimate.score {
            let Bar { value, low, high } = score;
            let most = if value > 1.0 { 100.0 } else { 1.0 };
            let name = if value > 1.0 { "VMAF" } else { "SSIM" };
            let high = high.min(most);
            line("quality", format!("{name} {value:.4} ({low:.4} to {high:.4})"));
        }
        if self.software_only {
            line("note", "sampled with this machine's software encoder".to_owned());
        }
    }
}
