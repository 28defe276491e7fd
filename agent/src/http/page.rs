//! Which part of a long list is asked for.

use axum::http::StatusCode;
use dmc_protocol::id::JobId;

use super::problem::Problem;
use crate::jobs::Status;

/// Entries of a page when nothing else is asked for.
const PAGE: usize = 50;
/// Most entries of a page.
const PAGE_MAX: usize = 1_000;

/// A page of jobs or items, the newest first.
pub(super) struct Page {
    /// Those of one status.
    pub status: Option<Status>,
    /// Those before this one.
    pub before: Option<JobId>,
    /// At most so many.
    pub limit: usize,
}

impl Page {
    /// Reads the words of a query.
    pub fn of(
        status: Option<String>,
        cursor: Option<String>,
        limit: Option<u32>,
    ) -> Result<Page, Problem> {
        let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let status = status.map(|word| word.parse()).transpose();
        let cursor = cursor.map(|id| id.parse::<JobId>()).transpose();
        Ok(Page {
            status: status.map_err(|e: crate::jobs::NoStatus| wrong(e.to_string()))?,
            before: cursor.map_err(|e| wrong(e.to_string()))?,
            limit: limit
                .map_or(PAGE, |limit| usize::try_from(limit).unwrap_or(PAGE_MAX))
                .min(PAGE_MAX),
        })
    }
}
