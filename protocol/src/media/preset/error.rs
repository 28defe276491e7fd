//! Why settings cannot work, for people.

use super::defaults::own_container;
use crate::media::{Codec, Container, Encoder, MediaKind};

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

fn next_container(codec: Codec) -> String {
    match own_container(codec.encoder()) {
        Some(own) if codec.encoder().kind() != MediaKind::Video => {
            format!("it goes into .{own}: choose a preset of that kind")
        }
        _ => "use --container mkv".to_owned(),
    }
}
