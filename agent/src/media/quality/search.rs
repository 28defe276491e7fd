//! Finds the greatest constant rate factor that reaches a score. Pure.

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Encode with this and say what came of it.
    Try(u8),
    /// This one does, and the next one would not.
    Found(u8),
    /// Not even the least one does.
    OutOfReach(u8),
}

/// Trials after which the best so far is taken.
const TRIALS_MAX: usize = 9;
/// How far one guess goes beyond what is known.
const STRIDE_MAX: f64 = 8.0;

/// The next step after these trials (crf and score), for factors within `range`. Scores fall while
/// the factor grows: between a trial that reaches the score and one that does not, a straight line
/// tells where to look next.
pub(crate) fn next(tried: &[(u8, f64)], wanted: f64, start: u8, range: (u8, u8)) -> Step {
    let (least, most) = range;
    if tried.is_empty() {
        return Step::Try(start.clamp(least, most));
    }
    let good = tried.iter().filter(|(_, score)| *score >= wanted).max_by_key(|(crf, _)| *crf);
    let bad = tried.iter().filter(|(_, score)| *score < wanted).min_by_key(|(crf, _)| *crf);
    let full = tried.len() >= TRIALS_MAX;
    match (good, bad) {
        (Some((good, _)), _) if *good == most => Step::Found(*good),
        (None, Some((bad, _))) if *bad == least => Step::OutOfReach(*bad),
        (Some((good, _)), Some((bad, _))) if bad.saturating_sub(*good) <= 1 || full => {
            Step::Found(*good)
        }
        (Some((good, high)), Some((bad, low))) => {
            let part = (high - wanted) / (high - low).max(1e-9);
            let guess = f64::from(*good) + part * f64::from(bad - good);
            // The line bends: from both ends a little towards the middle.
            let middle = f64::midpoint(f64::from(*good), f64::from(*bad));
            let guess = (guess * 0.8 + middle * 0.2).round() as u8;
            Step::Try(guess.clamp(good + 1, bad - 1))
        }
        (Some((good, score)), None) => {
            let far = reach(tried, score - wanted);
            Step::Try(good.saturating_add(far).min(most))
        }
        (None, Some((bad, score))) => {
            let far = reach(tried, wanted - score);
            Step::Try(bad.saturating_sub(far).max(least))
        }
        (None, None) => Step::OutOfReach(least),
    }
}

/// How many steps away a difference of scores is, by what the trials show or by what is usual.
fn reach(tried: &[(u8, f64)], difference: f64) -> u8 {
    let least = tried.iter().min_by_key(|(crf, _)| *crf);
    let most = tried.iter().max_by_key(|(crf, _)| *crf);
    let slope = match (least, most) {
        (Some((a, high)), Some((b, low))) if b > a && high > low => (high - low) / f64::from(b - a),
        // Of SSIM about a thousandth a step, of VMAF about one and a half points.
        (Some((_, score)), _) if *score > 1.0 => 1.5,
        _ => 0.0015,
    };
    (difference / slope).ceil().clamp(2.0, STRIDE_MAX) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches with an honest encoder, and counts the trials.
    fn search(score: impl Fn(u8) -> f64, wanted: f64, start: u8) -> (Step, usize) {
        let mut tried = Vec::new();
        loop {
            match next(&tried, wanted, start, (1, 51)) {
                Step::Try(crf) => {
                    assert!(tried.iter().all(|(old, _)| *old != crf), "{crf} again: {tried:?}");
                    tried.push((crf, score(crf)));
                }
                end => return (end, tried.len()),
            }
        }
    }

    #[test]
    fn the_greatest_factor_that_reaches_the_score_is_found() {
        type Curve = (&'static str, fn(f64) -> f64);
        let curves: [Curve; 3] = [
            ("straight", |crf| 1.0 - crf * 0.0015),
            ("bent", |crf| 1.0 - (crf / 51.0).powi(3) * 0.2),
            ("steep at the end", |crf| 0.999 - 0.0001 * 1.17_f64.powf(crf)),
        ];
        for (name, curve) in curves {
            let score = |crf: u8| curve(f64::from(crf));
            for wanted in [0.99, 0.98, 0.95] {
                let truth = (1..=51).rev().find(|crf| score(*crf) >= wanted);
                let (found, trials) = search(score, wanted, 28);
                assert_eq!(
                    found,
                    truth.map_or(Step::OutOfReach(1), Step::Found),
                    "{name} {wanted}"
                );
                assert!(trials <= TRIALS_MAX, "{name} {wanted}: {trials}");
            }
        }
    }

    #[test]
    fn ends_are_ends() {
        assert_eq!(search(|_| 0.999, 0.98, 28).0, Step::Found(51));
        assert_eq!(search(|_| 0.5, 0.98, 28).0, Step::OutOfReach(1));
    }
}
