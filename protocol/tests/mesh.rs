//! Single situations of the state machine that are hard to meet by chance.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::{AudioTask, Capabilities, Encoder, MediaKind, TaskInput, TaskSpec};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, Failure, FailureKind, Message, TaskResult, Verdict};
use dmc_protocol::record::{JobState, Record, RecordKey};
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
        free_disk_bytes: 0,
        paused: false,
        capabilities: Capabilities {
            ffmpeg_version: String::new(),
            encoders: BTreeMap::from([(Encoder::Flac, [1; 8])]),
            kinds: BTreeSet::from([MediaKind::Audio]),
        },
        speeds: Vec::new(),
    }
}

fn audio() -> TaskSpec {
    TaskSpec::Audio(AudioTask {
        format: dmc_protocol::media::InputFormat::new("mov").expect("a known format"),
        stream: 0,
        encoder: Encoder::Flac,
        bps: 0,
        channels: 2,
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

fn grant(mesh: &mut Mesh, attempt: u128) -> Vec<Output> {
    let (attempt, task) = (AttemptId(attempt), TaskId { job: JOB, index: 5 });
    let (spec, input) = (audio(), TaskInput::Source);
    hear(mesh, Message::Grant { attempt, task, spec, input, blob: BLOB })
}

fn offer() -> Message {
    let spec = audio();
    let (class, requires) = (spec.class(), spec.requires());
    let work = dmc_protocol::message::OfferedWork { class, requires, tasks: 9, units: 9 };
    Message::Offer { job: JOB, work: vec![work] }
}

#[test]
fn a_join_that_was_overtaken_keeps_the_results() {
    let (mut mesh, attempt) = owner();
    hear(&mut mesh, Message::Done { attempt, task: TASK, result: RESULT });
    let outputs = mesh.handle(Time(2), Input::ResultGood { attempt, task: TASK });
    assert!(outputs.contains(&Output::Join(JOB)));
    mesh.handle(Time(3), Input::CancelJob(JOB));
    let outputs = mesh.handle(Time(4), Input::Joined(JOB));
    assert_eq!(outputs, Vec::new());
    assert_eq!(mesh.jobs().get(JOB).unwrap().record.state, JobState::Cancelled);
    let outputs = mesh.handle(Time(5), Input::RetryJob(JOB));
    assert!(outputs.contains(&Output::Join(JOB)), "what was committed is still there");
}

#[test]
fn a_result_that_cannot_be_fetched_now_is_fetched_later() {
    let (mut mesh, attempt) = owner();
    let done = Message::Done { attempt, task: TASK, result: RESULT };
    let fetch = Output::Fetch { attempt, task: TASK, from: PEER, result: RESULT };
    assert!(hear(&mut mesh, done.clone()).contains(&fetch));
    let failure = Failure::new(FailureKind::Busy, "no connection");
    let outputs = mesh.handle(Time(2), Input::ResultBad { attempt, task: TASK, failure });
    assert!(said(&outputs).is_empty(), "the worker keeps it");
    assert!(hear(&mut mesh, done).contains(&fetch));
}

#[test]
fn after_a_goodbye_a_late_list_does_not_bring_the_lease_back() {
    let (mut mesh, attempt) = owner();
    hear(&mut mesh, Message::Goodbye);
    let state = dmc_protocol::message::HeldState::Queued;
    let held = vec![dmc_protocol::message::HeldAttempt { attempt, task: TASK, state }];
    hear(&mut mesh, Message::Heartbeat { held });
    assert_eq!(mesh.jobs().leases_of(PEER), 0);
}

#[test]
fn an_agent_without_slots_takes_no_work() {
    let mut mesh = agent(0);
    let outputs = hear(&mut mesh, offer());
    assert_eq!(said(&outputs), [&Message::Decline { job: JOB }]);
}

#[test]
fn after_a_refusal_the_bid_is_said_again() {
    let mut mesh = agent(1);
    let bid = Message::Accept { job: JOB, want: 2 };
    assert_eq!(said(&hear(&mut mesh, offer())), [&bid]);
    grant(&mut mesh, 101);
    grant(&mut mesh, 102);
    let refused = grant(&mut mesh, 103);
    assert!(matches!(said(&refused)[..], [Message::Failed { .. }]));
    mesh.handle(Time(2), Input::InputReady(AttemptId(101)));
    let work_done = Input::WorkDone { attempt: AttemptId(101), result: RESULT };
    let outputs = mesh.handle(Time(3), work_done);
    assert!(said(&outputs).contains(&&bid), "the owner counts on nothing since the refusal");
}

#[test]
fn a_bid_for_a_job_that_is_over_is_answered_by_its_withdrawal() {
    let mut mesh = agent(1);
    let outputs = hear(&mut mesh, Message::Accept { job: JOB, want: 2 });
    assert_eq!(said(&outputs), [&Message::Offer { job: JOB, work: Vec::new() }]);
}

#[test]
fn the_input_of_a_vanished_owner_frees_its_room() {
    let mut mesh = agent(1);
    grant(&mut mesh, 101);
    mesh.handle(Time(2), Input::PeerDown(PEER));
    mesh.handle(Time(59_000), Input::Tick);
    assert_eq!(mesh.work().unfinished(), 1, "it may come back");
    let outputs = mesh.handle(Time(62_000), Input::Tick);
    assert!(outputs.contains(&Output::Erase(RecordKey::Work(AttemptId(101)))));
    assert_eq!(mesh.work().unfinished(), 0);
}

#[test]
fn a_verdict_counts_only_from_the_owner() {
    let mut mesh = agent(1);
    grant(&mut mesh, 101);
    let verdict = Message::Verdict { attempt: AttemptId(101), verdict: Verdict::Drop };
    let other = AgentId([3; 32]);
    mesh.handle(Time(2), Input::Received { from: other, message: verdict.clone() });
    assert_eq!(mesh.work().unfinished(), 1);
    hear(&mut mesh, verdict);
    assert_eq!(mesh.work().unfinished(), 0);
}

#[test]
fn a_result_from_a_stranger_is_not_fetched() {
    let (mut mesh, attempt) = owner();
    let message = Message::Done { attempt, task: TASK, result: RESULT };
    let other = AgentId([3; 32]);
    let outputs = mesh.handle(Time(2), Input::Received { from: other, message });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Fetch { .. })));
}

#[test]
fn tasks_without_a_job_are_erased_at_the_start() {
    let (mesh, _) = owner();
    let task = mesh.jobs().get(JOB).unwrap().tasks[0].record.clone();
    let mut fresh = Mesh::new(ME, Config::default());
    let outputs = fresh.handle(Time(0), Input::Restore(vec![Record::Task(task)]));
    assert!(outputs.contains(&Output::Erase(RecordKey::Task(TASK))));
}

#[test]
fn a_done_job_releases_its_results_again_after_a_crash() {
    let (mut mesh, attempt) = owner();
    hear(&mut mesh, Message::Done { attempt, task: TASK, result: RESULT });
    mesh.handle(Time(2), Input::ResultGood { attempt, task: TASK });
    mesh.handle(Time(3), Input::Joined(JOB));
    let job = mesh.jobs().get(JOB).unwrap();
    let records = vec![Record::Job(job.record.clone()), Record::Task(job.tasks[0].record.clone())];
    let mut again = Mesh::new(ME, Config::default());
    let outputs = again.handle(Time(0), Input::Restore(records));
    assert!(outputs.contains(&Output::DropResult { task: TASK, result: RESULT }));
}
