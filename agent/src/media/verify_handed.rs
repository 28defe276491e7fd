//! Checks a result that another agent joined, against the source here.

use std::path::Path;

use dmc_protocol::media::{Encoder, MediaKind, TaskSpec};
use tokio_util::sync::CancellationToken;

use super::args::hash_format;
use super::error::MediaError;
use super::index::Index;
use super::plan::Plan;
use super::proof::{Frame, Proof};
use super::run::Tools;
use super::streams::Probe;
use super::timeline::Timeline;
use super::verify::decode_frames;
use super::verify_output::{Report, verify_frames};
use super::verify_sound::decode_png;

/// Checks a whole result whose parts were never here: the frames and their times come from the
/// packets of the source or, where these do not tell or every pixel counts, from decoding it.
///
/// # Errors
/// [`MediaError::Wrong`] with what is not right: the file must then not be published.
pub async fn verify_handed(
    tools: &Tools,
    (plan, probe, index): (&Plan, &Probe, &Index),
    source: &Path,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<Report, MediaError> {
    if plan.kind == MediaKind::Image {
        return verify_picture(tools, out, cancel).await;
    }
    let video = plan.tasks.iter().find_map(TaskSpec::video);
    let (Some(video), Some(pictures)) = (video, probe.pictures.as_ref()) else {
        return verify_frames(tools, plan, probe, None, false, out, cancel).await;
    };
    // What turns or scales pictures is not done to the source here.
    let untouched = video.filters.is_empty() && video.exact_filters.is_empty();
    let exact = video.settings.encoder == Encoder::Ffv1 && untouched && !plan.join.continuous;
    let promised = shown(index).filter(|_| !exact && !plan.join.continuous);
    let (time_base, frames) = match promised {
        Some(pts) => {
            let frames = pts.into_iter().map(|pts| Frame { pts, crc: 0 }).collect();
            (video.time_base, frames)
        }
        None => {
            let format = hash_format(&video.settings);
            let map = format!("0:{}", pictures.index);
            let decoded: Proof = decode_frames(tools, source, &map, format, cancel).await?;
            (decoded.time_base, decoded.sorted())
        }
    };
    let timeline = Timeline { time_base, frames, first_us: 0 };
    verify_frames(tools, plan, probe, Some(&timeline), exact, out, cancel).await
}

/// The timestamps of all frames, when every packet has one of its own.
fn shown(index: &Index) -> Option<Vec<i64>> {
    let pts = index.shown_pts();
    let shown = index.packets.iter().filter(|packet| !packet.discard).count();
    let corrupt = index.packets.iter().any(|packet| packet.corrupt);
    let unique = pts.windows(2).all(|pair| pair[0] < pair[1]);
    (unique && !corrupt && !pts.is_empty() && pts.len() == shown).then_some(pts)
}

async fn verify_picture(
    tools: &Tools,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<Report, MediaError> {
    let bytes = tokio::fs::metadata(out).await.map_err(|e| MediaError::io("read", out, e))?.len();
    let decoded = decode_png(tools, out, cancel).await?;
    if decoded.frames.len() != 1 {
        return Err(MediaError::wrong("the result", "it is not one picture"));
    }
    Ok(Report {
        frames: 1,
        max_pts_error_us: 0,
        pixels_equal: false,
        streams: vec![(super::streams::StreamKind::Video, 1)],
        duration_us: None,
        bytes,
    })
}
