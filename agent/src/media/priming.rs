//! The priming of Opus, which ffmpeg's Matroska counts twice.
//!
//! Its reader takes a track's codec delay off the timestamps, and its writer notes the delay but
//! does not add it to them: copied Opus comes out too early by its priming, every time again.
//! (Other codecs get no such note when they are written.) How much is measured, so that an ffmpeg
//! that counts right is left alone.

use std::path::Path;

use dmc_protocol::media::{Container, InputFormat};
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::plan::{Origin, Plan};
use super::proof::{HASH, Proof};
use super::run::{self, Args, Call, Tools};
use super::streams::StreamKind;
use super::work::TaskOutput;

/// Far enough from zero that no muxer moves anything.
const AWAY_S: u32 = 100;
/// No codec needs more; anything longer is a mistake in the measuring.
const PRIMING_US_MAX: i64 = 1_000_000;

/// For each stream of the result how much later it must be written to be read at its time, in
/// microseconds. A film whose clock jumps is read in one go, and its copied sound left as it is.
pub(crate) async fn corrections(
    tools: &Tools,
    plan: &Plan,
    source: &Path,
    results: &[TaskOutput],
    desk: &Path,
    cancel: &CancellationToken,
) -> Result<Vec<i64>, MediaError> {
    let mut all = Vec::new();
    for stream in &plan.join.streams {
        let sound = stream.kind == StreamKind::Audio
            && matches!(plan.join.container, Container::Mkv | Container::Mka);
        let from = match &stream.origin {
            Origin::Copy if sound => Some((Some(&plan.source_format), source, stream.source)),
            Origin::Task(task) if sound => {
                results.get(*task as usize).map(|result| (None, result.media.as_path(), 0))
            }
            _ => None,
        };
        all.push(match from {
            Some(from) => measure(tools, from, desk, cancel).await?,
            None => 0,
        });
    }
    Ok(all)
}

/// Copies one packet and looks where it went.
async fn measure(
    tools: &Tools,
    (format, media, stream): (Option<&InputFormat>, &Path, u32),
    desk: &Path,
    cancel: &CancellationToken,
) -> Result<i64, MediaError> {
    let copy = desk.join("priming.mkv");
    let one = format!("-map 0:{stream} -c copy -frames 1 -avoid_negative_ts disabled");
    let mut args = Args::ffmpeg();
    args.words(&format!("-copyts -itsoffset {AWAY_S}")).input(format, media);
    args.words(&format!("{one} -f matroska")).output(&copy);
    args.words(&format!("{one} -f framehash -hash {HASH} pipe:1"));
    let bytes_max = run::room_for(&[media]).await;
    let Some(given) = first_us(tools, args, bytes_max, cancel).await? else { return Ok(0) };
    let mut args = Args::ffmpeg();
    args.arg("-copyts").input(None, &copy);
    args.words(&format!("-map 0 -c copy -f framehash -hash {HASH} pipe:1"));
    let Some(read) = first_us(tools, args, bytes_max, cancel).await? else { return Ok(0) };
    // Matroska counts in milliseconds: less than one says nothing.
    let late_ms = (given - read + 500).div_euclid(1_000);
    let late_us = late_ms * 1_000;
    Ok(if (2_000..PRIMING_US_MAX).contains(&late_us) { late_us } else { 0 })
}

/// The time of the first packet; `None` where it cannot be read, which is for the join to report.
async fn first_us(
    tools: &Tools,
    args: Args,
    file_bytes_max: u64,
    cancel: &CancellationToken,
) -> Result<Option<i64>, MediaError> {
    let mut call = Call::new("measuring the sound's priming", &tools.ffmpeg, args);
    call.file_bytes_max = file_bytes_max;
    let captured = match run::capture(call, cancel).await {
        Ok(captured) => captured,
        Err(error) if error.is_cancelled() => return Err(error),
        Err(_) => return Ok(None),
    };
    let Ok(proof) = Proof::parse(&String::from_utf8_lossy(&captured.stdout)) else {
        return Ok(None);
    };
    Ok(proof.frames.first().map(|frame| proof.time_base.ticks_to_us(frame.pts)))
}
