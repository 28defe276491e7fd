//! Whole jobs that change hands: two or three real state machines, and a network of the test's own.
// Clippy knows only `#[test]` functions as tests, not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod random;
mod world;

use dmc_protocol::handover::{CustodyReport, CustodyState, HandedEnd, HandedJob, HandedState};
use dmc_protocol::mesh::{Input, Output};
use dmc_protocol::message::{Failure, FailureKind, Message};
use dmc_protocol::record::JobState;
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
    assert_eq!(world.state(0), HandedState::Over(HandedEnd::Published));
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
    assert_eq!(world.state(0), HandedState::Over(HandedEnd::Own));
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
    let published = HandedState::Over(HandedEnd::Published);
    assert_eq!((job(&world), world.state(0)), (JobState::Done, published));
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
fn a_custodian_that_speaks_and_does_nothing_is_given_up() {
    let mut world = World::new(2);
    world.hand_over();
    let says = |world: &mut World, done: u16| {
        let held = vec![(JOB, 1, CustodyReport::Working { done })];
        let message = Message::Custody { held };
        world.tell(0, Input::Received { from: id(1), message });
    };
    for minute in 0..180 {
        world.pass(60);
        says(&mut world, minute / 50); // slow work is work
        assert_eq!(world.state(0), HandedState::Away, "after {minute} min");
    }
    for minute in 0..61 {
        world.pass(60);
        says(&mut world, minute % 3); // this is none
    }
    assert_eq!(world.state(0), HandedState::Own);
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
fn what_nobody_can_do_ends_the_job_with_the_reason() {
    let mut world = World::new(2);
    world.hand_over();
    world.tell(1, Input::CustodyFailed { job: JOB, why: "no pictures".to_owned() });
    assert!(world.wants(0, &Output::HandedEnded(JOB)));
    let failed = HandedEnd::Failed("agent-1: no pictures".to_owned());
    assert_eq!(world.state(0), HandedState::Over(failed));
    assert!(world.disks[1].is_empty());
    // A person tries it again, here.
    world.tell(0, Input::TakeBack(JOB));
    assert!(world.wants(0, &Output::TakeBack(JOB)));
}

#[test]
fn what_one_custodian_cannot_do_another_one_does() {
    let mut world = World::new(3);
    world.tell(0, Input::HandOver { job: JOB, handed: handed() });
    world.tell(1, Input::CustodyGivenUp { job: JOB, why: "its disk is full".to_owned() });
    let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
    assert!(world.wants(2, &fetch));
    world.tell(2, Input::CustodySource(JOB));
    assert_eq!(world.state(0), HandedState::Away);
    world.pass(11);
    assert!(world.disks[1].is_empty(), "{:?}", world.disks[1]);
    // The second one gives up when it owns the job already: the submitter does it.
    world.tell(2, Input::CancelJob(JOB));
    assert_eq!(world.state(0), HandedState::Own);
    world.pass(11);
    assert!(world.disks[2].is_empty(), "{:?}", world.disks[2]);
}

#[test]
fn only_the_submitter_may_release_and_nobody_may_take_its_place() {
    let mut world = World::new(3);
    world.hand_over();
    let epoch = 9;
    world.tell(1, Input::Received { from: id(2), message: Message::Release { job: JOB, epoch } });
    let steal = Message::HandOver { job: JOB, epoch, handed: handed() };
    world.tell(1, Input::Received { from: id(2), message: steal.clone() });
    let kept = world.meshes[1].as_ref().unwrap().custody().get(JOB).unwrap();
    assert_eq!((kept.record.from, &kept.record.state), (id(0), &CustodyState::Working));
    // Nor can a custodian hand the submitter its own job.
    world.tell(0, Input::Received { from: id(1), message: steal });
    world.tell(0, Input::Received { from: id(1), message: Message::Release { job: JOB, epoch } });
    assert!(world.meshes[0].as_ref().unwrap().custody().get(JOB).is_none());
    assert_eq!(world.state(0), HandedState::Away);
}

#[test]
fn strangers_have_no_late_results() {
    let mut world = World::new(3);
    world.hand_over();
    world.tell(0, Input::TakeBack(JOB));
    let before = world.state(0);
    for (from, epoch) in [(2, 0), (2, 1), (2, u32::MAX), (1, 0), (1, 7)] {
        let held = vec![(JOB, epoch, CustodyReport::Done(RESULT))];
        world.tell(0, Input::Received { from: id(from), message: Message::Custody { held } });
        assert_eq!(world.state(0), before, "{from} {epoch}");
    }
}

#[test]
fn a_custodian_that_says_what_was_not_asked_is_given_up() {
    let mut world = World::new(2);
    world.hand_over();
    let held = vec![(JOB, 1, CustodyReport::Delivered)];
    world.tell(0, Input::Received { from: id(1), message: Message::Custody { held } });
    assert_eq!(world.state(0), HandedState::Own, "nothing was delivered anywhere");
    assert_eq!(world.meshes[0].as_ref().unwrap().peers().get(id(1)).unwrap().refused, 1);
}

#[test]
fn a_delivery_is_made_by_its_agent_alone() {
    let mut world = World::new(3);
    let delivery = HandedJob {
        deliver_to: Some(id(1)),
        deliver_as: Some("new/film.mkv".to_owned()),
        ..handed()
    };
    world.tell(0, Input::HandOver { job: JOB, handed: delivery });
    world.pass(300);
    assert_eq!(world.state(0), HandedState::Offered, "it has no inbox");
    world.give_inbox(1);
    world.pass(62);
    let fetch = Output::FetchSource { job: JOB, from: id(0), source: SOURCE };
    assert!(world.wants(1, &fetch) && !world.wanted[2].contains(&fetch));
    world.tell(1, Input::CustodySource(JOB));
    world.part(0, 1);
    world.pass(5_000);
    assert_eq!(world.state(0), HandedState::Away, "else it would be made twice");
    world.meet(0, 1);
    world.work(1);
    world.tell(1, Input::CustodyResult { job: JOB, result: None });
    assert_eq!(world.state(0), HandedState::Over(HandedEnd::Delivered));
    assert!(world.disks[1].is_empty());
}

#[test]
fn a_result_that_is_never_served_is_given_up() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    for _ in 0..3 {
        assert!(world.wants(0, &World::fetch()));
        let failure = Failure::new(FailureKind::Busy, "no chunk for a minute");
        world.tell(0, Input::HandedBad { job: JOB, failure });
        world.pass(11);
    }
    assert_eq!(world.state(0), HandedState::Own);
}

#[test]
fn trouble_of_the_submitters_own_keeps_the_result() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    for _ in 0..20 {
        assert!(world.wants(0, &World::fetch()));
        let failure = Failure::new(FailureKind::DiskFull, "no room");
        world.tell(0, Input::HandedBad { job: JOB, failure });
        world.pass(71);
    }
    assert!(matches!(world.state(0), HandedState::Returning(_)));
    let trouble = world.meshes[0].as_ref().unwrap().handovers().get(JOB).unwrap().trouble.clone();
    assert_eq!(trouble.as_deref(), Some("no room"));
    world.tell(0, Input::TakeBack(JOB));
    assert!(
        world.wants(0, &Output::StopHanded(JOB))
            || world.wanted[0].contains(&Output::TakeBack(JOB))
    );
}

#[test]
fn a_result_that_its_custodian_lost_is_made_again() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    world.tell(0, Input::HandedBad { job: JOB, failure: Failure::new(FailureKind::DiskFull, "") });
    world.kill(1);
    world.disks[1].clear();
    world.start(1);
    world.pass(650);
    assert_eq!(world.state(0), HandedState::Own, "it is there, and never speaks of the job");
}

#[test]
fn a_plan_that_fails_after_taking_back_ends_the_job() {
    let mut world = World::new(2);
    world.hand_over();
    world.tell(0, Input::TakeBack(JOB));
    world.tell(0, Input::FailJob { job: JOB, errors: vec!["cannot read it".to_owned()] });
    let failed = HandedState::Over(HandedEnd::Failed("cannot read it".to_owned()));
    assert_eq!(world.state(0), failed);
    world.tell(0, Input::TakeBack(JOB));
    assert_eq!(world.state(0), HandedState::Own);
}

#[test]
fn a_cancelled_job_is_released_even_when_its_custodian_was_away() {
    let mut world = World::new(2);
    world.hand_over();
    world.part(0, 1);
    world.tell(0, Input::CancelJob(JOB));
    assert_eq!(world.state(0), HandedState::Over(HandedEnd::Cancelled));
    world.meet(0, 1);
    assert!(world.meshes[1].as_ref().unwrap().custody().get(JOB).is_none());
}

#[test]
fn a_result_waits_a_week_over_restarts_and_no_longer() {
    let mut world = World::new(2);
    world.hand_over();
    world.finish_custody();
    world.kill(0);
    let mut hours = 0;
    while !world.disks[1].is_empty() && hours < 400 {
        hours += 1;
        for _ in 0..900 {
            world.now += 4_000;
            world.tell(1, Input::Tick);
        }
        if hours % 50 == 0 {
            world.kill(1);
            world.start(1);
        }
    }
    assert!((160..=180).contains(&hours), "{hours} hours");
}
