//! Named sets of target settings.

mod check;
mod defaults;
mod error;
mod overrides;

use serde::{Deserialize, Serialize};

use super::options::Options;
use super::stored::StoredPreset;
use super::{Container, Encoder, EncoderSpeed, MediaKind};

use defaults::{default_quality, default_speed, own_audio, own_container};

pub use error::PresetError;
pub use overrides::PresetOverrides;

/// How good pictures or sound must be.
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

impl Preset {
    /// A preset with the usual quality and speed of its encoder.
    pub(super) fn plain(name: &str, description: &str, encoder: Encoder) -> Preset {
        Preset {
            name: name.to_owned(),
            description: description.to_owned(),
            encoder,
            quality: default_quality(encoder),
            speed: default_speed(encoder),
            container: own_container(encoder).unwrap_or(Container::Mkv),
            audio: own_audio(encoder, default_quality(encoder)),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Codec;

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
