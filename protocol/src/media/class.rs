//! Classes of work that runs at about the same speed on one machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Encoder, EncoderSpeed};

/// A range of picture sizes that encode at about the same speed per pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ResolutionBand {
    /// No pictures.
    None,
    /// Up to 640×480.
    Small,
    /// Up to 1280×720.
    Hd,
    /// Up to 1920×1088.
    FullHd,
    /// Up to 4096×2304.
    Uhd,
    /// Larger.
    Huge,
}

impl ResolutionBand {
    /// The band of a picture size.
    pub fn of(width: u32, height: u32) -> ResolutionBand {
        match u64::from(width) * u64::from(height) {
            0 => ResolutionBand::None,
            1..=307_200 => ResolutionBand::Small,
            307_201..=921_600 => ResolutionBand::Hd,
            921_601..=2_088_960 => ResolutionBand::FullHd,
            2_088_961..=9_437_184 => ResolutionBand::Uhd,
            _ => ResolutionBand::Huge,
        }
    }
}

/// Tasks of one class run at about the same speed on one machine: the key of measured speeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkClass {
    /// The encoder.
    pub encoder: Encoder,
    /// Its speed.
    pub speed: EncoderSpeed,
    /// The size of the pictures.
    pub band: ResolutionBand,
}

impl fmt::Display for WorkClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let band = match self.band {
            ResolutionBand::None => return write!(f, "{}", self.encoder),
            ResolutionBand::Small => "480p",
            ResolutionBand::Hd => "720p",
            ResolutionBand::FullHd => "1080p",
            ResolutionBand::Uhd => "2160p",
            ResolutionBand::Huge => "huge",
        };
        write!(f, "{} {} {band}", self.encoder, self.speed)
    }
}
