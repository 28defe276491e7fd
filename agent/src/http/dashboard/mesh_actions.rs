//! What a person changes in the mesh: the door, codes, evictions, pauses.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::response::{Html, Response};
use axum::routing::post;
use axum::{Json, Router};
use maud::{Markup, html};
use serde::Deserialize;

use super::super::mesh::{self, EvictWish, JoinWish, OpenWish};
use super::super::problem::Problem;
use super::{changed, part, words};
use crate::http::api;
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// How long the door is opened for.
const OPEN_S: u64 = 600;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ui/mesh/open", post(open))
        .route("/ui/mesh/close", post(close))
        .route("/ui/mesh/invite", post(invite))
        .route("/ui/mesh/join", post(join))
        .route("/ui/mesh/evict", post(evict))
        .route("/ui/pause", post(pause))
        .route("/ui/resume", post(resume))
}

/// A button that changes something which the page then shows.
fn button(id: &str, to: &str, label: &str) -> Markup {
    html! {
        button.quiet id=(id) type="button" hx-post=(to) hx-swap="none" hx-disabled-elt="this" { (label) }
    }
}

pub(super) fn pause_button(paused: bool) -> Markup {
    html! {
        div.actions {
            @if paused { (button("resume", "ui/resume", "Resume this agent")) }
            @else { (button("pause", "ui/pause", "Pause this agent")) }
        }
    }
}

pub(super) fn evict_button(id: &str, name: &str) -> Markup {
    let ask =
        format!("Evict {name} from the mesh? It gets no more work and cannot come back as it is.");
    let values = serde_json::json!({ "peer": id }).to_string();
    html! {
        div.actions {
            button.quiet id={ "evict-" (id) } type="button" hx-post="ui/mesh/evict" hx-swap="none"
                hx-disabled-elt="this" hx-vals=(values) hx-confirm=(ask)
                aria-label={ "Evict " (name) } { "Evict" }
        }
    }
}

pub(super) fn door_buttons(door: &str) -> Markup {
    html! {
        div.actions {
            @if door == "open" {
                (button("close-door", "ui/mesh/close", "Close the door"))
            } @else {
                (button("open-door", "ui/mesh/open", "Open the door for 10 minutes"))
            }
        }
    }
}

/// The parts that a person types into: they are never drawn anew.
pub(super) fn forms() -> Markup {
    html! {
        section.panel.halves aria-label="Codes" {
            div {
                h2 { "Invite an agent" }
                p.hint { "Makes a code that lets one agent in, from anywhere." }
                button #invite-button type="button" hx-post="ui/mesh/invite" hx-target="#invite"
                    hx-disabled-elt="this" { "Invite" }
                div #invite role="status" {}
            }
            div {
                h2 { "Join by a code" }
                form #join hx-post="ui/mesh/join" hx-target="#joined"
                    hx-disabled-elt="#join-button" {
                    div.field {
                        label for="join-code" { "Code" }
                        input #join-code name="code" type="text" required autocomplete="off"
                            autocapitalize="off" spellcheck="false";
                    }
                    div.field {
                        label for="join-peer" { "Address, when it is on another network" }
                        input #join-peer name="peer" type="text" autocomplete="off"
                            autocapitalize="off" spellcheck="false" placeholder="host:7341";
                    }
                    button #join-button type="submit" { "Join" }
                    span.busy { "Looking for the agent that made this code…" }
                }
                div #joined role="status" {}
            }
        }
    }
}

async fn open(shared: Agent) -> Result<Response, Problem> {
    let wish = OpenWish { seconds: OPEN_S, many: true };
    mesh::open(shared, Json(wish)).await.map(|_| changed())
}

async fn close(shared: Agent) -> Result<Response, Problem> {
    mesh::close(shared).await.map(|_| changed())
}

async fn invite(shared: Agent) -> Html<String> {
    let Json(invite) = mesh::invite(shared).await;
    part(html! {
        p { "Type this code on the other agent, within "
            (words::duration(invite.expires_in_s)) ":" }
        p.code { (invite.code) }
        p.hint { "There: Mesh, “Join by a code”; or " code { "dmc mesh join " (invite.code) } "." }
    })
}

/// A code that a person brought.
#[derive(Debug, Deserialize)]
struct Brought {
    code: String,
    #[serde(default)]
    peer: String,
}

async fn join(shared: Agent, Form(brought): Form<Brought>) -> Result<Html<String>, Problem> {
    let peer = Some(brought.peer.trim().to_owned()).filter(|peer| !peer.is_empty());
    let wish = JoinWish { code: brought.code.trim().to_owned(), peer };
    let Json(view) = mesh::join(shared, Json(wish)).await?;
    let members = words::many(view.members.len() as u64, "member", "members");
    Ok(part(html! {
        p { "Joined. The mesh has " (members) "; its fingerprint is " strong { (view.fingerprint) } "." }
    }))
}

/// Who is to go.
#[derive(Debug, Deserialize)]
struct Evicted {
    peer: String,
}

async fn evict(shared: Agent, Form(Evicted { peer }): Form<Evicted>) -> Result<Response, Problem> {
    let wish = EvictWish { peer, with_joined: false };
    mesh::evict(shared, Json(wish)).await.map(|_| changed())
}

async fn pause(shared: Agent) -> Result<Response, Problem> {
    api::pause(shared).await.map(|_| changed())
}

async fn resume(shared: Agent) -> Result<Response, Problem> {
    api::resume(shared).await.map(|_| changed())
}
