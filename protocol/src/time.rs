//! Time as the core sees it: always an input, never read from a clock.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// Milliseconds of a monotonic clock whose zero only its owner knows.
///
/// Two agents never compare their times; each side times only itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// Milliseconds since `earlier`; zero when `earlier` is later.
    pub fn since_ms(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Time;
    fn add(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }
}

impl Sub<u64> for Time {
    type Output = Time;
    fn sub(self, ms: u64) -> Time {
        Time(self.0.saturating_sub(ms))
    }
}
