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
    /// Keep a rectangle.
    Crop {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Pixels from the left.
        x: u32,
        /// Pixels from the top.
        y: u32,
    },
    /// Leave out frames, see [`RateCap`].
    RateCap(RateCap),
    /// Fields become whole frames, as many as there were.
    Deinterlace {
        /// Whether by `bwdif`; otherwise by `yadif`.
        bwdif: bool,
        /// Which field comes first.
        top_first: bool,
    },
    /// From high dynamic range (BT.2020) to limited-range BT.709.
    ToneMap {
        /// Transfer characteristics of the source: 16 (PQ) or 18 (HLG).
        transfer: u8,
        /// Whether the source uses the full range.
        full_range: bool,
        /// The format wanted.
        pix_fmt: PixFmt,
    },
    /// From red, green and blue to full-range BT.601, as JPEG has it.
    RgbToFullYuv {
        /// The format wanted.
        pix_fmt: PixFmt,
    },
}

/// Time is divided into slots of one frame of the cap; the first frame that begins in a slot is
/// kept. Which frames those are follows from the timestamps alone, whoever encodes: the frame before
/// decides, and that is in the pre-roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateCap {
    /// The most frames in a second.
    pub rate: Rational,
    /// The timestamp where slots are counted from, in ticks of the task's time base.
    pub origin: i64,
}

impl RateCap {
    /// Greatest numerator that a worker's double counts exactly.
    const EXACT: i128 = 1 << 52;

    /// Four times the numerator of ticks in slots, and their denominator.
    fn parts(self, base: Rational) -> (i128, i128) {
        let num = i128::from(base.num) * i128::from(self.rate.num);
        (4 * num, i128::from(base.den) * i128::from(self.rate.den))
    }

    /// The slot of a timestamp. A quarter of a slot is added, so that timestamps that are rounded to
    /// milliseconds do not fall to either side of a border.
    fn slot(self, base: Rational, pts: i64) -> i128 {
        let (num, den) = self.parts(base);
        let ticks = i128::from(pts) - i128::from(self.origin);
        (ticks * num + den).div_euclid((4 * den).max(1))
    }

    /// Whether every worker computes the same slot for these timestamps.
    pub fn is_exact(self, base: Rational, pts: &[i64]) -> bool {
        let (num, den) = self.parts(base);
        let far = |pts: Option<&i64>| {
            pts.map_or(0, |pts| (i128::from(*pts) - i128::from(self.origin)).abs())
        };
        far(pts.first()).max(far(pts.last())) * num + 4 * den < RateCap::EXACT
    }

    /// The timestamps that are kept of sorted ones.
    pub fn keep(self, base: Rational, pts: &[i64]) -> Vec<i64> {
        let mut last = None;
        let mut kept = Vec::new();
        for pts in pts {
            let slot = Some(self.slot(base, *pts));
            if slot > last {
                kept.push(*pts);
            }
            last = slot;
        }
        kept
    }

    /// The slot as an expression of ffmpeg over the name of a timestamp.
    pub fn expression(self, base: Rational, name: &str) -> String {
        let (num, den) = self.parts(base);
        format!("floor((({name}-({}))*{num}+{den})/{})", self.origin, 4 * den)
    }
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
    /// Width of the source's pictures in pixels.
    pub source_width: u32,
    /// Height of the source's pictures in pixels.
    pub source_height: u32,
    /// Width of the result's pictures in pixels.
    pub width: u32,
    /// Height of the result's pictures in pixels.
    pub height: u32,
    /// Exact changes, done before the frames are hashed for the proof.
    pub exact_filters: Vec<Filter>,
    /// Changes that lose something (resizing, fewer bits), done after hashing.
    pub filters: Vec<Filter>,
    /// How the result is encoded.
    pub settings: VideoSettings,
}

impl VideoWork {
    /// The cap on the frames, where there is one.
    pub fn rate_cap(&self) -> Option<RateCap> {
        self.exact_filters.iter().find_map(|filter| match filter {
            Filter::RateCap(cap) => Some(*cap),
            _ => None,
        })
    }

    /// Whether a frame of the result depends on more than one frame of the source.
    pub fn remembers(&self) -> bool {
        self.filters.iter().any(|filter| matches!(filter, Filter::Deinterlace { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Rational = Rational::new(1, 1_000);

    fn at(fps: f64, frames: i64) -> Vec<i64> {
        (0..frames).map(|n| (n as f64 * 1_000.0 / fps).round() as i64).collect()
    }

    fn cap(num: u32, den: u32) -> RateCap {
        RateCap { rate: Rational::new(num, den), origin: 0 }
    }

    #[test]
    fn half_the_frames_are_every_second_one() {
        let all = at(60.0, 600);
        let kept = cap(30, 1).keep(MS, &all);
        let second: Vec<i64> = all.iter().copied().step_by(2).collect();
        assert_eq!(kept, second);
    }

    #[test]
    fn no_second_has_more_frames_than_the_cap() {
        for fps in [24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 120.0, 143.7] {
            let kept = cap(30, 1).keep(MS, &at(fps, 2_000));
            let within =
                |from: i64| kept.iter().filter(move |pts| (from..from + 1_000).contains(*pts));
            assert!((0..10_000).step_by(100).all(|from| within(from).count() <= 31), "{fps}");
            if matches!(fps, 24.0 | 25.0 | 30.0) {
                assert_eq!(kept.len(), 2_000, "{fps}: nothing is left out that is slow enough");
            }
        }
    }

    #[test]
    fn a_part_with_the_frame_before_it_keeps_the_same_frames() {
        let all = at(59.94, 1_000);
        let cap = RateCap { rate: Rational::new(24_000, 1_001), origin: 7 };
        let whole = cap.keep(MS, &all);
        for from in [1, 2, 3, 250, 777] {
            let part = cap.keep(MS, &all[from - 1..]);
            let whole: Vec<i64> = whole.iter().copied().filter(|pts| *pts >= all[from]).collect();
            let part: Vec<i64> = part.into_iter().filter(|pts| *pts >= all[from]).collect();
            assert_eq!(part, whole);
        }
    }

    #[test]
    fn timestamps_beyond_a_double_are_known() {
        let base = Rational::new(1, 1_000_000_000);
        assert!(cap(30, 1).is_exact(base, &[0, 3_600_000_000_000]));
        assert!(!cap(30_000, 1_001).is_exact(base, &[0, 1 << 50]));
    }
}
