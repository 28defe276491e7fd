//! Named sets of target settings.

use serde::{Deserialize, Serialize};

use super::options::{Crop, Deinterlace, Family, Fps, Options, Target, Tracks};
use super::stored::StoredPreset;
use super::{Codec, Container, Encoder, EncoderSpeed};

/// How good the pictures must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Constant rate factor on the encoder's own scale.
    Crf(u8),
    /// Every pixel of every frame exact.
    Lossless,
}

/// What happens to the sound of a film.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AudioPolicy {
    /// Copied as it is; encoded only where the container cannot hold it.
    Copy,
    /// Always encoded.
    Encode {
        /// The encoder.
        encoder: Encoder,
        /// Bits per second for each channel; ignored by lossless encoders.
        channel_bps: u32,
    },
}

/// Target settings under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredPreset", into = "StoredPreset")]
pub struct Preset {
    /// What people call it.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The video encoder.
    pub encoder: Encoder,
    /// Its quality.
    pub quality: Quality,
    /// Its speed.
    pub speed: EncoderSpeed,
    /// The file format of the result.
    pub container: Container,
    /// What happens to the sound.
    pub audio: AudioPolicy,
    /// Greatest height of the pictures in pixels; taller ones are scaled down.
    pub max_height: Option<u32>,
    /// All that most presets leave out.
    pub options: Options,
}

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
}

/// Settings that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No such preset.
    #[error("there is no preset `{name}`; choose one of: {choices}")]
    Unknown {
        /// The name as given.
        name: String,
        /// The names that would do.
        choices: String,
    },
    /// A constant rate factor outside the encoder's scale.
    #[error("crf {crf} is outside 0–{max}, the range of {encoder}")]
    CrfRange {
        /// As given.
        crf: u8,
        /// The greatest accepted.
        max: u8,
        /// Whose scale it is.
        encoder: Encoder,
    },
    /// A constant rate factor for an encoder that has none.
    #[error(
        "{encoder} keeps every pixel and has no crf; leave --crf out or choose another --codec"
    )]
    NoCrf {
        /// The encoder.
        encoder: Encoder,
    },
    /// The codec is of another kind.
    #[error("{codec} is not a {wanted} codec")]
    WrongKind {
        /// As given.
        codec: Codec,
        /// What was needed.
        wanted: &'static str,
    },
    /// The container cannot hold the codec.
    #[error("{container} cannot hold {codec}; use --container mkv")]
    Container {
        /// As given.
        container: Container,
        /// As given or by the preset.
        codec: Codec,
    },
    /// A width that makes no picture.
    #[error("--max-width {width} is outside 16–16384")]
    Width {
        /// As given.
        width: u32,
    },
    /// A setting of the sound that no track can have.
    #[error("{what} {value} is outside {range}")]
    Sound {
        /// The option.
        what: &'static str,
        /// As given.
        value: u32,
        /// What would do.
        range: &'static str,
    },
    /// What is copied is not changed.
    #[error("preset {preset} copies the pictures: {option} needs another preset, such as hevc")]
    Copied {
        /// The preset.
        preset: String,
        /// The option.
        option: &'static str,
    },
    /// Two ways to say how good the pictures must be.
    #[error("{encoder} has no quality that could be searched; leave --target out")]
    NoTarget {
        /// The encoder.
        encoder: Encoder,
    },
    /// A height that makes no picture.
    #[error("--max-height {height} is outside 16–16384")]
    Height {
        /// As given.
        height: u32,
    },
}

/// The heights that `max_height` may have, in pixels.
const HEIGHTS: std::ops::RangeInclusive<u32> = 16..=16_384;
const NAME_BYTES_MAX: usize = 200;

fn default_crf(encoder: Encoder) -> Quality {
    match encoder {
        Encoder::Libx264 => Quality::Crf(23),
        Encoder::Libx265 => Quality::Crf(28),
        Encoder::Libsvtav1 => Quality::Crf(35),
        _ => Quality::Lossless,
    }
}

fn default_speed(encoder: Encoder) -> EncoderSpeed {
    // SVT-AV1's "medium" is far slower than x264's.
    if encoder == Encoder::Libsvtav1 { EncoderSpeed::Fast } else { EncoderSpeed::Medium }
}

impl Preset {
    /// A preset with the usual quality and speed of its encoder.
    pub(super) fn plain(name: &str, description: &str, encoder: Encoder) -> Preset {
        Preset {
            name: name.to_owned(),
            description: description.to_owned(),
            encoder,
            quality: default_crf(encoder),
            speed: default_speed(encoder),
            container: Container::Mkv,
            audio: AudioPolicy::Copy,
            max_height: None,
            options: Options::default(),
        }
    }

    /// The built-in presets, in the order that people see them.
    pub fn all() -> Vec<Preset> {
        super::builtin::all()
    }

    /// The built-in preset of that name.
    pub fn builtin(name: &str) -> Result<Preset, PresetError> {
        let all = Preset::all();
        let choices: Vec<&str> = all.iter().map(|preset| preset.name.as_str()).collect();
        let choices = choices.join(", ");
        all.into_iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| PresetError::Unknown { name: name.chars().take(60).collect(), choices })
    }

    /// This preset with what a person wants otherwise.
    pub fn with(&self, overrides: &PresetOverrides) -> Result<Preset, PresetError> {
        let mut preset = self.clone();
        if let Some(codec) = overrides.codec {
            preset.options.copy_pictures = false;
            let encoder = codec.encoder();
            if encoder != preset.encoder {
                preset.encoder = encoder;
                preset.quality = default_crf(encoder);
                preset.speed = default_speed(encoder);
            }
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

    /// Whether the settings go together. Presets from a file or a peer need this call too.
    pub fn check(&self) -> Result<(), PresetError> {
        use super::MediaKind;
        let codec = self.encoder.codec();
        if self.encoder.kind() != MediaKind::Video {
            return Err(PresetError::WrongKind { codec, wanted: "video" });
        }
        match (self.quality, self.encoder.crf_max()) {
            (Quality::Crf(crf), Some(max)) if crf > max => {
                return Err(PresetError::CrfRange { crf, max, encoder: self.encoder });
            }
            (Quality::Crf(_), None) => return Err(PresetError::NoCrf { encoder: self.encoder }),
            _ => {}
        }
        if let AudioPolicy::Encode { encoder, .. } = self.audio
            && encoder.kind() != MediaKind::Audio
        {
            return Err(PresetError::WrongKind { codec: encoder.codec(), wanted: "audio" });
        }
        let holds = match self.container {
            Container::Mkv => true,
            Container::Mp4 => self.encoder != Encoder::Ffv1,
            Container::Mka | Container::Flac | Container::Png => false,
        };
        if !holds {
            return Err(PresetError::Container { container: self.container, codec });
        }
        self.check_options()?;
        if let Some(height) = self.max_height
            && !HEIGHTS.contains(&height)
        {
            return Err(PresetError::Height { height });
        }
        if self.name.len() > NAME_BYTES_MAX || self.name.is_empty() {
            let name = self.name.chars().take(60).collect();
            return Err(PresetError::Unknown { name, choices: "a shorter name".to_owned() });
        }
        Ok(())
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

    fn check_options(&self) -> Result<(), PresetError> {
        let options = &self.options;
        if let Some(width) = options.max_width
            && !HEIGHTS.contains(&width)
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
        if options.target.is_some() && self.encoder.crf_max().is_none() {
            return Err(PresetError::NoTarget { encoder: self.encoder });
        }
        Ok(())
    }

    /// Whether nothing of the pictures is encoded.
    pub fn copies_pictures(&self) -> bool {
        self.options.copy_pictures
    }

    /// What the result is called after: its codec, or that it is a copy.
    pub fn made_of(&self) -> String {
        if self.copies_pictures() { "remux".to_owned() } else { self.encoder.codec().to_string() }
    }

    /// Whether the result must equal the source in every pixel.
    pub fn is_lossless(&self) -> bool {
        self.quality == Quality::Lossless
    }
}

/// Bits per second for each channel that are transparent to most ears.
fn default_bps(codec: Codec) -> u32 {
    match codec {
        Codec::Opus => 64_000,
        _ => 96_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_preset_passes_its_own_check() {
        for preset in Preset::all() {
            preset.check().unwrap();
            assert_eq!(Preset::builtin(&preset.name).unwrap(), preset);
        }
        assert!(Preset::builtin("vhs").unwrap_err().to_string().contains("hevc, "));
    }

    #[test]
    fn overrides_that_cannot_work_say_why() {
        let over = |o: PresetOverrides, base: &str| {
            Preset::builtin(base).unwrap().with(&o).map(|_| ()).map_err(|e| e.to_string())
        };
        let none = PresetOverrides::default;
        assert_eq!(over(none(), "hevc"), Ok(()));
        let cases = [
            (PresetOverrides { crf: Some(52), ..none() }, "hevc", "crf 52 is outside 0–51"),
            (PresetOverrides { crf: Some(20), ..none() }, "lossless", "has no crf"),
            (PresetOverrides { codec: Some(Codec::Aac), ..none() }, "hevc", "not a video codec"),
            (
                PresetOverrides { container: Some(Container::Mp4), ..none() },
                "lossless",
                "mp4 cannot hold ffv1",
            ),
            (PresetOverrides { max_height: Some(2), ..none() }, "av1", "--max-height 2"),
        ];
        for (overrides, base, part) in cases {
            let error = over(overrides, base).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn another_codec_brings_its_own_quality() {
        let over = PresetOverrides { codec: Some(Codec::Av1), ..PresetOverrides::default() };
        let preset = Preset::builtin("hevc").unwrap().with(&over).unwrap();
        assert_eq!((preset.encoder, preset.quality), (Encoder::Libsvtav1, Quality::Crf(35)));
    }
}
