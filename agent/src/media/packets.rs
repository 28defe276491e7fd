//! Proves that a joined file holds the coded pictures of its parts, byte for byte and in order.
//!
//! Every part begins with a picture that resets the decoder, and was decoded alone. The same packets
//! with the same parameters give the same frames, so decoding all of them again would tell nothing
//! new.

use std::path::Path;

use dmc_protocol::media::{Codec, InputFormat, Rational};
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::plan::Plan;
use super::proof::{Frame, HASH, Proof};
use super::run::{self, Args, Call, Tools};
use super::work::TaskOutput;

/// The coded pictures of one file, in the order of the decoder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packets {
    pub time_base: Rational,
    /// The decoder's set-up data, as ffmpeg names it: size and hash.
    extradata: String,
    /// Of each packet when it is shown, its size and its hash.
    pub packets: Vec<(i64, String)>,
}

/// The frames of video stream `index` of a joined file, without checksums, when its packets are those of the
/// parts; `None` when they are not, or do not tell: then decoding must.
///
/// # Errors
/// When ffmpeg fails to read a file.
pub(crate) async fn frames_of_parts(
    tools: &Tools,
    plan: &Plan,
    parts: &[TaskOutput],
    (joined, index): (&Path, u32),
    cancel: &CancellationToken,
) -> Result<Option<Proof>, MediaError> {
    let codec = plan.preset.encoder.codec();
    let Some(whole) = read(tools, codec, joined, index, cancel).await? else { return Ok(None) };
    let mut rest = whole.packets.as_slice();
    for task in plan.video_tasks() {
        let Some(part) = parts.get(task as usize) else { return Ok(None) };
        let Some(part) = read(tools, codec, &part.media, 0, cancel).await? else { return Ok(None) };
        let Some((of_part, after)) = rest.split_at_checked(part.packets.len()) else {
            return Ok(None);
        };
        let same = of_part.iter().zip(&part.packets).all(|(joined, part)| joined.1 == part.1);
        if !same || part.extradata != whole.extradata {
            return Ok(None);
        }
        rest = after;
    }
    if !rest.is_empty() {
        return Ok(None);
    }
    let frames = whole.packets.iter().map(|&(pts, _)| Frame { pts, hash: 0 }).collect();
    Ok(Some(Proof { time_base: whole.time_base, frames }))
}

async fn read(
    tools: &Tools,
    codec: Codec,
    media: &Path,
    index: u32,
    cancel: &CancellationToken,
) -> Result<Option<Packets>, MediaError> {
    let codec = Some(codec).filter(|codec| *codec == Codec::H264);
    list(tools, codec, (None, media), index, cancel).await
}

/// The packets of one stream. Those of H.264 and HEVC are brought to one form, without the
/// parameters, which some formats keep in the set-up data.
pub(crate) async fn list(
    tools: &Tools,
    codec: Option<Codec>,
    (format, media): (Option<&InputFormat>, &Path),
    index: u32,
    cancel: &CancellationToken,
) -> Result<Option<Packets>, MediaError> {
    let mut args = Args::ffmpeg();
    args.arg("-copyts").input(format, media).words(&format!("-map 0:{index} -c copy"));
    match codec {
        Some(Codec::H264) => {
            args.words("-bsf:v h264_mp4toannexb,filter_units=remove_types=7|8|9");
        }
        Some(Codec::Hevc) => {
            args.words("-bsf:v hevc_mp4toannexb,filter_units=remove_types=32|33|34|35");
        }
        _ => {}
    }
    args.words(&format!("-f framehash -hash {HASH} pipe:1"));
    let mut call = Call::new("comparing the packets", &tools.ffmpeg, args);
    call.stdout_bytes_max = 2 * 1024 * 1024 * 1024;
    let captured = run::capture(call, cancel).await?;
    Ok(parse(&String::from_utf8_lossy(&captured.stdout)))
}

/// `None` when a packet has no time, or nothing is there.
fn parse(text: &str) -> Option<Packets> {
    let (mut time_base, mut extradata, mut packets) = (None, String::new(), Vec::new());
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb 0:") {
            time_base = super::ffprobe::ratio(Some(base.trim()));
        } else if let Some(data) = line.strip_prefix("#extradata 0,") {
            extradata = data.trim().to_owned();
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            // stream, dts, pts, duration, size, hash
            let mut fields = line.split(',').map(str::trim);
            let pts = fields.nth(2)?.parse().ok()?;
            let (size, hash) = (fields.nth(1)?, fields.next()?);
            packets.push((pts, format!("{size} {hash}")));
        }
    }
    (!packets.is_empty()).then_some(Packets { time_base: time_base?, extradata, packets })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "#format: frame checksums\n#extradata 0,   36, 42b5\n#tb 0: 1/1000\n\
        0,       -40,          0,       40,     6144, 1c5eb05f\n\
        0,         0,         80,       40,      512, 00000001\n";

    #[test]
    fn packets_are_read() {
        let read = parse(TEXT).unwrap();
        assert_eq!(
            (read.time_base, read.extradata.as_str()),
            (Rational::new(1, 1_000), "36, 42b5")
        );
        let expected = [(0, "6144 1c5eb05f".to_owned()), (80, "512 00000001".to_owned())];
        assert_eq!(read.packets, expected);
    }

    #[test]
    fn packets_without_a_time_tell_nothing() {
        assert_eq!(parse(&TEXT.replace("80,", "NOPTS,")), None);
        assert_eq!(parse("#tb 0: 1/1000\n"), None);
        assert_eq!(parse(""), None);
    }
}
