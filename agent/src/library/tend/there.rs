//! What is there in a folder: scanned, listened to, and looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dmc_store::StoreError;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tracing::{debug, info, warn};

use super::Tender;
use crate::jobs::now_ms;
use crate::library::book::Listed;
use crate::library::ears::Ears;
use crate::library::look::{self, Seen, Terms, Trouble};
use crate::library::records::{File, State, Watch};
use crate::library::scan::{self, Scan};
use crate::library::{Doing, LastScan};
use crate::runtime::Shared;

/// A scan pauses after so long, for what else is to be done.
const STEP: Duration = Duration::from_millis(500);
/// Files that the cheap rules are asked about at a time.
const SIFTED: usize = 1_000;
/// Files that are looked at before something else is done.
const LOOKS: usize = 32;

/// A file, and what a look says of it.
type Looked = (Listed, Result<Option<Seen>, Trouble>);

impl Tender {
    /// Begins the scan that is due, or adds what was heard of to the one under way.
    pub(super) async fn begin_scan(&mut self, terms: &Terms) {
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
    pub(super) async fn step(&mut self) -> Result<bool, StoreError> {
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

    /// Files that rested long enough may be looked at; when the next one will have, in milliseconds
    /// since 1970.
    pub(super) async fn settle(&mut self, terms: &Terms) -> Result<Option<i64>, StoreError> {
        if self.shared.library.book.count(self.handle.id, State::SETTLING)? == 0 {
            return Ok(None);
        }
        let (book, watch) = (self.shared.library.book.clone(), Arc::clone(&terms.watch));
        let settle_ms = settle_ms(&self.shared);
        blocking(move || look::settle(&book, &watch, settle_ms, now_ms())).await
    }

    /// Looks at some files; whether there are more. `None`: the disk does not answer.
    pub(super) async fn look(&mut self, terms: &Arc<Terms>) -> Result<Option<bool>, StoreError> {
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
        let looks: Vec<BoxFuture<'static, Looked>> = quiet
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
        if let Some(why) = self.note_looks(looks).await? {
            self.handle.set(Doing::Stopped(why));
            return Ok(None);
        }
        Ok(Some(true))
    }

    /// Keeps what the looks say; why the disk does not answer, where it does not.
    async fn note_looks(&self, looks: Vec<Looked>) -> Result<Option<String>, StoreError> {
        let mut changes = self.shared.library.book.change(self.handle.id);
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
                    let after =
                        File { state: State::Settling, since_ms: now_ms(), ..listed.file.clone() };
                    changes.put(&listed.tail, Some(&listed.file), after)?;
                }
                Err(Trouble::Disk(why)) => trouble = Some(why),
                Err(Trouble::Store(e)) => return Err(e),
            }
        }
        changes.save().await?;
        Ok(trouble)
    }
}

fn watch(terms: &Terms) -> Watch {
    Watch::clone(&terms.watch)
}

fn settle_ms(shared: &Shared) -> i64 {
    i64::try_from(shared.settings.watch_settle_s.saturating_mul(1_000)).unwrap_or(i64::MAX / 4)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}
