//! The stable JSON shapes of jobs and peers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::jobs::Proof;
use crate::paths::AnyPath;
use crate::replace::view::UndoView;

/// This agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Where peers reach it.
    pub addresses: Vec<String>,
    /// Peers that are connected.
    pub peers: usize,
    /// Whether it is paused.
    pub paused: bool,
    /// Encodes at the same time.
    pub slots: u32,
    /// Encodes that run here now, for any owner.
    pub running: usize,
    /// Jobs that are not over.
    pub jobs_active: usize,
    /// Jobs that persons asked this agent for, by status.
    #[serde(default)]
    pub jobs: BTreeMap<String, u64>,
    /// Bytes that its work may still take, beside what stays free.
    pub free_disk_bytes: u64,
    /// Results that it keeps for other owners.
    #[serde(default)]
    pub kept: Vec<KeptView>,
    /// Why it does nothing new, or nothing for others.
    #[serde(default)]
    pub waiting: Option<String>,
    /// Who may join.
    pub door: String,
    /// What is wrong with this agent's place in the mesh.
    #[serde(default)]
    pub trouble: Vec<String>,
}

/// A peer.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `connected`, `suspect` or `gone`.
    pub state: String,
    /// Where it was seen or reached.
    pub addresses: Vec<String>,
    /// What it can do.
    pub capabilities: CapabilitiesView,
    /// Measured speed: million work units (pixels, samples) a second by class.
    pub speed: BTreeMap<String, f64>,
    /// Attempts that it runs for this agent.
    pub running: usize,
    /// Encodes at the same time.
    pub slots: u32,
    /// Whether its person paused it.
    pub paused: bool,
    /// How often something that it said or sent was refused since this agent started: wrong
    /// bytes, frames that are none, results of attempts that it never had.
    #[serde(default)]
    pub refused: u64,
    /// Bytes that its work may still take, beside what stays free.
    pub free_disk_bytes: u64,
}

/// What an agent can do.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct CapabilitiesView {
    /// Version line of its ffmpeg; empty without one.
    pub ffmpeg: String,
    /// Encoders that passed a test encode.
    pub encoders: Vec<String>,
    /// Kinds of media.
    pub kinds: Vec<String>,
}

/// Who did how much of a job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WorkerView {
    /// The agent.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Tasks of the job that it finished.
    pub segments: usize,
    /// What it does now.
    pub now: Vec<String>,
    /// Frames a second over what it does now.
    pub fps: f64,
    /// Whether it cannot be reached now.
    #[serde(default)]
    pub away: bool,
    /// What it holds of the job now.
    #[serde(default)]
    pub holds: Vec<HoldView>,
}

/// An attempt that a worker holds.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HoldView {
    /// The task's position in the plan.
    pub task: u32,
    /// What the task is.
    pub label: String,
    /// The attempt.
    pub attempt: String,
    /// `queued`, `running` or `finished`: then its result is kept until the owner has it.
    pub state: String,
}

/// A result that this agent keeps for an owner.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct KeptView {
    /// The owner.
    pub owner: String,
    /// Its name.
    pub owner_name: String,
    /// Its job.
    pub job: String,
    /// The task's position in the job's plan.
    pub task: u32,
    /// What the task is.
    pub label: String,
    /// Bytes of the result.
    pub bytes: u64,
    /// Whether the owner cannot be reached now.
    pub owner_away: bool,
    /// Seconds that it has waited for an owner that is away.
    pub kept_s: u64,
}

/// A try at a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// The attempt.
    pub id: String,
    /// Its worker.
    pub worker: String,
    /// The worker's name.
    pub worker_name: String,
    /// `leased`, `expired`, `failed` or `committed`.
    pub state: String,
    /// Why it failed.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Position in the plan.
    pub index: u32,
    /// What it is.
    pub label: String,
    /// `waiting`, `cutting`, `ready`, `leased`, `fetching` or `committed`.
    pub state: String,
    /// `pieces`, `seek`, `whole`, `audio` or `image`.
    pub rung: String,
    /// Who made the result.
    #[serde(default)]
    pub worker: Option<String>,
    /// The name of who made it.
    #[serde(default)]
    pub worker_name: Option<String>,
    /// Frames, where known.
    #[serde(default)]
    pub frames: Option<u64>,
    /// Seconds that the encoder ran.
    #[serde(default)]
    pub encode_s: Option<f64>,
    /// Bytes of the result.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// All tries.
    pub attempts: Vec<AttemptView>,
}

/// A job.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// The job.
    pub id: String,
    /// `to_do`, `in_progress`, `finished_successful`, `finished_with_errors` or `cancelled`.
    pub status: String,
    /// The finer step.
    pub phase: String,
    /// The source.
    #[schema(value_type = String)]
    pub input: AnyPath,
    /// The result.
    #[schema(value_type = String)]
    pub output: AnyPath,
    /// Name of the preset.
    pub preset: String,
    /// 0 to 1.
    pub progress: f64,
    /// Frames encoded so far.
    pub frames: u64,
    /// Frames in all, where known.
    pub frames_total: u64,
    /// Frames a second over all agents.
    pub fps: f64,
    /// Bytes encoded so far.
    pub bytes: u64,
    /// How the film is shared out: `pieces`, `seek`, `whole`, `remux` or `image`.
    #[serde(default)]
    pub rung: Option<String>,
    /// The agent that keeps this job in this one's stead.
    #[serde(default)]
    pub custodian: Option<String>,
    /// The result's name in the custodian's inbox, when it stays there.
    #[serde(default)]
    pub delivered_as: Option<String>,
    /// The agent that this job is kept for.
    #[serde(default)]
    pub submitter: Option<String>,
    /// Who did how much.
    pub workers: Vec<WorkerView>,
    /// Why it does not advance.
    #[serde(default)]
    pub waiting: Option<String>,
    /// What the person should know.
    pub notes: Vec<String>,
    /// What went wrong.
    pub errors: Vec<String>,
    /// The proof, once the result is published.
    #[serde(default)]
    pub proof: Option<Proof>,
    /// What becomes of its source, when the result takes its place.
    #[serde(default)]
    pub undo: Option<UndoView>,
    /// Tasks done and in all.
    pub tasks_done: usize,
    /// Tasks in all.
    pub tasks_total: usize,
    /// The tasks (only when one job is shown).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskView>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

impl JobView {
    /// Whether nothing more happens by itself.
    pub fn is_over(&self) -> bool {
        self.status.starts_with("finished") || self.status == "cancelled"
    }
}
