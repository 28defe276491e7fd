//! What a person asks for, and why it is refused.

use std::path::PathBuf;

use dmc_protocol::media::PresetOverrides;
use dmc_store::StoreError;
use serde::{Deserialize, Serialize};

use crate::jobs::Priority;
use crate::media::MediaError;
use crate::paths::AnyPath;
use crate::presets;
use crate::replace::SwapError;

/// What a person asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Wish {
    /// The source, absolute.
    #[schema(value_type = String)]
    pub input: AnyPath,
    /// The result, absolute; `None`: `name.<codec>.<container>` beside the source or in
    /// `output_dir`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output: Option<AnyPath>,
    /// Directory of the result.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output_dir: Option<AnyPath>,
    /// Name of the preset.
    pub preset: String,
    /// Changes to the preset.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub overrides: PresetOverrides,
    /// Whether an existing result may be replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// Whether the result takes the place of its source.
    #[serde(default)]
    pub replace: bool,
    /// Whether files that carry the source's whole name, as `film.avi.srt`, are then renamed along.
    #[serde(default)]
    pub sidecars: bool,
    /// Whether the place where a picture was taken is removed from its metadata.
    #[serde(default)]
    pub strip_gps: bool,
    /// Wanted length of segments in seconds.
    #[serde(default)]
    pub segment_seconds: Option<u32>,
    /// Whether the whole job is given to another agent, so that this one may leave.
    #[serde(default)]
    pub hand_over: bool,
    /// The agent (name or id) in whose inbox the result stays.
    #[serde(default)]
    pub deliver_to: Option<String>,
    /// The result's name below that inbox.
    #[serde(default)]
    pub deliver_as: Option<String>,
    /// Which of the agent's jobs go first: `low`, `normal`, `high`, or a number from -100 to 100.
    #[serde(default)]
    pub priority: Priority,
}

impl Wish {
    /// A file with a preset as it is, beside its source; all else is what nobody asked for.
    pub fn plain(input: PathBuf, preset: String) -> Wish {
        Wish {
            input: AnyPath(input),
            output: None,
            output_dir: None,
            preset,
            overrides: PresetOverrides::default(),
            overwrite: false,
            replace: false,
            sidecars: false,
            strip_gps: false,
            segment_seconds: None,
            hand_over: false,
            deliver_to: None,
            deliver_as: None,
            priority: Priority::NORMAL,
        }
    }
}

/// Why a request is refused; nothing was begun.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No ffmpeg on this machine.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The preset or its changes are wrong.
    #[error(transparent)]
    Preset(#[from] dmc_protocol::media::PresetError),
    /// There is no such preset, or its file is wrong.
    #[error(transparent)]
    Own(#[from] presets::Problem),
    /// The request itself is wrong.
    #[error("{0}")]
    Wish(String),
    /// The result cannot take the place of its source.
    #[error(transparent)]
    Replace(#[from] SwapError),
    /// The agent's own state failed.
    #[error("the agent cannot keep the job")]
    Store(#[from] StoreError),
}

impl Refusal {
    /// Whether the person wrote something that cannot mean anything.
    pub fn is_usage(&self) -> bool {
        matches!(self, Refusal::Preset(_) | Refusal::Own(_) | Refusal::Wish(_))
    }
}
