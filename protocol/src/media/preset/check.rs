//! Whether the settings of a preset go together.

use super::defaults::{default_quality, own_audio, own_container};
use super::{AudioPolicy, Preset, PresetError, Quality};
use crate::media::options::{Family, Tracks};
use crate::media::{Container, Encoder, MediaKind};

/// What `max_height` and `max_width` may be, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 16..=16_384;
/// Longest name of a preset in bytes.
const NAME_BYTES_MAX: usize = 200;

impl Preset {
    /// Whether the settings go together. Presets from a file or a peer need this call too.
    pub fn check(&self) -> Result<(), PresetError> {
        let codec = self.encoder.codec();
        match (self.quality, self.encoder.crf_max()) {
            (Quality::Crf(crf), Some(max)) if crf > max => {
                return Err(PresetError::CrfRange { crf, max, encoder: self.encoder });
            }
            (Quality::Crf(_), None) => return Err(PresetError::NoCrf { encoder: self.encoder }),
            (Quality::Percent(percent), _) if !self.takes_percent() => {
                let why = "leave --quality out, or use --crf for films";
                return Err(PresetError::Percent { percent, encoder: self.encoder, why });
            }
            (Quality::Percent(percent), _) if !(1..=100).contains(&percent) => {
                let why = "it must be 1 to 100";
                return Err(PresetError::Percent { percent, encoder: self.encoder, why });
            }
            _ => {}
        }
        if let AudioPolicy::Encode { encoder, .. } = self.audio
            && encoder.kind() != MediaKind::Audio
        {
            return Err(PresetError::WrongKind { codec: encoder.codec(), wanted: "audio" });
        }
        if self.kind() == MediaKind::Audio && self.audio != own_audio(self.encoder, self.quality) {
            return Err(PresetError::OtherSound { name: self.name.clone(), encoder: self.encoder });
        }
        let holds = match (self.kind(), self.container) {
            (MediaKind::Video, Container::Mkv) => true,
            (MediaKind::Video, Container::Mp4) => self.encoder != Encoder::Ffv1,
            (MediaKind::Video, _) => false,
            (MediaKind::Audio | MediaKind::Image, container) => {
                own_container(self.encoder) == Some(container)
            }
        };
        if !holds {
            return Err(PresetError::Container { container: self.container, codec });
        }
        self.check_options()?;
        if let Some(height) = self.max_height
            && !SIDES.contains(&height)
        {
            return Err(PresetError::Height { height });
        }
        if self.name.len() > NAME_BYTES_MAX || self.name.is_empty() {
            let name = self.name.chars().take(60).collect();
            return Err(PresetError::Unknown { name, choices: "a shorter name".to_owned() });
        }
        Ok(())
    }

    fn check_options(&self) -> Result<(), PresetError> {
        let options = &self.options;
        if let Some(width) = options.max_width
            && !SIDES.contains(&width)
        {
            return Err(PresetError::Width { width });
        }
        let within = |what, value: Option<u32>, from: u32, to: u32, range| match value {
            Some(value) if !(from..=to).contains(&value) => {
                Err(PresetError::Sound { what, value, range })
            }
            _ => Ok(()),
        };
        within("--audio-channels", options.audio_channels.map(u32::from), 1, 8, "1–8")?;
        let bps = options.audio_bps;
        within("--audio-bitrate", bps, 8_000, 1_536_000, "8000–1536000 bits a second")?;
        if options.copy_pictures {
            let changes = [
                (self.max_height.is_some(), "--max-height"),
                (options.max_width.is_some(), "--max-width"),
                (options.crop.is_some(), "--crop"),
                (options.max_fps.is_some(), "--max-fps"),
                (options.deinterlace.is_some(), "--deinterlace"),
                (options.tone_map, "--tone-map"),
                (options.target.is_some(), "--target"),
                (options.family == Family::Hardware, "--encoder hardware"),
            ];
            if let Some((_, option)) = changes.into_iter().find(|(given, _)| *given) {
                return Err(PresetError::Copied { preset: self.name.clone(), option });
            }
        }
        if self.kind() != MediaKind::Video {
            let sound = self.kind() == MediaKind::Audio;
            let wrong = [
                (options.max_width.is_some(), "--max-width"),
                (self.max_height.is_some() && sound, "--max-height"),
                (options.crop.is_some(), "--crop"),
                (options.max_fps.is_some(), "--max-fps"),
                (options.deinterlace.is_some(), "--deinterlace"),
                (options.tone_map, "--tone-map"),
                (options.audio_channels.is_some(), "--audio-channels"),
                (options.audio_bps.is_some() && !sound, "--audio-bitrate"),
                (options.audio_bps.is_some() && self.is_lossless(), "--audio-bitrate"),
                (options.audio_tracks != Tracks::All, "--audio-languages"),
                (options.subtitles != Tracks::All, "--subtitles"),
                (options.family == Family::Hardware, "--encoder hardware"),
            ];
            if let Some((_, option)) = wrong.into_iter().find(|(given, _)| *given) {
                return Err(PresetError::OnlyFilms { preset: self.name.clone(), option });
            }
        }
        if options.target.is_some() && self.encoder.crf_max().is_none() {
            return Err(PresetError::NoTarget { encoder: self.encoder });
        }
        Ok(())
    }

    fn takes_percent(&self) -> bool {
        matches!(default_quality(self.encoder), Quality::Percent(_))
    }
}
