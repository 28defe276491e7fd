//! One task as its owner sees it: where it stands, and the leases on it.

use std::collections::BTreeMap;

use crate::id::{AgentId, AttemptId, BlobRef, JobId, TaskId};
use crate::media::{TaskInput, TaskSpec};
use crate::mesh::Output;
use crate::message::{Progress, TaskResult};
use crate::record::{Record, TaskRecord};
use crate::time::Time;

/// Where a task stands, as people see it.
///
/// ```text
/// Waiting ─▶ Cutting ─▶ Ready ─▶ Leased ─▶ Fetching ─▶ Committed
///                         ▲────────┴──────────┘   (lease ended, result bad)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its input is not there yet.
    Waiting,
    /// Its piece is being cut.
    Cutting,
    /// It can be granted.
    Ready,
    /// At least one worker holds a lease.
    Leased,
    /// A result is being fetched and verified.
    Fetching,
    /// A verified result is in the owner's store.
    Committed,
}

impl TaskState {
    /// Whether nobody has been given it yet.
    pub(in crate::mesh) fn is_left(self) -> bool {
        matches!(self, TaskState::Waiting | TaskState::Cutting | TaskState::Ready)
    }
}

/// A lease as its owner sees it.
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    /// When it was granted, or when this agent started.
    pub granted: Time,
    /// What the worker last told, once it runs.
    pub progress: Option<Progress>,
    /// When that last changed; at first when it was granted.
    pub(in crate::mesh) moved: Time,
    /// The most frames and milliseconds that it told of.
    pub(in crate::mesh) farthest: Option<(u64, u64)>,
    /// How often it began anew.
    pub(in crate::mesh) begun: u32,
    /// When it was first heard to run.
    pub(in crate::mesh) started: Option<Time>,
    /// Since when its worker's machine is needed by somebody else, and it is stopped.
    pub(in crate::mesh) paused: Option<Time>,
}

impl Lease {
    pub(in crate::mesh) fn new(now: Time) -> Lease {
        let (progress, farthest, started, paused) = (None, None, None, None);
        Lease { granted: now, progress, moved: now, farthest, begun: 0, started, paused }
    }

    /// Whether it is stopped at its worker, whose machine somebody else needs.
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// How much of the task it has done, in parts of 1,000, by the most that it told of.
    pub(in crate::mesh) fn part(&self, spec: &TaskSpec) -> u64 {
        let Some((frames, media_ms)) = self.farthest else { return 0 };
        let (done, all) = match (spec, spec.frames()) {
            (TaskSpec::Audio(task), _) => (media_ms, task.duration_us / 1_000),
            (TaskSpec::Sound(task), _) => (media_ms, task.duration_us / 1_000),
            (_, Some(all)) => (frames, all),
            _ => return 0,
        };
        done.min(all).saturating_mul(1_000).checked_div(all).unwrap_or(0)
    }
}

/// One task of a job.
#[derive(Debug, Clone)]
pub struct Task {
    /// The durable part.
    pub record: TaskRecord,
    /// Times and progress of the leases in the record.
    pub leases: BTreeMap<AttemptId, Lease>,
    pub(in crate::mesh) cutting: bool,
    /// Another way to do it is being looked for.
    pub(in crate::mesh) lowering: bool,
    pub(in crate::mesh) fetching: Option<(AttemptId, AgentId, TaskResult)>,
    /// Fetches of a result that its worker did not serve.
    pub(in crate::mesh) fetch_tries: BTreeMap<AttemptId, u32>,
}

impl Task {
    pub(super) fn new(record: TaskRecord) -> Task {
        Task {
            record,
            leases: BTreeMap::new(),
            cutting: false,
            lowering: false,
            fetching: None,
            fetch_tries: BTreeMap::new(),
        }
    }

    /// Where it stands. `source` says whether the whole source is hashed.
    pub fn state(&self, source: bool) -> TaskState {
        let has_input = match self.record.spec.input() {
            TaskInput::Piece => self.record.piece.is_some(),
            TaskInput::Source => source,
        };
        if self.record.commit.is_some() {
            TaskState::Committed
        } else if self.fetching.is_some() {
            TaskState::Fetching
        } else if !self.record.leases.is_empty() {
            TaskState::Leased
        } else if self.lowering {
            TaskState::Waiting
        } else if self.cutting {
            TaskState::Cutting
        } else if has_input {
            TaskState::Ready
        } else {
            TaskState::Waiting
        }
    }

    /// How far it is, in parts of 10,000: a film in one piece is one task, and takes long.
    pub(in crate::mesh) fn done(&self) -> u16 {
        if self.record.commit.is_some() {
            return 10_000;
        }
        let frames = self.record.spec.frames().filter(|frames| *frames > 0);
        let told = self.leases.values().filter_map(|lease| lease.progress);
        let furthest = told.map(|progress| progress.frames).max();
        let (Some(frames), Some(furthest)) = (frames, furthest) else { return 0 };
        let part = furthest.min(frames).saturating_mul(9_999) / frames;
        u16::try_from(part).unwrap_or(0)
    }

    pub(in crate::mesh) fn input_blob(&self, source: Option<BlobRef>) -> Option<BlobRef> {
        match self.record.spec.input() {
            TaskInput::Piece => self.record.piece,
            TaskInput::Source => source,
        }
    }

    pub(in crate::mesh) fn save(&self, out: &mut Vec<Output>) {
        out.push(Output::Save(Record::Task(self.record.clone())));
    }
}

pub(super) fn new_task(job: JobId, index: usize, spec: TaskSpec) -> Task {
    Task::new(TaskRecord {
        id: TaskId { job, index: u32::try_from(index).unwrap_or(u32::MAX) },
        spec,
        piece: None,
        leases: BTreeMap::new(),
        expired: BTreeMap::new(),
        failures: Vec::new(),
        commit: None,
    })
}
