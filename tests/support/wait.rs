//! Waiting for what happens elsewhere.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until something is so; it must be within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut now: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !now() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        sleep(Duration::from_millis(50));
    }
}
