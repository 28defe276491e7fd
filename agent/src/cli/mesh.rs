//! `dmc mesh`: who belongs to the mesh.

use dmc_agent::http::mesh::{EvictWish, InviteView, JoinWish, MeshView, OpenWish};
use dmc_agent::{identity, members};
use serde_json::json;

use super::args::MeshCommand;
use super::client::{Client, Place};
use super::{End, show};

pub(crate) async fn run(place: &Place, command: Option<MeshCommand>) -> anyhow::Result<End> {
    let client = match command {
        Some(MeshCommand::Reset { yes }) => return reset(place, yes).await,
        _ => Client::connect(place).await?,
    };
    let view: MeshView = match command.unwrap_or(MeshCommand::Status) {
        MeshCommand::Status | MeshCommand::Reset { .. } => client.get("/mesh").await?,
        MeshCommand::Open { time, many } => {
            let wish = OpenWish { seconds: time.0.as_secs(), many };
            client.post("/mesh/open", &wish).await?
        }
        MeshCommand::Close => client.post("/mesh/close", &json!({})).await?,
        MeshCommand::Invite => return invite(&client).await,
        MeshCommand::Join { code, peer } => {
            client.post("/mesh/join", &JoinWish { code, peer }).await?
        }
        MeshCommand::Evict { peer, with_joined } => {
            client.post("/mesh/evict", &EvictWish { peer, with_joined }).await?
        }
    };
    print(&client, &view);
    Ok(End::Done)
}

async fn invite(client: &Client) -> anyhow::Result<End> {
    let invite: InviteView = client.post("/mesh/invite", &json!({})).await?;
    if client.json {
        show::json(&invite);
    } else {
        show::line(&invite.code);
        let time = show::duration(invite.expires_in_s);
        show::note(&format!(
            "on the agent that is to join, within {time}: dmc mesh join {}",
            invite.code
        ));
    }
    Ok(End::Done)
}

/// The agent must not run: its identity is in use.
async fn reset(place: &Place, yes: bool) -> anyhow::Result<End> {
    let _lock = dmc_agent::agent::lock(&place.data_dir)?;
    if !yes {
        anyhow::bail!(
            "this gives the agent of {} a new identity: the other members will not know it, results \
             that it keeps for them are dropped, and jobs that it handed over do not come back; say \
             `dmc mesh reset --yes` if that is wanted",
            place.data_dir.display()
        );
    }
    members::reset(&place.data_dir).await?;
    identity::remove(&place.data_dir)?;
    if place.json {
        show::json(&json!({ "reset": true }));
    } else {
        show::line(
            "done: at its next start this is a new agent, whose door is open for half an hour",
        );
    }
    Ok(End::Done)
}

fn print(client: &Client, view: &MeshView) {
    if client.json {
        return show::json(view);
    }
    let line = |name: &str, text: String| show::line(&format!("{name:<11} {text}"));
    line("fingerprint", view.fingerprint.clone());
    let door = members::DoorView {
        open: view.door == "open",
        state: view.door_state.clone(),
        closes_in_s: view.door_closes_in_s,
    };
    line("door", door.text());
    if view.invited {
        line("code", "one is valid; it lets one agent in".to_owned());
    }
    for member in &view.members {
        let state = match (member.me, member.connected) {
            (true, _) => "this agent",
            (_, true) => "connected",
            _ => "not connected",
        };
        let by = member.vouched_by.iter().map(|v| format!("{} ({})", show::clean(&v.name), v.via));
        let by = by.collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() { String::new() } else { format!("; joined with {by}") };
        line("member", format!("{}, {state}{by}  {}", show::clean(&member.name), member.id));
    }
    for former in &view.former {
        let how = match former.evicted_by.is_empty() {
            true => "fell with the member that brought it in".to_owned(),
            false => format!("evicted by {}", show::clean(&former.evicted_by.join(", "))),
        };
        line("not any more", format!("{}, {how}  {}", show::clean(&former.name), former.id));
    }
    for stranger in &view.strangers {
        let door = if stranger.open { "its door is open" } else { "its door is closed" };
        line("stranger", format!("{} at {}, {door}", stranger.id, stranger.addresses.join(", ")));
    }
    for refused in &view.refused {
        let from = refused.address.clone().unwrap_or_else(|| "an unknown address".to_owned());
        line("refused", format!("{} from {from}, {} times", refused.id, refused.times));
    }
    for trouble in &view.trouble {
        line("trouble", trouble.clone());
    }
    if view.members.len() == 1 && !view.strangers.is_empty() && view.door == "closed" {
        show::note("to join one of them: `dmc mesh invite` there, then `dmc mesh join CODE` here");
    }
}
