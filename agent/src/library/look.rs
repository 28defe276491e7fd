//! A closer look at a file that rests: is it one of our own, was its content done before, what is in
//! it, and what do the rules say?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::media::MediaKind;
use dmc_store::StoreError;
use tracing::debug;

use super::book::{Book, Listed};
use super::judge::{self, Aim, Decision, Facts, Media};
use super::records::{Content, ContentId, Delivery, File, Outcome, State, Watch};
use super::rules::Rules;
use super::scan::ms;
use super::{content, pay};
use crate::jobs::{Stamp, Status, now_ms};
use crate::media::probe;
use crate::media::streams::{Probe, StreamKind};
use crate::runtime::Shared;
use crate::worker::chain;

/// Reading the head of a file on a disk that sleeps takes seconds; one that does not answer is given
/// up.
const LOOK_TIMEOUT: Duration = Duration::from_secs(180);
/// When a content that is being converted under another name is looked at again.
const TWIN_MS: i64 = 60_000;
/// Transfer characteristics of a high dynamic range, by ITU-T H.273: PQ and HLG.
const HDR_TRANSFERS: [u8; 2] = [16, 18];

/// What a look says of a file.
pub struct Seen {
    /// What the file is now.
    pub file: File,
    /// What is known of its content, when that is new.
    pub content: Option<(ContentId, Content)>,
}

/// The rules of a folder, ready for use.
pub struct Terms {
    /// The folder.
    pub watch: Arc<Watch>,
    /// Its rules.
    pub rules: Rules,
    /// Its presets and kinds.
    pub aim: Aim,
}

impl Terms {
    /// A file's place.
    pub fn place(&self, path: &Path) -> PathBuf {
        self.watch.dir.join(path)
    }
}

/// Why a file cannot be looked at now.
pub enum Trouble {
    /// Its disk does not answer.
    Disk(String),
    /// The agent's own state.
    Store(StoreError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        Trouble::Store(error)
    }
}

/// Looks at a file. `None`: it is gone, which the next scan will see.
pub async fn look(
    shared: &Arc<Shared>,
    terms: &Terms,
    listed: &Listed,
) -> Result<Option<Seen>, Trouble> {
    let looked = tokio::time::timeout(LOOK_TIMEOUT, look_now(shared, terms, listed));
    looked.await.unwrap_or_else(|_| {
        let path = terms.place(&listed.file.path);
        Err(Trouble::Disk(format!("{} cannot be read: its disk does not answer", path.display())))
    })
}

async fn look_now(
    shared: &Arc<Shared>,
    terms: &Terms,
    listed: &Listed,
) -> Result<Option<Seen>, Trouble> {
    let (file, book) = (&listed.file, &shared.library.book);
    let path = terms.place(&file.path);
    let judged = terms.watch.fingerprint();
    let now = |state, content| File { since_ms: now_ms(), state, judged, content, ..file.clone() };
    let only = |state| Ok(Some(Seen { file: now(state, None), content: None }));
    if let Some(job) = ours(shared, &path, file.stamp.bytes)? {
        let Some(id) = named(&path, file.stamp).await else { return Ok(None) };
        let known = Content {
            result_of: Some(job),
            stamp: Some(file.stamp),
            ..book.content(&id)?.unwrap_or_default()
        };
        let file = now(State::Result { job }, Some(id));
        return Ok(Some(Seen { file, content: Some((id, known)) }));
    }
    let cheap = cheap(file);
    if let Some(state) =
        skip(&judge::judge(&terms.rules, &terms.aim, &cheap, now_ms()), terms, None)
    {
        return only(state);
    }
    let Some(id) = named(&path, file.stamp).await else { return Ok(None) };
    let known = match book.content(&id)? {
        Some(known) if is_same(known.clone(), file.stamp, path.clone()).await => Some(known),
        _ => None,
    };
    if let Some(job) = known.as_ref().and_then(|known| known.result_of) {
        let file = now(State::Result { job }, Some(id));
        return Ok(Some(Seen { file, content: None }));
    }
    let media = match media_of(shared, &path).await {
        Ok(media) => media,
        Err(why) => {
            let rule = "media files".to_owned();
            return only(State::Skipped { rule, why, until_ms: None });
        }
    };
    let facts = Facts { media: Some(&media), ..cheap };
    let rulings = judge::judge(&terms.rules, &terms.aim, &facts, now_ms());
    let state = match judge::decide(&rulings, &terms.aim, Some(&media)) {
        Decision::Skip { rule, why, until_ms } => State::Skipped { rule, why, until_ms },
        Decision::Take(preset) => known
            .and_then(|known| before(terms, &known, &preset, &path))
            .unwrap_or(State::Waiting { preset }),
        // Not when it was looked into.
        Decision::Look => return Ok(None),
    };
    Ok(Some(Seen { file: now(state, Some(id)), content: None }))
}

fn skip(rulings: &[judge::Ruling], terms: &Terms, media: Option<&Media>) -> Option<State> {
    match judge::decide(rulings, &terms.aim, media) {
        Decision::Skip { rule, why, until_ms } => Some(State::Skipped { rule, why, until_ms }),
        Decision::Look | Decision::Take(_) => None,
    }
}

/// The job that made a file, when it is a result of this agent's own.
pub fn ours(
    shared: &Shared,
    path: &Path,
    bytes: u64,
) -> Result<Option<dmc_protocol::id::JobId>, StoreError> {
    if let Some(job) = shared.jobs.makes(path) {
        return Ok(Some(job));
    }
    let Some(output) = shared.library.book.output(path)? else { return Ok(None) };
    let is = match output.bytes {
        Some(size) => size == bytes,
        // It was to be made: whether it was, its job says.
        None => shared.jobs.request(output.job)?.is_some_and(|request| {
            let failed = [Status::FinishedWithErrors, Status::Cancelled].contains(&request.status);
            request.output.0 == path && request.input.0 != path && !failed
        }),
    };
    Ok(is.then_some(output.job))
}

/// The name of a file's content; `None` when it cannot be read or is not what it was.
async fn named(path: &Path, stamp: Stamp) -> Option<ContentId> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let same = || Stamp::of(&path).is_ok_and(|now| now == stamp);
        let name = content::name(&path).inspect_err(|e| debug!("{}: {e}", path.display())).ok()?;
        same().then_some(name)
    });
    read.await.ok().flatten()
}

/// Whether a content is the one that is known, when its samples are. A file that was moved on its
/// disk, or was copied with its times, need not be read whole.
async fn is_same(known: Content, stamp: Stamp, path: PathBuf) -> bool {
    let moved = known
        .stamp
        .is_some_and(|before| before.bytes == stamp.bytes && before.mtime_ns == stamp.mtime_ns);
    if moved || stamp.bytes <= content::WHOLE_BYTES_MAX {
        return true;
    }
    let Some(full) = known.full else {
        // Nobody knows what was between the samples.
        return true;
    };
    let read = tokio::task::spawn_blocking(move || content::whole(&path));
    matches!(read.await, Ok(Ok(now)) if now == full)
}

/// What was made of this content before, where that is enough.
pub fn before(terms: &Terms, known: &Content, preset: &str, path: &Path) -> Option<State> {
    let made = known.made.iter().find(|made| made.preset == preset)?;
    let elsewhere = made.path.0 != path;
    // A copy of what was replaced still takes its room.
    if terms.watch.delivery == Delivery::Replace && elsewhere {
        return None;
    }
    match made.outcome {
        Outcome::Result(after) => Some(State::Done {
            job: Some(made.job),
            preset: preset.to_owned(),
            before: made.before,
            after,
            under: elsewhere.then(|| made.path.clone()),
        }),
        Outcome::TooLarge(after) => {
            let least = terms.rules.min_savings_percent?.0;
            let why = pay::unwanted(made.before, after, least)?;
            let rule = format!("min_savings_percent = {least}");
            Some(State::Skipped {
                rule,
                why: format!("{why}; it was tried before"),
                until_ms: None,
            })
        }
        Outcome::Open => {
            let why = format!("the same content is being converted as {}", made.path.display());
            let until_ms = Some(now_ms() + TWIN_MS);
            Some(State::Skipped { rule: "once".to_owned(), why, until_ms })
        }
    }
}

/// What is in a file; the words why it cannot be told.
pub async fn media_of(shared: &Shared, path: &Path) -> Result<Media, String> {
    let Some(tools) = &shared.tools else {
        return Err("no ffmpeg was found; `dmc doctor` tells how to get it".to_owned());
    };
    let _one_of_few = shared.library.looks.acquire().await.map_err(|e| e.to_string())?;
    let probe = probe::glance(tools, path).await.map_err(|e| chain(&e))?;
    Ok(media(&probe))
}

fn media(probe: &Probe) -> Media {
    let pictures = probe.pictures.as_ref();
    let sound = probe.streams_of(StreamKind::Audio).next().map(|stream| stream.codec.clone());
    let codec = pictures.map(|pictures| pictures.codec.clone()).or(sound).unwrap_or_default();
    let height = pictures.map(|of| match of.orientation.quarter_turns % 2 {
        0 => of.height,
        _ => of.width,
    });
    let hdr = pictures.is_some_and(|of| {
        of.dolby_vision || of.colour.transfer.is_some_and(|of| HDR_TRANSFERS.contains(&of))
    });
    // A GIF among films is no film: a preset for films leaves it alone, one for pictures takes it.
    let kind = if probe.is_picture() { MediaKind::Image } else { probe.kind };
    let lasts = probe.duration_us.filter(|_| kind != MediaKind::Image);
    Media { kind, codec, height, seconds: lasts.map(|us| us / 1_000_000), hdr }
}

/// Decides at once upon the files that the cheap rules leave alone: by the thousand, without touching
/// their disk. Those that are left are to be looked into.
pub fn sift(shared: &Shared, terms: &Terms, fresh: Vec<Listed>) -> Result<Vec<Listed>, StoreError> {
    let mut changes = shared.library.book.change(terms.watch.id);
    let mut left = Vec::new();
    for listed in fresh {
        let path = terms.place(&listed.file.path);
        let rulings = judge::judge(&terms.rules, &terms.aim, &cheap(&listed.file), now_ms());
        match skip(&rulings, terms, None) {
            Some(state) if ours(shared, &path, listed.file.stamp.bytes)?.is_none() => {
                let judged = terms.watch.fingerprint();
                let after = File { state, judged, since_ms: now_ms(), ..listed.file.clone() };
                changes.put(&listed.tail, Some(&listed.file), after)?;
            }
            _ => left.push(listed),
        }
    }
    changes.flush()?;
    Ok(left)
}

fn cheap(file: &File) -> Facts<'_> {
    Facts {
        path: &file.path,
        bytes: file.stamp.bytes,
        changed_ms: ms(file.stamp.mtime_ns),
        media: None,
    }
}

/// Which of these files stopped changing: they are looked at next. The others go on resting. The
/// moment in which the next one may be ready.
pub fn settle(
    book: &Book,
    watch: &Watch,
    settle_ms: i64,
    now_ms: i64,
) -> Result<Option<i64>, StoreError> {
    const AT_ONCE: usize = 500;
    let resting = book.first(watch.id, State::SETTLING, None, AT_ONCE)?;
    let mut changes = book.change(watch.id);
    let mut next = None;
    for Listed { tail, file, .. } in resting {
        if file.since_ms + settle_ms > now_ms {
            next = Some(file.since_ms + settle_ms);
            break;
        }
        let path = watch.dir.join(&file.path.0);
        let stamp = std::fs::symlink_metadata(path).map(|meta| Stamp::of_file(&meta));
        let after = match stamp {
            Ok(stamp) if stamp == file.stamp => File { state: State::Fresh, ..file.clone() },
            Ok(stamp) => File { stamp, ..file.clone() },
            Err(_) => file.clone(),
        };
        changes.put(&tail, Some(&file), File { since_ms: now_ms, ..after })?;
        next = next.or(Some(now_ms + settle_ms));
    }
    changes.flush()?;
    Ok(next)
}

/// Files that somebody still writes go back to rest; the others may be looked at.
pub fn not_busy(book: &Book, watch: &Watch, all: Vec<Listed>) -> Result<Vec<Listed>, StoreError> {
    let paths: Vec<PathBuf> = all.iter().map(|of| watch.dir.join(&of.file.path.0)).collect();
    if paths.is_empty() {
        return Ok(all);
    }
    let busy = super::busy::open_for_writing(&paths);
    if busy.is_empty() {
        return Ok(all);
    }
    let mut changes = book.change(watch.id);
    let mut quiet = Vec::new();
    for (listed, path) in all.into_iter().zip(paths) {
        if busy.contains(&path) {
            let after = File { state: State::Settling, since_ms: now_ms(), ..listed.file.clone() };
            changes.put(&listed.tail, Some(&listed.file), after)?;
        } else {
            quiet.push(listed);
        }
    }
    changes.flush()?;
    Ok(quiet)
}
