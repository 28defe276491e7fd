//! What persons asked for: the part of a job that the mesh does not need to know.
//!
//! A job has three durable parts: the request here, its plan in a file of its own (an index of a
//! long film is large), and the tasks in the state machine's records.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dmc_protocol::codec;
use dmc_protocol::id::{AgentId, BlobRef, JobId};
use dmc_protocol::media::Preset;
use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::media::plan::{Plan, Rung};
use crate::media::streams::Probe;
use crate::paths::AnyPath;
use crate::room::Room;
use crate::worker::chain;

const SCHEMA: u16 = 3;
const PLAN_BYTES_MAX: usize = 1 << 30;
const PAGE: usize = 1_000;
const NOTES_MAX: usize = 50;
/// How often a full disk is tried again.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Size, times and inode: the cheap sign that a source may have changed. The time of the last
/// change of the inode cannot be set back by a program, as the modification time can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Length in bytes.
    pub bytes: u64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Time of the last change of the inode in nanoseconds since 1970.
    pub ctime_ns: i128,
    /// The inode's number.
    pub inode: u64,
}

impl Stamp {
    /// The stamp of a file as it is now.
    pub fn of(path: &Path) -> std::io::Result<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let meta = fs::metadata(path)?;
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Ok(Stamp {
            bytes: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        })
    }
}

/// The finer step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The source is read and the plan made.
    Planning,
    /// Another agent keeps the job, or will.
    HandedOver,
    /// Tasks are encoded.
    Encoding,
    /// Results are joined.
    Joining,
    /// The whole result is verified.
    Verifying,
    /// The result gets its name.
    Publishing,
    /// Nothing is left to do.
    Over,
}

/// The proof that the result is the same film.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Frames in the result: every frame that was expected, and no other.
    pub frames: u64,
    /// Largest difference of a frame's time, in microseconds.
    pub pts_error_us_max: u64,
    /// Whether every frame's pixels were compared and are equal (lossless targets).
    pub pixels_equal: bool,
    /// Streams in the result.
    pub streams: Vec<String>,
    /// Bytes of the result.
    pub bytes: u64,
}

/// A person's request and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The job.
    pub id: JobId,
    /// The source.
    pub input: AnyPath,
    /// Where the result goes.
    pub output: AnyPath,
    /// The target settings, overrides applied.
    pub preset: Preset,
    /// Whether an existing result may be replaced.
    pub overwrite: bool,
    /// Wanted length of segments in seconds; `None`: chosen from the film and the mesh.
    pub segment_s: Option<u32>,
    /// The source's stamp when the job was planned, or its content was last found the same.
    pub stamp: Stamp,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Milliseconds since 1970.
    pub updated_ms: i64,
    /// The finer step.
    pub phase: Phase,
    /// Whether a person cancelled it before it had tasks.
    pub cancelled: bool,
    /// Errors that ended the job before it had tasks.
    pub errors: Vec<String>,
    /// What the person should know: what cannot be kept, what was done another way.
    pub notes: Vec<String>,
    /// How the film is shared out, once that is planned.
    pub rung: Option<Rung>,
    /// The verified file that is about to get its name, by device and inode: after a crash between
    /// the name and the record of it, this tells a published result from somebody else's file.
    pub publishing: Option<(u64, u64)>,
    /// The proof, once the result is verified.
    pub proof: Option<Proof>,
    /// That it is to be handed over whole, and where the result then goes.
    pub hand_over: Option<Delivery>,
    /// Whose job it is, when this agent only keeps it.
    pub custody: Option<Custody>,
}

/// Where the result of a job that is handed over goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// The agent that keeps the result; `None`: it comes back here.
    pub to: Option<AgentId>,
    /// Its name below that agent's inbox.
    pub path: Option<String>,
}

/// A job of another agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Custody {
    /// The submitter.
    pub from: AgentId,
    /// The source, in the store.
    pub source: BlobRef,
    /// Whether the result stays in this agent's inbox.
    pub delivers: bool,
}

impl Request {
    /// Adds a note once; their number is bounded.
    pub fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// A source as it was read, and how it is converted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Planned {
    /// What the source is.
    pub probe: Probe,
    /// The tasks and how their results are joined.
    pub plan: Plan,
}

/// One job in memory.
pub struct Entry {
    /// The durable part.
    pub request: Request,
    /// The plan, read when it is needed.
    pub planned: Option<Arc<Planned>>,
    /// Ends the owner's IO for the job.
    pub token: CancellationToken,
    /// Serialises verification, so that neighbours are compared in some order.
    pub verifying: Arc<tokio::sync::Mutex<crate::owner::Verified>>,
    /// One reading of the whole source at a time.
    pub source: Arc<tokio::sync::Mutex<()>>,
    /// Files of it that a bad disk damaged since this agent started.
    pub damaged: u32,
}

/// All jobs that persons asked this agent for.
pub struct JobBook {
    entries: Mutex<BTreeMap<JobId, Entry>>,
    /// One save at a time, so that the disk never keeps an older request than the memory.
    saving: tokio::sync::Mutex<()>,
    /// See [`JobBook::listing`].
    listing: Mutex<()>,
    /// Ends the IO of all jobs.
    stop: CancellationToken,
    kv: Kv,
    dir: PathBuf,
    room: Arc<Room>,
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl JobBook {
    /// Reads all requests. `dir` keeps the plans; `stop` ends the IO of all jobs.
    pub fn open(
        kv: Kv,
        dir: PathBuf,
        stop: CancellationToken,
        room: Arc<Room>,
    ) -> Result<JobBook, StoreError> {
        let mut entries = BTreeMap::new();
        let mut from: Option<Vec<u8>> = None;
        loop {
            let page = kv.scan(Table::Requests, &[], from.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = Some(last.clone());
            for (_, value) in page {
                let request: Request = decode(SCHEMA, &value)?;
                entries.insert(request.id, Entry::new(request, &stop));
            }
        }
        let (saving, listing) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(JobBook { entries: Mutex::new(entries), saving, listing, stop, kv, dir, room })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, Entry>> {
        // A panic elsewhere does not make the list wrong: every change is one assignment.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job; it is durable when this returns.
    pub async fn add(&self, request: Request) -> Result<(), StoreError> {
        self.save(&request).await?;
        self.lock().insert(request.id, Entry::new(request, &self.stop));
        Ok(())
    }

    async fn save(&self, request: &Request) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(Table::Requests, request.id.0.as_bytes(), encode(SCHEMA, request)?);
        self.kv.commit(batch).await
    }

    /// Reads something of a job.
    pub fn with<T>(&self, id: JobId, read: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&id).map(read)
    }

    /// Held while a source is found or listed for a job of this book, and while those are unlisted
    /// that no job needs: none is unlisted in the moment in which a new job finds it.
    pub fn listing(&self) -> MutexGuard<'_, ()> {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All requests.
    pub fn requests(&self) -> Vec<Request> {
        self.lock().values().map(|entry| entry.request.clone()).collect()
    }

    /// Changes a request; the change is durable when this returns. Waits while the disk is full.
    pub async fn change(
        &self,
        id: JobId,
        change: impl FnOnce(&mut Request),
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.saving.lock().await;
        let changed = self.with(id, |entry| {
            change(&mut entry.request);
            entry.request.updated_ms = now_ms();
            entry.request.clone()
        });
        let Some(request) = changed else { return Ok(()) };
        loop {
            match self.save(&request).await {
                Err(e) if e.is_disk_full() && self.wait_for_room(chain(&e)).await => {}
                saved => return saved,
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

    /// A directory of the job's own, which goes with it.
    pub fn dir_of(&self, id: JobId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    fn plan_path(&self, id: JobId) -> PathBuf {
        self.dir.join(id.to_string()).join("plan")
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
        let dir = self.dir.join(id.to_string());
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

    /// The job is over: its plan leaves the memory.
    pub fn unload(&self, id: JobId) {
        self.with(id, |entry| entry.planned = None);
    }

    /// Forgets a job and its plan.
    pub async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        // No change may save it again after it is deleted.
        let _one_at_a_time = self.saving.lock().await;
        let mut batch = Batch::new();
        batch.delete(Table::Requests, id.0.as_bytes());
        self.kv.commit(batch).await?;
        self.lock().remove(&id);
        // Only a leftover: startup removes directories without a request.
        let _ = fs::remove_dir_all(self.dir.join(id.to_string()));
        Ok(())
    }

    /// Removes the directories of jobs that are no more.
    pub fn clean(&self) {
        let Ok(found) = fs::read_dir(&self.dir) else { return };
        for dir in found.flatten() {
            let id: Option<JobId> = dir.file_name().to_str().and_then(|name| name.parse().ok());
            if id.is_some_and(|id| !self.lock().contains_key(&id)) {
                let _ = fs::remove_dir_all(dir.path());
            }
        }
    }
}

impl Entry {
    fn new(request: Request, stop: &CancellationToken) -> Entry {
        let (token, verifying, source) = (stop.child_token(), Arc::default(), Arc::default());
        Entry { request, planned: None, token, verifying, source, damaged: 0 }
    }
}
