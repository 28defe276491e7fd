//! Tends one watched folder: looks what is there, at what is new, gives jobs, notes what became of
//! them. One task a folder, and only it changes what is kept of the folder's files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dmc_protocol::id::JobId;
use dmc_store::StoreError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tracing::{debug, info, warn};

use super::ears::Ears;
use super::look::{self, Terms, Trouble};
use super::records::State;
use super::scan::{self, Scan};
use super::{Doing, Handle, LastScan, feed};
use crate::jobs::now_ms;
use crate::runtime::Shared;
use crate::worker::chain;

/// A scan pauses after so long, for what else is to be done.
const STEP: Duration = Duration::from_millis(500);
/// Files that the cheap rules are asked about at a time.
const SIFTED: usize = 1_000;
/// Files that are looked at before something else is done.
const LOOKS: usize = 32;
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
    loop {
        let wait = match tender.turn().await {
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
        self.watch_over(&terms).await?;
        if scanning || looking || giving {
            return Ok(Duration::ZERO);
        }
        Ok(self.sleep(settled))
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

    // ---- what is there ----

    async fn begin_scan(&mut self, terms: &Terms) {
        let inbox = self.handle.take_changes();
        self.believe |= inbox.believe;
        let every = Duration::from_secs(self.shared.settings.watch_rescan_s.max(1));
        let due = self.scanned.is_none_or(|last| last.elapsed() >= every);
        let whole = self.lost || due || inbox.all || inbox.believe;
        let running = self.scan.as_ref().is_some_and(|(scan, _)| scan.is_whole());
        if whole && !(running && !inbox.all && !inbox.believe) {
            // From before the first look, so that nothing is missed between the two.
            self.listen(terms).await;
            let scan = Scan::whole(watch(terms), self.scan_terms());
            self.scan = Some((scan, Instant::now()));
        } else if !inbox.dirs.is_empty() {
            match &mut self.scan {
                // They are read after all others.
                Some((scan, _)) => scan.add(inbox.dirs),
                None => {
                    let scan = Scan::some(watch(terms), self.scan_terms(), inbox.dirs);
                    self.scan = Some((scan, Instant::now()));
                }
            }
        }
    }

    fn scan_terms(&self) -> scan::Terms {
        scan::Terms {
            settle_ms: settle_ms(&self.shared),
            leave_out: self.shared.library.leave_out(&self.shared.data_dir),
            believe: self.believe,
        }
    }

    /// Goes on with the scan; whether there is more of it.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let Some((mut scan, begun)) = self.scan.take() else { return Ok(false) };
        if !self.lost && scan.is_whole() {
            self.handle.set(Doing::Scanning(scan.report.files));
        }
        let book = self.shared.library.book.clone();
        let stepped = tokio::task::spawn_blocking(move || {
            let done = scan.step(&book, STEP, now_ms());
            (scan, done)
        });
        let (scan, done) = match stepped.await {
            Ok(stepped) => stepped,
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        };
        if !done? {
            self.scan = Some((scan, begun));
            return Ok(true);
        }
        self.scanned_all(&scan, begun);
        Ok(false)
    }

    fn scanned_all(&mut self, scan: &Scan, begun: Instant) {
        let report = &scan.report;
        debug!("{} was scanned: {report:?}", self.handle.dir());
        if scan.is_whole() {
            // Said of the folder as it was then, not of what may come.
            self.believe = false;
        }
        let was_lost = std::mem::replace(&mut self.lost, report.stopped.is_some());
        if let Some(why) = &report.stopped {
            if !was_lost {
                warn!("{why}: nothing of it is forgotten, and nothing is taken from it");
            }
            // What was heard of is not there any more.
            (self.ears, self.scanned) = (None, None);
            return self.handle.set(Doing::Lost(format!(
                "{why}: is its disk mounted? Nothing of it is forgotten; it goes on by itself when the \
                 files are there again"
            )));
        }
        if was_lost {
            info!("{} is there again", self.handle.dir());
        }
        if scan.is_whole() {
            self.scanned = Some(Instant::now());
            self.handle.scanned(LastScan {
                at_ms: now_ms(),
                took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                report: report.clone(),
            });
        }
    }

    /// Hears of changes from the system from now on, where it tells them. Another disk at the folder
    /// is listened to anew.
    async fn listen(&mut self, terms: &Terms) {
        let root = terms.watch.dir.0.clone();
        if self.ears.as_ref().is_some_and(|ears| ears.hears(&root)) {
            return;
        }
        self.ears = None;
        let handle = Arc::clone(&self.handle);
        let begun = tokio::task::spawn_blocking(move || Ears::begin(&handle, &root));
        match begun.await {
            Ok(Ok(ears)) => {
                self.ears = Some(ears);
                self.handle.note_ears(None);
            }
            Ok(Err(e)) => {
                let every = self.shared.settings.watch_rescan_s;
                let why = format!(
                    "the system does not tell of changes here ({e}); it is scanned every {every} s \
                     (setting watch_rescan_s)"
                );
                self.handle.note_ears(Some(why));
            }
            Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
        }
    }

    async fn settle(&mut self, terms: &Terms) -> Result<Option<i64>, StoreError> {
        if self.shared.library.book.count(self.handle.id, State::SETTLING)? == 0 {
            return Ok(None);
        }
        let (book, watch) = (self.shared.library.book.clone(), Arc::clone(&terms.watch));
        let settle_ms = settle_ms(&self.shared);
        blocking(move || look::settle(&book, &watch, settle_ms, now_ms())).await
    }

    /// Looks at some files; whether there are more. `None`: the disk does not answer.
    async fn look(&mut self, terms: &Arc<Terms>) -> Result<Option<bool>, StoreError> {
        let book = &self.shared.library.book;
        let fresh = book.first(self.handle.id, State::FRESH, None, SIFTED)?;
        if fresh.is_empty() {
            return Ok(Some(false));
        }
        if self.scan.is_none() {
            let left = book.count(self.handle.id, State::FRESH)?;
            self.handle.set(Doing::Looking(left));
        }
        let (owned, watch) = (book.clone(), Arc::clone(&terms.watch));
        let shared = &self.shared;
        let (sieve, sifted) = (Arc::clone(shared), Arc::clone(terms));
        let quiet = blocking(move || {
            let mut left = look::sift(&sieve, &sifted, fresh)?;
            left.truncate(LOOKS);
            look::not_busy(&owned, &watch, left)
        });
        let quiet = quiet.await?;
        let looks: Vec<BoxFuture<'static, _>> = quiet
            .into_iter()
            .map(|listed| {
                let (shared, terms) = (Arc::clone(shared), Arc::clone(terms));
                async move {
                    let seen = look::look(&shared, &terms, &listed).await;
                    (listed, seen)
                }
                .boxed()
            })
            .collect();
        let looks = futures::stream::iter(looks).buffer_unordered(LOOKS).collect::<Vec<_>>();
        let looks = tokio::select! {
            looks = looks => looks,
            () = self.handle.stop.cancelled() => return Ok(None),
        };
        let mut changes = book.change(self.handle.id);
        let mut trouble = None;
        for (listed, seen) in looks {
            match seen {
                Ok(Some(seen)) => {
                    changes.put(&listed.tail, Some(&listed.file), seen.file)?;
                    if let Some((id, content)) = seen.content {
                        changes.put_content(&id, &content)?;
                    }
                }
                // It changed, or it is gone: it rests, and a scan sees what it is.
                Ok(None) => {
                    let after = super::records::File {
                        state: State::Settling,
                        since_ms: now_ms(),
                        ..listed.file.clone()
                    };
                    changes.put(&listed.tail, Some(&listed.file), after)?;
                }
                Err(Trouble::Disk(why)) => trouble = Some(why),
                Err(Trouble::Store(e)) => return Err(e),
            }
        }
        changes.save().await?;
        if let Some(why) = trouble {
            self.handle.set(Doing::Stopped(why));
            return Ok(None);
        }
        Ok(Some(true))
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

    async fn watch_over(&mut self, _terms: &Terms) -> Result<(), StoreError> {
        if self.paid.elapsed() < PAY {
            return Ok(());
        }
        self.paid = Instant::now();
        let given = self.shared.library.book.first(self.handle.id, State::GIVEN, None, JOBS)?;
        for job in given.iter().filter_map(|of| job_of(&of.file.state)) {
            feed::watch_over(&self.shared, job).await?;
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

fn watch(terms: &Terms) -> super::records::Watch {
    super::records::Watch::clone(&terms.watch)
}

fn settle_ms(shared: &Shared) -> i64 {
    i64::try_from(shared.settings.watch_settle_s.saturating_mul(1_000)).unwrap_or(i64::MAX / 4)
}

fn job_of(state: &State) -> Option<JobId> {
    match state {
        State::Given { job, .. } => Some(*job),
        _ => None,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}
