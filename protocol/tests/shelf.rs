//! Jobs that are over leave the memory of their owner and come back.

use std::collections::BTreeMap;

use dmc_protocol::config::Config;
use dmc_protocol::id::{AgentId, JobId};
use dmc_protocol::media::{AudioTask, Encoder, InputFormat, TaskSpec};
use dmc_protocol::mesh::{Input, Mesh, Output};
use dmc_protocol::record::{Record, RecordKey};
use dmc_protocol::time::Time;
use uuid::Uuid;

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

fn job() -> JobId {
    JobId(Uuid::from_u128(7))
}

/// What a store would do with the outputs.
#[derive(Default, PartialEq, Debug, Clone)]
struct Disk {
    live: BTreeMap<RecordKey, Record>,
    shelf: BTreeMap<RecordKey, Record>,
}

impl Disk {
    fn take(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Save(record) => {
                    self.live.insert(record.key(), record);
                }
                Output::Erase(key) => {
                    self.live.remove(&key);
                    self.shelf.remove(&key);
                }
                Output::Shelve(record) => {
                    self.live.remove(&record.key());
                    self.shelf.insert(record.key(), record);
                }
                Output::Unshelve(record) => {
                    self.shelf.remove(&record.key());
                    self.live.insert(record.key(), record);
                }
                _ => {}
            }
        }
    }
}

fn ended(end: Input) -> (Mesh, Disk) {
    let (mut mesh, mut disk) = (Mesh::new(AgentId([1; 32]), Config::default()), Disk::default());
    let tasks = vec![audio(); 3];
    let add = Input::AddJob { job: job(), priority: 0, source: None, tasks };
    for input in [add, end] {
        disk.take(mesh.handle(Time(0), input));
    }
    (mesh, disk)
}

#[test]
fn a_job_that_may_be_tried_again_leaves_and_comes_back_as_it_was() {
    let (mut mesh, mut disk) = ended(Input::CancelJob(job()));
    let before = disk.clone();
    assert_eq!(before.live.len(), 4);
    disk.take(mesh.handle(Time(1), Input::ShelveJob(job())));
    assert!(mesh.jobs().get(job()).is_none() && disk.live.is_empty());
    assert_eq!(disk.shelf, before.live);
    let records: Vec<Record> = disk.shelf.values().cloned().collect();
    disk.take(mesh.handle(Time(2), Input::UnshelveJob(records.clone())));
    assert_eq!(disk, before);
    // Asked twice, or too late.
    disk.take(mesh.handle(Time(2), Input::UnshelveJob(records)));
    assert_eq!(disk, before);
    mesh.handle(Time(3), Input::RetryJob(job()));
    assert!(mesh.jobs().get(job()).is_some_and(dmc_protocol::mesh::jobs::Job::is_active));
    assert!(mesh.jobs().get(job()).is_some_and(|job| job.tasks.len() == 3));
}

#[test]
fn a_job_that_is_not_over_stays() {
    let (mut mesh, mut disk) = ended(Input::Tick);
    let before = disk.clone();
    disk.take(mesh.handle(Time(1), Input::ShelveJob(job())));
    assert!(mesh.jobs().get(job()).is_some());
    assert_eq!(disk, before);
}
