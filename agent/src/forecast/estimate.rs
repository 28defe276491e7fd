//! From samples to a whole library, with how sure that is. Pure.
//!
//! Files are drawn by their size: a large one as often as its bytes, so that the mean of the drawn
//! ratios times all bytes is right on average whatever the files are. A library that is no larger than
//! the draw is looked at whole; then only the places within the files are chance.

/// What one drawn file tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that its result would have, by each sample of it.
    pub results: Vec<f64>,
    /// Work units of all its pictures.
    pub units: f64,
    /// Likeness of each sample.
    pub scores: Vec<f64>,
}

/// A number and how far off it may be: in 95 of 100 cases not further.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bar {
    /// The prediction.
    pub value: f64,
    /// The least that is likely.
    pub low: f64,
    /// The most that is likely.
    pub high: f64,
}

impl Bar {
    fn around(value: f64, error: f64, degrees: usize) -> Bar {
        let half = error * t95(degrees);
        Bar { value, low: value - half, high: value + half }
    }

    /// Not below or above what can be.
    #[must_use]
    pub fn within(self, least: f64, most: f64) -> Bar {
        let clamp = |n: f64| n.clamp(least, most);
        Bar { value: clamp(self.value), low: clamp(self.low), high: clamp(self.high) }
    }

    /// Each part through a function that keeps their order, or turns it.
    #[must_use]
    pub fn map(self, change: impl Fn(f64) -> f64) -> Bar {
        let (a, b) = (change(self.low), change(self.high));
        Bar { value: change(self.value), low: a.min(b), high: a.max(b) }
    }
}

/// The 97.5 % point of Student's t: few samples are less sure than they look.
fn t95(degrees: usize) -> f64 {
    const TABLE: [f64; 12] =
        [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179];
    match degrees {
        0 => TABLE[0],
        1..=12 => TABLE[degrees - 1],
        13..=20 => 2.12,
        21..=40 => 2.04,
        _ => 1.97,
    }
}

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Bytes of all results.
    pub bytes: Bar,
    /// Work units in all.
    pub units: f64,
    /// The mean likeness, frame by frame.
    pub score: Option<Bar>,
}

/// Predicts for a library of `total` bytes. `all`: every file of it was drawn, once.
pub fn estimate(drawn: &[Drawn], total: u64, all: bool) -> Option<Estimate> {
    let sound: Vec<&Drawn> =
        drawn.iter().filter(|file| file.bytes > 0 && !file.results.is_empty()).collect();
    if sound.is_empty() {
        return None;
    }
    let total = total as f64;
    let means: Vec<(f64, f64)> =
        sound.iter().map(|file| crate::media::quality::mean(&file.results)).collect();
    let places: usize = sound.iter().map(|file| file.results.len()).sum();
    let (bytes, degrees) = if all {
        // Files that could not be read count as the others do.
        let known: f64 = sound.iter().map(|file| file.bytes as f64).sum();
        let scale = total / known.max(1.0);
        let sum: f64 = means.iter().map(|(mean, _)| mean).sum();
        let error = means.iter().map(|(_, error)| error.powi(2)).sum::<f64>().sqrt();
        ((sum * scale, error * scale), places.saturating_sub(sound.len()))
    } else {
        let ratios: Vec<f64> =
            sound.iter().zip(&means).map(|(file, (mean, _))| mean / file.bytes as f64).collect();
        let (ratio, error) = crate::media::quality::mean(&ratios);
        // One file says nothing of others: then it may be off by half.
        let error = if ratios.len() < 2 { ratio / 2.0 / t95(1) } else { error };
        ((ratio * total, error * total), ratios.len().saturating_sub(1).max(1))
    };
    let units = if all {
        sound.iter().map(|file| file.units).sum::<f64>()
    } else {
        let each = sound.iter().map(|file| file.units / file.bytes as f64);
        each.sum::<f64>() / sound.len() as f64 * total
    };
    let scores: Vec<f64> = sound
        .iter()
        .filter(|file| !file.scores.is_empty())
        .map(|file| crate::media::quality::mean(&file.scores).0)
        .collect();
    let score = (!scores.is_empty()).then(|| {
        let (mean, error) = crate::media::quality::mean(&scores);
        Bar::around(mean, error, scores.len().saturating_sub(1).max(1))
    });
    let bytes = Bar::around(bytes.0, bytes.1, degrees.max(1)).within(0.0, f64::MAX);
    Some(Estimate { bytes, units, score })
}

/// Numbers that look random and are the same for the same seed, on every machine and in every
/// version (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// From a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to and without 1.
    pub fn part(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A position among weights, each as often as its weight.
    pub fn pick(&mut self, weights: &[u64]) -> Option<usize> {
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 {
            return None;
        }
        let mut left = u128::from(self.number()) % total;
        weights.iter().position(|weight| {
            let here = left < u128::from(*weight);
            left = left.saturating_sub(u128::from(*weight));
            here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_follows_its_seed_and_the_weights() {
        let mut chance = Chance::new(7);
        let weights = [1, 0, 3];
        let mut counts = [0; 3];
        for _ in 0..4_000 {
            counts[chance.pick(&weights).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((900..1_100).contains(&counts[0]), "{counts:?}");
        assert_eq!(Chance::new(7).number(), Chance::new(7).number());
        assert!(Chance::new(1).pick(&[0, 0]).is_none());
    }

    /// A library whose files shrink each by its own ratio, and what a draw of it predicts.
    fn draw(ratios: &[(u64, f64)], draws: usize, seed: u64) -> Estimate {
        let mut chance = Chance::new(seed);
        let weights: Vec<u64> = ratios.iter().map(|(bytes, _)| *bytes).collect();
        let drawn: Vec<Drawn> = (0..draws)
            .map(|_| {
                let (bytes, ratio) = ratios[chance.pick(&weights).unwrap()];
                let mut result = || bytes as f64 * ratio * (0.9 + 0.2 * chance.part());
                let results = vec![result(), result(), result()];
                Drawn { bytes, results, units: bytes as f64 * 2.0, scores: vec![0.98] }
            })
            .collect();
        estimate(&drawn, weights.iter().sum(), false).unwrap()
    }

    #[test]
    fn the_bars_hold_the_truth_about_as_often_as_they_say() {
        let mut chance = Chance::new(1);
        let files: Vec<(u64, f64)> =
            (0..200).map(|_| (1 + chance.number() % 1_000, 0.2 + 0.6 * chance.part())).collect();
        let truth: f64 = files.iter().map(|(bytes, ratio)| *bytes as f64 * ratio).sum();
        let held = (0..400).filter(|seed| {
            let Bar { low, high, .. } = draw(&files, 12, *seed).bytes;
            (low..=high).contains(&truth)
        });
        let held = held.count();
        assert!((360..=398).contains(&held), "{held} of 400");
        let total: u64 = files.iter().map(|(bytes, _)| bytes).sum();
        let units = draw(&files, 12, 3).units;
        assert!((units / total as f64 - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_library_that_is_looked_at_whole_is_surer() {
        let file = |bytes: u64, results: &[f64]| Drawn {
            bytes,
            results: results.to_vec(),
            units: 1.0,
            scores: vec![],
        };
        let drawn = [file(100, &[50.0, 52.0, 48.0]), file(1_000, &[100.0, 104.0, 96.0])];
        let whole = estimate(&drawn, 1_100, true).unwrap();
        let part = estimate(&drawn, 1_100, false).unwrap();
        assert!((whole.bytes.value - 150.0).abs() < 1e-6 && whole.score.is_none());
        assert!(whole.bytes.high - whole.bytes.low < part.bytes.high - part.bytes.low);
        assert!(estimate(&[], 5, true).is_none());
    }
}
