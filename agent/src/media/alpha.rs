//! Transparency of VP8 and VP9: a second coded picture beside each packet, which only the decoders
//! of libvpx read.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::{Feed, InputFormat, PixFmt, TaskSpec};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::ffprobe::RawStream;
use super::run::{self, Args, Call, Tools};

/// What libvpx gives for 8-bit pictures with transparency; it reads no others.
const FORMAT: &str = "yuva420p";
/// Longest time of one run.
const WALL: Duration = Duration::from_secs(120);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    streams: Vec<RawStream>,
}

/// The decoder that a stream needs for its transparency.
pub(crate) fn decoder(raw: &RawStream) -> Option<&'static str> {
    let marked =
        raw.tags.iter().any(|(key, value)| key.eq_ignore_ascii_case("alpha_mode") && value == "1");
    match raw.codec_name.as_str() {
        "vp8" if marked => Some("libvpx"),
        "vp9" if marked => Some("libvpx-vp9"),
        _ => None,
    }
}

/// The pixel format with transparency, if this ffmpeg decodes it.
pub(crate) async fn format(
    tools: &Tools,
    path: &Path,
    format: &InputFormat,
    raw: &RawStream,
) -> Option<PixFmt> {
    let decoder = decoder(raw)?;
    let stream = raw.index;
    let mut args = Args::ffmpeg();
    args.words(&format!("-noauto_conversion_filters -c:{stream} {decoder}"));
    args.input(Some(format), path);
    args.words(&format!("-map 0:{stream} -vf format={FORMAT} -frames:v 1 -f null -"));
    let mut call = Call::new("looking for transparency", &tools.ffmpeg, args);
    call.wall = WALL;
    run::capture(call, &CancellationToken::new()).await.ok()?;
    PixFmt::new(FORMAT)
}

/// Options for the first input of a task whose pictures need another decoder than ffmpeg's own.
///
/// # Errors
/// When the input cannot be read.
pub(crate) async fn options(
    tools: &Tools,
    spec: &TaskSpec,
    input: &Path,
    cancel: &CancellationToken,
) -> Result<Args, MediaError> {
    let mut options = Args::default();
    let (format, stream) = match spec {
        TaskSpec::Whole(task) => (&task.format, task.stream),
        TaskSpec::Segment(task) => match &task.feed {
            Feed::Seek { format, stream, .. } => (format, *stream),
            Feed::Piece { .. } => return Ok(options),
        },
        _ => return Ok(options),
    };
    // Without transparency in the result, ffmpeg's own decoder does, and is faster.
    let wanted = spec.video().is_some_and(|video| video.settings.pix_fmt.name() == FORMAT);
    if !wanted || format.name() != "matroska" {
        return Ok(options);
    }
    let mut args = Args::ffprobe();
    args.guards(Some(format)).words("-show_streams -of json");
    args.arg("-i").read(input);
    let mut call = Call::new("reading the source's headers", &tools.ffprobe, args);
    call.wall = WALL;
    let captured = run::capture(call, cancel).await?;
    let document: Document = serde_json::from_slice(&captured.stdout)
        .map_err(|error| MediaError::wrong("the source's headers", error.to_string()))?;
    let raw = document.streams.iter().find(|raw| raw.index == stream);
    if let Some(decoder) = raw.and_then(decoder) {
        options.words(&format!("-c:{stream} {decoder}"));
    }
    Ok(options)
}
