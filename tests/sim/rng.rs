//! SplitMix64: small, fast, and the same on every machine for ever.

/// A seeded generator.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator for this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `from..=to`.
    pub fn within(&mut self, (from, to): (u64, u64)) -> u64 {
        from + self.bits() % (to.saturating_sub(from) + 1)
    }

    /// A place in a list of this length; 0 for an empty one.
    pub fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.bits() % (len.max(1) as u64)).unwrap_or(0)
    }

    /// Whether something happens that happens so often.
    pub fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.bits() % 100 < percent
    }
}
