//! Puts a running agent together, from a data directory and settings.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmc_protocol::config::NAME_BYTES_MAX;
use dmc_protocol::media::{Capabilities, MediaKind};
use dmc_protocol::mesh::Input;
use dmc_protocol::message::{AgentInfo, Wishes, bounded};
use dmc_protocol::record::{Record, WorkState};
use dmc_store::{BlobLimits, Store};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Settings;
use crate::discovery::Discovery;
use crate::items::ItemBook;
use crate::jobs::JobBook;
use crate::media::run::Tools;
use crate::media::sandbox::{self, Lacking, Sandbox};
use crate::media::{capability, leftovers, publish};
use crate::members::{Members, MembersError};
use crate::net::{self, Gate, Net, NetEvent};
use crate::news::News;
use crate::replace::{self, book::UndoBook};
use crate::room::Room;
use crate::runtime::{self, Event, Parts, Runtime, Shared};
use crate::{custody, http, identity, intake, owner, power, speeds, state, webhooks, worker};

/// The port that agents prefer to listen on for peers.
pub const PEER_PORT: u16 = 7341;
/// Where the list of encoders that work is kept.
const CAPABILITIES: &str = "capabilities";
const CHANNEL: usize = 1_024;
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

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
    Identity(#[from] identity::IdentityError),
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] dmc_store::StoreError),
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
    ended: JoinHandle<Result<(), dmc_store::StoreError>>,
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
            Ok(Err(e)) => crate::worker::chain(&e),
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

/// The name that people see: the settings', or the host's.
fn name_of(settings: &Settings) -> String {
    let name = if settings.name.is_empty() {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    } else {
        settings.name.clone()
    };
    bounded(name, NAME_BYTES_MAX)
}

/// The most memory that an encode usually takes: x265 and SVT-AV1 with large pictures.
const MEMORY_OF_SLOT: u64 = 2 << 30;

/// Encodes at the same time, as told or by the processor and the memory.
fn slots_of(settings: &Settings) -> u32 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chosen = usual_slots(threads, sandbox::machine_memory_bytes());
    if settings.slots > 0 { settings.slots } else { chosen }.min(dmc_protocol::config::SLOTS_MAX)
}

/// Two encodes, as soon as there are two threads: one alone leaves an eighth of two cores idle, and
/// all of them while its input is cut and its result is checked (measured: docs/PERFORMANCE.md).
/// One more for every eight threads, where x265 gains little from further ones.
fn usual_slots(threads: usize, memory_bytes: u64) -> u32 {
    let by_threads = if threads > 1 { threads.div_ceil(8) + 1 } else { 1 };
    let by_memory = u32::try_from(memory_bytes / MEMORY_OF_SLOT).unwrap_or(u32::MAX);
    u32::try_from(by_threads).unwrap_or(1).min(by_memory).max(1)
}

async fn describe(
    settings: &Settings,
    tools: Option<&Tools>,
    known: Option<Capabilities>,
    data_dir: &Path,
    free_disk_bytes: u64,
) -> AgentInfo {
    let capabilities = match (known, tools) {
        (Some(known), _) => known,
        (None, Some(tools)) => {
            let found = capability::detect(tools).await;
            capability::keep(tools, &data_dir.join(CAPABILITIES), &found);
            found
        }
        (None, None) => Capabilities::default(),
    };
    let capabilities = only_accepted(settings, capabilities);
    let speeds = speeds::known(data_dir, &capabilities, slots_of(settings));
    AgentInfo {
        name: name_of(settings),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: rand::random(),
        slots: slots_of(settings),
        wishes: Wishes { prefers: settings.prefer.clone(), slots_of: settings.slots_of.clone() },
        free_disk_bytes,
        paused: false,
        capabilities,
        speeds,
        uptime_s: 0,
        custodian: settings.custodian && tools.is_some(),
        inbox: settings.inbox.is_some(),
        on_battery: power::on_battery(),
    }
}

/// The kinds of work that the person lets this agent take. Who takes films takes their sound.
fn only_accepted(settings: &Settings, mut found: Capabilities) -> Capabilities {
    let accept = &settings.accept;
    let takes = |kind: &MediaKind| {
        let of_film = *kind == MediaKind::Audio && accept.contains(&MediaKind::Video);
        accept.is_empty() || accept.contains(kind) || of_film
    };
    found.kinds.retain(takes);
    found
}

/// Tries the encoders again when their cached list was used, and tells what changed.
fn prove_again(shared: &Arc<Shared>) {
    let (shared, tasks) = (Arc::clone(shared), shared.tasks.clone());
    tasks.spawn(async move {
        let Some(tools) = &shared.tools else { return };
        let found = tokio::select! {
            found = capability::detect(tools) => found,
            () = shared.stop.cancelled() => return,
        };
        let accepted = only_accepted(&shared.settings, found.clone());
        let info = {
            let mut info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
            if info.capabilities == accepted {
                return;
            }
            info.capabilities = accepted;
            info.clone()
        };
        info!("what ffmpeg can do here has changed");
        capability::keep(tools, &shared.data_dir.join(CAPABILITIES), &found);
        shared.tell(Input::Local(info)).await;
    });
}

/// Where to listen for peers: as told, or the usual port, or a free one.
fn listen_addresses(settings: &Settings) -> Vec<SocketAddr> {
    if !settings.listen.is_empty() {
        return settings.listen.clone();
    }
    let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let free = std::net::TcpListener::bind(any(PEER_PORT)).is_ok();
    vec![any(if free { PEER_PORT } else { 0 })]
}

/// Removes what a run that was cut short left: work directories and half-made results.
fn clean(data_dir: &Path, jobs: &JobBook) {
    let _ = std::fs::remove_dir_all(data_dir.join("work"));
    for request in jobs.open_requests() {
        let _ = std::fs::remove_file(publish::temp_path(&request.output, &request.id.to_string()));
        let _ = std::fs::remove_file(owner::handed_temp(&request.output, request.id));
    }
    jobs.clean();
}

/// A crash between a blob and its record leaves a pin that nobody would ever take off.
fn unpin_leftovers(store: &Store) -> Result<(), dmc_store::StoreError> {
    let mut holders = BTreeSet::new();
    for record in state::load(&store.kv)? {
        match record {
            Record::Work(work) => {
                holders.insert(worker::input_holder(work.attempt));
                // One that was not yet reported is made anew, and nobody would release the first.
                if matches!(work.state, WorkState::Done(_)) {
                    holders.insert(worker::result_holder(work.attempt));
                }
            }
            Record::Task(task) => {
                holders.extend(task.piece.map(|_| owner::piece_holder(task.id)));
                holders.extend(task.commit.map(|_| owner::part_holder(task.id)));
            }
            Record::Handed(handed) if handed.state.is_over() => {}
            Record::Handed(handed) => {
                holders.insert(owner::handed_holder(handed.id));
            }
            Record::Custody(custody) => {
                holders.insert(custody::source_holder(custody.id));
                holders.insert(custody::result_holder(custody.id));
            }
            Record::Job(_) | Record::Paused(_) => {}
        }
    }
    for (blob, holder) in store.blobs.pins() {
        if !holders.contains(&holder) && !is_on_shelf(store, &holder)? {
            store.blobs.unpin(blob, &holder)?;
        }
    }
    Ok(())
}

/// Whether a job that may be tried again needs this part.
fn is_on_shelf(store: &Store, holder: &str) -> Result<bool, dmc_store::StoreError> {
    let Some(task) = owner::task_of_part(holder) else { return Ok(false) };
    let record = state::shelved_task(&store.kv, task)?;
    Ok(record.is_some_and(|record| record.commit.is_some()))
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

/// Starts an agent.
pub async fn start(data_dir: &Path, settings: Settings) -> Result<Running, StartError> {
    let sandbox = confine(&settings)?;
    let lock = lock(data_dir)?;
    let failed = |source| StartError::DataDir { path: data_dir.to_owned(), source };
    let data_dir = data_dir.canonicalize().map_err(failed)?;
    let key = identity::load_or_create(&data_dir)?;
    let me = identity::agent_id(&key.public().to_peer_id())
        .ok_or_else(|| identity::IdentityError::Damaged { path: data_dir.join("identity.key") })?;
    // Before their files are removed: what still runs would go on writing.
    match tokio::task::spawn_blocking(move || leftovers::end(me)).await {
        Ok(0) | Err(_) => {}
        Ok(count) => info!(count, "programs that an earlier run left behind were ended"),
    }
    let limits = BlobLimits { quota_bytes: settings.blob_quota_bytes, ..BlobLimits::default() };
    let room = Arc::new(Room::new(&data_dir));
    room.drop_ballast_if_scarce();
    let store = Store::open(&data_dir, limits)?;
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
    clean(&data_dir, &jobs);
    items.clean(&jobs)?;
    unpin_leftovers(&store)?;
    let tools = Tools::find().inspect_err(|e| warn!("{e}")).ok();
    let tools = tools.map(|tools| tools.called_by(me).confined(&sandbox));
    let listener = http::bind(&settings, &data_dir).await?;
    let (events, inbox) = runtime::channel();
    let (net_events, net_inbox) = mpsc::channel(CHANNEL);
    let (members, changes) = Members::open(
        (me, key.clone()),
        name_of(&settings),
        store.kv.clone(),
        Gate::default(),
        settings.door,
    )
    .await?;
    // The first slice of a door that is open: before anybody sees this agent.
    if let Err(e) = members.tick().await {
        warn!("the door stays closed: {}", worker::chain(&e));
    }
    let net = Net::start(
        key,
        &listen_addresses(&settings),
        store.blobs.clone(),
        Arc::clone(&members),
        net_events,
    )?;
    for peer in &settings.peers {
        net.know(None, net::resolve(peer).await?).await;
    }
    let (port, net_inbox) = wait_for_port(net_inbox, &events).await;
    let name = name_of(&settings);
    let discovery = discover(&settings, &members, &name, port, &events);
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
    if !shared.settings.webhooks.is_empty() {
        shared.tasks.spawn(webhooks::run(Arc::clone(&shared)));
    }
    intake::resume(&shared).await;
    replace::keep_tidy(Arc::clone(&shared));
    if was_known {
        prove_again(&shared);
    }
    if shared.settings.calibrate {
        speeds::calibrate_once(&shared);
    }
    info!(%name, id = %me, port, %api, "agent started");
    info!("the door is {}", shared.members.door().text());
    Ok(Running { shared, api, events, ended, _lock: lock })
}

/// The first port that the system gave us; discovery announces it.
async fn wait_for_port(
    mut inbox: mpsc::Receiver<NetEvent>,
    events: &mpsc::Sender<Event>,
) -> (u16, mpsc::Receiver<NetEvent>) {
    let first = async {
        while let Some(event) = inbox.recv().await {
            let port = match &event {
                NetEvent::Listening(addr) => Some(addr.port()),
                _ => None,
            };
            let _ = events.send(Event::Net(event)).await;
            if let Some(port) = port {
                return port;
            }
        }
        0
    };
    let port = tokio::time::timeout(LISTEN_TIMEOUT, first).await.unwrap_or_else(|_| {
        warn!("no address to listen on came up; peers cannot reach this agent");
        0
    });
    (port, inbox)
}

fn discover(
    settings: &Settings,
    members: &Members,
    name: &str,
    port: u16,
    events: &mpsc::Sender<Event>,
) -> Option<Discovery> {
    if !settings.discovery || port == 0 {
        return None;
    }
    let (sightings, inbox) = mpsc::channel(CHANNEL);
    let port_mdns = Some(settings.discovery_port).filter(|port| *port != 0);
    match Discovery::start(members.me(), name, port, port_mdns, members.door().open, sightings) {
        Ok(discovery) => {
            forward(inbox, events.clone(), Event::Sighting);
            Some(discovery)
        }
        Err(e) => {
            warn!("{}", crate::worker::chain(&e));
            None
        }
    }
}

fn forward<T: Send + 'static>(
    mut from: mpsc::Receiver<T>,
    to: mpsc::Sender<Event>,
    wrap: fn(T) -> Event,
) {
    tokio::spawn(async move {
        while let Some(event) = from.recv().await {
            if to.send(wrap(event)).await.is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_threads_and_memory() {
        let gib = 1 << 30;
        assert_eq!(usual_slots(1, 64 * gib), 1);
        assert_eq!(usual_slots(2, 8 * gib), 2);
        assert_eq!(usual_slots(16, 64 * gib), 3);
        assert_eq!(usual_slots(16, 4 * gib), 2, "an encode may take 2 GiB");
        assert_eq!(usual_slots(4, gib), 1, "one always");
    }
}
