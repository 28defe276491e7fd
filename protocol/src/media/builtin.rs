//! The presets that everybody has.

use super::options::{Fps, Options};
use super::{AudioPolicy, Container, Encoder, EncoderSpeed, Preset, Quality, Rational};

/// All of them, in the order that people see them.
pub(super) fn all() -> Vec<Preset> {
    let plain = Preset::plain;
    let aac = |channel_bps| AudioPolicy::Encode { encoder: Encoder::Aac, channel_bps };
    let plays_everywhere = Options { plain_pixels: true, tone_map: true, ..Options::default() };
    vec![
        plain("hevc", "H.265 by x265, medium, crf 28; sound copied", Encoder::Libx265),
        Preset {
            quality: Quality::Crf(20),
            speed: EncoderSpeed::Slow,
            ..plain(
                "hevc-archive",
                "H.265 by x265, slow, crf 20: to keep for good; sound copied",
                Encoder::Libx265,
            )
        },
        plain("h264", "H.264 by x264, medium, crf 23; plays everywhere", Encoder::Libx264),
        Preset {
            container: Container::Mp4,
            audio: aac(96_000),
            options: Options { audio_channels: Some(2), ..plays_everywhere.clone() },
            ..plain(
                "h264-web",
                "H.264 in MP4 for browsers: 8 bits, stereo AAC, starts at once",
                Encoder::Libx264,
            )
        },
        Preset {
            quality: Quality::Crf(22),
            speed: EncoderSpeed::Fast,
            container: Container::Mp4,
            audio: aac(80_000),
            max_height: Some(1_080),
            options: Options {
                max_width: Some(1_920),
                max_fps: Some(Fps(Rational::new(30, 1))),
                audio_channels: Some(2),
                ..plays_everywhere.clone()
            },
            ..plain(
                "h264-fast-1080p30",
                "H.264 in MP4, at most 1080p and 30 frames a second, stereo AAC",
                Encoder::Libx264,
            )
        },
        plain("av1", "AV1 by SVT-AV1, preset 8, crf 35; smallest", Encoder::Libsvtav1),
        Preset {
            container: Container::Mp4,
            audio: aac(64_000),
            max_height: Some(720),
            options: Options {
                max_width: Some(1_280),
                max_fps: Some(Fps(Rational::new(30, 1))),
                audio_channels: Some(2),
                ..plays_everywhere
            },
            ..plain(
                "phone",
                "H.264 in MP4, at most 720p and 30 frames a second, for phones and tablets",
                Encoder::Libx264,
            )
        },
        Preset {
            // What would encode if the pictures were not copied: `--codec` says so.
            options: Options { copy_pictures: true, ..Options::default() },
            ..plain("remux", "MKV; pictures and sound copied, nothing encoded", Encoder::Libx264)
        },
        plain("lossless", "FFV1: every frame and pixel exact; large", Encoder::Ffv1),
        plain("image-webp", "WebP, quality 82; small, opens everywhere", Encoder::Libwebp),
        Preset {
            quality: Quality::Lossless,
            ..plain("image-webp-lossless", "WebP: every pixel exact", Encoder::Libwebp)
        },
        plain("image-avif", "AVIF, quality 70; smallest, slow", Encoder::LibaomAv1),
        plain("image-jxl", "JPEG XL, quality 90; 16 bits too", Encoder::Libjxl),
        plain("audio-opus", "Opus, 64 kbit/s a channel; smallest", Encoder::Libopus),
        plain("audio-aac", "AAC in M4A, 96 kbit/s a channel; plays on phones", Encoder::Aac),
        plain("audio-mp3", "MP3, 96 kbit/s a channel; plays everywhere", Encoder::Libmp3lame),
        plain("audio-flac", "FLAC: every sample exact", Encoder::Flac),
    ]
}
