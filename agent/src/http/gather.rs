//! Gathers what people and scripts see, from the core and the job book.

mod agents;
mod facts;
mod jobs;
mod tasks;

pub use agents::{peers, status};
pub use jobs::{job, jobs};

/// A moment as RFC 3339 text.
pub(super) fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}
