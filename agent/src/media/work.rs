//! Runs one task at a worker.

use std::path::{Path, PathBuf};

use dmc_protocol::media::{TaskSpec, VideoWork};
use tokio_util::sync::CancellationToken;

use super::alpha;
use super::args;
use super::args_single;
use super::boxes;
use super::error::MediaError;
use super::run::{self, Args, Call, Progress, Tools};
use super::verify;
use super::verify_still;

/// What a task made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskOutput {
    /// The encoded pictures, sound or picture.
    pub media: PathBuf,
    /// The proof: the frames (or the hash of the samples) that were decoded.
    pub proof: PathBuf,
}

/// Runs one task in `work_dir`, which must exist, and looks at what came out.
///
/// # Errors
/// [`MediaError::Spec`] for a spec that must not be run, [`MediaError::Unproven`] when the source
/// cannot be entered exactly there, [`MediaError::Failed`] when ffmpeg fails.
pub async fn run_task(
    tools: &Tools,
    spec: &TaskSpec,
    input: &Path,
    work_dir: &Path,
    look: verify::Look,
    progress: impl FnMut(Progress) + Send,
    cancel: &CancellationToken,
) -> Result<(TaskOutput, verify::Checked), MediaError> {
    spec.validate()?;
    let output = TaskOutput {
        media: work_dir.join(format!("media.{}", extension(spec))),
        proof: work_dir.join("proof.txt"),
    };
    let alpha_file = alpha_path(&output);
    // What comes before the first input belongs to it.
    let mut args = alpha::options(tools, spec, input, cancel).await?;
    args.append(arguments(spec, input, &output));
    let mut call = Call::new(step(spec), &tools.ffmpeg, args);
    call.file_bytes_max = bytes_max(spec);
    run::with_progress(call, progress, cancel).await?;
    if let TaskSpec::Still(task) = spec {
        verify_still::wrap(task, &output.media, &alpha_file).await?;
    }
    let marked = match spec.video() {
        Some(video) => boxes::mark(&output.media, &video.settings).await,
        None => Ok(()),
    };
    match verify::check(tools, spec, &output, (input, work_dir, look), cancel).await? {
        verify::Verdict::Good(checked) => marked.map(|()| (output, checked)),
        // A result without any frame cannot be marked either; its proof says why it is empty.
        verify::Verdict::Unproven(why) => Err(MediaError::Unproven { why }),
        verify::Verdict::Damaged(why) => Err(MediaError::wrong("the encoded result", why)),
    }
}

pub(super) fn arguments(spec: &TaskSpec, input: &Path, output: &TaskOutput) -> Args {
    let (media, proof) = (&output.media, &output.proof);
    match spec {
        TaskSpec::Segment(task) => args::segment(task, input, media, proof),
        TaskSpec::Whole(task) => args::whole(task, input, media, proof),
        TaskSpec::Audio(task) => args::audio(task, input, media, proof),
        TaskSpec::Image(task) => args::image(task, input, media, proof),
        TaskSpec::Still(task) => args_single::still(task, input, media, &alpha_path(output), proof),
        TaskSpec::Sound(task) => args_single::sound(task, input, media, proof),
    }
}

/// Where the transparency of a picture is coded, while it is not yet in one file with the colours.
fn alpha_path(output: &TaskOutput) -> PathBuf {
    output.media.with_file_name("alpha.obu")
}

fn extension(spec: &TaskSpec) -> &'static str {
    match spec {
        TaskSpec::Segment(task) => args::segment_format(task.video.settings.encoder),
        TaskSpec::Whole(task) => args::segment_format(task.video.settings.encoder),
        TaskSpec::Audio(task) => args::audio_format(task.encoder),
        TaskSpec::Image(_) => "png",
        TaskSpec::Still(task) => task.encoder.codec().name(),
        TaskSpec::Sound(task) => task.encoder.codec().name(),
    }
}

fn step(spec: &TaskSpec) -> &'static str {
    match spec {
        TaskSpec::Segment(_) => "encoding a segment",
        TaskSpec::Whole(_) => "encoding the film",
        TaskSpec::Audio(_) => "encoding sound",
        TaskSpec::Image(_) | TaskSpec::Still(_) => "converting a picture",
        TaskSpec::Sound(_) => "encoding sound",
    }
}

/// No honest result is larger: a runaway encoder must not fill the disk.
pub(super) fn bytes_max(spec: &TaskSpec) -> u64 {
    const FLOOR: u64 = 256 * 1024 * 1024;
    let raw = |video: &VideoWork| {
        let frames = spec.frames().unwrap_or(u64::MAX).saturating_mul(2).saturating_add(1_000);
        let pixels = u64::from(video.width) * u64::from(video.height);
        // Four components of two bytes are as large as a frame can be.
        frames.saturating_mul(pixels.saturating_mul(8).saturating_add(4_096))
    };
    match spec {
        TaskSpec::Audio(task) => {
            let samples = spec.work_units();
            samples.saturating_mul(8).saturating_add(u64::from(task.bps)).saturating_add(FLOOR)
        }
        TaskSpec::Image(task) => u64::from(task.width) * u64::from(task.height) * 10 + FLOOR,
        TaskSpec::Still(_) | TaskSpec::Sound(_) => {
            // Ten times what a picture has as plain bytes is far above what any encoder makes of it.
            spec.work_units().saturating_mul(10).saturating_add(FLOOR)
        }
        TaskSpec::Segment(task) => raw(&task.video).max(FLOOR),
        TaskSpec::Whole(task) => raw(&task.video).max(FLOOR),
    }
}
