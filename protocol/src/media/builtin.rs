//! The presets that everybody has.

use super::options::{Fps, Options};
use super::{AudioPolicy, Container, Encoder, EncoderSpeed, Preset, Quality, Rational};

/// All of them, in the order that people see them.
pub(super) fn all() -> Vec<Preset> {
    [films(), pictures(), sound()].concat()
}

fn films() -> Vec<Preset> {
    let plain = Preset::plain;
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
        for_devices(
            "h264-web",
            "H.264 in MP4 for browsers: 8 bits, stereo AAC, starts at once",
            96_000,
            Options::default(),
        ),
        Preset {
            quality: Quality::Crf(22),
            speed: EncoderSpeed::Fast,
            max_height: Some(1_080),
            ..for_devices(
                "h264-fast-1080p30",
                "H.264 in MP4, at most 1080p and 30 frames a second, stereo AAC",
                80_000,
                at_most_30_fps(1_920),
            )
        },
        plain("av1", "AV1 by SVT-AV1, preset 8, crf 35; smallest", Encoder::Libsvtav1),
        Preset {
            max_height: Some(720),
            ..for_devices(
                "phone",
                "H.264 in MP4, at most 720p and 30 frames a second, for phones and tablets",
                64_000,
                at_most_30_fps(1_280),
            )
        },
        Preset {
            // What would encode if the pictures were not copied: `--codec` says so.
            options: Options { copy_pictures: true, ..Options::default() },
            ..plain("remux", "MKV; pictures and sound copied, nothing encoded", Encoder::Libx264)
        },
        plain("lossless", "FFV1: every frame and pixel exact; large", Encoder::Ffv1),
    ]
}

/// H.264 in MP4 that every device plays, with stereo sound of so many bits per second for each
/// channel.
fn for_devices(name: &str, description: &str, channel_bps: u32, options: Options) -> Preset {
    Preset {
        container: Container::Mp4,
        audio: AudioPolicy::Encode { encoder: Encoder::Aac, channel_bps },
        options: Options { plain_pixels: true, tone_map: true, audio_channels: Some(2), ..options },
        ..Preset::plain(name, description, Encoder::Libx264)
    }
}

/// At most so many pixels wide, and 30 frames a second.
fn at_most_30_fps(max_width: u32) -> Options {
    Options {
        max_width: Some(max_width),
        max_fps: Some(Fps(Rational::new(30, 1))),
        ..Options::default()
    }
}

fn pictures() -> Vec<Preset> {
    let plain = Preset::plain;
    vec![
        plain("image-webp", "WebP, quality 82; small, opens everywhere", Encoder::Libwebp),
        Preset {
            quality: Quality::Lossless,
            ..plain("image-webp-lossless", "WebP: every pixel exact", Encoder::Libwebp)
        },
        plain("image-avif", "AVIF, quality 70; smallest, slow", Encoder::LibaomAv1),
        plain("image-jxl", "JPEG XL, quality 90; 16 bits too", Encoder::Libjxl),
    ]
}

fn sound() -> Vec<Preset> {
    let plain = Preset::plain;
    vec![
        plain("audio-opus", "Opus, 64 kbit/s a channel; smallest", Encoder::Libopus),
        plain("audio-aac", "AAC in M4A, 96 kbit/s a channel; plays on phones", Encoder::Aac),
        plain("audio-mp3", "MP3, 96 kbit/s a channel; plays everywhere", Encoder::Libmp3lame),
        plain("audio-flac", "FLAC: every sample exact", Encoder::Flac),
    ]
}
