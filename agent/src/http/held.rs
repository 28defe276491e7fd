//! Who holds what now: for the owner of a job, and for a worker that keeps results.

use dmc_protocol::id::AttemptId;
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::jobs::{Task, TaskState};
use dmc_protocol::mesh::peers::PeerState;
use dmc_protocol::mesh::work::Stage;
use dmc_protocol::time::Time;

use super::views::{HoldView, KeptView};

/// What the worker of an attempt holds, as far as this owner knows.
pub(super) fn hold(task: &Task, attempt: AttemptId, runs: bool, paused: bool) -> HoldView {
    let state = match task.state(true) {
        TaskState::Fetching => "finished",
        _ if runs && paused => "paused",
        _ if runs => "running",
        _ => "queued",
    };
    HoldView {
        task: task.record.id.index,
        label: task.record.spec.label(),
        attempt: attempt.to_string(),
        state: state.to_owned(),
    }
}

/// Results that this agent keeps for owners, with the longest kept first.
pub(super) fn kept(mesh: &Mesh, now: Time) -> Vec<KeptView> {
    let held = mesh.work().held().filter_map(|held| {
        let Stage::Done { result, since } = held.stage else { return None };
        let (owner, record) = (held.record.owner, &held.record);
        if owner == mesh.me() {
            return None; // on its way to this very agent's job
        }
        let there = mesh.peers().get(owner).is_some_and(|peer| peer.state != PeerState::Gone);
        let away_ms = record.kept_ms.saturating_add(now.since_ms(since));
        Some(KeptView {
            owner: owner.to_string(),
            owner_name: mesh.name_of(owner),
            job: record.task.job.to_string(),
            task: record.task.index,
            label: record.spec.label(),
            bytes: result.media.bytes.saturating_add(result.proof.bytes),
            owner_away: !there,
            kept_s: if there { 0 } else { away_ms / 1_000 },
        })
    });
    let mut kept: Vec<_> = held.collect();
    kept.sort_by_key(|kept| std::cmp::Reverse(kept.kept_s));
    kept
}
