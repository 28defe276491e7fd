//! All jobs, a page at a time; and how a new one is added.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Form, Path, Query, State};
use axum::http::header::HeaderMap;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dmc_protocol::id::JobId;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::problem::Problem;
use super::super::urgency::{self, Urgency};
use super::super::views::JobView;
use super::super::{api, gather, undo};
use super::{CHANGED, Frame, HX_TRIGGER, View, changed, part, region, words};
use crate::http::page::Page;
use crate::intake::Wish;
use crate::jobs::{Priority, Status};
use crate::presets;
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// The tabs: their words and the status that they show.
const TABS: [(&str, Option<Status>); 6] = [
    ("All", None),
    ("Waiting", Some(Status::ToDo)),
    ("Running", Some(Status::InProgress)),
    ("Done", Some(Status::FinishedSuccessful)),
    ("Failed", Some(Status::FinishedWithErrors)),
    ("Cancelled", Some(Status::Cancelled)),
];

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/jobs", get(show))
        .route("/ui/jobs", get(list).post(add))
        .route("/ui/jobs/{id}/cancel", post(cancel))
        .route("/ui/jobs/{id}/priority", post(set_priority))
        .route("/ui/jobs/{id}/retry", post(retry))
        .route("/ui/jobs/{id}/take-back", post(take_back))
        .route("/ui/jobs/{id}/remove", post(remove))
        .route("/ui/jobs/{id}/undo", post(undo_job))
}

/// Which jobs are shown.
#[derive(Debug, Clone, Default, Deserialize)]
struct Which {
    /// Those of one status.
    status: Option<String>,
    /// Those before this one: the last of the page before.
    cursor: Option<String>,
}

impl Which {
    /// The same of another place, as a relative address.
    fn at(&self, place: &str) -> String {
        address(place, self.status.as_deref(), self.cursor.as_deref())
    }
}

/// An address with a query. The words come from a checked query or from this program.
fn address(place: &str, status: Option<&str>, cursor: Option<&str>) -> String {
    let pairs = [("status", status), ("cursor", cursor)];
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    let query = pairs.collect::<Vec<_>>().join("&");
    if query.is_empty() { place.to_owned() } else { format!("{place}?{query}") }
}

async fn show(State(shared): Agent, frame: Frame, Query(which): Query<Which>) -> Response {
    let main = content(&shared, &which).await.map(|content| {
        html! {
            h1 { "Jobs" }
            (add_forms(&shared))
            (region("jobs", &which.at("ui/jobs"), &["job", "progress"], &content))
        }
    });
    frame.answer(View::Jobs, "Jobs", main)
}

async fn list(State(shared): Agent, Query(which): Query<Which>) -> Result<Html<String>, Problem> {
    Ok(part(content(&shared, &which).await?))
}

async fn content(shared: &Arc<Shared>, which: &Which) -> Result<Markup, Problem> {
    let Page { status, before, limit } =
        Page::of(which.status.clone(), which.cursor.clone(), None)?;
    let counts = shared.jobs.counts()?;
    let requests = shared.jobs.page(status, before, limit)?;
    let sizes: Vec<u64> = requests.iter().map(|request| request.stamp.bytes).collect();
    let next = requests.last().filter(|_| requests.len() == limit).map(|last| last.id.to_string());
    let jobs = gather::jobs(shared, requests).await.ok_or_else(api::stopping)?;
    let running = counts.get(&Status::InProgress).copied().unwrap_or_default();
    Ok(html! {
        (tabs(&counts.into_iter().collect::<Vec<_>>(), status))
        span hidden data-live={ (words::many(running, "job", "jobs")) " running" } {}
        @if jobs.is_empty() {
            (nothing(status, before))
        } @else {
            ul.jobs {
                @for (job, bytes) in jobs.iter().zip(sizes) { (row(job, bytes)) }
            }
        }
        nav.pages aria-label="Pages of jobs" {
            @if before.is_some() {
                a href=(address("jobs", which.status.as_deref(), None)) { "Newest" }
            }
            @if let Some(next) = next {
                a href=(address("jobs", which.status.as_deref(), Some(&next))) { "Older" }
            }
        }
    })
}

fn tabs(counts: &[(Status, u64)], chosen: Option<Status>) -> Markup {
    let count_of = |status: Option<Status>| -> u64 {
        let fits = |of: &&(Status, u64)| status.is_none_or(|status| of.0 == status);
        counts.iter().filter(fits).map(|(_, count)| count).sum()
    };
    html! {
        nav.tabs aria-label="Jobs by status" {
            ul {
                @for (label, status) in TABS {
                    li {
                        a href=(address("jobs", status.map(Status::word), None))
                            aria-current=[(status == chosen).then_some("page")] {
                            (label) " " span.count { (words::count(count_of(status))) }
                        }
                    }
                }
            }
        }
    }
}

fn nothing(status: Option<Status>, before: Option<JobId>) -> Markup {
    html! {
        div.empty {
            @if before.is_some() {
                p { "No older jobs." }
            } @else if status.is_some() {
                p { "No job has this status now." }
            } @else {
                p { "No jobs yet." }
                p { "Write the path of a film, a sound or a picture above, or drop a file there. On \
                     the command line: " code { "dmc convert film.mkv --preset av1" } "." }
            }
        }
    }
}

fn row(job: &JobView, source_bytes: u64) -> Markup {
    html! {
        li.job data-status=(job.status) {
            div.job-head {
                a.job-name href={ "jobs/" (job.id) } { (words::file_name(&job.input)) }
                span.preset { (job.preset) }
                (priority_mark(job))
                (badge(job))
            }
            @if !job.is_over() { (bar(job)) }
            @if let Some(waiting) = &job.waiting { p.why { (waiting) } }
            @if let Some(error) = job.errors.first() { p.why.bad { (error) } }
            div.job-foot {
                ul.facts {
                    @if !job.is_over() { li { (words::percent(job.progress)) } }
                    @if job.fps > 0.0 { li { (words::fps(job.fps)) } }
                    @if let Some(left) = words::eta(job.frames, job.frames_total, job.fps) {
                        li { (left) " left" }
                    }
                    li { (sizes(job, source_bytes)) }
                    li { (words::moment(&job.created_at)) }
                }
                @if !job.is_over() { (first_button(job)) }
                (actions(job))
            }
        }
    }
}

/// The status as a mark.
pub(super) fn badge(job: &JobView) -> Markup {
    html! { span.badge data-status=(job.status) data-phase=(job.phase) { (words::status(job)) } }
}

/// How urgent a job is, where that is not as usual.
pub(super) fn priority_mark(job: &JobView) -> Markup {
    html! {
        @if job.priority != Priority::NORMAL {
            span.badge.priority { "priority " (job.priority) }
        }
    }
}

/// Buttons that make a job go before or after others; the one that it has is pressed.
pub(super) fn priorities(job: &JobView) -> Markup {
    html! {
        div.choice role="group" aria-label="Priority" {
            @for word in ["low", "normal", "high"] {
                button.quiet type="button" id={ "priority-" (word) } hx-swap="none"
                    hx-post={ "ui/jobs/" (job.id) "/priority" } hx-disabled-elt="this"
                    name="priority" value=(word)
                    aria-pressed=(if job.priority.to_string() == word { "true" } else { "false" }) {
                    (word)
                }
            }
        }
    }
}

/// How far a job is.
pub(super) fn bar(job: &JobView) -> Markup {
    let label = format!("Progress of {}", words::plain_name(&job.input));
    html! {
        progress max="1" value=(format!("{:.4}", job.progress)) aria-label=(label) {
            (words::percent(job.progress))
        }
    }
}

/// The size before and after.
fn sizes(job: &JobView, source_bytes: u64) -> Markup {
    let done = job.status == "finished_successful";
    html! {
        (words::bytes(source_bytes))
        @if done {
            " → " (words::bytes(job.bytes))
            @if let Some(saved) = words::saved(source_bytes, job.bytes) {
                " (" span.saved { (saved) } ")"
            }
        }
    }
}

/// What can be done with a job.
pub(super) fn actions(job: &JobView) -> Markup {
    let done = job.status == "finished_successful";
    let away = ["handing_over", "handed_over", "returning"].contains(&job.phase.as_str());
    html! {
        div.actions {
            @if done {
                a.button href={ "api/v1/jobs/" (job.id) "/file" } download=(result_name(job)) {
                    "Download"
                }
            }
            @if !job.is_over() && away { (button(job, "take-back", "Take back", None)) }
            @if !job.is_over() {
                (button(job, "cancel", "Cancel", Some("Cancel this job?")))
            } @else if !done {
                (button(job, "retry", "Retry", None))
            }
            @if job.undo.as_ref().is_some_and(|undo| undo.state == "kept") {
                (button(job, "undo", "Undo", Some("Bring the original back? The result is \
                    removed.")))
            }
            @if job.is_over() {
                (button(job, "remove", "Remove", Some("Forget this job? The result stays, but for \
                    a file that was sent here: that goes, and its result with it.")))
            }
        }
    }
}

fn button(job: &JobView, what: &str, label: &str, ask: Option<&str>) -> Markup {
    let name = words::plain_name(&job.input);
    html! {
        button.quiet type="button" id={ (what) "-" (job.id) } hx-swap="none" hx-disabled-elt="this"
            hx-post={ "ui/jobs/" (job.id) "/" (what) } hx-confirm=[ask]
            aria-label={ (label) " " (name) } { (label) }
    }
}

/// One press puts a job before all that are as usual, and back.
fn first_button(job: &JobView) -> Markup {
    let urgent = job.priority > Priority::NORMAL;
    let (label, word) = if urgent { ("Not first", "normal") } else { ("Do first", "high") };
    let name = words::plain_name(&job.input);
    html! {
        button.quiet type="button" id={ "first-" (job.id) } hx-swap="none" hx-disabled-elt="this"
            hx-post={ "ui/jobs/" (job.id) "/priority" } name="priority" value=(word)
            aria-label={ (label) " " (name) } { (label) }
    }
}

fn result_name(job: &JobView) -> String {
    words::plain_name(&job.output)
}

// ---- a new job ----

fn add_forms(shared: &Shared) -> Markup {
    let name = shared.info.lock().unwrap_or_else(std::sync::PoisonError::into_inner).name.clone();
    html! {
        section.add aria-labelledby="add-title" {
            h2 #add-title { "Add a job" }
            form #add hx-post="ui/jobs" hx-target="#added" hx-disabled-elt="#add-button" {
                div.field {
                    label for="add-path" { "File on " (name) }
                    input #add-path name="path" type="text" required spellcheck="false"
                        autocomplete="off" autocapitalize="off" placeholder="/films/film.mkv";
                }
                div.field {
                    label for="add-preset" { "Preset" }
                    select #add-preset name="preset" {
                        @for preset in presets::usable(shared.settings.presets.as_deref()) {
                            option value=(preset.name) {
                                (preset.name) " – " (preset.description)
                            }
                        }
                    }
                }
                div.field {
                    label for="add-priority" { "Priority" }
                    select #add-priority name="priority" {
                        option value="high" { "high" }
                        option value="normal" selected { "normal" }
                        option value="low" { "low" }
                    }
                }
                button #add-button type="submit" { "Add" }
            }
            // dmc.js sends the file.
            form #upload {
                div.drop {
                    label for="upload-file" { "Or send a file from this computer" }
                    input #upload-file type="file" multiple;
                    p.hint { "Files may be dropped here, too. The result can be downloaded from \
                              the job's page." }
                }
                progress #upload-progress max="1" value="0" hidden aria-label="Sent" {}
            }
            div #added role="status" {}
        }
    }
}

/// A file on this agent that is to be converted.
#[derive(Debug, Deserialize)]
struct NewJob {
    /// Its path, absolute.
    path: String,
    /// Name of the preset.
    preset: String,
    /// Which jobs go first.
    #[serde(default)]
    priority: Priority,
}

async fn add(State(shared): Agent, Form(new): Form<NewJob>) -> Result<Response, Problem> {
    let input = PathBuf::from(new.path);
    if !input.is_absolute() {
        let why = "write the whole path of the file on this agent, as in /films/film.mkv";
        return Err(Problem::usage(why));
    }
    let wish = Wish { priority: new.priority, ..Wish::plain(input, new.preset) };
    let (_, Json(job)) = api::add_job(State(shared), Json(wish)).await?;
    let mut headers = HeaderMap::new();
    headers.insert(HX_TRIGGER, axum::http::HeaderValue::from_static(CHANGED));
    let said = html! {
        p { "Added " a href={ "jobs/" (job.id) } { (words::file_name(&job.input)) } "." }
    };
    Ok((headers, part(said)).into_response())
}

// ---- what buttons do ----

async fn cancel(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    api::cancel_job(shared, id).await.map(|_| changed())
}

async fn retry(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    api::retry_job(shared, id).await.map(|_| changed())
}

async fn set_priority(
    shared: Agent,
    id: Path<String>,
    Form(urgency): Form<Urgency>,
) -> Result<Response, Problem> {
    urgency::set(shared, id, Json(urgency)).await.map(|_| changed())
}

async fn take_back(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    api::take_back_job(shared, id).await.map(|_| changed())
}

async fn undo_job(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    undo::undo_job(shared, id, None).await.map(|_| changed())
}

async fn remove(State(shared): Agent, Path(id): Path<String>) -> Result<Response, Problem> {
    api::take_away(&shared, &id).await.map(|()| changed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_is_shown() {
        let which = |status: Option<&str>, cursor: Option<&str>| Which {
            status: status.map(str::to_owned),
            cursor: cursor.map(str::to_owned),
        };
        assert_eq!(which(None, None).at("jobs"), "jobs");
        assert_eq!(which(Some("to_do"), None).at("jobs"), "jobs?status=to_do");
        assert_eq!(which(Some("to_do"), Some("x")).at("ui/jobs"), "ui/jobs?status=to_do&cursor=x");
    }
}
