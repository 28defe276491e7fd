//! Whole jobs that change hands: two or three real state machines, and a network of the test's own.
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::handover::{CustodyState, HandedJob, HandedState};
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId};
use dmc_protocol::media::{
    AudioTask, Capabilities, Encoder, InputFormat, MediaKind, Preset, TaskSpec,
};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Failure, FailureKind, Message, TaskResult};
use dmc_protocol::record::{JobState, Record, RecordKey};
use dmc_protocol::time::Time;
use uuid::Uuid;

const JOB: JobId = JobId(Uuid::nil());
const SOURCE: BlobRef = BlobRef { id: BlobId([9; 32]), bytes: 9_000 };
const RESULT: BlobRef = BlobRef { id: BlobId([8; 32]), bytes: 800 };
const PART: TaskResult = TaskResult { media: RESULT, proof: RESULT, frames: 0, encode_ms: 1 };

fn handed() -> HandedJob {
    HandedJob {
        name: "film.mkv".to_owned(),
        source: SOURCE,
        preset: Preset::builtin("hevc").unwrap(),
        segment_s: None,
        deliver_to: None,
        deliver_as: None,
    }
}

fn audio() -> TaskSpec {
    TaskSpec::Audio(AudioTask {
        format: InputFormat::new("mov").unwrap(),
        stream: 0,
        encoder: Encoder::Flac,
        bps: 0,
        channels: 2,
        sample_rate: 48_000,
        sample_bits: 16,
        duration_us: 1_000_000,
    })
}

/// Some agents, their disks, and what they want done. Agents are numbered from 0.
struct World {
    now: u64,
    meshes: Vec<Option<Mesh>>,
    disks: Vec<BTreeMap<RecordKey, Record>>,
    wanted: Vec<Vec<Output>>,
    apart: BTreeSet<(usize, usize)>,
}

fn id(at: usize) -> AgentId {
    AgentId([u8::try_from(at).unwrap() + 1; 32])
}

impl World {
    fn new(count: usize) -> World {
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

    fn start(&mut self, at: usize) {
        self.meshes[at] = Some(Mesh::new(id(at), Config::default()));
        let records = self.disks[at].values().cloned().collect();
        self.tell(at, Input::Restore(records));
        let ids =
            (0..64).map(|n| AttemptId(self.now as u128 * 1_000 + n + at as u128 * 100)).collect();
        self.tell(at, Input::Ids(ids));
        self.tell(
            at,
            Input::Local(AgentInfo {
                name: format!("agent-{at}"),
                version: String::new(),
                instance: 1,
                slots: 1,
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
                inbox: false,
                on_battery: false,
            }),
        );
        for other in (0..self.meshes.len()).filter(|other| *other != at) {
            self.meet(at, other);
        }
    }

    fn meet(&mut self, a: usize, b: usize) {
        if self.meshes[a].is_some() && self.meshes[b].is_some() {
            self.apart.remove(&(a.min(b), a.max(b)));
            self.tell(a, Input::PeerUp(id(b)));
            self.tell(b, Input::PeerUp(id(a)));
        }
    }

    fn part(&mut self, a: usize, b: usize) {
        self.apart.insert((a.min(b), a.max(b)));
        self.tell(a, Input::PeerDown(id(b)));
        self.tell(b, Input::PeerDown(id(a)));
    }

    fn kill(&mut self, at: usize) {
        self.meshes[at] = None;
        self.wanted[at].clear();
        for other in (0..self.meshes.len()).filter(|other| *other != at) {
            self.tell(other, Input::PeerDown(id(at)));
        }
    }

    fn tell(&mut self, at: usize, input: Input) {
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
                other => self.wanted[at].push(other),
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1_000;
            (0..self.meshes.len()).for_each(|at| self.tell(at, Input::Tick));
        }
    }

    /// Whether the agent wants this done; it is then no longer wanted.
    fn wants(&mut self, at: usize, output: &Output) -> bool {
        let found = self.wanted[at].iter().position(|wanted| wanted == output);
        found.map(|found| self.wanted[at].remove(found)).is_some()
    }

    fn state(&self, at: usize) -> HandedState {
        self.meshes[at].as_ref().unwrap().handovers().get(JOB).unwrap().record.state
    }

    /// Agent 0 hands its job over, agent 1 owns it.
    fn hand_over(&mut self) {
        self.tell(0, Input::HandOver { job: JOB, handed: handed() });
        let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
        assert!(self.wants(1, &fetch), "the one that has been there for longest");
        assert_eq!(self.state(0), HandedState::Offered);
        self.tell(1, Input::CustodySource(JOB));
        assert!(self.wants(1, &Output::BeginCustody(JOB)));
        assert_eq!(self.state(0), HandedState::Away);
    }

    /// The custodian does all of it.
    fn work(&mut self, at: usize) {
        let tasks = vec![audio()];
        self.tell(at, Input::AddJob { job: JOB, priority: 0, source: Some(SOURCE), tasks });
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

    fn finish_custody(&mut self) {
        self.work(1);
        assert!(self.wants(1, &Output::KeepResult(JOB)));
        self.tell(1, Input::CustodyResult { job: JOB, result: Some(RESULT) });
    }

    fn fetch() -> Output {
        Output::FetchHanded { job: JOB, from: id(1), result: RESULT }
    }
}

#[test]
fn the_submitter_may_leave_and_finds_the_result_when_it_is_back() {
    let mut world = World::new(3);
    world.hand_over();
    world.kill(0);
    world.pass(700);
    world.finish_custody();
    world.pass(3_600);
    world.start(0);
    assert!(world.wants(0, &World::fetch()));
    world.tell(0, Input::HandedPublished(JOB));
    assert_eq!(world.state(0), HandedState::Over);
    let end = Output::EndCustody { job: JOB, source: SOURCE, result: Some(RESULT) };
    assert!(world.wants(1, &end));
    assert!(world.disks[1].is_empty(), "{:?}", world.disks[1]);
}

#[test]
fn a_custodian_that_dies_gives_the_job_back() {
    let mut world = World::new(3);
    world.hand_over();
    world.pass(5);
    world.kill(1);
    world.pass(590);
    assert_eq!(world.state(0), HandedState::Away);
    world.pass(20);
    assert_eq!(world.state(0), HandedState::Own);
    assert!(world.wants(0, &Output::TakeBack(JOB)));
    world.work(0);
    assert_eq!(world.state(0), HandedState::Over);
    // What it still did when it comes back is in vain, and never published.
    world.start(1);
    assert!(!world.wanted[0].contains(&World::fetch()));
    let end = Output::EndCustody { job: JOB, source: SOURCE, result: None };
    assert!(world.wants(1, &end));
}

#[test]
fn a_late_result_ends_the_own_work_and_only_one_is_published() {
    let mut world = World::new(3);
    world.hand_over();
    world.part(0, 1);
    world.finish_custody();
    world.pass(610);
    assert_eq!(world.state(0), HandedState::Own);
    assert!(world.wants(0, &Output::TakeBack(JOB)));
    world.wanted[0].clear();
    let tasks = vec![audio(), audio()];
    world.tell(0, Input::AddJob { job: JOB, priority: 0, source: Some(SOURCE), tasks });
    world.meet(0, 1);
    assert!(world.wants(0, &World::fetch()));
    let job = |world: &World| {
        world.meshes[0].as_ref().unwrap().jobs().get(JOB).unwrap().record.state.clone()
    };
    assert_eq!(job(&world), JobState::Joining, "nothing is granted meanwhile");
    // After a crash it still is so.
    world.kill(0);
    world.start(0);
    assert!(world.wants(0, &World::fetch()));
    assert!(!world.wants(0, &Output::Join(JOB)));
    world.tell(0, Input::HandedPublished(JOB));
    assert_eq!((job(&world), world.state(0)), (JobState::Done, HandedState::Over));
}

#[test]
fn a_wrong_result_is_not_taken_twice() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    assert!(world.wants(0, &World::fetch()));
    let busy = Failure::new(FailureKind::Busy, "no connection");
    world.tell(0, Input::HandedBad { job: JOB, failure: busy });
    world.pass(11);
    assert!(world.wants(0, &World::fetch()), "tried again");
    let wrong = Failure::new(FailureKind::Verify, "a frame is missing");
    world.tell(0, Input::HandedBad { job: JOB, failure: wrong });
    assert_eq!(world.state(0), HandedState::Own);
    assert!(world.wants(0, &Output::TakeBack(JOB)));
    assert!(world.meshes[1].as_ref().unwrap().custody().get(JOB).is_none());
}

#[test]
fn without_a_willing_custodian_the_submitter_does_it_itself() {
    let mut world = World::new(1);
    world.tell(0, Input::HandOver { job: JOB, handed: handed() });
    world.pass(59);
    assert_eq!(world.state(0), HandedState::Offered);
    world.pass(3);
    assert_eq!(world.state(0), HandedState::Own);
    assert!(world.wants(0, &Output::TakeBack(JOB)));
}

#[test]
fn one_that_refuses_or_vanishes_is_followed_by_the_next() {
    let mut world = World::new(3);
    world.tell(1, Input::SetPaused(true));
    world.tell(0, Input::HandOver { job: JOB, handed: handed() });
    let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
    assert!(world.wants(2, &fetch), "agent 1 is paused");
    world.tell(1, Input::SetPaused(false));
    world.kill(2);
    world.pass(62);
    assert!(world.wants(1, &fetch));
    // The first one comes back and hears that it is no longer asked.
    world.start(2);
    world.pass(11);
    let end = Output::EndCustody { job: JOB, source: SOURCE, result: None };
    assert!(world.wants(2, &end));
}

#[test]
fn a_restarted_custodian_goes_on() {
    let mut world = World::new(2);
    world.tell(0, Input::HandOver { job: JOB, handed: handed() });
    world.kill(1);
    world.start(1);
    let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
    assert!(world.wants(1, &fetch));
    world.tell(1, Input::CustodySource(JOB));
    world.kill(1);
    world.start(1);
    assert!(world.wants(1, &Output::BeginCustody(JOB)));
    world.work(1);
    world.kill(1);
    world.start(1);
    assert!(world.wants(1, &Output::KeepResult(JOB)));
    world.tell(1, Input::CustodyResult { job: JOB, result: Some(RESULT) });
    assert!(world.wants(0, &World::fetch()));
}

#[test]
fn what_the_custodian_cannot_do_is_said_once() {
    let mut world = World::new(2);
    world.hand_over();
    world.tell(1, Input::CustodyFailed { job: JOB, why: "no pictures".to_owned() });
    let error = Some("agent-1: no pictures".to_owned());
    assert!(world.wants(0, &Output::HandedEnded { job: JOB, error }));
    let record = RecordKey::Custody(JOB);
    assert!(!world.disks[1].contains_key(&record));
}

#[test]
fn only_the_submitter_may_release_and_nobody_may_take_its_place() {
    let mut world = World::new(3);
    world.hand_over();
    let epoch = 9;
    world.tell(1, Input::Received { from: id(2), message: Message::Release { job: JOB, epoch } });
    let steal = Message::HandOver { job: JOB, epoch, handed: handed() };
    world.tell(1, Input::Received { from: id(2), message: steal });
    let kept = world.meshes[1].as_ref().unwrap().custody().get(JOB).unwrap();
    assert_eq!((kept.record.from, &kept.record.state), (id(0), &CustodyState::Working));
}

#[test]
fn a_cancelled_job_is_released_even_when_its_custodian_was_away() {
    let mut world = World::new(2);
    world.hand_over();
    world.part(0, 1);
    world.tell(0, Input::CancelJob(JOB));
    assert_eq!(world.state(0), HandedState::Over);
    world.meet(0, 1);
    assert!(world.meshes[1].as_ref().unwrap().custody().get(JOB).is_none());
}

#[test]
fn a_result_that_nobody_comes_for_goes_after_a_week() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    world.kill(0);
    for _ in 0..9 * 24 {
        world.now += 3_600_000 - 2_000;
        world.pass(2);
    }
    assert!(world.disks[1].is_empty());
}
