//! Parts of ffmpeg that make the bits of a codec, on the processor or on other hardware.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::word::{UnknownWord, pick};
use super::{Codec, MediaKind};

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

impl FromStr for Encoder {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let all = [&Encoder::ALL[..], &Encoder::HARDWARE[..]].concat();
        pick(word, "encoder", &all)
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
