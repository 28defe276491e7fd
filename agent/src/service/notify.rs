//! What the agent tells the service manager that started it (systemd's `Type=notify`): that it
//! listens, that its loop turns, that it stops. Without such a manager all of it does nothing.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Says that peers and the API can reach this agent, and one line for `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the agent stops, which may take its grace period.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishing what ends soon")]);
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that went away is no reason to stop converting.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("the service manager was not told: {error}");
    }
}

/// Shows the service manager that the loop turns. Held by the loop itself, so that a loop that hangs
/// is silent, and the manager starts the agent anew.
pub struct Pulse {
    every: Option<Duration>,
    last: Option<Instant>,
}

impl Pulse {
    /// As often as the manager wants; never when there is none.
    pub fn from_environment() -> Pulse {
        Pulse::every(sd_notify::watchdog_enabled())
    }

    fn every(patience: Option<Duration>) -> Pulse {
        // Four chances within its patience: a commit on a slow disk takes seconds.
        Pulse { every: patience.map(|patience| patience / 4), last: None }
    }

    /// Called at every turn of the loop; tells the manager when it is time.
    pub fn beat(&mut self) {
        if self.is_due(Instant::now()) {
            tell(&[NotifyState::Watchdog]);
        }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let Some(every) = self.every else { return false };
        let due = self.last.is_none_or(|last| now.duration_since(last) >= every);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_beats_four_times_within_the_patience_and_only_then() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::every(Some(Duration::from_secs(4)));
        let due: Vec<u64> = (0..40).map(|n| n * 100).filter(|ms| pulse.is_due(at(*ms))).collect();
        assert_eq!(due, [0, 1_000, 2_000, 3_000]);
        assert!(!Pulse::every(None).is_due(start));
    }
}
