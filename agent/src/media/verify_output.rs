//! Checks the joined file before anybody sees it.

use std::path::Path;

use dmc_protocol::media::{Encoder, MediaKind, StillTask, TaskSpec};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::args::hash_format;
use super::error::MediaError;
use super::join::expected_streams;
use super::packets;
use super::plan::Plan;
use super::proof::Proof;
use super::run::Tools;
use super::streams::{Probe, StreamKind};
use super::timeline::{self, Timeline};
use super::verify::decode_frames;
use super::verify_alone;
use super::verify_sound::decode_png;
use super::verify_still;
use super::work::TaskOutput;

/// Pictures of an animation at most.
const MOVING_FRAMES_MAX: u64 = 1_000_000;
/// Matroska counts in milliseconds: a timestamp may be off by one.
const PTS_ERROR_US_MAX: u64 = 1_100;

/// What a checked result is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Frames in it, all of them expected; 0 for sound.
    pub frames: u64,
    /// The greatest difference of a timestamp, in microseconds.
    pub max_pts_error_us: u64,
    /// Whether every pixel was compared and is the same.
    pub pixels_equal: bool,
    /// Streams by kind.
    pub streams: Vec<(StreamKind, u32)>,
    /// Length in microseconds, as the file says.
    pub duration_us: Option<u64>,
    /// Size in bytes.
    pub bytes: u64,
}

/// Checks the joined file: every frame and timestamp, the list of streams, its length, and for a
/// lossless target every pixel.
///
/// # Errors
/// [`MediaError::Wrong`] with what is not right: the file must then not be published.
pub async fn verify_output(
    tools: &Tools,
    plan: &Plan,
    (probe, source): (&Probe, &Path),
    results: &[TaskOutput],
    out: &Path,
    cancel: &CancellationToken,
) -> Result<Report, MediaError> {
    let bytes = tokio::fs::metadata(out).await.map_err(|e| MediaError::io("read", out, e))?.len();
    if let ([TaskSpec::Still(task)], [result]) = (plan.tasks.as_slice(), results) {
        return verify_still(task, result, out, bytes).await;
    }
    if let ([TaskSpec::Sound(task)], [result]) = (plan.tasks.as_slice(), results) {
        let of = (plan, probe, source);
        verify_alone::verify(tools, of, (task, result), out, cancel).await?;
    }
    if plan.kind == MediaKind::Image {
        return verify_picture(tools, plan, results, out, bytes, cancel).await;
    }
    let timeline = timeline::read(plan, results).await?;
    let exact = plan.preset.encoder == Encoder::Ffv1;
    let look = Look { timeline: timeline.as_ref(), exact, parts: Some(results) };
    verify_frames(tools, plan, probe, look, out, cancel).await
}

/// What a file is compared with.
pub(crate) struct Look<'a> {
    /// The frames that it must show.
    pub timeline: Option<&'a Timeline>,
    /// Whether their pixels count too.
    pub exact: bool,
    /// What it was joined from, when each was decoded and compared by itself.
    pub parts: Option<&'a [TaskOutput]>,
}

/// Checks a file against the frames that it must show. They are decoded unless their packets are
/// those of parts that were.
pub(crate) async fn verify_frames(
    tools: &Tools,
    plan: &Plan,
    probe: &Probe,
    Look { timeline, exact, parts }: Look<'_>,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<Report, MediaError> {
    let bytes = tokio::fs::metadata(out).await.map_err(|e| MediaError::io("read", out, e))?.len();
    let made = super::probe::made(tools, out).await?;
    let streams = check_streams(plan, &made)?;
    check_tags(probe, &made)?;
    let mut report = Report {
        frames: 0,
        max_pts_error_us: 0,
        pixels_equal: false,
        streams,
        duration_us: made.duration_us,
        bytes,
    };
    if let Some(timeline) = timeline {
        let index = made.pictures.as_ref().map_or(0, |pictures| pictures.index);
        let known = match parts {
            Some(parts) => {
                packets::frames_of_parts(tools, plan, parts, (out, index), cancel).await?
            }
            None => None,
        };
        if let Some(shown) = known {
            check_frames(false, timeline, &shown, &mut report)?;
        } else {
            let video = plan.tasks.iter().find_map(|task| task.video());
            let look = (video.and_then(|video| hash_format(&video.settings)), exact);
            let decoded = decode_frames(tools, out, &format!("0:{index}"), look, cancel).await?;
            check_frames(exact, timeline, &decoded, &mut report)?;
        }
        report.pixels_equal = exact;
    }
    check_duration(plan, timeline, &made)?;
    Ok(report)
}

fn wrong(why: impl Into<String>) -> MediaError {
    MediaError::wrong("the joined file", why)
}

/// The coded pictures were compared with their source when they came; around them is metadata now.
async fn verify_still(
    task: &StillTask,
    result: &TaskOutput,
    out: &Path,
    bytes: u64,
) -> Result<Report, MediaError> {
    let (made, part) = (verify_still::read(out).await?, verify_still::read(&result.media).await?);
    let coded = |file: &[u8]| verify_still::coded(task.encoder, file);
    if coded(&part).is_none() || coded(&made) != coded(&part) {
        return Err(wrong("it has other pictures than those that were checked"));
    }
    let frames = if task.loops.is_some() {
        Proof::read(&result.proof, MOVING_FRAMES_MAX).await?.frames.len() as u64
    } else {
        1
    };
    Ok(Report {
        frames,
        max_pts_error_us: 0,
        pixels_equal: task.is_lossless(),
        streams: vec![(StreamKind::Video, 1)],
        duration_us: None,
        bytes,
    })
}

async fn verify_picture(
    tools: &Tools,
    plan: &Plan,
    results: &[TaskOutput],
    out: &Path,
    bytes: u64,
    cancel: &CancellationToken,
) -> Result<Report, MediaError> {
    let Some(result) = results.first().filter(|_| plan.tasks.len() == 1) else {
        return Err(wrong("there is not one picture"));
    };
    let promised = Proof::read(&result.proof, 4).await?;
    let decoded = decode_png(tools, out, cancel).await?;
    let hashes = |proof: &Proof| proof.frames.iter().map(|frame| frame.hash).collect::<Vec<_>>();
    if hashes(&promised) != hashes(&decoded) {
        return Err(wrong("it has other pixels"));
    }
    Ok(Report {
        frames: 1,
        max_pts_error_us: 0,
        pixels_equal: true,
        streams: vec![(StreamKind::Video, 1)],
        duration_us: None,
        bytes,
    })
}

fn check_streams(plan: &Plan, made: &Probe) -> Result<Vec<(StreamKind, u32)>, MediaError> {
    let mut found = Vec::new();
    for (kind, expected) in expected_streams(plan) {
        let count = made.streams_of(kind).count();
        if count != expected {
            return Err(wrong(format!("it has {count} instead of {expected} streams of {kind:?}")));
        }
        found.push((kind, u32::try_from(count).unwrap_or(u32::MAX)));
    }
    Ok(found)
}

fn check_tags(source: &Probe, made: &Probe) -> Result<(), MediaError> {
    if source.chapters != made.chapters && made.format.name() != "flac" {
        let (have, want) = (made.chapters, source.chapters);
        return Err(wrong(format!("it has {have} instead of {want} chapters")));
    }
    Ok(())
}

fn check_frames(
    exact: bool,
    timeline: &Timeline,
    decoded: &Proof,
    report: &mut Report,
) -> Result<(), MediaError> {
    let frames = decoded.sorted();
    if frames.len() != timeline.frames.len() {
        let (have, want) = (frames.len(), timeline.frames.len());
        return Err(wrong(format!("it shows {have} frames instead of {want}")));
    }
    let first = frames.first().map_or(0, |frame| frame.pts);
    for (have, want) in frames.iter().zip(&timeline.frames) {
        let have_us = decoded.time_base.ticks_to_us(have.pts - first);
        let error = have_us.abs_diff(timeline.since_first_us(want));
        report.max_pts_error_us = report.max_pts_error_us.max(error);
        if error > PTS_ERROR_US_MAX {
            return Err(wrong(format!("a frame is shown {error} µs too early or late")));
        }
        if exact && have.hash != want.hash {
            return Err(wrong(format!("the frame at {have_us} µs has other pixels")));
        }
    }
    report.frames = frames.len() as u64;
    Ok(())
}

/// A file whose length is far from that of its frames and its source is not the film.
fn check_duration(
    plan: &Plan,
    timeline: Option<&Timeline>,
    made: &Probe,
) -> Result<(), MediaError> {
    let Some(have) = made.duration_us else { return Ok(()) };
    let frames_us = timeline
        .and_then(|timeline| timeline.frames.last().map(|last| timeline.since_first_us(last)))
        .and_then(|us| u64::try_from(us).ok())
        .unwrap_or(0);
    let least = frames_us;
    // Headers of sources are often wrong, so the upper bound is wide.
    let most = plan.duration_us.max(frames_us).saturating_mul(2).saturating_add(60_000_000);
    if have + 1_000_000 < least || have > most {
        return Err(wrong(format!("its length is {} s", have / 1_000_000)));
    }
    Ok(())
}
