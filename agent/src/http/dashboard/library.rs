//! Watched folders: how far they are, what was left alone and why.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Form, Path, Query, State};
use axum::http::header::HeaderMap;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use maud::{Markup, html};
use serde::Deserialize;

use super::super::library::{self, FileView, WatchView, Which};
use super::super::problem::Problem;
use super::{CHANGED, Frame, HX_TRIGGER, View, changed, part, region, words};
use crate::library::WatchWish;
use crate::paths::AnyPath;
use crate::presets;
use crate::runtime::Shared;

type Agent = State<Arc<Shared>>;

/// Files of a page.
const PAGE: u32 = 50;
/// The lists of files, and what they are called.
const TABS: [(&str, &str); 7] = [
    ("skipped", "Skipped"),
    ("failed", "Failed"),
    ("done", "Done"),
    ("waiting", "Waiting"),
    ("converting", "Converting"),
    ("settling", "Still changing"),
    ("results", "Results"),
];

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/library", get(show))
        .route("/library/{id}", get(show_one))
        .route("/ui/library", get(list).post(add))
        .route("/ui/library/{id}", get(list_one))
        .route("/ui/library/{id}/scan", post(scan))
        .route("/ui/library/{id}/pause", post(pause))
        .route("/ui/library/{id}/resume", post(resume))
        .route("/ui/library/{id}/remove", post(remove))
}

// ---- all folders ----

async fn show(shared: Agent, frame: Frame) -> Response {
    let form = add_form(&shared);
    let main = content(shared).await.map(|content| {
        html! {
            h1 { "Library" }
            (region("library", "ui/library", &["job", "library"], &content))
            (form)
        }
    });
    frame.answer(View::Library, "Library", main)
}

async fn list(shared: Agent) -> Result<Html<String>, Problem> {
    Ok(part(content(shared).await?))
}

async fn content(shared: Agent) -> Result<Markup, Problem> {
    let Json(watches) = library::list(shared).await?;
    Ok(html! {
        @if watches.is_empty() {
            div.empty {
                p { "No folder is watched yet." }
                p { "A folder that is watched gets smaller by itself: every file that the rules take \
                     is converted once, and a file that is moved or renamed is known again. Sources \
                     stay as they are, unless results are to take their place." }
                p { "Begin with one below, or on the command line: "
                    code { "dmc watch add /films --preset hevc" } "." }
            }
        } @else {
            @for watch in &watches { (folder(watch)) }
        }
    })
}

fn folder(watch: &WatchView) -> Markup {
    let title = format!("watch-{}", watch.id);
    html! {
        section.panel aria-labelledby=(title) {
            div.job-head {
                h2 id=(title) { a href={ "library/" (watch.id) } { bdi { (watch.dir) } } }
                span.preset { (watch.presets.join(", ")) }
                (badge(watch))
            }
            (standing(watch))
            (numbers(watch))
            (buttons(watch))
        }
    }
}

fn badge(watch: &WatchView) -> Markup {
    let (word, state) = match watch.state.as_str() {
        "watching" => ("Watching", "connected"),
        "scanning" => ("Scanning", "here"),
        "looking" => ("Looking at files", "here"),
        "paused" => ("Paused", "paused"),
        _ => ("Stopped", "suspect"),
    };
    html! { span.badge data-state=(state) { (word) } }
}

/// What a person should know of a folder.
fn standing(watch: &WatchView) -> Markup {
    let place = match (&watch.mirror, watch.delivery.as_str()) {
        (Some(to), _) => format!("results go below {to}"),
        (None, "replace") => "results take the place of their sources".to_owned(),
        (None, _) => "results are put beside their sources".to_owned(),
    };
    html! {
        @if let Some(why) = &watch.why { p.why { (why) } }
        @for note in &watch.notes { p.why { (note) } }
        ul.facts {
            li { (watch.kinds.join(", ")) "; " (place) }
            @if let Some(scan) = &watch.last_scan {
                li { (words::many(scan.files, "file", "files")) " in "
                    (words::many(scan.folders, "directory", "directories")) ", scanned "
                    (words::moment(&scan.at)) }
            }
        }
    }
}

fn numbers(watch: &WatchView) -> Markup {
    let of = |state: &str| watch.files.get(state).copied().unwrap_or_default();
    let waiting = of("settling") + of("new") + of("waiting");
    html! {
        dl.numbers {
            div { dt { "Done" } dd { (words::count(watch.done())) } }
            div { dt { "Converting" } dd { (words::count(of("converting"))) } }
            div { dt { "Waiting" } dd { (words::count(waiting)) } }
            div { dt { "Skipped" } dd { (words::count(of("skipped"))) } }
            div { dt { "Failed" } dd { (words::count(of("failed"))) } }
            div {
                dt { @if watch.bytes_after <= watch.bytes_before { "Saved" } @else { "Grown by" } }
                dd { (words::bytes(watch.bytes_before.abs_diff(watch.bytes_after)))
                    @if let Some(saved) = words::saved(watch.bytes_before, watch.bytes_after) {
                        " " span.hint { "(" (saved) ")" }
                    }
                }
            }
        }
    }
}

fn buttons(watch: &WatchView) -> Markup {
    let gone = (watch.state == "stopped").then_some(
        "Go on with this folder as it is now? What is gone from it is then taken for really gone.",
    );
    html! {
        div.actions {
            (button(watch, "scan", "Scan now", None))
            @if watch.state == "paused" || watch.state == "stopped" {
                (button(watch, "resume", "Resume", gone))
            }
            @if watch.state != "paused" { (button(watch, "pause", "Pause", None)) }
            (button(watch, "remove", "Remove", Some("Watch this folder no more? Its files and results \
                stay as they are.")))
        }
    }
}

fn button(watch: &WatchView, what: &str, label: &str, ask: Option<&str>) -> Markup {
    html! {
        button.quiet type="button" id={ (what) "-" (watch.id) } hx-swap="none" hx-disabled-elt="this"
            hx-post={ "ui/library/" (watch.id) "/" (what) } hx-confirm=[ask]
            aria-label={ (label) ": " (watch.dir) } { (label) }
    }
}

// ---- a new folder ----

fn add_form(shared: &Shared) -> Markup {
    html! {
        section.add aria-labelledby="watch-title" {
            h2 #watch-title { "Watch a folder" }
            form #watch.two hx-post="ui/library" hx-target="#watched" hx-disabled-elt="#watch-button" {
                div.field {
                    label for="watch-dir" { "Folder on this agent" }
                    input #watch-dir name="dir" type="text" required spellcheck="false"
                        autocomplete="off" autocapitalize="off" placeholder="/films";
                }
                div.field {
                    label for="watch-preset" { "Preset" }
                    select #watch-preset name="preset" {
                        @for preset in presets::usable(shared.settings.presets.as_deref()) {
                            option value=(preset.name) { (preset.name) " – " (preset.description) }
                        }
                    }
                }
                div.field {
                    label for="watch-mirror" { "Results go below (empty: beside their sources)" }
                    input #watch-mirror name="mirror" type="text" spellcheck="false"
                        autocomplete="off" autocapitalize="off" placeholder="/converted";
                }
                div.field {
                    label for="watch-place" { "Sources" }
                    select #watch-place name="place" {
                        option value="keep" { "stay as they are" }
                        option value="replace" { "are replaced (`dmc undo` brings them back)" }
                    }
                }
                div.field.wide {
                    label for="watch-rules" { "Rules (TOML)" }
                    textarea #watch-rules name="rules" rows="4" spellcheck="false"
                        placeholder="min_savings_percent = 10" {}
                }
                button #watch-button type="submit" { "Watch" }
            }
            p.hint { "A preset for each kind of media, hours and all other rules: "
                code { "dmc watch add --help" } " and examples/rules.toml." }
            div #watched role="status" {}
        }
    }
}

/// A folder that is to be watched.
#[derive(Debug, Deserialize)]
struct NewWatch {
    dir: String,
    preset: String,
    mirror: String,
    place: String,
    rules: String,
}

async fn add(shared: Agent, Form(new): Form<NewWatch>) -> Result<Response, Problem> {
    let path = |text: &str| AnyPath(PathBuf::from(text));
    let wish = WatchWish {
        dir: path(new.dir.trim()),
        presets: vec![new.preset],
        kinds: Vec::new(),
        rules: Some(new.rules),
        replace: new.place == "replace",
        mirror: Some(new.mirror.trim()).filter(|text| !text.is_empty()).map(path),
    };
    let (_, Json(watch)) = library::add(shared, Json(wish)).await?;
    let mut headers = HeaderMap::new();
    headers.insert(HX_TRIGGER, axum::http::HeaderValue::from_static(CHANGED));
    let said = html! {
        p { "Watching " a href={ "library/" (watch.id) } { bdi { (watch.dir) } } "." }
    };
    Ok((headers, part(said)).into_response())
}

// ---- one folder ----

async fn show_one(
    State(shared): Agent,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    frame: Frame,
) -> Response {
    let from = format!("ui/{}", address(&id, which.state.as_deref(), which.cursor.as_deref()));
    let main = one(&shared, &id, which).map(|(title, content)| {
        let page = html! {
            p.back { a href="library" { "All folders" } }
            (region("folder", &from, &["job", "library"], &content))
        };
        (title, page)
    });
    match main {
        Ok((title, page)) => frame.answer(View::Library, &title, Ok(page)),
        Err(problem) => frame.answer(View::Library, "Library", Err(problem)),
    }
}

async fn list_one(
    State(shared): Agent,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Html<String>, Problem> {
    Ok(part(one(&shared, &id, which)?.1))
}

/// The address of a list. Its words come from a checked query or from this program.
fn address(id: &str, state: Option<&str>, cursor: Option<&str>) -> String {
    let pairs = [("state", state), ("cursor", cursor)];
    let pairs = pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    let query = pairs.collect::<Vec<_>>().join("&");
    if query.is_empty() { format!("library/{id}") } else { format!("library/{id}?{query}") }
}

fn one(shared: &Shared, id: &str, which: Which) -> Result<(String, Markup), Problem> {
    let handle = library::find(shared, id)?;
    let watch = library::view(shared, &handle)?;
    let state = which.state.clone().unwrap_or_else(|| "skipped".to_owned());
    let later = which.cursor.is_some();
    let files = library::page(shared, &handle, &Which { limit: Some(PAGE), ..which })?;
    let next = files.last().filter(|_| files.len() == PAGE as usize).map(|last| &last.cursor);
    let content = html! {
        h1 { bdi { (watch.dir) } }
        div.job-head { span.preset { (watch.presets.join(", ")) } (badge(&watch)) }
        (standing(&watch))
        (numbers(&watch))
        (buttons(&watch))
        nav.tabs aria-label="Files by where they stand" {
            ul {
                @for (word, label) in TABS {
                    li {
                        a href=(address(id, Some(word), None))
                            aria-current=[(word == state).then_some("page")] {
                            (label) " "
                            span.count {
                                (words::count(watch.files.get(word).copied().unwrap_or_default()))
                            }
                        }
                    }
                }
            }
        }
        @if files.is_empty() {
            div.empty { p { @if later { "No older files." } @else { "No file is there now." } } }
        } @else { (table(&files)) }
        nav.pages aria-label="Pages of files" {
            @if later { a href=(address(id, Some(&state), None)) { "Newest" } }
            @if let Some(next) = next { a href=(address(id, Some(&state), Some(next))) { "Older" } }
        }
        @if !watch.rules.trim().is_empty() {
            details #watch-rules-now .panel {
                summary { "Rules" }
                pre { code { (watch.rules) } }
            }
        }
    };
    Ok((words::plain_name(&watch.dir), content))
}

fn table(files: &[FileView]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr {
                    th scope="col" { "File" }
                    th.number scope="col" { "Size" }
                    th scope="col" { "Why" }
                    th scope="col" { "Since" }
                } }
                tbody {
                    @for file in files {
                        tr {
                            th scope="row" title=(file.path) {
                                @match &file.job {
                                    Some(job) => a href={ "jobs/" (job) } { (words::file_name(&file.path)) },
                                    None => (words::file_name(&file.path)),
                                }
                            }
                            td.number {
                                (words::bytes(file.bytes))
                                @if let Some(after) = file.bytes_after { " → " (words::bytes(after)) }
                            }
                            td {
                                @if let Some(rule) = &file.rule { code { (rule) } " " }
                                @if let Some(why) = &file.why { (why) }
                                @else if let Some(preset) = &file.preset { (preset) }
                            }
                            td { (words::moment(&file.since)) }
                        }
                    }
                }
            }
        }
    }
}

// ---- what buttons do ----

async fn scan(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    library::scan(shared, id).await.map(|_| changed())
}

async fn pause(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    library::pause(shared, id).await.map(|_| changed())
}

async fn resume(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    library::resume(shared, id).await.map(|_| changed())
}

async fn remove(shared: Agent, id: Path<String>) -> Result<Response, Problem> {
    library::remove(shared, id).await.map(|_| changed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library::records::State;

    #[test]
    fn every_list_is_one_of_the_states() {
        for (word, _) in TABS {
            assert!(State::WORDS.contains(&word), "{word}");
        }
    }

    #[test]
    fn addresses_keep_what_is_shown() {
        assert_eq!(address("7", None, None), "library/7");
        assert_eq!(address("7", Some("done"), Some("x")), "library/7?state=done&cursor=x");
    }
}
