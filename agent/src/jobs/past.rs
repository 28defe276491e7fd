//! What is kept of a job that is over: in its request what lists show, and beside it who did which
//! task.

use dmc_protocol::id::JobId;
use dmc_store::{Batch, Kv, StoreError, Table, VALUE_BYTES_MAX, decode, encode};
use serde::{Deserialize, Serialize};

use crate::http::views::{AttemptView, JobView, TaskView};

const SCHEMA: u16 = 1;
/// Workers of one job that are told of: a request has a largest size.
const WORKERS_MAX: usize = 128;
/// About so many bytes of tasks go into one record.
const PAGE_BYTES_MAX: usize = VALUE_BYTES_MAX / 2;

/// What lists show of a job that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// 0 to 1.
    pub progress: f64,
    /// Frames that were encoded.
    pub frames: u64,
    /// Frames in all, where known.
    pub frames_total: u64,
    /// Bytes of the parts.
    pub bytes: u64,
    /// Tasks that were done.
    pub tasks_done: u32,
    /// Tasks in all.
    pub tasks_total: u32,
    /// Who did how many of them.
    pub workers: Vec<PastWorker>,
    /// Who kept the whole job.
    pub custodian: Option<String>,
}

/// Who did how many tasks of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastWorker {
    /// The agent.
    pub id: String,
    /// Its name at that time.
    pub name: String,
    /// Tasks that it finished.
    pub segments: u32,
}

impl Past {
    /// Of a job that was never begun.
    pub fn nothing() -> Past {
        Past {
            progress: 0.0,
            frames: 0,
            frames_total: 0,
            bytes: 0,
            tasks_done: 0,
            tasks_total: 0,
            workers: Vec::new(),
            custodian: None,
        }
    }

    /// What is kept of a job as it is seen at its end.
    pub fn of(job: &JobView) -> Past {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut workers: Vec<&_> = job.workers.iter().filter(|w| w.segments > 0).collect();
        workers.sort_by_key(|worker| std::cmp::Reverse(worker.segments));
        let workers = workers.into_iter().take(WORKERS_MAX).map(|worker| PastWorker {
            id: worker.id.clone(),
            name: worker.name.clone(),
            segments: count(worker.segments),
        });
        Past {
            progress: job.progress,
            frames: job.frames,
            frames_total: job.frames_total,
            bytes: job.bytes,
            tasks_done: count(job.tasks_done),
            tasks_total: count(job.tasks_total),
            workers: workers.collect(),
            custodian: job.custodian.clone(),
        }
    }
}

/// Who did what, so many tasks of a job as one record takes. The agents are named once.
#[derive(Default, Serialize, Deserialize)]
struct Page {
    agents: Vec<Agent>,
    tasks: Vec<PastTask>,
}

/// Id and name.
type Agent = (String, String);

/// A task as it was seen when its job ended. (The view itself leaves fields out, which only a format
/// with names can read.)
#[derive(Serialize, Deserialize)]
struct PastTask {
    index: u32,
    label: String,
    state: String,
    rung: String,
    /// Its place among the agents of the page; so below.
    worker: Option<u32>,
    frames: Option<u64>,
    encode_s: Option<f64>,
    bytes: Option<u64>,
    attempts: Vec<PastAttempt>,
}

#[derive(Serialize, Deserialize)]
struct PastAttempt {
    id: String,
    worker: u32,
    state: String,
    reason: Option<String>,
}

impl Page {
    fn place_of(&mut self, id: &str, name: &str) -> u32 {
        let known = self.agents.iter().position(|(of, called)| of == id && called == name);
        let at = known.unwrap_or_else(|| {
            self.agents.push((id.to_owned(), name.to_owned()));
            self.agents.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn push(&mut self, task: &TaskView) {
        let attempts = task.attempts.iter().map(|attempt| PastAttempt {
            id: attempt.id.clone(),
            worker: self.place_of(&attempt.worker, &attempt.worker_name),
            state: attempt.state.clone(),
            reason: attempt.reason.clone(),
        });
        let attempts = attempts.collect();
        let worker = task.worker.as_deref().zip(task.worker_name.as_deref());
        let worker = worker.map(|(id, name)| self.place_of(id, name));
        self.tasks.push(PastTask {
            index: task.index,
            label: task.label.clone(),
            state: task.state.clone(),
            rung: task.rung.clone(),
            worker,
            frames: task.frames,
            encode_s: task.encode_s,
            bytes: task.bytes,
            attempts,
        });
    }

    fn views(self) -> impl Iterator<Item = TaskView> {
        let Page { agents, tasks } = self;
        let agent = move |at: u32| agents.get(at as usize).cloned().unwrap_or_default();
        tasks.into_iter().map(move |task| {
            let attempts = task.attempts.into_iter().map(|attempt| {
                let (worker, worker_name) = agent(attempt.worker);
                let PastAttempt { id, state, reason, .. } = attempt;
                AttemptView { id, worker, worker_name, state, reason }
            });
            let attempts = attempts.collect();
            let (worker, worker_name) = task.worker.map(&agent).unzip();
            TaskView {
                index: task.index,
                label: task.label,
                state: task.state,
                rung: task.rung,
                worker,
                worker_name,
                frames: task.frames,
                encode_s: task.encode_s,
                bytes: task.bytes,
                attempts,
            }
        })
    }
}

/// About how long a task is as a record.
fn bytes_of(task: &TaskView) -> usize {
    let attempts = task.attempts.iter().map(|attempt| {
        let texts = [&attempt.id, &attempt.worker, &attempt.worker_name, &attempt.state];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        texts + attempt.reason.as_ref().map_or(0, String::len) + 16
    });
    attempts.sum::<usize>() + task.label.len() + 128
}

/// Adds who did what to a batch, in as many records as it needs. What was kept before goes.
pub fn save(kv: &Kv, batch: &mut Batch, job: JobId, tasks: &[TaskView]) -> Result<(), StoreError> {
    clear(kv, batch, job)?;
    let (mut page, mut bytes, mut number) = (Page::default(), 0, 0);
    for task in tasks {
        bytes += bytes_of(task);
        if bytes > PAGE_BYTES_MAX && !page.tasks.is_empty() {
            put(batch, job, number, &std::mem::take(&mut page))?;
            (bytes, number) = (bytes_of(task), number + 1);
        }
        page.push(task);
    }
    if page.tasks.is_empty() { Ok(()) } else { put(batch, job, number, &page) }
}

fn put(batch: &mut Batch, job: JobId, number: u32, page: &Page) -> Result<(), StoreError> {
    let mut key = job.0.as_bytes().to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    batch.put(Table::History, &key, encode(SCHEMA, page)?);
    Ok(())
}

/// Adds the removal of it to a batch.
pub fn clear(kv: &Kv, batch: &mut Batch, job: JobId) -> Result<(), StoreError> {
    for entry in kv.each(Table::History, job.0.as_bytes()) {
        batch.delete(Table::History, &entry?.0);
    }
    Ok(())
}

/// Who did what.
pub fn load(kv: &Kv, job: JobId) -> Result<Vec<TaskView>, StoreError> {
    let mut tasks = Vec::new();
    for entry in kv.each(Table::History, job.0.as_bytes()) {
        tasks.extend(decode::<Page>(SCHEMA, &entry?.1)?.views());
    }
    Ok(tasks)
}
