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
    pub packets: Vec<Packet>,
}

/// When it is shown; its size and its hash.
type Packet = (i64, String);

/// How the muxer writes that there is no timestamp.
const NO_PTS: i64 = i64::MIN;
/// Parts that one program reads, and their bytes unless one alone has more.
const AT_ONCE: usize = 16;
const BYTES_AT_ONCE: u64 = 256 << 20;

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
    let codec = Some(plan.preset.encoder.codec()).filter(|codec| *codec == Codec::H264);
    let whole = list(tools, codec, (None, joined), index, cancel).await?;
    let (Some(whole), Some(media)) = (whole, media_of_parts(plan, parts)) else {
        return Ok(None);
    };
    let mut rest = whole.packets.as_slice();
    let mut media = media.as_slice();
    while !media.is_empty() {
        let (now, later) = media.split_at(at_once(media).await?);
        media = later;
        let files: Vec<(&Path, u32)> = now.iter().map(|media| (*media, 0)).collect();
        for part in list_all(tools, codec, None, &files, cancel).await? {
            let Some(after) = part.and_then(|part| part.begins(rest, &whole.extradata)) else {
                return Ok(None);
            };
            rest = after;
        }
    }
    if !rest.is_empty() {
        return Ok(None);
    }
    let frames = whole.packets.iter().map(|&(pts, _)| Frame { pts, hash: 0 }).collect();
    Ok(Some(Proof { time_base: whole.time_base, frames }))
}

/// The files of the plan's video tasks, in their order; `None` when one is missing.
fn media_of_parts<'a>(plan: &Plan, parts: &'a [TaskOutput]) -> Option<Vec<&'a Path>> {
    plan.video_tasks()
        .into_iter()
        .map(|task| parts.get(task as usize).map(|part| &*part.media))
        .collect()
}

/// How many of the first files one program reads.
async fn at_once(media: &[&Path]) -> Result<usize, MediaError> {
    let mut bytes = 0;
    for (at, file) in media.iter().take(AT_ONCE).enumerate() {
        let of = tokio::fs::metadata(file).await.map_err(|e| MediaError::io("read", file, e))?;
        bytes += of.len();
        if bytes > BYTES_AT_ONCE {
            return Ok(at.max(1));
        }
    }
    Ok(media.len().min(AT_ONCE))
}

impl Packets {
    /// What follows in the file after these packets, when it goes on with them now, and has the same
    /// set-up data.
    fn begins<'a>(&self, file: &'a [Packet], extradata: &str) -> Option<&'a [Packet]> {
        let (these, after) = file.split_at_checked(self.packets.len())?;
        let same = these.iter().zip(&self.packets).all(|(joined, part)| joined.1 == part.1);
        (same && self.extradata == extradata).then_some(after)
    }
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
    let all = list_all(tools, codec, format, &[(media, index)], cancel).await?;
    Ok(all.into_iter().next().flatten())
}

/// [`list`] of a stream of each file, in their order. One program reads them all: starting it takes
/// longer than reading a part.
async fn list_all(
    tools: &Tools,
    codec: Option<Codec>,
    format: Option<&InputFormat>,
    files: &[(&Path, u32)],
    cancel: &CancellationToken,
) -> Result<Vec<Option<Packets>>, MediaError> {
    let mut args = Args::ffmpeg();
    args.arg("-copyts");
    for (media, _) in files {
        args.input(format, media);
    }
    for (at, (_, index)) in files.iter().enumerate() {
        args.words(&format!("-map {at}:{index}"));
    }
    args.words("-c copy");
    match codec {
        Some(Codec::H264) => {
            args.words("-bsf:v h264_mp4toannexb,filter_units=remove_types=7|8|9");
        }
        Some(Codec::Hevc) => {
            args.words("-bsf:v hevc_mp4toannexb,filter_units=remove_types=32|33|34|35");
        }
        _ => {}
    }
    // Parts have different lengths; without this the muxer keeps ten seconds of all others when one
    // has ended, which is gigabytes of lossless pictures. Nought would mean no limit.
    args.words(&format!("-max_interleave_delta 1 -f framehash -hash {HASH} pipe:1"));
    let mut call = Call::new("comparing the packets", &tools.ffmpeg, args);
    call.stdout_bytes_max = 2 * 1024 * 1024 * 1024;
    let captured = run::capture(call, cancel).await?;
    let text = String::from_utf8_lossy(&captured.stdout);
    Ok((0..files.len()).map(|at| parse(&text, at)).collect())
}

/// The packets of one of the streams; `None` when one has no time, or nothing is there.
fn parse(text: &str, stream: usize) -> Option<Packets> {
    let (base, data, packet) =
        (format!("#tb {stream}:"), format!("#extradata {stream},"), stream.to_string());
    let (mut time_base, mut extradata, mut packets) = (None, String::new(), Vec::new());
    for line in text.lines() {
        if let Some(base) = line.strip_prefix(&base) {
            time_base = super::ffprobe::ratio(Some(base.trim()));
        } else if let Some(data) = line.strip_prefix(&data) {
            extradata = data.trim().to_owned();
        } else if !line.starts_with('#') && !line.trim().is_empty() {
            // stream, dts, pts, duration, size, hash
            let mut fields = line.split(',').map(str::trim);
            if fields.next()? != packet {
                continue;
            }
            let pts = fields.nth(1)?.parse().ok().filter(|pts| *pts != NO_PTS)?;
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
        #extradata 1,   36, 42b6\n#tb 1: 1/25\n\
        0,       -40,          0,       40,     6144, 1c5eb05f\n\
        1,         0,          0,        1,       99, 00000002\n\
        0,         0,         80,       40,      512, 00000001\n";

    #[test]
    fn packets_are_read() {
        let read = parse(TEXT, 0).unwrap();
        assert_eq!(
            (read.time_base, read.extradata.as_str()),
            (Rational::new(1, 1_000), "36, 42b5")
        );
        let expected = [(0, "6144 1c5eb05f".to_owned()), (80, "512 00000001".to_owned())];
        assert_eq!(read.packets, expected);
        let second = parse(TEXT, 1).unwrap();
        assert_eq!((second.time_base, second.packets.len()), (Rational::new(1, 25), 1));
        assert_eq!(parse(TEXT, 2), None);
    }

    #[test]
    fn a_part_is_where_its_packets_are_and_its_set_up_is_the_same() {
        let part = parse(TEXT, 0).unwrap();
        let mut file = part.packets.clone();
        file.push((120, "7 00000003".to_owned()));
        assert_eq!(part.begins(&file, "36, 42b5"), Some(&file[2..]));
        assert_eq!(part.begins(&file, "36, 42b6"), None, "other parameters");
        assert_eq!(part.begins(&file[1..], "36, 42b5"), None, "not the next ones");
        assert_eq!(part.begins(&file[..1], "36, 42b5"), None, "the last is missing");
        file[1].1 = "512 00000009".to_owned();
        assert_eq!(part.begins(&file, "36, 42b5"), None, "a byte differs");
    }

    #[test]
    fn packets_without_a_time_tell_nothing() {
        assert_eq!(parse(&TEXT.replace("80,", "-9223372036854775808,"), 0), None);
        assert_eq!(parse("#tb 0: 1/1000\n", 0), None);
        assert_eq!(parse("", 0), None);
    }
}
