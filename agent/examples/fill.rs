//! Fills a data directory with jobs, through the code that the agent runs, and says how fast that
//! went. For `tests/bench/million`: `fill DATA_DIR JOBS SOURCE`.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dmc_agent::http::views::{AttemptView, TaskView};
use dmc_agent::jobs::past::{Past, PastWorker};
use dmc_agent::jobs::{Ended, JobBook, Lane, Proof, Request, Stamp, Status};
use dmc_agent::media::plan::Rung;
use dmc_agent::room::Room;
use dmc_protocol::id::{AgentId, AttemptId, JobId};
use dmc_protocol::media::Preset;
use dmc_store::{BlobLimits, Store};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Jobs that are added one by one, by so many callers at a time.
const SINGLES_MAX: usize = 100_000;
const CALLERS: usize = 256;
/// Jobs that one batch adds.
const AT_ONCE: usize = 500;
/// Tasks of a job that is over.
const TASKS: u32 = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let dir = PathBuf::from(words.next().unwrap_or_default());
    let jobs: usize = words.next().unwrap_or_default().parse()?;
    let source = PathBuf::from(words.next().unwrap_or_default());
    let store = Store::open(&dir, BlobLimits::default())?;
    let room = Arc::new(Room::new(&dir));
    let stop = CancellationToken::new();
    let book =
        Arc::new(JobBook::open(store.kv.clone(), dir.join("jobs"), stop, room, Arc::default())?);
    let wish = Arc::new(request(&source)?);

    let singles = (jobs / 10).min(SINGLES_MAX);
    tell("adds/s, durable, one by one by 256 callers", singles, || {
        on_all(singles, 1, &book, &wish)
    })
    .await?;
    tell("adds/s, durable, 500 at a time", jobs - singles, || {
        on_all((jobs - singles).div_ceil(AT_ONCE), AT_ONCE, &book, &wish)
    })
    .await?;
    // Nine of ten are over.
    let over = usize::try_from(book.counts()?[&Status::ToDo])? / 10 * 9;
    tell("jobs/s that begin and end", over, || end(over, &book)).await
}

async fn tell<F: Future<Output = anyhow::Result<()>>>(
    what: &str,
    count: usize,
    work: impl FnOnce() -> F,
) -> anyhow::Result<()> {
    let started = Instant::now();
    work().await?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: {:.0} ({count} in {seconds:.1} s)", count as f64 / seconds);
    Ok(())
}

async fn on_all(
    times: usize,
    size: usize,
    book: &Arc<JobBook>,
    wish: &Arc<Request>,
) -> anyhow::Result<()> {
    let left = Arc::new(AtomicUsize::new(times));
    let mut callers = JoinSet::new();
    for _ in 0..(CALLERS / size).max(4) {
        let (book, wish, left) = (Arc::clone(book), Arc::clone(wish), Arc::clone(&left));
        callers.spawn(async move {
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let new = || Request { id: JobId(Uuid::now_v7()), ..Request::clone(&wish) };
                book.add((0..size).map(|_| new()).collect()).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn end(count: usize, book: &Arc<JobBook>) -> anyhow::Result<()> {
    let mut left = count;
    while left > 0 {
        let admitted = book.admit(Lane::Here, CALLERS.min(left)).await?;
        anyhow::ensure!(!admitted.is_empty(), "no job waits");
        left -= admitted.len();
        let mut closing = JoinSet::new();
        for job in admitted {
            let book = Arc::clone(book);
            closing.spawn(async move { book.close(job, ended(job)).await });
        }
        while let Some(closed) = closing.join_next().await {
            closed??;
        }
    }
    Ok(())
}

fn request(source: &Path) -> anyhow::Result<Request> {
    let output = source.with_extension("hevc.mkv");
    let preset = Preset::builtin("hevc")?;
    Ok(Request {
        rung: Some(Rung::Pieces),
        publishing: Some((1, 2)),
        proof: Some(Proof {
            frames: 1_500,
            pts_error_us_max: 0,
            pixels_equal: false,
            streams: vec!["1 video".to_owned(), "1 audio".to_owned()],
            bytes: 1 << 20,
        }),
        ..Request::new(JobId(Uuid::nil()), source.to_owned(), output, preset, Stamp::of(source)?)
    })
}

/// One in twenty failed or was cancelled.
fn ended(job: JobId) -> Ended {
    let (status, errors) = match job.0.as_bytes()[15] {
        0..10 => (Status::FinishedWithErrors, vec!["segment 1 failed on bench: no".to_owned()]),
        10..13 => (Status::Cancelled, Vec::new()),
        _ => (Status::FinishedSuccessful, Vec::new()),
    };
    let (id, name) = (AgentId([7; 32]).to_string(), "bench".to_owned());
    let attempt = |index: u32| AttemptView {
        id: AttemptId(u128::from(index)).to_string(),
        worker: id.clone(),
        worker_name: name.clone(),
        state: "committed".to_owned(),
        reason: None,
    };
    let task = |index: u32| TaskView {
        index,
        label: format!("segment {index}"),
        state: "committed".to_owned(),
        rung: "pieces".to_owned(),
        worker: Some(id.clone()),
        worker_name: Some(name.clone()),
        frames: Some(375),
        encode_s: Some(3.5),
        bytes: Some(1 << 18),
        attempts: vec![attempt(index)],
    };
    let past = Past {
        progress: 1.0,
        frames: 1_500,
        frames_total: 1_500,
        bytes: 1 << 20,
        tasks_done: TASKS,
        tasks_total: TASKS,
        workers: vec![PastWorker { id: id.clone(), name: name.clone(), segments: TASKS }],
        custodian: None,
    };
    Ended { status, errors, past, tasks: (0..TASKS).map(task).collect() }
}
