//! `dmc peers`, `dmc status`, `dmc pause`, `dmc resume`.

use dmc_agent::http::running::RunningView;
use dmc_agent::http::views::{PeerView, StatusView};
use serde_json::json;

use super::client::Client;
use super::{End, show};

pub(crate) async fn run(client: &Client) -> anyhow::Result<End> {
    let peers: Vec<PeerView> = client.get("/peers").await?;
    if client.json {
        show::json(&peers);
        return Ok(End::Done);
    }
    // Why one that is there may not be among them.
    let status: StatusView = client.get("/status").await?;
    status.trouble.iter().for_each(|trouble| show::note(&show::clean(trouble)));
    if peers.is_empty() {
        show::line("no other agent seen yet; agents on the same link find each other by mDNS,");
        show::line("others are named with `dmc agent --peer HOST:PORT`");
        return Ok(End::Done);
    }
    let rows = peers.iter().map(|peer| {
        let paused = match peer.paused {
            true if peer.waiting.is_some() => " (its machine is needed)",
            true => " (paused)",
            false => "",
        };
        vec![
            show::clean(&peer.name),
            format!("{}{paused}", peer.state),
            format!("{} of {}", peer.running, peer.slots),
            show::bytes(peer.free_disk_bytes),
            machine(peer.load, peer.temperature_c),
            speeds(peer),
            peer.capabilities.encoders.join(" "),
            peer.id.clone(),
        ]
    });
    let heading = ["NAME", "STATE", "RUNNING", "FREE DISK", "LOAD", "SPEED", "ENCODERS", "ID"];
    show::table(&heading, &rows.collect::<Vec<_>>());
    Ok(End::Done)
}

/// The fastest of what was measured of each encoder, in millions of pixels a second.
fn speeds(peer: &PeerView) -> String {
    let video = peer.speed.iter().filter(|(class, _)| class.contains(' '));
    let texts = video.map(|(class, speed)| format!("{speed:.1} Mpx/s {class}"));
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "not measured".to_owned() } else { texts.join(", ") }
}

pub(crate) async fn status(client: &Client) -> anyhow::Result<End> {
    let status: StatusView = client.get("/status").await?;
    print(client, &status);
    if !client.json {
        let running: Vec<RunningView> = client.get("/running").await?;
        running.iter().for_each(print_running);
    }
    Ok(End::Done)
}

/// How busy and how warm a machine is, as far as it tells.
fn machine(load: Option<f64>, temperature_c: Option<u8>) -> String {
    let load = load.map(|load| format!("{load:.2}"));
    let degrees = temperature_c.map(|degrees| format!("{degrees} °C"));
    load.into_iter().chain(degrees).collect::<Vec<_>>().join(", ")
}

fn print_running(one: &RunningView) {
    let file = one.item.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
    let of = match one.own {
        true => format!(" of {}", show::clean(&file.to_string_lossy())),
        false => format!(" for {}", show::clean(&one.owner_name)),
    };
    let pid = one.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let part = one.progress.map(|part| format!(", {:.0} %", part * 100.0)).unwrap_or_default();
    let fps = if one.fps > 0.0 { format!(", {:.1} fps", one.fps) } else { String::new() };
    let paused = if one.paused { ", stopped" } else { "" };
    let text = format!("{}{of} with {}{pid}{part}{fps}{paused}", one.label, one.encoder);
    show::line(&format!("{:<10} {text}", "runs"));
}

fn print(client: &Client, status: &StatusView) {
    if client.json {
        return show::json(status);
    }
    let line = |name: &str, text: String| show::line(&format!("{name:<10} {text}"));
    line("agent", format!("{} ({})", show::clean(&status.name), status.id));
    line("version", status.version.clone());
    line("addresses", status.addresses.join(", "));
    line("door", status.door.clone());
    line("peers", format!("{} connected", status.peers));
    let paused = if status.paused { ", paused" } else { "" };
    line("work", format!("{} of {} slots busy{paused}", status.running, status.slots));
    let counts = status.jobs.iter().filter(|(_, count)| **count > 0);
    let counts: String = counts.map(|(word, count)| format!(", {count} {word}")).collect();
    line("jobs", format!("{} active{counts}", status.jobs_active));
    line("free disk", show::bytes(status.free_disk_bytes));
    let machine = machine(status.load, status.temperature_c);
    if !machine.is_empty() {
        let threads = status.threads.map(|threads| format!(" ({threads} threads)"));
        line("load", format!("{machine}{}", threads.unwrap_or_default()));
    }
    if let Some(share) = status.share_percent {
        line("share", format!("encoders run {share} % of the time"));
    }
    for kept in &status.kept {
        let (name, size) = (show::clean(&kept.owner_name), show::bytes(kept.bytes));
        let since = match kept.owner_away {
            true => format!(", which is away, for {}", show::duration(kept.kept_s)),
            false => String::new(),
        };
        line("keeps", format!("{size} for {name}{since}: {}", kept.label));
    }
    for trouble in &status.trouble {
        line("trouble", trouble.clone());
    }
    if let Some(why) = &status.waiting {
        line("waits", show::clean(why));
    }
}

pub(crate) async fn pause(client: &Client, pause: bool) -> anyhow::Result<End> {
    let path = if pause { "/pause" } else { "/resume" };
    let status: StatusView = client.post(path, &json!({})).await?;
    print(client, &status);
    Ok(End::Done)
}
