//! One unit of work for one worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::options::Fps;
use super::stored::StoredAudio;
use super::{
    Encoder, EncoderSpeed, Filter, InputFormat, MediaKind, Quality, Rational, SoundTask, StillTask,
    VideoWork,
};

/// How many PTS there are and the BLAKE3 hash of them, sorted, as little-endian `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtsDigest {
    /// Number of frames.
    pub count: u32,
    /// Hash of the sorted PTS.
    pub hash: [u8; 32],
}

/// Where a worker gets the pictures of a segment from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Feed {
    /// A piece that the owner cut, its timestamps moved later so that none is negative.
    Piece {
        /// How much later, in seconds.
        shift_s: u32,
        /// How many keyframes before A the piece begins; 0 for the first segment.
        preroll_keyframes: u8,
    },
    /// The whole source, entered near the segment.
    Seek {
        /// The source's file format.
        format: InputFormat,
        /// The stream's index in the source.
        stream: u32,
        /// Where to enter, in microseconds of the source's time; `None` for the start.
        from_us: Option<i64>,
    },
}

/// A span of video time, [A, B).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTask {
    /// Position among the segments, from 0.
    pub number: u32,
    /// How many segments the film has.
    pub segments: u32,
    /// First PTS of the segment.
    pub a_pts: i64,
    /// First PTS after the segment.
    pub b_pts: i64,
    /// The PTS that must come out.
    pub expected: PtsDigest,
    /// Where the pictures come from.
    pub feed: Feed,
    /// What is done to them.
    pub video: VideoWork,
}

/// All the pictures of a file, by one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in the source.
    pub stream: u32,
    /// The PTS that must come out, where the source says them; otherwise the proof says them.
    pub expected: Option<PtsDigest>,
    /// The source's clock jumps: time is counted from its start, through the jumps. Otherwise the
    /// source's own clock is used.
    pub continuous: bool,
    /// About how many frames there are.
    pub frames_estimate: Option<u64>,
    /// What is done to them.
    pub video: VideoWork,
}

/// One audio stream of a file, encoded in one go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredAudio", into = "StoredAudio")]
pub struct AudioTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in the source.
    pub stream: u32,
    /// The encoder.
    pub encoder: Encoder,
    /// Bits per second in all; 0 for lossless encoders.
    pub bps: u32,
    /// Channels of the source.
    pub channels: u16,
    /// Channels of the result, where they are fewer.
    pub mix_to: Option<u16>,
    /// Samples per second of the source.
    pub sample_rate: u32,
    /// Bits of one sample for lossless encoders (16, 24 or 32).
    pub sample_bits: u8,
    /// Length in microseconds, a hint.
    pub duration_us: u64,
}

/// One still picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The encoder.
    pub encoder: Encoder,
    /// Width of the result's picture.
    pub width: u32,
    /// Height of the result's picture.
    pub height: u32,
    /// Exact changes (turning upright, pixel format).
    pub exact_filters: Vec<Filter>,
}

/// What a worker is asked to do. A spec from a peer is untrusted until [`TaskSpec::validate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskSpec {
    /// A span of video time.
    Segment(SegmentTask),
    /// All the pictures of a file.
    Whole(WholeTask),
    /// One audio stream.
    Audio(AudioTask),
    /// One still picture.
    Image(ImageTask),
    /// A picture, or pictures that move, into another picture format than PNG.
    Still(StillTask),
    /// Sound alone, into a format that loses something.
    Sound(SoundTask),
}

/// What a worker must have fetched before it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TaskInput {
    /// A cut blob that the owner makes when it is needed.
    Piece,
    /// The whole source file.
    Source,
}

/// A range of picture sizes that encode at about the same speed per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResolutionBand {
    /// No pictures.
    None,
    /// Up to 640×480.
    Small,
    /// Up to 1280×720.
    Hd,
    /// Up to 1920×1088.
    FullHd,
    /// Up to 4096×2304.
    Uhd,
    /// Larger.
    Huge,
}

impl ResolutionBand {
    /// The band of a picture size.
    pub fn of(width: u32, height: u32) -> ResolutionBand {
        match u64::from(width) * u64::from(height) {
            0 => ResolutionBand::None,
            1..=307_200 => ResolutionBand::Small,
            307_201..=921_600 => ResolutionBand::Hd,
            921_601..=2_088_960 => ResolutionBand::FullHd,
            2_088_961..=9_437_184 => ResolutionBand::Uhd,
            _ => ResolutionBand::Huge,
        }
    }
}

/// Tasks of one class run at about the same speed on one machine: the key of measured speeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkClass {
    /// The encoder.
    pub encoder: Encoder,
    /// Its speed.
    pub speed: EncoderSpeed,
    /// The size of the pictures.
    pub band: ResolutionBand,
}

impl fmt::Display for WorkClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let band = match self.band {
            ResolutionBand::None => return write!(f, "{}", self.encoder),
            ResolutionBand::Small => "480p",
            ResolutionBand::Hd => "720p",
            ResolutionBand::FullHd => "1080p",
            ResolutionBand::Uhd => "2160p",
            ResolutionBand::Huge => "huge",
        };
        write!(f, "{} {} {band}", self.encoder, self.speed)
    }
}

/// A spec that must not be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the task is not acceptable: {what} is {value}, {bound}")]
pub struct SpecError {
    /// The field.
    pub what: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub bound: &'static str,
}

/// Limits of specs that a peer may send.
pub(super) mod limit {
    pub const DIMENSION_MAX: u32 = 16_384;
    pub const PIXELS_MAX: u64 = 134_217_728;
    pub const FRAMES_MAX: u64 = 100_000_000;
    pub const SEGMENTS_MAX: u32 = 100_000;
    pub const TICKS_MAX: i64 = 1 << 60;
    pub const STREAM_MAX: u32 = 1_000;
    pub const FILTERS_MAX: usize = 8;
    pub const SHIFT_S_MAX: u32 = 100_000;
    pub const PREROLL_MAX: u8 = 16;
    pub const TIME_BASE_MAX: u32 = 2_000_000_000;
    pub const ASPECT_MAX: u32 = 1_000_000;
    pub const CHANNELS_MAX: u16 = 64;
    pub const RATE_MAX: u32 = 1_536_000;
    pub const BPS_MAX: u32 = 10_000_000;
    /// A thousand years in microseconds.
    pub const DURATION_US_MAX: u64 = 31_557_600_000_000_000;
}

pub(super) fn check(
    ok: bool,
    what: &'static str,
    value: impl fmt::Display,
    bound: &'static str,
) -> Result<(), SpecError> {
    if ok {
        return Ok(());
    }
    Err(SpecError { what, value: value.to_string().chars().take(60).collect(), bound })
}

impl TaskSpec {
    /// The encoders that a worker needs.
    pub fn requires(&self) -> BTreeSet<Encoder> {
        BTreeSet::from([self.encoder()])
    }

    /// The encoder that the task runs.
    pub fn encoder(&self) -> Encoder {
        match self {
            TaskSpec::Segment(task) => task.video.settings.encoder,
            TaskSpec::Whole(task) => task.video.settings.encoder,
            TaskSpec::Audio(task) => task.encoder,
            TaskSpec::Image(task) => task.encoder,
            TaskSpec::Still(task) => task.encoder,
            TaskSpec::Sound(task) => task.encoder,
        }
    }

    /// The class whose measured speed predicts this task's time.
    pub fn class(&self) -> WorkClass {
        match self.video() {
            Some(video) => WorkClass {
                encoder: video.settings.encoder,
                speed: video.settings.speed,
                band: ResolutionBand::of(video.width, video.height),
            },
            None => WorkClass {
                encoder: self.encoder(),
                speed: match self {
                    TaskSpec::Still(task) => task.speed,
                    _ => EncoderSpeed::Medium,
                },
                band: match self {
                    TaskSpec::Image(task) => ResolutionBand::of(task.width, task.height),
                    TaskSpec::Still(task) => ResolutionBand::of(task.width, task.height),
                    _ => ResolutionBand::None,
                },
            },
        }
    }

    /// The size of the work: pixels for pictures, samples for sound. Predicted seconds are this
    /// divided by the class's measured speed. At least 1.
    pub fn work_units(&self) -> u64 {
        let units = match self {
            TaskSpec::Segment(task) => pixels(task.video.width, task.video.height)
                .saturating_mul(u64::from(task.expected.count)),
            TaskSpec::Whole(task) => pixels(task.video.width, task.video.height)
                .saturating_mul(self.frames().unwrap_or(1_000)),
            TaskSpec::Audio(task) => {
                (task.duration_us / 1_000)
                    .saturating_mul(u64::from(task.sample_rate))
                    .saturating_mul(u64::from(task.channels))
                    / 1_000
            }
            TaskSpec::Image(task) => pixels(task.width, task.height),
            TaskSpec::Still(task) => pixels(task.width, task.height),
            TaskSpec::Sound(task) => {
                (task.duration_us / 1_000)
                    .saturating_mul(u64::from(task.sample_rate))
                    .saturating_mul(u64::from(task.channels))
                    / 1_000
            }
        };
        units.max(1)
    }

    /// Frames that come out, where known (exact for segments, else an estimate).
    pub fn frames(&self) -> Option<u64> {
        match self {
            TaskSpec::Segment(task) => Some(u64::from(task.expected.count)),
            TaskSpec::Whole(task) => {
                task.expected.map(|pts| u64::from(pts.count)).or(task.frames_estimate)
            }
            TaskSpec::Audio(_) | TaskSpec::Sound(_) => None,
            TaskSpec::Still(task) if task.loops.is_some() => None,
            TaskSpec::Image(_) | TaskSpec::Still(_) => Some(1),
        }
    }

    /// Bytes that the result may have, about; its input has `input_bytes`.
    pub fn output_bytes_estimate(&self, input_bytes: u64) -> u64 {
        match self {
            TaskSpec::Segment(_) | TaskSpec::Whole(_) => {
                // Without loss, half of three components of a byte each; otherwise smaller than
                // the input, of which a segment may be a small part.
                let raw = self.work_units().saturating_mul(3) / 2;
                let lossless =
                    self.video().is_some_and(|v| v.settings.quality == Quality::Lossless);
                if lossless { raw } else { input_bytes.min(raw) }
            }
            TaskSpec::Audio(task) => {
                let seconds = task.duration_us / 1_000_000 + 1;
                let bytes_a_sample = u64::from(task.sample_bits) / 8;
                let raw = self.work_units().saturating_mul(bytes_a_sample);
                let coded = seconds.saturating_mul(u64::from(task.bps)) / 8;
                if task.bps > 0 { coded.min(raw) } else { raw }
            }
            TaskSpec::Image(_) => self.work_units().saturating_mul(4),
            TaskSpec::Still(_) => input_bytes.max(self.work_units().saturating_mul(4)),
            TaskSpec::Sound(task) => {
                (task.duration_us / 1_000_000 + 1).saturating_mul(u64::from(task.bps)) / 8
            }
        }
    }

    /// Bytes that must be free where the task is done: the input and twice the result.
    pub fn disk_bytes(&self, input_bytes: u64) -> u64 {
        let output = self.output_bytes_estimate(input_bytes);
        input_bytes.saturating_add(output.saturating_mul(2))
    }

    /// What must be fetched before the task can start.
    pub fn input(&self) -> TaskInput {
        match self {
            TaskSpec::Segment(SegmentTask { feed: Feed::Piece { .. }, .. }) => TaskInput::Piece,
            _ => TaskInput::Source,
        }
    }

    /// The work on pictures, if that is what the task is.
    pub fn video(&self) -> Option<&VideoWork> {
        match self {
            TaskSpec::Segment(task) => Some(&task.video),
            TaskSpec::Whole(task) => Some(&task.video),
            _ => None,
        }
    }

    /// What people call the task: `segment 3 (10.0 s–20.0 s)`.
    pub fn label(&self) -> String {
        match self {
            TaskSpec::Segment(task) => {
                let second = |pts| task.video.time_base.ticks_to_s(pts);
                let (a, b) = (second(task.a_pts), second(task.b_pts));
                format!("segment {} ({a:.1} s–{b:.1} s)", task.number)
            }
            TaskSpec::Whole(_) => "whole film".to_owned(),
            TaskSpec::Audio(task) => format!("audio {} ({})", task.stream, task.encoder),
            TaskSpec::Image(_) => "image".to_owned(),
            TaskSpec::Still(task) if task.loops.is_some() => {
                format!("animation ({})", task.encoder)
            }
            TaskSpec::Still(task) => format!("image ({})", task.encoder),
            TaskSpec::Sound(task) => format!("sound ({})", task.encoder),
        }
    }

    /// Refuses what no honest owner asks for, so that nothing in a spec can harm a worker.
    pub fn validate(&self) -> Result<(), SpecError> {
        match self {
            TaskSpec::Segment(task) => task.validate(),
            TaskSpec::Whole(task) => {
                check_stream(&task.format, task.stream)?;
                let frames = self.frames().unwrap_or(0);
                check(frames <= limit::FRAMES_MAX, "frames", frames, "at most 100,000,000")?;
                task.video.validate()
            }
            TaskSpec::Audio(task) => task.validate(),
            TaskSpec::Image(task) => {
                let is_image = task.encoder.kind() == MediaKind::Image;
                check(is_image, "encoder", task.encoder, "not for images")?;
                check_stream(&task.format, 0)?;
                check_size(task.width, task.height)?;
                check_filters(&task.exact_filters)
            }
            TaskSpec::Still(task) => task.validate(),
            TaskSpec::Sound(task) => task.validate(),
        }
    }
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

pub(super) fn check_stream(format: &InputFormat, stream: u32) -> Result<(), SpecError> {
    check(format.is_known(), "file format", format, "not a known format")?;
    check(stream <= limit::STREAM_MAX, "stream", stream, "at most 1,000")
}

pub(super) fn check_size(width: u32, height: u32) -> Result<(), SpecError> {
    let fits = |side: u32| (1..=limit::DIMENSION_MAX).contains(&side);
    check(fits(width), "width", width, "not within 1–16,384")?;
    check(fits(height), "height", height, "not within 1–16,384")?;
    let area = pixels(width, height);
    check(area <= limit::PIXELS_MAX, "picture area", area, "more than 134,217,728 pixels")
}

pub(super) fn check_filters(filters: &[Filter]) -> Result<(), SpecError> {
    check(filters.len() <= limit::FILTERS_MAX, "filters", filters.len(), "more than 8")?;
    filters.iter().try_for_each(|filter| match filter {
        Filter::Scale { width, height } => check_size(*width, *height),
        Filter::Format { pix_fmt, .. }
        | Filter::RgbToYuv { pix_fmt }
        | Filter::RgbToFullYuv { pix_fmt } => {
            check(pix_fmt.is_known(), "pixel format", pix_fmt, "not a known format")
        }
        Filter::TurnRight
        | Filter::TurnLeft
        | Filter::MirrorHorizontal
        | Filter::MirrorVertical
        | Filter::Deinterlace { .. } => Ok(()),
        Filter::Crop { width, height, x, y } => {
            check_size(*width, *height)?;
            check(*x <= limit::DIMENSION_MAX, "crop", x, "too far to the right")?;
            check(*y <= limit::DIMENSION_MAX, "crop", y, "too far down")
        }
        Filter::RateCap(cap) => {
            check(Fps(cap.rate).is_sensible(), "frame rate", cap.rate, "not within 1/10–1,000")?;
            let far = cap.origin.unsigned_abs() > limit::TICKS_MAX.unsigned_abs();
            check(!far, "origin of frame slots", cap.origin, "too large")
        }
        Filter::ToneMap { transfer, pix_fmt, .. } => {
            check(matches!(transfer, 16 | 18), "transfer", transfer, "neither PQ nor HLG")?;
            check(pix_fmt.is_known(), "pixel format", pix_fmt, "not a known format")
        }
    })
}

impl SegmentTask {
    fn validate(&self) -> Result<(), SpecError> {
        let segments = self.segments;
        let counted = segments <= limit::SEGMENTS_MAX && self.number < segments;
        check(counted, "segment", self.number, "outside the film's segments (at most 100,000)")?;
        let within = |pts: i64| pts.unsigned_abs() <= limit::TICKS_MAX.unsigned_abs();
        check(within(self.a_pts), "first PTS", self.a_pts, "too large")?;
        check(within(self.b_pts), "last PTS", self.b_pts, "too large")?;
        check(self.a_pts < self.b_pts, "last PTS", self.b_pts, "not after the first")?;
        let frames = u64::from(self.expected.count);
        let ok = frames > 0 && frames <= limit::FRAMES_MAX;
        check(ok, "frames", frames, "not within 1–100,000,000")?;
        match &self.feed {
            &Feed::Piece { shift_s, preroll_keyframes } => {
                check(shift_s <= limit::SHIFT_S_MAX, "time shift", shift_s, "too large")?;
                let preroll = preroll_keyframes;
                check(preroll <= limit::PREROLL_MAX, "pre-roll", preroll, "more than 16")?;
            }
            Feed::Seek { format, stream, from_us } => {
                check_stream(format, *stream)?;
                let from = from_us.unwrap_or(0);
                check(within(from), "seek position", from, "too large")?;
            }
        }
        self.video.validate()
    }
}

impl AudioTask {
    fn validate(&self) -> Result<(), SpecError> {
        check_stream(&self.format, self.stream)?;
        let is_audio = self.encoder.kind() == MediaKind::Audio;
        check(is_audio, "encoder", self.encoder, "not for sound")?;
        check(self.bps <= limit::BPS_MAX, "bit rate", self.bps, "more than 10,000,000")?;
        let channels = (1..=limit::CHANNELS_MAX).contains(&self.channels);
        check(channels, "channels", self.channels, "not within 1–64")?;
        let mix = self.mix_to.unwrap_or(1);
        let fewer = mix >= 1 && mix <= self.channels;
        check(fewer, "mixed channels", mix, "not within those of the source")?;
        let rate = (1..=limit::RATE_MAX).contains(&self.sample_rate);
        check(rate, "sample rate", self.sample_rate, "not within 1–1,536,000")?;
        let bits = matches!(self.sample_bits, 16 | 24 | 32);
        check(bits, "sample bits", self.sample_bits, "not 16, 24 or 32")?;
        let length = self.duration_us;
        check(length <= limit::DURATION_US_MAX, "duration", length, "too long")
    }
}

impl VideoWork {
    /// Refuses sizes, time bases and settings outside the limits.
    pub fn validate(&self) -> Result<(), SpecError> {
        let base = self.time_base;
        let ok = base.is_positive()
            && base.num <= limit::TIME_BASE_MAX
            && base.den <= limit::TIME_BASE_MAX;
        check(ok, "time base", base, "not a fraction of 1–2,000,000,000")?;
        check_size(self.source_width, self.source_height)?;
        check_size(self.width, self.height)?;
        check_filters(&self.exact_filters)?;
        check_filters(&self.filters)?;
        let settings = &self.settings;
        let is_video = settings.encoder.kind() == MediaKind::Video;
        check(is_video, "encoder", settings.encoder, "not for video")?;
        let known = settings.pix_fmt.is_known();
        check(known, "pixel format", &settings.pix_fmt, "not a known format")?;
        if let Quality::Crf(crf) = settings.quality {
            let max = settings.encoder.crf_max();
            check(max.is_some_and(|max| crf <= max), "crf", crf, "outside the encoder's range")?;
        } else {
            let exact = settings.quality == Quality::Lossless;
            check(exact, "quality", format!("{:?}", settings.quality), "not one of video")?;
        }
        let side = |n: u32| (1..=limit::ASPECT_MAX).contains(&n);
        if let Some(Rational { num, den }) = settings.sample_aspect {
            check(side(num) && side(den), "pixel shape", num, "not a sensible fraction")?;
        }
        if let Some(Rational { num, den }) = settings.frame_rate {
            check(side(num) && side(den), "frame rate", num, "not a sensible fraction")?;
        }
        let location = settings.colour.chroma_location.unwrap_or(0);
        check(location <= 6, "chroma location", location, "more than 6")
    }
}

/// What an agent can do, each encoder proven by a test encode.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// First line of `ffmpeg -version`, shortened.
    pub ffmpeg_version: String,
    /// Working encoders and the fingerprint of each: segments made under different fingerprints
    /// cannot be joined, so one job uses one fingerprint per encoder.
    pub encoders: BTreeMap<Encoder, [u8; 8]>,
    /// Kinds of media that can be made.
    pub kinds: BTreeSet<MediaKind>,
}

impl Capabilities {
    /// Whether all that a task needs is here.
    pub fn can_run(&self, spec: &TaskSpec) -> bool {
        spec.requires().iter().all(|encoder| self.encoders.contains_key(encoder))
    }
}
