//! What all parts of the agent share, and how they speak with the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dmc_protocol::id::{AgentId, AttemptId, BlobId, JobId};
use dmc_protocol::mesh::{Input, Mesh};
use dmc_protocol::message::AgentInfo;
use dmc_protocol::time::Time;
use dmc_store::Store;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{Asked, Event, Question};
use crate::config::Settings;
use crate::discovery::Sighting;
use crate::intact::Seen;
use crate::items::ItemBook;
use crate::jobs::JobBook;
use crate::library::Library;
use crate::media::children::Children;
use crate::media::run::Tools;
use crate::media::verify::Checked;
use crate::members::Members;
use crate::net::Net;
use crate::news::News;
use crate::replace::book::UndoBook;
use crate::room::Room;

/// Answers of strangers that wait for a person.
const ASKED: usize = 64;

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
    /// Who belongs to the mesh.
    pub members: Arc<Members>,
    /// Another agent with this one's identity was seen, there.
    pub twin: Mutex<Option<String>>,
    /// Agents that speak another version of the protocol, and which.
    pub versions: Mutex<BTreeMap<AgentId, String>>,
    /// What came of asking strangers to join.
    pub asked: broadcast::Sender<Asked>,
    /// ffmpeg, when there is one.
    pub tools: Option<Tools>,
    /// The programs that run.
    pub children: Arc<Children>,
    /// What persons asked for.
    pub jobs: JobBook,
    /// What clients gave it to convert.
    pub items: ItemBook,
    /// Watched folders.
    pub library: Library,
    /// Sources that were replaced, or are to be.
    pub undo: UndoBook,
    /// Who waits for room on a disk.
    pub room: Arc<Room>,
    /// What changed, for those who watch.
    pub news: Arc<News>,
    /// Wakes those who tell other programs of jobs that are over.
    pub ended: Arc<Notify>,
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
    /// Large blobs that were read whole and right.
    pub intact: Mutex<BTreeMap<BlobId, Seen>>,
    /// Encodes that may run on the graphics card.
    pub card: Semaphore,
    /// Everything that runs beside the loop.
    pub tasks: TaskTracker,
    /// Ends all of it.
    pub stop: CancellationToken,
    pub(super) started: Instant,
    events: mpsc::Sender<Event>,
}

impl Shared {
    /// Puts the parts together; nothing runs yet.
    pub(super) fn new(parts: Parts, events: mpsc::Sender<Event>) -> Shared {
        let library = Library::new(parts.store.kv.clone(), parts.settings.watch_jobs_max);
        let sessions = parts.settings.hardware_sessions.get();
        Shared {
            card: Semaphore::new(usize::try_from(sessions).unwrap_or(1).min(1_000)),
            me: parts.me,
            library,
            settings: parts.settings,
            data_dir: parts.data_dir,
            store: parts.store,
            net: parts.net,
            members: parts.members,
            twin: Mutex::default(),
            versions: Mutex::default(),
            asked: broadcast::channel(ASKED).0,
            tools: parts.tools,
            children: parts.children,
            items: parts.items,
            undo: parts.undo,
            jobs: parts.jobs,
            room: parts.room,
            news: parts.news,
            ended: parts.ended,
            listening: Mutex::default(),
            met: Mutex::default(),
            info: Mutex::new(parts.info),
            attempts: Mutex::default(),
            custody: Mutex::default(),
            checked: Mutex::default(),
            intact: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: parts.stop,
            started: Instant::now(),
            events,
        }
    }

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
    pub(super) fn met(&self, peer: AgentId, addresses: impl IntoIterator<Item = SocketAddr>) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.entry(peer).or_default().extend(addresses);
    }

    /// Discovery saw a peer, or saw it go.
    pub(super) async fn seen(&self, sighting: Sighting) {
        match sighting {
            Sighting::OtherVersion(peer, theirs) => self.note_version(peer, theirs),
            Sighting::Found(peer, addresses, open) => {
                self.forget_version(peer);
                self.met(peer, addresses.iter().copied());
                self.members.saw(peer, open);
                if self.members.may_dial(peer) {
                    self.net.know(Some(peer), addresses).await;
                }
            }
            Sighting::Twin(addresses) => {
                addresses.into_iter().take(1).for_each(|addr| self.note_twin(addr));
            }
            Sighting::Withdrawn(peer) => self.net.forget(peer).await,
        }
    }

    /// Keeps where this agent can be reached, for people.
    pub(super) fn listens(&self, addr: SocketAddr, there: bool) {
        debug!(%addr, there, "listening");
        let mut all = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| *known != addr);
        if there {
            all.push(addr);
        }
    }

    /// A directory of this agent's own.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.data_dir.join(name)
    }
}

/// The parts that the loop puts together.
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
    /// Who belongs to the mesh.
    pub members: Arc<Members>,
    /// ffmpeg, when there is one.
    pub tools: Option<Tools>,
    /// The programs that run.
    pub children: Arc<Children>,
    /// What persons asked for.
    pub jobs: JobBook,
    /// What clients gave it to convert.
    pub items: ItemBook,
    /// Sources that were replaced, or are to be.
    pub undo: UndoBook,
    /// Who waits for room on a disk.
    pub room: Arc<Room>,
    /// What changed, for those who watch.
    pub news: Arc<News>,
    /// Wakes those who tell other programs of jobs that are over.
    pub ended: Arc<Notify>,
    /// What this agent says of itself.
    pub info: AgentInfo,
    /// Ends everything that runs beside the loop.
    pub stop: CancellationToken,
}
