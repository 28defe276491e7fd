//! A first idea of how fast this machine encodes, before it has done any work.
//!
//! Plain test patterns mislead by half: they cost an encoder less than film does. A zoom into a
//! fractal with grain costs about what film costs.

use std::path::Path;
use std::time::{Duration, Instant};

use dmc_protocol::media::{Capabilities, Encoder, EncoderSpeed, ResolutionBand, WorkClass};
use tokio_util::sync::CancellationToken;

use super::MediaError;
use super::run::{self, Args, Call, Tools};

/// The pictures that are encoded: how large, and how many.
const WIDTH: u32 = 848;
const HEIGHT: u32 = 480;
const FRAMES: u32 = 20;
/// No further encoder is tried after this: a slow machine knows less, and is not kept busy.
const BUDGET: Duration = Duration::from_millis(1_800);
/// An encode that takes longer says enough: the machine is at most this fast.
const WALL: Duration = Duration::from_secs(10);
/// A machine that has not made the clip by then is not measured.
const CLIP_WALL: Duration = Duration::from_secs(20);

/// The encoders of films, the most used first, each at its usual speed.
const USUAL: [Encoder; 3] = [Encoder::Libx265, Encoder::Libx264, Encoder::Libsvtav1];

/// Work units a second of the usual classes, measured in `dir`, which must exist. The first class is
/// measured however slow the machine is: placement takes one that nothing is known of for an average
/// one, and a segment that it gets then is wasted.
///
/// # Errors
/// When the clip cannot be made. An encoder that fails is left out.
pub async fn calibrate(
    tools: &Tools,
    can: &Capabilities,
    dir: &Path,
    token: &CancellationToken,
) -> Result<Vec<(WorkClass, u64)>, MediaError> {
    let (clip, began) = (dir.join("clip.nut"), Instant::now());
    make(tools, &clip, token).await?;
    // What it costs to start ffmpeg and to read the clip is no speed of an encoder.
    let start = time(tools, &clip, &["-c", "copy"], token).await?;
    let mut speeds = Vec::new();
    for encoder in USUAL.into_iter().filter(|encoder| can.encoders.contains_key(encoder)) {
        if began.elapsed() > BUDGET && !speeds.is_empty() {
            break;
        }
        let this = Instant::now();
        let took = match time(tools, &clip, words(encoder), token).await {
            Ok(took) => took,
            Err(_) if this.elapsed() >= WALL && !token.is_cancelled() => WALL,
            Err(_) => continue,
        };
        let seconds = took.saturating_sub(start).as_secs_f64().max(0.001);
        let units = f64::from(WIDTH) * f64::from(HEIGHT) * f64::from(FRAMES);
        let band = ResolutionBand::of(WIDTH, HEIGHT);
        speeds.push((
            WorkClass { encoder, speed: EncoderSpeed::Medium, band },
            (units / seconds) as u64,
        ));
    }
    Ok(speeds)
}

fn words(encoder: Encoder) -> &'static [&'static str] {
    match encoder {
        Encoder::Libx265 => &[
            "-c:v",
            "libx265",
            "-preset",
            "medium",
            "-crf",
            "28",
            "-x265-params",
            "log-level=error",
        ],
        Encoder::Libx264 => &["-c:v", "libx264", "-preset", "medium", "-crf", "23"],
        _ => &["-c:v", "libsvtav1", "-preset", "8", "-crf", "35"],
    }
}

async fn make(tools: &Tools, clip: &Path, token: &CancellationToken) -> Result<(), MediaError> {
    let mut args = Args::ffmpeg();
    args.words("-f lavfi -i").arg(format!(
        "mandelbrot=size={WIDTH}x{HEIGHT}:rate=25:maxiter=200:end_scale=0.0005,\
         noise=alls=10:allf=t:all_seed=7"
    ));
    args.words(&format!("-frames:v {FRAMES} -pix_fmt yuv420p -c:v rawvideo -f nut")).output(clip);
    let mut call = Call::new("making a clip to measure with", &tools.ffmpeg, args);
    call.wall = CLIP_WALL;
    run::capture(call, token).await.map(|_| ())
}

async fn time(
    tools: &Tools,
    clip: &Path,
    codec: &[&str],
    token: &CancellationToken,
) -> Result<Duration, MediaError> {
    let mut args = Args::ffmpeg();
    args.words("-f nut -i").read(clip);
    codec.iter().for_each(|word| {
        args.arg(word);
    });
    args.words("-f null -");
    let mut call = Call::new("measuring an encoder", &tools.ffmpeg, args);
    call.wall = WALL;
    let began = Instant::now();
    run::capture(call, token).await?;
    Ok(began.elapsed())
}
