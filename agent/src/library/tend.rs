//! Tends one watched folder: looks what is there, at what is new, gives jobs, notes what became of
//! them. One task a folder, and only it changes what is kept of the folder's files.

mod there;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dmc_protocol::id::JobId;
use dmc_store::StoreError;
use futures::FutureExt;
use futures::future::BoxFuture;
use tracing::warn;

use super::ears::Ears;
use super::look::Terms;
use super::records::State;
use super::scan::Scan;
use super::{Doing, Handle, feed, worth};
use crate::jobs::now_ms;
use crate::runtime::Shared;
use crate::worker::chain;

/// Files that get a job at the same time: each is read a little for that.
const GIVEN: usize = 4;
/// How often a folder is looked for that is not there.
const LOST: Duration = Duration::from_secs(10);
/// How often it is looked whether jobs pay.
const PAY: Duration = Duration::from_secs(2);
/// The longest sleep: hours begin, presets come back.
const SLEEP: Duration = Duration::from_secs(30);
/// Pause after the agent's own state failed.
const FAILED: Duration = Duration::from_secs(5);
/// Jobs of one folder that are looked after.
const JOBS: usize = 256;

/// Until the folder is not watched any more, or the agent stops.
pub async fn run(shared: Arc<Shared>, handle: Arc<Handle>) {
    let mut tender = Tender::new(shared, handle);
    let stop = tender.handle.stop.clone();
    let mut told = None;
    loop {
        let turn = tender.turn().await;
        let standing = tender.standing();
        if told.as_ref() != Some(&standing) {
            tender.shared.news.library();
            told = Some(standing);
        }
        let wait = match turn {
            Ok(wait) => wait,
            Err(e) => {
                warn!("{} is not tended now: {}", tender.handle.dir(), chain(&e));
                tender.unsure = true;
                FAILED
            }
        };
        if wait.is_zero() && !stop.is_cancelled() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = tender.handle.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// What people see of a folder: what is done with it, the last scan, why it is not heard, and how many
/// files are in which state.
type Standing = (Doing, Option<i64>, Option<String>, BTreeMap<String, u64>);

struct Tender {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    scan: Option<(Scan, Instant)>,
    /// When everything was last looked at.
    scanned: Option<Instant>,
    /// The folder is not there, or is not what it was.
    lost: bool,
    /// A person says that what is gone is gone.
    believe: bool,
    /// What the records say of jobs may be wrong: after a start or a failure.
    unsure: bool,
    paid: Instant,
    ears: Option<Ears>,
}

impl Tender {
    fn new(shared: Arc<Shared>, handle: Arc<Handle>) -> Tender {
        Tender {
            shared,
            handle,
            scan: None,
            scanned: None,
            lost: false,
            believe: false,
            unsure: true,
            paid: Instant::now(),
            ears: None,
        }
    }

    /// Does what is to be done; how long nothing is to be done then.
    async fn turn(&mut self) -> Result<Duration, StoreError> {
        let watch = self.handle.watch();
        let terms = match super::terms(&self.shared, &watch) {
            Ok(terms) => Arc::new(terms),
            Err(why) => {
                self.rest();
                self.handle.set(Doing::Stopped(why));
                return Ok(SLEEP);
            }
        };
        self.note_ends(&terms).await?;
        if watch.paused {
            self.rest();
            self.handle.set(Doing::Paused);
            return Ok(SLEEP);
        }
        self.begin_scan(&terms).await;
        let scanning = self.step().await?;
        if self.lost {
            self.tell_seats(&terms, false)?;
            return Ok(LOST);
        }
        let settled = self.settle(&terms).await?;
        let looking = match self.look(&terms).await? {
            Some(more) => more,
            None => return Ok(LOST),
        };
        if !scanning && !looking {
            self.handle.set(Doing::Watching);
        }
        let giving = self.feed(&terms).await?;
        self.watch_over().await?;
        if scanning || looking || giving {
            return Ok(Duration::ZERO);
        }
        Ok(self.sleep(settled))
    }

    fn standing(&self) -> Standing {
        let handle = &self.handle;
        let files = self.shared.library.book.counts(handle.id).unwrap_or_default();
        (handle.doing(), handle.last().map(|last| last.at_ms), handle.deaf(), files)
    }

    fn rest(&mut self) {
        (self.scan, self.ears, self.scanned) = (None, None, None);
        if self.shared.library.seats.tell(self.handle.id, 0, false, self.given()) {
            self.shared.library.wake_all();
        }
    }

    fn given(&self) -> usize {
        let count = self.shared.library.book.count(self.handle.id, State::GIVEN);
        usize::try_from(count.unwrap_or_default()).unwrap_or(usize::MAX)
    }

    // ---- jobs that are over ----

    async fn note_ends(&mut self, terms: &Terms) -> Result<(), StoreError> {
        let (ended, many) = self.handle.take_ended();
        let mut jobs = ended;
        if self.unsure || many {
            let page = self.shared.library.book.first(self.handle.id, State::GIVEN, None, JOBS)?;
            jobs.extend(page.iter().filter_map(|of| job_of(&of.file.state)));
        }
        for job in jobs {
            if feed::ended(&self.shared, terms, job).await? {
                self.shared.news.job(job);
            }
        }
        self.unsure = false;
        Ok(())
    }

    // ---- jobs ----

    fn tell_seats(&self, terms: &Terms, may: bool) -> Result<bool, StoreError> {
        let library = &self.shared.library;
        let waiting = library.book.count(self.handle.id, State::WAITING)? > 0;
        let hungry = may && waiting && terms.rules.hours.are_now();
        if library.seats.tell(self.handle.id, terms.rules.priority, hungry, self.given()) {
            library.wake_all();
        }
        Ok(hungry)
    }

    /// Gives jobs as there are seats; whether there may be more.
    async fn feed(&mut self, terms: &Arc<Terms>) -> Result<bool, StoreError> {
        if !self.tell_seats(terms, true)? {
            return Ok(false);
        }
        let (library, id) = (&self.shared.library, self.handle.id);
        let seats = (0..GIVEN).take_while(|_| library.seats.take(id)).count();
        let mut next = library.book.first(id, State::WAITING, None, seats)?;
        // Of the same content, one after the other: the second one is done then.
        // Of the same name but for its ending, too: the second one finds the first one's result taken.
        let (mut contents, mut names) = (BTreeSet::new(), BTreeSet::new());
        next.retain(|listed| {
            let name = listed.file.path.with_extension("");
            contents.insert(listed.file.content) && names.insert(name)
        });
        let tried = next.len();
        let gives: Vec<BoxFuture<'static, _>> = next
            .into_iter()
            .map(|listed| {
                let (shared, terms) = (Arc::clone(&self.shared), Arc::clone(terms));
                async move { feed::give(&shared, &terms, &listed).await }.boxed()
            })
            .collect();
        let given: Vec<_> = futures::future::join_all(gives).await;
        // How many seats are really taken, the records say.
        self.tell_seats(terms, true)?;
        given.into_iter().collect::<Result<Vec<bool>, StoreError>>()?;
        Ok(tried > 0 && library.book.count(id, State::WAITING)? > 0)
    }

    /// Whether the jobs of this folder still pay.
    async fn watch_over(&mut self) -> Result<(), StoreError> {
        if self.paid.elapsed() < PAY {
            return Ok(());
        }
        self.paid = Instant::now();
        let given = self.shared.library.book.first(self.handle.id, State::GIVEN, None, JOBS)?;
        for job in given.iter().filter_map(|of| job_of(&of.file.state)) {
            worth::watch_over(&self.shared, job).await?;
        }
        Ok(())
    }

    fn sleep(&self, settled: Option<i64>) -> Duration {
        let every = Duration::from_secs(self.shared.settings.watch_rescan_s.max(1));
        let scan = self.scanned.map_or(Duration::ZERO, |last| every.saturating_sub(last.elapsed()));
        let settle = settled.map(|at| {
            let ms = u64::try_from(at - now_ms()).unwrap_or(0);
            Duration::from_millis(ms + 10)
        });
        let pay = (self.given() > 0).then_some(PAY);
        let all = [Some(SLEEP), Some(scan), settle, pay];
        let least = all.into_iter().flatten().min().unwrap_or(SLEEP);
        least.max(Duration::from_millis(10))
    }
}

fn job_of(state: &State) -> Option<JobId> {
    match state {
        State::Given { job, .. } => Some(*job),
        _ => None,
    }
}
