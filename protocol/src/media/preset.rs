//! Named sets of target settings.

use serde::{Deserialize, Serialize};

use super::options::{Crop, Deinterlace, Family, Fps, Options, Target, Tracks};
use super::stored::StoredPreset;
use super::{Codec, Container, Encoder, EncoderSpeed, MediaKind};

/// How good the pictures must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Quality {
    /// Constant rate factor on the encoder's own scale.
    Crf(u8),
    /// Every pixel of every frame exact.
    Lossless,
    /// Of a picture: 1 to 100, the larger the better.
    Percent(u8),
    /// Of sound: bits per second for each channel.
    Bitrate(u32),
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
    /// The encoder; it says what kind of media the preset makes.
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
    /// Another quality of a picture, 1 to 100.
    #[serde(default)]
    pub quality: Option<u8>,
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
    #[error("{encoder} has no crf; leave --crf out or choose another --codec")]
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
    #[error("{container} cannot hold {codec}; {}", next_container(*codec))]
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
    /// A setting of films for what is none.
    #[error("preset {preset} makes no films: {option} means nothing there; leave it out")]
    OnlyFilms {
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
    /// A quality outside of 1 to 100, or one for what has none.
    #[error("{encoder} takes no quality of {percent}: {why}")]
    Percent {
        /// As given.
        percent: u8,
        /// Who would have to take it.
        encoder: Encoder,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Sound that is encoded in another way than the preset's encoder.
    #[error("the preset {name} makes {encoder} sound; leave --audio-codec out")]
    OtherSound {
        /// The preset.
        name: String,
        /// Its encoder.
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
fn own_container(encoder: Encoder) -> Option<Container> {
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
fn own_audio(encoder: Encoder, quality: Quality) -> AudioPolicy {
    match (encoder.kind(), quality) {
        (MediaKind::Audio, Quality::Bitrate(channel_bps)) => {
            AudioPolicy::Encode { encoder, channel_bps }
        }
        (MediaKind::Audio, _) => AudioPolicy::Encode { encoder, channel_bps: 0 },
        _ => AudioPolicy::Copy,
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
            container: own_container(encoder).unwrap_or(Container::Mkv),
            audio: own_audio(encoder, default_crf(encoder)),
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

    /// What it makes.
    pub fn kind(&self) -> MediaKind {
        self.encoder.kind()
    }

    /// The built-in presets that take a source of a kind, for people who chose another one.
    pub fn fitting(kind: MediaKind) -> String {
        let fits = |preset: &Preset| preset.kind() == kind || preset.encoder == Encoder::Ffv1;
        let names: Vec<String> =
            Preset::all().into_iter().filter(fits).map(|preset| preset.name).collect();
        names.join(", ")
    }

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
                preset.quality = default_crf(encoder);
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

    /// Whether nothing of the pictures is encoded.
    pub fn copies_pictures(&self) -> bool {
        self.options.copy_pictures
    }

    /// What the result is called after: its codec, or that it is a copy.
    pub fn made_of(&self) -> String {
        if self.copies_pictures() { "remux".to_owned() } else { self.encoder.codec().to_string() }
    }

    fn takes_percent(&self) -> bool {
        matches!(default_crf(self.encoder), Quality::Percent(_))
    }

    /// Whether the result must equal the source in every pixel.
    pub fn is_lossless(&self) -> bool {
        self.quality == Quality::Lossless
    }
}

fn next_container(codec: Codec) -> String {
    match own_container(codec.encoder()) {
        Some(own) if codec.encoder().kind() != MediaKind::Video => {
            format!("it goes into .{own}: choose a preset of that kind")
        }
        _ => "use --container mkv".to_owned(),
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
            (PresetOverrides { quality: Some(9), ..none() }, "hevc", "use --crf for films"),
            (PresetOverrides { quality: Some(0), ..none() }, "image-webp", "it must be 1 to 100"),
            (PresetOverrides { crf: Some(9), ..none() }, "image-avif", "has no crf"),
            (
                PresetOverrides { container: Some(Container::Mkv), ..none() },
                "image-webp",
                "it goes into .webp",
            ),
            (
                PresetOverrides { audio_codec: Some(Codec::Aac), ..none() },
                "audio-opus",
                "leave --audio-codec out",
            ),
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
        let over = PresetOverrides { codec: Some(Codec::Mp3), ..PresetOverrides::default() };
        let preset = Preset::builtin("audio-opus").unwrap().with(&over).unwrap();
        assert_eq!((preset.encoder, preset.container), (Encoder::Libmp3lame, Container::Mp3));
    }

    #[test]
    fn people_are_told_which_presets_fit() {
        let fits = Preset::fitting(MediaKind::Image);
        assert!(fits.contains("lossless") && fits.contains("image-jxl"), "{fits}");
        assert!(!fits.contains("hevc") && !fits.contains("audio"), "{fits}");
    }
}
