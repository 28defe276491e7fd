//! What a preset leaves open is settled: which encoder, which part of the pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dmc_protocol::id::JobId;
use dmc_protocol::media::options::{Crop, Family};
use dmc_protocol::media::{Encoder, Filter, Hardware, Preset, Quality, TaskSpec, VideoWork};

use super::Refusal;
use crate::media::plan::Plan;
use crate::media::run::Tools;
use crate::media::streams::Probe;
use crate::media::{MediaError, borders, capability, quality};
use crate::runtime::Shared;

/// Chooses the encoder of a job: one for all of it, so that its segments can be joined.
pub(super) async fn family(
    shared: &Shared,
    mut preset: Preset,
    notes: &mut Vec<String>,
) -> Result<Preset, Refusal> {
    let family = preset.options.family;
    if family == Family::Software || preset.copies_pictures() {
        return Ok(preset);
    }
    let codec = preset.encoder.codec();
    let slots = shared.ask(|mesh, _| {
        let mut slots: BTreeMap<Encoder, u32> = BTreeMap::new();
        for (_, peer) in mesh.peers().iter().filter(|(_, peer)| peer.is_usable()) {
            let able = peer.info.iter().flat_map(|info| info.capabilities.encoders.keys());
            for encoder in able.filter(|encoder| encoder.hardware().is_some()) {
                let of = slots.entry(*encoder).or_default();
                *of = of.saturating_add(peer.slots().max(1));
            }
        }
        slots
    });
    let slots = slots.await.unwrap_or_default();
    // The kind that most machines have; of equals the first in the list.
    let best = Hardware::ALL.into_iter().rev().filter_map(|hardware| {
        let encoder = Encoder::on(codec, hardware)?;
        slots.get(&encoder).map(|slots| (*slots, encoder))
    });
    match (best.max_by_key(|(slots, _)| *slots), family) {
        (Some((_, encoder)), _) => {
            if let (Quality::Crf(crf), Some(from), Some(to)) =
                (preset.quality, preset.encoder.crf_max(), encoder.crf_max())
            {
                let crf = u32::from(crf) * u32::from(to) / u32::from(from.max(1));
                preset.quality = Quality::Crf(u8::try_from(crf).unwrap_or(to).min(to));
            }
            preset.encoder = encoder;
            notes.push(format!("encoded by {encoder}"));
            preset.check()?;
            Ok(preset)
        }
        (None, Family::Auto) => {
            let software = preset.encoder;
            notes.push(format!("no agent has hardware that encodes {codec}: {software} does it"));
            Ok(preset)
        }
        (None, _) => Err(Refusal::Wish(format!(
            "no agent has hardware that encodes {codec}: `dmc doctor` says why, encoder by \
             encoder. Use --encoder auto or --encoder software"
        ))),
    }
}

/// Refuses what this machine's ffmpeg has no filter for.
pub(super) async fn can_filter(tools: &Tools, plan: &Plan) -> Result<(), MediaError> {
    let maps = |task: &TaskSpec| {
        let mut filters = task.video().into_iter().flat_map(|video| &video.filters);
        filters.any(|filter| matches!(filter, Filter::ToneMap { .. }))
    };
    if !plan.tasks.iter().any(maps) {
        return Ok(());
    }
    match capability::tone_maps(tools).await {
        Ok(()) => Ok(()),
        Err(why) => Err(MediaError::refused(
            Path::new("the film"),
            format!("its high dynamic range cannot be mapped to ordinary pictures here: {why}"),
            "Install an ffmpeg with zscale (libzimg), or use --tone-map=false",
        )),
    }
}

/// Refuses a target that this machine's ffmpeg cannot measure.
pub(super) async fn can_measure(
    tools: &Tools,
    preset: &Preset,
    input: &Path,
) -> Result<(), MediaError> {
    let Some(target) = preset.options.target else { return Ok(()) };
    let measured = quality::can_measure(tools, target.metric).await;
    measured.map_err(|why| {
        MediaError::refused(input, format!("{target} cannot be measured here"), &why)
    })
}

/// Searches the setting that reaches the wanted quality, where one is wanted.
pub(super) async fn quality(
    shared: &Shared,
    job: JobId,
    what: (&Path, &Probe),
    (preset, work): (&Preset, &VideoWork),
) -> Result<(Preset, Option<String>), MediaError> {
    let tools = shared.tools.as_ref().ok_or(MediaError::NoTool { program: "ffmpeg" })?;
    if preset.options.target.is_none() {
        return Ok((preset.clone(), None));
    }
    let desk = Desk(shared.directory("work").join(format!("samples-{job}")));
    let token = shared.stop.child_token();
    let found = quality::settle(tools, what, (preset, work), &desk.0, &token).await?;
    Ok((found.0, Some(found.1)))
}

/// A directory that is gone when nobody needs it, whatever happened.
struct Desk(PathBuf);

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Looks for black borders, where that is wanted.
pub(super) async fn crop(
    tools: &Tools,
    input: &Path,
    probe: &Probe,
    mut preset: Preset,
    notes: &mut Vec<String>,
) -> Result<Preset, MediaError> {
    if preset.options.crop != Some(Crop::Auto) || preset.copies_pictures() {
        return Ok(preset);
    }
    preset.options.crop = borders::find(tools, input, probe).await?;
    if preset.options.crop.is_none() {
        notes.push("no black borders were found: nothing is cropped".to_owned());
    }
    Ok(preset)
}
