//! Whether a job is given to another agent, and where its result goes then.

use std::path::Path;

use dmc_protocol::handover::is_relative_path;
use dmc_protocol::media::{MediaKind, Preset};

use super::{Refusal, Wish};
use crate::config::HandOver;
use crate::jobs::Delivery;
use crate::power;
use crate::runtime::Shared;

/// Whether and where to a job with that kind of result is handed over. What takes less time than its
/// way to somebody else stays here.
pub(super) async fn decide(
    shared: &Shared,
    wish: &Wish,
    (kind, preset): (MediaKind, &Preset),
    output: &Path,
    notes: &mut Vec<String>,
) -> Result<Option<Delivery>, Refusal> {
    let quick = match kind {
        MediaKind::Image => ("a picture is", "pictures are", "converted"),
        // A copy is quick, too.
        _ if preset.copies_pictures() => ("a film is", "films are", "copied"),
        MediaKind::Video | MediaKind::Audio => return as_wished(shared, wish, output).await,
    };
    let (one, all, done) = quick;
    if wish.deliver_to.is_some() {
        return Err(Refusal::Wish(format!("{all} {done} here, not handed over")));
    }
    if wish.hand_over {
        notes.push(format!("not handed over: {one} {done} sooner than it is sent"));
    }
    Ok(None)
}

/// It is handed over when the person says so, or when this machine runs on its battery and somebody
/// else could take it.
async fn as_wished(
    shared: &Shared,
    wish: &Wish,
    output: &Path,
) -> Result<Option<Delivery>, Refusal> {
    if let Some(agent) = &wish.deliver_to {
        return into_inbox(shared, wish, agent, output).await.map(Some);
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

/// The place in the inbox of `agent`, which a person named.
async fn into_inbox(
    shared: &Shared,
    wish: &Wish,
    agent: &str,
    output: &Path,
) -> Result<Delivery, Refusal> {
    let name = agent.to_owned();
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
    Ok(Delivery { to: Some(to), path: Some(path) })
}
