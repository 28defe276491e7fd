//! How much a source may ask for, checked before anything is decoded: a small file can promise
//! pictures, frames and hours without end. Pure.
//!
//! What a header promises is not what a decoder meets, so each call of ffmpeg has limits of its own
//! too ([`super::call`]); these bounds give the clear answer, and early.

use std::path::Path;

use super::error::MediaError;
use super::ffprobe::Document;

/// Pixels of one picture that ffmpeg may decode: 16,384 × 8,192. One frame takes a gigabyte at
/// eight bytes a pixel, and a decoder keeps several.
pub(crate) const PIXELS_MAX: u64 = 134_217_728;
/// The longer side of a picture: encoders take no more.
const SIDE_MAX: u32 = 16_384;
/// Streams of one file. Films with a font for every sign have a hundred attachments.
const STREAMS_MAX: usize = 512;
/// Length of a film, in microseconds: two weeks, as long as one call may take at all.
const DURATION_US_MAX: i64 = 14 * 24 * 3600 * 1_000_000;
/// Frames of a film: nine days at 60 a second. More would not fit in memory as an index.
const FRAMES_MAX: u64 = 50_000_000;
/// Pixels of all frames together: 8K at 60 frames a second for fourteen hours. Frames that repeat
/// the last one cost a few bytes each in a file, but the same work as others.
const ALL_PIXELS_MAX: u64 = 100_000_000_000_000;

/// Refuses a file whose headers ask for too much.
///
/// # Errors
/// [`MediaError::Refused`] with what is too large, and how large it may be.
pub(crate) fn check_headers(path: &Path, document: &Document) -> Result<(), MediaError> {
    let streams = document.streams.len();
    if streams > STREAMS_MAX {
        return Err(refused(path, format!("it has {streams} streams; {STREAMS_MAX} are the most")));
    }
    for raw in document.streams.iter().filter(|raw| raw.codec_type == "video") {
        check_picture(path, raw.width, raw.height)?;
    }
    // A subtitle of which nobody knows when it ends makes ffmpeg write 49 days. What pictures and
    // sound really take is bounded again, by their packets and by each call.
    if document.streams.iter().any(|raw| raw.codec_type == "subtitle") {
        return Ok(());
    }
    let duration = super::ffprobe::seconds_to_us(document.format.duration.as_deref());
    if let Some(us) = duration.filter(|us| *us > DURATION_US_MAX) {
        let days = us / 86_400_000_000;
        let most = DURATION_US_MAX / 86_400_000_000;
        return Err(refused(path, format!("it claims to last {days} days; {most} are the most")));
    }
    Ok(())
}

/// Refuses pictures that are too large.
///
/// # Errors
/// [`MediaError::Refused`].
pub(crate) fn check_picture(path: &Path, width: u32, height: u32) -> Result<(), MediaError> {
    let pixels = u64::from(width) * u64::from(height);
    if width.max(height) <= SIDE_MAX && pixels <= PIXELS_MAX {
        return Ok(());
    }
    let why = format!(
        "its pictures have {width}×{height} pixels; {SIDE_MAX} a side and {PIXELS_MAX} in all are \
         the most"
    );
    Err(refused(path, why))
}

/// Refuses a film of too many frames, once its packets are counted.
///
/// # Errors
/// [`MediaError::Refused`].
pub(crate) fn check_frames(
    path: &Path,
    frames: u64,
    (width, height): (u32, u32),
) -> Result<(), MediaError> {
    let all = frames.saturating_mul(u64::from(width) * u64::from(height));
    if frames <= FRAMES_MAX && all <= ALL_PIXELS_MAX {
        return Ok(());
    }
    let why = format!(
        "it has {frames} frames of {width}×{height} pixels; {FRAMES_MAX} frames and \
         {ALL_PIXELS_MAX} pixels in all are the most"
    );
    Err(refused(path, why))
}

fn refused(path: &Path, why: String) -> MediaError {
    let next = "If it is a film all the same, cut or scale it with ffmpeg first";
    MediaError::refused(path, why, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(json: &str) -> Result<(), MediaError> {
        check_headers(Path::new("x"), &serde_json::from_str(json).unwrap())
    }

    fn video(width: u32, height: u32, duration: &str) -> String {
        format!(
            r#"{{"streams":[{{"codec_type":"video","width":{width},"height":{height}}}],
                "format":{{"duration":"{duration}"}}}}"#
        )
    }

    #[test]
    fn honest_films_pass() {
        headers(&video(7680, 4320, "43200.0")).unwrap();
        headers(&video(16_384, 8_192, "N/A")).unwrap();
        headers("{}").unwrap();
        let endless =
            r#"{"streams":[{"codec_type":"subtitle"}],"format":{"duration":"4294967.295"}}"#;
        headers(endless).unwrap();
        check_frames(Path::new("x"), 60 * 3600 * 12, (7680, 4320)).unwrap();
        check_frames(Path::new("x"), 25 * 3600 * 24 * 14, (1920, 1080)).unwrap();
    }

    #[test]
    fn bombs_are_refused_and_the_bound_is_named() {
        let cases = [
            (video(100_000, 100_000, "1"), "100000×100000"),
            (video(16_384, 16_384, "1"), "134217728"),
            (video(20_000, 2, "1"), "16384 a side"),
            (video(10, 10, "8640000"), "100 days"),
        ];
        for (json, words) in cases {
            let error = headers(&json).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let stream = r#"{"codec_type":"subtitle"}"#;
        let many = format!(r#"{{"streams":[{}]}}"#, vec![stream; 513].join(","));
        assert!(headers(&many).unwrap_err().to_string().contains("513 streams"));
        for (frames, size) in [(50_000_001, (2, 2)), (1_000_000, (16_000, 8_000))] {
            let error = check_frames(Path::new("x"), frames, size).unwrap_err().to_string();
            assert!(error.contains("frames of"), "{error}");
        }
    }
}
