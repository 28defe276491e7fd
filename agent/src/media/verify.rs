//! Checks results: a worker its own, the owner those of others again, and the joined file.
//!
//! Every frame is decoded once, by the owner: what it made itself when that is made, what others
//! made when it comes, so that a liar is found before anybody waits for it. A worker looks at the
//! packets only of what it makes for others, and joined are the packets of what was decoded.

use std::path::Path;

use dmc_protocol::media::{Encoder, SegmentTask, TaskSpec, VideoWork, WholeTask};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::args::hash_format;
use super::error::MediaError;
use super::plan::Plan;
use super::proof::{self, Frame, HASH, Proof};
use super::run::{self, Args, Call, Tools};
use super::work::TaskOutput;

pub(crate) use super::verify_handed::verify_handed;
pub use super::verify_output::{Report, verify_output};

/// Pre-roll frames that must equal the previous segment's.
const LINK_FRAMES: usize = 3;
/// Frames that a proof may list beyond those of its segment: a pre-roll of three keyframe
/// intervals.
const PREROLL_FRAMES_MAX: u64 = 100_000;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is right.
    Good(Checked),
    /// It was made well, but the frames are not those that the source's packets promise: the task
    /// needs a lower rung, see [`super::plan::demote`].
    Unproven(String),
    /// It is damaged: another attempt may do better.
    Damaged(String),
}

/// A result that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Frames in it; 1 for a picture, 0 for sound.
    pub frames: u64,
    /// Hash of the decoder's set-up data: must be the same for all segments of a film.
    pub extradata: String,
}

/// How closely coded pictures are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Their packets: how many, when they are shown. The owner decodes them.
    Packets,
    /// Every frame is decoded.
    Frames,
}

/// Checks a task's result, as the owner that received it: every frame is decoded. `desk` is a
/// directory for small files, made where it is needed; the caller removes it.
///
/// # Errors
/// When a program or the disk fails, or the proof makes no sense.
pub async fn verify_result(
    tools: &Tools,
    plan: &Plan,
    task: u32,
    (media, proof): (&Path, &Path),
    (source, desk): (&Path, &Path),
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let Some(spec) = plan.tasks.get(task as usize) else {
        return Err(MediaError::wrong("the plan", format!("there is no task {task}")));
    };
    let output = TaskOutput { media: media.to_owned(), proof: proof.to_owned() };
    match check(tools, spec, &output, (source, desk, Look::Frames), cancel).await {
        // What cannot be decoded or parsed is the fault of this result, not of the check.
        Err(MediaError::Failed { why, stderr, .. }) => {
            let end = stderr.lines().last().unwrap_or_default();
            Ok(Verdict::Damaged(format!("{why} {end}").trim().to_owned()))
        }
        Err(MediaError::Wrong { why, .. }) => Ok(Verdict::Damaged(why)),
        other => other,
    }
}

/// Checks a task's result against its spec.
pub(crate) async fn check(
    tools: &Tools,
    spec: &TaskSpec,
    output: &TaskOutput,
    (source, desk, look): (&Path, &Path, Look),
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let size = tokio::fs::metadata(&output.media)
        .await
        .map_err(|error| MediaError::io("read", &output.media, error))?;
    if size.len() == 0 {
        return Ok(Verdict::Damaged("it is empty".to_owned()));
    }
    match spec {
        TaskSpec::Segment(task) => check_segment(tools, task, output, look, cancel).await,
        TaskSpec::Whole(task) => check_whole(tools, task, output, look, cancel).await,
        TaskSpec::Audio(task) => {
            super::verify_sound::check_audio(tools, task, output, cancel).await
        }
        TaskSpec::Image(task) => {
            super::verify_sound::check_image(tools, task, output, cancel).await
        }
        TaskSpec::Still(task) => {
            super::verify_still::check(tools, task, output, (source, desk, look), cancel).await
        }
        TaskSpec::Sound(task) => {
            super::verify_alone::check(tools, task, output, (source, look), cancel).await
        }
    }
}

async fn check_segment(
    tools: &Tools,
    task: &SegmentTask,
    output: &TaskOutput,
    look: Look,
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let frames_max = u64::from(task.expected.count) + PREROLL_FRAMES_MAX;
    let proof = Proof::read(&output.proof, frames_max).await?;
    if proof.time_base != task.video.time_base {
        return Ok(Verdict::Damaged(format!("its proof counts in {}", proof.time_base)));
    }
    let decoded = proof.between(task.a_pts, task.b_pts);
    if proof::digest(&decoded) != task.expected {
        let why = format!(
            "segment {} decoded {} frames where its packets promise {}, or at other times",
            task.number,
            decoded.len(),
            task.expected.count
        );
        return Ok(Verdict::Unproven(why));
    }
    compare(tools, &task.video, output, (&decoded, look), cancel).await
}

async fn check_whole(
    tools: &Tools,
    task: &WholeTask,
    output: &TaskOutput,
    look: Look,
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let frames_max = task.frames_estimate.unwrap_or(0).saturating_mul(4) + PREROLL_FRAMES_MAX;
    let proof = Proof::read(&output.proof, frames_max).await?;
    let decoded = proof.sorted();
    if let Some(expected) = task.expected
        && proof::digest(&decoded) != expected
    {
        let why = format!(
            "the decoder gave {} frames where the packets promise {}, or at other times",
            decoded.len(),
            expected.count
        );
        return Ok(Verdict::Unproven(why));
    }
    if decoded.is_empty() {
        return Ok(Verdict::Damaged("no frame could be decoded".to_owned()));
    }
    compare(tools, &task.video, output, (&decoded, look), cancel).await
}

/// Compares the result with the frames that went in. Where every pixel counts it is decoded anyway.
async fn compare(
    tools: &Tools,
    work: &VideoWork,
    output: &TaskOutput,
    (expected, look): (&[Frame], Look),
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let lossless = work.settings.encoder == Encoder::Ffv1;
    let (coded, stream) = if look == Look::Packets && !lossless {
        match shown(tools, &output.media, cancel).await? {
            Ok(shown) => shown,
            Err(why) => return Ok(Verdict::Damaged(why)),
        }
    } else {
        let format = hash_format(&work.settings);
        let look = (format, lossless);
        let decoded = decode_frames(tools, &output.media, "0:v:0", look, cancel).await?;
        (decoded.sorted(), parameters(tools, &output.media, cancel).await?)
    };
    if coded.len() != expected.len() {
        let why = format!("it holds {} frames instead of {}", coded.len(), expected.len());
        return Ok(Verdict::Damaged(why));
    }
    let (Some(first), Some(start)) = (expected.first(), coded.first()) else {
        return Ok(Verdict::Damaged("it holds no frame".to_owned()));
    };
    // The container counts in 1/den; the time base may step by more than one.
    let step = i64::from(work.time_base.num);
    for (want, have) in expected.iter().zip(&coded) {
        if (want.pts - first.pts).saturating_mul(step) != have.pts - start.pts {
            let why = format!("the frame of {} is shown at another time", want.pts);
            return Ok(Verdict::Damaged(why));
        }
        if lossless && want.hash != have.hash {
            return Ok(Verdict::Damaged(format!("the frame of {} has other pixels", want.pts)));
        }
    }
    let same = stream.codec_name == work.settings.encoder.codec().name()
        && (stream.width, stream.height) == (work.width, work.height);
    if !same {
        let why = format!("it is {} {}×{}", stream.codec_name, stream.width, stream.height);
        return Ok(Verdict::Damaged(why));
    }
    Ok(Verdict::Good(Checked { frames: coded.len() as u64, extradata: stream.extradata_hash }))
}

/// Decodes the pictures of one of our own results; any error in them fails. Their checksums are
/// taken in that pixel format if `pixels` is true, and mean nothing if not: that costs a quarter of
/// the time.
pub(crate) async fn decode_frames(
    tools: &Tools,
    media: &Path,
    map: &str,
    (format, pixels): (Option<&str>, bool),
    cancel: &CancellationToken,
) -> Result<Proof, MediaError> {
    let mut args = Args::ffmpeg();
    args.words("-xerror -err_detect explode -copyts -noautorotate").input(None, media);
    args.words(&format!("-map {map}"));
    match format {
        Some(format) if pixels => _ = args.words(&format!("-pix_fmt {format}")),
        None if pixels => {}
        _ => _ = args.words("-c:v wrapped_avframe"),
    }
    args.words("-fps_mode passthrough -enc_time_base -1 -f framehash");
    args.words(&format!("-hash {HASH} pipe:1"));
    let mut call = Call::new("decoding the result", &tools.ffmpeg, args);
    call.stdout_bytes_max = 2 * 1024 * 1024 * 1024;
    let captured = run::capture(call, cancel).await?;
    Proof::parse(&String::from_utf8_lossy(&captured.stdout))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    pub codec_name: String,
    pub width: u32,
    pub height: u32,
    pub extradata_hash: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    streams: Vec<Parameters>,
    packets: Vec<CodedPicture>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CodedPicture {
    pts: Option<i64>,
    flags: String,
}

/// What a result's first video stream says of itself.
pub(crate) async fn parameters(
    tools: &Tools,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Parameters, MediaError> {
    let document = describe(tools, media, "", cancel).await?;
    let first = document.streams.into_iter().next();
    first.ok_or_else(|| MediaError::wrong("the result", "it has no pictures"))
}

/// When the pictures of a result are shown, by its packets, and what its stream says of itself; or
/// why it cannot be decoded from its start. The checksums are left out.
async fn shown(
    tools: &Tools,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Result<(Vec<Frame>, Parameters), String>, MediaError> {
    let document = describe(tools, media, ":packet=pts,flags", cancel).await?;
    if !document.packets.first().is_some_and(|packet| packet.flags.contains('K')) {
        return Ok(Err("it does not begin with a picture that stands alone".to_owned()));
    }
    let packets = document.packets.into_iter().filter(|packet| !packet.flags.contains('D'));
    let frames = packets.map(|packet| Some(Frame { pts: packet.pts?, hash: 0 }));
    let Some(mut frames) = frames.collect::<Option<Vec<_>>>() else {
        return Ok(Err("one of its pictures has no time".to_owned()));
    };
    frames.sort_unstable_by_key(|frame| frame.pts);
    let first = document.streams.into_iter().next();
    Ok(first.map(|stream| (frames, stream)).ok_or_else(|| "it has no pictures".to_owned()))
}

async fn describe(
    tools: &Tools,
    media: &Path,
    more: &str,
    cancel: &CancellationToken,
) -> Result<Document, MediaError> {
    let mut args = Args::ffprobe();
    args.guards(None).words("-select_streams v:0 -show_data_hash SHA256 -show_entries");
    args.words(&format!("stream=codec_name,width,height,extradata_hash{more} -of json -i"));
    args.read(media);
    let mut call = Call::new("reading the result's headers", &tools.ffprobe, args);
    call.stdout_bytes_max = 2 * 1024 * 1024 * 1024;
    let captured = run::capture(call, cancel).await?;
    serde_json::from_slice(&captured.stdout)
        .map_err(|error| MediaError::wrong("the result's headers", error.to_string()))
}

/// Whether segment `task` saw the end of the segment before as that one saw it itself: if not, the
/// decoder's state depends on more than the pre-roll, and the task needs a lower rung.
///
/// True for the first segment and for tasks that are no segments.
///
/// # Errors
/// When a proof cannot be read.
pub async fn link_ok(
    plan: &Plan,
    task: u32,
    previous: &Path,
    current: &Path,
) -> Result<bool, MediaError> {
    let Some(TaskSpec::Segment(segment)) = plan.tasks.get(task as usize) else { return Ok(true) };
    if segment.number == 0 {
        return Ok(true);
    }
    let frames_max = u64::from(u32::MAX).min(50_000_000);
    let previous = Proof::read(previous, frames_max).await?;
    let current = Proof::read(current, frames_max).await?;
    Ok(linked(&previous, &current, segment.a_pts))
}

/// Whether the last frames before `a` in `current` are in `previous`, pixel for pixel.
pub fn linked(previous: &Proof, current: &Proof, a: i64) -> bool {
    let preroll = current.before(a);
    let shared = &preroll[preroll.len().saturating_sub(LINK_FRAMES)..];
    let known = previous.before(a);
    let same = |frame: &Frame| {
        known
            .binary_search_by_key(&frame.pts, |known| known.pts)
            .is_ok_and(|at| known[at] == *frame)
    };
    // The very last frame of the previous segment must be among them.
    let last = known.last().map(|frame| frame.pts);
    !shared.is_empty() && shared.last().map(|frame| frame.pts) == last && shared.iter().all(same)
}

#[cfg(test)]
mod tests {
    use dmc_protocol::media::Rational;

    use super::*;

    fn proof(frames: &[(i64, u128)]) -> Proof {
        let frames = frames.iter().map(|&(pts, hash)| Frame { pts, hash }).collect();
        Proof { time_base: Rational::new(1, 25), frames }
    }

    #[test]
    fn a_segment_is_linked_when_the_pre_roll_is_the_same() {
        let previous = proof(&[(0, 1), (1, 2), (2, 3), (3, 4)]);
        let same = proof(&[(0, 99), (1, 2), (2, 3), (3, 4), (4, 5)]);
        let other = proof(&[(1, 2), (2, 77), (3, 4), (4, 5)]);
        let short = proof(&[(2, 3), (4, 5)]);
        let none = proof(&[(4, 5)]);
        assert!(linked(&previous, &same, 4), "only the last three count");
        assert!(!linked(&previous, &other, 4), "a pixel differs");
        assert!(!linked(&previous, &short, 4), "the last frame before A is missing");
        assert!(!linked(&previous, &none, 4), "nothing overlaps");
    }
}
