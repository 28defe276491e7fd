//! Some agents that hand a job over, and what they want done.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::handover::{HandedJob, HandedState};
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId};
use dmc_protocol::media::{
    AudioTask, Capabilities, Encoder, InputFormat, MediaKind, Preset, TaskSpec,
};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, TaskResult};
use dmc_protocol::record::{Record, RecordKey};
use dmc_protocol::time::Time;
use uuid::Uuid;

pub const JOB: JobId = JobId(Uuid::nil());
pub const SOURCE: BlobRef = BlobRef { id: BlobId([9; 32]), bytes: 9_000 };
pub const RESULT: BlobRef = BlobRef { id: BlobId([8; 32]), bytes: 800 };
pub const PART: TaskResult = TaskResult { media: RESULT, proof: RESULT, frames: 0, encode_ms: 1 };

pub fn handed() -> HandedJob {
    HandedJob {
        name: "film.mkv".to_owned(),
        source: SOURCE,
        preset: Preset::builtin("hevc").unwrap(),
        segment_s: None,
        deliver_to: None,
        deliver_as: None,
    }
}

pub fn audio() -> TaskSpec {
    TaskSpec::Audio(AudioTask {
        format: InputFormat::new("mov").unwrap(),
        stream: 0,
        encoder: Encoder::Flac,
        bps: 0,
        channels: 2,
        mix_to: None,
        sample_rate: 48_000,
        sample_bits: 16,
        duration_us: 1_000_000,
    })
}

/// Some agents, their disks, and what they want done. Agents are numbered from 0.
pub struct World {
    pub now: u64,
    pub meshes: Vec<Option<Mesh>>,
    pub disks: Vec<BTreeMap<RecordKey, Record>>,
    pub wanted: Vec<Vec<Output>>,
    pub apart: BTreeSet<(usize, usize)>,
}

pub fn id(at: usize) -> AgentId {
    AgentId([u8::try_from(at).unwrap() + 1; 32])
}

impl World {
    pub fn new(count: usize) -> World {
        let mut world = World {
            now: 0,
            meshes: (0..count).map(|_| None).collect(),
            disks: vec![BTreeMap::new(); count],
            wanted: vec![Vec::new(); count],
            apart: BTreeSet::new(),
        };
        (0..count).for_each(|at| world.start(at));
        world
    }

    pub fn start(&mut self, at: usize) {
        self.meshes[at] = Some(Mesh::new(id(at), Config::default()));
        let records = self.disks[at].values().cloned().collect();
        self.tell(at, Input::Restore(records));
        let ids =
            (0..64).map(|n| AttemptId(self.now as u128 * 1_000 + n + at as u128 * 100)).collect();
        self.tell(at, Input::Ids(ids));
        self.tell(at, Input::Local(info(at, false)));
        for other in (0..self.meshes.len()).filter(|other| *other != at) {
            self.meet(at, other);
        }
    }

    /// Its person sets an inbox.
    pub fn give_inbox(&mut self, at: usize) {
        self.tell(at, Input::Local(info(at, true)));
    }

    pub fn meet(&mut self, a: usize, b: usize) {
        if self.meshes[a].is_some() && self.meshes[b].is_some() {
            self.apart.remove(&(a.min(b), a.max(b)));
            self.tell(a, Input::PeerUp(id(b)));
            self.tell(b, Input::PeerUp(id(a)));
        }
    }

    pub fn part(&mut self, a: usize, b: usize) {
        self.apart.insert((a.min(b), a.max(b)));
        self.tell(a, Input::PeerDown(id(b)));
        self.tell(b, Input::PeerDown(id(a)));
    }

    pub fn kill(&mut self, at: usize) {
        self.meshes[at] = None;
        self.wanted[at].clear();
        for other in (0..self.meshes.len()).filter(|other| *other != at) {
            self.tell(other, Input::PeerDown(id(at)));
        }
    }

    pub fn tell(&mut self, at: usize, input: Input) {
        let Some(mesh) = &mut self.meshes[at] else { return };
        let outputs = mesh.handle(Time(self.now), input);
        for output in outputs {
            match output {
                Output::Save(record) => drop(self.disks[at].insert(record.key(), record)),
                Output::Erase(key) => drop(self.disks[at].remove(&key)),
                Output::Send { to, message } => {
                    message.check().unwrap();
                    let to = usize::from(to.0[0]) - 1;
                    if !self.apart.contains(&(at.min(to), at.max(to))) {
                        self.tell(to, Input::Received { from: id(at), message });
                    }
                }
                // What ends other work is done at once, in order.
                Output::StopHanded(_) => self.wanted[at].retain(|wanted| !is_return(wanted)),
                Output::JobOver(job) => {
                    self.wanted[at].retain(|wanted| !is_owners(wanted, job));
                }
                other => self.wanted[at].push(other),
            }
        }
    }

    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1_000;
            (0..self.meshes.len()).for_each(|at| self.tell(at, Input::Tick));
        }
    }

    /// Whether the agent wants this done; it is then no longer wanted.
    pub fn wants(&mut self, at: usize, output: &Output) -> bool {
        let found = self.wanted[at].iter().position(|wanted| wanted == output);
        found.map(|found| self.wanted[at].remove(found)).is_some()
    }

    pub fn state(&self, at: usize) -> HandedState {
        self.meshes[at].as_ref().unwrap().handovers().get(JOB).unwrap().record.state.clone()
    }

    /// Agent 0 hands its job over, agent 1 owns it.
    pub fn hand_over(&mut self) {
        self.tell(0, Input::HandOver { job: JOB, handed: handed() });
        let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
        assert!(self.wants(1, &fetch), "the one that has been there for longest");
        assert_eq!(self.state(0), HandedState::Offered);
        self.tell(1, Input::CustodySource(JOB));
        assert!(self.wants(1, &Output::BeginCustody(JOB)));
        assert_eq!(self.state(0), HandedState::Away);
    }

    /// The custodian does all of it.
    pub fn work(&mut self, at: usize) {
        let tasks = vec![audio()];
        self.tell(
            at,
            match at {
                0 => Input::AddJob { job: JOB, priority: 0, source: Some(SOURCE), tasks },
                _ => Input::AddCustodyJob { job: JOB, source: SOURCE, tasks },
            },
        );
        let runs = |output: &Output| match output {
            Output::FetchInput { attempt, .. } => Some(*attempt),
            _ => None,
        };
        let (worker, attempt) = (0..self.meshes.len())
            .find_map(|worker| Some((worker, self.wanted[worker].iter().find_map(runs)?)))
            .unwrap();
        self.tell(worker, Input::InputReady(attempt));
        self.tell(worker, Input::WorkDone { attempt, result: PART });
        let task = dmc_protocol::id::TaskId { job: JOB, index: 0 };
        self.tell(at, Input::ResultGood { attempt, task });
        assert!(self.wants(at, &Output::Join(JOB)));
        self.tell(at, Input::Joined(JOB));
    }

    pub fn finish_custody(&mut self) {
        self.work(1);
        assert!(self.wants(1, &Output::KeepResult(JOB)));
        self.tell(1, Input::CustodyResult { job: JOB, result: Some(RESULT) });
    }

    pub fn fetch() -> Output {
        Output::FetchHanded { job: JOB, from: id(1), result: RESULT }
    }
}

fn is_return(output: &Output) -> bool {
    matches!(output, Output::FetchHanded { .. })
}

/// What the owner's runtime ends when a job is over.
fn is_owners(output: &Output, over: JobId) -> bool {
    matches!(output, Output::Fetch { task, .. } if task.job == over)
        || matches!(output, Output::Join(job) if *job == over)
}

fn info(at: usize, inbox: bool) -> AgentInfo {
    AgentInfo {
        name: format!("agent-{at}"),
        version: String::new(),
        instance: 1,
        slots: 1,
        wishes: Default::default(),
        free_disk_bytes: 1 << 40,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: String::new(),
            encoders: BTreeMap::from([(Encoder::Flac, [1; 8])]),
            kinds: BTreeSet::from([MediaKind::Audio]),
        },
        speeds: Vec::new(),
        // Agent 1 has been there for longest.
        uptime_s: if at == 1 { 90_000 } else { 60 },
        custodian: true,
        inbox,
        on_battery: false,
        condition: Default::default(),
    }
}
