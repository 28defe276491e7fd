//! Watched folders: their files are found, decided upon by the rules of a person, and converted, each
//! once.
//!
//! ```text
//! tend ─▶ scan    what is there: one stat a file
//!      ─▶ look    what rests: is it ours, was it done, what is in it; judge: what do the rules say
//!      ─▶ feed    jobs, as there are seats; what became of them
//! ```
//!
//! Each folder has a task of its own, so that a disk that does not answer holds up no other.

pub mod book;
mod busy;
mod changes;
pub mod content;
mod ears;
pub mod explain;
mod feed;
pub mod judge;
mod kinds;
mod look;
pub mod pay;
pub mod records;
pub mod rules;
mod scan;
mod seats;
mod tend;
pub mod units;
mod wish;
mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmc_protocol::id::JobId;
use dmc_store::{Kv, StoreError};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use book::Book;
use judge::{Aim, Target};
use look::Terms;
use records::{Delivery, Watch, WatchId};
use rules::Rules;
use seats::Seats;

use crate::presets;
use crate::runtime::Shared;
use crate::worker::chain;

pub use scan::Report;
pub use wish::{WatchError, WatchWish, add};
pub use worth::unwanted;

/// Files of all folders that are looked into at the same time.
const LOOKS_MAX: usize = 2;
/// Directories that changed, and are told one by one; of more, everything is looked at.
const DIRS_MAX: usize = 1_000;
/// How long the task of a folder that is not watched any more may take to end.
const ENDS: Duration = Duration::from_secs(20);

/// All watched folders.
pub struct Library {
    /// What is kept of them.
    pub book: Book,
    handles: Mutex<BTreeMap<WatchId, Arc<Handle>>>,
    seats: Seats,
    looks: Semaphore,
    /// One change of the list at a time.
    changing: tokio::sync::Mutex<()>,
}

/// What a folder's task does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doing {
    /// It waits for changes.
    Watching,
    /// It looks what is there; so many files so far.
    Scanning(u64),
    /// It looks at so many files.
    Looking(u64),
    /// A person paused it.
    Paused,
    /// It is not there, or not what it was, and why that is thought.
    Lost(String),
    /// It cannot go on, and why.
    Stopped(String),
}

/// The last time that all of a folder was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastScan {
    /// When it was done, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took.
    pub took_ms: u64,
    /// What it found.
    pub report: Report,
}

/// What a folder's task is told.
#[derive(Default)]
struct Inbox {
    dirs: BTreeSet<PathBuf>,
    all: bool,
    believe: bool,
    ended: Vec<JobId>,
    ended_many: bool,
}

/// What changed in a folder.
struct Changed {
    dirs: Vec<PathBuf>,
    all: bool,
    believe: bool,
}

/// A folder that is watched.
pub struct Handle {
    /// Its number.
    pub id: WatchId,
    watch: Mutex<Arc<Watch>>,
    doing: Mutex<Doing>,
    last: Mutex<Option<LastScan>>,
    /// Why the system does not tell of changes.
    deaf: Mutex<Option<String>>,
    inbox: Mutex<Inbox>,
    wake: Notify,
    stop: CancellationToken,
    ended: Notify,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one assignment.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Handle {
    fn new(watch: Watch, stop: &CancellationToken) -> Handle {
        Handle {
            id: watch.id,
            watch: Mutex::new(Arc::new(watch)),
            doing: Mutex::new(Doing::Scanning(0)),
            last: Mutex::default(),
            deaf: Mutex::default(),
            inbox: Mutex::default(),
            wake: Notify::new(),
            stop: stop.child_token(),
            ended: Notify::new(),
        }
    }

    /// The folder as it is set up.
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&locked(&self.watch))
    }

    /// What its task does now.
    pub fn doing(&self) -> Doing {
        locked(&self.doing).clone()
    }

    /// The last scan of all of it.
    pub fn last(&self) -> Option<LastScan> {
        locked(&self.last).clone()
    }

    /// Why the system does not tell of changes in it.
    pub fn deaf(&self) -> Option<String> {
        locked(&self.deaf).clone()
    }

    fn dir(&self) -> String {
        self.watch().dir.display().to_string()
    }

    fn set(&self, doing: Doing) {
        *locked(&self.doing) = doing;
    }

    fn scanned(&self, last: LastScan) {
        *locked(&self.last) = Some(last);
    }

    fn note_ears(&self, deaf: Option<String>) {
        *locked(&self.deaf) = deaf;
    }

    fn tell(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut locked(&self.inbox));
        self.wake.notify_one();
    }

    fn changed(&self, dir: PathBuf) {
        self.tell(|inbox| {
            inbox.dirs.insert(dir);
            if inbox.dirs.len() > DIRS_MAX {
                inbox.dirs.clear();
                inbox.all = true;
            }
        });
    }

    fn changed_all(&self) {
        self.tell(|inbox| inbox.all = true);
    }

    fn take_changes(&self) -> Changed {
        let mut inbox = locked(&self.inbox);
        Changed {
            dirs: std::mem::take(&mut inbox.dirs).into_iter().collect(),
            all: std::mem::take(&mut inbox.all),
            believe: std::mem::take(&mut inbox.believe),
        }
    }

    fn take_ended(&self) -> (Vec<JobId>, bool) {
        let mut inbox = locked(&self.inbox);
        (std::mem::take(&mut inbox.ended), std::mem::take(&mut inbox.ended_many))
    }
}

/// The rules and presets of a folder, ready for use.
///
/// # Errors
/// Words for people: a preset is gone, or the rules cannot be read.
fn terms(shared: &Shared, watch: &Arc<Watch>) -> Result<Terms, String> {
    let own = shared.settings.presets.as_deref();
    let targets = watch.presets.iter().map(|name| {
        let preset = presets::find(own, name).map_err(|e| chain(&e))?;
        let (kind, codec) = (preset.encoder.kind(), preset.encoder.codec().name());
        // What copies the pictures makes no codec.
        let codec = if preset.copies_pictures() { "" } else { codec }.to_owned();
        Ok(Target { preset: name.clone(), kind, codec })
    });
    let targets = targets.collect::<Result<Vec<_>, String>>()?;
    let rules = Rules::read(&watch.rules).map_err(|e| e.to_string())?;
    let aim = Aim { targets, kinds: watch.kinds.clone() };
    Ok(Terms { watch: Arc::clone(watch), rules, aim })
}

impl Library {
    /// In this database, with so many jobs at a time.
    pub fn new(kv: Kv, jobs_max: usize) -> Library {
        Library {
            book: Book::new(kv),
            handles: Mutex::default(),
            seats: Seats::new(jobs_max),
            looks: Semaphore::new(LOOKS_MAX),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// All folders, in the order in which they were added.
    pub fn all(&self) -> Vec<Arc<Handle>> {
        locked(&self.handles).values().cloned().collect()
    }

    /// A folder.
    pub fn get(&self, id: WatchId) -> Option<Arc<Handle>> {
        locked(&self.handles).get(&id).cloned()
    }

    fn wake_all(&self) {
        self.all().iter().for_each(|handle| handle.wake.notify_one());
    }

    /// Directories that belong to no watched folder, although they may lie in one.
    fn leave_out(&self, data_dir: &Path) -> Vec<PathBuf> {
        let all = self.all().into_iter().filter_map(|handle| match &handle.watch().delivery {
            Delivery::Mirror(to) => Some(to.0.clone()),
            Delivery::Alongside | Delivery::Replace => None,
        });
        all.chain([data_dir.to_owned()]).collect()
    }
}

/// Begins to tend the folders that are known.
///
/// # Errors
/// They cannot be read.
pub fn start(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for watch in shared.library.book.watches()? {
        tend(shared, watch);
    }
    let (shared, mut closed) = (Arc::clone(shared), shared.jobs.closed());
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            let told = tokio::select! {
                told = closed.recv() => told,
                () = shared.stop.cancelled() => return,
            };
            match told {
                Ok(job) => route(&shared, job),
                Err(RecvError::Lagged(_)) => {
                    let tell = |handle: &Arc<Handle>| handle.tell(|inbox| inbox.ended_many = true);
                    shared.library.all().iter().for_each(tell);
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
    Ok(())
}

/// Tells a folder that one of its jobs is over.
fn route(shared: &Shared, job: JobId) {
    match shared.library.book.errand(job) {
        Ok(Some(errand)) => {
            if let Some(handle) = shared.library.get(errand.watch) {
                handle.tell(|inbox| inbox.ended.push(job));
            }
        }
        Ok(None) => {}
        Err(e) => warn!(%job, "what became of its file is noted later: {}", chain(&e)),
    }
}

fn tend(shared: &Arc<Shared>, watch: Watch) -> Arc<Handle> {
    let handle = Arc::new(Handle::new(watch, &shared.stop));
    locked(&shared.library.handles).insert(handle.id, Arc::clone(&handle));
    let (shared, task) = (Arc::clone(shared), Arc::clone(&handle));
    shared.tasks.clone().spawn(async move {
        tend::run(shared, Arc::clone(&task)).await;
        task.ended.notify_one();
    });
    handle
}

/// Changes how a folder is set up, durably. The caller holds the right to change the list.
async fn change(
    shared: &Shared,
    handle: &Handle,
    change: impl FnOnce(&mut Watch),
) -> Result<(), StoreError> {
    let mut watch = Watch::clone(&handle.watch());
    change(&mut watch);
    shared.library.book.keep(&watch).await?;
    *locked(&handle.watch) = Arc::new(watch);
    handle.wake.notify_one();
    shared.news.library();
    Ok(())
}

/// A person pauses a folder, or lets it go on. One that is not what it was goes on as it is now: the
/// person says that what is gone is really gone.
///
/// # Errors
/// It cannot be kept.
pub async fn pause(shared: &Shared, handle: &Handle, paused: bool) -> Result<(), StoreError> {
    let _one = shared.library.changing.lock().await;
    if !paused && matches!(handle.doing(), Doing::Lost(_)) {
        handle.tell(|inbox| inbox.believe = true);
    }
    handle.set(if paused { Doing::Paused } else { Doing::Scanning(0) });
    change(shared, handle, |watch| watch.paused = paused).await
}

/// Looks at all of a folder now.
pub fn rescan(handle: &Handle) {
    handle.changed_all();
}

/// Stops watching a folder, and forgets its files. What became of their contents is kept, and jobs
/// that were made of them go on.
///
/// # Errors
/// It cannot be forgotten, or its disk does not answer.
pub async fn remove(shared: &Arc<Shared>, handle: &Arc<Handle>) -> Result<(), WatchError> {
    let _one = shared.library.changing.lock().await;
    handle.stop.cancel();
    if tokio::time::timeout(ENDS, handle.ended.notified()).await.is_err() {
        return Err(WatchError::Hangs { path: handle.watch().dir.clone() });
    }
    let (book, id) = (shared.library.book.clone(), handle.id);
    let forgotten = tokio::task::spawn_blocking(move || book.forget(id));
    match forgotten.await {
        Ok(done) => done?,
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
    locked(&shared.library.handles).remove(&handle.id);
    shared.library.seats.leave(handle.id);
    shared.library.wake_all();
    shared.news.library();
    Ok(())
}
