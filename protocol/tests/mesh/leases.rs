//! Leases that end, and those that do not.

use dmc_protocol::id::{AgentId, AttemptId};
use dmc_protocol::mesh::{Input, Mesh};
use dmc_protocol::message::{HeldAttempt, HeldState, Message, Progress, Verdict};
use dmc_protocol::time::Time;

use super::{PEER, TASK, hear, info, leases, owner, said};

fn running(frames: u64) -> HeldState {
    HeldState::Running(Progress { frames, media_ms: frames, ..Progress::default() })
}

fn lists(attempt: AttemptId, state: HeldState) -> Message {
    Message::Heartbeat { held: vec![HeldAttempt { attempt, task: TASK, state }] }
}

#[test]
fn after_a_goodbye_a_late_list_does_not_bring_the_lease_back() {
    let (mut mesh, attempt) = owner();
    hear(&mut mesh, Message::Goodbye);
    hear(&mut mesh, lists(attempt, HeldState::Queued));
    assert_eq!(leases(&mesh), 0);
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
