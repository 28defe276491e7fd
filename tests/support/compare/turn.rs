//! How pictures are turned upright where the result cannot say a turn.

use serde_json::Value;

use crate::support::film::Film;

/// ffmpeg's own automatic rotation of each video, where the result must stand upright.
pub(super) fn turns(source: &Film, result: &Film) -> Vec<Option<&'static str>> {
    let videos = 0..source.streams("video").len();
    if !result.is("matroska") || source.is_still() {
        return videos.map(|_| None).collect();
    }
    videos.map(|n| turn(&source.side_data(n))).collect()
}

/// The filters that ffmpeg itself inserts for a display matrix of quarter turns and mirrors.
fn turn(side_data: &[Value]) -> Option<&'static str> {
    let text = side_data.iter().find_map(|d| d["displaymatrix"].as_str())?;
    let rows = text.lines().filter_map(|line| Some(line.split_once(':')?.1));
    let numbers = rows.flat_map(str::split_whitespace);
    let signs: Vec<i64> = numbers.filter_map(|n| Some(n.parse::<i64>().ok()?.signum())).collect();
    let [a, b, _, c, d, ..] = signs[..] else { return None };
    match [a, b, c, d] {
        [0, 1, -1, 0] => Some("transpose=clock"),
        [0, -1, 1, 0] => Some("transpose=cclock"),
        [0, 1, 1, 0] => Some("transpose=cclock_flip"),
        [0, -1, -1, 0] => Some("transpose=clock_flip"),
        [-1, 0, 0, -1] => Some("hflip,vflip"),
        [-1, 0, 0, 1] => Some("hflip"),
        [1, 0, 0, -1] => Some("vflip"),
        _ => None,
    }
}

/// A stream as it is after its turn.
pub(super) fn turned(stream: &Value, turn: &str) -> Value {
    let mut stream = stream.clone();
    if turn.starts_with("transpose") {
        let (width, height) = (stream["width"].take(), stream["height"].take());
        (stream["width"], stream["height"]) = (height, width);
        let shape = stream["sample_aspect_ratio"].as_str().and_then(|r| r.split_once(':'));
        if let Some(shape) = shape.map(|(over, under)| format!("{under}:{over}")) {
            stream["sample_aspect_ratio"] = shape.into();
        }
    }
    stream
}
