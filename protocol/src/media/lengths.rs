//! How long the segments of a film are.
//!
//! Long ones cost least: each has a pre-roll to decode and programs to start, and below 10 s its
//! bits cost more. Short ones share better, at the end above all: whoever takes the last segment
//! keeps everybody waiting for as long as it is. Which length is best depends on how fast the
//! machines are, so a few lengths are played through beforehand.

/// Shortest segments where the film allows longer ones, in seconds.
pub const SEGMENT_S_MIN: f64 = 10.0;
/// Longest segments, in seconds.
pub const SEGMENT_S_MAX: f64 = 60.0;
/// From these parts of the film on, segments are half and a quarter as long.
const TAIL_FROM: f64 = 0.7;
const END_FROM: f64 = 0.9;

/// Segments of a film at most, because more make joining slow: those of a longer film are longer.
pub const SEGMENTS_MAX: f64 = 900.0;

/// The lengths that are played through, in seconds.
const LENGTHS: [f64; 8] = [SEGMENT_S_MIN, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, SEGMENT_S_MAX];
/// A longer one must save this part of the time: of shorter ones less is lost when a machine goes,
/// and one that comes later gets something to do.
const GAIN_MIN: f64 = 0.01;
/// What a crash of the fastest machine may cost, in seconds.
const LOST_S_MAX: f64 = 600.0;
/// What a segment costs the fastest machine beside its pictures: cutting it, starting programs for it,
/// an encoder that begins anew. In seconds, measured (docs/PERFORMANCE.md).
const SEGMENT_COST_S: f64 = 0.35;
/// No longer than that there are so many segments for each slot, where the film is long enough: in a
/// large mesh somebody is always much slower than it seemed, and holds one.
const SEGMENTS_PER_SLOT: f64 = 16.0;
/// Until a machine has its first piece after the one before it has, beside the piece's way, in seconds.
const FEED_S: f64 = 0.06;
/// Slots that are played with. More share a film so finely that it makes no difference.
const SLOTS_MAX: usize = 128;
/// How far machines may be from their measured speed: of every second one, and of the fastest.
const DOUBTS: [(Doubt, f64); 4] =
    [(Doubt::Even, 1.0), (Doubt::Even, 0.8), (Doubt::Odd, 0.8), (Doubt::Fastest, 0.7)];

/// Whose speed is in doubt.
#[derive(Clone, Copy)]
enum Doubt {
    Even,
    Odd,
    Fastest,
}

/// What is known of a machine beforehand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Segments that it encodes at the same time.
    pub slots: u32,
    /// Seconds of the film that one slot encodes in a second.
    pub pace: f64,
}

/// The length of most segments of a film, in seconds. `travel`: how many seconds a second of the source
/// is on its way to another machine.
pub fn segment_target_s(film_s: f64, travel: f64, machines: &[Pace]) -> f64 {
    let mut paces: Vec<f64> = machines
        .iter()
        .flat_map(|machine| {
            std::iter::repeat_n(machine.pace, machine.slots as usize).take(SLOTS_MAX)
        })
        .filter(|pace| pace.is_finite() && *pace > 0.0)
        .collect();
    paces.sort_by(|a, b| b.total_cmp(a));
    paces.truncate(SLOTS_MAX);
    let Some(fastest) = paces.first().filter(|_| film_s.is_finite()) else { return SEGMENT_S_MIN };
    let slots = paces.len() as f64;
    let shared = (film_s / (slots * SEGMENTS_PER_SLOT)).max(SEGMENT_S_MAX / slots);
    let longest = shared.min(fastest * LOST_S_MAX).max(SEGMENT_S_MIN);
    let mut best = (SEGMENT_S_MIN, f64::INFINITY);
    for target_s in LENGTHS.into_iter().filter(|length| *length <= longest) {
        let played_s = target_s.max(film_s / SEGMENTS_MAX);
        let all: f64 = DOUBTS.iter().map(|of| play(film_s, played_s, travel, &paces, *of)).sum();
        if all < best.1 * (1.0 - GAIN_MIN) {
            best = (target_s, all);
        }
    }
    best.0
}

/// Seconds until the film is encoded, when each segment goes to whoever is thought to finish it first.
fn play(film_s: f64, target_s: f64, travel: f64, paces: &[f64], doubt: (Doubt, f64)) -> f64 {
    let fastest = paces.first().copied().unwrap_or(1.0);
    let first = |slot: usize| slot as f64 * (FEED_S + travel * target_s);
    let mut free: Vec<f64> = (0..paces.len()).map(first).collect();
    let mut begins_s = 0.0;
    while begins_s < film_s {
        let long = segment_s(target_s, begins_s, film_s);
        let left_s = film_s - begins_s;
        let long = if left_s - long < long * 0.4 { left_s } else { long };
        let takes = |slot: usize| (long + SEGMENT_COST_S * fastest) / paces[slot];
        let end = |slot: &usize| free[*slot] + takes(*slot);
        let Some(slot) = (0..paces.len()).min_by(|a, b| end(a).total_cmp(&end(b))) else { break };
        free[slot] += takes(slot) / really(doubt, slot);
        begins_s += long;
    }
    free.into_iter().fold(0.0, f64::max)
}

/// The part of its measured speed that a slot really has.
fn really((doubt, part): (Doubt, f64), slot: usize) -> f64 {
    let slower = match doubt {
        Doubt::Even => slot.is_multiple_of(2),
        Doubt::Odd => !slot.is_multiple_of(2),
        Doubt::Fastest => slot == 0,
    };
    if slower { part } else { 1.0 }
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

    fn target_s(film_s: f64, paces: &[f64]) -> f64 {
        let machines: Vec<Pace> = paces.iter().map(|pace| Pace { slots: 1, pace: *pace }).collect();
        segment_target_s(film_s, 0.01, &machines)
    }

    #[test]
    fn segments_are_shorter_in_a_large_mesh_and_longer_where_nobody_shares() {
        assert_eq!(target_s(7_200.0, &[4.0]), 60.0, "alone");
        assert_eq!(target_s(7_200.0, &[4.0; 2]), 60.0, "there are enough of them");
        assert!(target_s(7_200.0, &[1.0; 16]) <= 30.0);
        assert_eq!(target_s(7_200.0, &[1.0; 64]), 10.0);
        assert_eq!(target_s(7_200.0, &[1.0; 1_000]), 10.0);
        let (two, slow) = (target_s(120.0, &[4.0; 2]), target_s(120.0, &[4.0, 0.4]));
        assert!(two < target_s(120.0, &[4.0]), "{two}");
        assert!(two < slow, "what a slow one takes off is less than what cutting costs: {slow}");
        assert!(target_s(120.0, &[0.4; 2]) < two, "programs start in no time beside such encodes");
    }

    #[test]
    fn a_crash_costs_no_hours() {
        assert!(target_s(7_200.0, &[0.05]) <= 30.0);
        assert_eq!(target_s(7_200.0, &[0.000_1]), 10.0);
    }

    #[test]
    fn odd_input_gives_a_length() {
        assert_eq!(segment_target_s(100.0, 0.0, &[]), 10.0);
        for pace in [0.0, f64::NAN, f64::INFINITY] {
            assert_eq!(segment_target_s(100.0, 0.0, &[Pace { slots: 1, pace }]), 10.0);
        }
        let many = [Pace { slots: u32::MAX, pace: 1.0 }];
        for film_s in [0.0, -1.0, f64::NAN, f64::INFINITY, 9e12, f64::MAX] {
            assert!((10.0..=60.0).contains(&segment_target_s(film_s, 0.0, &many)), "{film_s}");
        }
    }

    #[test]
    fn the_end_of_a_film_is_cut_finer() {
        let at = |begins_s| segment_s(60.0, begins_s, 7_200.0);
        assert_eq!((at(0.0), at(5_100.0), at(7_000.0)), (60.0, 30.0, 15.0));
        assert_eq!(segment_s(12.0, 99.0, 100.0), 10.0, "never under 10 s by itself");
        assert_eq!(segment_s(2.0, 99.0, 100.0), 2.0, "unless a person wants it");
        assert_eq!(segment_s(f64::INFINITY, 99.0, 100.0), f64::INFINITY);
    }
}
