//! Decides, without doing anything, how a source becomes its result. Pure.

use std::path::Path;

use dmc_protocol::media::{Container, Encoder, InputFormat, MediaKind, Preset, TaskSpec};
use serde::{Deserialize, Serialize};

use super::cut::CutSource;
use super::error::MediaError;
use super::index::Index;
use super::keep;
use super::remux;
use super::segments;
use super::shape;
use super::single;
use super::streams::{Orientation, Probe, StreamKind};
use super::video;

/// What the mesh knows and the file does not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlanHints {
    /// Wanted length of a segment in seconds.
    pub segment_target_s: f64,
    /// Whether the place where a picture was taken is removed from its metadata.
    pub strip_gps: bool,
}

impl Default for PlanHints {
    fn default() -> PlanHints {
        PlanHints { segment_target_s: 10.0, strip_gps: false }
    }
}

/// How the pictures of a file are shared out, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// Cut into pieces with pre-roll.
    Pieces,
    /// Every worker gets the whole source and enters it near its segment.
    Seek,
    /// One worker does all.
    Whole,
    /// Nothing is encoded but perhaps sound.
    Remux,
    /// One still picture.
    Image,
}

/// How a piece is cut from the source. Byte positions choose the packets: they name the same ones
/// whatever the seek finds first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// Where to enter the source, in microseconds of its time; `None` for the start.
    pub seek_us: Option<i64>,
    /// First byte position of the piece; `None` for the start.
    pub pos_start: Option<u64>,
    /// First byte position after the piece; `None` for the end.
    pub pos_end: Option<u64>,
    /// Packets in the piece.
    pub packets: u64,
    /// Bytes in the piece, about.
    pub bytes: u64,
    /// How much later its timestamps are, in seconds.
    pub shift_s: u32,
}

/// A task and how its piece is cut, where it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// What the worker does.
    pub spec: TaskSpec,
    /// How its piece is cut.
    pub cut: Option<Cut>,
}

/// What to do after a task whose result was not right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
pub enum Demotion {
    /// Try this instead; see [`Plan::replace`].
    Retry(Replacement),
    /// Start over with this plan: one worker, the whole file. Results so far do not count.
    WholeFile(Box<Plan>),
    /// There is no lower rung.
    GiveUp,
}

/// Where a stream of the result comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The encoded pictures.
    Pictures,
    /// Copied from the source.
    Copy,
    /// The result of a task, by its position in the plan.
    Task(u32),
    /// The source's subtitles as another kind, by ffmpeg's name of the encoder.
    Subtitle(String),
    /// A cover picture that becomes an attached file with that name and type.
    CoverFile {
        /// File name inside the result.
        name: String,
        /// MIME type.
        mime: String,
    },
}

/// One stream of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutStream {
    /// Index of the source's stream.
    pub source: u32,
    /// What it is.
    pub kind: StreamKind,
    /// How it is made.
    pub origin: Origin,
    /// Tags to write.
    pub tags: Vec<(String, String)>,
    /// Dispositions to set.
    pub dispositions: Vec<String>,
}

/// How the results become one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSpec {
    /// The file format.
    pub container: Container,
    /// The streams, in order.
    pub streams: Vec<OutStream>,
    /// Turn to write into the container, where it can hold one.
    pub orientation: Orientation,
    /// The source's clock jumps, see [`dmc_protocol::media::WholeTask::continuous`].
    pub continuous: bool,
    /// Whether the place where a picture was taken is removed from its metadata.
    pub strip_gps: bool,
}

/// A job's tasks and what becomes of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the result is.
    pub kind: MediaKind,
    /// How the pictures are shared out.
    pub rung: Rung,
    /// The settings that were asked for.
    pub preset: Preset,
    /// The tasks; segments first, in order. May be empty: then there is only joining to do.
    pub tasks: Vec<TaskSpec>,
    /// For each task how its piece is cut, where it has one.
    pub cuts: Vec<Option<Cut>>,
    /// What the pieces are cut from.
    pub cut_source: Option<CutSource>,
    /// The source's file format.
    pub source_format: InputFormat,
    /// For each audio stream that is encoded: its index in the source, and how much later than the
    /// source it starts, in microseconds.
    pub delays: Vec<(u32, i64)>,
    /// How the results become one file.
    pub join: JoinSpec,
    /// What the result cannot hold or will not be: said before work starts.
    pub notes: Vec<String>,
    /// Why a lower rung was taken.
    pub reasons: Vec<String>,
    /// About how large the result will be.
    pub output_bytes_estimate: u64,
    /// Length in microseconds.
    pub duration_us: u64,
    /// The source's start time in microseconds.
    pub start_us: i64,
    /// Whether every pixel must equal the source's.
    pub lossless: bool,
}

impl Plan {
    /// Takes over another way to do one task.
    pub fn replace(&mut self, task: u32, replacement: Replacement) {
        let at = task as usize;
        if let (Some(spec), Some(cut)) = (self.tasks.get_mut(at), self.cuts.get_mut(at)) {
            *spec = replacement.spec;
            *cut = replacement.cut;
        }
    }

    /// How much later than the source an encoded audio stream starts, in microseconds.
    pub(crate) fn delay_us(&self, stream: u32) -> i64 {
        self.delays.iter().find(|(index, _)| *index == stream).map_or(0, |(_, delay)| *delay)
    }

    /// The positions of the tasks that make pictures, in the order of time.
    pub fn video_tasks(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.tasks)
            .filter(|(_, task)| task.video().is_some())
            .map(|(n, _)| n)
            .collect()
    }
}

/// Plans the conversion of a source.
///
/// # Errors
/// [`MediaError::Refused`] when the preset makes no sense for the source.
pub fn plan(
    probe: &Probe,
    index: &Index,
    preset: &Preset,
    hints: &PlanHints,
) -> Result<Plan, MediaError> {
    preset.check()?;
    let kept_exactly = preset.encoder == Encoder::Ffv1;
    let moves = probe.still.loops.is_some();
    if hints.strip_gps && preset.kind() != MediaKind::Image && probe.kind != MediaKind::Image {
        let next = "Leave --strip-gps out, or give a picture";
        return Err(refused("--strip-gps is for pictures, and it is none", next));
    }
    valid(match (probe.kind, preset.kind()) {
        (MediaKind::Video, MediaKind::Video) => video_plan(probe, index, preset, hints, &[]),
        (MediaKind::Audio, MediaKind::Audio) => single::sound(probe, preset),
        (MediaKind::Audio, MediaKind::Video) if kept_exactly => audio_plan(probe, preset),
        (MediaKind::Image, MediaKind::Image) => single::pictures(probe, index, preset, hints),
        (MediaKind::Image, MediaKind::Video) if kept_exactly => {
            single::pictures(probe, index, preset, hints)
        }
        // Pictures that move are a film, too.
        (MediaKind::Video, MediaKind::Image) if moves => {
            single::pictures(probe, index, preset, hints)
        }
        (source, _) => Err(other_kind(source, preset)),
    }?)
}

/// The preset makes another kind of media than the source is.
fn other_kind(source: MediaKind, preset: &Preset) -> MediaError {
    let is = match source {
        MediaKind::Video => "a film",
        MediaKind::Audio => "sound without pictures",
        MediaKind::Image => "a still picture",
    };
    let makes = match preset.kind() {
        MediaKind::Video => "video",
        MediaKind::Audio => "sound",
        MediaKind::Image => "pictures",
    };
    let why = format!("it is {is}, and preset {} makes {makes}", preset.name);
    refused(why, &format!("Use --preset with one of: {}", Preset::fitting(source)))
}

/// A file may claim anything. A task that every worker must refuse is refused here, with its reason.
fn valid(plan: Plan) -> Result<Plan, MediaError> {
    match plan.tasks.iter().try_for_each(TaskSpec::validate) {
        Ok(()) => Ok(plan),
        Err(e) => Err(refused(
            format!("what it says of itself makes no sense: {e}"),
            "Check that it plays",
        )),
    }
}

/// What to do after a task's result was refused: a longer pre-roll, then entering the whole
/// source, then one whole-file task.
pub fn demote(probe: &Probe, index: &Index, preset: &Preset, plan: &Plan, task: u32) -> Demotion {
    let Some(spec) = plan.tasks.get(task as usize) else { return Demotion::GiveUp };
    let reason = match spec {
        TaskSpec::Segment(segment) => {
            let lower = segments::lower(probe, index, segment);
            if let Some(replacement) = lower.filter(|lower| lower.spec.validate().is_ok()) {
                return Demotion::Retry(replacement);
            }
            format!("segment {} decodes differently when it is entered", segment.number)
        }
        TaskSpec::Whole(whole) if whole.expected.is_some() => {
            "the decoder gives other frames than the packets say".to_owned()
        }
        _ => return Demotion::GiveUp,
    };
    let hints = PlanHints { segment_target_s: f64::INFINITY, strip_gps: false };
    match video_plan(probe, index, preset, &hints, &[reason]).and_then(valid) {
        Ok(plan) => Demotion::WholeFile(Box::new(plan)),
        Err(_) => Demotion::GiveUp,
    }
}

fn video_plan(
    probe: &Probe,
    index: &Index,
    preset: &Preset,
    hints: &PlanHints,
    decoded_only: &[String],
) -> Result<Plan, MediaError> {
    let Some(pictures) = &probe.pictures else {
        return Err(refused("it has no pictures", "Use --preset lossless for sound"));
    };
    if preset.copies_pictures() {
        return remux::plan(probe, index, preset);
    }
    let mut notes = Vec::new();
    let (mut work, orientation) = video::work(pictures, preset, &mut notes)?;
    let mut decoded_only = decoded_only.to_vec();
    decoded_only.extend(shape::cap_rate(&mut work, index, preset, &mut notes));
    let decoded_only = &decoded_only;
    let mut shared = segments::share(probe, index, &work, hints.segment_target_s, decoded_only);
    let mut streams = keep::streams(probe, preset, &mut notes);
    let frames: u64 = shared.tasks.iter().filter_map(TaskSpec::frames).sum();
    let audio = keep::audio_tasks(probe, preset, shared.tasks.len(), &mut streams, &mut notes);
    shared.cuts.extend(audio.iter().map(|_| None));
    shared.tasks.extend(audio);
    let duration_us = probe.duration_us.unwrap_or_else(|| shared.duration_us(pictures.time_base));
    Ok(Plan {
        kind: MediaKind::Video,
        rung: shared.rung,
        preset: preset.clone(),
        output_bytes_estimate: estimate(probe, preset, &work, frames, duration_us),
        tasks: shared.tasks,
        cuts: shared.cuts,
        source_format: probe.format.clone(),
        delays: keep::delays(probe),
        cut_source: Some(CutSource { format: probe.format.clone(), stream: pictures.index }),
        join: JoinSpec {
            container: preset.container,
            streams,
            orientation,
            continuous: shared.continuous,
            strip_gps: false,
        },
        notes,
        reasons: shared.reasons,
        duration_us,
        start_us: probe.start_us,
        lossless: preset.is_lossless(),
    })
}

/// A generous guess: FFV1 takes about half of the raw pixels, the others rarely exceed the source.
fn estimate(
    probe: &Probe,
    preset: &Preset,
    work: &dmc_protocol::media::VideoWork,
    frames: u64,
    duration_us: u64,
) -> u64 {
    let pixels = u64::from(work.width) * u64::from(work.height);
    let depth = u64::from(work.settings.pix_fmt.depth().div_ceil(8));
    if preset.encoder == Encoder::Ffv1 {
        let raw = pixels.saturating_mul(depth).saturating_mul(frames);
        return raw.saturating_add(probe.bytes);
    }
    // A fifth of a bit for each pixel is far above what these quality settings need.
    let coded = pixels.saturating_mul(frames) / 40;
    let floor = duration_us / 1_000_000 * 16_000;
    coded.min(probe.bytes.saturating_mul(2)).max(floor).saturating_add(1_000_000)
}

fn audio_plan(probe: &Probe, preset: &Preset) -> Result<Plan, MediaError> {
    let mut notes = Vec::new();
    let container = keep::audio_container(probe);
    let mut streams = keep::audio_only(probe, container, &mut notes);
    let tasks = keep::flac_tasks(probe, container, &mut streams, &mut notes);
    Ok(Plan {
        kind: MediaKind::Audio,
        rung: Rung::Remux,
        preset: preset.clone(),
        cuts: tasks.iter().map(|_| None).collect(),
        tasks,
        source_format: probe.format.clone(),
        delays: keep::delays(probe),
        cut_source: None,
        join: JoinSpec {
            container,
            streams,
            orientation: Orientation::default(),
            continuous: false,
            strip_gps: false,
        },
        notes,
        reasons: Vec::new(),
        output_bytes_estimate: probe.bytes.saturating_mul(2).saturating_add(1_000_000),
        duration_us: probe.duration_us.unwrap_or(0),
        start_us: probe.start_us,
        lossless: true,
    })
}

/// Planning sees no path; the caller puts it in with [`with_path`].
pub(crate) fn refused(why: impl Into<String>, next: &str) -> MediaError {
    MediaError::refused(Path::new(""), why, next)
}

/// Puts the file's name into a refusal of [`plan`].
pub fn with_path(error: MediaError, file: &Path) -> MediaError {
    match error {
        MediaError::Refused { path, why, next } if path.as_os_str().is_empty() => {
            MediaError::refused(file, why, next)
        }
        other => other,
    }
}
