//! The job book: what is open, what waits, what is over, and what finds it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::path::Path;
use std::sync::Arc;

use dmc_agent::http::views::{AttemptView, TaskView};
use dmc_agent::jobs::past::Past;
use dmc_agent::jobs::{Ended, JobBook, Lane, Phase, Priority, Request, Stamp, Status};
use dmc_agent::paths::AnyPath;
use dmc_agent::room::Room;
use dmc_protocol::codec;
use dmc_protocol::id::JobId;
use dmc_protocol::media::Preset;
use dmc_store::{Batch, Kv, Table};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn book(kv: &Kv, dir: &Path) -> JobBook {
    let room = Arc::new(Room::new(dir));
    JobBook::open(kv.clone(), dir.join("jobs"), CancellationToken::new(), room, Arc::default())
        .unwrap()
}

fn new() -> (TempDir, Kv, JobBook) {
    let (dir, kv) = (tempfile::tempdir().unwrap(), Kv::memory());
    let book = book(&kv, dir.path());
    (dir, kv, book)
}

/// Ids in the order of `number`; their ends differ in all digits.
fn id(number: u32) -> JobId {
    let end = u128::from(number).wrapping_mul(0x9e37_79b9) & 0xffff_ffff;
    JobId(Uuid::from_u128(u128::from(number) << 96 | 0x7000_8000_0000 << 32 | end))
}

fn request(number: u32) -> Request {
    Request {
        id: id(number),
        input: AnyPath(format!("/films/{number}.mkv").into()),
        output: AnyPath(format!("/films/{number}.hevc.mkv").into()),
        preset: Preset::builtin("hevc").unwrap(),
        overwrite: false,
        segment_s: None,
        stamp: Stamp { bytes: 1, mtime_ns: 2, ctime_ns: 3, inode: 4 },
        created_ms: 5,
        updated_ms: 6,
        phase: Phase::Waiting,
        cancelled: false,
        errors: Vec::new(),
        notes: Vec::new(),
        rung: None,
        publishing: None,
        proof: None,
        hand_over: None,
        custody: None,
        status: Status::ToDo,
        past: None,
        priority: Priority::NORMAL,
        strip_gps: false,
    }
}

fn task(index: u32, reason: &str) -> TaskView {
    TaskView {
        index,
        label: format!("segment {index}"),
        state: "committed".to_owned(),
        rung: "pieces".to_owned(),
        worker: Some("a".to_owned()),
        worker_name: Some("nas".to_owned()),
        frames: Some(25),
        encode_s: Some(1.5),
        bytes: None,
        attempts: vec![AttemptView {
            id: String::new(),
            worker: "b".to_owned(),
            worker_name: "laptop".to_owned(),
            state: "failed".to_owned(),
            reason: Some(reason.to_owned()),
        }],
    }
}

fn ended(status: Status, tasks: Vec<TaskView>) -> Ended {
    let errors = match status {
        Status::FinishedWithErrors => vec!["it broke".to_owned()],
        _ => Vec::new(),
    };
    Ended { status, errors, past: Past::nothing(), tasks }
}

fn counts(book: &JobBook) -> [u64; 5] {
    let counts = book.counts().unwrap();
    Status::ALL.map(|status| counts[&status])
}

fn ids(page: Vec<Request>) -> Vec<JobId> {
    page.into_iter().map(|request| request.id).collect()
}

#[tokio::test]
async fn jobs_get_in_by_age_and_leave_the_memory_when_they_are_over() {
    let (dir, kv, book) = new();
    book.add((0..10).rev().map(request).collect()).await.unwrap();
    assert!(book.open_requests().is_empty());
    assert_eq!(book.admit(Lane::Here, 3).await.unwrap(), [id(0), id(1), id(2)]);
    assert_eq!(book.admit(Lane::Away, 3).await.unwrap(), []);
    book.change(id(1), |request| request.phase = Phase::Encoding).await.unwrap();
    assert_eq!(counts(&book), [9, 1, 0, 0, 0]);
    book.close(id(0), ended(Status::FinishedSuccessful, vec![task(0, "")])).await.unwrap();
    book.close(id(2), ended(Status::FinishedWithErrors, Vec::new())).await.unwrap();
    assert_eq!(counts(&book), [7, 1, 1, 1, 0]);
    assert_eq!(ids(book.open_requests()), [id(1)]);
    drop(book);
    let again = self::book(&kv, dir.path());
    assert_eq!(ids(again.open_requests()), [id(1)]);
    assert_eq!(again.past_tasks(id(0)).unwrap().len(), 1);
    let failed = again.request(id(2)).unwrap().unwrap();
    assert_eq!((failed.status, failed.errors.len()), (Status::FinishedWithErrors, 1));
    assert_eq!(again.admit(Lane::Here, 1).await.unwrap(), [id(3)]);
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let (_dir, _kv, book) = new();
    book.add((0..25).map(request).collect()).await.unwrap();
    for even in (0..25).step_by(2) {
        book.close(id(even), ended(Status::Cancelled, Vec::new())).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let page = book.page(Some(Status::Cancelled), seen.last().copied(), 5).unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(ids(page));
        // A job that is no more is still a place to go on from.
        book.remove(*seen.last().unwrap()).await.unwrap();
    }
    assert_eq!(seen, (0..25).step_by(2).rev().map(id).collect::<Vec<_>>());
    let left = ids(book.page(None, None, 100).unwrap());
    assert_eq!(left.len(), 22);
    assert_eq!(left[0], id(24));
    assert_eq!(counts(&book), [12, 0, 0, 0, 10]);
}

#[tokio::test]
async fn a_job_is_found_by_the_beginning_and_the_end_of_its_id() {
    let (_dir, _kv, book) = new();
    book.add((0..200).map(request).collect()).await.unwrap();
    for number in [3, 17, 0xa7] {
        let text = id(number).to_string();
        for part in [&text[..], &text[..8], &text[..13], &text[28..], &text[29..], &text[20..]] {
            assert_eq!(book.find(part, 2).unwrap(), [id(number)], "{part}");
            assert_eq!(book.find(&part.to_uppercase(), 2).unwrap(), [id(number)]);
        }
    }
    assert_eq!(book.find("0000", 2).unwrap().len(), 2);
    // An odd number of digits ends within a byte.
    assert_eq!(book.find("0000001", 100).unwrap().len(), 16);
    for part in ["", "nonsense", "dead-beef-dead-beef", &"0".repeat(33)] {
        assert_eq!(book.find(part, 2).unwrap(), [], "{part}");
    }
}

#[tokio::test]
async fn what_is_over_stays_over() {
    let (_dir, _kv, book) = new();
    book.add(vec![request(1)]).await.unwrap();
    book.admit(Lane::Here, 1).await.unwrap();
    let token = book.with(id(1), |entry| entry.token.clone()).unwrap();
    book.close(id(1), ended(Status::Cancelled, Vec::new())).await.unwrap();
    assert!(token.is_cancelled());
    // A step that was under way notes where the result is; nothing else changes.
    let late = book.change(id(1), |request| {
        request.phase = Phase::Publishing;
        request.errors.push("late".to_owned());
        request.publishing = Some((1, 2));
    });
    late.await.unwrap();
    let request = book.request(id(1)).unwrap().unwrap();
    assert_eq!((request.status, request.phase), (Status::Cancelled, Phase::Over));
    assert_eq!((request.publishing, request.errors.len()), (Some((1, 2)), 0));
    assert_eq!(counts(&book), [0, 0, 0, 0, 1]);
    assert!(book.open_requests().is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_a_job_that_is_removed() {
    let (_dir, kv, book) = new();
    // More than one record takes.
    let tasks: Vec<TaskView> = (0..300).map(|index| task(index, &"x".repeat(1_000))).collect();
    for number in [1, 2] {
        book.add(vec![request(number)]).await.unwrap();
        book.close(id(number), ended(Status::FinishedSuccessful, tasks.clone())).await.unwrap();
        let past = book.past_tasks(id(number)).unwrap();
        assert_eq!(serde_json::to_value(past).unwrap(), serde_json::to_value(&tasks).unwrap());
        book.remove(id(number)).await.unwrap();
    }
    use Table::{ByEnd, ByStatus, History, Queue, Requests, Shelf};
    for table in [Requests, ByStatus, ByEnd, Queue, History, Shelf] {
        assert_eq!(kv.each(table, &[]).count(), 0, "{table:?}");
    }
    assert_eq!(counts(&book), [0; 5]);
}

#[tokio::test]
async fn many_callers_count_right() {
    let (_dir, _kv, book) = new();
    let book = Arc::new(book);
    let add = |number| {
        let book = Arc::clone(&book);
        tokio::spawn(async move { book.add(vec![request(number)]).await })
    };
    let adding: Vec<_> = (0..200).map(add).collect();
    for added in adding {
        added.await.unwrap().unwrap();
    }
    let admitted = book.admit(Lane::Here, 64).await.unwrap();
    let close = |job| {
        let book = Arc::clone(&book);
        let over = ended(Status::FinishedSuccessful, Vec::new());
        tokio::spawn(async move { book.close(job, over).await })
    };
    for closed in admitted.into_iter().map(close).collect::<Vec<_>>() {
        closed.await.unwrap().unwrap();
    }
    assert_eq!(counts(&book), [136, 0, 64, 0, 0]);
}

#[tokio::test]
async fn an_older_store_gets_its_indexes_once() {
    let (dir, kv) = (tempfile::tempdir().unwrap(), Kv::memory());
    let mut batch = Batch::new();
    for number in 0..1_200 {
        let old = Request { phase: Phase::Planning, ..request(number) };
        let body = codec::to_bytes(&old).unwrap();
        // Version 3 ended before the status, what became of it, the priority, and whether the place
        // is removed: one byte each.
        let body = body[..body.len() - 4].to_vec();
        let value = [3u16.to_le_bytes().to_vec(), body].concat();
        batch.put(Table::Requests, old.id.0.as_bytes(), value);
    }
    kv.commit(batch).await.unwrap();
    for _ in 0..2 {
        let book = book(&kv, dir.path());
        assert_eq!(book.open_requests().len(), 1_200);
        assert_eq!(counts(&book), [0, 1_200, 0, 0, 0]);
        assert_eq!(ids(book.page(Some(Status::InProgress), None, 1).unwrap()), [id(1_199)]);
        let same = Request { phase: Phase::Planning, status: Status::InProgress, ..request(7) };
        assert_eq!(book.request(id(7)).unwrap(), Some(same));
    }
}

fn urgent(number: u32, priority: &str) -> Request {
    Request { priority: priority.parse().unwrap(), ..request(number) }
}

#[tokio::test]
async fn the_most_urgent_gets_in_first_and_of_those_the_oldest() {
    let (dir, kv, book) = new();
    book.add((0..1_000).map(request).collect()).await.unwrap();
    let others = [(2_000, "low"), (2_001, "7"), (2_002, "high"), (2_003, "high"), (2_004, "-100")];
    book.add(others.map(|(number, word)| urgent(number, word)).to_vec()).await.unwrap();
    assert_eq!(book.admit(Lane::Here, 2).await.unwrap(), [id(2_002), id(2_003)]);
    // One that waits is moved, forwards and back.
    let set = |priority: &str| {
        let priority = priority.parse().unwrap();
        move |request: &mut Request| request.priority = priority
    };
    book.change(id(999), set("100")).await.unwrap();
    book.change(id(2_001), set("normal")).await.unwrap();
    book.change(id(0), set("low")).await.unwrap();
    assert_eq!(book.admit(Lane::Here, 2).await.unwrap(), [id(999), id(1)]);
    let (open, next) = book.urgencies(Lane::Here, 2).unwrap();
    assert_eq!((open.len(), next), (4, vec![Priority::NORMAL; 2]));
    drop(book);
    let book = self::book(&kv, dir.path());
    let all = book.admit(Lane::Here, usize::MAX).await.unwrap();
    assert_eq!(all.len(), 1_001);
    let end = [id(998), id(2_001), id(0), id(2_000), id(2_004)];
    assert_eq!(all[all.len() - 5..], end, "the least urgent last");
    assert_eq!(kv.each(Table::Queue, &[0]).count(), kv.each(Table::Queue, &[]).count());
}

#[tokio::test]
async fn what_an_older_version_kept_is_as_urgent_as_usual() {
    let (dir, kv) = (tempfile::tempdir().unwrap(), Kv::memory());
    drop(book(&kv, dir.path()));
    let body = codec::to_bytes(&request(1)).unwrap();
    let value = [4u16.to_le_bytes().to_vec(), body[..body.len() - 2].to_vec()].concat();
    let mut batch = Batch::new();
    batch.put(Table::Requests, id(1).0.as_bytes(), value);
    batch.put(Table::Queue, &[&[1], id(1).0.as_bytes().as_slice()].concat(), Vec::new());
    kv.commit(batch).await.unwrap();
    let book = book(&kv, dir.path());
    assert_eq!(book.request(id(1)).unwrap(), Some(request(1)));
    assert_eq!(book.admit(Lane::Here, 1).await.unwrap(), [id(1)]);
    assert_eq!(kv.each(Table::Queue, &[1]).count(), 0);
}
