//! The loop: an input comes in, the core decides, outputs become effects. Holds no decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dmc_protocol::id::{AgentId, AttemptId, BlobId, JobId};
use dmc_protocol::media::WorkClass;
use dmc_protocol::mesh::{IDS_BATCH, Input, Mesh, Output};
use dmc_protocol::message::AgentInfo;
use dmc_protocol::time::Time;
use dmc_store::{BATCH_BYTES_MAX, Batch, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info};

use crate::config::Settings;
use crate::discovery::{Discovery, Sighting};
use crate::jobs::JobBook;
use crate::media::run::Tools;
use crate::media::verify::Checked;
use crate::net::{Net, NetEvent};
use crate::{custody, owner, power, state, worker};

/// Inputs that may wait. The core takes microseconds an input; a full queue slows the sender.
const QUEUE: usize = 4_096;
/// Inputs handled before their records are made durable together.
const INPUTS_PER_COMMIT: usize = 256;
/// A commit of many tasks is split; its parts become durable in order.
const COMMIT_BYTES: usize = BATCH_BYTES_MAX / 2;
/// How often uptime and power are told.
const UPTIME_STEP_S: u64 = 60;
const TICK: Duration = Duration::from_secs(1);
const SWEEP_EVERY: Duration = Duration::from_secs(120);

/// A question that is answered from the core's state.
pub type Question = Box<dyn FnOnce(&Mesh, Time) + Send>;

/// What reaches the loop.
pub enum Event {
    /// For the core.
    Input(Input),
    /// From the network.
    Net(NetEvent),
    /// From discovery.
    Sighting(Sighting),
    /// From the API.
    Ask(Question),
    /// Stop: answered when everything is flushed.
    Stop(oneshot::Sender<()>),
}

/// What all parts of the agent share.
pub struct Shared {
    /// This agent.
    pub me: AgentId,
    /// The settings in force.
    pub settings: Settings,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Records and blobs.
    pub store: Store,
    /// The network.
    pub net: Net,
    /// ffmpeg, when there is one.
    pub tools: Option<Tools>,
    /// What persons asked for.
    pub jobs: JobBook,
    /// Where peers reach this agent.
    pub listening: Mutex<Vec<SocketAddr>>,
    /// Where peers were seen or reached.
    pub met: Mutex<BTreeMap<AgentId, BTreeSet<SocketAddr>>>,
    /// What this agent says of itself.
    pub info: Mutex<AgentInfo>,
    /// Running work of this agent as a worker.
    pub attempts: Mutex<BTreeMap<AttemptId, CancellationToken>>,
    /// Transfers of whole sources and results of jobs that change hands.
    pub custody: Mutex<BTreeMap<JobId, CancellationToken>>,
    /// Results for jobs of this very agent that its worker side has checked, by media and proof:
    /// the same bytes need no second decode.
    pub checked: Mutex<BTreeMap<(BlobId, BlobId), Checked>>,
    /// Everything that runs beside the loop.
    pub tasks: TaskTracker,
    /// Ends all of it.
    pub stop: CancellationToken,
    started: Instant,
    events: mpsc::Sender<Event>,
}

impl Shared {
    /// Now, on the core's clock.
    pub fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Tells the core something.
    pub async fn tell(&self, input: Input) {
        let _ = self.events.send(Event::Input(input)).await;
    }

    /// Asks the core something; `None` when the agent is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Mesh, Time) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let question: Question = Box::new(move |mesh, now| {
            let _ = answer.send(question(mesh, now));
        });
        self.events.send(Event::Ask(question)).await.ok()?;
        answered.await.ok()
    }

    /// Keeps where a peer can be found, for people.
    fn met(&self, peer: AgentId, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.entry(peer).or_default().extend(addresses);
    }

    /// A directory of this agent's own.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }

    /// Measures one finished attempt: a moving mean, so that one odd sample does not rule.
    pub async fn measured(&self, class: WorkClass, units: u64, encode_ms: u64) {
        if encode_ms < 100 {
            return; // mostly start-up
        }
        let sample = units.saturating_mul(1_000) / encode_ms;
        let info = {
            let mut info = self.info.lock().unwrap_or_else(PoisonError::into_inner);
            match info.speeds.iter_mut().find(|(of, _)| *of == class) {
                Some((_, speed)) => *speed = (speed.saturating_mul(3).saturating_add(sample)) / 4,
                None => info.speeds.push((class, sample)),
            }
            info.clone()
        };
        self.tell(Input::Local(info)).await;
    }
}

/// The loop's own state; consumed by [`Runtime::run`].
pub struct Runtime {
    mesh: Mesh,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Event>,
    discovery: Option<Discovery>,
}

/// The parts that [`Runtime::new`] puts together.
pub struct Parts {
    /// This agent.
    pub me: AgentId,
    /// The settings in force.
    pub settings: Settings,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Records and blobs.
    pub store: Store,
    /// The network.
    pub net: Net,
    /// ffmpeg, when there is one.
    pub tools: Option<Tools>,
    /// What persons asked for.
    pub jobs: JobBook,
    /// What this agent says of itself.
    pub info: AgentInfo,
    /// Ends everything that runs beside the loop.
    pub stop: CancellationToken,
}

/// The channel into the loop.
pub fn channel() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(QUEUE)
}

impl Runtime {
    /// Puts the agent together; nothing runs yet.
    pub fn new(
        parts: Parts,
        events: mpsc::Sender<Event>,
        inbox: mpsc::Receiver<Event>,
        discovery: Option<Discovery>,
    ) -> (Runtime, Arc<Shared>) {
        let mesh = Mesh::new(parts.me, parts.settings.mesh.clone());
        let shared = Arc::new(Shared {
            me: parts.me,
            settings: parts.settings,
            data_dir: parts.data_dir,
            store: parts.store,
            net: parts.net,
            tools: parts.tools,
            jobs: parts.jobs,
            listening: Mutex::default(),
            met: Mutex::default(),
            info: Mutex::new(parts.info),
            attempts: Mutex::default(),
            custody: Mutex::default(),
            checked: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: parts.stop,
            started: Instant::now(),
            events,
        });
        (Runtime { mesh, shared: Arc::clone(&shared), inbox, discovery }, shared)
    }

    /// Replays what the disk remembers. Outputs of the replay run like any others.
    pub async fn restore(&mut self) -> Result<(), StoreError> {
        let records = state::load(&self.shared.store.kv)?;
        let info = self.shared.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inputs = [Input::Restore(records), Input::Local(info), Input::Tick];
        let now = self.shared.now();
        let outputs = inputs.into_iter().flat_map(|input| self.mesh.handle(now, input)).collect();
        self.perform(outputs).await
    }

    /// Runs until told to stop, or until the disk no longer keeps what it is told.
    pub async fn run(self) -> Result<(), StoreError> {
        let stop = self.shared.stop.clone();
        let ended = self.turn().await;
        stop.cancel();
        ended
    }

    async fn turn(mut self) -> Result<(), StoreError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            let mut outputs = Vec::new();
            tokio::select! {
                event = self.inbox.recv() => {
                    let Some(event) = event else { return Ok(()) };
                    if let Some(done) = self.take(event, &mut outputs).await {
                        return self.stop(outputs, done).await;
                    }
                }
                _ = tick.tick() => outputs.extend(self.tick()),
            }
            for _ in 1..INPUTS_PER_COMMIT {
                let Ok(event) = self.inbox.try_recv() else { break };
                if let Some(done) = self.take(event, &mut outputs).await {
                    return self.stop(outputs, done).await;
                }
            }
            self.perform(outputs).await?;
            if swept.elapsed() > SWEEP_EVERY {
                swept = Instant::now();
                self.sweep();
            }
        }
    }

    fn tick(&mut self) -> Vec<Output> {
        let now = self.shared.now();
        let mut outputs = self.mesh.handle(now, Input::Tick);
        let info = worker::refresh_free_disk(&self.shared);
        let info = self.refresh_uptime().or(info);
        if let Some(info) = info {
            outputs.extend(self.mesh.handle(now, Input::Local(info)));
        }
        outputs
    }

    /// Uptime and power, about once a minute.
    fn refresh_uptime(&self) -> Option<AgentInfo> {
        let mut info = self.shared.info.lock().unwrap_or_else(PoisonError::into_inner);
        let uptime_s = self.shared.started.elapsed().as_secs();
        if uptime_s < info.uptime_s + UPTIME_STEP_S {
            return None;
        }
        info.uptime_s = uptime_s;
        info.on_battery = power::on_battery();
        Some(info.clone())
    }

    /// Handles one event; a request to stop is returned.
    async fn take(
        &mut self,
        event: Event,
        outputs: &mut Vec<Output>,
    ) -> Option<oneshot::Sender<()>> {
        let now = self.shared.now();
        match event {
            Event::Input(input) => outputs.extend(self.mesh.handle(now, input)),
            Event::Net(event) => self.on_net(event, outputs),
            Event::Sighting(Sighting::Found(peer, addresses)) => {
                self.shared.met(peer, addresses.iter().copied());
                self.shared.net.know(Some(peer), addresses).await;
            }
            Event::Sighting(Sighting::Withdrawn(peer)) => self.shared.net.forget(peer).await,
            Event::Ask(question) => question(&self.mesh, now),
            Event::Stop(done) => return Some(done),
        }
        None
    }

    fn on_net(&mut self, event: NetEvent, outputs: &mut Vec<Output>) {
        let now = self.shared.now();
        let input = match event {
            NetEvent::Up(peer) => {
                info!(peer = %self.mesh.name_of(peer), "connected");
                Input::PeerUp(peer)
            }
            NetEvent::Down(peer) => {
                info!(peer = %self.mesh.name_of(peer), "connection lost");
                if let Some(discovery) = &self.discovery {
                    discovery.verify(peer);
                }
                Input::PeerDown(peer)
            }
            NetEvent::Message(from, message) => Input::Received { from, message },
            NetEvent::Reached(peer, addr) => return self.shared.met(peer, [addr]),
            NetEvent::Listening(addr) => {
                debug!(%addr, "listening");
                let mut all = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
                if !all.contains(&addr) {
                    all.push(addr);
                }
                return;
            }
            NetEvent::NotListening(addr) => {
                let mut all = self.shared.listening.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|known| *known != addr);
                return;
            }
        };
        outputs.extend(self.mesh.handle(now, input));
    }

    /// Makes the records durable, then does everything else, in order.
    async fn perform(&mut self, mut outputs: Vec<Output>) -> Result<(), StoreError> {
        while let Some(at) = outputs.iter().position(|output| *output == Output::NeedIds) {
            outputs.remove(at);
            let ids = (0..IDS_BATCH).map(|_| AttemptId(rand::random())).collect();
            // Grants that waited for ids.
            outputs.extend(self.mesh.handle(self.shared.now(), Input::Ids(ids)));
        }
        let mut batch = Batch::new();
        for output in &outputs {
            match output {
                Output::Save(record) => state::save(&mut batch, record)?,
                Output::Erase(key) => state::erase(&mut batch, *key),
                _ => {}
            }
            if batch.bytes() > COMMIT_BYTES {
                self.shared.store.kv.commit(std::mem::take(&mut batch)).await?;
            }
        }
        if !batch.is_empty() {
            self.shared.store.kv.commit(batch).await?;
        }
        for output in outputs {
            self.effect(output).await;
        }
        Ok(())
    }

    async fn effect(&self, output: Output) {
        let shared = Arc::clone(&self.shared);
        match output {
            Output::Save(_) | Output::Erase(_) | Output::NeedIds => {} // done
            Output::Send { to, message } => shared.net.send(to, message).await,
            Output::Changed(job) => debug!(%job, "changed"),
            Output::Cut(task) => owner::cut(shared, task),
            Output::ReleasePiece { task, blob } => owner::release_piece(shared, task, blob),
            Output::Fetch { attempt, task, from, result } => {
                owner::fetch(shared, attempt, task, from, result);
            }
            Output::DropResult { task, result } => owner::drop_result(shared, task, result),
            Output::Lower { task, reason } => owner::lower(shared, task, reason),
            Output::Join(job) => owner::join(shared, job),
            Output::JobOver(job) => owner::job_over(shared, job),
            Output::TakeBack(job) => owner::take_back(shared, job),
            Output::FetchHanded { job, from, result } => {
                owner::fetch_handed(shared, job, from, result);
            }
            Output::StopHanded(job) => owner::stop_handed(&shared, job),
            Output::HandedEnded(job) => {
                let tasks = shared.tasks.clone();
                tasks.spawn(owner::ended(shared, job));
            }
            Output::FetchSource { job, from, source } => {
                custody::fetch_source(shared, job, from, source);
            }
            Output::BeginCustody(job) => custody::begin(shared, job),
            Output::KeepResult(job) => custody::keep_result(shared, job),
            Output::EndCustody { job, source, result } => {
                custody::end(shared, job, source, result);
            }
            Output::FetchInput { attempt, owner, task: _, blob } => {
                worker::fetch_input(shared, attempt, owner, blob);
            }
            Output::Run { attempt, owner, task, spec, input: _, blob } => {
                worker::run(shared, attempt, owner, task, spec, blob);
            }
            Output::Discard { attempt, blob, result } => {
                worker::discard(shared, attempt, blob, result);
            }
        }
    }

    fn sweep(&self) {
        let (blobs, now) = (self.shared.store.blobs.clone(), self.shared.now());
        self.shared.tasks.spawn_blocking(move || match blobs.sweep(now) {
            Ok(swept) if swept.bytes > 0 => info!(bytes = swept.bytes, "unused blobs removed"),
            Ok(_) => {}
            Err(e) => error!("unused blobs cannot be removed: {e}"),
        });
    }

    /// Says goodbye, ends running work, flushes, withdraws.
    async fn stop(
        mut self,
        outputs: Vec<Output>,
        done: oneshot::Sender<()>,
    ) -> Result<(), StoreError> {
        self.perform(outputs).await?;
        let goodbye = self.mesh.handle(self.shared.now(), Input::StopNow);
        let result = self.perform(goodbye).await;
        self.shared.stop.cancel();
        self.shared.tasks.close();
        // Tasks may still report; nobody listens, and they must not wait for us.
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
        let grace = Duration::from_secs(self.shared.settings.stop_grace_s.max(1));
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            error!("some work did not end in {grace:?}");
        }
        if let Some(discovery) = self.discovery.take() {
            discovery.stop().await;
        }
        self.shared.net.close().await;
        let _ = done.send(());
        result
    }
}
