//! The loop: an input comes in, the core decides, outputs become effects. Holds no decisions.
//! `full`: what it does while the disk is full; `stopping`: how it ends.

mod effects;
mod full;
mod membership;
mod shared;
mod stopping;

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dmc_protocol::id::{AgentId, AttemptId};
use dmc_protocol::mesh::{IDS_BATCH, Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Message};
use dmc_protocol::time::Time;
use dmc_store::{BATCH_BYTES_MAX, Batch, StoreError};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info};

use crate::discovery::{Discovery, Sighting};
use crate::intact;
use crate::members::Change;
use crate::net::NetEvent;
use crate::service::notify::Pulse;
use crate::{source, state, worker};

use effects::effect;
pub use membership::{Asked, version_text};
pub use shared::{Parts, Shared};
use stopping::Stopping;

/// Inputs that may wait. The core takes microseconds an input; a full queue slows the sender.
const QUEUE: usize = 4_096;
/// Inputs handled before their records are made durable together.
const INPUTS_PER_COMMIT: usize = 256;
/// A commit of many tasks is split; its parts become durable in order.
const COMMIT_BYTES: usize = BATCH_BYTES_MAX / 2;
/// How often uptime is told.
const UPTIME_STEP_S: u64 = 60;
/// How often the door is looked at.
const DOOR_TICK: Duration = Duration::from_secs(2);
/// How often the core hears of the time.
const TICK: Duration = Duration::from_secs(1);
/// How often unused blobs are looked for.
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
    /// Who belongs to the mesh has changed.
    Members(Change),
    /// From the API.
    Ask(Question),
    /// Stop: answered when everything is flushed.
    Stop(Stop),
}

/// The loop's own state; consumed by [`Runtime::run`].
pub struct Runtime {
    mesh: Mesh,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Event>,
    discovery: Option<Discovery>,
    /// What came while the disk was full.
    deferred: VecDeque<Event>,
    /// Answered when what came before them is durable and done.
    asked: Vec<Question>,
    stop_asked: Option<Stop>,
    stopping: Option<Stopping>,
    door_was_open: bool,
    pulse: Pulse,
}

/// Answered when everything is flushed.
type Stop = oneshot::Sender<()>;

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
        let shared = Arc::new(Shared::new(parts, events));
        let runtime = Runtime {
            mesh,
            shared: Arc::clone(&shared),
            inbox,
            discovery,
            deferred: VecDeque::new(),
            asked: Vec::new(),
            stop_asked: None,
            stopping: None,
            door_was_open: false,
            pulse: Pulse::from_environment(),
        };
        (runtime, shared)
    }

    /// Replays what the disk remembers. Outputs of the replay run like any others.
    pub async fn restore(&mut self) -> Result<(), StoreError> {
        let records = state::load(&self.shared.store.kv)?;
        let info = self.shared.info.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let off_hours = Input::SetOffHours(!self.shared.settings.hours.are_now());
        let inputs = [Input::Restore(records), off_hours, Input::Local(info), Input::Tick];
        let now = self.shared.now();
        let mut outputs: Vec<Output> =
            inputs.into_iter().flat_map(|input| self.mesh.handle(now, input)).collect();
        outputs.extend(self.part_from_former());
        // What is left when a stop was asked for meanwhile is decided again at the next start.
        self.perform(outputs).await.map(|_left| ())
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
        let (mut swept, mut doors) = (Instant::now(), Instant::now());
        self.tick_door().await;
        loop {
            self.pulse.beat();
            let mut outputs = Vec::new();
            let first = match self.deferred.pop_front() {
                Some(event) => Some(event),
                None => tokio::select! {
                    event = self.inbox.recv() => match event {
                        Some(event) => Some(event),
                        None => return Ok(()),
                    },
                    _ = tick.tick() => None,
                },
            };
            match first {
                Some(event) => self.take(event, &mut outputs).await,
                None => outputs.extend(self.tick()),
            }
            for _ in 1..INPUTS_PER_COMMIT {
                let next = self.deferred.pop_front().or_else(|| self.inbox.try_recv().ok());
                let Some(event) = next else { break };
                self.take(event, &mut outputs).await;
            }
            let left = self.perform(outputs).await?;
            for question in std::mem::take(&mut self.asked) {
                question(&self.mesh, self.shared.now());
            }
            if self.is_over(left.is_empty()).await? {
                return self.end().await;
            }
            if swept.elapsed() > SWEEP_EVERY {
                swept = Instant::now();
                self.sweep();
            }
            if doors.elapsed() > DOOR_TICK {
                doors = Instant::now();
                self.tick_door().await;
            }
        }
    }

    fn tick(&mut self) -> Vec<Output> {
        let now = self.shared.now();
        let mut outputs = self.mesh.handle(now, Input::Tick);
        let off_hours = !self.shared.settings.hours.are_now();
        if off_hours != self.mesh.work().is_off_hours() {
            outputs.extend(self.mesh.handle(now, Input::SetOffHours(off_hours)));
        }
        let info = worker::refresh_free_disk(&self.shared);
        let info = self.refresh_uptime().or(info);
        if let Some(info) = info {
            outputs.extend(self.mesh.handle(now, Input::Local(info)));
        }
        outputs
    }

    /// Uptime, about once a minute.
    fn refresh_uptime(&self) -> Option<AgentInfo> {
        let mut info = self.shared.info.lock().unwrap_or_else(PoisonError::into_inner);
        let uptime_s = self.shared.started.elapsed().as_secs();
        if uptime_s < info.uptime_s + UPTIME_STEP_S {
            return None;
        }
        info.uptime_s = uptime_s;
        Some(info.clone())
    }

    /// Handles one event; a request to stop is kept.
    async fn take(&mut self, event: Event, outputs: &mut Vec<Output>) {
        let now = self.shared.now();
        match event {
            Event::Input(input) => {
                if matches!(input, Input::SetPaused(_)) {
                    self.shared.news.mesh();
                }
                outputs.extend(self.mesh.handle(now, input));
            }
            Event::Net(event) => self.on_net(event, outputs),
            Event::Sighting(sighting) => {
                if let (Sighting::Twin(_), Some(discovery)) = (&sighting, &mut self.discovery) {
                    discovery.tell_twin(self.shared.me);
                }
                self.shared.seen(sighting).await;
            }
            Event::Members(change) => {
                self.shared.news.mesh();
                self.on_members(change, outputs).await;
            }
            Event::Ask(question) => self.asked.push(question),
            Event::Stop(done) => self.stop_asked = Some(done),
        }
    }

    /// One of another version comes and goes as often as it dials: that was said once.
    fn tell_of(&self, peer: AgentId, what: &str) {
        let name = self.mesh.name_of(peer);
        match self.shared.speaks_other_version(peer) {
            true => debug!(peer = %name, "{what}"),
            false => info!(peer = %name, "{what}"),
        }
    }

    fn on_net(&mut self, event: NetEvent, outputs: &mut Vec<Output>) {
        let now = self.shared.now();
        if matches!(event, NetEvent::Up(_) | NetEvent::Down(_)) {
            self.shared.news.mesh();
        }
        let input = match event {
            NetEvent::Up(peer) => {
                self.greet(peer, outputs);
                self.tell_of(peer, "connected");
                Input::PeerUp(peer)
            }
            NetEvent::Down(peer) => {
                self.tell_of(peer, "connection lost");
                if let Some(discovery) = &self.discovery {
                    discovery.verify(peer);
                }
                Input::PeerDown(peer)
            }
            NetEvent::Message(from, Message::Roster { digest, facts }) => {
                return self.on_roster(from, digest, facts);
            }
            // What waited in the queue when its sender was evicted.
            NetEvent::Message(from, _) if !self.shared.members.gate().admits(from) => return,
            NetEvent::Message(from, message) => {
                self.shared.forget_version(from);
                Input::Received { from, message }
            }
            NetEvent::OtherVersion(peer, theirs) => {
                return self.shared.note_version(peer, theirs.to_string());
            }
            NetEvent::Twin(addr) => return self.shared.note_twin(addr),
            NetEvent::Asked(peer, code, outcome) => {
                return membership::asked(&self.shared, peer, code, outcome);
            }
            NetEvent::Reached(peer, addr) => return self.shared.met(peer, [addr]),
            NetEvent::Listening(addr) => return self.shared.listens(addr, true),
            NetEvent::NotListening(addr) => return self.shared.listens(addr, false),
            NetEvent::Damaged(blob) => return intact::damaged(Arc::clone(&self.shared), blob),
        };
        outputs.extend(self.mesh.handle(now, input));
    }

    /// Makes the records durable, then does everything else, in order. Returns what was not done:
    /// all of it, when the disk is full and a stop was asked for.
    async fn perform(&mut self, mut outputs: Vec<Output>) -> Result<Vec<Output>, StoreError> {
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
                Output::Shelve(record) => state::shelve(&mut batch, record)?,
                Output::Unshelve(record) => state::unshelve(&mut batch, record)?,
                _ => {}
            }
            if batch.bytes() > COMMIT_BYTES && !self.commit(std::mem::take(&mut batch)).await? {
                return Ok(outputs);
            }
        }
        if !batch.is_empty() && !self.commit(batch).await? {
            return Ok(outputs);
        }
        for output in outputs {
            effect(Arc::clone(&self.shared), output).await;
        }
        Ok(Vec::new())
    }

    /// Removes what nobody needs, and makes the ballast again where there is room.
    fn sweep(&self) {
        let (blobs, now) = (self.shared.store.blobs.clone(), self.shared.now());
        let room = Arc::clone(&self.shared.room);
        self.shared.tasks.spawn_blocking(move || {
            match blobs.sweep(now) {
                Ok(swept) if swept.bytes > 0 => info!(bytes = swept.bytes, "unused blobs removed"),
                Ok(_) => {}
                Err(e) => error!("unused blobs cannot be removed: {e}"),
            }
            room.make_ballast();
        });
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move { source::unlist_unneeded(&shared).await });
    }
}
