//! What people and programs see of a replacement.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Replaced, Stage, files};
use crate::paths::AnyPath;

const DAY_MS: i64 = 24 * 3_600_000;

/// A file that was replaced, or is to be.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UndoView {
    /// The job that replaces it.
    pub job: String,
    /// `wanted`, `replacing`, `kept`, `restoring`, `restored` or `gone`.
    pub state: String,
    /// Where it was.
    #[schema(value_type = String)]
    pub source: AnyPath,
    /// What takes its place.
    #[schema(value_type = String)]
    pub output: AnyPath,
    /// Where the original is now, while it is kept.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub original: Option<AnyPath>,
    /// Whether it is there now: its disk may be away.
    pub there: bool,
    /// Bytes of the original.
    pub bytes: u64,
    /// Bytes of the result.
    pub result_bytes: u64,
    /// When it was replaced (RFC 3339).
    #[serde(default)]
    pub replaced_at: Option<String>,
    /// Until when it is kept, while there is room (RFC 3339).
    #[serde(default)]
    pub until: Option<String>,
    /// Why it is no more.
    #[serde(default)]
    pub why: Option<String>,
}

impl UndoView {
    /// Of one that is kept for so many days.
    pub fn of(replaced: &Replaced, keep_days: u32) -> UndoView {
        let moment = |ms: i64| jiff::Timestamp::from_millisecond(ms).ok().map(|at| at.to_string());
        let taken = replaced.taken.as_ref();
        let kept = taken.filter(|_| replaced.stage == Stage::Kept);
        let until = kept.map(|taken| taken.at_ms.saturating_add(i64::from(keep_days) * DAY_MS));
        UndoView {
            job: replaced.id.to_string(),
            state: replaced.stage.word().to_owned(),
            source: replaced.source.clone(),
            output: replaced.output.clone(),
            original: kept.map(|taken| AnyPath(taken.kept())),
            there: kept.is_some_and(|taken| files::exists(&taken.kept()).unwrap_or(false)),
            bytes: taken.map_or(0, |taken| taken.original.stamp.bytes),
            result_bytes: taken.map_or(0, |taken| taken.result.stamp.bytes),
            replaced_at: taken.and_then(|taken| moment(taken.at_ms)),
            until: until.and_then(moment),
            why: replaced.why.clone(),
        }
    }
}
