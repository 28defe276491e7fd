//! One job: the map of its film, who does what, and the proof.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, Response};
use axum::routing::get;
use maud::{Markup, html};

use super::super::problem::Problem;
use super::super::views::{JobView, TaskView, WorkerView};
use super::jobs::{actions, badge, bar, priorities};
use super::map::{self, Agents};
use super::stills::read;
use super::{Frame, View, part, region, stills, words};
use crate::jobs::{Proof, Request};
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// Tasks whose tries are listed: of longer films, those that did not go well come first.
const TASKS_LISTED: usize = 300;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/jobs/{id}", get(show)).route("/ui/jobs/{id}", get(fresh))
}

async fn show(State(shared): Agent, frame: Frame, Path(id): Path<String>) -> Response {
    let read = read(&shared, &id).await;
    let title =
        read.as_ref().map_or_else(|_| "Job".into(), |(job, _)| words::plain_name(&job.input));
    let main = read.map(|(job, request)| {
        let kinds = ["job", "progress"];
        html! {
            p.back { a href="jobs" { "Jobs" } }
            h1.file { (words::file_name(&job.input)) }
            (region("job", &format!("ui/jobs/{}", job.id), &kinds, &content(&job, &request)))
            (stills::region(&job))
        }
    });
    frame.answer(View::Jobs, &title, main)
}

async fn fresh(State(shared): Agent, Path(id): Path<String>) -> Result<Html<String>, Problem> {
    let (job, request) = read(&shared, &id).await?;
    Ok(part(content(&job, &request)))
}

fn content(job: &JobView, request: &Request) -> Markup {
    let agents = Agents::of(job);
    html! {
        span hidden data-live=(words::status(job)) {}
        div.job-head { (badge(job)) span.preset { (job.preset) } (actions(job)) }
        @if !job.is_over() { (priorities(job)) }
        @if !job.is_over() { (bar(job)) }
        @if let Some(waiting) = &job.waiting { p.why { (waiting) } }
        (errors(job))
        (replaced(job))
        (numbers(job, request))
        (map::figure(job, &agents))
        @if let Some(proof) = &job.proof { (proof_panel(proof)) }
        (workers(job, &agents))
        @if !job.notes.is_empty() {
            section.panel {
                h2 { "Notes" }
                ul { @for note in &job.notes { li { (note) } } }
            }
        }
        (tries(job))
        (places(job))
    }
}

fn errors(job: &JobView) -> Markup {
    html! {
        @if !job.errors.is_empty() {
            section.panel.alert {
                h2 { "What went wrong" }
                ul { @for error in &job.errors { li.said { (error) } } }
                @if job.status == "finished_with_errors" {
                    p { "Once that is put right, Retry goes on from what is done already." }
                }
            }
        }
    }
}

/// What became of the source.
fn replaced(job: &JobView) -> Markup {
    let said = job.undo.as_ref().and_then(|undo| match undo.state.as_str() {
        "kept" => Some("The result took the place of its source, which can be brought back"),
        "restored" => Some("The source was brought back."),
        "gone" => Some("The result took the place of its source, which is no more."),
        _ if job.is_over() => None,
        _ => Some("The result will take the place of its source."),
    });
    html! {
        @if let (Some(said), Some(undo)) = (said, &job.undo) {
            section #undo .panel {
                h2 { "The original" }
                p {
                    (said)
                    @if let Some(until) = &undo.until { " until " (words::moment(until)) "." }
                    @if let Some(why) = &undo.why { " " (why) "." }
                }
                @if let Some(original) = &undo.original {
                    p.path { bdi { (original.display()) } }
                }
            }
        }
    }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn numbers(job: &JobView, request: &Request) -> Markup {
    let (before, done) = (request.stamp.bytes, job.status == "finished_successful");
    let eta = words::eta(job.frames, job.frames_total, job.fps);
    let frames = (job.frames_total > 0).then(|| {
        html! { (words::count(job.frames)) " of " (words::count(job.frames_total)) }
    });
    html! {
        dl.numbers {
            (fact("Done", &html! { (words::percent(job.progress)) }))
            @if job.fps > 0.0 { (fact("Speed", &html! { (words::fps(job.fps)) })) }
            @if let Some(eta) = eta { (fact("Time left", &html! { (eta) })) }
            @if let Some(frames) = frames { (fact("Frames", &frames)) }
            (fact("Source", &html! { (words::bytes(before)) }))
            @if job.bytes > 0 {
                (fact(if done { "Result" } else { "Encoded" }, &html! { (words::bytes(job.bytes)) }))
            }
            @if let Some(saved) = words::saved(before, job.bytes).filter(|_| done) {
                (fact("Change", &html! { span.saved { (saved) } }))
            }
            @if job.tasks_total > 0 {
                (fact("Parts", &html! { (job.tasks_done) " of " (job.tasks_total) }))
            }
            @if let Some(rung) = &job.rung { (fact("Shared out as", &html! { (way(rung)) })) }
            (fact("Added", &words::moment(&job.created_at)))
            @if job.is_over() { (fact("Ended", &words::moment(&job.updated_at))) }
            @if let Some(custodian) = &job.custodian {
                (fact("Kept by", &html! { (custodian) }))
            }
            @if let Some(submitter) = &job.submitter {
                (fact("Kept for", &html! { (submitter) }))
            }
        }
    }
}

/// How a film is shared out.
fn way(rung: &str) -> &str {
    match rung {
        "pieces" => "pieces",
        "seek" => "parts of the whole file",
        "whole" => "one whole",
        "remux" => "copied, nothing to encode",
        "image" => "a picture",
        other => other,
    }
}

fn workers(job: &JobView, agents: &Agents) -> Markup {
    html! {
        @if !job.workers.is_empty() {
            section.panel {
                h2 { "Who does it" }
                div.scroll {
                    table {
                        thead { tr {
                            th scope="col" { "Agent" }
                            th scope="col" { "Now" }
                            th.number scope="col" { "Speed" }
                            th.number scope="col" { "Parts done" }
                        } }
                        tbody { @for worker in &job.workers { (worker_row(worker, agents)) } }
                    }
                }
            }
        }
    }
}

fn worker_row(worker: &WorkerView, agents: &Agents) -> Markup {
    html! {
        tr {
            th scope="row" {
                (agents.key(&worker.id)) " " (worker.name)
                @if worker.away { " " span.badge data-state="gone" { "away" } }
            }
            td {
                @if worker.now.is_empty() {
                    @if worker.holds.is_empty() { "–" } @else { "has parts in its queue" }
                } @else {
                    (worker.now.join(", "))
                }
            }
            td.number { @if worker.fps > 0.0 { (words::fps(worker.fps)) } @else { "–" } }
            td.number { (worker.segments) }
        }
    }
}

/// What was proven of the result.
fn proof_panel(proof: &Proof) -> Markup {
    let error_ms = proof.pts_error_us_max as f64 / 1_000.0;
    let told = proof.frames > 0 && !proof.is_of_a_picture();
    html! {
        section #proof .panel.good {
            h2 { @if told { "Every frame arrived" } @else { "The result was checked" } }
            ul {
                @if told {
                    li { (words::many(proof.frames, "frame", "frames"))
                        " in the result: all that the source has, and no other." }
                    li {
                        @if proof.pts_error_us_max == 0 {
                            "Each is shown at exactly its time."
                        } @else {
                            "None is shown more than " (format!("{error_ms:.3}"))
                            " ms from its time."
                        }
                    }
                }
                @if proof.pixels_equal {
                    li { "Every pixel was compared with the source, and is equal." }
                }
                li {
                    @if proof.is_of_a_picture() { "It has: " } @else { "Streams: " }
                    (proof.streams.join("; ")) "."
                }
                li { (words::bytes(proof.bytes)) ", verified whole before it got its name." }
            }
        }
    }
}

/// Tries that did not end well, and who made what.
fn tries(job: &JobView) -> Markup {
    let bad = |task: &&TaskView| {
        task.attempts.iter().any(|a| a.state == "failed" || a.state == "expired")
    };
    let troubled: Vec<&TaskView> = job.tasks.iter().filter(bad).collect();
    let fine = job.tasks.iter().filter(|task| !bad(task));
    let listed: Vec<&TaskView> = troubled.iter().copied().chain(fine).take(TASKS_LISTED).collect();
    html! {
        @if !job.tasks.is_empty() {
            details #tries .panel {
                summary {
                    "All parts and tries"
                    @if !troubled.is_empty() {
                        " (" (words::many(troubled.len() as u64, "part", "parts"))
                        " needed more than one)"
                    }
                }
                div.scroll {
                    table {
                        thead { tr {
                            th scope="col" { "Part" }
                            th scope="col" { "State" }
                            th.number scope="col" { "Frames" }
                            th.number scope="col" { "Size" }
                            th.number scope="col" { "Encoding" }
                            th scope="col" { "Tries" }
                        } }
                        tbody { @for task in &listed { (task_row(task)) } }
                    }
                }
                @if listed.len() < job.tasks.len() {
                    p.hint { (job.tasks.len() - listed.len()) " more parts went well." }
                }
            }
        }
    }
}

fn task_row(task: &TaskView) -> Markup {
    let none = || "–".to_owned();
    html! {
        tr {
            th scope="row" { (task.label) }
            td { (map::state_word(&task.state)) }
            td.number { (task.frames.map_or_else(none, words::count)) }
            td.number { (task.bytes.map_or_else(none, words::bytes)) }
            td.number { (task.encode_s.map_or_else(none, |s| format!("{s:.1} s"))) }
            td {
                @for attempt in &task.attempts {
                    div {
                        (attempt.worker_name) ": " (attempt.state)
                        @if let Some(reason) = &attempt.reason { " – " (reason) }
                    }
                }
            }
        }
    }
}

fn places(job: &JobView) -> Markup {
    html! {
        details #places .panel {
            summary { "Files" }
            dl {
                dt { "Source" } dd.path { bdi { (job.input.display()) } }
                dt { "Result" } dd.path { bdi { (job.output.display()) } }
                @if let Some(name) = &job.delivered_as {
                    dt { "In the inbox of the other agent" } dd.path { bdi { (name) } }
                }
                dt { "Job" } dd.path { (job.id) }
            }
        }
    }
}
