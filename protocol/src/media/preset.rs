//! Named sets of target settings.

use serde::{Deserialize, Serialize};

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
}

/// Settings that a person gives beside a preset; `None` keeps the preset's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    /// The built-in presets, in the order that people see them.
    pub fn all() -> Vec<Preset> {
        let make = |name: &str, description: &str, encoder: Encoder| Preset {
            name: name.to_owned(),
            description: description.to_owned(),
            encoder,
            quality: default_crf(encoder),
            speed: default_speed(encoder),
            container: own_container(encoder).unwrap_or(Container::Mkv),
            audio: own_audio(encoder, default_crf(encoder)),
            max_height: None,
        };
        vec![
            make("hevc", "H.265 by x265, medium, crf 28; sound copied", Encoder::Libx265),
            make("h264", "H.264 by x264, medium, crf 23; plays everywhere", Encoder::Libx264),
            make("av1", "AV1 by SVT-AV1, preset 8, crf 35; smallest", Encoder::Libsvtav1),
            make("lossless", "FFV1: every frame and pixel exact; large", Encoder::Ffv1),
            make("image-webp", "WebP, quality 82; small, opens everywhere", Encoder::Libwebp),
            Preset {
                quality: Quality::Lossless,
                ..make("image-webp-lossless", "WebP: every pixel exact", Encoder::Libwebp)
            },
            make("image-avif", "AVIF, quality 70; smallest, slow", Encoder::LibaomAv1),
            make("image-jxl", "JPEG XL, quality 90; 16 bits too", Encoder::Libjxl),
            make("audio-opus", "Opus, 64 kbit/s a channel; smallest", Encoder::Libopus),
            make("audio-aac", "AAC in M4A, 96 kbit/s a channel; plays on phones", Encoder::Aac),
            make("audio-mp3", "MP3, 96 kbit/s a channel; plays everywhere", Encoder::Libmp3lame),
            make("audio-flac", "FLAC: every sample exact", Encoder::Flac),
        ]
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
            if preset.encoder.crf_max().is_none() {
                return Err(PresetError::NoCrf { encoder: preset.encoder });
            }
            preset.quality = Quality::Crf(crf);
        }
        if let Some(codec) = overrides.audio_codec {
            preset.audio =
                AudioPolicy::Encode { encoder: codec.encoder(), channel_bps: default_bps(codec) };
        }
        preset.speed = overrides.encoder_speed.unwrap_or(preset.speed);
        preset.container = overrides.container.unwrap_or(preset.container);
        preset.max_height = overrides.max_height.or(preset.max_height);
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
        assert!(Preset::builtin("vhs").unwrap_err().to_string().contains("hevc, h264, av1"));
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
