//! Whether a conversion saves enough. Pure.

/// Segments that must be there before anything is foretold.
const PARTS_MIN: usize = 3;
/// The part of a film that they must hold.
const SHARE_MIN: f64 = 0.1;
/// Standard errors that the rest may be better by than what was seen.
const ERRORS: f64 = 3.0;

/// How much smaller a result is than its source, in per cent; negative: it is larger.
pub fn saved_percent(before: u64, after: u64) -> f64 {
    if before == 0 { 0.0 } else { (1.0 - after as f64 / before as f64) * 100.0 }
}

/// Why a finished result is thrown away, when it is.
pub fn unwanted(before: u64, after: u64, least_percent: u8) -> Option<String> {
    let saved = saved_percent(before, after);
    let kept =
        u128::from(after) * 100 <= u128::from(before) * u128::from(100 - least_percent.min(100));
    let wanted = format!("min_savings_percent wants {least_percent} %");
    match saved {
        _ if kept && before > 0 => None,
        saved if saved < 0.0 => {
            Some(format!("the result would be {:.1} % larger, and {wanted}", -saved))
        }
        saved => Some(format!("the result would save {saved:.1} %, and {wanted}")),
    }
}

/// A part of the pictures that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its frames.
    pub frames: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Why it is not worth to go on, when the parts that are done show that: even the pictures alone
/// would take more than the whole result may. Sound and the rest come on top, so it never stops what
/// would pay.
pub fn hopeless(
    parts: &[Part],
    frames_total: u64,
    source_bytes: u64,
    least_percent: u8,
) -> Option<String> {
    let parts: Vec<Part> = parts.iter().copied().filter(|part| part.frames > 0).collect();
    let frames: u64 = parts.iter().map(|part| part.frames).sum();
    let share = frames as f64 / frames_total.max(1) as f64;
    if parts.len() < PARTS_MIN || share < SHARE_MIN || source_bytes == 0 || frames >= frames_total {
        return None;
    }
    let done: u64 = parts.iter().map(|part| part.bytes).sum();
    let rate = done as f64 / frames as f64;
    // The spread of what a frame takes from part to part tells how far the rest may be off.
    let spread = parts.iter().map(|part| {
        let own = part.bytes as f64 / part.frames as f64;
        part.frames as f64 / frames as f64 * (own - rate).powi(2)
    });
    let error = (spread.sum::<f64>() / (parts.len() - 1) as f64).sqrt();
    let left = frames_total.saturating_sub(frames) as f64;
    let least = done as f64 + left * (rate - ERRORS * error).max(0.0);
    let may = source_bytes as f64 * (1.0 - f64::from(least_percent) / 100.0);
    (least > may).then(|| {
        let saves = (1.0 - (done as f64 + left * rate) / source_bytes as f64) * 100.0;
        let told = if saves < 0.0 {
            format!("the result would be about {:.0} % larger", -saves)
        } else {
            format!("the result would save about {saves:.0} % at most")
        };
        format!(
            "{told}, and min_savings_percent wants {least_percent} %: stopped after {} parts, {:.0} % of \
             the pictures",
            parts.len(),
            (share * 100.0).floor()
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(bytes: &[u64]) -> Vec<Part> {
        bytes.iter().map(|bytes| Part { frames: 100, bytes: *bytes }).collect()
    }

    #[test]
    fn what_saves_too_little_is_not_wanted() {
        assert_eq!(unwanted(1_000, 899, 10), None);
        assert_eq!(unwanted(1_000, 900, 10), None);
        assert!(unwanted(1_000, 901, 10).unwrap().contains("save 9.9 %"));
        assert!(unwanted(1_000, 1_200, 10).unwrap().contains("20.0 % larger"));
        assert!(unwanted(0, 0, 1).is_some());
    }

    #[test]
    fn what_cannot_pay_is_stopped_early() {
        // Ten parts of 100 frames, as large as the source.
        let why = hopeless(&parts(&[100, 102, 98]), 1_000, 1_000, 10).unwrap();
        assert!(why.contains("3 parts, 30 %"), "{why}");
        assert!(
            hopeless(&parts(&[150, 150, 150]), 1_000, 1_000, 10).unwrap().contains("50 % larger")
        );
    }

    #[test]
    fn what_may_still_pay_goes_on() {
        assert_eq!(hopeless(&parts(&[50, 50, 50]), 1_000, 1_000, 10), None, "it pays");
        assert_eq!(hopeless(&parts(&[100, 100]), 1_000, 1_000, 10), None, "too few parts");
        assert_eq!(hopeless(&parts(&[100; 3]), 10_000, 10_000, 10), None, "too small a part");
        assert_eq!(
            hopeless(&parts(&[10, 100, 190]), 1_000, 1_000, 10),
            None,
            "it goes up and down"
        );
        assert_eq!(hopeless(&parts(&[100; 10]), 1_000, 1_000, 10), None, "it is done anyway");
        assert_eq!(hopeless(&[], 0, 0, 10), None);
    }

    proptest! {
        /// Where all parts are alike, the forecast is the truth.
        #[test]
        fn alike_parts_are_foretold_rightly(
            bytes in 1_u64..1_000, source in 1_u64..20_000, least in 1_u8..99, seen in 3_usize..10,
        ) {
            let truth = 10 * bytes;
            let stopped = hopeless(&parts(&vec![bytes; seen]), 1_000, source, least).is_some();
            if seen < 10 && (truth as f64) < source as f64 * (1.0 - f64::from(least) / 100.0) - 1e-6 {
                prop_assert!(!stopped);
            }
            if stopped {
                prop_assert!(unwanted(source, truth, least).is_some());
            }
        }
    }
}
