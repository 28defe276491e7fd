//! This agent and its peers: who is there, what each does, and who may join.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{Html, Response};
use axum::routing::get;
use maud::{Markup, html};

use super::super::mesh::{MemberView, MeshView, view};
use super::super::problem::Problem;
use super::super::running::{self, RunningView};
use super::super::views::{CapabilitiesView, PeerView, StatusView};
use super::super::{api, gather};
use super::conversions::{conversions, machine};
use super::mesh_actions::{door_buttons, evict_button, forms, pause_button};
use super::{Frame, View, part, region, words};
use crate::jobs::Status;
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// Running jobs that are looked at for what agents do now.
const RUNNING_MAX: usize = 50;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/", get(show)).route("/ui/mesh", get(fresh))
}

async fn show(State(shared): Agent, frame: Frame) -> Response {
    let main = content(&shared).await.map(|content| {
        html! {
            h1 { "Mesh" }
            (region("mesh", "ui/mesh", &["mesh", "job", "progress"], &content))
            (forms())
        }
    });
    frame.answer(View::Mesh, "Mesh", main)
}

async fn fresh(State(shared): Agent) -> Result<Html<String>, Problem> {
    Ok(part(content(&shared).await?))
}

/// What an agent does for one job: parts and frames a second.
struct Doing {
    job: String,
    file: Markup,
    parts: usize,
    fps: f64,
}

/// What agents do now for the jobs of this one, by their ids.
async fn doings(shared: &Arc<Shared>) -> Result<BTreeMap<String, Vec<Doing>>, Problem> {
    let running = shared.jobs.page(Some(Status::InProgress), None, RUNNING_MAX)?;
    let jobs = gather::jobs(shared, running).await.ok_or_else(api::stopping)?;
    let mut all: BTreeMap<String, Vec<Doing>> = BTreeMap::new();
    for job in &jobs {
        for worker in job.workers.iter().filter(|worker| !worker.now.is_empty()) {
            all.entry(worker.id.clone()).or_default().push(Doing {
                job: job.id.clone(),
                file: words::file_name(&job.input),
                parts: worker.now.len(),
                fps: worker.fps,
            });
        }
    }
    Ok(all)
}

async fn content(shared: &Arc<Shared>) -> Result<Markup, Problem> {
    let status = gather::status(shared).await.ok_or_else(api::stopping)?;
    let peers = gather::peers(shared).await.ok_or_else(api::stopping)?;
    let mesh = view(shared).await.ok_or_else(api::stopping)?;
    let doings = doings(shared).await?;
    let running = running::gather(shared).await.ok_or_else(api::stopping)?;
    let connected = peers.iter().filter(|peer| peer.state == "connected").count() as u64;
    let none = Vec::new();
    let doing = |id: &String| doings.get(id).unwrap_or(&none);
    Ok(html! {
        span hidden data-live={ (words::many(connected, "agent", "agents")) " connected" } {}
        @for trouble in &status.trouble { p.alert role="alert" { (trouble) } }
        div.agents {
            (own_card(shared, &status, doing(&status.id), &running))
            @for peer in &peers { (peer_card(peer, &mesh, doing(&peer.id))) }
        }
        @if peers.is_empty() { (alone()) }
        (door(&mesh, &status))
        (members(&mesh))
        (strangers(&mesh))
    })
}

fn alone() -> Markup {
    html! {
        div.empty {
            p { "No other machine yet." }
            p { "Start dmc on another machine on this network, with " code { "dmc agent" } ": while \
                 the door of both is open, they find each other and share the work. Otherwise make \
                 a code here with “Invite”, and type it there." }
        }
    }
}

fn own_card(
    shared: &Shared,
    status: &StatusView,
    doings: &[Doing],
    running: &[RunningView],
) -> Markup {
    let info = shared.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let speed = info.speeds.iter().map(|(class, units)| (class.to_string(), *units as f64 / 1e6));
    let capabilities = CapabilitiesView {
        ffmpeg: info.capabilities.ffmpeg_version.clone(),
        encoders: info.capabilities.encoders.keys().map(|e| e.name().to_owned()).collect(),
        kinds: info.capabilities.kinds.iter().map(ToString::to_string).collect(),
    };
    html! {
        article #this-agent .agent aria-labelledby="this-agent-name" {
            header {
                h2 #this-agent-name { (status.name) }
                span.badge data-state="here" { "this agent" }
                @if status.paused { span.badge data-state="paused" { "paused" } }
            }
            @if let Some(waiting) = &status.waiting { p.why { (waiting) } }
            (now(doings, &own_load(status)))
            (conversions(running))
            ul.facts {
                (machine(status.load, status.threads, status.temperature_c, status.share_percent))
                li { (words::bytes(status.free_disk_bytes)) " free" }
                li { "dmc " (status.version) }
            }
            (kept(status))
            (more("this", &status.addresses, &capabilities, &speed.collect(), &status.id))
            (pause_button(status.paused))
        }
    }
}

fn kept(status: &StatusView) -> Markup {
    let bytes: u64 = status.kept.iter().map(|kept| kept.bytes).sum();
    html! {
        @if !status.kept.is_empty() {
            p.hint {
                "Keeps " (words::many(status.kept.len() as u64, "result", "results")) " ("
                (words::bytes(bytes)) ") until others have fetched them."
            }
        }
    }
}

fn peer_card(peer: &PeerView, mesh: &MeshView, doings: &[Doing]) -> Markup {
    let name = format!("peer-{}", peer.id);
    html! {
        article.agent.peer data-state=(peer.state) aria-labelledby=(name) {
            header {
                h2 id=(name) { (peer.name) }
                span.badge data-state=(peer.state) { (state_word(&peer.state)) }
                @if peer.paused { span.badge data-state="paused" { "paused" } }
            }
            @if let Some(waiting) = peer.waiting.as_ref().filter(|_| peer.state != "gone") {
                p.why { (waiting) }
            }
            @if peer.state == "gone" {
                p.now { "Away. What it had is done by others, and it may come back with what it did." }
            } @else {
                (now(doings, &peer_load(peer)))
            }
            ul.facts {
                @if peer.state != "gone" {
                    (machine(peer.load, peer.threads, peer.temperature_c, peer.share_percent))
                }
                li { (words::bytes(peer.free_disk_bytes)) " free" }
                @if let Some(member) = mesh.members.iter().find(|member| member.id == peer.id) {
                    li { (joined(member)) }
                }
            }
            @if peer.refused > 0 {
                p.why.bad { "Refused " (words::many(peer.refused, "time", "times")) ": what it \
                             said or sent was wrong." }
            }
            (more(&peer.id, &peer.addresses, &peer.capabilities, &peer.speed, &peer.id))
            (evict_button(&peer.id, &peer.name))
        }
    }
}

fn state_word(state: &str) -> &str {
    match state {
        "connected" => "connected",
        "suspect" => "silent for a while",
        "gone" => "gone",
        other => other,
    }
}

/// What an agent does now. `load`: how many of its slots are in use.
fn now(doings: &[Doing], load: &str) -> Markup {
    html! {
        div.now {
            @if !doings.is_empty() {
                ul {
                    @for doing in doings {
                        li {
                            a href={ "jobs/" (doing.job) } { (doing.file) } ": "
                            (words::many(doing.parts as u64, "part", "parts"))
                            @if doing.fps > 0.0 { ", " (words::fps(doing.fps)) }
                        }
                    }
                }
            }
            p { (load) }
        }
    }
}

/// The load of a peer: what it was given by this agent may be more than it does at a time.
fn peer_load(peer: &PeerView) -> String {
    let slots = words::many(u64::from(peer.slots), "slot", "slots");
    match peer.running {
        0 => format!("{slots}; nothing to do for this agent"),
        parts => format!("{slots}; has {}", words::many(parts as u64, "part", "parts")),
    }
}

fn own_load(status: &StatusView) -> String {
    let slots = words::many(u64::from(status.slots), "slot", "slots");
    match status.running {
        0 => format!("{slots}, idle"),
        running => format!("{running} of {slots} in use"),
    }
}

/// What is rarely looked at, folded away.
fn more(
    key: &str,
    addresses: &[String],
    capabilities: &CapabilitiesView,
    speed: &BTreeMap<String, f64>,
    id: &str,
) -> Markup {
    html! {
        details id={ "more-" (key) } {
            summary { "Speed, encoders, addresses" }
            dl {
                dt { "Speed, in million pixels or samples a second" }
                @if speed.is_empty() { dd { "not measured yet" } }
                @for (class, units) in speed { dd { (class) ": " (format!("{units:.1}")) } }
                dt { "Encoders" }
                dd { @if capabilities.encoders.is_empty() { "none: is ffmpeg installed there?" }
                     @else { (capabilities.encoders.join(", ")) } }
                @if !capabilities.ffmpeg.is_empty() {
                    dt { "ffmpeg" } dd { (capabilities.ffmpeg) }
                }
                dt { "Addresses" }
                @if addresses.is_empty() { dd { "none known" } }
                @for address in addresses { dd.path { (address) } }
                dt { "Id" } dd.path { (id) }
            }
        }
    }
}

fn joined(member: &MemberView) -> String {
    let Some(vouch) = member.vouched_by.first() else { return "a member".to_owned() };
    let name = &vouch.name;
    match vouch.via.as_str() {
        "door" => format!("joined by the door of {name}"),
        "code" => format!("joined by a code with {name}"),
        "kept" => format!("kept by {name}"),
        via => format!("{via}, {name}"),
    }
}

fn door(mesh: &MeshView, status: &StatusView) -> Markup {
    html! {
        section.panel #door aria-labelledby="door-title" {
            h2 #door-title { "Who may join" }
            p {
                span.badge data-state=(mesh.door) { "door " (mesh.door) } " " (status.door)
                @if mesh.invited { " · a code is valid now" }
            }
            @if !mesh.fingerprint.is_empty() {
                p { "Fingerprint: " strong.path { (mesh.fingerprint) } span.hint {
                    " – all members of this mesh show the same three words." } }
            }
            (door_buttons(&mesh.door))
        }
    }
}

fn members(mesh: &MeshView) -> Markup {
    html! {
        @if mesh.members.len() > 1 || !mesh.former.is_empty() {
            details #members .panel {
                summary { (words::many(mesh.members.len() as u64, "member", "members")) }
                ul {
                    @for member in &mesh.members {
                        li {
                            strong { (member.name) } " – "
                            @if member.me { "this agent" }
                            @else if member.connected { "connected" } @else { "not connected" }
                            @if !member.vouched_by.is_empty() { ", " (joined(member)) }
                        }
                    }
                    @for former in &mesh.former {
                        li {
                            (former.name) " – no member any more, "
                            @if former.evicted_by.is_empty() {
                                "with the one that brought it in"
                            } @else {
                                "evicted by " (former.evicted_by.join(", "))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn strangers(mesh: &MeshView) -> Markup {
    html! {
        @if !mesh.strangers.is_empty() || !mesh.refused.is_empty() {
            section.panel #strangers aria-labelledby="strangers-title" {
                h2 #strangers-title { "Not in this mesh" }
                ul {
                    @for stranger in &mesh.strangers {
                        li {
                            span.path { (stranger.id) }
                            @if stranger.open { " – its door is open" } @else { " – its door is closed" }
                            @if let Some(address) = stranger.addresses.first() { ", at " (address) }
                        }
                    }
                    @for refused in &mesh.refused {
                        li {
                            span.path { (refused.id) } " – refused "
                            (words::many(refused.times, "time", "times"))
                            @if let Some(address) = &refused.address { ", from " (address) }
                        }
                    }
                }
                p.hint { "If one of these is yours: open the door of both, or join with a code." }
            }
        }
    }
}
