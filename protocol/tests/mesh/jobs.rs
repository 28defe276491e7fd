//! What an owner makes of results, and of what a crash left.

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{Failure, FailureKind, Message, Verdict};
use dmc_protocol::record::{JobState, Record, RecordKey};
use dmc_protocol::time::Time;
use uuid::Uuid;

use super::{JOB, ME, PEER, RESULT, TASK, agent, hear, owner, said};

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
fn a_result_from_a_stranger_is_not_fetched() {
    let (mut mesh, attempt) = owner();
    let message = Message::Done { attempt, task: TASK, result: RESULT };
    let other = AgentId([3; 32]);
    let outputs = mesh.handle(Time(2), Input::Received { from: other, message });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Fetch { .. })));
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
fn a_bid_for_a_job_that_is_over_is_answered_by_its_withdrawal() {
    let mut mesh = agent(1);
    let outputs = hear(&mut mesh, Message::Accept { job: JOB, want: 2 });
    assert_eq!(said(&outputs), [&Message::Offer { job: JOB, work: Vec::new() }]);
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
