//! Kinds of media, and the formats of coded pictures and sound.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Encoder;
use super::word::{UnknownWord, pick};

/// What a file mainly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Moving pictures, with or without sound.
    Video,
    /// Sound without moving pictures (cover art does not count).
    Audio,
    /// A picture: a still one, or an animation.
    Image,
}

impl fmt::Display for MediaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
            MediaKind::Image => "image",
        })
    }
}

/// A format of coded pictures or sound that an [`Encoder`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 / AVC.
    #[serde(alias = "H264")]
    H264,
    /// H.265 / HEVC.
    #[serde(alias = "Hevc")]
    Hevc,
    /// AV1.
    #[serde(alias = "Av1")]
    Av1,
    /// FFV1: every frame exact, every pixel format.
    #[serde(alias = "Ffv1")]
    Ffv1,
    /// AAC.
    #[serde(alias = "Aac")]
    Aac,
    /// Opus.
    #[serde(alias = "Opus")]
    Opus,
    /// FLAC: every sample exact.
    #[serde(alias = "Flac")]
    Flac,
    /// PNG.
    #[serde(alias = "Png")]
    Png,
    /// MP3.
    Mp3,
    /// WebP.
    Webp,
    /// AV1 as a picture.
    Avif,
    /// JPEG XL.
    Jxl,
}

impl Codec {
    /// Every codec.
    pub const ALL: [Codec; 12] = [
        Codec::H264,
        Codec::Hevc,
        Codec::Av1,
        Codec::Ffv1,
        Codec::Aac,
        Codec::Opus,
        Codec::Flac,
        Codec::Png,
        Codec::Mp3,
        Codec::Webp,
        Codec::Avif,
        Codec::Jxl,
    ];

    /// The name that people write: `hevc`, `h264`, …
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::Hevc => "hevc",
            Codec::Av1 => "av1",
            Codec::Ffv1 => "ffv1",
            Codec::Aac => "aac",
            Codec::Opus => "opus",
            Codec::Flac => "flac",
            Codec::Png => "png",
            Codec::Mp3 => "mp3",
            Codec::Webp => "webp",
            Codec::Avif => "avif",
            Codec::Jxl => "jxl",
        }
    }

    /// The encoder that is used for this codec.
    pub fn encoder(self) -> Encoder {
        match self {
            Codec::H264 => Encoder::Libx264,
            Codec::Hevc => Encoder::Libx265,
            Codec::Av1 => Encoder::Libsvtav1,
            Codec::Ffv1 => Encoder::Ffv1,
            Codec::Aac => Encoder::Aac,
            Codec::Opus => Encoder::Libopus,
            Codec::Flac => Encoder::Flac,
            Codec::Png => Encoder::Png,
            Codec::Mp3 => Encoder::Libmp3lame,
            Codec::Webp => Encoder::Libwebp,
            Codec::Avif => Encoder::LibaomAv1,
            Codec::Jxl => Encoder::Libjxl,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let word = match word.to_ascii_lowercase().as_str() {
            "h265" | "x265" => "hevc".to_owned(),
            "avc" | "x264" => "h264".to_owned(),
            other => other.to_owned(),
        };
        pick(&word, "codec", &Codec::ALL)
    }
}
