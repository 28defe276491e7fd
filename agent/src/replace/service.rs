//! Replacing and undoing, from the wish to the record of what was done.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use dmc_protocol::id::JobId;
use tracing::{info, warn};

use super::about::About;
use super::book::UndoBook;
use super::files::Facts;
use super::restore::{Restore, aside};
use super::swap::{Finished, Swap};
use super::{Replaced, Stage, SwapError, Taken, carry, place, sidecars, sweep};
use crate::jobs::{Stamp, now_ms};
use crate::paths::AnyPath;
use crate::runtime::Shared;
use crate::worker::chain;

// ---- a result takes the place of its source ----

/// Lets the verified result `temp` take the place of its source, which must be as it was `planned`.
/// Blocks. Notes for people.
///
/// # Errors
/// Why it did not; then the source is where it was.
pub fn take(
    book: &UndoBook,
    data_dir: &Path,
    id: JobId,
    temp: &Path,
    planned: Stamp,
) -> Result<Vec<String>, SwapError> {
    let Some(mut replaced) = book.get(id)? else {
        return Err(SwapError::Refused("nothing is known of this replacement".to_owned()));
    };
    if !matches!(replaced.stage, Stage::Wanted | Stage::Taking) {
        let text = format!("its replacement is {} already", replaced.stage.word());
        return Err(SwapError::Refused(text));
    }
    let source = replaced.source.0.clone();
    let Ready { about, original, result, notes } = ready(&replaced, temp, planned)?;
    let mut last = SwapError::Changed { path: source.clone() };
    for dir in place::dirs(data_dir, &source, id) {
        replaced.taken = Some(Taken {
            dir: AnyPath(dir),
            name: AnyPath(place::kept_name(&source).into()),
            original,
            result,
            at_ms: now_ms(),
            content: None,
            leaving: None,
        });
        book.advance(&mut replaced, Stage::Taking)?;
        match begin(&replaced, temp, &about) {
            Ok(()) => return conclude(book, &mut replaced).map(|more| [notes, more].concat()),
            Err(e @ SwapError::OtherDisk { .. }) => last = e,
            Err(e) => {
                if let Err(also) = conclude(book, &mut replaced)
                    && replaced.stage != Stage::Wanted
                {
                    warn!(job = %id, "{}", chain(&also));
                }
                return Err(e);
            }
        }
    }
    replaced.taken = None;
    book.advance(&mut replaced, Stage::Wanted)?;
    Err(last)
}

/// What is known before a source is moved.
struct Ready {
    about: About,
    original: Facts,
    result: Facts,
    notes: Vec<String>,
}

/// Gives the result what its source is beside its content, and looks at both a last time.
fn ready(replaced: &Replaced, temp: &Path, planned: Stamp) -> Result<Ready, SwapError> {
    let (source, output) = (&*replaced.source, &*replaced.output);
    let about = About::of(replaced.id, source, output)?;
    let mut notes = Vec::new();
    let missing = about.metadata.give_to(temp)?;
    if !missing.is_empty() {
        notes.push(format!(
            "the result could not be given all of its source: {}",
            missing.join(", ")
        ));
    }
    let changed = || SwapError::Changed { path: source.to_owned() };
    let original = Facts::of(source)?.filter(|now| now.stamp == planned).ok_or_else(changed)?;
    let result = Facts::of(temp)?.ok_or_else(|| SwapError::NoOriginal { path: temp.to_owned() })?;
    if original.links > 1 {
        notes.push(format!(
            "the original has {} more names elsewhere (hard links): they keep it as it was, and no \
             room is won until they go, too",
            original.links - 1
        ));
    }
    Ok(Ready { about, original, result, notes })
}

fn begin(replaced: &Replaced, temp: &Path, about: &About) -> Result<(), SwapError> {
    with_swap(replaced, |swap| swap.begin(temp, about))
}

fn with_swap<T>(
    replaced: &Replaced,
    act: impl FnOnce(&Swap<'_>) -> Result<T, SwapError>,
) -> Result<T, SwapError> {
    let Some(taken) = &replaced.taken else {
        return Err(SwapError::Changed { path: replaced.source.0.clone() });
    };
    let kept = taken.kept();
    act(&Swap {
        source: &replaced.source,
        output: &replaced.output,
        dir: &taken.dir,
        kept: &kept,
        original: taken.original,
        result: taken.result,
    })
}

/// Goes on with a replacement from wherever it stands. Notes for people.
fn conclude(book: &UndoBook, replaced: &mut Replaced) -> Result<Vec<String>, SwapError> {
    match with_swap(replaced, |swap| swap.finish())? {
        Finished::Kept => {
            let notes = take_sidecars_along(book, replaced)?;
            book.advance(replaced, Stage::Kept)?;
            super::fault::at("swap.done");
            Ok(notes)
        }
        Finished::Gone => {
            let why = "somebody else removed the original while it was replaced";
            replaced.why = Some(why.to_owned());
            book.advance(replaced, Stage::Gone)?;
            Ok(vec![why.to_owned()])
        }
        Finished::NotBegun(why) => {
            replaced.taken = None;
            book.advance(replaced, Stage::Wanted)?;
            let why = why.unwrap_or_else(|| SwapError::Changed { path: replaced.source.0.clone() });
            Err(why)
        }
    }
}

/// Which ones is durable before the first is renamed.
fn take_sidecars_along(book: &UndoBook, replaced: &mut Replaced) -> Result<Vec<String>, SwapError> {
    if !replaced.sidecars {
        return Ok(Vec::new());
    }
    if replaced.renamed.is_empty() {
        replaced.renamed = sidecars::find(&replaced.source, &replaced.output)?;
        book.save(replaced)?;
    }
    Ok(sidecars::rename(replaced.renamed.iter().map(|(from, to)| (from, to))))
}

// ---- and back ----

/// Brings an original back. Blocks.
///
/// # Errors
/// Why it cannot be; then nothing has changed.
pub fn restore(book: &UndoBook, id: JobId, keep_result: bool) -> Result<Replaced, SwapError> {
    let Some(mut replaced) = book.get(id)? else {
        return Err(SwapError::Refused(format!("job {id} replaced no file")));
    };
    let refused = |text: &str| Err(SwapError::Refused(format!("job {id}: {text}")));
    match replaced.stage {
        Stage::Wanted | Stage::Taking => return refused("it has not replaced its source yet"),
        Stage::Restored => return refused("its original is back already"),
        Stage::Gone => {
            let why = replaced.why.as_deref().unwrap_or("it was removed");
            return refused(&format!("its original is no more: {why}"));
        }
        Stage::Restoring => {}
        Stage::Kept => {
            replaced.keep_result = keep_result;
            with_restore(&replaced, |restore| restore.check())?;
            come_home(book, &mut replaced)?;
            book.advance(&mut replaced, Stage::Restoring)?;
            super::fault::at("undo.record");
        }
    }
    give_back(book, &mut replaced)?;
    Ok(replaced)
}

/// An original that lies on another file system comes to that of its source first.
fn come_home(book: &UndoBook, replaced: &mut Replaced) -> Result<(), SwapError> {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let Some(taken) = &replaced.taken else { return Ok(()) };
    let beside = place::dir_beside(&replaced.source, replaced.id);
    let home = replaced.source.parent().unwrap_or(Path::new("/"));
    if taken.content.is_none() || device(&taken.dir) == device(home) {
        return Ok(());
    }
    carry::carry(book, replaced, &beside)
}

fn with_restore<T>(
    replaced: &Replaced,
    act: impl FnOnce(&Restore<'_>) -> Result<T, SwapError>,
) -> Result<T, SwapError> {
    let Some(taken) = &replaced.taken else {
        return Err(SwapError::NoOriginal { path: replaced.source.0.clone() });
    };
    let kept = taken.kept();
    let (source, output) = (&*replaced.source, &*replaced.output);
    let aside = replaced.keep_result.then(|| aside(source, output)).transpose()?;
    act(&Restore {
        source,
        output,
        dir: &taken.dir,
        kept: &kept,
        original: taken.original,
        result: taken.result,
        aside: aside.as_deref(),
    })
}

fn give_back(book: &UndoBook, replaced: &mut Replaced) -> Result<(), SwapError> {
    match with_restore(replaced, |restore| restore.finish()) {
        Ok(()) => {
            let back = replaced.renamed.iter().map(|(from, to)| (to, from));
            sidecars::rename(back).iter().for_each(|note| warn!("{note}"));
            book.advance(replaced, Stage::Restored)?;
            Ok(())
        }
        Err(e) => {
            let taken = replaced.taken.as_ref();
            if taken.is_some_and(|taken| taken.original.is_at(&taken.kept()).unwrap_or(false)) {
                book.advance(replaced, Stage::Kept)?;
            }
            Err(e)
        }
    }
}

// ---- after a crash ----

/// Finishes or takes back what a crash cut short. Blocks. Where it stands then.
///
/// # Errors
/// Why it cannot be done now; it is tried again at the next start, or when somebody asks for it.
pub fn settle(book: &UndoBook, mut replaced: Replaced) -> Result<Stage, SwapError> {
    match replaced.stage {
        Stage::Taking => match conclude(book, &mut replaced) {
            Ok(_) => {}
            Err(_) if replaced.stage == Stage::Wanted => {} // the job finds out why
            Err(e) => return Err(e),
        },
        Stage::Restoring => give_back(book, &mut replaced)?,
        _ => {}
    }
    Ok(replaced.stage)
}

/// [`settle`] for all that were moving files when this agent ended. Before anything is cleaned.
pub fn settle_all(book: &UndoBook) -> Result<(), dmc_store::StoreError> {
    for replaced in book.in_flight()? {
        let (id, source) = (replaced.id, replaced.source.clone());
        match settle(book, replaced) {
            Ok(stage) => {
                info!(job = %id, "the replacement of {} is {}", source.display(), stage.word());
            }
            Err(e) => warn!(job = %id, "{}", chain(&e)),
        }
    }
    Ok(())
}

// ---- for the agent ----

/// Whether the result of a job takes the place of its source.
pub fn is_wanted(shared: &Shared, job: JobId) -> Result<bool, SwapError> {
    Ok(shared.undo.get(job)?.is_some())
}

/// Whether files of it were moved, so that the job may yet be done.
pub fn is_under_way(shared: &Shared, job: JobId) -> bool {
    let found = shared.undo.get(job).ok().flatten();
    found.is_some_and(|replaced| replaced.stage != Stage::Wanted)
}

/// Whether it did already; finishes first what was cut short.
pub async fn is_done(shared: &Arc<Shared>, job: JobId) -> Result<bool, SwapError> {
    let Some(replaced) = shared.undo.get(job)? else { return Ok(false) };
    match replaced.stage {
        Stage::Wanted => Ok(false),
        Stage::Taking => {
            let stage = on_files(shared, job, move |shared| settle(&shared.undo, replaced)).await?;
            Ok(stage != Stage::Wanted)
        }
        _ => Ok(true),
    }
}

/// [`take`] for a job; its notes are kept with it.
pub async fn publish(shared: &Arc<Shared>, job: JobId, temp: &Path) -> Result<(), SwapError> {
    let Some(planned) = shared.jobs.with(job, |entry| entry.request.stamp) else { return Ok(()) };
    let temp = temp.to_owned();
    let taken = on_files(shared, job, move |shared| {
        take(&shared.undo, &shared.data_dir, job, &temp, planned)
    });
    let notes = taken.await?;
    let kept = shared.jobs.change(job, |request| notes.into_iter().for_each(|n| request.note(n)));
    if let Err(e) = kept.await {
        warn!(%job, "its notes cannot be saved: {}", chain(&e));
    }
    shared.undo.changed.notify_one();
    if shared.settings.undo_dir.is_some() {
        shared.tasks.spawn(sweep::carry_soon(Arc::clone(shared), job));
    }
    Ok(())
}

/// [`restore`] for whoever asks.
pub async fn undo(shared: &Arc<Shared>, job: JobId, keep: bool) -> Result<Replaced, SwapError> {
    let restored = on_files(shared, job, move |shared| restore(&shared.undo, job, keep)).await;
    shared.news.job(job);
    let restored = restored?;
    info!(%job, "{} is back", restored.source.display());
    Ok(restored)
}

/// Runs what moves files: one at a time for each job, never together with the sweep, and to its end
/// also when nobody waits for it.
async fn on_files<T: Send + 'static>(
    shared: &Arc<Shared>,
    job: JobId,
    act: impl FnOnce(&Shared) -> Result<T, SwapError> + Send + 'static,
) -> Result<T, SwapError> {
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let done = tasks.spawn(async move {
        let _moving = shared.undo.moving.read().await;
        let shared = Arc::clone(&shared);
        let act = move || {
            let _turn = shared.undo.turn(job)?;
            act(&shared)
        };
        tokio::task::spawn_blocking(act).await
    });
    match done.await.and_then(|done| done) {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}
