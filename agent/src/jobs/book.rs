//! What persons asked this agent for. In memory are only the jobs that are open; all others are on
//! disk, where the [indexes](super::index) find them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dmc_protocol::codec;
use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::index;
use super::past::{self, Past};
use super::{Entry, Phase, Planned, Priority, Request, Status, now_ms};
use crate::http::views::TaskView;
use crate::library::book::note_output;
use crate::news::News;
use crate::room::Room;
use crate::state;
use crate::webhooks;
use crate::worker::chain;

pub use super::index::Lane;

/// Largest file of a plan that is read.
const PLAN_BYTES_MAX: usize = 1 << 30;
/// How often a full disk is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);
/// Jobs that may be saved at the same time, so that their commits are one.
const SAVING: usize = 256;
/// Ends of jobs that are told one by one.
const CLOSED: usize = 1_024;

/// How a job ended, as people see it.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its last status.
    pub status: Status,
    /// Why it failed.
    pub errors: Vec<String>,
    /// What lists show.
    pub past: Past,
    /// Who did what.
    pub tasks: Vec<TaskView>,
}

/// All jobs that persons asked this agent for.
pub struct JobBook {
    open: Mutex<BTreeMap<JobId, Entry>>,
    /// One save of a job at a time, so that the disk never keeps an older request than the memory.
    saving: Box<[tokio::sync::Mutex<()>]>,
    /// See [`JobBook::turn`].
    turn: tokio::sync::Mutex<()>,
    /// See [`JobBook::listing`].
    listing: Mutex<()>,
    /// Ends the IO of all jobs.
    stop: CancellationToken,
    kv: Kv,
    dir: PathBuf,
    room: Arc<Room>,
    news: Arc<News>,
    /// Told when a job is over, when anybody wants to know.
    ended: Option<Arc<Notify>>,
    /// See [`JobBook::closed`].
    closed: broadcast::Sender<JobId>,
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl JobBook {
    /// Reads the requests that are open. `dir` keeps the plans; `stop` ends the IO of all jobs;
    /// `news` is told what changes.
    pub fn open(
        kv: Kv,
        dir: PathBuf,
        stop: CancellationToken,
        room: Arc<Room>,
        news: Arc<News>,
    ) -> Result<JobBook, StoreError> {
        let migrated = index::migrate(&kv)?;
        if migrated > 0 {
            info!(migrated, "jobs of an older version got their place in the indexes");
        }
        let open = index::open(&kv)?.into_iter();
        let open = open.map(|request| (request.id, Entry::new(request, &stop))).collect();
        let (open, saving) = (Mutex::new(open), (0..SAVING).map(|_| Default::default()).collect());
        let (turn, listing) = (tokio::sync::Mutex::default(), Mutex::default());
        let closed = broadcast::channel(CLOSED).0;
        Ok(JobBook { open, saving, turn, listing, stop, kv, dir, room, news, ended: None, closed })
    }

    /// Ends of jobs are noted for [`webhooks`], which are woken by `ended`.
    pub fn telling(self, ended: Arc<Notify>) -> JobBook {
        JobBook { ended: Some(ended), ..self }
    }

    /// Hears of jobs that are over, when that is durable.
    pub fn closed(&self) -> broadcast::Receiver<JobId> {
        self.closed.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        // A panic elsewhere does not make the list wrong: every change is one assignment.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn one_save(&self, id: JobId) -> tokio::sync::MutexGuard<'_, ()> {
        // The last byte is random.
        let at = id.0.as_bytes().last().map_or(0, |byte| usize::from(*byte) % SAVING);
        self.saving[at].lock().await
    }

    /// Held while a job comes into the memory or leaves it, and while the state machine is told of a
    /// job that may have left: else it would be told of one that nobody knows any more.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Held while a source is found or listed for a job of this book, and while those are unlisted
    /// that no job needs: none is unlisted in the moment in which a new job finds it.
    pub fn listing(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what is asked of it ----

    /// Reads something of an open job.
    pub fn with<T>(&self, id: JobId, read: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&id).map(read)
    }

    /// Whether the job is open.
    pub fn is_open(&self, id: JobId) -> bool {
        self.lock().contains_key(&id)
    }

    /// A request, open or not.
    pub fn request(&self, id: JobId) -> Result<Option<Request>, StoreError> {
        match self.with(id, |entry| entry.request.clone()) {
            Some(request) => Ok(Some(request)),
            None => index::get(&self.kv, id),
        }
    }

    /// The requests that are open.
    pub fn open_requests(&self) -> Vec<Request> {
        self.lock().values().map(|entry| entry.request.clone()).collect()
    }

    /// Open jobs of this agent's own that are handed over, or that are done here.
    pub fn open_in(&self, lane: Lane) -> Vec<JobId> {
        let all = self.lock();
        let own = all.values().map(|entry| &entry.request).filter(|of| of.custody.is_none());
        let of = own.filter(|of| (of.phase == Phase::HandedOver) == (lane == Lane::Away));
        of.map(|request| request.id).collect()
    }

    /// The priorities of those, and of the next that wait, at most so many: the first of them first.
    pub fn urgencies(
        &self,
        lane: Lane,
        limit: usize,
    ) -> Result<(Vec<Priority>, Vec<Priority>), StoreError> {
        let open = self.open_in(lane).into_iter();
        let open = open.filter_map(|id| self.with(id, |entry| entry.request.priority)).collect();
        let next = index::first(&self.kv, lane, limit)?.into_iter();
        let next = next.map(|id| Ok(index::get(&self.kv, id)?.map(|of| of.priority)));
        Ok((open, next.filter_map(Result::transpose).collect::<Result<_, StoreError>>()?))
    }

    /// The open job that makes this file. One that is to take the place of its source is that source.
    pub fn makes(&self, output: &Path) -> Option<JobId> {
        let all = self.lock();
        let mut own = all.values().map(|entry| &entry.request);
        own.find(|of| of.custody.is_none() && of.output.0 == output && of.input.0 != output)
            .map(|request| request.id)
    }

    /// Requests, the newest first: those before one of them, of all or of one status.
    pub fn page(
        &self,
        status: Option<Status>,
        before: Option<JobId>,
        limit: usize,
    ) -> Result<Vec<Request>, StoreError> {
        let ids = index::page(&self.kv, status, before, limit)?;
        let requests = ids.into_iter().map(|id| self.request(id));
        requests.filter_map(Result::transpose).collect()
    }

    /// Up to `limit` jobs whose id begins or ends so.
    pub fn find(&self, part: &str, limit: usize) -> Result<Vec<JobId>, StoreError> {
        index::find(&self.kv, part, limit)
    }

    /// How many jobs there are, by status.
    pub fn counts(&self) -> Result<BTreeMap<Status, u64>, StoreError> {
        let count = |status| Ok((status, index::count(&self.kv, status)?));
        Status::ALL.into_iter().map(count).collect()
    }

    /// Who did what of a job that is over.
    pub fn past_tasks(&self, id: JobId) -> Result<Vec<TaskView>, StoreError> {
        past::load(&self.kv, id)
    }

    // ---- changes ----

    /// Adds jobs; they are durable when this returns. Those that wait stay on disk.
    pub async fn add(&self, requests: Vec<Request>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for request in &requests {
            index::put(&mut batch, None, request)?;
        }
        self.kv.commit(batch).await?;
        requests.iter().for_each(|request| self.news.job(request.id));
        let open = requests.into_iter().filter(|request| request.phase != Phase::Waiting);
        let mut all = self.lock();
        all.extend(open.map(|request| (request.id, Entry::new(request, &self.stop))));
        Ok(())
    }

    /// The next of a lane, at most so many, are open from now on: the most urgent, and of those the oldest.
    pub async fn admit(&self, lane: Lane, seats: usize) -> Result<Vec<JobId>, StoreError> {
        let (mut batch, mut admitted) = (Batch::new(), Vec::new());
        for id in index::first(&self.kv, lane, seats)? {
            let Some(before) = index::get(&self.kv, id)? else { continue };
            let phase = if lane == Lane::Away { Phase::HandedOver } else { Phase::Planning };
            let after = Request { phase, updated_ms: now_ms(), ..before.clone() };
            index::put(&mut batch, Some(&before), &after)?;
            admitted.push(after);
        }
        self.kv.commit(batch).await?;
        let ids: Vec<JobId> = admitted.iter().map(|request| request.id).collect();
        ids.iter().for_each(|id| self.news.job(*id));
        let mut all = self.lock();
        all.extend(admitted.into_iter().map(|of| (of.id, Entry::new(of, &self.stop))));
        Ok(ids)
    }

    /// Changes a request; the change is durable when this returns. Waits while the disk is full.
    /// What is over stays so: only what became of it may still be noted.
    pub async fn change(
        &self,
        id: JobId,
        change: impl FnOnce(&mut Request),
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.one_save(id).await;
        let Some(before) = self.request(id)? else { return Ok(()) };
        let mut after = before.clone();
        change(&mut after);
        after.updated_ms = now_ms();
        if self.is_open(id) {
            after.status = after.status_now();
        } else {
            let Request { phase, status, cancelled, .. } = before;
            after = Request { phase, status, cancelled, errors: before.errors.clone(), ..after };
        }
        self.save(&before, after).await
    }

    async fn save(&self, before: &Request, after: Request) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        index::put(&mut batch, Some(before), &after)?;
        self.commit(batch).await?;
        let id = after.id;
        self.with(id, |entry| entry.request = after);
        self.news.job(id);
        Ok(())
    }

    async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        loop {
            match self.kv.commit(batch.clone()).await {
                Err(e) if e.is_disk_full() && self.wait_for_room(chain(&e)).await => {}
                done => return done,
            }
        }
    }

    /// False when the agent stops.
    pub(crate) async fn wait_for_room(&self, full: String) -> bool {
        self.room.state_is_full(&full);
        tokio::select! {
            () = tokio::time::sleep(ROOM_PAUSE) => true,
            () = self.stop.cancelled() => false,
        }
    }

    /// A job is over: what people see of it becomes durable, and it leaves the memory.
    pub async fn close(&self, id: JobId, ended: Ended) -> Result<(), StoreError> {
        let _one_at_a_time = self.one_save(id).await;
        let Some(before) = self.request(id)? else { return Ok(()) };
        let after = Request {
            phase: Phase::Over,
            cancelled: ended.status == Status::Cancelled,
            status: ended.status,
            errors: ended.errors,
            past: Some(ended.past),
            updated_ms: now_ms(),
            ..before.clone()
        };
        let mut batch = Batch::new();
        index::put(&mut batch, Some(&before), &after)?;
        past::save(&self.kv, &mut batch, id, &ended.tasks)?;
        if self.ended.is_some() && after.custody.is_none() {
            webhooks::note(&mut batch, id)?;
        }
        if after.status == Status::FinishedSuccessful && after.custody.is_none() {
            // What was made here is never taken for a source.
            let bytes = after.proof.as_ref().map(|proof| proof.bytes);
            note_output(&mut batch, &after.output, id, bytes)?;
        }
        self.commit(batch).await?;
        self.ended.iter().for_each(|ended| ended.notify_one());
        self.drop_entry(id);
        self.news.job(id);
        let _nobody_may_listen = self.closed.send(id);
        if after.status == Status::FinishedSuccessful {
            self.remove_dir(id); // only a retry needs the plan
        }
        Ok(())
    }

    /// It leaves the memory as it is on disk.
    pub fn drop_entry(&self, id: JobId) {
        if let Some(entry) = self.lock().remove(&id) {
            entry.token.cancel();
        }
    }

    /// A job that is over comes into the memory, to be tried again.
    pub fn hold(&self, request: Request) {
        let mut all = self.lock();
        let entry = all.entry(request.id).or_insert_with(|| Entry::new(request, &self.stop));
        entry.held = true;
    }

    /// A fresh token for the job's IO, after the old one ended it.
    pub fn renew_token(&self, id: JobId) {
        self.with(id, |entry| {
            if entry.token.is_cancelled() {
                entry.token = self.stop.child_token();
                entry.verifying = Arc::default();
                entry.damaged = 0;
            }
        });
    }

    /// Forgets a job, its plan, and all that is on disk of it.
    pub async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        // No change may save it again after it is deleted.
        let _one_at_a_time = self.one_save(id).await;
        let mut batch = Batch::new();
        forget(&self.kv, id, &mut batch)?;
        self.kv.commit(batch).await?;
        self.drop_entry(id);
        self.remove_dir(id);
        self.news.job(id);
        Ok(())
    }
}

/// Adds the removal of everything of a job to a batch, but for what the state machine has of it.
///
/// # Errors
/// The state cannot be read.
pub fn forget(kv: &Kv, id: JobId, batch: &mut Batch) -> Result<(), StoreError> {
    let Some(request) = index::get(kv, id)? else { return Ok(()) };
    index::delete(batch, &request);
    past::clear(kv, batch, id)?;
    state::clear_shelf(kv, id, batch)
}

// ---- plans ----

impl JobBook {
    /// A directory of the job's own, which goes with it.
    pub fn dir_of(&self, id: JobId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn plan_path(&self, id: JobId) -> PathBuf {
        self.dir_of(id).join("plan")
    }

    /// Keeps a plan; it is durable when this returns. Waits while the disk is full.
    pub async fn save_plan(&self, id: JobId, planned: Planned) -> std::io::Result<Arc<Planned>> {
        let planned = Arc::new(planned);
        loop {
            match self.write_plan(id, &planned) {
                Err(e) if is_full(&e) && self.wait_for_room(chain(&e)).await => {}
                Err(e) => return Err(e),
                Ok(()) => break,
            }
        }
        self.with(id, |entry| entry.planned = Some(Arc::clone(&planned)));
        Ok(planned)
    }

    /// Temporary name, fsync, rename: it is whole or not there.
    fn write_plan(&self, id: JobId, planned: &Planned) -> std::io::Result<()> {
        let path = self.plan_path(id);
        let dir = self.dir_of(id);
        fs::create_dir_all(&dir)?;
        let temp = path.with_extension("tmp");
        let bytes = codec::to_bytes(planned).map_err(std::io::Error::other)?;
        let mut file = fs::File::create(&temp)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temp, &path)?;
        fs::File::open(&dir)?.sync_all()?;
        fs::File::open(&self.dir)?.sync_all()
    }

    /// The plan, from memory or from its file; `None` when it was never made or is damaged (then
    /// it is made again).
    pub fn planned(&self, id: JobId) -> Option<Arc<Planned>> {
        if let Some(planned) = self.with(id, |entry| entry.planned.clone()).flatten() {
            return Some(planned);
        }
        let bytes = fs::read(self.plan_path(id)).ok()?;
        let planned: Arc<Planned> = Arc::new(codec::from_bytes(&bytes, PLAN_BYTES_MAX).ok()?);
        self.with(id, |entry| entry.planned = Some(Arc::clone(&planned)));
        Some(planned)
    }

    /// Nothing needs the plan for now: it leaves the memory.
    pub fn unload(&self, id: JobId) {
        self.with(id, |entry| entry.planned = None);
    }

    fn remove_dir(&self, id: JobId) {
        // Only a leftover: startup removes directories that no job needs.
        let _ = fs::remove_dir_all(self.dir_of(id));
    }

    /// Removes the directories of jobs that are no more, or that are done.
    pub fn clean(&self) {
        let Ok(found) = fs::read_dir(&self.dir) else { return };
        for dir in found.flatten() {
            let id: Option<JobId> = dir.file_name().to_str().and_then(|name| name.parse().ok());
            let needless = |id| match self.request(id) {
                Ok(Some(request)) => request.status == Status::FinishedSuccessful,
                Ok(None) => true,
                Err(_) => false,
            };
            if id.is_some_and(needless) {
                let _ = fs::remove_dir_all(dir.path());
            }
        }
    }
}
