//! How long the segments of a film are.
//!
//! Long ones cost least: each has a pre-roll to decode and a program to start, and below 10 s its
//! bits cost more. Short ones share better, at the end above all: whoever takes the last segment
//! keeps everybody waiting for as long as it is.

/// Shortest segments where the film allows longer ones, in seconds.
pub const SEGMENT_S_MIN: f64 = 10.0;
/// The same where only one machine can work: there is nobody to share with.
const SEGMENT_S_MIN_ALONE: f64 = 30.0;
/// Longest segments, in seconds: what a crash of a worker may cost.
pub const SEGMENT_S_MAX: f64 = 60.0;
/// Segments for each slot of the mesh.
const SEGMENTS_PER_SLOT: f64 = 16.0;
/// From these parts of the film on, segments are half and a quarter as long.
const TAIL_FROM: f64 = 0.7;
const END_FROM: f64 = 0.9;

/// The length of most segments of a film of this length, in seconds, for a mesh with so many slots.
pub fn segment_target_s(film_s: f64, slots: f64) -> f64 {
    let least = if slots > 1.0 { SEGMENT_S_MIN } else { SEGMENT_S_MIN_ALONE };
    (film_s / (slots.max(1.0) * SEGMENTS_PER_SLOT)).clamp(least, SEGMENT_S_MAX)
}

/// The length of the segment that begins at this moment of the film, when most are `target_s` long.
pub fn segment_s(target_s: f64, begins_s: f64, film_s: f64) -> f64 {
    let part = if film_s > 0.0 { begins_s / film_s } else { 0.0 };
    let shorter = match part {
        part if part >= END_FROM => target_s / 4.0,
        part if part >= TAIL_FROM => target_s / 2.0,
        _ => target_s,
    };
    shorter.max(SEGMENT_S_MIN.min(target_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_shorter_in_a_large_mesh_and_at_the_end() {
        assert_eq!(segment_target_s(7_200.0, 1.0), 60.0);
        assert_eq!(segment_target_s(60.0, 1.0), 30.0);
        assert_eq!(segment_target_s(60.0, 2.0), 10.0);
        assert_eq!(segment_target_s(7_200.0, 16.0), 28.125);
        assert_eq!(segment_target_s(7_200.0, 1_000.0), 10.0);
        let at = |begins_s| segment_s(60.0, begins_s, 7_200.0);
        assert_eq!((at(0.0), at(5_100.0), at(7_000.0)), (60.0, 30.0, 15.0));
        assert_eq!(segment_s(12.0, 99.0, 100.0), 10.0, "never under 10 s by itself");
        assert_eq!(segment_s(2.0, 99.0, 100.0), 2.0, "unless a person wants it");
        assert_eq!(segment_s(f64::INFINITY, 99.0, 100.0), f64::INFINITY);
    }
}
