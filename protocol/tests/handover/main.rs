//! Whole jobs that change hands: two or three real state machines, and a network of the test's own.
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod random;
mod world;

use dmc_protocol::handover::{CustodyState, HandedState};
use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::{Failure, FailureKind, Message};
use dmc_protocol::record::{JobState, RecordKey};
use world::{JOB, RESULT, SOURCE, World, audio, handed, id};

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
