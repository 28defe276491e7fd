//! What a person asks for when a folder is to be watched, and what cannot be.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::media::MediaKind;
use dmc_store::StoreError;
use serde::{Deserialize, Serialize};

use super::records::{Delivery, Watch};
use super::rules::{Rules, RulesError};
use super::{Handle, change, tend};
use crate::jobs::now_ms;
use crate::paths::AnyPath;
use crate::presets;
use crate::runtime::Shared;

/// Folders that are watched at the same time.
const WATCHES_MAX: usize = 100;

/// A folder that is to be watched, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchWish {
    /// The folder, absolute. One that is watched already is set up anew.
    #[schema(value_type = String)]
    pub dir: AnyPath,
    /// Names of presets, one for each kind of media.
    pub presets: Vec<String>,
    /// Kinds of media: `video`, `audio`, `image`. None: all for which there is a preset.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub kinds: Vec<MediaKind>,
    /// Rules in TOML.
    #[serde(default)]
    pub rules: Option<String>,
    /// Whether results take the place of their sources.
    #[serde(default)]
    pub replace: bool,
    /// The directory below which results go, by the same relative paths.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub mirror: Option<AnyPath>,
}

/// Why a folder cannot be watched as it is wished, or cannot be left.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The wish makes no sense.
    #[error("{0}")]
    Wish(String),
    /// A preset.
    #[error(transparent)]
    Preset(#[from] presets::Problem),
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// The folder.
    #[error("cannot watch {path}")]
    Dir {
        /// The folder.
        path: AnyPath,
        /// Why.
        source: std::io::Error,
    },
    /// It is watched with another one.
    #[error(
        "{path} lies in {other}, which is watched already, or the other way round; remove one of \
             them first with `dmc watch remove`"
    )]
    Within {
        /// The folder.
        path: AnyPath,
        /// The other one.
        other: AnyPath,
    },
    /// Its disk does not answer.
    #[error("the disk of {path} does not answer; try again when it does")]
    Hangs {
        /// The folder.
        path: AnyPath,
    },
    /// The agent's own state.
    #[error("the agent cannot keep the watched folder")]
    Store(#[from] StoreError),
}

fn wrong(text: impl Into<String>) -> WatchError {
    WatchError::Wish(text.into())
}

fn real(path: &AnyPath) -> Result<PathBuf, WatchError> {
    if !path.is_absolute() {
        return Err(wrong(format!("{path} is not absolute: write the whole path, as in /films")));
    }
    let failed = |source| WatchError::Dir { path: path.clone(), source };
    let dir = std::fs::canonicalize(&path.0).map_err(failed)?;
    // Whether it can be read shows at once.
    std::fs::read_dir(&dir).map_err(failed)?;
    Ok(dir)
}

/// The presets by their kinds, and the kinds that are taken.
fn kinds(shared: &Shared, wish: &WatchWish) -> Result<Vec<MediaKind>, WatchError> {
    let mut made: Vec<(MediaKind, &str)> = Vec::new();
    for name in &wish.presets {
        let kind = presets::find(shared.settings.presets.as_deref(), name)?.encoder.kind();
        if let Some((_, other)) = made.iter().find(|(of, _)| *of == kind) {
            return Err(wrong(format!(
                "the presets {other} and {name} both make {kind}; name one"
            )));
        }
        made.push((kind, name));
    }
    if made.is_empty() {
        return Err(wrong("name a preset with --preset; `dmc presets` lists them"));
    }
    let mut kinds = wish.kinds.clone();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() {
        kinds = made.iter().map(|(kind, _)| *kind).collect();
        kinds.sort_unstable();
    }
    match kinds.iter().find(|kind| !made.iter().any(|(of, _)| of == *kind)) {
        Some(kind) => Err(wrong(format!(
            "no preset makes {kind}; add one with --preset, or leave {kind} out of --kinds"
        ))),
        None => Ok(kinds),
    }
}

fn delivery(wish: &WatchWish, dir: &Path) -> Result<Delivery, WatchError> {
    match (&wish.mirror, wish.replace) {
        (Some(_), true) => {
            Err(wrong("results can replace their sources or go to a mirror, not both"))
        }
        (None, true) => Ok(Delivery::Replace),
        (None, false) => Ok(Delivery::Alongside),
        (Some(mirror), false) => {
            let to = real(mirror)?;
            if dir.starts_with(&to) {
                let (dir, to) = (dir.display(), to.display());
                return Err(wrong(format!(
                    "{dir} lies in the mirror {to}: its results would be taken for sources"
                )));
            }
            Ok(Delivery::Mirror(AnyPath(to)))
        }
    }
}

/// Watches a folder from now on; one that is watched already, as it is wished now.
///
/// # Errors
/// What cannot work, in words for people.
pub async fn add(shared: &Arc<Shared>, wish: WatchWish) -> Result<Arc<Handle>, WatchError> {
    let kinds = kinds(shared, &wish)?;
    let rules = wish.rules.clone().unwrap_or_default();
    Rules::read(&rules)?;
    let dir = real(&wish.dir)?;
    let delivery = delivery(&wish, &dir)?;
    let _one = shared.library.changing.lock().await;
    let known = {
        let all = shared.library.all();
        let same = all.iter().find(|handle| handle.watch().dir.0 == dir).cloned();
        for other in all.iter().map(|handle| handle.watch()).filter(|other| other.dir.0 != dir) {
            if other.dir.starts_with(&dir) || dir.starts_with(&other.dir.0) {
                let (path, other) = (AnyPath(dir), other.dir.clone());
                return Err(WatchError::Within { path, other });
            }
        }
        if same.is_none() && all.len() >= WATCHES_MAX {
            return Err(wrong(format!("{WATCHES_MAX} folders are watched, and no more can be")));
        }
        same
    };
    if let Some(handle) = known {
        change(shared, &handle, |watch| {
            *watch = Watch { presets: wish.presets, kinds, rules, delivery, ..watch.clone() };
        })
        .await?;
        super::rescan(&handle);
        return Ok(handle);
    }
    let watch = Watch {
        id: shared.library.book.new_id().await?,
        dir: AnyPath(dir),
        presets: wish.presets,
        kinds,
        rules,
        delivery,
        paused: false,
        created_ms: now_ms(),
    };
    shared.library.book.keep(&watch).await?;
    Ok(tend(shared, watch))
}
