//! How a video stream looks, whatever codec made it: shape, colours, turn, and formats in common.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::Verdict;
use super::film::{Film, alpha_decoder, parse_ratio, tags};

/// Codec-independent looks of a video stream.
pub(super) fn look_and_shape(name: &str, was: &Value, is: &Value, verdict: &mut Verdict) {
    for field in ["width", "height"] {
        verdict.equal(&format!("{name}: {field}"), &was[field], &is[field]);
    }
    let text = |s: &Value, field: &str| s[field].as_str().unwrap_or("unknown").to_owned();
    for field in ["color_space", "color_transfer", "color_primaries"] {
        let (was, is) = (text(was, field), text(is, field));
        if was != "unknown" && was != "reserved" {
            verdict.equal(&format!("{name}: {field}"), &was, &is);
        }
    }
    // Limited range and left-sited chroma are what their absence means.
    let range = |s: &Value| text(s, "color_range").replace("unknown", "tv");
    let place = |s: &Value| {
        text(s, "chroma_location").replace("unknown", "left").replace("unspecified", "left")
    };
    let format = text(was, "pix_fmt");
    if format.starts_with("yuv") {
        verdict.equal(&format!("{name}: color_range"), &range(was), &range(is));
        if format.contains("420") {
            verdict.equal(&format!("{name}: chroma_location"), &place(was), &place(is));
        }
    }
    let shape = |s: &Value| {
        let ratio = s["sample_aspect_ratio"].as_str().and_then(parse_ratio);
        ratio.filter(|r| *r > 0.0).unwrap_or(1.0)
    };
    if !close(shape(was), shape(is)) {
        verdict.differ(format!("{name}: pixel aspect: {} became {}", shape(was), shape(is)));
    }
    let order = |s: &Value| first_field(&text(s, "field_order"));
    verdict.equal(&format!("{name}: field order"), &order(was), &order(is));
}

/// Which field comes first. The second of ffmpeg's two letters is no help: it writes `tb` itself
/// for what it reads as `tt`.
fn first_field(order: &str) -> &'static str {
    match order {
        "tt" | "tb" => "top",
        "bb" | "bt" => "bottom",
        _ => "progressive",
    }
}

/// Filters that bring each video of both films to one pixel format without losing a bit.
pub(super) fn common_formats(
    source: &Film,
    result: &Film,
) -> Vec<(Option<String>, Option<String>)> {
    let (was, is) = (source.streams("video"), result.streams("video"));
    (0..was.len().max(is.len()))
        .map(|n| match (was.get(n), is.get(n)) {
            // A still may change to how it looks on a screen: JPEG's YCbCr has no lossless PNG.
            (Some(_), Some(is)) if result.is_still() => {
                let shown = Some(format!("format={}", real_format(is)));
                (shown.clone(), shown)
            }
            (Some(was), Some(is)) => common_format(&real_format(was), &real_format(is)),
            _ => (None, None),
        })
        .collect()
}

/// The pixel format that decoding gives, which for VP8 and VP9 with alpha is not the one probed.
fn real_format(stream: &Value) -> String {
    let format = stream["pix_fmt"].as_str().unwrap_or_default();
    if alpha_decoder(stream).is_some() {
        format.replace("yuv4", "yuva4")
    } else {
        format.to_owned()
    }
}

fn common_format(was: &str, is: &str) -> (Option<String>, Option<String>) {
    let convert = |to: &str| Some(format!("format={to}"));
    // yuvj420p is yuv420p that says that it is full range: the same bytes.
    if was.replace("yuvj", "yuv") == is.replace("yuvj", "yuv") {
        (None, None)
    } else if is_rgb(was) && is_rgb(is) {
        let deep = |f: &str| f.contains("48") || f.contains("64") || f.contains("p1");
        let to = if deep(was) || deep(is) { "gbrap16le" } else { "gbrap" };
        (convert(to), convert(to))
    } else if was.starts_with("gray") && is.starts_with("yuv") {
        // Converting gray would stretch its range; the first plane is the picture.
        (None, Some("extractplanes=y".to_owned()))
    } else {
        (None, convert(was))
    }
}

fn is_rgb(format: &str) -> bool {
    ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8", "mono"]
        .iter()
        .any(|start| format.starts_with(start))
}

/// Degrees in a quarter circle's steps, however the container says them.
pub(super) fn rotation(stream: &Value, side_data: &[Value]) -> i64 {
    let matrix = side_data.iter().find_map(|d| d["rotation"].as_f64());
    // The old tag turns clockwise, the matrix counter-clockwise.
    let tag = tags(stream).get("rotate").and_then(|t| t.parse::<f64>().ok()).map(|r| -r);
    #[allow(clippy::cast_possible_truncation)]
    let degrees = matrix.or(tag).unwrap_or(0.0).round() as i64;
    degrees.rem_euclid(360)
}

/// The numeric fields of one kind of side data.
pub(super) fn numbers(all: &[Value], kind: &str) -> BTreeMap<String, f64> {
    let found = all.iter().find(|d| d["side_data_type"] == kind);
    let fields = found.and_then(Value::as_object).into_iter().flatten();
    fields
        .filter_map(|(key, value)| {
            let number = value.as_f64().or_else(|| value.as_str().and_then(parse_ratio));
            Some((key.clone(), number?))
        })
        .collect()
}

pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * a.abs().max(b.abs()).max(1.0)
}
