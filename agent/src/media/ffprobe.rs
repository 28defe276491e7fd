//! The shape of ffprobe's JSON, and how its words become ours.

use std::collections::BTreeMap;

use dmc_protocol::media::{Colour, ContentLight, MasteringDisplay, Rational};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    pub streams: Vec<RawStream>,
    pub chapters: Vec<Value>,
    pub format: RawFormat,
    pub frames: Vec<RawFrame>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawFormat {
    pub format_name: String,
    pub start_time: Option<String>,
    pub duration: Option<String>,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawStream {
    pub index: u32,
    pub codec_name: String,
    pub codec_type: String,
    pub codec_tag_string: String,
    pub width: u32,
    pub height: u32,
    pub pix_fmt: Option<String>,
    pub sample_aspect_ratio: Option<String>,
    pub color_range: Option<String>,
    pub color_space: Option<String>,
    pub color_transfer: Option<String>,
    pub color_primaries: Option<String>,
    pub chroma_location: Option<String>,
    pub field_order: Option<String>,
    pub closed_captions: u8,
    pub avg_frame_rate: Option<String>,
    pub r_frame_rate: Option<String>,
    pub time_base: Option<String>,
    pub start_time: Option<String>,
    pub duration: Option<String>,
    pub nb_frames: Option<String>,
    pub channels: u16,
    pub sample_rate: Option<String>,
    pub sample_fmt: Option<String>,
    pub bits_per_raw_sample: Option<String>,
    pub bits_per_sample: u8,
    pub disposition: BTreeMap<String, u8>,
    pub tags: BTreeMap<String, String>,
    pub side_data_list: Vec<BTreeMap<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawFrame {
    pub width: u32,
    pub height: u32,
    pub pix_fmt: Option<String>,
    pub sample_aspect_ratio: Option<String>,
    pub interlaced_frame: u8,
    pub top_field_first: u8,
    pub color_range: Option<String>,
    pub color_space: Option<String>,
    pub color_transfer: Option<String>,
    pub color_primaries: Option<String>,
    pub chroma_location: Option<String>,
    pub side_data_list: Vec<BTreeMap<String, Value>>,
}

/// `a/b` or `a:b` with both parts positive.
pub(crate) fn ratio(text: Option<&str>) -> Option<Rational> {
    let (num, den) = text?.split_once(['/', ':'])?;
    let ratio = Rational::new(num.trim().parse().ok()?, den.trim().parse().ok()?);
    ratio.is_positive().then_some(ratio)
}

/// Seconds with a decimal point to microseconds, without rounding through floats.
pub(crate) fn seconds_to_us(text: Option<&str>) -> Option<i64> {
    let text = text?.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let whole: i64 = whole.parse().ok()?;
    let part: i64 = format!("{part:0<6}").get(..6)?.parse().ok()?;
    let us = whole.checked_mul(1_000_000)?.checked_add(part)?;
    Some(if negative { -us } else { us })
}

fn code(word: Option<&str>, table: &[(&str, u8)]) -> Option<u8> {
    let word = word?;
    table.iter().find(|(name, _)| *name == word).map(|(_, code)| *code)
}

const PRIMARIES: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
    ("ebu3213", 22),
];
const TRANSFERS: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("gamma22", 4),
    ("bt470bg", 5),
    ("gamma28", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("linear", 8),
    ("log100", 9),
    ("log316", 10),
    ("iec61966-2-4", 11),
    ("bt1361e", 12),
    ("iec61966-2-1", 13),
    ("bt2020-10", 14),
    ("bt2020-12", 15),
    ("smpte2084", 16),
    ("smpte428", 17),
    ("arib-std-b67", 18),
];
const MATRICES: &[(&str, u8)] = &[
    ("gbr", 0),
    ("bt709", 1),
    ("fcc", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("ycgco", 8),
    ("bt2020nc", 9),
    ("bt2020c", 10),
    ("smpte2085", 11),
    ("chroma-derived-nc", 12),
    ("chroma-derived-c", 13),
    ("ictcp", 14),
];
const LOCATIONS: &[(&str, u8)] =
    &[("left", 1), ("center", 2), ("topleft", 3), ("top", 4), ("bottomleft", 5), ("bottom", 6)];

/// The words that describe colour, of a stream or a frame.
pub(crate) struct ColourWords<'a> {
    pub range: Option<&'a str>,
    pub primaries: Option<&'a str>,
    pub transfer: Option<&'a str>,
    pub matrix: Option<&'a str>,
    pub location: Option<&'a str>,
}

impl ColourWords<'_> {
    pub fn colour(&self) -> Colour {
        Colour {
            full_range: match self.range {
                Some("pc" | "full" | "jpeg") => Some(true),
                Some("tv" | "limited" | "mpeg") => Some(false),
                _ => None,
            },
            primaries: code(self.primaries, PRIMARIES),
            transfer: code(self.transfer, TRANSFERS),
            matrix: code(self.matrix, MATRICES),
            chroma_location: code(self.location, LOCATIONS),
        }
    }
}

/// The fields of `first`, and where it says nothing those of `second`.
pub(crate) fn merge(first: Colour, second: Colour) -> Colour {
    Colour {
        full_range: first.full_range.or(second.full_range),
        primaries: first.primaries.or(second.primaries),
        transfer: first.transfer.or(second.transfer),
        matrix: first.matrix.or(second.matrix),
        chroma_location: first.chroma_location.or(second.chroma_location),
    }
}

type SideData = BTreeMap<String, Value>;

pub(crate) fn side_data<'a>(list: &'a [SideData], part: &str) -> Option<&'a SideData> {
    list.iter().find(|data| {
        let name = data.get("side_data_type").and_then(Value::as_str).unwrap_or_default();
        name.to_ascii_lowercase().contains(part)
    })
}

/// `n/d` as a whole number of `1/unit`.
fn units(data: &SideData, key: &str, unit: u64) -> Option<u64> {
    let (num, den) = data.get(key)?.as_str()?.split_once('/')?;
    let (num, den): (u64, u64) = (num.parse().ok()?, den.parse().ok()?);
    if den == 0 {
        return None;
    }
    Some((num.checked_mul(unit)?.checked_add(den / 2)?) / den)
}

pub(crate) fn mastering(list: &[SideData]) -> Option<MasteringDisplay> {
    let data = side_data(list, "mastering display")?;
    let point = |name: &str| {
        let part = |axis: &str| {
            units(data, &format!("{name}_{axis}"), 50_000).and_then(|n| u16::try_from(n).ok())
        };
        Some((part("x")?, part("y")?))
    };
    let luminance = |name: &str| units(data, name, 10_000).and_then(|n| u32::try_from(n).ok());
    Some(MasteringDisplay {
        primaries: [point("red")?, point("green")?, point("blue")?],
        white: point("white_point")?,
        luminance_max: luminance("max_luminance")?,
        luminance_min: luminance("min_luminance")?,
    })
}

pub(crate) fn light(list: &[SideData]) -> Option<ContentLight> {
    let data = side_data(list, "content light")?;
    let level = |key: &str| {
        data.get(key).and_then(Value::as_u64).and_then(|level| u16::try_from(level).ok())
    };
    Some(ContentLight { max_cll: level("max_content")?, max_fall: level("max_average")? })
}

/// The four numbers of a display matrix that turn and mirror.
pub(crate) fn display_matrix(list: &[SideData]) -> Option<[i64; 4]> {
    let text = side_data(list, "matrix")?.get("displaymatrix")?.as_str()?;
    let rows: Vec<Vec<i64>> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(_, row)| row.split_whitespace().filter_map(|n| n.parse().ok()).collect())
        .collect();
    match rows.as_slice() {
        [first, second, ..] if first.len() == 3 && second.len() == 3 => {
            Some([first[0], first[1], second[0], second[1]])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_keep_every_microsecond() {
        for (text, us) in [("1.483333", 1_483_333), ("-0.021000", -21_000), ("7", 7_000_000)] {
            assert_eq!(seconds_to_us(Some(text)), Some(us));
        }
        assert_eq!(seconds_to_us(Some("N/A")), None);
        assert_eq!(seconds_to_us(Some("9223372036854775807.0")), None);
    }

    #[test]
    fn mastering_display_is_read_in_its_units() {
        let json = r#"[{"side_data_type":"Mastering display metadata","red_x":"34000/50000",
            "red_y":"16000/50000","green_x":"13250/50000","green_y":"34500/50000",
            "blue_x":"7500/50000","blue_y":"3000/50000","white_point_x":"15635/50000",
            "white_point_y":"16450/50000","min_luminance":"1/10000",
            "max_luminance":"10000000/10000"}]"#;
        let list: Vec<SideData> = serde_json::from_str(json).unwrap();
        let display = mastering(&list).unwrap();
        assert_eq!(display.primaries[0], (34_000, 16_000));
        assert_eq!((display.luminance_max, display.luminance_min), (10_000_000, 1));
    }
}
