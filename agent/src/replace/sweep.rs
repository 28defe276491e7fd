//! Originals do not stay for ever: those that are old go, and the oldest go when there are too many
//! bytes of them. None goes while files are being moved, nor within its first hour.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::id::JobId;
use tracing::{info, warn};

use super::book::UndoBook;
use super::swap::forget_dir;
use super::{Replaced, Stage, SwapError, carry, files};
use crate::config::Settings;
use crate::jobs::now_ms;
use crate::room::{self, Disk};
use crate::runtime::Shared;
use crate::worker::chain;

const EVERY: Duration = Duration::from_secs(3_600);
/// Replacements that follow one another make one sweep.
const SETTLE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What became of an original can be read for so long.
const SHOWN_DAYS: i64 = 30;
/// So long after its time, an original whose disk is away is waited for.
const AWAY_DAYS: i64 = 365;
/// Without a setting, originals take one part of so many of a disk.
const PART_OF_DISK: u64 = 10;

/// How long originals stay, and how many bytes of them.
#[derive(Debug, Clone, Copy)]
struct Limits {
    keep_ms: i64,
    /// 0: a part of the disk.
    bytes_max: u64,
}

impl Limits {
    fn of(settings: &Settings) -> Limits {
        let keep_ms = i64::from(settings.undo_keep_days).saturating_mul(DAY_MS);
        Limits { keep_ms, bytes_max: settings.undo_bytes_max }
    }
}

/// Sweeps at the start, every hour, and after replacements, until the agent stops.
pub fn keep_tidy(shared: Arc<Shared>) {
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        loop {
            tidy(&shared).await;
            let woken = async {
                tokio::time::sleep(SETTLE).await;
                shared.undo.changed.notified().await;
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(EVERY) => {}
                () = shared.stop.cancelled() => return,
            }
        }
    });
}

async fn tidy(shared: &Arc<Shared>) {
    if let Err(e) = carry_all(shared).await {
        warn!("originals stay where they are: {}", chain(&e));
    }
    let Ok(alone) = shared.undo.moving.try_write() else {
        return shared.undo.changed.notify_one(); // files are being moved: later
    };
    let shared_ = Arc::clone(shared);
    let swept = tokio::task::spawn_blocking(move || {
        let has_job = |id| !matches!(shared_.jobs.request(id), Ok(None));
        sweep(&shared_.undo, Limits::of(&shared_.settings), now_ms(), has_job)
    });
    match swept.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => warn!("old originals stay: {}", chain(&e)),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
    drop(alone);
}

// ---- to the store that the settings name ----

async fn carry_all(shared: &Arc<Shared>) -> Result<(), SwapError> {
    let store = shared.settings.undo_dir.clone();
    let mut ids = Vec::new();
    shared.undo.each(|replaced| {
        let taken = replaced.taken.as_ref().filter(|_| replaced.stage == Stage::Kept);
        let elsewhere =
            |dir: &Path| store.as_ref().is_some_and(|store| dir.parent() != Some(store.as_path()));
        if taken.is_some_and(|taken| taken.leaving.is_some() || elsewhere(&taken.dir)) {
            ids.push(replaced.id);
        }
    })?;
    for id in ids {
        if shared.stop.is_cancelled() {
            return Ok(());
        }
        carry_soon(Arc::clone(shared), id).await;
    }
    Ok(())
}

/// Carries one original to the store that the settings name.
pub(super) async fn carry_soon(shared: Arc<Shared>, id: JobId) {
    let of = Arc::clone(&shared);
    let _moving = shared.undo.moving.read().await;
    match tokio::task::spawn_blocking(move || carry_one(&of, id)).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => warn!(job = %id, "its original stays where it is: {}", chain(&e)),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

fn carry_one(shared: &Shared, id: JobId) -> Result<(), SwapError> {
    let Ok(_turn) = shared.undo.turn(id) else { return Ok(()) };
    let Some(mut replaced) = shared.undo.get(id)?.filter(|of| of.stage == Stage::Kept) else {
        return Ok(());
    };
    carry::leave(&shared.undo, &mut replaced)?;
    let Some(store) = &shared.settings.undo_dir else { return Ok(()) };
    let bytes = replaced.taken.as_ref().map_or(0, |taken| taken.original.stamp.bytes);
    if !store.is_dir() {
        let text = format!("{} (undo_dir) is no directory; is its disk there?", store.display());
        return Err(SwapError::Refused(text));
    }
    room::check(store, bytes, shared.settings.disk_reserve_bytes)
        .map_err(|e| SwapError::Refused(e.to_string()))?;
    carry::carry(&shared.undo, &mut replaced, &store.join(id.to_string()))
}

// ---- out ----

/// An original that is kept, as far as the sweep needs it.
struct Old {
    id: JobId,
    at_ms: i64,
    bytes: u64,
    dir: PathBuf,
}

/// Lets originals go that are too old or too many, and forgets what is no longer worth telling.
fn sweep(
    book: &UndoBook,
    limits: Limits,
    now_ms: i64,
    has_job: impl Fn(JobId) -> bool,
) -> Result<(), SwapError> {
    let (mut kept, mut forgotten) = (Vec::new(), Vec::new());
    book.each(|replaced| match (&replaced.taken, replaced.stage) {
        // The disk is away for good.
        (Some(taken), Stage::Kept)
            if now_ms - taken.at_ms > limits.keep_ms.saturating_add(AWAY_DAYS * DAY_MS)
                && !taken.dir.exists() =>
        {
            forgotten.push(replaced.id);
        }
        (Some(taken), Stage::Kept) => kept.push(Old {
            id: replaced.id,
            at_ms: taken.at_ms,
            bytes: taken.original.stamp.bytes,
            dir: taken.dir.0.clone(),
        }),
        (_, Stage::Wanted) if now_ms - replaced.since_ms > HOUR_MS && !has_job(replaced.id) => {
            forgotten.push(replaced.id);
        }
        (_, Stage::Restored | Stage::Gone)
            if now_ms - replaced.since_ms > limits.keep_ms.max(SHOWN_DAYS * DAY_MS) =>
        {
            forgotten.push(replaced.id);
        }
        _ => {}
    })?;
    forgotten.into_iter().try_for_each(|id| book.remove(id))?;
    kept.sort_by_key(|old| old.at_ms);
    for (id, why) in chosen(&kept, limits, now_ms) {
        let gone = book.get(id)?.map(|replaced| let_go(book, replaced, why)).transpose();
        if let Err(e) = gone {
            warn!(job = %id, "its original cannot be removed: {}", chain(&e));
        }
    }
    Ok(())
}

/// Which ones go, and why.
fn chosen(kept: &[Old], limits: Limits, now_ms: i64) -> Vec<(JobId, String)> {
    let mut bytes: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let device = |old: &Old| match limits.bytes_max {
        0 => fs::metadata(&old.dir).map(|meta| meta.dev()).ok(),
        _ => Some(0),
    };
    // One whose disk is not there now is left alone.
    let there: Vec<(&Old, u64)> = kept.iter().filter_map(|old| Some((old, device(old)?))).collect();
    for (old, device) in &there {
        let most = || match limits.bytes_max {
            0 => Disk::of(&old.dir).map_or(u64::MAX, |disk| disk.total / PART_OF_DISK),
            most => most,
        };
        bytes.entry(*device).or_insert_with(|| (0, most())).0 += old.bytes;
    }
    let mut chosen = Vec::new();
    for (old, device) in there {
        let age_ms = now_ms - old.at_ms;
        let Some((sum, most)) = bytes.get_mut(&device) else { continue };
        let why = match () {
            () if age_ms <= HOUR_MS => continue,
            () if age_ms > limits.keep_ms => {
                format!("it was removed after {} days (undo_keep_days)", limits.keep_ms / DAY_MS)
            }
            () if *sum > *most => {
                format!(
                    "it was removed because originals took more than {most} bytes (undo_bytes_max)"
                )
            }
            () => continue,
        };
        *sum = sum.saturating_sub(old.bytes);
        chosen.push((old.id, why));
    }
    chosen
}

/// The files go first: a crash leaves a record without a file, and never a file that nobody knows.
fn let_go(book: &UndoBook, mut replaced: Replaced, why: String) -> Result<(), SwapError> {
    let Some(taken) = replaced.taken.clone().filter(|_| replaced.stage == Stage::Kept) else {
        return Ok(());
    };
    for dir in taken.leaving.iter().chain([&taken.dir]) {
        files::remove(&dir.join(&*taken.name))?;
        forget_dir(dir)?;
    }
    info!(job = %replaced.id, "the original of {} is no more: {why}", replaced.source.display());
    replaced.why = Some(why);
    book.advance(&mut replaced, Stage::Gone)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use dmc_store::Kv;
    use uuid::Uuid;

    use super::*;
    use crate::jobs::Stamp;
    use crate::paths::AnyPath;
    use crate::replace::files::Facts;
    use crate::replace::{Replacement, Taken};

    const NOW: i64 = 100 * DAY_MS;

    /// An original of so many bytes that was replaced so long ago.
    fn keep(book: &UndoBook, dir: &Path, number: u128, bytes: usize, age_ms: i64) -> PathBuf {
        let id = JobId(Uuid::from_u128(number));
        let what = Replacement { source: dir.join("a.avi"), output: dir.join("a.mkv") };
        let mut replaced = Replaced::wanted(id, what, false);
        let dir = dir.join("undo").join(id.to_string());
        fs::create_dir_all(&dir).unwrap();
        let kept = dir.join("a.avi.original");
        fs::write(&kept, vec![7; bytes]).unwrap();
        let original = Facts::of(&kept).unwrap().unwrap();
        assert_eq!(original.stamp, Stamp::of(&kept).unwrap());
        replaced.taken = Some(Taken {
            dir: AnyPath(dir),
            name: AnyPath("a.avi.original".into()),
            original,
            result: original,
            at_ms: NOW - age_ms,
            content: None,
            leaving: None,
        });
        replaced.stage = Stage::Kept;
        book.save(&replaced).unwrap();
        kept
    }

    #[test]
    fn the_old_go_and_then_the_oldest_until_the_rest_fits() {
        let dir = tempfile::tempdir().unwrap();
        let book = UndoBook::new(Kv::memory());
        let ages = [31 * DAY_MS, 20 * DAY_MS, 10 * DAY_MS, 2 * HOUR_MS, HOUR_MS / 2];
        let kept: Vec<PathBuf> = (1..)
            .zip(ages)
            .map(|(number, age_ms)| keep(&book, dir.path(), number, 100, age_ms))
            .collect();
        let there = || kept.iter().map(|path| path.exists()).collect::<Vec<_>>();
        let limits = |bytes_max| Limits { keep_ms: 30 * DAY_MS, bytes_max };
        sweep(&book, limits(0), NOW, |_| true).unwrap();
        assert_eq!(there(), [false, true, true, true, true], "only what is too old");
        sweep(&book, limits(300), NOW, |_| true).unwrap();
        assert_eq!(there(), [false, false, true, true, true], "the oldest, and no more");
        sweep(&book, limits(1), NOW, |_| true).unwrap();
        assert_eq!(there(), [false, false, false, false, true], "none in its first hour");
        let gone = book.get(JobId(Uuid::from_u128(2))).unwrap().unwrap();
        assert_eq!(gone.stage, Stage::Gone);
        assert!(gone.why.unwrap().contains("undo_bytes_max"));
        assert_eq!(fs::read_dir(dir.path().join("undo")).unwrap().count(), 1);
    }

    #[test]
    fn wishes_without_a_job_and_old_stories_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let book = UndoBook::new(Kv::memory());
        let limits = Limits { keep_ms: DAY_MS, bytes_max: 0 };
        let what = Replacement { source: dir.path().into(), output: dir.path().into() };
        for (number, stage, age_ms) in [
            (1, Stage::Wanted, 2 * HOUR_MS),
            (2, Stage::Wanted, 2 * HOUR_MS),
            (3, Stage::Wanted, HOUR_MS / 2),
            (4, Stage::Restored, 31 * DAY_MS),
            (5, Stage::Gone, 2 * DAY_MS),
            (6, Stage::Taking, 31 * DAY_MS),
        ] {
            let id = JobId(Uuid::from_u128(number));
            let mut replaced = Replaced::wanted(id, what.clone(), false);
            (replaced.stage, replaced.since_ms) = (stage, NOW - age_ms);
            book.save(&replaced).unwrap();
        }
        sweep(&book, limits, NOW, |id| id.0.as_u128() == 2).unwrap();
        let left = (1..=6).filter(|n| book.get(JobId(Uuid::from_u128(*n))).unwrap().is_some());
        assert_eq!(left.collect::<Vec<_>>(), [2, 3, 5, 6]);
        let flight: Vec<_> = book.in_flight().unwrap().iter().map(|of| of.id.0.as_u128()).collect();
        assert_eq!(flight, [6]);
        let page = |before, limit| {
            let before = Some(JobId(Uuid::from_u128(before)));
            let page = book.page(before, limit).unwrap();
            page.iter().map(|of| of.id.0.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!((page(9, 1), page(6, 9)), (vec![6], vec![5]), "wishes are no replacements");
    }
}
