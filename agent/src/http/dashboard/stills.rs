//! Pictures of the source and of the result, side by side.

use std::collections::VecDeque;
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::super::api;
use super::super::problem::Problem;
use super::super::views::JobView;
use super::{part, words};
use crate::jobs::{Request, Stamp};
use crate::media::run::Tools;
use crate::media::{MediaError, still};
use crate::paths::AnyPath;
use crate::runtime::Shared;
use crate::worker::chain;

type Agent = State<Arc<Shared>>;
type Maker = Extension<Arc<Studio>>;

/// Stills that are kept.
const KEPT: usize = 32;
/// The moments that have a button, in per cent of the film.
const MOMENTS: [u8; 3] = [10, 50, 90];

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ui/jobs/{id}/stills", get(show))
        .route("/ui/jobs/{id}/still/{side}", get(serve))
}

/// A file as it was, and the moment in milliseconds.
type Key = (AnyPath, Stamp, u64);

/// Makes stills one at a time, and keeps the last ones.
pub(super) struct Studio {
    turn: Semaphore,
    kept: Mutex<VecDeque<(Key, Bytes)>>,
}

impl Default for Studio {
    fn default() -> Studio {
        Studio { turn: Semaphore::new(1), kept: Mutex::default() }
    }
}

impl Studio {
    fn find(&self, key: &Key) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(known, _)| known == key).map(|(_, jpeg)| jpeg.clone())
    }

    fn keep(&self, key: Key, jpeg: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((key, jpeg));
        while kept.len() > KEPT {
            kept.pop_front();
        }
    }

    async fn jpeg(&self, shared: &Shared, path: &FilePath, at_s: f64) -> Result<Bytes, Problem> {
        let gone = |_| no_still(format!("{} is not there any more", path.display()));
        let stamp = Stamp::of(path).map_err(gone)?;
        let key = (AnyPath::from(path), stamp, (at_s * 1_000.0) as u64);
        if let Some(jpeg) = self.find(&key) {
            return Ok(jpeg);
        }
        let _turn = self.turn.acquire().await.map_err(|_| api::stopping())?;
        // Somebody else may have waited for the same one.
        if let Some(jpeg) = self.find(&key) {
            return Ok(jpeg);
        }
        let made = still::jpeg(tools(shared)?, path, at_s, &shared.stop).await;
        let jpeg = Bytes::from(made.map_err(|e| no_still(chain(&e)))?);
        if jpeg.is_empty() {
            return Err(no_still("the film has no picture at that moment"));
        }
        self.keep(key, jpeg.clone());
        Ok(jpeg)
    }
}

fn no_still(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, why)
}

fn tools(shared: &Shared) -> Result<&Tools, Problem> {
    let none = MediaError::NoTool { program: "ffmpeg" };
    shared.tools.as_ref().ok_or_else(|| no_still(chain(&none)))
}

/// The place of the stills in a page; they come when it is there.
pub(super) fn region(job: &JobView) -> Markup {
    html! {
        section #stills .panel aria-labelledby="stills-title" {
            h2 #stills-title { "Before and after" }
            div #stills-content hx-get={ "ui/jobs/" (job.id) "/stills" } hx-trigger="load" {
                p.hint { "Looking at the files…" }
            }
        }
    }
}

/// A job and its files on this machine: of one that is kept for another agent, the job tells the
/// name that its source has there.
pub(super) async fn read(shared: &Arc<Shared>, id: &str) -> Result<(JobView, Request), Problem> {
    let job = api::one(shared, id).await?;
    let files = shared.jobs.request(api::read_id(id)?)?;
    Ok((job, files.ok_or_else(|| Problem::no_job(id))?))
}

/// Which moment is shown.
#[derive(Debug, Deserialize)]
struct Moment {
    /// In per cent of the film.
    #[serde(default = "middle")]
    part: u8,
}

fn middle() -> u8 {
    50
}

async fn show(
    State(shared): Agent,
    Extension(studio): Maker,
    Path(id): Path<String>,
    Query(moment): Query<Moment>,
) -> Result<Html<String>, Problem> {
    let (job, files) = read(&shared, &id).await?;
    let seen = {
        let _turn = studio.turn.acquire().await.map_err(|_| api::stopping())?;
        still::look(tools(&shared)?, &files.input, &shared.stop).await
    };
    let content = match seen {
        Err(_) if !files.input.exists() => {
            said("The source is not at its place any more, so there is nothing to compare with.")
        }
        Err(e) => said(&chain(&e)),
        Ok(seen) if !seen.pictures => said("This file has no pictures."),
        Ok(seen) => {
            let part = moment.part.min(100);
            let at_s = seen.seconds.unwrap_or(0.0) * f64::from(part) / 100.0;
            pair(&job, at_s, seen.seconds.map(|_| part))
        }
    };
    Ok(part(content))
}

fn said(text: &str) -> Markup {
    html! { p.hint { (text) } }
}

fn pair(job: &JobView, at_s: f64, chosen: Option<u8>) -> Markup {
    let place = |side: &str| format!("ui/jobs/{}/still/{side}?at={at_s:.3}", job.id);
    let time = words::duration(at_s as u64);
    let (done, here) = (job.status == "finished_successful", job.output.exists());
    html! {
        div.pair {
            figure {
                img src=(place("before")) alt={ "The source at " (time) } loading="lazy";
                figcaption { "Before" }
            }
            figure {
                @if done && here {
                    img src=(place("after")) alt={ "The result at " (time) } loading="lazy";
                } @else if job.is_over() {
                    p.empty { @if done {
                        "The result is not at its place on this machine."
                    } @else {
                        "There is no result."
                    } }
                } @else {
                    // It looks again until the result is there.
                    p.empty hx-get={ "ui/jobs/" (job.id) "/stills" } hx-target="#stills-content"
                        hx-trigger="sse:job throttle:2s, sse:reset" {
                        "The result is shown here when the job is done."
                    }
                }
                figcaption { "After" }
            }
        }
        @if let Some(chosen) = chosen { (moments(job, chosen, &time)) }
    }
}

fn moments(job: &JobView, chosen: u8, time: &str) -> Markup {
    let place = format!("ui/jobs/{}/stills", job.id);
    html! {
        div.moments {
            label for="still-part" { "Moment: " (time) }
            input #still-part type="range" name="part" min="0" max="99" value=(chosen.min(99))
                hx-get=(place) hx-trigger="change" hx-target="#stills-content";
            @for moment in MOMENTS {
                button.quiet type="button" id={ "still-" (moment) } hx-target="#stills-content"
                    hx-get={ (place) "?part=" (moment) } aria-pressed=(moment == chosen) {
                    (moment) " %"
                }
            }
        }
    }
}

/// A moment in seconds.
#[derive(Debug, Deserialize)]
struct At {
    at: f64,
}

async fn serve(
    State(shared): Agent,
    Extension(studio): Maker,
    Path((id, side)): Path<(String, String)>,
    Query(At { at }): Query<At>,
) -> Result<Response, Problem> {
    let (job, files) = read(&shared, &id).await?;
    let path = match side.as_str() {
        "before" => &files.input,
        // Until it is published, a file of that name is somebody else's.
        "after" if job.status == "finished_successful" => &files.output,
        "after" => return Err(no_still("the job has no result yet")),
        _ => return Err(no_still("there is a still before and one after")),
    };
    if !at.is_finite() || at < 0.0 {
        return Err(Problem::usage("at is a moment in seconds"));
    }
    let jpeg = studio.jpeg(&shared, path, at).await?;
    // A file may change, but not while somebody compares.
    let headers = [(CONTENT_TYPE, "image/jpeg"), (CACHE_CONTROL, "private, max-age=60")];
    Ok((headers, jpeg).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_stills_are_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of(file.path()).unwrap();
        let key = |ms: u64| (AnyPath::from(file.path()), stamp, ms);
        let studio = Studio::default();
        for ms in 0..=KEPT as u64 {
            studio.keep(key(ms), Bytes::from_static(b"jpeg"));
        }
        assert!(studio.find(&key(0)).is_none() && studio.find(&key(1)).is_some());
    }
}
