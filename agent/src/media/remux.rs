//! Films whose pictures are copied: the plan, and the proof that they are the same.

use std::path::Path;

use dmc_protocol::media::{Codec, Container, Encoder, MediaKind, Preset, Rational};
use tokio_util::sync::CancellationToken;

use super::cut::CutSource;
use super::error::MediaError;
use super::index::Index;
use super::keep;
use super::packets;
use super::plan::{JoinSpec, Origin, Plan, Rung, refused};
use super::run::Tools;
use super::streams::{Probe, StreamKind};
use super::verify_output::Report;

/// Matroska counts in milliseconds: a timestamp may be off by one.
const PTS_ERROR_US_MAX: u64 = 1_100;

/// Plans a copy: there is only joining to do, and perhaps sound that the container cannot hold.
///
/// # Errors
/// [`MediaError::Refused`] when the pictures would not be the same in the container.
pub(crate) fn plan(probe: &Probe, index: &Index, preset: &Preset) -> Result<Plan, MediaError> {
    let Some(pictures) = &probe.pictures else {
        return Err(refused("it has no pictures", "Use --preset lossless for sound"));
    };
    let container = preset.container;
    let stream = probe.stream(pictures.index);
    let fits = stream.is_some_and(|stream| match container {
        Container::Mp4 => stream.fits.mp4,
        _ => stream.fits.mkv,
    });
    if !fits {
        let why = format!("{container} cannot hold {} as it is", pictures.codec);
        return Err(refused(why, "Use another --container, or a preset that encodes"));
    }
    if index.packets.iter().any(|packet| packet.pts.is_none()) {
        let why = "it has packets without timestamps, which cannot be copied exactly";
        return Err(refused(why, "Use a preset that encodes, such as hevc or lossless"));
    }
    if container != Container::Mp4 && !pictures.orientation.is_upright() {
        let why = "its pictures are turned when they are shown, and ffmpeg writes no turn into MKV";
        return Err(refused(why, "Use --container mp4"));
    }
    let mut notes = Vec::new();
    let mut streams = keep::streams(probe, preset, &mut notes);
    for stream in streams.iter_mut().filter(|stream| stream.origin == Origin::Pictures) {
        stream.origin = Origin::Copy;
        stream.tags.clear();
    }
    let tasks = keep::audio_tasks(probe, preset, 0, &mut streams, &mut notes);
    // The encoder stands for the codec here.
    let mut preset = preset.clone();
    preset.encoder = match pictures.codec.as_str() {
        "hevc" => Encoder::Libx265,
        "av1" => Encoder::Libsvtav1,
        _ => Encoder::Libx264,
    };
    let join = JoinSpec::of(container, streams);
    Ok(Plan {
        delays: keep::delays(probe),
        cut_source: Some(CutSource { format: probe.format.clone(), stream: pictures.index }),
        notes,
        output_bytes_estimate: probe.bytes.saturating_add(probe.bytes / 20 + 1_000_000),
        lossless: true,
        ..Plan::uncut(MediaKind::Video, Rung::Remux, (probe, &preset), tasks, join)
    })
}

/// Proves that the pictures of the result are the source's, packet for packet and time for time.
/// Other formats wrap packets otherwise; then every frame is decoded and compared.
///
/// # Errors
/// [`MediaError::Wrong`] with what differs: the file must not be published.
pub(crate) async fn prove(
    tools: &Tools,
    plan: &Plan,
    probe: &Probe,
    (source, out): (&Path, &Path),
    report: &mut Report,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let wrong = |why: String| MediaError::wrong("the joined file", why);
    let Some(pictures) = &probe.pictures else { return Ok(()) };
    let made = super::probe::made(tools, out).await?;
    let index = made.pictures.as_ref().map(|pictures| pictures.index);
    let Some(index) = index else { return Err(wrong("it has no pictures".to_owned())) };
    let codec = match pictures.codec.as_str() {
        "h264" => Some(Codec::H264),
        "hevc" => Some(Codec::Hevc),
        _ => None,
    };
    let format = Some(&plan.source_format);
    let before = packets::list(tools, codec, (format, source), pictures.index, cancel).await?;
    let after = packets::list(tools, codec, (None, out), index, cancel).await?;
    let (Some(before), Some(after)) = (before, after) else {
        return Err(wrong("its packets do not say when they are shown".to_owned()));
    };
    if before.packets.len() != after.packets.len() {
        let (have, want) = (after.packets.len(), before.packets.len());
        return Err(wrong(format!("it has {have} pictures instead of {want}")));
    }
    let time = |base: Rational, packets: &[(i64, String)], at: usize| {
        let first = packets.iter().map(|packet| packet.0).min().unwrap_or(0);
        base.ticks_to_us(packets[at].0.saturating_sub(first))
    };
    for at in 0..before.packets.len() {
        if before.packets[at].1 != after.packets[at].1 {
            return Err(wrong(format!("picture {at} has other bytes than the source's")));
        }
        let want = time(before.time_base, &before.packets, at);
        let error = time(after.time_base, &after.packets, at).abs_diff(want);
        report.max_pts_error_us = report.max_pts_error_us.max(error);
        if error > PTS_ERROR_US_MAX {
            return Err(wrong(format!("picture {at} is shown {error} µs too early or late")));
        }
    }
    debug_assert!(plan.join.streams.iter().any(|stream| stream.kind == StreamKind::Video));
    report.frames = after.packets.len() as u64;
    report.pixels_equal = true;
    Ok(())
}
