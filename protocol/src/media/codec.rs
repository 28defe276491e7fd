//! Names of formats and of the programs that make them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a file mainly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Moving pictures, with or without sound.
    Video,
    /// Sound without moving pictures (cover art does not count).
    Audio,
    /// One still picture.
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
pub enum Codec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    Hevc,
    /// AV1.
    Av1,
    /// FFV1: every frame exact, every pixel format.
    Ffv1,
    /// AAC.
    Aac,
    /// Opus.
    Opus,
    /// FLAC: every sample exact.
    Flac,
    /// PNG.
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

/// A part of ffmpeg that makes a codec's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// H.264 by x264.
    Libx264,
    /// HEVC by x265.
    Libx265,
    /// AV1 by SVT-AV1.
    Libsvtav1,
    /// FFV1 by ffmpeg itself.
    Ffv1,
    /// AAC by ffmpeg itself.
    Aac,
    /// Opus by libopus.
    Libopus,
    /// FLAC by ffmpeg itself.
    Flac,
    /// PNG by ffmpeg itself.
    Png,
    /// MP3 by LAME.
    Libmp3lame,
    /// WebP by libwebp, one picture.
    Libwebp,
    /// WebP by libwebp, pictures that move.
    #[serde(rename = "libwebp_anim")]
    LibwebpAnim,
    /// AVIF by libaom.
    #[serde(rename = "libaom-av1")]
    LibaomAv1,
    /// JPEG XL by libjxl.
    Libjxl,
}

impl Encoder {
    /// Every encoder that dmc knows.
    pub const ALL: [Encoder; 13] = [
        Encoder::Libx264,
        Encoder::Libx265,
        Encoder::Libsvtav1,
        Encoder::Ffv1,
        Encoder::Aac,
        Encoder::Libopus,
        Encoder::Flac,
        Encoder::Png,
        Encoder::Libmp3lame,
        Encoder::Libwebp,
        Encoder::LibwebpAnim,
        Encoder::LibaomAv1,
        Encoder::Libjxl,
    ];

    /// ffmpeg's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Encoder::Libx264 => "libx264",
            Encoder::Libx265 => "libx265",
            Encoder::Libsvtav1 => "libsvtav1",
            Encoder::Ffv1 => "ffv1",
            Encoder::Aac => "aac",
            Encoder::Libopus => "libopus",
            Encoder::Flac => "flac",
            Encoder::Png => "png",
            Encoder::Libmp3lame => "libmp3lame",
            Encoder::Libwebp => "libwebp",
            Encoder::LibwebpAnim => "libwebp_anim",
            Encoder::LibaomAv1 => "libaom-av1",
            Encoder::Libjxl => "libjxl",
        }
    }

    /// What it encodes.
    pub fn kind(self) -> MediaKind {
        match self {
            Encoder::Libx264 | Encoder::Libx265 | Encoder::Libsvtav1 | Encoder::Ffv1 => {
                MediaKind::Video
            }
            Encoder::Aac | Encoder::Libopus | Encoder::Flac | Encoder::Libmp3lame => {
                MediaKind::Audio
            }
            Encoder::Png
            | Encoder::Libwebp
            | Encoder::LibwebpAnim
            | Encoder::LibaomAv1
            | Encoder::Libjxl => MediaKind::Image,
        }
    }

    /// The format that it makes.
    pub fn codec(self) -> Codec {
        match self {
            Encoder::Libx264 => Codec::H264,
            Encoder::Libx265 => Codec::Hevc,
            Encoder::Libsvtav1 => Codec::Av1,
            Encoder::Ffv1 => Codec::Ffv1,
            Encoder::Aac => Codec::Aac,
            Encoder::Libopus => Codec::Opus,
            Encoder::Flac => Codec::Flac,
            Encoder::Png => Codec::Png,
            Encoder::Libmp3lame => Codec::Mp3,
            Encoder::Libwebp | Encoder::LibwebpAnim => Codec::Webp,
            Encoder::LibaomAv1 => Codec::Avif,
            Encoder::Libjxl => Codec::Jxl,
        }
    }

    /// The largest constant rate factor that it accepts; `None` when it has no such setting.
    pub fn crf_max(self) -> Option<u8> {
        match self {
            Encoder::Libx264 | Encoder::Libx265 => Some(51),
            Encoder::Libsvtav1 => Some(63),
            _ => None,
        }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file format that holds the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Container {
    /// Matroska video.
    Mkv,
    /// MP4 video.
    Mp4,
    /// Matroska audio.
    Mka,
    /// FLAC audio.
    Flac,
    /// PNG picture.
    Png,
    /// Ogg with Opus sound.
    Opus,
    /// MP4 with sound alone.
    M4a,
    /// MP3 sound.
    Mp3,
    /// WebP picture, which may move.
    Webp,
    /// AVIF picture.
    Avif,
    /// JPEG XL picture.
    Jxl,
}

impl Container {
    /// Every container.
    pub const ALL: [Container; 11] = [
        Container::Mkv,
        Container::Mp4,
        Container::Mka,
        Container::Flac,
        Container::Png,
        Container::Opus,
        Container::M4a,
        Container::Mp3,
        Container::Webp,
        Container::Avif,
        Container::Jxl,
    ];

    /// The usual end of a file name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Container::Mkv => "mkv",
            Container::Mp4 => "mp4",
            Container::Mka => "mka",
            Container::Flac => "flac",
            Container::Png => "png",
            Container::Opus => "opus",
            Container::M4a => "m4a",
            Container::Mp3 => "mp3",
            Container::Webp => "webp",
            Container::Avif => "avif",
            Container::Jxl => "jxl",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

/// How much time an encoder may take for a smaller result; x264's names for all encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EncoderSpeed {
    /// Fastest, largest.
    Ultrafast,
    /// Very fast.
    Superfast,
    /// Very fast.
    Veryfast,
    /// Faster than most.
    Faster,
    /// A little faster than medium.
    Fast,
    /// The encoder's own default.
    Medium,
    /// Slower and smaller.
    Slow,
    /// Slower still.
    Slower,
    /// Slowest that pays.
    Veryslow,
}

impl EncoderSpeed {
    /// Every speed, fastest first.
    pub const ALL: [EncoderSpeed; 9] = [
        EncoderSpeed::Ultrafast,
        EncoderSpeed::Superfast,
        EncoderSpeed::Veryfast,
        EncoderSpeed::Faster,
        EncoderSpeed::Fast,
        EncoderSpeed::Medium,
        EncoderSpeed::Slow,
        EncoderSpeed::Slower,
        EncoderSpeed::Veryslow,
    ];

    /// The name that people write, and that x264 and x265 understand.
    pub fn name(self) -> &'static str {
        match self {
            EncoderSpeed::Ultrafast => "ultrafast",
            EncoderSpeed::Superfast => "superfast",
            EncoderSpeed::Veryfast => "veryfast",
            EncoderSpeed::Faster => "faster",
            EncoderSpeed::Fast => "fast",
            EncoderSpeed::Medium => "medium",
            EncoderSpeed::Slow => "slow",
            EncoderSpeed::Slower => "slower",
            EncoderSpeed::Veryslow => "veryslow",
        }
    }

    /// SVT-AV1's number for the same wish (0 slowest, 13 fastest).
    pub fn svt_preset(self) -> u8 {
        match self {
            EncoderSpeed::Ultrafast => 12,
            EncoderSpeed::Superfast => 11,
            EncoderSpeed::Veryfast => 10,
            EncoderSpeed::Faster => 9,
            EncoderSpeed::Fast => 8,
            EncoderSpeed::Medium => 7,
            EncoderSpeed::Slow => 5,
            EncoderSpeed::Slower => 4,
            EncoderSpeed::Veryslow => 3,
        }
    }
}

impl fmt::Display for EncoderSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names none of the choices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not a {what}; choose one of: {choices}")]
pub struct UnknownWord {
    /// The word as given.
    pub word: String,
    /// What it should have been.
    pub what: &'static str,
    /// The words that would do.
    pub choices: String,
}

fn pick<T: Copy + fmt::Display>(
    word: &str,
    what: &'static str,
    all: &[T],
) -> Result<T, UnknownWord> {
    all.iter().copied().find(|choice| choice.to_string().eq_ignore_ascii_case(word)).ok_or_else(
        || {
            let choices: Vec<String> = all.iter().map(ToString::to_string).collect();
            let word = word.chars().take(40).collect();
            UnknownWord { word, what, choices: choices.join(", ") }
        },
    )
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

impl FromStr for Container {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        pick(word, "container", &Container::ALL)
    }
}

impl FromStr for EncoderSpeed {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        pick(word, "encoder speed", &EncoderSpeed::ALL)
    }
}

impl FromStr for Encoder {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        pick(word, "encoder", &Encoder::ALL)
    }
}
