//! What a preset says beyond codec, quality and format: the part of it that most presets leave out.
//!
//! Every type here is written as a person writes it (`"1920:800:0:140"`, `"30000/1001"`,
//! `"ssim=0.98"`), in files, in JSON and in records alike.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Rational;

/// Languages that a preset may name.
const LANGUAGES_MAX: usize = 32;
/// Frames per second that a cap may have.
const FPS_MAX: u32 = 1_000;

/// A word that is no value of an option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no {what}; write it as in {example}")]
pub struct BadOption {
    /// As given.
    pub word: String,
    /// What it should be.
    pub what: &'static str,
    /// What would do.
    pub example: &'static str,
}

fn bad(word: &str, what: &'static str, example: &'static str) -> BadOption {
    BadOption { word: word.chars().take(60).collect(), what, example }
}

macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = BadOption;
            fn try_from(text: String) -> Result<Self, BadOption> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.to_string()
            }
        }
    };
}

/// Which part of the pictures is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Crop {
    /// Without the black borders that samples of the film show.
    Auto,
    /// This rectangle of the upright picture, in pixels.
    To {
        /// Width.
        width: u32,
        /// Height.
        height: u32,
        /// From the left.
        x: u32,
        /// From the top.
        y: u32,
    },
}

impl FromStr for Crop {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Crop, BadOption> {
        let wrong = || bad(text, "part of a picture", "1920:800:0:140 (width:height:x:y), or auto");
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Crop::Auto);
        }
        let numbers = text.split(':').map(|part| part.trim().parse::<u32>());
        let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
        let [width, height, x, y] = numbers[..] else { return Err(wrong()) };
        let fits = |from: u32, length: u32| length > 0 && from.saturating_add(length) <= 16_384;
        if !fits(x, width) || !fits(y, height) {
            return Err(wrong());
        }
        Ok(Crop::To { width, height, x, y })
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Crop::Auto => f.write_str("auto"),
            Crop::To { width, height, x, y } => write!(f, "{width}:{height}:{x}:{y}"),
        }
    }
}

as_text!(Crop);

/// The most frames in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fps(pub Rational);

impl FromStr for Fps {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Fps, BadOption> {
        let wrong = || bad(text, "frame rate", "30, 23.976 or 30000/1001");
        let rate = if let Some((num, den)) = text.split_once('/') {
            let part = |text: &str| text.trim().parse::<u32>().ok();
            Rational::new(part(num).ok_or_else(wrong)?, part(den).ok_or_else(wrong)?)
        } else if let Some((whole, part)) = text.split_once('.') {
            match (whole, part.trim_end_matches('0')) {
                ("23", "976" | "98") => Rational::new(24_000, 1_001),
                ("29", "97") => Rational::new(30_000, 1_001),
                ("59", "94") => Rational::new(60_000, 1_001),
                (whole, part) if part.len() <= 3 => {
                    let number = |text: &str| match text {
                        "" => Some(0),
                        text => text.parse::<u32>().ok(),
                    };
                    let den = 10_u32.pow(u32::try_from(part.len()).unwrap_or(0));
                    let whole = number(whole).and_then(|n| n.checked_mul(den));
                    let num = whole.zip(number(part)).and_then(|(a, b)| a.checked_add(b));
                    Rational::new(num.ok_or_else(wrong)?, den)
                }
                _ => return Err(wrong()),
            }
        } else {
            Rational::new(text.trim().parse().map_err(|_| wrong())?, 1)
        };
        let fps = Fps(rate);
        if fps.is_sensible() { Ok(fps) } else { Err(wrong()) }
    }
}

impl Fps {
    /// Within 1/10 and 1,000 frames a second, in numbers that can be counted with.
    pub fn is_sensible(self) -> bool {
        let Rational { num, den } = self.0;
        let small = (1..=1_000_000).contains(&num) && (1..=100_000).contains(&den);
        let (num, den) = (u64::from(num), u64::from(den));
        small && num <= den * u64::from(FPS_MAX) && num * 10 >= den
    }
}

impl fmt::Display for Fps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rational { num, den: 1 } => write!(f, "{num}"),
            rate => rate.fmt(f),
        }
    }
}

as_text!(Fps);

/// How fields become whole frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Deinterlace {
    /// Bob Weaver: sharper.
    Bwdif,
    /// Yet another: faster.
    Yadif,
}

impl FromStr for Deinterlace {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Deinterlace, BadOption> {
        match text {
            "bwdif" => Ok(Deinterlace::Bwdif),
            "yadif" => Ok(Deinterlace::Yadif),
            _ => Err(bad(text, "way to deinterlace", "bwdif or yadif")),
        }
    }
}

impl fmt::Display for Deinterlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Deinterlace::Bwdif => "bwdif",
            Deinterlace::Yadif => "yadif",
        })
    }
}

as_text!(Deinterlace);

/// Some tracks by their languages.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tracks {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// Those in these languages, as ISO 639 codes.
    In(Vec<String>),
}

impl FromStr for Tracks {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Tracks, BadOption> {
        match text.trim() {
            "all" => return Ok(Tracks::All),
            "none" => return Ok(Tracks::None),
            _ => {}
        }
        let languages: Vec<String> =
            text.split(',').map(|word| word.trim().to_ascii_lowercase()).collect();
        let is_code = |word: &String| {
            (2..=3).contains(&word.len()) && word.chars().all(|c| c.is_ascii_lowercase())
        };
        if languages.len() > LANGUAGES_MAX || !languages.iter().all(is_code) {
            return Err(bad(text, "choice of tracks", "eng,deu (or all, or none)"));
        }
        Ok(Tracks::In(languages))
    }
}

impl fmt::Display for Tracks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Tracks::All => f.write_str("all"),
            Tracks::None => f.write_str("none"),
            Tracks::In(languages) => f.write_str(&languages.join(",")),
        }
    }
}

as_text!(Tracks);

/// The three-letter terminology code of a language, where it has other names: two letters, or one of
/// the bibliographic codes that Matroska writes (ISO 639-2, all twenty of them).
pub fn language_code(word: &str) -> String {
    let word = word.to_ascii_lowercase();
    let base = word.split(['-', '_']).next().unwrap_or_default();
    let known = match base {
        "en" => "eng",
        "de" | "ger" => "deu",
        "fr" | "fre" => "fra",
        "es" => "spa",
        "it" => "ita",
        "pt" => "por",
        "nl" | "dut" => "nld",
        "ja" => "jpn",
        "zh" | "chi" => "zho",
        "ko" => "kor",
        "ru" => "rus",
        "pl" => "pol",
        "cs" | "cze" => "ces",
        "sk" | "slo" => "slk",
        "sv" => "swe",
        "da" => "dan",
        "no" | "nb" | "nob" => "nor",
        "fi" => "fin",
        "tr" => "tur",
        "el" | "gre" => "ell",
        "hu" => "hun",
        "ro" | "rum" => "ron",
        "uk" => "ukr",
        "ar" => "ara",
        "he" => "heb",
        "hi" => "hin",
        "is" | "ice" => "isl",
        "hr" => "hrv",
        "sq" | "alb" => "sqi",
        "hy" | "arm" => "hye",
        "eu" | "baq" => "eus",
        "my" | "bur" => "mya",
        "ka" | "geo" => "kat",
        "mk" | "mac" => "mkd",
        "mi" | "mao" => "mri",
        "ms" | "may" => "msa",
        "fa" | "per" => "fas",
        "bo" | "tib" => "bod",
        "cy" | "wel" => "cym",
        "bg" => "bul",
        "ca" => "cat",
        "et" => "est",
        "lt" => "lit",
        "lv" => "lav",
        "sl" => "slv",
        "sr" => "srp",
        "th" => "tha",
        "vi" => "vie",
        "id" => "ind",
        other => other,
    };
    known.to_owned()
}

/// Who encodes: the processor or the graphics card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Family {
    /// The processor: smallest for the same quality.
    #[default]
    Software,
    /// A graphics card or media chip; refused where nobody has one.
    Hardware,
    /// Hardware where there is any.
    Auto,
}

impl FromStr for Family {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Family, BadOption> {
        match text {
            "software" => Ok(Family::Software),
            "hardware" => Ok(Family::Hardware),
            "auto" => Ok(Family::Auto),
            _ => Err(bad(text, "family of encoders", "software, hardware or auto")),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Software => "software",
            Family::Hardware => "hardware",
            Family::Auto => "auto",
        })
    }
}

as_text!(Family);

/// How likeness is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Structural similarity of all planes, 0 to 1.
    Ssim,
    /// VMAF, 0 to 100.
    Vmaf,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Ssim => "ssim",
            Metric::Vmaf => "vmaf",
        })
    }
}

/// How like its source the result must be; the quality setting is then found by trial encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// How it is measured.
    pub metric: Metric,
    /// The wanted mean in ten-thousandths.
    pub wanted: u32,
}

impl Target {
    /// The wanted mean as it is measured.
    pub fn score(self) -> f64 {
        f64::from(self.wanted) / 1e4
    }
}

impl FromStr for Target {
    type Err = BadOption;
    fn from_str(text: &str) -> Result<Target, BadOption> {
        let wrong =
            || bad(text, "quality target", "ssim=0.98 (0.5 to 0.9999) or vmaf=95 (30 to 99.9)");
        let (metric, number) = text.split_once('=').ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        let (metric, range) = match metric.trim().to_ascii_lowercase().as_str() {
            "ssim" => (Metric::Ssim, 0.5..=0.9999),
            "vmaf" => (Metric::Vmaf, 30.0..=99.9),
            _ => return Err(wrong()),
        };
        if !range.contains(&number) {
            return Err(wrong());
        }
        Ok(Target { metric, wanted: (number * 1e4).round() as u32 })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.metric, self.score())
    }
}

as_text!(Target);

/// What most presets leave out. The default changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Options {
    /// The pictures are copied, not encoded.
    pub copy_pictures: bool,
    /// Greatest width of the pictures in pixels; wider ones are scaled down.
    pub max_width: Option<u32>,
    /// The part of the pictures that is kept.
    pub crop: Option<Crop>,
    /// The most frames in a second; of others that come faster, some are left out.
    pub max_fps: Option<Fps>,
    /// How interlaced pictures become whole ones.
    pub deinterlace: Option<Deinterlace>,
    /// Whether pictures of high dynamic range become ordinary ones.
    pub tone_map: bool,
    /// Whether the pictures get 8 bits and 4:2:0, which every device plays.
    pub plain_pixels: bool,
    /// The most channels of sound; more are mixed down.
    pub audio_channels: Option<u16>,
    /// Bits per second of each audio track that is encoded, in all.
    pub audio_bps: Option<u32>,
    /// Audio tracks to keep.
    pub audio_tracks: Tracks,
    /// Subtitle tracks to keep.
    pub subtitles: Tracks,
    /// Who encodes.
    pub family: Family,
    /// The quality that is to be reached, in place of a constant rate factor.
    pub target: Option<Target>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same<T: FromStr + fmt::Display>(text: &str) -> String {
        text.parse::<T>().map(|value| value.to_string()).unwrap_or_else(|_| "refused".to_owned())
    }

    #[test]
    fn what_a_person_writes_is_read_and_written_alike() {
        for text in ["auto", "1920:800:0:140", "2:2:16382:0"] {
            assert_eq!(same::<Crop>(text), text);
        }
        for text in ["30", "24000/1001", "25/2"] {
            assert_eq!(same::<Fps>(text), text);
        }
        assert_eq!(same::<Fps>("29.97"), "30000/1001");
        assert_eq!(same::<Fps>("12.5"), "125/10");
        for text in ["all", "none", "eng,deu"] {
            assert_eq!(same::<Tracks>(text), text);
        }
        for text in ["ssim=0.98", "vmaf=95"] {
            assert_eq!(same::<Target>(text), text);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1:2:3", "0:2:0:0", "2:2:16383:0", "a:b:c:d", "-1:2:3:4"] {
            assert_eq!(same::<Crop>(text), "refused", "{text}");
        }
        for text in ["", "0", "1/0", "1001", "x", "99999999999", "1.23456", "1/100"] {
            assert_eq!(same::<Fps>(text), "refused", "{text}");
        }
        for text in ["", "english", "eng,,deu", "e1g"] {
            assert_eq!(same::<Tracks>(text), "refused", "{text}");
        }
        for text in ["ssim", "ssim=2", "ssim=NaN", "vmaf=100", "psnr=40"] {
            assert_eq!(same::<Target>(text), "refused", "{text}");
        }
    }

    #[test]
    fn a_language_has_one_code() {
        for (word, code) in [("ger", "deu"), ("de-AT", "deu"), ("EN", "eng"), ("und", "und")] {
            assert_eq!(language_code(word), code);
        }
        for code in
            ["alb arm baq bur chi cze dut fre geo ger gre ice mac mao may per rum slo tib wel"]
                .into_iter()
                .flat_map(str::split_whitespace)
        {
            assert_ne!(language_code(code), code, "it has another one");
        }
    }
}
