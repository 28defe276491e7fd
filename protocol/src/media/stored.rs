//! How presets and audio tasks are written in records and messages.
//!
//! bincode names nothing, so a new field would make every record of an older version unreadable.
//! What was added since is put where an older record cannot have it: presets without options, and
//! sound that keeps its channels, have the same bytes as ever.

use serde::{Deserialize, Serialize};

use super::options::Options;
use super::{
    AudioPolicy, AudioTask, Container, Encoder, EncoderSpeed, InputFormat, Preset, Quality,
};

/// A preset as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPreset {
    name: String,
    description: String,
    encoder: Encoder,
    quality: Quality,
    speed: EncoderSpeed,
    container: Container,
    audio: AudioPolicy,
    tail: Tail,
}

/// The greatest height, and the options where there are any. The first two are the bytes of an
/// `Option`, which stood here alone.
#[derive(Serialize, Deserialize)]
enum Tail {
    Any,
    Height(u32),
    Options(Option<u32>, Box<Options>),
}

impl From<Preset> for StoredPreset {
    fn from(preset: Preset) -> StoredPreset {
        let Preset { name, description, encoder, quality, speed, container, audio, .. } = preset;
        let tail = match (preset.max_height, preset.options) {
            (height, options) if options != Options::default() => {
                Tail::Options(height, Box::new(options))
            }
            (Some(height), _) => Tail::Height(height),
            (None, _) => Tail::Any,
        };
        StoredPreset { name, description, encoder, quality, speed, container, audio, tail }
    }
}

impl From<StoredPreset> for Preset {
    fn from(stored: StoredPreset) -> Preset {
        let StoredPreset { name, description, encoder, quality, speed, container, audio, tail } =
            stored;
        let (max_height, options) = match tail {
            Tail::Any => (None, Options::default()),
            Tail::Height(height) => (Some(height), Options::default()),
            Tail::Options(height, options) => (height, *options),
        };
        Preset { name, description, encoder, quality, speed, container, audio, max_height, options }
    }
}

/// Channels of the source are fewer than this; the multiples of it are the channels wanted.
const MIX: u16 = 256;

/// An audio task as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAudio {
    format: InputFormat,
    stream: u32,
    encoder: Encoder,
    bps: u32,
    channels: u16,
    sample_rate: u32,
    sample_bits: u8,
    duration_us: u64,
}

impl From<AudioTask> for StoredAudio {
    fn from(task: AudioTask) -> StoredAudio {
        let AudioTask { format, stream, encoder, bps, sample_rate, sample_bits, .. } = task;
        let mix = task.mix_to.unwrap_or(0).min(MIX - 1);
        let channels = if task.mix_to.is_some() {
            task.channels.min(MIX - 1) + mix * MIX
        } else {
            task.channels
        };
        let duration_us = task.duration_us;
        StoredAudio {
            format,
            stream,
            encoder,
            bps,
            channels,
            sample_rate,
            sample_bits,
            duration_us,
        }
    }
}

impl From<StoredAudio> for AudioTask {
    fn from(stored: StoredAudio) -> AudioTask {
        let StoredAudio { format, stream, encoder, bps, channels, sample_rate, .. } = stored;
        let (mix, channels) = (channels / MIX, channels % MIX);
        AudioTask {
            format,
            stream,
            encoder,
            bps,
            channels,
            mix_to: (mix > 0).then_some(mix),
            sample_rate,
            sample_bits: stored.sample_bits,
            duration_us: stored.duration_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Crop, Target};
    use super::*;
    use crate::codec::{from_bytes, to_bytes};

    /// A preset as it was before there were options.
    #[derive(Serialize)]
    struct Before {
        name: String,
        description: String,
        encoder: Encoder,
        quality: Quality,
        speed: EncoderSpeed,
        container: Container,
        audio: AudioPolicy,
        max_height: Option<u32>,
    }

    #[test]
    fn presets_of_older_versions_are_read() {
        for max_height in [None, Some(0), Some(720), Some(16_384)] {
            let mut preset = Preset::builtin("hevc").unwrap();
            preset.max_height = max_height;
            let Preset { name, description, encoder, quality, speed, container, audio, .. } =
                preset.clone();
            let before =
                Before { name, description, encoder, quality, speed, container, audio, max_height };
            let bytes = to_bytes(&before).unwrap();
            assert_eq!(to_bytes(&preset).unwrap(), bytes);
            assert_eq!(from_bytes::<Preset>(&bytes, 1 << 16).unwrap(), preset);
        }
    }

    #[test]
    fn options_come_back_as_they_were() {
        let mut preset = Preset::builtin("h264").unwrap();
        preset.options.crop = Some(Crop::To { width: 2, height: 4, x: 6, y: 8 });
        preset.options.target = Some("ssim=0.98".parse::<Target>().unwrap());
        preset.max_height = Some(720);
        let bytes = to_bytes(&preset).unwrap();
        assert_eq!(from_bytes::<Preset>(&bytes, 1 << 16).unwrap(), preset);
    }

    #[test]
    fn sound_that_keeps_its_channels_is_written_as_ever() {
        let task = |channels, mix_to| AudioTask {
            format: InputFormat::new("matroska").unwrap(),
            stream: 1,
            encoder: Encoder::Aac,
            bps: 128_000,
            channels,
            mix_to,
            sample_rate: 48_000,
            sample_bits: 16,
            duration_us: 9,
        };
        for (channels, mix_to) in [(6, None), (6, Some(2)), (64, Some(1)), (0, None)] {
            let bytes = to_bytes(&task(channels, mix_to)).unwrap();
            let read: AudioTask = from_bytes(&bytes, 1 << 16).unwrap();
            assert_eq!(read, task(channels, mix_to));
        }
        let plain = StoredAudio::from(task(6, None));
        assert_eq!(plain.channels, 6);
    }
}
