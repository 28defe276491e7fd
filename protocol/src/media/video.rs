//! What is done to the pictures of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Encoder, EncoderSpeed, PixFmt, Quality};

/// A positive fraction, as time bases and aspect ratios are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rational {
    /// Numerator.
    pub num: u32,
    /// Denominator, never 0 in a valid spec.
    pub den: u32,
}

impl Rational {
    /// The fraction `num/den`.
    pub const fn new(num: u32, den: u32) -> Rational {
        Rational { num, den }
    }

    /// `ticks` of this time base in microseconds, rounded to nearest.
    pub fn ticks_to_us(self, ticks: i64) -> i64 {
        if self.den == 0 {
            return 0;
        }
        let scaled = i128::from(ticks) * i128::from(self.num) * 2_000_000 / i128::from(self.den);
        let rounded = (scaled + if scaled >= 0 { 1 } else { -1 }) / 2;
        i64::try_from(rounded).unwrap_or(if rounded > 0 { i64::MAX } else { i64::MIN })
    }

    /// `ticks` of this time base in seconds.
    pub fn ticks_to_s(self, ticks: i64) -> f64 {
        if self.den == 0 {
            return 0.0;
        }
        ticks as f64 * f64::from(self.num) / f64::from(self.den)
    }

    /// Whether both parts are at least 1.
    pub fn is_positive(self) -> bool {
        self.num > 0 && self.den > 0
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// One exact or chosen change of the pictures, applied in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Resize to this many pixels.
    Scale {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Change the pixel format without changing the range of the values.
    Format {
        /// The format wanted.
        pix_fmt: PixFmt,
        /// Whether the values use the full range (0–255 for 8 bits).
        full_range: bool,
    },
    /// From red, green and blue to limited-range BT.709.
    RgbToYuv {
        /// The format wanted.
        pix_fmt: PixFmt,
    },
    /// A quarter turn clockwise.
    TurnRight,
    /// A quarter turn counter-clockwise.
    TurnLeft,
    /// Mirror left and right.
    MirrorHorizontal,
    /// Mirror top and bottom.
    MirrorVertical,
    /// From red, green and blue to full-range BT.601, as JPEG has it.
    RgbToFullYuv {
        /// The format wanted.
        pix_fmt: PixFmt,
    },
}

/// Colour description by the code points of ITU-T H.273; `None` where the source says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Colour {
    /// Whether values use the full range.
    pub full_range: Option<bool>,
    /// Colour primaries.
    pub primaries: Option<u8>,
    /// Transfer characteristics.
    pub transfer: Option<u8>,
    /// Matrix coefficients.
    pub matrix: Option<u8>,
    /// Chroma sample position, ffmpeg's numbers: 1 left, 2 centre, 3 top-left, 4 top, 5
    /// bottom-left, 6 bottom.
    pub chroma_location: Option<u8>,
}

/// SMPTE ST 2086: the display that the film was graded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasteringDisplay {
    /// Red, green, blue: x and y in units of 0.00002.
    pub primaries: [(u16, u16); 3],
    /// White point: x and y in units of 0.00002.
    pub white: (u16, u16),
    /// Greatest luminance in units of 0.0001 cd/m².
    pub luminance_max: u32,
    /// Least luminance in units of 0.0001 cd/m².
    pub luminance_min: u32,
}

/// CTA-861.3 content light levels in cd/m².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentLight {
    /// Brightest pixel.
    pub max_cll: u16,
    /// Brightest frame average.
    pub max_fall: u16,
}

/// Progressive, or which field of a frame comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldOrder {
    /// Whole frames (or nothing known).
    Progressive,
    /// Interlaced, top field first.
    TopFirst,
    /// Interlaced, bottom field first.
    BottomFirst,
}

/// How the pictures are encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoSettings {
    /// The encoder.
    pub encoder: Encoder,
    /// Its quality.
    pub quality: Quality,
    /// Its speed.
    pub speed: EncoderSpeed,
    /// The pixel format that it is given.
    pub pix_fmt: PixFmt,
    /// Colour description to write.
    pub colour: Colour,
    /// Mastering display to write.
    pub mastering: Option<MasteringDisplay>,
    /// Content light levels to write.
    pub light: Option<ContentLight>,
    /// Shape of one pixel.
    pub sample_aspect: Option<Rational>,
    /// Interlacing to keep.
    pub field_order: FieldOrder,
    /// Nominal frames per second, a hint for rate control.
    pub frame_rate: Option<Rational>,
}

/// Everything about the pictures of a task but their span.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoWork {
    /// The time base of every PTS of the task.
    pub time_base: Rational,
    /// Width of the source's pictures.
    pub source_width: u32,
    /// Height of the source's pictures.
    pub source_height: u32,
    /// Width of the result's pictures.
    pub width: u32,
    /// Height of the result's pictures.
    pub height: u32,
    /// Exact changes, done before the frames are hashed for the proof.
    pub exact_filters: Vec<Filter>,
    /// Changes that lose something (resizing, fewer bits), done after hashing.
    pub filters: Vec<Filter>,
    /// How the result is encoded.
    pub settings: VideoSettings,
}
