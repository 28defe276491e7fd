//! `dmc jobs` and `dmc status ID`.

use dmc_agent::http::views::{JobView, TaskView};
use dmc_agent::replace::view::UndoView;
use serde_json::json;

use dmc_agent::http::urgency::Urgency;
use dmc_agent::jobs::{Priority, Status};

use super::args::JobsCommand;
use super::client::Client;
use super::{End, show};

/// Jobs that are listed when nothing else is asked for.
pub(crate) const LIST_MAX: usize = 1_000;
/// Jobs that are asked for at a time.
const PAGE: usize = 500;

pub(crate) async fn run(client: &Client, command: Option<JobsCommand>) -> anyhow::Result<End> {
    let all = JobsCommand::List { status: None, limit: LIST_MAX };
    let (id, what) = match command.unwrap_or(all) {
        JobsCommand::List { status, limit } => return list(client, status, limit).await,
        JobsCommand::Show { id } => return self::show(client, &id).await,
        JobsCommand::Remove { id } => {
            client.delete(&format!("/jobs/{}", whole_id(client, &id).await?)).await?;
            return Ok(End::Done);
        }
        JobsCommand::Priority { id, priority } => return rank(client, &id, priority).await,
        JobsCommand::Cancel { id } => (id, "cancel"),
        JobsCommand::Retry { id } => (id, "retry"),
        JobsCommand::TakeBack { id } => (id, "take-back"),
    };
    let id = whole_id(client, &id).await?;
    let job: JobView = client.post(&format!("/jobs/{id}/{what}"), &json!({})).await?;
    if client.json {
        show::json(&job);
    } else {
        show::line(&format!("job {} is {}", job.id, job.status));
    }
    Ok(End::Done)
}

async fn rank(client: &Client, id: &str, priority: Priority) -> anyhow::Result<End> {
    let path = format!("/jobs/{}/priority", whole_id(client, id).await?);
    let job: JobView = client.post(&path, &Urgency { priority }).await?;
    if client.json {
        show::json(&job);
    } else {
        show::line(&format!("job {} has the priority {}", job.id, job.priority));
    }
    Ok(End::Done)
}

/// People may write the end or the beginning of an id, as far as it is unique.
pub(crate) async fn whole_id(client: &Client, part: &str) -> anyhow::Result<String> {
    let mut jobs: Vec<JobView> = Vec::new();
    // What is no part of an id is no part of a path either.
    if part.len() >= 4 && part.chars().all(|c| c == '-' || c.is_ascii_hexdigit()) {
        jobs = client.get(&format!("/jobs?id={part}&limit=2")).await?;
    }
    match &jobs[..] {
        [job] => Ok(job.id.clone()),
        [] => anyhow::bail!("there is no job {part}; `dmc jobs` lists the jobs of this agent"),
        _ => anyhow::bail!("several jobs fit `{part}`; write more of the id"),
    }
}

/// The newest jobs, at most so many (0: all), the oldest of them first.
async fn newest(
    client: &Client,
    status: Option<Status>,
    limit: usize,
) -> anyhow::Result<Vec<JobView>> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let status = status.map(|status| format!("&status={status}")).unwrap_or_default();
    let mut jobs: Vec<JobView> = Vec::new();
    while jobs.len() < limit {
        let cursor = jobs.last().map(|job| format!("&cursor={}", job.id)).unwrap_or_default();
        let page = (limit - jobs.len()).min(PAGE);
        let path = format!("/jobs?limit={page}{status}{cursor}");
        let page: Vec<JobView> = client.get(&path).await?;
        if page.is_empty() {
            break;
        }
        jobs.extend(page);
    }
    jobs.reverse();
    Ok(jobs)
}

async fn list(client: &Client, status: Option<Status>, limit: usize) -> anyhow::Result<End> {
    let jobs = newest(client, status, limit).await?;
    if client.json {
        show::json(&jobs);
        return Ok(End::Done);
    }
    if jobs.len() == limit {
        show::note(&format!("the newest {limit} jobs; `--limit 0` lists all"));
    }
    let rows = jobs.iter().map(|job| {
        vec![
            job.id.clone(),
            job.status.clone(),
            job.phase.clone(),
            format!("{:.0} %", job.progress * 100.0),
            job.preset.clone(),
            show::clean(&job.input.display().to_string()),
        ]
    });
    show::table(&["ID", "STATUS", "PHASE", "DONE", "PRESET", "INPUT"], &rows.collect::<Vec<_>>());
    Ok(End::Done)
}

pub(crate) async fn show(client: &Client, id: &str) -> anyhow::Result<End> {
    let id = whole_id(client, id).await?;
    let job: JobView = client.get(&format!("/jobs/{id}")).await?;
    if client.json {
        show::json(&job);
    } else {
        print(&job);
        print_tasks(&job.tasks);
    }
    Ok(End::Done)
}

fn print(job: &JobView) {
    let line = |name: &str, text: &str| show::line(&format!("{name:<9} {}", show::clean(text)));
    line("job", &job.id);
    line("status", &format!("{} ({})", job.status, job.phase));
    line("input", &job.input.display().to_string());
    line("output", &job.output.display().to_string());
    line("preset", &job.preset);
    if job.priority != Priority::NORMAL {
        line("priority", &job.priority.to_string());
    }
    if let Some(name) = &job.custodian {
        line("kept by", name);
    }
    if let Some(path) = &job.delivered_as {
        line("inbox", path);
    }
    if let Some(name) = &job.submitter {
        line("kept for", name);
    }
    if let Some(undo) = &job.undo {
        line("source", &source_words(undo));
    }
    let (done, total) = (job.tasks_done, job.tasks_total);
    let (percent, size) = (job.progress * 100.0, show::bytes(job.bytes));
    line("progress", &format!("{percent:.1} % ({done} of {total} tasks), {size}"));
    if let Some(waiting) = &job.waiting {
        line("waits", waiting);
    }
    for worker in job.workers.iter().filter(|worker| !worker.holds.is_empty()) {
        let holds = worker.holds.iter().map(|hold| format!("{} ({})", hold.label, hold.state));
        let away = if worker.away { ", which is away" } else { "" };
        let holds = holds.collect::<Vec<_>>().join(", ");
        line("held by", &format!("{}{away}: {holds}", worker.name));
    }
    job.notes.iter().for_each(|note| line("note", note));
    job.errors.iter().for_each(|error| line("error", error));
    proof_lines(job).iter().for_each(|proof| line("proof", proof));
}

/// What became of a source whose place the result takes.
fn source_words(undo: &UndoView) -> String {
    let until = undo.until.as_deref().unwrap_or_default();
    match (undo.state.as_str(), &undo.why) {
        ("wanted", _) => "its place is taken when the result is verified".to_owned(),
        ("kept", _) => format!("replaced; `dmc undo {}` brings it back until {until}", undo.job),
        (state, Some(why)) => format!("{state}: {why}"),
        (state, None) => state.to_owned(),
    }
}

/// What was proven of a finished job, for people.
pub(crate) fn proof_lines(job: &JobView) -> Vec<String> {
    let Some(proof) = &job.proof else { return Vec::new() };
    let mut lines = Vec::new();
    if proof.frames > 0 && !proof.is_of_a_picture() {
        let error = proof.pts_error_us_max as f64 / 1_000.0;
        lines.push(format!(
            "all {} frames are there, each at its time (largest difference {error:.2} ms)",
            proof.frames
        ));
    }
    if proof.pixels_equal {
        lines.push("every pixel of every frame equals the source's".to_owned());
    }
    let what = if proof.is_of_a_picture() { "it has" } else { "streams" };
    lines.push(format!("{what}: {}", proof.streams.join(", ")));
    lines
}

fn print_tasks(tasks: &[TaskView]) {
    let rows = tasks.iter().map(|task| {
        let tries = task.attempts.iter().map(|attempt| match &attempt.reason {
            Some(reason) => format!("{} on {}: {reason}", attempt.state, attempt.worker_name),
            None => format!("{} by {}", attempt.state, attempt.worker_name),
        });
        vec![
            task.index.to_string(),
            task.label.clone(),
            task.state.clone(),
            task.rung.clone(),
            task.frames.map(|frames| frames.to_string()).unwrap_or_default(),
            task.encode_s.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default(),
            show::clean(&tries.collect::<Vec<_>>().join("; ")),
        ]
    });
    let heading = ["#", "TASK", "STATE", "RUNG", "FRAMES", "TIME", "ATTEMPTS"];
    show::table(&heading, &rows.collect::<Vec<_>>());
}
