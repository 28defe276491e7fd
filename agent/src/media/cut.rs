//! Cuts the piece of a segment out of a source, without decoding anything.

use std::path::Path;
use std::time::Duration;

use dmc_protocol::media::InputFormat;
use tokio_util::sync::CancellationToken;

use super::args::seconds;
use super::error::MediaError;
use super::plan::{Cut, Plan};
use super::run::{self, Args, Call, Tools};

/// Longest time to cut a piece.
const WALL: Duration = Duration::from_secs(3600);

/// What a piece is cut from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CutSource {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in it.
    pub stream: u32,
}

/// Writes the piece of one task to `out`.
///
/// # Errors
/// When the task has no piece, the source cannot be read or `out` cannot be written.
pub async fn cut_piece(
    tools: &Tools,
    source: &Path,
    plan: &Plan,
    task: u32,
    out: &Path,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    let cut = plan.cuts.get(task as usize).and_then(Option::as_ref);
    let (Some(cut), Some(from)) = (cut, &plan.cut_source) else {
        return Err(MediaError::wrong("the plan", format!("task {task} has no piece to cut")));
    };
    let args = args(cut, from, source, out);
    let mut call = Call::new("cutting a piece", &tools.ffmpeg, args);
    call.wall = WALL;
    call.file_bytes_max = run::room_for(&[source]).await;
    run::with_progress(call, |_| {}, cancel).await?;
    let bytes = tokio::fs::metadata(out).await.map_err(|e| MediaError::io("read", out, e))?.len();
    // A cut-off source gives less than its index promised only if it changed since.
    if bytes < cut.bytes / 2 {
        let why = format!("a piece has {bytes} bytes instead of {}", cut.bytes);
        let next = "It seems to have changed while it was converted: start the job again";
        return Err(MediaError::refused(source, why, next));
    }
    Ok(())
}

fn args(cut: &Cut, from: &CutSource, source: &Path, out: &Path) -> Args {
    let mut args = Args::ffmpeg();
    args.arg("-copyts");
    if let Some(seek_us) = cut.seek_us {
        args.words("-noaccurate_seek -seek_timestamp 1 -ss").arg(seconds(seek_us));
    }
    args.input(Some(&from.format), source);
    args.words(&format!("-map 0:{} -c copy -copypriorss 1", from.stream));
    let start = cut.pos_start.map(|pos| format!("lt(pos,{pos})"));
    let end = cut.pos_end.map(|pos| format!("gte(pos,{pos})"));
    let drop: Vec<String> = start.into_iter().chain(end).collect();
    if !drop.is_empty() {
        args.arg("-bsf:v").arg(format!("noise=drop='{}'", drop.join("+")));
    }
    // Counted behind the filter: ffmpeg stops reading when the piece is full.
    args.words(&format!("-frames:v {}", cut.packets));
    args.words("-map_metadata -1 -map_chapters -1 -avoid_negative_ts disabled");
    args.words(&format!("-output_ts_offset {} -f nut", cut.shift_s)).output(out);
    args
}
