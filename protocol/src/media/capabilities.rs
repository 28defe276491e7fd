//! What an agent can do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Encoder, MediaKind};

/// What an agent can do, each encoder proven by a test encode.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capabilities {
    /// First line of `ffmpeg -version`, shortened.
    pub ffmpeg_version: String,
    /// Working encoders and the fingerprint of each: segments made under different fingerprints
    /// cannot be joined, so one job uses one fingerprint per encoder.
    pub encoders: BTreeMap<Encoder, [u8; 8]>,
    /// Kinds of media that can be made.
    pub kinds: BTreeSet<MediaKind>,
}
