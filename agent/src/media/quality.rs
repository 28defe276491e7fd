//! How like its source a result is: on samples before a film is encoded, on all of it afterwards.
//!
//! A sample is a few seconds of the film, exactly as the encoder would get them, kept without loss.
//! Trial encodes of samples tell size and likeness of the whole at a hundredth of its time.

mod search;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dmc_protocol::media::options::{Metric, Target};
use dmc_protocol::media::{Encoder, Preset, Quality, VideoSettings, VideoWork};
use tokio_util::sync::CancellationToken;

use super::args::{self, seconds};
use super::error::MediaError;
use super::filters;
use super::hardware;
use super::run::{self, Args, Call, Tools};
use super::streams::Probe;
use crate::machine;
use search::{Step, next};

/// Samples of a film whose quality is searched.
const SAMPLES: u32 = 6;
/// Length of one.
const SAMPLE_S: f64 = 2.0;
/// A film that is not much longer than its samples is one sample.
const WHOLE_S: f64 = 15.0;
/// Longest time to cut a sample, or to encode it.
const WALL: Duration = Duration::from_secs(3600);
/// A keyframe comes about so often in a film; a sample begins with one.
const KEYFRAME_S: f64 = 10.0;

/// The pictures of a trial.
const FIRST: &str = "[0:v]";

/// A part of a film as its encoder gets it.
#[derive(Debug, Clone)]
pub struct Sample {
    file: PathBuf,
    /// Where it begins, in microseconds of the source's time.
    pub at_us: i64,
    /// Its length.
    pub seconds: f64,
}

/// What a trial encode of a sample gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Bytes of the coded pictures, as many as they would be within a film.
    pub bytes: f64,
    /// Frames in it.
    pub frames: u32,
    /// The mean likeness, on the scale of its metric: 0 to 1 for SSIM, 0 to 100 for VMAF.
    pub score: f64,
    /// What the encode took.
    pub seconds: f64,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The constant rate factor.
    pub crf: u8,
    /// The mean likeness of the samples.
    pub score: f64,
    /// The standard error of that mean.
    pub error: f64,
    /// Whether the wanted quality is reached.
    pub reached: bool,
    /// How many factors were tried.
    pub trials: usize,
    /// How many samples there were.
    pub samples: usize,
}

/// Mean and standard error.
pub fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, (spread / n).sqrt())
}

/// The format in which samples are kept: FFV1 knows no interleaved chroma.
fn kept_format(settings: &VideoSettings) -> &str {
    match settings.pix_fmt.name() {
        "nv12" => "yuv420p",
        "p010le" => "yuv420p10le",
        other => other,
    }
}

/// Takes a sample; `None` when no picture is there.
///
/// # Errors
/// When ffmpeg fails or the disk is full.
pub async fn take(
    tools: &Tools,
    (source, probe): (&Path, &Probe),
    work: &VideoWork,
    (at_us, length_s): (i64, f64),
    file: PathBuf,
    cancel: &CancellationToken,
) -> Result<Option<Sample>, MediaError> {
    let Some(pictures) = &probe.pictures else { return Ok(None) };
    let mut args = Args::ffmpeg();
    args.arg("-noautorotate");
    if at_us > probe.start_us {
        args.words("-ss").arg(seconds(at_us.saturating_sub(probe.start_us)));
    }
    args.words(&format!("-t {length_s:.3}")).input(Some(&probe.format), source);
    let graph = filters::chain(work, &format!("[0:{}]settb={}", pictures.index, work.time_base));
    args.arg("-filter_complex").arg(format!("{graph}[e]"));
    args.words(&format!("-map [e] -fps_mode passthrough -enc_time_base {}", work.time_base));
    let format = kept_format(&work.settings);
    args.words(&format!("-pix_fmt {format} -c:v ffv1 -level 3 -g 1 -slices 4 -f nut"));
    args.output(&file);
    let mut call = Call::new("taking a sample", &tools.ffmpeg, args);
    call.wall = WALL;
    call.file_bytes_max = 8 << 30;
    run::capture(call, cancel).await?;
    let bytes = tokio::fs::metadata(&file).await.map_or(0, |meta| meta.len());
    Ok((bytes > 2_000).then_some(Sample { file, at_us, seconds: length_s }))
}

/// Where samples of a film begin: spread evenly, in the middle of equal parts.
pub fn places(probe: &Probe) -> Vec<(i64, f64)> {
    let length_s = probe.duration_us.unwrap_or(0) as f64 / 1e6;
    if length_s <= WHOLE_S {
        return vec![(probe.start_us, WHOLE_S)];
    }
    let part = length_s / f64::from(SAMPLES);
    let at = |n: u32| {
        let second = part * (f64::from(n) + 0.5) - SAMPLE_S / 2.0;
        (probe.start_us.saturating_add((second * 1e6) as i64), SAMPLE_S)
    };
    (0..SAMPLES).map(at).collect()
}

/// Encodes a sample and measures what came out.
///
/// # Errors
/// When ffmpeg fails or the disk is full.
pub async fn trial(
    tools: &Tools,
    sample: &Sample,
    work: &VideoWork,
    metric: Metric,
    cancel: &CancellationToken,
) -> Result<Trial, MediaError> {
    let settings = &work.settings;
    let coded = sample.file.with_extension(args::segment_format(settings.encoder));
    let mut args = Args::ffmpeg();
    args.words(hardware::device(settings.encoder));
    args.words("-protocol_whitelist file -f nut -i").read(&sample.file);
    let upload = hardware::upload(settings).map(|words| format!("[0:v]{words}[e]"));
    match upload {
        Some(graph) => args.arg("-filter_complex").arg(graph).words("-map [e]"),
        None => args.words("-map 0:v:0"),
    };
    args.words("-fps_mode passthrough");
    args::encoder(&mut args, settings, (work.width, work.height));
    args.words(&format!("-f {}", args::segment_format(settings.encoder))).output(&coded);
    let mut call = Call::new("encoding a sample", &tools.ffmpeg, args);
    call.wall = WALL;
    call.file_bytes_max = 8 << 30;
    let began = Instant::now();
    run::capture(call, cancel).await?;
    let took = began.elapsed().as_secs_f64();
    let (bytes, frames) = size(tools, &coded, sample.seconds, cancel).await?;
    let format = kept_format(settings);
    let reference = format!("[1:v]format={format}");
    let mut inputs = Args::default();
    inputs.words("-protocol_whitelist file -i").read(&coded);
    inputs.words("-protocol_whitelist file -f nut -i").read(&sample.file);
    let score = compare(tools, inputs, (format, FIRST, &reference), metric, cancel).await;
    let _ = tokio::fs::remove_file(&coded).await;
    Ok(Trial { bytes, frames, score: score?, seconds: took })
}

/// Bytes of the pictures and how many there are. A film has fewer keyframes than its samples, each of
/// which begins with one: that is taken out.
async fn size(
    tools: &Tools,
    coded: &Path,
    length_s: f64,
    cancel: &CancellationToken,
) -> Result<(f64, u32), MediaError> {
    let mut args = Args::ffprobe();
    args.guards(None).words("-select_streams v:0 -show_entries packet=size -of csv=p=0 -i");
    args.read(coded);
    let call = Call::new("weighing a sample", &tools.ffprobe, args);
    let captured = run::capture(call, cancel).await?;
    let text = String::from_utf8_lossy(&captured.stdout).into_owned();
    let sizes: Vec<f64> =
        text.lines().filter_map(|line| line.trim().trim_end_matches(',').parse().ok()).collect();
    Ok((within_a_film(&sizes, length_s), u32::try_from(sizes.len()).unwrap_or(u32::MAX)))
}

fn within_a_film(sizes: &[f64], length_s: f64) -> f64 {
    let all: f64 = sizes.iter().sum();
    let [first, rest @ ..] = sizes else { return all };
    if rest.is_empty() || length_s >= KEYFRAME_S {
        return all;
    }
    let usual = rest.iter().sum::<f64>() / rest.len() as f64;
    let surplus = (first - usual).max(0.0) * (1.0 - length_s / KEYFRAME_S);
    all - surplus
}

/// The mean likeness of the first input's pictures and the reference, frame by frame.
async fn compare(
    tools: &Tools,
    inputs: Args,
    (format, first, reference): (&str, &str, &str),
    metric: Metric,
    cancel: &CancellationToken,
) -> Result<f64, MediaError> {
    // Frames are told apart by their number: what they show was proven to be the same.
    let count = "settb=1/1000,setpts=N*40";
    let filter = match metric {
        Metric::Ssim => "ssim".to_owned(),
        Metric::Vmaf => {
            let threads = machine::threads();
            format!("libvmaf=n_threads={threads}")
        }
    };
    let graph =
        format!("{first}format={format},{count}[a];{reference},{count}[b];[a][b]{filter}[o]");
    let mut args = Args::default();
    args.words("-nostdin -hide_banner -nostats -loglevel info -y").append(inputs);
    args.arg("-filter_complex").arg(graph).words("-map [o] -f null -");
    let mut call = Call::new("measuring the quality", &tools.ffmpeg, args);
    call.wall = Duration::from_secs(24 * 3600);
    let said = run::with_progress(call, |_| {}, cancel).await?;
    let score = said.lines().rev().find_map(|line| parse(line, metric));
    score.ok_or_else(|| MediaError::wrong("the quality", "ffmpeg told no score"))
}

/// `… SSIM Y:0.97 (15.7) U:… All:0.978 (16.6)` or `… VMAF score: 93.66`.
fn parse(line: &str, metric: Metric) -> Option<f64> {
    let (_, rest) = match metric {
        Metric::Ssim => line.split_once("SSIM ").and_then(|(_, rest)| rest.split_once("All:"))?,
        Metric::Vmaf => line.split_once("VMAF score: ")?,
    };
    rest.split_whitespace().next()?.parse().ok()
}

/// Whether this ffmpeg can measure so, or why not.
///
/// # Errors
/// One sentence, for a person.
pub async fn can_measure(tools: &Tools, metric: Metric) -> Result<(), String> {
    let Metric::Vmaf = metric else { return Ok(()) };
    let mut args = Args::default();
    args.words("-hide_banner -filters");
    let call = Call::new("asking for ffmpeg's filters", &tools.ffmpeg, args);
    let captured = run::capture(call, &CancellationToken::new()).await;
    let text = captured.map(|captured| String::from_utf8_lossy(&captured.stdout).into_owned());
    if text
        .unwrap_or_default()
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some("libvmaf"))
    {
        return Ok(());
    }
    Err("this machine's ffmpeg has no libvmaf; use --target ssim=0.98".to_owned())
}

/// Finds the constant rate factor with which the samples reach a target.
///
/// # Errors
/// When no sample can be taken or encoded.
pub async fn search(
    tools: &Tools,
    samples: &[Sample],
    work: &VideoWork,
    target: Target,
    cancel: &CancellationToken,
) -> Result<Found, MediaError> {
    let most = work.settings.encoder.crf_max().unwrap_or(51);
    let start = match work.settings.quality {
        Quality::Crf(crf) => crf,
        _ => most / 2,
    };
    let (mut work, mut tried) = (work.clone(), Vec::new());
    loop {
        let scores: Vec<(u8, f64)> = tried.iter().map(|(crf, (mean, _))| (*crf, *mean)).collect();
        let (crf, reached) = match next(&scores, target.score(), start, (1, most)) {
            Step::Try(crf) => {
                work.settings.quality = Quality::Crf(crf);
                let mut scores = Vec::new();
                for sample in samples {
                    scores.push(trial(tools, sample, &work, target.metric, cancel).await?.score);
                }
                tracing::debug!(crf, score = mean(&scores).0, "a trial for {target}");
                tried.push((crf, mean(&scores)));
                continue;
            }
            Step::Found(crf) => (crf, true),
            Step::OutOfReach(crf) => (crf, false),
        };
        let found = tried.iter().find(|(tried, _)| *tried == crf);
        let (score, error) = found.map_or((0.0, 0.0), |(_, score)| *score);
        let (trials, samples) = (tried.len(), samples.len());
        return Ok(Found { crf, score, error, reached, trials, samples });
    }
}

/// Takes samples of a film and searches; the preset with what was found, and the words for people.
///
/// # Errors
/// As [`search`].
pub async fn settle(
    tools: &Tools,
    (source, probe): (&Path, &Probe),
    (preset, work): (&Preset, &VideoWork),
    desk: &Path,
    cancel: &CancellationToken,
) -> Result<(Preset, String), MediaError> {
    let Some(target) = preset.options.target else {
        return Ok((preset.clone(), String::new()));
    };
    tokio::fs::create_dir_all(desk).await.map_err(|e| MediaError::io("write", desk, e))?;
    let mut samples = Vec::new();
    for (number, place) in places(probe).into_iter().enumerate() {
        let file = desk.join(format!("sample{number}.nut"));
        samples.extend(take(tools, (source, probe), work, place, file, cancel).await?);
    }
    if samples.is_empty() {
        return Err(MediaError::wrong("the film", "no sample of it could be decoded"));
    }
    let found = search(tools, &samples, work, target, cancel).await?;
    let mut settled = preset.clone();
    settled.quality = Quality::Crf(found.crf);
    let Found { crf, score, error, trials, samples, .. } = found;
    let encoder: Encoder = work.settings.encoder;
    let mut words = format!(
        "{target} wanted: crf {crf} of {encoder} was found by {trials} trials of {samples} samples \
         on this machine; predicted {} {score:.4} ± {error:.4}",
        target.metric
    );
    if !found.reached {
        words.push_str("; the encoder cannot do better");
    }
    Ok((settled, words))
}

/// The likeness of a whole result and its source.
///
/// # Errors
/// When ffmpeg fails.
pub async fn whole(
    tools: &Tools,
    (source, probe): (&Path, &Probe),
    (work, result): (&VideoWork, &Path),
    metric: Metric,
    cancel: &CancellationToken,
) -> Result<f64, MediaError> {
    let made = super::probe::probe(tools, result).await?;
    let (Some(pictures), Some(ours)) = (&probe.pictures, &made.pictures) else {
        return Err(MediaError::wrong("the result", "it has no pictures"));
    };
    let format = kept_format(&work.settings);
    let head = format!("[1:{}]settb={}", pictures.index, work.time_base);
    let reference = format!("{},format={format}", filters::chain(work, &head));
    let mut inputs = Args::default();
    inputs.arg("-noautorotate").input(Some(&made.format), result);
    inputs.arg("-noautorotate").input(Some(&probe.format), source);
    let first = format!("[0:{}]", ours.index);
    compare(tools, inputs, (format, &first, &reference), metric, cancel).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read() {
        let line = "[Parsed_ssim_4 @ 0x55] SSIM Y:0.976541 (16.298113) U:0.98 (18) V:0.98 (18) \
                    All:0.978123 (16.600000)";
        assert_eq!(parse(line, Metric::Ssim), Some(0.978_123));
        assert_eq!(parse(line, Metric::Vmaf), None);
        let line = "[Parsed_libvmaf_2 @ 0x5] VMAF score: 93.656012";
        assert_eq!(parse(line, Metric::Vmaf), Some(93.656_012));
    }

    #[test]
    fn the_keyframe_of_a_sample_counts_for_its_part_of_a_film() {
        let sizes = [110.0, 10.0, 10.0, 10.0, 10.0];
        assert!((within_a_film(&sizes, 2.0) - 70.0).abs() < 1e-9);
        assert!((within_a_film(&sizes, 10.0) - 150.0).abs() < 1e-9);
        assert!((within_a_film(&[5.0, 10.0], 1.0) - 15.0).abs() < 1e-9);
    }

    #[test]
    fn a_mean_knows_how_sure_it_is() {
        let (mean, error) = mean(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-9 && (error - (1.0_f64 / 3.0).sqrt()).abs() < 1e-9);
        assert_eq!(super::mean(&[4.0]), (4.0, 0.0));
    }
}
