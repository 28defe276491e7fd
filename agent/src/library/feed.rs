//! From a file that waits to a job, and from the end of a job to what became of its file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::id::JobId;
use dmc_store::StoreError;
use tracing::debug;
use uuid::Uuid;

use super::book::Listed;
use super::content;
use super::look::{self, Terms};
use super::records::{Content, ContentId, Delivery, Errand, File, Made, Outcome, State};
use crate::intake::{self, Refusal, Wish};
use crate::jobs::{Priority, Request, Stamp, Status, now_ms};
use crate::media::plan::{self, PlanHints};
use crate::media::{MediaError, index, probe};
use crate::paths::AnyPath;
use crate::presets;
use crate::runtime::Shared;
use crate::worker::chain;

/// Makes a job of a file that waits. True: it has one now.
pub async fn give(
    shared: &Arc<Shared>,
    terms: &Terms,
    listed: &Listed,
) -> Result<bool, StoreError> {
    let ready = match ready(shared, terms, &listed.file).await? {
        Ok(ready) => ready,
        Err(state) => return put(shared, terms, listed, state).await.map(|()| false),
    };
    let job = JobId(Uuid::now_v7());
    let after = note_given(shared, terms, listed, job, &ready).await?;
    match intake::accept_as(shared, job, ready.wish).await {
        Ok(()) => {
            let Some(request) = shared.jobs.request(job)? else { return Ok(true) };
            let mut changes = shared.library.book.change(terms.watch.id);
            changes.put_output(&request.output, job, None)?;
            changes.save().await?;
            Ok(true)
        }
        Err(Refusal::Store(e)) => Err(e),
        Err(refusal) => {
            debug!("{} is not converted: {}", ready.path.display(), chain(&refusal));
            let state = refused(&refusal);
            let listed = Listed { file: after, ..listed.clone() };
            put_back(shared, terms, &listed, job, state).await.map(|()| false)
        }
    }
}

/// A file that can be given a job.
struct Ready {
    path: PathBuf,
    content: ContentId,
    /// What is known of its content.
    known: Content,
    preset: String,
    wish: Wish,
}

/// Whether a file that waits can be given a job; if not, what it is instead.
async fn ready(
    shared: &Arc<Shared>,
    terms: &Terms,
    file: &File,
) -> Result<Result<Ready, State>, StoreError> {
    let path = terms.place(&file.path);
    let (State::Waiting { preset }, Some(content)) = (&file.state, file.content) else {
        return Ok(Err(State::Fresh));
    };
    // It may be another one by now: that is looked at first.
    match std::fs::symlink_metadata(&path).map(|meta| Stamp::of_file(&meta)) {
        Ok(now) if now == file.stamp => {}
        Ok(_) => return Ok(Err(State::Settling)),
        Err(e) => {
            let why = format!("it cannot be read: {e}");
            return Ok(Err(State::Failed { job: None, why }));
        }
    }
    let known = shared.library.book.content(&content)?.unwrap_or_default();
    if let Some(state) = look::before(terms, &known, preset, &path) {
        return Ok(Err(state));
    }
    let wish = wish(shared, terms, file, preset).await;
    Ok(wish.map(|wish| Ready { path, content, known, preset: preset.clone(), wish }))
}

/// Keeps that a file has a job, before there is one. The file then.
async fn note_given(
    shared: &Shared,
    terms: &Terms,
    listed: &Listed,
    job: JobId,
    ready: &Ready,
) -> Result<File, StoreError> {
    let (file, preset) = (&listed.file, &ready.preset);
    let mut known = ready.known.clone();
    known.made.retain(|made| made.preset != *preset);
    known.made.push(Made {
        preset: preset.clone(),
        job,
        path: AnyPath(ready.path.clone()),
        before: file.stamp.bytes,
        outcome: Outcome::Open,
    });
    known.stamp = Some(file.stamp);
    let errand = Errand {
        watch: terms.watch.id,
        tail: listed.tail.clone(),
        preset: preset.clone(),
        content: ready.content,
        before: file.stamp.bytes,
        least_percent: terms.rules.min_savings_percent.map(|percent| percent.0),
        unwanted: None,
    };
    let given = State::Given { job, preset: preset.clone() };
    let after = File { state: given, since_ms: now_ms(), ..file.clone() };
    let mut changes = shared.library.book.change(terms.watch.id);
    changes.put(&listed.tail, Some(file), after.clone())?;
    changes.put_errand(job, &errand)?;
    changes.put_content(&ready.content, &known)?;
    changes.save().await?;
    Ok(after)
}

fn refused(refusal: &Refusal) -> State {
    match refusal {
        Refusal::Media(MediaError::Exists { path }) => State::Skipped {
            rule: "output".to_owned(),
            why: format!("{} is there already, and nothing is overwritten", path.display()),
            until_ms: None,
        },
        other => State::Failed { job: None, why: chain(other) },
    }
}

async fn put(
    shared: &Shared,
    terms: &Terms,
    listed: &Listed,
    state: State,
) -> Result<(), StoreError> {
    let after = File { state, since_ms: now_ms(), ..listed.file.clone() };
    let mut changes = shared.library.book.change(terms.watch.id);
    changes.put(&listed.tail, Some(&listed.file), after)?;
    changes.save().await
}

/// There is no job after all.
async fn put_back(
    shared: &Shared,
    terms: &Terms,
    listed: &Listed,
    job: JobId,
    state: State,
) -> Result<(), StoreError> {
    let book = &shared.library.book;
    let mut changes = book.change(terms.watch.id);
    let after = File { state, since_ms: now_ms(), ..listed.file.clone() };
    changes.put(&listed.tail, Some(&listed.file), after)?;
    changes.remove_errand(job);
    if let Some(id) = listed.file.content
        && let Some(mut known) = book.content(&id)?
    {
        known.made.retain(|made| made.job != job);
        changes.put_content(&id, &known)?;
    }
    changes.save().await
}

/// What is wished for a file; or what the file is when that cannot be wished.
async fn wish(
    shared: &Arc<Shared>,
    terms: &Terms,
    file: &File,
    preset: &str,
) -> Result<Wish, State> {
    let path = terms.place(&file.path);
    let output = match &terms.watch.delivery {
        Delivery::Mirror(to) => Some(mirrored(shared, to, &path, &file.path, preset).await?),
        Delivery::Alongside | Delivery::Replace => None,
    };
    Ok(Wish {
        output: output.map(AnyPath),
        replace: terms.watch.delivery == Delivery::Replace,
        priority: priority(terms),
        ..Wish::plain(path, preset.to_owned())
    })
}

/// Folders that go first have jobs that do.
fn priority(terms: &Terms) -> Priority {
    let (least, most) = (Priority::MIN.number(), Priority::MAX.number());
    let number = i64::from(terms.rules.priority.clamp(least, most));
    Priority::try_from(number).unwrap_or(Priority::NORMAL)
}

/// The place below another directory: the same path, with the ending of the new format. When a job
/// made another file's result of that name, the old ending stays as well.
async fn mirrored(
    shared: &Arc<Shared>,
    to: &Path,
    path: &Path,
    below: &Path,
    preset: &str,
) -> Result<PathBuf, State> {
    let failed = |why: String| State::Failed { job: None, why };
    let preset =
        presets::find(shared.settings.presets.as_deref(), preset).map_err(|e| failed(chain(&e)))?;
    let ending = async {
        let tools = shared.tools.as_ref().ok_or(MediaError::NoTool { program: "ffmpeg" })?;
        let probe = probe::probe(tools, path).await?;
        let trial = plan::plan(&probe, &index::Index::default(), &preset, &PlanHints::default())?;
        Ok::<_, MediaError>(trial.join.container.extension())
    };
    let ending = ending.await.map_err(|e| failed(chain(&e)))?;
    let named = |name: Option<&std::ffi::OsStr>| {
        let mut name = name.unwrap_or_default().to_owned();
        name.push(format!(".{ending}"));
        to.join(below).with_file_name(name)
    };
    let usual = named(below.file_stem());
    let other = shared.library.book.output(&usual).map_err(|e| failed(chain(&e)))?;
    let made = |job| shared.jobs.request(job).ok().flatten();
    let of_another =
        other.and_then(|output| made(output.job)).is_some_and(|request| request.input.0 != path);
    let place = if of_another { named(below.file_name()) } else { usual };
    let dir = place.parent().unwrap_or(to);
    std::fs::create_dir_all(dir)
        .map_err(|e| failed(format!("cannot make the directory {}: {e}", dir.display())))?;
    Ok(place)
}

/// Settles a job that is over. False: it is none of this folder, or not over.
pub async fn ended(shared: &Arc<Shared>, terms: &Terms, job: JobId) -> Result<bool, StoreError> {
    let book = &shared.library.book;
    let Some(errand) = book.errand(job)? else { return Ok(false) };
    let file = book.file(terms.watch.id, &errand.tail)?.filter(|file| is_of(file, job));
    let Some(request) = shared.jobs.request(job)? else {
        // A crash came before there was a job, or a person removed it.
        if let Some(file) = file {
            let listed = Listed { cursor: Vec::new(), tail: errand.tail, file };
            put_back(shared, terms, &listed, job, State::Fresh).await?;
        }
        return Ok(true);
    };
    if !request.status.is_over() {
        return Ok(false);
    }
    let mut changes = book.change(terms.watch.id);
    let mut known = book.content(&errand.content)?.unwrap_or_default();
    let (outcome, state) = what_became(&request, &errand, job);
    known.made.retain(|made| made.job != job);
    if let Some(outcome) = &outcome {
        known.made.push(Made {
            preset: errand.preset.clone(),
            job,
            path: request.input.clone(),
            before: errand.before,
            outcome: outcome.clone(),
        });
    }
    if let Some(Outcome::Result(after)) = outcome {
        changes.add_converted(errand.before, after);
        if let Some((id, content)) = result(shared, &request, job).await? {
            changes.put_content(&id, &content)?;
        }
    }
    changes.put_content(&errand.content, &known)?;
    if let Some(file) = file {
        let after = settled(&file, &request, state);
        changes.put(&errand.tail, Some(&file), after)?;
    }
    // One that failed may be tried again by a person.
    if request.status != Status::FinishedWithErrors || errand.unwanted.is_some() {
        changes.remove_errand(job);
    }
    changes.save().await?;
    Ok(true)
}

fn is_of(file: &File, job: JobId) -> bool {
    match &file.state {
        State::Given { job: of, .. } => *of == job,
        State::Failed { job: of, .. } => *of == Some(job),
        _ => false,
    }
}

fn what_became(request: &Request, errand: &Errand, job: JobId) -> (Option<Outcome>, State) {
    let after = request.proof.as_ref().map_or(0, |proof| proof.bytes);
    let skipped = |rule: &str, why: &str| State::Skipped {
        rule: rule.to_owned(),
        why: why.to_owned(),
        until_ms: None,
    };
    match (&errand.unwanted, request.status) {
        (_, Status::FinishedSuccessful) => {
            let preset = errand.preset.clone();
            let done =
                State::Done { job: Some(job), preset, before: errand.before, after, under: None };
            (Some(Outcome::Result(after)), done)
        }
        (Some((why, bytes)), _) => {
            let least = errand.least_percent.unwrap_or_default();
            let rule = format!("min_savings_percent = {least}");
            (Some(Outcome::TooLarge(*bytes)), skipped(&rule, why))
        }
        (None, Status::Cancelled) => (None, skipped("cancelled", "a person cancelled its job")),
        (None, _) => {
            let why = request.errors.first().cloned().unwrap_or_default();
            (None, State::Failed { job: Some(job), why })
        }
    }
}

/// The file after its job: one that changed meanwhile is looked at once more.
fn settled(file: &File, request: &Request, state: State) -> File {
    let now = std::fs::symlink_metadata(&request.input.0).map(|meta| Stamp::of_file(&meta)).ok();
    let replaced = request.output == request.input && request.status == Status::FinishedSuccessful;
    let (state, stamp) = match now {
        Some(now) if now != file.stamp && !replaced => (State::Settling, now),
        Some(now) => (state, now),
        // Its disk went away under the job: it is tried again when it is there.
        None if matches!(state, State::Failed { .. }) => (State::Settling, file.stamp),
        None => (state, file.stamp),
    };
    File { state, stamp, since_ms: now_ms(), ..file.clone() }
}

/// The result by its content, so that it is known under any name.
async fn result(
    shared: &Shared,
    request: &Request,
    job: JobId,
) -> Result<Option<(ContentId, Content)>, StoreError> {
    let path = request.output.0.clone();
    let read = tokio::task::spawn_blocking(move || {
        Ok::<_, std::io::Error>((content::name(&path)?, Stamp::of(&path)?))
    });
    // One that is gone already is no trouble.
    let Ok(Ok((id, stamp))) = read.await else { return Ok(None) };
    let known = shared.library.book.content(&id)?.unwrap_or_default();
    Ok(Some((id, Content { result_of: Some(job), stamp: Some(stamp), ..known })))
}
