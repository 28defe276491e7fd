//! Single situations of the state machine that are hard to meet by chance.

mod jobs;
mod leases;
mod placement;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::{
    AudioTask, Capabilities, Encoder, InputFormat, MediaKind, TaskInput, TaskSpec,
};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Message, OfferedWork, TaskResult};
use dmc_protocol::record::RecordKey;
use dmc_protocol::time::Time;
use uuid::Uuid;

const ME: AgentId = AgentId([1; 32]);
const PEER: AgentId = AgentId([2; 32]);
const JOB: JobId = JobId(Uuid::nil());
const TASK: TaskId = TaskId { job: JOB, index: 0 };
const BLOB: BlobRef = BlobRef { id: BlobId([9; 32]), bytes: 9 };
const RESULT: TaskResult = TaskResult { media: BLOB, proof: BLOB, frames: 0, encode_ms: 1 };

fn info(name: &str, slots: u32) -> AgentInfo {
    AgentInfo {
        name: name.to_owned(),
        version: String::new(),
        instance: 1,
        slots,
        wishes: Default::default(),
        free_disk_bytes: 1 << 40,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: String::new(),
            encoders: BTreeMap::from([(Encoder::Flac, [1; 8])]),
            kinds: BTreeSet::from([MediaKind::Audio]),
        },
        speeds: Vec::new(),
        uptime_s: 0,
        custodian: true,
        inbox: false,
        on_battery: false,
        condition: Default::default(),
    }
}

fn audio() -> TaskSpec {
    TaskSpec::Audio(AudioTask {
        format: InputFormat::new("mov").expect("a known format"),
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

/// An agent with slots of its own, connected to [`PEER`], which has one.
fn agent(slots: u32) -> Mesh {
    let mut mesh = Mesh::new(ME, Config::default());
    mesh.handle(Time(0), Input::Ids((1..=64).map(AttemptId).collect()));
    mesh.handle(Time(0), Input::Local(info("me", slots)));
    mesh.handle(Time(0), Input::PeerUp(PEER));
    hear(&mut mesh, Message::Info(info("peer", 1)));
    mesh
}

fn hear(mesh: &mut Mesh, message: Message) -> Vec<Output> {
    mesh.handle(Time(1), Input::Received { from: PEER, message })
}

fn said(outputs: &[Output]) -> Vec<&Message> {
    let sent = outputs.iter().filter_map(|output| match output {
        Output::Send { to: PEER, message } => Some(message),
        _ => None,
    });
    sent.collect()
}

/// An owner of a job of one task that is leased to [`PEER`]; the attempt's id.
fn owner() -> (Mesh, AttemptId) {
    let mut mesh = agent(0);
    let tasks = vec![audio()];
    mesh.handle(Time(1), Input::AddJob { job: JOB, priority: 0, source: Some(BLOB), tasks });
    let outputs = hear(&mut mesh, Message::Accept { job: JOB, want: 1 });
    let attempt = said(&outputs).into_iter().find_map(|message| match message {
        Message::Grant { attempt, .. } => Some(*attempt),
        _ => None,
    });
    (mesh, attempt.expect("the only bidder is granted the only task"))
}

/// Leases that [`PEER`] holds.
fn leases(mesh: &Mesh) -> usize {
    mesh.jobs().leases_of(PEER)
}

fn grant(mesh: &mut Mesh, attempt: u128) -> Vec<Output> {
    let (attempt, task) = (AttemptId(attempt), TaskId { job: JOB, index: 5 });
    let (spec, input) = (audio(), TaskInput::Source);
    hear(mesh, Message::Grant { attempt, task, spec, input, blob: BLOB })
}

fn offer() -> Message {
    let spec = audio();
    let (class, requires) = (spec.class(), spec.requires());
    let work = OfferedWork { class, requires, tasks: 9, units: 9 };
    Message::Offer { job: JOB, work: vec![work] }
}

#[test]
fn nothing_ties_an_agent_to_one_that_was_evicted() {
    // As its owner: the task is anybody's again, and a late result is nobody's.
    let (mut mesh, _attempt) = owner();
    mesh.handle(Time(2), Input::Evicted(PEER));
    assert_eq!(mesh.jobs().leases_of(PEER), 0);
    assert!(mesh.peers().connected().iter().all(|id| *id != PEER));

    // As its worker: what it asked for is dropped, its input and all.
    let mut mesh = agent(1);
    grant(&mut mesh, 9);
    assert_eq!(mesh.work().unfinished(), 1);
    let outputs = mesh.handle(Time(2), Input::Evicted(PEER));
    assert!(outputs.contains(&Output::Erase(RecordKey::Work(AttemptId(9)))));
    assert!(outputs.iter().any(|output| matches!(output, Output::Discard { .. })));
    assert!(said(&outputs).is_empty(), "nothing is said to it");
    assert_eq!(mesh.work().unfinished(), 0);
    let again = mesh.handle(Time(3), Input::Evicted(PEER));
    assert_eq!(again, Vec::new(), "told again after a start");
    let itself = mesh.handle(Time(3), Input::Evicted(ME));
    assert_eq!(itself, Vec::new());
}
