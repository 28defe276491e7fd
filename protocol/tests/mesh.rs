//! Single situations of the state machine that are hard to meet by chance.

use std::collections::{BTreeMap, BTreeSet};

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, BlobId, BlobRef, JobId, TaskId};
use dmc_protocol::media::{AudioTask, Capabilities, Encoder, MediaKind, TaskInput, TaskSpec};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{
    AgentInfo, Failure, FailureKind, HeldAttempt, HeldState, Message, Progress, TaskResult,
    Verdict, Wishes,
};
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
        format: dmc_protocol::media::InputFormat::new("mov").expect("a known format"),
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

fn running(frames: u64) -> HeldState {
    HeldState::Running(Progress { frames, media_ms: frames, ..Progress::default() })
}

fn lists(attempt: AttemptId, state: HeldState) -> Message {
    Message::Heartbeat { held: vec![HeldAttempt { attempt, task: TASK, state }] }
}

fn leases(mesh: &Mesh) -> usize {
    mesh.jobs().leases_of(PEER)
}

#[test]
fn an_owner_does_not_take_its_own_sleep_for_the_silence_of_others() {
    let (mut mesh, _) = owner();
    for second in 1..=3 {
        mesh.handle(Time(second * 1_000), Input::Tick);
    }
    mesh.handle(Time(303_000), Input::Tick); // five minutes later
    assert_eq!(leases(&mesh), 1, "the worker had no chance to speak");
    (304..=365).for_each(|second| drop(mesh.handle(Time(second * 1_000), Input::Tick)));
    assert_eq!(leases(&mesh), 0, "now it had");
}

#[test]
fn a_heartbeat_that_waited_while_the_owner_slept_ends_no_lease() {
    let (mut mesh, attempt) = owner();
    mesh.handle(Time(1_000), Input::Tick);
    // It left before the grant arrived, and is read before the first tick.
    let message = Message::Heartbeat { held: Vec::new() };
    mesh.handle(Time(301_000), Input::Received { from: PEER, message });
    mesh.handle(Time(301_000), Input::Tick);
    assert_eq!(leases(&mesh), 1);
    let message = lists(attempt, HeldState::Queued);
    mesh.handle(Time(302_000), Input::Received { from: PEER, message });
    assert_eq!(leases(&mesh), 1);
}

#[test]
fn a_lease_that_makes_no_progress_ends_however_often_it_is_listed() {
    let (mut mesh, attempt) = owner();
    let mut dropped = None;
    for second in 1..=700 {
        let now = Time(second * 1_000);
        // It gets on for 50 s, then it hangs.
        let message = lists(attempt, running(second.min(50)));
        mesh.handle(now, Input::Received { from: PEER, message });
        let outputs = mesh.handle(now, Input::Tick);
        let verdict = Message::Verdict { attempt, verdict: Verdict::Drop };
        if said(&outputs).contains(&&verdict) {
            dropped = dropped.or(Some(second));
        }
    }
    assert_eq!(dropped, Some(651));
    assert_eq!(mesh.peers().get(PEER).unwrap().refused, 1);
}

#[test]
fn an_attempt_that_begins_anew_for_ever_makes_no_progress() {
    let (mut mesh, attempt) = owner();
    let mut second = 0;
    let mut ends = |mesh: &mut Mesh, every: u64| {
        for _ in 0..3_000 {
            second += 1;
            let now = Time(second * 1_000);
            let state = if second % every == 0 { HeldState::Queued } else { running(second % 9) };
            let message = lists(attempt, state);
            mesh.handle(now, Input::Received { from: PEER, message });
            mesh.handle(now, Input::Tick);
        }
        leases(mesh) == 0
    };
    // Its worker was restarted a few times.
    assert!(!ends(&mut mesh, 500));
    assert!(ends(&mut mesh, 10));
}

#[test]
fn a_worker_that_never_begins_does_not_keep_the_task_from_others() {
    let (mut mesh, _) = owner();
    let other = AgentId([3; 32]);
    mesh.handle(Time(1), Input::PeerUp(other));
    for second in 1..=700 {
        let now = Time(second * 1_000);
        // Both live; the first lists nothing, and nothing is left to offer to the other.
        for (from, name) in [(PEER, "peer"), (other, "other")] {
            let message = Message::Info(info(name, 1));
            mesh.handle(now, Input::Received { from, message });
        }
        mesh.handle(now, Input::Tick);
    }
    assert_eq!(leases(&mesh), 0);
}

#[test]
fn a_worker_cannot_hoard_before_it_delivered() {
    let mut mesh = agent(0);
    let tasks = vec![audio(); 100];
    mesh.handle(Time(1), Input::AddJob { job: JOB, priority: 0, source: Some(BLOB), tasks });
    hear(&mut mesh, Message::Info(info("peer", 1_024)));
    let outputs = hear(&mut mesh, Message::Accept { job: JOB, want: 1_025 });
    assert_eq!(leases(&mesh), 8);
    let first = said(&outputs).into_iter().find_map(|message| match message {
        Message::Grant { attempt, task, .. } => Some((*attempt, *task)),
        _ => None,
    });
    let (attempt, task) = first.unwrap();
    for delivered in 1..=10 {
        let (attempt, task) = (
            AttemptId(attempt.0 + delivered - 1),
            TaskId { index: task.index + u32::try_from(delivered).unwrap() - 1, ..task },
        );
        hear(&mut mesh, Message::Done { attempt, task, result: RESULT });
        mesh.handle(Time(2), Input::ResultGood { attempt, task });
    }
    assert_eq!(leases(&mesh), 20, "twice what it delivered");
}

#[test]
fn a_result_that_its_worker_never_serves_is_given_up() {
    let (mut mesh, attempt) = owner();
    for tried in 1..=3 {
        hear(&mut mesh, Message::Done { attempt, task: TASK, result: RESULT });
        let failure = Failure::new(FailureKind::Busy, "no chunk for 60 s");
        let outputs = mesh.handle(Time(2), Input::ResultBad { attempt, task: TASK, failure });
        let dropped = Message::Verdict { attempt, verdict: Verdict::Drop };
        assert_eq!(said(&outputs).contains(&&dropped), tried == 3, "after try {tried}");
    }
    assert_eq!(mesh.peers().get(PEER).unwrap().refused, 1);
}

#[test]
fn results_that_nobody_asked_for_are_counted() {
    let (mut mesh, _) = owner();
    hear(&mut mesh, Message::Done { attempt: AttemptId(99), task: TASK, result: RESULT });
    let other = TaskId { job: JobId(Uuid::from_u128(7)), index: 0 };
    hear(&mut mesh, Message::Done { attempt: AttemptId(98), task: other, result: RESULT });
    assert_eq!(mesh.peers().get(PEER).unwrap().refused, 2);
}

#[test]
fn a_kind_takes_no_more_slots_than_its_person_lets_it() {
    let one = Wishes { slots_of: BTreeMap::from([(MediaKind::Audio, 1)]), ..Wishes::default() };
    let mut worker = agent(3);
    worker.handle(Time(1), Input::Local(AgentInfo { wishes: one.clone(), ..info("me", 3) }));
    let busy = |outputs: &[Output]| {
        said(outputs).into_iter().any(|message| {
            matches!(message, Message::Failed { failure, .. } if failure.kind == FailureKind::Busy)
        })
    };
    assert!(!busy(&grant(&mut worker, 1)));
    assert!(busy(&grant(&mut worker, 2)));

    let mut owner = agent(0);
    hear(&mut owner, Message::Info(AgentInfo { wishes: one, ..info("peer", 3) }));
    let tasks = vec![audio(), audio(), audio()];
    owner.handle(Time(1), Input::AddJob { job: JOB, priority: 0, source: Some(BLOB), tasks });
    let outputs = hear(&mut owner, Message::Accept { job: JOB, want: 3 });
    let grants = said(&outputs).into_iter().filter(|said| matches!(said, Message::Grant { .. }));
    assert_eq!(grants.count(), 1, "the owner knows it, too");
}

#[test]
fn a_worker_with_a_full_disk_bids_again_when_it_has_room() {
    let mut mesh = agent(1);
    let full = AgentInfo { free_disk_bytes: 1_000, ..info("me", 1) };
    mesh.handle(Time(1), Input::Local(full.clone()));
    hear(&mut mesh, offer());
    let outputs = grant(&mut mesh, 1);
    let refused = said(&outputs).into_iter().any(|message| {
        matches!(message, Message::Failed { failure, .. } if failure.kind == FailureKind::DiskFull)
    });
    assert!(refused, "{outputs:?}");
    let wants = |outputs: &[Output]| {
        said(outputs).into_iter().find_map(|message| match message {
            Message::Accept { want, .. } => Some(*want),
            _ => None,
        })
    };
    assert_eq!(wants(&hear(&mut mesh, offer())), Some(0));
    let room = AgentInfo { free_disk_bytes: 1 << 30, ..full };
    assert_eq!(wants(&mesh.handle(Time(2), Input::Local(room))), Some(2));
}

#[test]
fn an_input_that_no_disk_holds_keeps_no_other_owner_waiting() {
    let mut mesh = agent(1);
    let liar = AgentId([3; 32]);
    mesh.handle(Time(1), Input::PeerUp(liar));
    let (attempt, task) = (AttemptId(1), TaskId { job: JOB, index: 0 });
    let blob = BlobRef { bytes: u64::MAX / 4, ..BLOB };
    let (spec, input) = (audio(), TaskInput::Source);
    let message = Message::Grant { attempt, task, spec, input, blob };
    mesh.handle(Time(1), Input::Received { from: liar, message });
    assert!(mesh.work().is_disk_full());
    assert_eq!(said(&hear(&mut mesh, offer())), [&Message::Accept { job: JOB, want: 2 }]);
}

#[test]
fn an_owner_grants_only_where_there_is_room() {
    let mut mesh = agent(0);
    let tasks = vec![audio()];
    hear(&mut mesh, Message::Info(AgentInfo { free_disk_bytes: 1_000, ..info("peer", 1) }));
    mesh.handle(Time(1), Input::AddJob { job: JOB, priority: 0, source: Some(BLOB), tasks });
    hear(&mut mesh, Message::Accept { job: JOB, want: 1 });
    assert_eq!(leases(&mesh), 0);
    let waiting = mesh.waiting_for(Time(2), mesh.jobs().get(JOB).unwrap()).unwrap();
    assert!(waiting.contains("room"), "{waiting}");
    hear(&mut mesh, Message::Info(info("peer", 1)));
    mesh.handle(Time(3), Input::Tick);
    assert_eq!(leases(&mesh), 1);
}

#[test]
fn outside_its_hours_an_agent_takes_nothing_new_and_finishes_what_runs() {
    let mut mesh = agent(1);
    grant(&mut mesh, 1);
    mesh.handle(Time(2), Input::InputReady(AttemptId(1)));
    let outputs = mesh.handle(Time(3), Input::SetOffHours(true));
    assert!(said(&outputs).iter().all(|m| !matches!(m, Message::Failed { .. })));
    assert_eq!(mesh.work().held().count(), 1);
    let outputs = grant(&mut mesh, 2);
    let refused = |m: &&Message| matches!(m, Message::Failed { failure, .. } if failure.kind == FailureKind::Busy);
    assert_eq!(said(&outputs).into_iter().filter(refused).count(), 1);
    // A person's pause is another thing: the hours that begin do not end it.
    mesh.handle(Time(4), Input::SetPaused(true));
    mesh.handle(Time(5), Input::SetOffHours(false));
    assert!(mesh.peers().get(ME).unwrap().info.as_ref().unwrap().paused);
    mesh.handle(Time(6), Input::SetPaused(false));
    assert!(!mesh.peers().get(ME).unwrap().info.as_ref().unwrap().paused);
}

#[test]
fn a_stop_returns_what_will_not_end_in_time_and_waits_for_the_rest() {
    let mut mesh = agent(1);
    grant(&mut mesh, 1);
    mesh.handle(Time(2), Input::InputReady(AttemptId(1)));
    grant(&mut mesh, 2);
    // Sound has no frames: nobody knows when it ends.
    let outputs = mesh.handle(Time(3), Input::Stop { grace_ms: 10_000 });
    let returned = said(&outputs).into_iter().filter(|m| matches!(m, Message::Failed { .. }));
    assert_eq!(returned.count(), 2);
    assert!(!mesh.waits_to_stop());
    let outputs = mesh.handle(Time(4), Input::StopNow);
    assert!(said(&outputs).contains(&&Message::Goodbye));
}

/// The jobs whose tasks a worker is granted, in their order, while it delivers one after the other;
/// `outputs` holds the first grant, and then the next. It asks for more
/// in the name of a job that is `open` all the time.
fn granted(mesh: &mut Mesh, outputs: &mut Vec<Output>, open: JobId, count: usize) -> Vec<JobId> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        let grant = said(outputs).into_iter().find_map(|message| match message {
            Message::Grant { attempt, task, .. } => Some((*attempt, *task)),
            _ => None,
        });
        let (attempt, task) = grant.expect("there is work, and a seat");
        jobs.push(task.job);
        mesh.handle(Time(1), Input::Ids(vec![AttemptId(1_000 + attempt.0)]));
        hear(mesh, Message::Done { attempt, task, result: RESULT });
        *outputs = mesh.handle(Time(2), Input::ResultGood { attempt, task });
        outputs.extend(hear(mesh, Message::Accept { job: open, want: 1 }));
    }
    jobs
}

#[test]
fn an_urgent_job_overtakes_a_thousand_others() {
    let mut mesh = agent(0);
    let id = |number: u128| JobId(Uuid::from_u128(number));
    let (urgent, late) = (id(2_000), id(2_001));
    for (job, priority) in (1..=1_000).map(|n| (id(n), 0)).chain([(urgent, 50), (late, -1)]) {
        let tasks = vec![audio(), audio()];
        mesh.handle(Time(1), Input::AddJob { job, priority, source: Some(BLOB), tasks });
    }
    for job in [id(1), id(2), id(500), late] {
        hear(&mut mesh, Message::Accept { job, want: 0 });
    }
    let mut next = hear(&mut mesh, Message::Accept { job: urgent, want: 1 });
    assert_eq!(granted(&mut mesh, &mut next, late, 3), [urgent, urgent, id(1)]);
    // A person thinks better of it while work is at hand.
    mesh.handle(Time(3), Input::SetPriority { job: id(500), priority: i32::MAX });
    mesh.handle(Time(3), Input::SetPriority { job: id(1), priority: i32::MIN });
    // What was granted already stays so.
    assert_eq!(granted(&mut mesh, &mut next, late, 4), [id(1), id(500), id(500), id(2)]);
    let outputs = mesh.handle(Time(4), Input::SetPriority { job: id(2), priority: 9 });
    let saved = outputs.iter().find_map(|output| match output {
        Output::Save(Record::Job(job)) => Some((job.id, job.priority)),
        _ => None,
    });
    assert_eq!(saved, Some((id(2), 9)), "it is durable");
    assert_eq!(mesh.handle(Time(4), Input::SetPriority { job: id(2), priority: 9 }), []);
}
