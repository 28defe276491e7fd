//! This agent and its peers.

use std::sync::{Arc, PoisonError};

use dmc_protocol::condition::Condition;
use dmc_protocol::id::AgentId;
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::peers::{Peer, PeerState};
use tracing::warn;

use crate::http::views::{CapabilitiesView, PeerView, StatusView};
use crate::http::{held, mesh};
use crate::manners;
use crate::runtime::Shared;
use crate::worker::chain;

/// Why this agent does not bid.
const NO_ROOM: &str = "waiting for room: a task did not fit on this disk, so nothing is taken on \
                       for now";

/// Why an agent leaves its machine to others, and what becomes of its work.
fn yielding(condition: &Condition) -> Option<String> {
    let why = manners::reason(condition.yields?);
    let work = if condition.stopped { "its work is stopped" } else { "it finishes what it has" };
    Some(format!("{why}: {work}, and it takes nothing new until the machine is free"))
}

/// Why this agent does nothing new, or nothing for others.
fn waiting(shared: &Shared, off_hours: bool, no_room: bool) -> Option<String> {
    let condition = shared.info.lock().unwrap_or_else(PoisonError::into_inner).condition;
    if let Some(yields) = yielding(&condition) {
        return Some(yields);
    }
    if off_hours {
        let hours = &shared.settings.hours;
        return Some(format!("outside its hours ({hours}): it takes no new work"));
    }
    shared.room.state().or_else(|| no_room.then(|| NO_ROOM.to_owned()))
}

/// This agent; `None` while it stops.
pub async fn status(shared: &Arc<Shared>) -> Option<StatusView> {
    let (running, paused, peers, jobs_active, waits, kept) = shared
        .ask(|mesh, now| {
            let connected = mesh.peers().connected().len().saturating_sub(1);
            let active = mesh.jobs().iter().filter(|job| !job.record.state.is_over()).count();
            let work = mesh.work();
            let kept = held::kept(mesh, now);
            let waits = (work.is_off_hours(), work.is_disk_full());
            (work.running(), work.is_paused(), connected, active, waits, kept)
        })
        .await?;
    let counts =
        shared.jobs.counts().inspect_err(|e| warn!("jobs cannot be counted: {}", chain(e)));
    let jobs = counts.unwrap_or_default();
    let info = shared.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let listening = shared.listening.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Some(StatusView {
        id: shared.me.to_string(),
        name: info.name,
        version: info.version,
        addresses: listening.iter().map(ToString::to_string).collect(),
        peers,
        paused,
        slots: info.slots,
        running,
        load: info.condition.load_x100.map(|load| f64::from(load) / 100.0),
        threads: info.condition.threads,
        temperature_c: info.condition.temperature_c,
        share_percent: info.condition.share_percent,
        jobs_active,
        jobs: jobs.into_iter().map(|(of, count)| (of.word().to_owned(), count)).collect(),
        free_disk_bytes: info.free_disk_bytes,
        kept,
        waiting: waiting(shared, waits.0, waits.1),
        door: shared.members.door().text(),
        trouble: mesh::trouble(shared),
    })
}

/// All peers, this agent not among them.
pub async fn peers(shared: &Arc<Shared>) -> Option<Vec<PeerView>> {
    let me = shared.me;
    let met = shared.met.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (net, members) = (shared.net.clone(), shared.members.all());
    shared
        .ask(move |mesh, _| {
            let others = mesh.peers().iter().filter(|(id, _)| *id != me && members.contains(id));
            let addresses = |id| met.get(&id).into_iter().flatten().map(ToString::to_string);
            others
                .map(|(id, peer)| PeerView {
                    addresses: addresses(id).collect(),
                    refused: peer.refused.saturating_add(net.refused(id)),
                    ..peer_view(mesh, id, peer)
                })
                .collect()
        })
        .await
}

fn peer_view(mesh: &Mesh, id: AgentId, peer: &Peer) -> PeerView {
    let info = peer.info.as_ref();
    let capabilities = info.map(|info| CapabilitiesView {
        ffmpeg: info.capabilities.ffmpeg_version.clone(),
        encoders: info.capabilities.encoders.keys().map(|e| e.name().to_owned()).collect(),
        kinds: info.capabilities.kinds.iter().map(ToString::to_string).collect(),
    });
    let speed = info.into_iter().flat_map(|info| &info.speeds);
    let condition = info.map(|info| info.condition).unwrap_or_default();
    PeerView {
        id: id.to_string(),
        name: mesh.name_of(id),
        state: match peer.state {
            PeerState::Connected => "connected",
            PeerState::Suspect => "suspect",
            PeerState::Gone => "gone",
        }
        .to_owned(),
        addresses: Vec::new(),
        capabilities: capabilities.unwrap_or_default(),
        speed: speed.map(|(class, units)| (class.to_string(), *units as f64 / 1e6)).collect(),
        running: mesh.jobs().leases_of(id),
        slots: peer.slots(),
        paused: info.is_some_and(|info| info.paused),
        waiting: info.and_then(|info| yielding(&info.condition)),
        load: condition.load_x100.map(|load| f64::from(load) / 100.0),
        threads: condition.threads,
        temperature_c: condition.temperature_c,
        share_percent: condition.share_percent,
        refused: peer.refused,
        free_disk_bytes: info.map_or(0, |info| info.free_disk_bytes),
    }
}
