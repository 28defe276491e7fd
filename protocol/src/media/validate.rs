//! Nothing in a spec can harm a worker: what no honest owner asks for is refused.

use std::fmt;

use super::options::Fps;
use super::task::pixels;
use super::{
    AudioTask, Feed, Filter, InputFormat, MediaKind, Quality, Rational, SegmentTask, TaskSpec,
    VideoWork,
};

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
    /// Pixels of one side of a picture.
    pub const DIMENSION_MAX: u32 = 16_384;
    /// Pixels of one picture.
    pub const PIXELS_MAX: u64 = 134_217_728;
    /// Frames of one task.
    pub const FRAMES_MAX: u64 = 100_000_000;
    /// Segments of one film.
    pub const SEGMENTS_MAX: u32 = 100_000;
    /// Greatest timestamp in ticks, before or after zero: sums and differences of two still fit.
    pub const TICKS_MAX: i64 = 1 << 60;
    /// Greatest index of a stream in its file.
    pub const STREAM_MAX: u32 = 1_000;
    /// Filters in one list.
    pub const FILTERS_MAX: usize = 8;
    /// Seconds by which the timestamps of a piece may be moved.
    pub const SHIFT_S_MAX: u32 = 100_000;
    /// How many keyframes before its segment a piece may begin.
    pub const PREROLL_MAX: u8 = 16;
    /// Greatest numerator and denominator of a time base.
    pub const TIME_BASE_MAX: u32 = 2_000_000_000;
    /// Greatest numerator and denominator of a pixel's shape or a frame rate.
    pub const ASPECT_MAX: u32 = 1_000_000;
    /// Channels of one audio stream.
    pub const CHANNELS_MAX: u16 = 64;
    /// Samples per second.
    pub const RATE_MAX: u32 = 1_536_000;
    /// Bits per second of one audio stream.
    pub const BPS_MAX: u32 = 10_000_000;
    /// A thousand years in microseconds.
    pub const DURATION_US_MAX: u64 = 31_557_600_000_000_000;
}

impl TaskSpec {
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
