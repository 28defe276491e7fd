//! How fast this machine encodes: measured at every attempt, kept for the next start, and begun
//! with a short calibration.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use dmc_protocol::codec;
use dmc_protocol::config::CLASSES_MAX;
use dmc_protocol::media::{Capabilities, WorkClass};
use dmc_protocol::mesh::Input;
use dmc_protocol::mesh::peers::smoothed;
use tracing::debug;

use crate::machine;
use crate::media::calibrate;
use crate::runtime::Shared;
use crate::worker::chain;

/// The file in the data directory.
const FILE: &str = "speeds";
const FILE_BYTES_MAX: usize = 64 << 10;
/// An attempt that took less is mostly the start of ffmpeg.
const ENCODE_MS_MIN: u64 = 300;

/// What speeds depend on: ffmpeg and its encoders, the processor, how many encodes share it.
type Key = (Capabilities, String, u32);
type Speeds = Vec<(WorkClass, u64)>;

fn key(can: &Capabilities, slots: u32) -> Key {
    (can.clone(), processor(), slots)
}

/// The name of the processor and how many threads it gives us.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let threads = machine::threads();
    format!("{} × {threads}", name.unwrap_or(std::env::consts::ARCH).trim())
}

/// What an earlier run measured with the same encoders on the same processor.
pub fn known(data_dir: &Path, can: &Capabilities, slots: u32) -> Speeds {
    let read = || {
        let bytes = std::fs::read(data_dir.join(FILE)).ok()?;
        let (of, speeds): (Key, Speeds) = codec::from_bytes(&bytes, FILE_BYTES_MAX).ok()?;
        (of == key(can, slots)).then_some(speeds)
    };
    read().unwrap_or_default()
}

/// Nothing is lost when this fails: it is measured again.
fn keep(data_dir: &Path, key: &Key, speeds: &Speeds) {
    let (file, temp) = (data_dir.join(FILE), data_dir.join(FILE).with_extension("tmp"));
    let written = codec::to_bytes(&(key, speeds))
        .map_err(std::io::Error::other)
        .and_then(|bytes| std::fs::write(&temp, bytes))
        .and_then(|()| std::fs::rename(&temp, &file));
    if let Err(e) = written {
        debug!("measured speeds are not kept: {}", chain(&e));
    }
}

impl Shared {
    /// One finished attempt: so many work units in so many milliseconds.
    pub async fn measured(&self, class: WorkClass, units: u64, encode_ms: u64) {
        if encode_ms < ENCODE_MS_MIN {
            return;
        }
        let sample = units.saturating_mul(1_000) / encode_ms;
        self.learn(&[(class, sample)], false).await;
    }

    /// Takes samples into what this agent says of itself; a calibration does not overrule work.
    async fn learn(&self, samples: &[(WorkClass, u64)], calibration: bool) {
        let info = {
            let mut info = self.info.lock().unwrap_or_else(PoisonError::into_inner);
            let full = info.speeds.len() >= CLASSES_MAX;
            for (class, sample) in samples {
                match info.speeds.iter_mut().find(|(of, _)| of == class) {
                    Some(_) if calibration => {}
                    Some((_, speed)) => *speed = smoothed(Some(*speed), *sample),
                    None if full => {}
                    None => info.speeds.push((*class, *sample)),
                }
            }
            info.clone()
        };
        let (dir, key) = (self.data_dir.clone(), key(&info.capabilities, info.slots));
        let speeds = info.speeds.clone();
        self.tasks.spawn_blocking(move || keep(&dir, &key, &speeds));
        self.tell(Input::Local(info)).await;
    }
}

/// Measures this machine when nothing is known of it yet.
pub fn calibrate_once(shared: &Arc<Shared>) {
    let (shared, tasks) = (Arc::clone(shared), shared.tasks.clone());
    tasks.spawn(async move {
        let (can, known) = {
            let info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
            (info.capabilities.clone(), !info.speeds.is_empty())
        };
        let (Some(tools), false) = (&shared.tools, known) else { return };
        let dir = shared.directory("work").join("calibration");
        if std::fs::create_dir_all(&dir).is_err() {
            return;
        }
        let measured = calibrate::calibrate(tools, &can, &dir, &shared.stop).await;
        let _ = std::fs::remove_dir_all(&dir);
        match measured {
            Ok(speeds) => shared.learn(&speeds, true).await,
            Err(e) => debug!("this machine is not measured: {}", chain(&e)),
        }
    });
}
