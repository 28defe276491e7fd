//! Pictures and sound that stand alone, into formats of their own.

use serde::{Deserialize, Serialize};

use super::validate::{check, check_filters, check_size, check_stream, limit};
use super::{Encoder, EncoderSpeed, Filter, InputFormat, MediaKind, PixFmt, Quality, SpecError};

/// One picture, or pictures that move, into a picture format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StillTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The encoder.
    pub encoder: Encoder,
    /// Its quality.
    pub quality: Quality,
    /// How much time it takes for a smaller result.
    pub speed: EncoderSpeed,
    /// Width of the result's pictures in pixels.
    pub width: u32,
    /// Height of the result's pictures in pixels.
    pub height: u32,
    /// Pixel format that the encoder is given.
    pub pix_fmt: PixFmt,
    /// Whether its transparency is kept.
    pub alpha: bool,
    /// Pictures that move, and how often they are played (0: for ever); `None` for one picture.
    pub loops: Option<u16>,
    /// What is done to the pictures before they are encoded, and before they are compared.
    pub filters: Vec<Filter>,
}

/// The sound of a file that has nothing else, into a sound format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundTask {
    /// The source's file format.
    pub format: InputFormat,
    /// The stream's index in the source.
    pub stream: u32,
    /// The encoder.
    pub encoder: Encoder,
    /// Bits per second in all.
    pub bps: u32,
    /// Channels of the result.
    pub channels: u16,
    /// Samples per second of the result.
    pub sample_rate: u32,
    /// Length in microseconds, a hint.
    pub duration_us: u64,
}

impl StillTask {
    /// Whether every pixel must be the source's.
    pub fn is_lossless(&self) -> bool {
        self.quality == Quality::Lossless
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let is_image = self.encoder.kind() == MediaKind::Image;
        check(is_image, "encoder", self.encoder, "not for images")?;
        check_stream(&self.format, 0)?;
        check_size(self.width, self.height)?;
        check(self.pix_fmt.is_known(), "pixel format", &self.pix_fmt, "not a known format")?;
        let quality = match self.quality {
            Quality::Lossless => true,
            Quality::Percent(percent) => (1..=100).contains(&percent),
            Quality::Crf(_) | Quality::Bitrate(_) => false,
        };
        check(quality, "quality", format!("{:?}", self.quality), "not one of a picture")?;
        let moves = self.loops.is_some();
        let can = moves == (self.encoder == Encoder::LibwebpAnim);
        check(can, "encoder", self.encoder, "not for pictures that move, or only for these")?;
        check_filters(&self.filters)
    }
}

impl SoundTask {
    pub(super) fn validate(&self) -> Result<(), SpecError> {
        check_stream(&self.format, self.stream)?;
        let is_audio = self.encoder.kind() == MediaKind::Audio;
        check(is_audio, "encoder", self.encoder, "not for sound")?;
        let bps = (1_000..=limit::BPS_MAX).contains(&self.bps);
        check(bps, "bit rate", self.bps, "not within 1,000–10,000,000")?;
        check((1..=8).contains(&self.channels), "channels", self.channels, "not within 1–8")?;
        let rate = (8_000..=96_000).contains(&self.sample_rate);
        check(rate, "sample rate", self.sample_rate, "not within 8,000–96,000")?;
        let length = self.duration_us;
        check(length <= limit::DURATION_US_MAX, "duration", length, "too long")
    }
}
