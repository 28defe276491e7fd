//! Puts a running agent together, from a data directory and settings.

mod describe;
mod reach;
mod tidy;

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dmc_protocol::id::AgentId;
use dmc_store::{BlobLimits, Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Settings;
use crate::identity::{self, IdentityError, Keypair};
use crate::items::ItemBook;
use crate::jobs::JobBook;
use crate::media::capability;
use crate::media::children::Children;
use crate::media::run::Tools;
use crate::media::sandbox::{Lacking, Sandbox};
use crate::members::MembersError;
use crate::net;
use crate::news::News;
use crate::replace::{self, book::UndoBook};
use crate::room::Room;
use crate::runtime::{self, Event, Parts, Runtime, Shared};
use crate::{http, intake, library, manners, speeds, webhooks, worker};

use describe::{CAPABILITIES, describe, name_of, prove_again};
use reach::{Reach, forward};

/// The port that agents prefer to listen on for peers.
pub const PEER_PORT: u16 = 7341;
/// Events of one kind that may wait.
const CHANNEL: usize = 1_024;

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use the data directory {path}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent uses it.
    #[error(
        "another agent runs with the data directory {path}; stop it, or choose another --data-dir"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// No identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who belongs to the mesh is not known.
    #[error(transparent)]
    Members(#[from] MembersError),
    /// No network.
    #[error(transparent)]
    Net(#[from] net::NetError),
    /// ffmpeg cannot be confined as the settings require.
    #[error(transparent)]
    Sandbox(#[from] Lacking),
    /// No API.
    #[error(transparent)]
    Http(#[from] http::HttpError),
}

/// A running agent.
pub struct Running {
    /// What all its parts share.
    pub shared: Arc<Shared>,
    /// Where its API is.
    pub api: SocketAddr,
    events: mpsc::Sender<Event>,
    ended: JoinHandle<Result<(), StoreError>>,
    _lock: File,
}

impl Running {
    /// Stops gracefully; everything is flushed when this returns.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.events.send(Event::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
        http::withdraw(&self.shared.data_dir);
    }

    /// Waits for an end that nobody asked for; returns why.
    pub async fn ended(&mut self) -> String {
        match (&mut self.ended).await {
            Ok(Ok(())) => "it was stopped".to_owned(),
            Ok(Err(e)) => worker::chain(&e),
            Err(e) => e.to_string(),
        }
    }
}

/// Takes a data directory for this process alone.
///
/// # Errors
/// Another agent uses it, or it cannot be used.
pub fn lock(data_dir: &Path) -> Result<File, StartError> {
    let failed = |source| StartError::DataDir { path: data_dir.to_owned(), source };
    std::fs::create_dir_all(data_dir).map_err(failed)?;
    let path = data_dir.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: data_dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// What confines ffmpeg here; what it cannot do is said once.
fn confine(settings: &Settings) -> Result<Sandbox, Lacking> {
    let (sandbox, report) = Sandbox::new(settings)?;
    match report.lacks() {
        _ if !report.wanted => info!("ffmpeg is not confined: sandbox = \"off\""),
        lacks if lacks.is_empty() => info!("ffmpeg is confined: {}", report.words()),
        lacks => warn!("ffmpeg is confined in part only: {}", lacks.join("; ")),
    }
    Ok(sandbox)
}

/// Who this agent is, by the key in its data directory.
fn identify(data_dir: &Path) -> Result<(AgentId, Keypair), IdentityError> {
    let key = identity::load_or_create(data_dir)?;
    let me = identity::agent_id(&key.public().to_peer_id())
        .ok_or_else(|| IdentityError::Damaged { path: data_dir.join("identity.key") })?;
    Ok((me, key))
}

/// What is on the disk, opened, and those who hear of its changes.
struct State {
    store: Store,
    jobs: JobBook,
    items: ItemBook,
    undo: UndoBook,
    room: Arc<Room>,
    news: Arc<News>,
    ended: Arc<Notify>,
    stop: CancellationToken,
}

/// Opens what is on the disk, and removes what an earlier run left.
fn open_state(data_dir: &Path, settings: &Settings) -> Result<State, StoreError> {
    let limits = BlobLimits { quota_bytes: settings.blob_quota_bytes, ..BlobLimits::default() };
    let room = Arc::new(Room::new(data_dir));
    room.drop_ballast_if_scarce();
    let store = Store::open(data_dir, limits)?;
    room.make_ballast();
    let stop = CancellationToken::new();
    let (kv, plans) = (store.kv.clone(), data_dir.join("jobs"));
    let news = Arc::new(News::default());
    let jobs = JobBook::open(kv, plans, stop.clone(), Arc::clone(&room), Arc::clone(&news))?;
    let ended = Arc::new(Notify::new());
    let jobs = if settings.webhooks.is_empty() { jobs } else { jobs.telling(Arc::clone(&ended)) };
    let (kv, uploads) = (store.kv.clone(), data_dir.join("uploads"));
    let (quota, reserve) = (settings.upload_quota_bytes, settings.disk_reserve_bytes);
    let items = ItemBook::new(kv, uploads, quota, reserve);
    let undo = UndoBook::new(store.kv.clone());
    replace::settle_all(&undo)?;
    tidy::clean(data_dir, &jobs);
    items.clean(&jobs)?;
    tidy::unpin_leftovers(&store)?;
    Ok(State { store, jobs, items, undo, room, news, ended, stop })
}

/// Starts an agent.
///
/// # Errors
/// Which part of it does not come up, and why.
pub async fn start(data_dir: &Path, settings: Settings) -> Result<Running, StartError> {
    let sandbox = confine(&settings)?;
    let lock = lock(data_dir)?;
    let failed = |source| StartError::DataDir { path: data_dir.to_owned(), source };
    let data_dir = data_dir.canonicalize().map_err(failed)?;
    let (me, key) = identify(&data_dir)?;
    tidy::end_leftovers(me).await;
    let State { store, jobs, items, undo, room, news, ended, stop } =
        open_state(&data_dir, &settings)?;
    let tools = Tools::find().inspect_err(|e| warn!("{e}")).ok();
    let children = Arc::new(Children::default());
    let tools = tools.map(|tools| tools.called_by(me).confined(&sandbox).noted(&children));
    let listener = http::bind(&settings, &data_dir).await?;
    let (events, inbox) = runtime::channel();
    let name = name_of(&settings);
    let Reach { net, net_inbox, members, changes, port, discovery } =
        reach::open((me, key), &name, &settings, &store, &events).await?;
    // The encoders are tried while peers are being found; after a restart their list is known.
    let known = tools.as_ref().and_then(|t| capability::cached(t, &data_dir.join(CAPABILITIES)));
    let was_known = known.is_some();
    let free = worker::usable_disk(&settings, &store, &data_dir);
    let info = describe(&settings, tools.as_ref(), known, &data_dir, free).await;
    let parts = Parts {
        me,
        settings,
        data_dir,
        store,
        net,
        members,
        tools,
        children,
        jobs,
        items,
        undo,
        room,
        news,
        ended,
        info,
        stop,
    };
    let (mut runtime, shared) = Runtime::new(parts, events.clone(), inbox, discovery);
    runtime.restore().await?;
    let ended = tokio::spawn(runtime.run());
    forward(net_inbox, events.clone(), Event::Net);
    forward(changes, events.clone(), Event::Members);
    let api = http::serve(listener, &shared)?;
    begin(&shared, was_known).await?;
    info!(%name, id = %me, port, %api, "agent started");
    info!("the door is {}", shared.members.door().text());
    Ok(Running { shared, api, events, ended, _lock: lock })
}

/// Begins what runs beside the loop. `was_known`: the list of encoders is that of an earlier start.
async fn begin(shared: &Arc<Shared>, was_known: bool) -> Result<(), StoreError> {
    if !shared.settings.webhooks.is_empty() {
        shared.tasks.spawn(webhooks::run(Arc::clone(shared)));
    }
    intake::resume(shared).await;
    library::start(shared)?;
    replace::keep_tidy(Arc::clone(shared));
    manners::begin(Arc::clone(shared));
    if was_known {
        prove_again(shared);
    }
    if shared.settings.calibrate {
        speeds::calibrate_once(shared);
    }
    Ok(())
}
