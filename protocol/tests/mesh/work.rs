//! What a worker takes, refuses and gives back.

use dmc_protocol::id::{AgentId, AttemptId, BlobRef, TaskId};
use dmc_protocol::media::TaskInput;
use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::{AgentInfo, FailureKind, Message, Verdict};
use dmc_protocol::record::RecordKey;
use dmc_protocol::time::Time;

use super::{BLOB, JOB, ME, PEER, RESULT, agent, audio, grant, hear, info, offer, said};

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
