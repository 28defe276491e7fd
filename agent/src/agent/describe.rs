//! What an agent says of itself: its name, what it can do, and how much of it at a time.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use dmc_protocol::config::NAME_BYTES_MAX;
use dmc_protocol::media::{Capabilities, MediaKind};
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{AgentInfo, Wishes, bounded};
use tracing::info;

use crate::config::Settings;
use crate::machine;
use crate::media::capability;
use crate::media::run::Tools;
use crate::media::sandbox;
use crate::runtime::Shared;
use crate::{power, speeds};

/// Where the list of encoders that work is kept.
pub(super) const CAPABILITIES: &str = "capabilities";
/// The most memory that an encode usually takes: x265 and SVT-AV1 with large pictures.
const MEMORY_OF_SLOT: u64 = 2 << 30;

/// The name that people see: the settings', or the host's.
pub(super) fn name_of(settings: &Settings) -> String {
    let name = if settings.name.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        settings.name.clone()
    };
    bounded(name, NAME_BYTES_MAX)
}

/// Encodes at the same time, as told or by the processor and the memory.
fn slots_of(settings: &Settings) -> u32 {
    let threads = machine::threads();
    let chosen = usual_slots(threads, sandbox::machine_memory_bytes());
    if settings.slots > 0 { settings.slots } else { chosen }.min(dmc_protocol::config::SLOTS_MAX)
}

/// Two encodes, as soon as there are two threads: one alone leaves an eighth of two cores idle, and
/// all of them while its input is cut and its result is checked (measured: docs/PERFORMANCE.md).
/// One more for every eight threads, where x265 gains little from further ones.
fn usual_slots(threads: usize, memory_bytes: u64) -> u32 {
    let by_threads = if threads > 1 { threads.div_ceil(8) + 1 } else { 1 };
    let by_memory = u32::try_from(memory_bytes / MEMORY_OF_SLOT).unwrap_or(u32::MAX);
    u32::try_from(by_threads).unwrap_or(1).min(by_memory).max(1)
}

pub(super) async fn describe(
    settings: &Settings,
    tools: Option<&Tools>,
    known: Option<Capabilities>,
    data_dir: &Path,
    free_disk_bytes: u64,
) -> AgentInfo {
    let capabilities = match (known, tools) {
        (Some(known), _) => known,
        (None, Some(tools)) => {
            let found = capability::detect(tools).await;
            capability::keep(tools, &data_dir.join(CAPABILITIES), &found);
            found
        }
        (None, None) => Capabilities::default(),
    };
    let capabilities = only_accepted(settings, capabilities);
    let speeds = speeds::known(data_dir, &capabilities, slots_of(settings));
    AgentInfo {
        name: name_of(settings),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: rand::random(),
        slots: slots_of(settings),
        wishes: Wishes { prefers: settings.prefer.clone(), slots_of: settings.slots_of.clone() },
        free_disk_bytes,
        paused: false,
        capabilities,
        speeds,
        uptime_s: 0,
        custodian: settings.custodian && tools.is_some(),
        inbox: settings.inbox.is_some(),
        on_battery: power::on_battery(),
        condition: Default::default(),
    }
}

/// The kinds of work that the person lets this agent take. Who takes films takes their sound.
fn only_accepted(settings: &Settings, mut found: Capabilities) -> Capabilities {
    let accept = &settings.accept;
    let takes = |kind: &MediaKind| {
        let of_film = *kind == MediaKind::Audio && accept.contains(&MediaKind::Video);
        accept.is_empty() || accept.contains(kind) || of_film
    };
    found.kinds.retain(takes);
    found
}

/// Tries the encoders again when their cached list was used, and tells what changed.
pub(super) fn prove_again(shared: &Arc<Shared>) {
    let (shared, tasks) = (Arc::clone(shared), shared.tasks.clone());
    tasks.spawn(async move {
        let Some(tools) = &shared.tools else { return };
        let found = tokio::select! {
            found = capability::detect(tools) => found,
            () = shared.stop.cancelled() => return,
        };
        let accepted = only_accepted(&shared.settings, found.clone());
        let info = {
            let mut info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
            if info.capabilities == accepted {
                return;
            }
            info.capabilities = accepted;
            info.clone()
        };
        info!("what ffmpeg can do here has changed");
        capability::keep(tools, &shared.data_dir.join(CAPABILITIES), &found);
        shared.tell(Input::Local(info)).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_threads_and_memory() {
        let gib = 1 << 30;
        assert_eq!(usual_slots(1, 64 * gib), 1);
        assert_eq!(usual_slots(2, 8 * gib), 2);
        assert_eq!(usual_slots(16, 64 * gib), 3);
        assert_eq!(usual_slots(16, 4 * gib), 2, "an encode may take 2 GiB");
        assert_eq!(usual_slots(4, gib), 1, "one always");
    }
}
