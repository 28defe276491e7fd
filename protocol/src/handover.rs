//! A whole job on its way to a custodian: what is said of it, and what both sides keep on disk.
//!
//! The submitter stays the only one that publishes: the custodian keeps the result until it is
//! fetched, or puts it into its own inbox when it was asked to. So two owners, should a partition
//! make two, can never publish twice.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::REASON_BYTES_MAX;
use crate::id::{AgentId, BlobRef, JobId};
use crate::media::Preset;

/// Longest file name and path in bytes.
const NAME_BYTES_MAX: usize = 1_024;
const SEGMENT_S_MAX: u32 = 600;

/// A job as its submitter hands it over: typed settings, and names only for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedJob {
    /// The source's file name, without directories.
    pub name: String,
    /// The source's bytes.
    pub source: BlobRef,
    /// The target settings.
    pub preset: Preset,
    /// Wanted length of segments in seconds.
    pub segment_s: Option<u32>,
    /// The only agent that may take it, when the result is to stay there.
    pub deliver_to: Option<AgentId>,
    /// Where the result goes below the custodian's inbox, which is below a directory that its
    /// person chose; `None`: it waits for the submitter.
    pub deliver_as: Option<String>,
}

impl HandedJob {
    /// Whether an honest submitter could say this.
    pub fn is_acceptable(&self) -> bool {
        let name = !self.name.is_empty()
            && self.name.len() <= NAME_BYTES_MAX
            && !self.name.contains(['/', '\\', '\0'])
            && !matches!(self.name.as_str(), "." | "..");
        let segment = self.segment_s.is_none_or(|s| (1..=SEGMENT_S_MAX).contains(&s));
        let path = self.deliver_as.as_deref().is_none_or(is_relative_path);
        let both = self.deliver_as.is_some() == self.deliver_to.is_some();
        name && segment && path && both && self.source.bytes > 0 && self.preset.check().is_ok()
    }

    /// Bytes that a custodian needs: the source, its pieces and parts, and the result.
    pub fn disk_bytes(&self) -> u64 {
        self.source.bytes.saturating_mul(3)
    }
}

/// A path of plain names: nothing that leads out of the directory that it is joined to.
pub fn is_relative_path(path: &str) -> bool {
    path.len() <= NAME_BYTES_MAX
        && path.split('/').all(|part| {
            !part.is_empty() && !matches!(part, "." | "..") && !part.contains(['\\', '\0', ':'])
        })
}

/// Where a job stands at the submitter that handed it over.
///
/// ```text
/// Offered ◀─(gives it up)──▶ Away ──its result is ready──▶ Returning ─────published──▶ Over
///    │      custodian owns it     │ custodian is gone             │ ▲ result is bad      ▲
///    └────────────────────────────┴──────────▶ Own ◀──────────────┘ │ a late result      │
///                                               └───────────────────┘──published, failed─┘
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandedState {
    /// A custodian is looked for, or is fetching the source.
    Offered,
    /// The custodian owns it: this agent may leave.
    Away,
    /// The custodian has the result, which is fetched, verified and published here.
    Returning(BlobRef),
    /// This agent does it itself.
    Own,
    /// Nothing is left to do.
    Over(HandedEnd),
}

/// How a job that was handed over ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandedEnd {
    /// The custodian's result is published here.
    Published,
    /// The result is in the custodian's inbox.
    Delivered,
    /// It cannot be done.
    Failed(String),
    /// A person cancelled it.
    Cancelled,
    /// This agent did it itself; its own job says how that ended.
    Own,
}

impl HandedState {
    /// Whether the diagram above allows this step.
    pub fn can_become(&self, next: &HandedState) -> bool {
        use HandedState::{Away, Offered, Over, Own, Returning};
        match (self, next) {
            (Offered, Away | Returning(_) | Own)
            | (Away, Offered | Returning(_) | Own)
            | (Returning(_), Own)
            | (Own, Returning(_)) => true,
            (Over(_), Over(_)) => false,
            (_, Over(_)) => true,
            // A person tries it again.
            (Over(end), Own) => !matches!(end, HandedEnd::Published | HandedEnd::Delivered),
            _ => false,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        matches!(self, HandedState::Over(_))
    }
}

/// A job of this agent that it handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedRecord {
    /// The job.
    pub id: JobId,
    /// What was handed over.
    pub handed: HandedJob,
    /// Raised with each new custodian and when this agent takes the job back: the fence. What is
    /// said under an older one is no longer so.
    pub epoch: u32,
    /// The custodian.
    pub to: Option<AgentId>,
    /// Custodians that were given up, and the epoch under which each held the job: a late result of
    /// one of them is welcome.
    pub former: BTreeMap<AgentId, u32>,
    /// Where it stands.
    pub state: HandedState,
}

/// Where a job stands at its custodian.
///
/// ```text
/// Fetching ──source is here──▶ Working ──published──▶ Done | Delivered ──released──▶ (erased)
///     └──────────────────────────┴──▶ Failed | GivenUp ─────────────────released──▶ (erased)
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CustodyState {
    /// The source is on its way; the submitter is still the owner.
    Fetching,
    /// This agent owns the job.
    Working,
    /// The result is kept for the submitter.
    Done(BlobRef),
    /// The result is in this agent's inbox.
    Delivered,
    /// It cannot be done, by anybody.
    Failed(String),
    /// This agent cannot or does not want to; others may.
    GivenUp(String),
}

/// A job of another agent that this one keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyRecord {
    /// The job; the same id as at its submitter.
    pub id: JobId,
    /// The submitter.
    pub from: AgentId,
    /// The submitter's fence.
    pub epoch: u32,
    /// What was handed over.
    pub handed: HandedJob,
    /// Where it stands.
    pub state: CustodyState,
    /// How long a result was kept for an absent submitter, in milliseconds, as last saved.
    pub kept_ms: u64,
}

/// What a custodian tells of one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CustodyReport {
    /// It will not take it, or gave it up, for this reason.
    Refused(String),
    /// The source is on its way.
    Fetching,
    /// It owns the job.
    Working {
        /// Work done, in parts of 10,000.
        done: u16,
    },
    /// The result waits.
    Done(BlobRef),
    /// The result is in the custodian's inbox.
    Delivered,
    /// It cannot be done, for this reason.
    Failed(String),
}

impl CustodyReport {
    /// Whether its texts are within their limits.
    pub fn is_bounded(&self) -> bool {
        match self {
            CustodyReport::Refused(text) | CustodyReport::Failed(text) => {
                text.len() <= REASON_BYTES_MAX
            }
            CustodyReport::Fetching
            | CustodyReport::Working { .. }
            | CustodyReport::Done(_)
            | CustodyReport::Delivered => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_lead_out_of_the_inbox() {
        for good in ["film.mkv", "new/film.mkv", "a b/ü.mkv", "-x"] {
            assert!(is_relative_path(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "c:\\x", "a\0b", "a/"]
        {
            assert!(!is_relative_path(bad), "{bad}");
        }
    }
}
