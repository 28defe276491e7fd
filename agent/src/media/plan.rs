//! Decides, without doing anything, how a source becomes its result. Pure.

mod parts;

use std::path::Path;

use dmc_protocol::media::{Encoder, MediaKind, Preset, TaskSpec};

use super::cut::CutSource;
use super::error::MediaError;
use super::index::Index;
use super::keep;
use super::remux;
use super::segments;
use super::shape;
use super::single;
use super::streams::Probe;
use super::video;

pub use parts::{Cut, Demotion, JoinSpec, Origin, OutStream, Plan, PlanHints, Replacement, Rung};

/// Plans the conversion of a source.
///
/// # Errors
/// [`MediaError::Refused`] when the preset makes no sense for the source.
pub fn plan(
    probe: &Probe,
    index: &Index,
    preset: &Preset,
    hints: &PlanHints,
) -> Result<Plan, MediaError> {
    preset.check()?;
    let kept_exactly = preset.encoder == Encoder::Ffv1;
    let moves = probe.still.loops.is_some();
    if hints.strip_gps && preset.kind() != MediaKind::Image && probe.kind != MediaKind::Image {
        let next = "Leave --strip-gps out, or give a picture";
        return Err(refused("--strip-gps is for pictures, and it is none", next));
    }
    valid(match (probe.kind, preset.kind()) {
        (MediaKind::Video, MediaKind::Video) => video_plan(probe, index, preset, hints, &[]),
        (MediaKind::Audio, MediaKind::Audio) => single::sound(probe, preset),
        (MediaKind::Audio, MediaKind::Video) if kept_exactly => audio_plan(probe, preset),
        (MediaKind::Image, MediaKind::Image) => single::pictures(probe, index, preset, hints),
        (MediaKind::Image, MediaKind::Video) if kept_exactly => {
            single::pictures(probe, index, preset, hints)
        }
        // Pictures that move are a film, too.
        (MediaKind::Video, MediaKind::Image) if moves => {
            single::pictures(probe, index, preset, hints)
        }
        (source, _) => Err(other_kind(source, preset)),
    }?)
}

/// The preset makes another kind of media than the source is.
fn other_kind(source: MediaKind, preset: &Preset) -> MediaError {
    let is = match source {
        MediaKind::Video => "a film",
        MediaKind::Audio => "sound without pictures",
        MediaKind::Image => "a still picture",
    };
    let makes = match preset.kind() {
        MediaKind::Video => "video",
        MediaKind::Audio => "sound",
        MediaKind::Image => "pictures",
    };
    let why = format!("it is {is}, and preset {} makes {makes}", preset.name);
    refused(why, &format!("Use --preset with one of: {}", Preset::fitting(source)))
}

/// A file may claim anything. A task that every worker must refuse is refused here, with its reason.
fn valid(plan: Plan) -> Result<Plan, MediaError> {
    match plan.tasks.iter().try_for_each(TaskSpec::validate) {
        Ok(()) => Ok(plan),
        Err(e) => Err(refused(
            format!("what it says of itself makes no sense: {e}"),
            "Check that it plays",
        )),
    }
}

/// What to do after a task's result was refused: a longer pre-roll, then entering the whole
/// source, then one whole-file task.
pub fn demote(probe: &Probe, index: &Index, preset: &Preset, plan: &Plan, task: u32) -> Demotion {
    let Some(spec) = plan.tasks.get(task as usize) else { return Demotion::GiveUp };
    let reason = match spec {
        TaskSpec::Segment(segment) => {
            let lower = segments::lower(probe, index, segment);
            if let Some(replacement) = lower.filter(|lower| lower.spec.validate().is_ok()) {
                return Demotion::Retry(replacement);
            }
            format!("segment {} decodes differently when it is entered", segment.number)
        }
        TaskSpec::Whole(whole) if whole.expected.is_some() => {
            "the decoder gives other frames than the packets say".to_owned()
        }
        _ => return Demotion::GiveUp,
    };
    let hints = PlanHints { segment_target_s: f64::INFINITY, strip_gps: false };
    match video_plan(probe, index, preset, &hints, &[reason]).and_then(valid) {
        Ok(plan) => Demotion::WholeFile(Box::new(plan)),
        Err(_) => Demotion::GiveUp,
    }
}

fn video_plan(
    probe: &Probe,
    index: &Index,
    preset: &Preset,
    hints: &PlanHints,
    decoded_only: &[String],
) -> Result<Plan, MediaError> {
    let Some(pictures) = &probe.pictures else {
        return Err(refused("it has no pictures", "Use --preset lossless for sound"));
    };
    if preset.copies_pictures() {
        return remux::plan(probe, index, preset);
    }
    let mut notes = Vec::new();
    let (mut work, orientation) = video::work(pictures, preset, &mut notes)?;
    let mut decoded_only = decoded_only.to_vec();
    decoded_only.extend(shape::cap_rate(&mut work, index, preset, &mut notes));
    let decoded_only = &decoded_only;
    let mut shared = segments::share(probe, index, &work, hints.segment_target_s, decoded_only);
    let mut streams = keep::streams(probe, preset, &mut notes);
    let frames: u64 = shared.tasks.iter().filter_map(TaskSpec::frames).sum();
    let audio = keep::audio_tasks(probe, preset, shared.tasks.len(), &mut streams, &mut notes);
    shared.cuts.extend(audio.iter().map(|_| None));
    shared.tasks.extend(audio);
    let duration_us = probe.duration_us.unwrap_or_else(|| shared.duration_us(pictures.time_base));
    let join = JoinSpec {
        orientation,
        continuous: shared.continuous,
        ..JoinSpec::of(preset.container, streams)
    };
    Ok(Plan {
        output_bytes_estimate: estimate(probe, preset, &work, frames, duration_us),
        cuts: shared.cuts,
        delays: keep::delays(probe),
        cut_source: Some(CutSource { format: probe.format.clone(), stream: pictures.index }),
        notes,
        reasons: shared.reasons,
        duration_us,
        ..Plan::uncut(MediaKind::Video, shared.rung, (probe, preset), shared.tasks, join)
    })
}

/// A generous guess: FFV1 takes about half of the raw pixels, the others rarely exceed the source.
fn estimate(
    probe: &Probe,
    preset: &Preset,
    work: &dmc_protocol::media::VideoWork,
    frames: u64,
    duration_us: u64,
) -> u64 {
    let pixels = u64::from(work.width) * u64::from(work.height);
    let depth = u64::from(work.settings.pix_fmt.depth().div_ceil(8));
    if preset.encoder == Encoder::Ffv1 {
        let raw = pixels.saturating_mul(depth).saturating_mul(frames);
        return raw.saturating_add(probe.bytes);
    }
    // A fifth of a bit for each pixel is far above what these quality settings need.
    let coded = pixels.saturating_mul(frames) / 40;
    let floor = duration_us / 1_000_000 * 16_000;
    coded.min(probe.bytes.saturating_mul(2)).max(floor).saturating_add(1_000_000)
}

fn audio_plan(probe: &Probe, preset: &Preset) -> Result<Plan, MediaError> {
    let mut notes = Vec::new();
    let container = keep::audio_container(probe);
    let mut streams = keep::audio_only(probe, container, &mut notes);
    let tasks = keep::flac_tasks(probe, container, &mut streams, &mut notes);
    let join = JoinSpec::of(container, streams);
    Ok(Plan {
        delays: keep::delays(probe),
        notes,
        output_bytes_estimate: probe.bytes.saturating_mul(2).saturating_add(1_000_000),
        lossless: true,
        ..Plan::uncut(MediaKind::Audio, Rung::Remux, (probe, preset), tasks, join)
    })
}

/// Planning sees no path; the caller puts it in with [`with_path`].
pub(crate) fn refused(why: impl Into<String>, next: &str) -> MediaError {
    MediaError::refused(Path::new(""), why, next)
}

/// Puts the file's name into a refusal of [`plan`].
pub fn with_path(error: MediaError, file: &Path) -> MediaError {
    match error {
        MediaError::Refused { path, why, next } if path.as_os_str().is_empty() => {
            MediaError::refused(file, why, next)
        }
        other => other,
    }
}
