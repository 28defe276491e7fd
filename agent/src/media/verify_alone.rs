//! Checks sound that stands alone: as many samples as went in, as loud as its source second by
//! second in every channel, with its tags and covers.

use std::path::Path;

use dmc_protocol::media::{Encoder, SoundTask};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::args::AUDIO_CHUNK;
use super::args_single::sound_chain;
use super::error::MediaError;
use super::plan::Plan;
use super::run::{self, Args, Call, Tools};
use super::streams::{Probe, StreamKind};
use super::verify::{Checked, Look, Verdict};
use super::work::TaskOutput;

/// A list of samples, one line each ten seconds, may be so long.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// The last AAC packet is decoded whole; how much of it counts is in the container.
const AAC_PACKET: u64 = 1_024;
/// Softer than this is silence, in decibels.
const SILENCE_DB: f64 = -50.0;
/// How much louder or softer a second may be.
const LOUDNESS_DB_MAX: f64 = 6.0;
/// The channel of low tones, of which encoders drop much.
const LOW_TONES: usize = 3;
/// What people know a piece of music by.
const NAMES: [&str; 3] = ["title", "artist", "album"];

/// Checks one encoded stream.
pub(crate) async fn check(
    tools: &Tools,
    task: &SoundTask,
    output: &TaskOutput,
    (source, look): (&Path, Look),
    cancel: &CancellationToken,
) -> Result<Verdict, MediaError> {
    let promised = promised(task, &output.proof).await?;
    if let Err(why) = counted(tools, task, promised, &output.media, cancel).await? {
        return Ok(Verdict::Damaged(why));
    }
    if look == Look::Frames {
        let loud = loudness(tools, task, source, &output.media, cancel).await?;
        if let Some(why) = loud {
            return Ok(Verdict::Damaged(why));
        }
    }
    Ok(Verdict::Good(Checked { frames: 0, extradata: String::new() }))
}

async fn promised(task: &SoundTask, proof: &Path) -> Result<u64, MediaError> {
    let io = |error| MediaError::io("read", proof, error);
    if tokio::fs::metadata(proof).await.map_err(io)?.len() > LIST_BYTES_MAX {
        return Err(MediaError::wrong("the list of samples", "it is too long"));
    }
    let list = tokio::fs::read(proof).await.map_err(io)?;
    samples(task, &String::from_utf8_lossy(&list))
        .ok_or_else(|| MediaError::wrong("the list of samples", "it makes no sense"))
}

/// The samples of a list: `stream, dts, pts, duration, bytes, hash`.
fn samples(task: &SoundTask, list: &str) -> Option<u64> {
    let rows = list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let mut bytes = 0_u64;
    for row in rows {
        bytes = bytes.checked_add(row.split(',').nth(4)?.trim().parse().ok()?)?;
    }
    Some(bytes / (2 * u64::from(task.channels.max(1))))
}

/// Whether a file has that many samples; its end is not cut, and nothing is added.
async fn counted(
    tools: &Tools,
    task: &SoundTask,
    want: u64,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Result<(), String>, MediaError> {
    let mut args = Args::ffmpeg();
    args.arg("-xerror").input(None, media);
    args.words(&format!("-map 0:a:0 -af {AUDIO_CHUNK} -c:a pcm_s16le"));
    args.words("-f framehash -hash crc32 pipe:1");
    let call = Call::new("decoding the sound", &tools.ffmpeg, args);
    let list = run::capture(call, cancel).await?.stdout;
    let have = samples(task, &String::from_utf8_lossy(&list)).unwrap_or(0);
    let wrong = |have: u64| Ok(Err(format!("it has {have} samples instead of {want}")));
    if task.encoder != Encoder::Aac {
        return if have == want { Ok(Ok(())) } else { wrong(have) };
    }
    if !(want..want + AAC_PACKET).contains(&have) {
        return wrong(have);
    }
    let said = length(tools, task, media, cancel).await?;
    if said == Some(want) { Ok(Ok(())) } else { wrong(said.unwrap_or(0)) }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    streams: Vec<Length>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Length {
    duration_ts: Option<u64>,
    time_base: Option<String>,
}

/// How many samples the container says that count.
async fn length(
    tools: &Tools,
    task: &SoundTask,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Option<u64>, MediaError> {
    let mut args = Args::ffprobe();
    args.guards(None).words("-select_streams a:0 -show_entries stream=duration_ts,time_base");
    args.words("-of json -i").read(media);
    let call = Call::new("reading the sound's length", &tools.ffprobe, args);
    let captured = run::capture(call, cancel).await?;
    let document: Document = serde_json::from_slice(&captured.stdout)
        .map_err(|error| MediaError::wrong("the sound's length", error.to_string()))?;
    let Some(stream) = document.streams.first() else { return Ok(None) };
    let base = super::ffprobe::ratio(stream.time_base.as_deref());
    Ok(stream.duration_ts.filter(|_| base.is_some_and(|base| base.den == task.sample_rate)))
}

/// How loud a second is in each channel, in decibels.
type Second = Vec<f64>;

/// Why the sound is not the source's; `None` when it is.
async fn loudness(
    tools: &Tools,
    task: &SoundTask,
    source: &Path,
    media: &Path,
    cancel: &CancellationToken,
) -> Result<Option<String>, MediaError> {
    let measured = format!(
        "asetnsamples=n={}:p=0,astats=metadata=1:reset=1:measure_perchannel=RMS_level:\
         measure_overall=none,ametadata=mode=add:key=side:value=",
        task.sample_rate
    );
    let (stream, chain) = (task.stream, sound_chain(task));
    let mut args = Args::ffmpeg();
    args.input(Some(&task.format), source).input(None, media);
    args.arg("-filter_complex").arg(format!(
        "[0:{stream}]{chain},{measured}a[a];[1:a:0]{chain},{measured}b[b];\
         [a][b]ainterleave,ametadata=mode=print:file=-,asetpts=N/SR/TB[x]"
    ));
    args.words("-map [x] -f null -");
    let call = Call::new("comparing the sound with its source", &tools.ffmpeg, args);
    let said = run::capture(call, cancel).await?.stdout;
    let (want, have) = seconds(&String::from_utf8_lossy(&said));
    Ok(unlike(&want, &have))
}

/// The seconds of the source and of the result, from what `ametadata` prints.
fn seconds(said: &str) -> (Vec<Second>, Vec<Second>) {
    let (mut a, mut b, mut second) = (Vec::new(), Vec::new(), Second::new());
    for line in said.lines() {
        if line.starts_with("frame:") {
            second.clear();
        } else if let Some((_, level)) = line.split_once(".RMS_level=") {
            second.push(level.trim().parse().unwrap_or(f64::NEG_INFINITY).max(SILENCE_DB));
        } else if let Some(side) = line.strip_prefix("side=") {
            let list = if side.trim() == "a" { &mut a } else { &mut b };
            list.push(std::mem::take(&mut second));
        }
    }
    (a, b)
}

fn unlike(want: &[Second], have: &[Second]) -> Option<String> {
    if want.is_empty() || want.len().abs_diff(have.len()) > 1 {
        return Some(format!("{} of its {} seconds are there", have.len(), want.len()));
    }
    let channels = want.first().map_or(0, Vec::len);
    // The last second is a part of one.
    let whole = want.len().saturating_sub(1).max(1);
    for channel in (0..channels).filter(|n| channels < 6 || *n != LOW_TONES) {
        let others = want.iter().zip(have).take(whole).filter(|(want, have)| {
            let level = |second: &Second| second.get(channel).copied().unwrap_or(f64::NAN);
            let off = (level(want) - level(have)).abs();
            off.is_nan() || off > LOUDNESS_DB_MAX
        });
        let others = others.count();
        if others * 4 > whole {
            let number = channel + 1;
            return Some(format!("channel {number} sounds otherwise in {others} of {whole} s"));
        }
    }
    None
}

/// Checks the whole file: samples, names, covers.
///
/// # Errors
/// [`MediaError::Wrong`] with what is not right.
pub(crate) async fn verify(
    tools: &Tools,
    (plan, probe, source): (&Plan, &Probe, &Path),
    (task, output): (&SoundTask, &TaskOutput),
    out: &Path,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let wrong = |why: String| MediaError::wrong("the joined file", why);
    let promised = promised(task, &output.proof).await?;
    counted(tools, task, promised, out, cancel).await?.map_err(wrong)?;
    let made = super::probe::made(tools, out).await?;
    for name in NAMES {
        let (was, is) = (named(probe, name), named(&made, name));
        if was.is_some() && was.map(str::trim) != is.map(str::trim) {
            return Err(wrong(format!("its {name} is {is:?} instead of {was:?}")));
        }
    }
    let kept = plan.join.streams.iter().filter(|stream| stream.kind == StreamKind::Cover);
    for (stream, cover) in kept.zip(made.streams_of(StreamKind::Cover)) {
        let was = packets(tools, source, stream.source, cancel).await?;
        if was != packets(tools, out, cover.index, cancel).await? {
            return Err(wrong("its cover is another picture".to_owned()));
        }
    }
    Ok(())
}

/// A tag of the file, or of its sound where the format keeps them there.
fn named<'a>(probe: &'a Probe, name: &str) -> Option<&'a str> {
    let of_file = probe.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    let of_file = of_file.map(|(_, value)| value.as_str());
    of_file.or_else(|| probe.streams_of(StreamKind::Audio).find_map(|stream| stream.tag(name)))
}

/// The hash of a stream's packets.
async fn packets(
    tools: &Tools,
    file: &Path,
    stream: u32,
    cancel: &CancellationToken,
) -> Result<Vec<u8>, MediaError> {
    let mut args = Args::ffmpeg();
    args.input(None, file);
    args.words(&format!("-map 0:{stream} -c copy -f hash -hash md5 pipe:1"));
    let call = Call::new("reading the cover", &tools.ffmpeg, args);
    Ok(run::capture(call, cancel).await?.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_by_side() {
        let said = "frame:0    pts:0       pts_time:0\nlavfi.astats.1.RMS_level=-20.5\n\
                    lavfi.astats.2.RMS_level=-inf\nside=a\nframe:1 pts:0\n\
                    lavfi.astats.1.RMS_level=-21\nlavfi.astats.2.RMS_level=-80\nside=b\n";
        let (a, b) = seconds(said);
        assert_eq!(
            (a.as_slice(), b.as_slice()),
            (&[vec![-20.5, -50.0]][..], &[vec![-21.0, -50.0]][..])
        );
        assert_eq!(unlike(&a, &b), None);
    }

    #[test]
    fn other_sound_is_refused() {
        let loud = vec![vec![-20.0, -20.0]; 8];
        let silent = vec![vec![-20.0, -50.0]; 8];
        assert!(unlike(&loud, &silent).unwrap().contains("channel 2"));
        assert!(unlike(&loud, &loud[..5]).is_some(), "cut off");
        assert!(unlike(&[], &[]).is_some(), "nothing was compared");
        assert!(unlike(&loud, &vec![vec![-20.0]; 8]).is_some(), "a channel is gone");
    }
}
