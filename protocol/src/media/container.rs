//! File formats that hold results.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::word::{UnknownWord, pick};

/// A file format that holds the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Matroska video.
    #[serde(alias = "Mkv")]
    Mkv,
    /// MP4 video.
    #[serde(alias = "Mp4")]
    Mp4,
    /// Matroska audio.
    #[serde(alias = "Mka")]
    Mka,
    /// FLAC audio.
    #[serde(alias = "Flac")]
    Flac,
    /// PNG picture.
    #[serde(alias = "Png")]
    Png,
    /// Ogg with Opus sound.
    Opus,
    /// MP4 with sound alone.
    M4a,
    /// MP3 sound.
    Mp3,
    /// WebP picture, which may move.
    Webp,
    /// AVIF picture.
    Avif,
    /// JPEG XL picture.
    Jxl,
}

impl Container {
    /// Every container.
    pub const ALL: [Container; 11] = [
        Container::Mkv,
        Container::Mp4,
        Container::Mka,
        Container::Flac,
        Container::Png,
        Container::Opus,
        Container::M4a,
        Container::Mp3,
        Container::Webp,
        Container::Avif,
        Container::Jxl,
    ];

    /// The usual end of a file name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Container::Mkv => "mkv",
            Container::Mp4 => "mp4",
            Container::Mka => "mka",
            Container::Flac => "flac",
            Container::Png => "png",
            Container::Opus => "opus",
            Container::M4a => "m4a",
            Container::Mp3 => "mp3",
            Container::Webp => "webp",
            Container::Avif => "avif",
            Container::Jxl => "jxl",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for Container {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        pick(word, "container", &Container::ALL)
    }
}
