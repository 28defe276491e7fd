//! Single pictures of a file, for people who compare a source and its result.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::ffprobe;
use super::run::{self, Args, Call, Tools};
use super::sniff::{self, Sniffed};

/// How long one picture, or a look at the headers, may take.
const WALL: Duration = Duration::from_secs(60);
/// The largest picture as JPEG, in bytes.
const STILL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// At most 960 pixels wide, in the shape in which it is shown.
const SCALE: &str = "scale=w='2*max(1,trunc(min(960,iw*sar)/2))':h='2*max(1,round(ow/dar/2))',\
                     setsar=1,format=yuvj420p";

/// What a file holds to look at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    /// Whether there are pictures.
    pub pictures: bool,
    /// Its length in seconds, where it says it.
    pub seconds: Option<f64>,
}

#[derive(Deserialize)]
struct Headers {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Format,
}

#[derive(Deserialize)]
struct Stream {
    #[serde(default)]
    codec_type: String,
}

#[derive(Deserialize)]
struct Format {
    duration: Option<String>,
}

/// The guards of a file and its path. A picture is read by its content, not by its name.
async fn guarded(mut args: Args, path: &Path) -> Result<Args, MediaError> {
    let format = match sniff::look(path).await?.1 {
        Sniffed::Picture(name) => dmc_protocol::media::InputFormat::new(name),
        Sniffed::Unsupported(_) | Sniffed::Other => None,
    };
    args.input(format.as_ref(), path);
    Ok(args)
}

/// Reads what there is to look at.
///
/// # Errors
/// When the file is gone or cannot be read.
pub(crate) async fn look(
    tools: &Tools,
    path: &Path,
    cancel: &CancellationToken,
) -> Result<Seen, MediaError> {
    let mut args = Args::ffprobe();
    args.words("-show_entries stream=codec_type:format=duration -of json");
    let args = guarded(args, path).await?;
    let mut call = Call::new("reading the file's headers", &tools.ffprobe, args);
    call.wall = WALL;
    let captured = run::capture(call, cancel).await?;
    let headers: Headers = serde_json::from_slice(&captured.stdout).map_err(|e| {
        MediaError::refused(path, format!("ffprobe's answer makes no sense ({e})"), "")
    })?;
    let us = ffprobe::seconds_to_us(headers.format.duration.as_deref());
    Ok(Seen {
        pictures: headers.streams.iter().any(|stream| stream.codec_type == "video"),
        seconds: us.map(|us| us as f64 / 1e6),
    })
}

/// The picture that is shown at a moment, in seconds from the beginning, as JPEG; no bytes when the
/// file ends before.
///
/// # Errors
/// When the file is gone or cannot be decoded.
pub(crate) async fn jpeg(
    tools: &Tools,
    path: &Path,
    at_s: f64,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, MediaError> {
    let mut args = Args::ffmpeg();
    if at_s > 0.0 {
        args.words(&format!("-ss {at_s:.3}"));
    }
    let mut args = guarded(args, path).await?;
    args.words("-map 0:V:0 -frames:v 1 -an -sn -dn -vf").arg(SCALE);
    args.words("-c:v mjpeg -q:v 3 -f image2pipe pipe:1");
    let mut call = Call::new("making a still", &tools.ffmpeg, args);
    call.wall = WALL;
    call.stdout_bytes_max = STILL_BYTES_MAX;
    Ok(run::capture(call, cancel).await?.stdout)
}
