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
    /// H.264 by NVIDIA.
    #[serde(rename = "h264_nvenc")]
    H264Nvenc,
    /// HEVC by NVIDIA.
    #[serde(rename = "hevc_nvenc")]
    HevcNvenc,
    /// AV1 by NVIDIA.
    #[serde(rename = "av1_nvenc")]
    Av1Nvenc,
    /// H.264 by Intel Quick Sync.
    #[serde(rename = "h264_qsv")]
    H264Qsv,
    /// HEVC by Intel Quick Sync.
    #[serde(rename = "hevc_qsv")]
    HevcQsv,
    /// AV1 by Intel Quick Sync.
    #[serde(rename = "av1_qsv")]
    Av1Qsv,
    /// H.264 by VAAPI.
    #[serde(rename = "h264_vaapi")]
    H264Vaapi,
    /// HEVC by VAAPI.
    #[serde(rename = "hevc_vaapi")]
    HevcVaapi,
    /// AV1 by VAAPI.
    #[serde(rename = "av1_vaapi")]
    Av1Vaapi,
    /// H.264 by AMD.
    #[serde(rename = "h264_amf")]
    H264Amf,
    /// HEVC by AMD.
    #[serde(rename = "hevc_amf")]
    HevcAmf,
    /// AV1 by AMD.
    #[serde(rename = "av1_amf")]
    Av1Amf,
    /// H.264 by Apple.
    #[serde(rename = "h264_videotoolbox")]
    H264VideoToolbox,
    /// HEVC by Apple.
    #[serde(rename = "hevc_videotoolbox")]
    HevcVideoToolbox,
    /// H.264 by a V4L2 media chip.
    #[serde(rename = "h264_v4l2m2m")]
    H264V4l2,
    /// HEVC by a V4L2 media chip.
    #[serde(rename = "hevc_v4l2m2m")]
    HevcV4l2,
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

    /// Every encoder that needs a graphics card or media chip.
    pub const HARDWARE: [Encoder; 16] = [
        Encoder::H264Nvenc,
        Encoder::HevcNvenc,
        Encoder::Av1Nvenc,
        Encoder::H264Qsv,
        Encoder::HevcQsv,
        Encoder::Av1Qsv,
        Encoder::H264Vaapi,
        Encoder::HevcVaapi,
        Encoder::Av1Vaapi,
        Encoder::H264Amf,
        Encoder::HevcAmf,
        Encoder::Av1Amf,
        Encoder::H264VideoToolbox,
        Encoder::HevcVideoToolbox,
        Encoder::H264V4l2,
        Encoder::HevcV4l2,
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
            Encoder::H264Nvenc => "h264_nvenc",
            Encoder::HevcNvenc => "hevc_nvenc",
            Encoder::Av1Nvenc => "av1_nvenc",
            Encoder::H264Qsv => "h264_qsv",
            Encoder::HevcQsv => "hevc_qsv",
            Encoder::Av1Qsv => "av1_qsv",
            Encoder::H264Vaapi => "h264_vaapi",
            Encoder::HevcVaapi => "hevc_vaapi",
            Encoder::Av1Vaapi => "av1_vaapi",
            Encoder::H264Amf => "h264_amf",
            Encoder::HevcAmf => "hevc_amf",
            Encoder::Av1Amf => "av1_amf",
            Encoder::H264VideoToolbox => "h264_videotoolbox",
            Encoder::HevcVideoToolbox => "hevc_videotoolbox",
            Encoder::H264V4l2 => "h264_v4l2m2m",
            Encoder::HevcV4l2 => "hevc_v4l2m2m",
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
            _ => MediaKind::Video,
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
            Encoder::H264Nvenc
            | Encoder::H264Qsv
            | Encoder::H264Vaapi
            | Encoder::H264Amf
            | Encoder::H264VideoToolbox
            | Encoder::H264V4l2 => Codec::H264,
            Encoder::HevcNvenc
            | Encoder::HevcQsv
            | Encoder::HevcVaapi
            | Encoder::HevcAmf
            | Encoder::HevcVideoToolbox
            | Encoder::HevcV4l2 => Codec::Hevc,
            Encoder::Av1Nvenc | Encoder::Av1Qsv | Encoder::Av1Vaapi | Encoder::Av1Amf => Codec::Av1,
            Encoder::Libmp3lame => Codec::Mp3,
            Encoder::Libwebp | Encoder::LibwebpAnim => Codec::Webp,
            Encoder::LibaomAv1 => Codec::Avif,
            Encoder::Libjxl => Codec::Jxl,
        }
    }

    /// The graphics card or media chip that it needs; `None` for one that the processor runs.
    pub fn hardware(self) -> Option<Hardware> {
        let suffix = self.name().rsplit_once('_').map_or("", |(_, suffix)| suffix);
        Hardware::ALL.into_iter().find(|hardware| hardware.suffix() == suffix)
    }

    /// The encoder of this codec on that hardware.
    pub fn on(codec: Codec, hardware: Hardware) -> Option<Encoder> {
        let mut all = Encoder::HARDWARE.into_iter();
        all.find(|encoder| encoder.codec() == codec && encoder.hardware() == Some(hardware))
    }

    /// The largest constant rate factor that it accepts; `None` when it has no such setting.
    pub fn crf_max(self) -> Option<u8> {
        match self {
            Encoder::Libx264 | Encoder::Libx265 => Some(51),
            Encoder::Libsvtav1 | Encoder::Av1Nvenc => Some(63),
            // Their own scales differ; ours is x264's, and is translated.
            other if other.hardware().is_some() => Some(51),
            _ => None,
        }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kind of graphics card or media chip that encodes, as ffmpeg reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hardware {
    /// NVIDIA's cards.
    Nvenc,
    /// Intel's processors and cards.
    Qsv,
    /// The Linux interface to Intel's and AMD's.
    Vaapi,
    /// AMD's cards.
    Amf,
    /// Apple's machines.
    VideoToolbox,
    /// Media chips of small boards.
    V4l2,
}

impl Hardware {
    /// All of them, the ones that people prefer first.
    pub const ALL: [Hardware; 6] = [
        Hardware::Nvenc,
        Hardware::Qsv,
        Hardware::VideoToolbox,
        Hardware::Amf,
        Hardware::Vaapi,
        Hardware::V4l2,
    ];

    /// The end of the names of its encoders.
    pub fn suffix(self) -> &'static str {
        match self {
            Hardware::Nvenc => "nvenc",
            Hardware::Qsv => "qsv",
            Hardware::Vaapi => "vaapi",
            Hardware::Amf => "amf",
            Hardware::VideoToolbox => "videotoolbox",
            Hardware::V4l2 => "v4l2m2m",
        }
    }
}

/// A file format that holds the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Matroska video.
    #[serde(alias = "Mkv")]
    Mkv,
    /// MP4 video.
    #[serde(alias = "Mp4")]
    Mp4,
    /// Matroska audio.
    #[serde(alias = "Mka")]
    Mka,
    /// FLAC audio.
    #[serde(alias = "Flac")]
    Flac,
    /// PNG picture.
    #[serde(alias = "Png")]
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
#[serde(rename_all = "lowercase")]
pub enum EncoderSpeed {
    /// Fastest, largest.
    #[serde(alias = "Ultrafast")]
    Ultrafast,
    /// Very fast.
    #[serde(alias = "Superfast")]
    Superfast,
    /// Very fast.
    #[serde(alias = "Veryfast")]
    Veryfast,
    /// Faster than most.
    #[serde(alias = "Faster")]
    Faster,
    /// A little faster than medium.
    #[serde(alias = "Fast")]
    Fast,
    /// The encoder's own default.
    #[serde(alias = "Medium")]
    Medium,
    /// Slower and smaller.
    #[serde(alias = "Slow")]
    Slow,
    /// Slower still.
    #[serde(alias = "Slower")]
    Slower,
    /// Slowest that pays.
    #[serde(alias = "Veryslow")]
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
        let all = [&Encoder::ALL[..], &Encoder::HARDWARE[..]].concat();
        pick(word, "encoder", &all)
    }
}
