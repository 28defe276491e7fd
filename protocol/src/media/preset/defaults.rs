//! What an encoder gets where neither a preset nor a person says otherwise.

use crate::media::{AudioPolicy, Codec, Container, Encoder, EncoderSpeed, MediaKind, Quality};

/// How good its result is.
pub(super) fn default_quality(encoder: Encoder) -> Quality {
    match encoder {
        Encoder::Libx264 => Quality::Crf(23),
        Encoder::Libx265 => Quality::Crf(28),
        Encoder::Libsvtav1 => Quality::Crf(35),
        Encoder::Libwebp | Encoder::LibwebpAnim => Quality::Percent(82),
        Encoder::LibaomAv1 => Quality::Percent(70),
        Encoder::Libjxl => Quality::Percent(90),
        Encoder::Aac | Encoder::Libopus | Encoder::Libmp3lame => {
            Quality::Bitrate(default_bps(encoder.codec()))
        }
        _ => Quality::Lossless,
    }
}

/// What an encoder of pictures or sound alone makes by itself; films have a choice.
pub(super) fn own_container(encoder: Encoder) -> Option<Container> {
    Some(match encoder {
        Encoder::Png => Container::Png,
        Encoder::Libwebp | Encoder::LibwebpAnim => Container::Webp,
        Encoder::LibaomAv1 => Container::Avif,
        Encoder::Libjxl => Container::Jxl,
        Encoder::Libopus => Container::Opus,
        Encoder::Aac => Container::M4a,
        Encoder::Libmp3lame => Container::Mp3,
        Encoder::Flac => Container::Flac,
        _ => return None,
    })
}

/// What a preset does with sound: that of sound alone is encoded.
pub(super) fn own_audio(encoder: Encoder, quality: Quality) -> AudioPolicy {
    match (encoder.kind(), quality) {
        (MediaKind::Audio, Quality::Bitrate(channel_bps)) => {
            AudioPolicy::Encode { encoder, channel_bps }
        }
        (MediaKind::Audio, _) => AudioPolicy::Encode { encoder, channel_bps: 0 },
        _ => AudioPolicy::Copy,
    }
}

/// How much time it takes.
pub(super) fn default_speed(encoder: Encoder) -> EncoderSpeed {
    // SVT-AV1's "medium" is far slower than x264's.
    if encoder == Encoder::Libsvtav1 { EncoderSpeed::Fast } else { EncoderSpeed::Medium }
}

/// Bits per second for each channel that are transparent to most ears.
pub(super) fn default_bps(codec: Codec) -> u32 {
    match codec {
        Codec::Opus => 64_000,
        _ => 96_000,
    }
}
