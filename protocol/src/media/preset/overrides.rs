//! What a person wants otherwise than a preset.

use serde::{Deserialize, Serialize};

use super::defaults::{default_bps, default_quality, default_speed, own_audio, own_container};
use super::{AudioPolicy, Preset, PresetError, Quality};
use crate::media::options::{Crop, Deinterlace, Family, Fps, Target, Tracks};
use crate::media::{Codec, Container, Encoder, EncoderSpeed, MediaKind};

/// Settings that a person gives beside a preset; `None` keeps the preset's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PresetOverrides {
    /// Another video codec.
    pub codec: Option<Codec>,
    /// Another constant rate factor.
    pub crf: Option<u8>,
    /// Another speed.
    pub encoder_speed: Option<EncoderSpeed>,
    /// Another file format.
    pub container: Option<Container>,
    /// Another greatest height in pixels.
    pub max_height: Option<u32>,
    /// Another audio codec; the sound is then always encoded.
    pub audio_codec: Option<Codec>,
    /// Another greatest width in pixels.
    pub max_width: Option<u32>,
    /// Another part of the pictures.
    pub crop: Option<Crop>,
    /// Another cap on the frames in a second.
    pub max_fps: Option<Fps>,
    /// Another way to make whole frames of fields.
    pub deinterlace: Option<Deinterlace>,
    /// Whether high dynamic range becomes ordinary.
    pub tone_map: Option<bool>,
    /// Another greatest number of audio channels.
    pub audio_channels: Option<u16>,
    /// Other bits per second of each audio track; the sound is then always encoded.
    pub audio_bps: Option<u32>,
    /// Other audio tracks to keep.
    pub audio_tracks: Option<Tracks>,
    /// Other subtitle tracks to keep.
    pub subtitles: Option<Tracks>,
    /// Another family of encoders.
    pub family: Option<Family>,
    /// The quality that is to be reached.
    pub target: Option<Target>,
    /// Another quality of a picture, 1 to 100.
    #[serde(default)]
    pub quality: Option<u8>,
}

impl Preset {
    /// This preset with what a person wants otherwise.
    pub fn with(&self, overrides: &PresetOverrides) -> Result<Preset, PresetError> {
        let mut preset = self.clone();
        if let Some(codec) = overrides.codec {
            preset.options.copy_pictures = false;
            let encoder = codec.encoder();
            if encoder.kind() != self.kind() {
                let wanted = match self.kind() {
                    MediaKind::Video => "video",
                    MediaKind::Audio => "sound",
                    MediaKind::Image => "picture",
                };
                return Err(PresetError::WrongKind { codec, wanted });
            }
            if encoder != preset.encoder {
                preset.encoder = encoder;
                preset.quality = default_quality(encoder);
                preset.speed = default_speed(encoder);
                // Each codec of pictures and of sound alone has a format of its own.
                if encoder.kind() != MediaKind::Video {
                    preset.container = own_container(encoder).unwrap_or(preset.container);
                    preset.audio = own_audio(encoder, preset.quality);
                }
            }
        }
        if let Some(percent) = overrides.quality {
            // Of pictures without loss it makes lossy ones; of films the check below says no.
            preset.quality = Quality::Percent(percent);
        }
        if let Some(crf) = overrides.crf {
            if preset.copies_pictures() {
                return Err(PresetError::Copied { preset: preset.name, option: "--crf" });
            }
            if preset.encoder.crf_max().is_none() {
                return Err(PresetError::NoCrf { encoder: preset.encoder });
            }
            preset.quality = Quality::Crf(crf);
            preset.options.target = None;
        }
        if let Some(codec) = overrides.audio_codec {
            preset.audio =
                AudioPolicy::Encode { encoder: codec.encoder(), channel_bps: default_bps(codec) };
        }
        preset.speed = overrides.encoder_speed.unwrap_or(preset.speed);
        preset.container = overrides.container.unwrap_or(preset.container);
        preset.max_height = overrides.max_height.or(preset.max_height);
        preset.add_options(overrides);
        preset.check()?;
        Ok(preset)
    }

    fn add_options(&mut self, overrides: &PresetOverrides) {
        let options = &mut self.options;
        options.max_width = overrides.max_width.or(options.max_width);
        options.crop = overrides.crop.or(options.crop);
        options.max_fps = overrides.max_fps.or(options.max_fps);
        options.deinterlace = overrides.deinterlace.or(options.deinterlace);
        options.tone_map = overrides.tone_map.unwrap_or(options.tone_map);
        options.audio_channels = overrides.audio_channels.or(options.audio_channels);
        options.audio_bps = overrides.audio_bps.or(options.audio_bps);
        options.family = overrides.family.unwrap_or(options.family);
        options.target = overrides.target.or(options.target);
        if let Some(tracks) = &overrides.audio_tracks {
            options.audio_tracks = tracks.clone();
        }
        if let Some(tracks) = &overrides.subtitles {
            options.subtitles = tracks.clone();
        }
        let wanted = overrides.audio_bps.is_some() || overrides.audio_channels.is_some();
        if wanted && self.audio == AudioPolicy::Copy {
            let encoder = if self.is_lossless() { Encoder::Flac } else { Encoder::Aac };
            let channel_bps = default_bps(encoder.codec());
            self.audio = AudioPolicy::Encode { encoder, channel_bps };
        }
    }
}
