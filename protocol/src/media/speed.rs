//! How much time encoders may take.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::word::{UnknownWord, pick};

/// How much time an encoder may take for a smaller result; x264's names for all encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderSpeed {
    /// Fastest, largest.
    #[serde(alias = "Ultrafast")]
    Ultrafast,
    /// A little slower than the fastest.
    #[serde(alias = "Superfast")]
    Superfast,
    /// Very fast.
    #[serde(alias = "Veryfast")]
    Veryfast,
    /// Faster than most.
    #[serde(alias = "Faster")]
    Faster,
    /// A little faster than medium.
    #[serde(alias = "Fast")]
    Fast,
    /// The encoder's own default.
    #[serde(alias = "Medium")]
    Medium,
    /// Slower and smaller.
    #[serde(alias = "Slow")]
    Slow,
    /// Slower still.
    #[serde(alias = "Slower")]
    Slower,
    /// Slowest that pays.
    #[serde(alias = "Veryslow")]
    Veryslow,
}

impl EncoderSpeed {
    /// Every speed, fastest first.
    pub const ALL: [EncoderSpeed; 9] = [
        EncoderSpeed::Ultrafast,
        EncoderSpeed::Superfast,
        EncoderSpeed::Veryfast,
        EncoderSpeed::Faster,
        EncoderSpeed::Fast,
        EncoderSpeed::Medium,
        EncoderSpeed::Slow,
        EncoderSpeed::Slower,
        EncoderSpeed::Veryslow,
    ];

    /// The name that people write, and that x264 and x265 understand.
    pub fn name(self) -> &'static str {
        match self {
            EncoderSpeed::Ultrafast => "ultrafast",
            EncoderSpeed::Superfast => "superfast",
            EncoderSpeed::Veryfast => "veryfast",
            EncoderSpeed::Faster => "faster",
            EncoderSpeed::Fast => "fast",
            EncoderSpeed::Medium => "medium",
            EncoderSpeed::Slow => "slow",
            EncoderSpeed::Slower => "slower",
            EncoderSpeed::Veryslow => "veryslow",
        }
    }

    /// SVT-AV1's number for the same wish (0 slowest, 13 fastest).
    pub fn svt_preset(self) -> u8 {
        match self {
            EncoderSpeed::Ultrafast => 12,
            EncoderSpeed::Superfast => 11,
            EncoderSpeed::Veryfast => 10,
            EncoderSpeed::Faster => 9,
            EncoderSpeed::Fast => 8,
            EncoderSpeed::Medium => 7,
            EncoderSpeed::Slow => 5,
            EncoderSpeed::Slower => 4,
            EncoderSpeed::Veryslow => 3,
        }
    }
}

impl fmt::Display for EncoderSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EncoderSpeed {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        pick(word, "encoder speed", &EncoderSpeed::ALL)
    }
}
