//! Why a file is converted or not: the same decisions as those of the folder's task, told one by one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::book::tail_of;
use super::judge::{self, Decision, Facts, Ruling, Verdict};
use super::look::{self, Terms};
use super::records::{Delivery, File, State};
use super::{Doing, Handle, content, scan};
use crate::jobs::{Stamp, now_ms};
use crate::paths::AnyPath;
use crate::runtime::Shared;

/// What a rule says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulingView {
    /// The rule.
    pub rule: String,
    /// `pass`, `skip` or `later`.
    pub verdict: String,
    /// The value that decided.
    pub why: String,
}

/// Why a file is converted or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// The file.
    #[schema(value_type = String)]
    pub path: AnyPath,
    /// The watched folder that it lies in.
    #[schema(value_type = String)]
    pub dir: AnyPath,
    /// `take`, `skip` or `later`: what follows from all rules now.
    pub decision: String,
    /// The preset that it is converted with, when it is.
    pub preset: Option<String>,
    /// The first rule that is against it, and why.
    pub because: Option<RulingView>,
    /// Every rule, in the order in which they are asked.
    pub rulings: Vec<RulingView>,
    /// Where it stands in the folder: `settling`, `new`, `waiting`, `converting`, `done`, `skipped`,
    /// `failed`, `results` or `unknown`.
    pub state: String,
    /// What is to be said of that.
    pub standing: Option<String>,
    /// Its job.
    pub job: Option<String>,
}

/// Why nothing can be told of a file.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// It is in no watched folder.
    #[error("{path} lies in no watched folder; `dmc watch list` shows them")]
    Nowhere {
        /// The file.
        path: AnyPath,
    },
    /// It is no file.
    #[error("{path} cannot be looked at: {why}")]
    NoFile {
        /// The file.
        path: AnyPath,
        /// Why.
        why: String,
    },
    /// The folder cannot decide.
    #[error("{0}")]
    Terms(String),
    /// The agent's own state.
    #[error("the agent's own state cannot be read")]
    Store(#[from] StoreError),
}

fn view(ruling: &Ruling) -> RulingView {
    let verdict = match ruling.verdict {
        Verdict::Pass => "pass",
        Verdict::Skip => "skip",
        Verdict::Until(_) => "later",
    };
    RulingView { rule: ruling.rule.clone(), verdict: verdict.to_owned(), why: ruling.why.clone() }
}

/// The folder that a path lies in, and the path below it. The last part is not followed where it is
/// a link; what leads to it is.
fn place(shared: &Shared, path: &Path) -> Option<(Arc<Handle>, PathBuf)> {
    let parent = std::fs::canonicalize(path.parent()?).ok()?;
    let path = parent.join(path.file_name()?);
    let all = shared.library.all();
    all.into_iter().find_map(|handle| {
        let below = path.strip_prefix(&handle.watch().dir.0).ok()?.to_owned();
        Some((handle, below))
    })
}

/// Tells what each rule says of a file.
///
/// # Errors
/// It is no file of a watched folder.
pub async fn explain(shared: &Arc<Shared>, path: &AnyPath) -> Result<ExplainView, ExplainError> {
    let nowhere = || ExplainError::Nowhere { path: path.clone() };
    let (handle, below) = place(shared, path).ok_or_else(nowhere)?;
    let watch = handle.watch();
    let terms = super::terms(shared, &watch).map_err(ExplainError::Terms)?;
    let real = terms.place(&below);
    let no_file = |why: String| ExplainError::NoFile { path: path.clone(), why };
    let meta = std::fs::symlink_metadata(&real).map_err(|e| no_file(e.to_string()))?;
    if meta.is_dir() {
        return Err(no_file("it is a directory; name a file in it".to_owned()));
    }
    let stamp = Stamp::of_file(&meta);
    let mut rulings = outside(shared, &terms, &below);
    let mut preset = None;
    if meta.is_file() {
        preset = inside(shared, &terms, &below, stamp, &mut rulings).await?;
    } else {
        let what = if meta.is_symlink() { "a link" } else { "no regular file" };
        let why = format!("it is {what}; what a link leads to is taken where it lies");
        rulings.push(Ruling { rule: "regular files".to_owned(), verdict: Verdict::Skip, why });
    }
    let known = shared.library.book.file(watch.id, &tail_of(&below))?;
    let against = rulings.iter().find(|ruling| ruling.verdict != Verdict::Pass);
    let decision = match against.map(|ruling| ruling.verdict) {
        None => "take",
        Some(Verdict::Until(_)) => "later",
        Some(_) => "skip",
    };
    Ok(ExplainView {
        path: AnyPath(real),
        dir: watch.dir.clone(),
        decision: decision.to_owned(),
        preset: preset.filter(|_| against.is_none()),
        because: against.map(view),
        rulings: rulings.iter().map(view).collect(),
        state: known.as_ref().map_or("unknown", |file| file.state.word()).to_owned(),
        standing: standing(&handle, &terms, known.as_ref(), stamp),
        job: known.and_then(|file| job_of(&file.state)),
    })
}

/// What keeps a file out whatever the rules are.
fn outside(shared: &Shared, terms: &Terms, below: &Path) -> Vec<Ruling> {
    let mut rulings = Vec::new();
    for part in below.components() {
        if let Some(why) = scan::never_taken(part.as_os_str()) {
            let rule = "hidden files".to_owned();
            rulings.push(Ruling { rule, verdict: Verdict::Skip, why: why.to_owned() });
        }
    }
    let out = shared.library.leave_out(&shared.data_dir);
    if let Some(dir) = out.iter().find(|dir| terms.place(below).starts_with(dir)) {
        let why = format!("{} is dmc's own, or holds its results", dir.display());
        let rule = "own directories".to_owned();
        rulings.push(Ruling { rule, verdict: Verdict::Skip, why });
    }
    rulings
}

/// What the rules say of a regular file, and which preset it would get.
async fn inside(
    shared: &Arc<Shared>,
    terms: &Terms,
    below: &Path,
    stamp: Stamp,
    rulings: &mut Vec<Ruling>,
) -> Result<Option<String>, ExplainError> {
    let real = terms.place(below);
    let mut say = |rule: &str, why: String| {
        rulings.push(Ruling { rule: rule.to_owned(), verdict: Verdict::Skip, why });
    };
    if let Some(job) = look::ours(shared, &real, stamp.bytes)? {
        say("results", format!("it is the result of job {job}"));
    }
    let facts = Facts {
        path: below,
        bytes: stamp.bytes,
        changed_ms: scan::ms(stamp.mtime_ns),
        media: None,
    };
    let media = look::media_of(shared, &real).await;
    let facts = Facts { media: media.as_ref().ok(), ..facts };
    rulings.extend(judge::judge(&terms.rules, &terms.aim, &facts, now_ms()));
    // Behind the rules that need no look into it, as when the folder's task decides.
    if let Err(why) = &media {
        let (rule, why) = ("media files".to_owned(), why.clone());
        rulings.push(Ruling { rule, verdict: Verdict::Skip, why });
    }
    let media = media.ok();
    let target = media.as_ref().and_then(|media| terms.aim.target(media.kind));
    let Some(preset) = target.map(|target| target.preset.clone()) else { return Ok(None) };
    let named = real.clone();
    let id = tokio::task::spawn_blocking(move || content::name(&named)).await;
    if let Ok(Ok(id)) = id
        && let Some(known) = shared.library.book.content(&id)?
    {
        if let Some(job) = known.result_of {
            let why = format!("its content is the result of job {job}");
            rulings.push(Ruling { rule: "results".to_owned(), verdict: Verdict::Skip, why });
        }
        match look::before(terms, &known, &preset, &real) {
            Some(State::Done { job: Some(job), under, .. }) => {
                let under = under.map_or_else(String::new, |path| format!(" as {path}"));
                let why = format!("its content was converted{under} by job {job}");
                rulings.push(Ruling { rule: "once".to_owned(), verdict: Verdict::Skip, why });
            }
            Some(State::Skipped { rule, why, until_ms }) => {
                let verdict = until_ms.map_or(Verdict::Skip, Verdict::Until);
                rulings.push(Ruling { rule, verdict, why });
            }
            _ => {}
        }
    }
    if let Decision::Take(preset) = judge::decide(rulings, &terms.aim, media.as_ref()) {
        return Ok(Some(preset));
    }
    Ok(None)
}

fn job_of(state: &State) -> Option<String> {
    match state {
        State::Given { job, .. } | State::Result { job } => Some(job.to_string()),
        State::Done { job, .. } | State::Failed { job, .. } => job.map(|job| job.to_string()),
        State::Settling | State::Fresh | State::Waiting { .. } | State::Skipped { .. } => None,
    }
}

/// What is to be said of where a file stands, beside its state.
fn standing(handle: &Handle, terms: &Terms, file: Option<&File>, stamp: Stamp) -> Option<String> {
    match handle.doing() {
        Doing::Paused => return Some("the folder is paused".to_owned()),
        Doing::Lost(why) | Doing::Stopped(why) => return Some(why),
        Doing::Watching | Doing::Scanning(_) | Doing::Looking(_) => {}
    }
    let Some(file) = file else { return Some("the folder has not seen it yet".to_owned()) };
    let changed = file.stamp != stamp && !matches!(file.state, State::Given { .. });
    Some(match &file.state {
        _ if changed => "it changed since it was last looked at".to_owned(),
        State::Settling => {
            "it must rest before it is taken, and nobody may have it open for writing".to_owned()
        }
        State::Fresh => "it is looked at soon".to_owned(),
        State::Waiting { .. } if !terms.rules.hours.are_now() => {
            format!("it waits for the folder's hours ({})", terms.rules.hours)
        }
        State::Waiting { .. } => "it waits for its turn".to_owned(),
        State::Skipped { rule, why, .. } => format!("{rule}: {why}"),
        State::Failed { why, .. } => why.clone(),
        State::Done { before, after, under, .. } => {
            let saved = super::pay::saved_percent(*before, *after);
            let under = under.as_ref().map_or_else(String::new, |path| format!(", as {path}"));
            let place = match &terms.watch.delivery {
                Delivery::Replace => " in its place",
                Delivery::Alongside | Delivery::Mirror(_) => "",
            };
            format!("it was converted{under}{place}: {saved:.0} % smaller")
        }
        State::Given { .. } | State::Result { .. } => return None,
    })
}
