//! Checks a result that another agent joined, against the source here.

use std::path::Path;

use dmc_protocol::media::{Encoder, MediaKind, TaskSpec};
use tokio_util::sync::CancellationToken;

use super::args::hash_format;
use super::error::MediaError;
use super::index::Index;
use super::plan::Plan;
use super::proof::{Frame, Proof};
use super::run::{self, Args, Call, Tools};
use super::streams::Probe;
use super::timeline::Timeline;
use super::verify::{self, decode_frames};
use super::verify_output::{Look, Report, verify_frames};
use super::verify_sound::samples_hash;

/// How much longer or shorter encoded sound may be: priming and the last packet.
const LENGTH_US_MAX: u64 = 500_000;

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
        return Err(MediaError::wrong("the result", "pictures are not handed over"));
    }
    // Somebody else made it: it may be anything, encrypted for one.
    let made = super::probe::probe(tools, out).await?;
    // Sound that is only copied may have had its errors before.
    if plan.tasks.iter().any(|task| matches!(task, TaskSpec::Audio(_) | TaskSpec::Sound(_))) {
        decode_sound(tools, out, cancel).await?;
    }
    if plan.kind == MediaKind::Audio {
        check_sound(tools, plan, (source, out), &made, cancel).await?;
    }
    let video = plan.tasks.iter().find_map(TaskSpec::video);
    let (Some(video), Some(pictures)) = (video, probe.pictures.as_ref()) else {
        let look = Look { timeline: None, exact: false, parts: None };
        return verify_frames(tools, plan, probe, look, out, cancel).await;
    };
    let coded = verify::parameters(tools, out, cancel).await?;
    let wanted = (video.settings.encoder.codec().name(), video.width, video.height);
    if (coded.codec_name.as_str(), coded.width, coded.height) != wanted {
        let why = format!("it is {} {}×{}", coded.codec_name, coded.width, coded.height);
        return Err(MediaError::wrong("the result", why));
    }
    // What turns or scales pictures is not done to the source here.
    let untouched = video.filters.is_empty() && video.exact_filters.is_empty();
    let exact = video.settings.encoder == Encoder::Ffv1 && untouched && !plan.join.continuous;
    let promised = shown(index).filter(|_| !exact && !plan.join.continuous);
    let (time_base, mut frames) = match promised {
        Some(pts) => {
            let frames = pts.into_iter().map(|pts| Frame { pts, hash: 0 }).collect();
            (video.time_base, frames)
        }
        None => {
            let format = hash_format(&video.settings);
            let map = format!("0:{}", pictures.index);
            let look = (format, exact);
            let decoded: Proof = decode_frames(tools, source, &map, look, cancel).await?;
            (decoded.time_base, decoded.sorted())
        }
    };
    if let Some(cap) = video.rate_cap() {
        let pts: Vec<i64> = frames.iter().map(|frame| frame.pts).collect();
        let kept = cap.keep(time_base, &pts);
        frames.retain(|frame| kept.binary_search(&frame.pts).is_ok());
    }
    let timeline = Timeline { time_base, frames, first_us: 0 };
    let look = Look { timeline: Some(&timeline), exact, parts: None };
    verify_frames(tools, plan, probe, look, out, cancel).await
}

/// The timestamps of all frames, when every packet has one of its own.
fn shown(index: &Index) -> Option<Vec<i64>> {
    let pts = index.shown_pts();
    let shown = index.packets.iter().filter(|packet| !packet.discard).count();
    let corrupt = index.packets.iter().any(|packet| packet.corrupt);
    let unique = pts.windows(2).all(|pair| pair[0] < pair[1]);
    (unique && !corrupt && !pts.is_empty() && pts.len() == shown).then_some(pts)
}

/// All sound decodes without an error.
async fn decode_sound(
    tools: &Tools,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let mut args = Args::ffmpeg();
    args.arg("-xerror").input(None, out).words("-map 0:a? -map 0:v:0? -c:v copy -f null -");
    let call = Call::new("decoding the sound", &tools.ffmpeg, args);
    run::capture(call, cancel).await.map(|_nothing| ())
}

/// Sound alone: as long as the source says, and where nothing may be lost every sample.
async fn check_sound(
    tools: &Tools,
    plan: &Plan,
    (source, out): (&Path, &Path),
    made: &Probe,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let (have, want) = (made.duration_us.unwrap_or(0), plan.duration_us);
    if want > 0 && have.abs_diff(want) > LENGTH_US_MAX + want / 50 {
        let why = format!("its length is {} ms instead of {} ms", have / 1_000, want / 1_000);
        return Err(MediaError::wrong("the result", why));
    }
    for task in &plan.tasks {
        if let TaskSpec::Audio(task) = task
            && task.encoder == Encoder::Flac
        {
            let map = format!("0:{}", task.stream);
            let promised = samples_hash(tools, source, &map, task.sample_bits, cancel).await?;
            let decoded = samples_hash(tools, out, "0:a:0", task.sample_bits, cancel).await?;
            if promised != decoded {
                return Err(MediaError::wrong("the result", "its samples are not the source's"));
            }
        }
    }
    Ok(())
}
