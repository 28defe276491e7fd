//! Checks results that are sound or one picture.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::{AudioTask, Encoder, ImageTask};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::args::exact_samples;
use super::error::MediaError;
use super::ffprobe::seconds_to_us;
use super::proof::{HASH, Proof};
use super::run::{self, Args, Call, Tools};
use super::verify::{self, Checked, Verdict};
use super::work::TaskOutput;

/// How much longer or shorter encoded sound may be: priming and the last packet.
const LENGTH_US_MAX: u64 = 500_000;
/// Longest time to decode the sound of a film.
const WALL: Duration = Duration::from_secs(4 * 3600);

/// Checks one encoded audio stream: it decodes, and for FLAC every sample is the same.
pub(crate) async fn check_audio(
    tools: &Tools,
    task: &AudioTask,
    output: &TaskOutput,
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let decoded = samples_hash(tools, &output.media, "0:a:0", task.sample_bits, cancel).await?;
    let promised = read_small(&output.proof).await?;
    if task.encoder == Encoder::Flac && decoded != promised {
        return Ok(Verdict::Damaged("the samples are not the source's".to_owned()));
    }
    let length = length_us(tools, &output.media, cancel).await?;
    if let Some(length) = length
        && task.duration_us > 0
        && length.abs_diff(task.duration_us) > LENGTH_US_MAX + task.duration_us / 50
    {
        let (have, want) = (length / 1_000, task.duration_us / 1_000);
        tracing::warn!(
            have_ms = have,
            want_ms = want,
            "the sound's length differs from its header"
        );
    }
    Ok(Verdict::Good(Checked { frames: 0, extradata: String::new() }))
}

/// The hash of a stream's samples, as ffmpeg's `hash` prints it.
pub(crate) async fn samples_hash(
    tools: &Tools,
    media: &Path,
    map: &str,
    sample_bits: u8,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, MediaError> {
    let samples = exact_samples(sample_bits);
    let mut args = Args::ffmpeg();
    args.arg("-xerror").input(None, media);
    args.words(&format!("-map {map} -c:a {samples} -f hash -hash md5 pipe:1"));
    let mut call = Call::new("decoding the sound", &tools.ffmpeg, args);
    call.wall = WALL;
    Ok(run::capture(call, cancel).await?.stdout)
}

async fn read_small(path: &Path) -> Result<Vec<u8>, MediaError> {
    let metadata = tokio::fs::metadata(path).await.map_err(|e| MediaError::io("read", path, e))?;
    if metadata.len() > 1024 {
        return Err(MediaError::wrong("the proof of the sound", "it is too long"));
    }
    tokio::fs::read(path).await.map_err(|error| MediaError::io("read", path, error))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lengths {
    format: Length,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Length {
    duration: Option<String>,
}

async fn length_us(
    tools: &Tools,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Option<u64>, MediaError> {
    let mut args = Args::ffprobe();
    args.guards(None).words("-show_entries format=duration -of json -i").read(media);
    let call = Call::new("reading the sound's length", &tools.ffprobe, args);
    let captured = run::capture(call, cancel).await?;
    let lengths: Lengths = serde_json::from_slice(&captured.stdout)
        .map_err(|error| MediaError::wrong("the sound's length", error.to_string()))?;
    let us = seconds_to_us(lengths.format.duration.as_deref());
    Ok(us.and_then(|us| u64::try_from(us).ok()))
}

/// Checks one picture: it decodes to the pixels that went in.
pub(crate) async fn check_image(
    tools: &Tools,
    task: &ImageTask,
    output: &TaskOutput,
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let promised = Proof::read(&output.proof, 4).await?;
    let decoded = decode_png(tools, &output.media, cancel).await?;
    let hashes = |proof: &Proof| proof.frames.iter().map(|frame| frame.hash).collect::<Vec<_>>();
    if hashes(&decoded) != hashes(&promised) {
        return Ok(Verdict::Damaged("the picture has other pixels".to_owned()));
    }
    let stream = verify::parameters(tools, &output.media, cancel).await?;
    if (stream.width, stream.height) != (task.width, task.height) {
        let why = format!("the picture is {}×{}", stream.width, stream.height);
        return Ok(Verdict::Damaged(why));
    }
    Ok(Verdict::Good(Checked { frames: 1, extradata: String::new() }))
}

/// The checksum of a PNG's pixels.
pub(crate) async fn decode_png(
    tools: &Tools,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Proof, MediaError> {
    let mut args = Args::ffmpeg();
    let png = dmc_protocol::media::InputFormat::new("png_pipe");
    args.words("-xerror -noautorotate").input(png.as_ref(), media);
    args.words(&format!("-map 0:v:0 -frames:v 1 -f framehash -hash {HASH} pipe:1"));
    let call = Call::new("decoding the picture", &tools.ffmpeg, args);
    let captured = run::capture(call, cancel).await?;
    Proof::parse(&String::from_utf8_lossy(&captured.stdout))
}
