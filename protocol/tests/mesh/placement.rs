//! Who is granted how much, and in which order.

use std::collections::BTreeMap;

use dmc_protocol::id::{AgentId, AttemptId, JobId, TaskId};
use dmc_protocol::media::{Encoder, MediaKind, WorkClass};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::message::{AgentInfo, FailureKind, Message, Wishes};
use dmc_protocol::record::Record;
use dmc_protocol::time::Time;
use uuid::Uuid;

use super::{BLOB, JOB, ME, RESULT, agent, audio, grant, hear, info, leases, said};

const THIRD: AgentId = AgentId([3; 32]);

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

/// The jobs whose tasks a worker is granted, in their order, while it delivers one after the other;
/// `outputs` holds the first grant, and then the next. It asks for more in the name of a job that is
/// `open` all the time.
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

/// Leases of a peer with these speeds at a job of two tasks, beside an agent that does a unit of any
/// sound in a second.
fn leases_beside_a_fast_one(speeds: &[(Encoder, u64)]) -> usize {
    let both = |mut info: AgentInfo, speeds: &[(Encoder, u64)]| {
        let class = |encoder: Encoder| WorkClass { encoder, ..audio().class() };
        info.capabilities.encoders.insert(Encoder::Libopus, [1; 8]);
        info.speeds = speeds.iter().map(|(encoder, rate)| (class(*encoder), *rate)).collect();
        info
    };
    let units = audio().work_units();
    let mut mesh = agent(1);
    let fast = [(Encoder::Flac, units), (Encoder::Libopus, units)];
    mesh.handle(Time(1), Input::Local(both(info("me", 1), &fast)));
    hear(&mut mesh, Message::Info(both(info("peer", 1), speeds)));
    let tasks = vec![audio(), audio()];
    mesh.handle(Time(1), Input::AddJob { job: JOB, priority: 0, source: Some(BLOB), tasks });
    let message = Message::Accept { job: JOB, want: 1 };
    mesh.handle(Time(1), Input::Received { from: ME, message: message.clone() });
    hear(&mut mesh, message);
    leases(&mesh)
}

#[test]
fn one_that_is_slow_at_other_work_is_not_taken_for_an_average_one() {
    let units = audio().work_units();
    assert_eq!(leases_beside_a_fast_one(&[(Encoder::Flac, units / 10)]), 0, "measured");
    assert_eq!(leases_beside_a_fast_one(&[(Encoder::Libopus, units / 10)]), 0, "guessed");
    assert_eq!(leases_beside_a_fast_one(&[(Encoder::Libopus, units)]), 1);
    assert_eq!(leases_beside_a_fast_one(&[]), 1, "nothing is known of it");
}

#[test]
fn a_film_is_cut_for_those_that_can_do_it() {
    let class = audio().class();
    let slow = |name: &str, slots, rate| {
        let speeds = Vec::from([(class, rate)]);
        AgentInfo { speeds, ..info(name, slots) }
    };
    let paces = |mesh: &Mesh| {
        let all = mesh.paces(class, 100);
        all.iter().map(|of| (of.slots, of.pace)).collect::<Vec<_>>()
    };
    let mut mesh = agent(2);
    assert_eq!(paces(&mesh), [(2, 1.0), (1, 1.0)], "nothing is known of anybody");
    mesh.handle(Time(1), Input::Local(slow("me", 2, 300)));
    assert_eq!(paces(&mesh), [(2, 3.0), (1, 3.0)], "the peer is taken for a usual one");
    hear(&mut mesh, Message::Info(slow("peer", 1_024, 30)));
    assert_eq!(paces(&mesh), [(2, 3.0), (8, 0.3)], "it has delivered nothing yet");
    mesh.handle(Time(1), Input::Local(slow("me", 2, u64::MAX)));
    assert!(paces(&mesh)[0].1.is_finite());
    hear(&mut mesh, Message::Info(slow("peer", 1, 300)));
    mesh.handle(Time(1), Input::Local(slow("me", 2, 200)));
    let mut other = slow("peer", 1, 300);
    other.capabilities.kinds.clear();
    hear(&mut mesh, Message::Info(other));
    assert_eq!(paces(&mesh), [(2, 2.0)], "the peer takes no sound");
    mesh.handle(Time(1), Input::SetPaused(true));
    assert_eq!(paces(&mesh), [(2, 2.0)], "it rests, and will go on");
}

#[test]
fn one_claim_does_not_rule() {
    let class = audio().class();
    let mut mesh = agent(1);
    let known = |rate| AgentInfo { speeds: Vec::from([(class, rate)]), ..info("x", 1) };
    mesh.handle(Time(1), Input::Local(known(100)));
    mesh.handle(Time(1), Input::PeerUp(THIRD));
    mesh.handle(Time(1), Input::Received { from: THIRD, message: Message::Info(known(100)) });
    hear(&mut mesh, Message::Info(known(u64::MAX)));
    let fastest = mesh.paces(class, 100).iter().map(|of| of.pace).fold(0.0, f64::max);
    assert_eq!(fastest, 16.0);
}
