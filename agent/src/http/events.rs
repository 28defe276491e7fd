//! Live events (server-sent events, WHATWG HTML §9.2): what changed, as it changes.
//!
//! Each event has an id; who comes back with the last one that it saw (`Last-Event-ID`) gets what
//! it missed, or is told by `reset` to look at everything again. While nobody watches, nothing is
//! gathered.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use dmc_protocol::id::JobId;
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::gather;
use super::problem::{Problem, Refused};
use crate::jobs::{Request, Status};
use crate::news::Changed;
use crate::runtime::Shared;

/// Events that one who comes back can still get.
const KEPT: usize = 2_048;
/// Those who watch at the same time.
const WATCHERS_MAX: usize = 256;
/// Changes within this time are told together.
const GATHER: Duration = Duration::from_millis(200);
/// How often running conversions are told.
const PROGRESS: Duration = Duration::from_secs(1);
/// Who lost the connection comes back within this time, and has missed nothing.
const RETURN: Duration = Duration::from_secs(60);
/// A line without meaning keeps proxies from closing what seems dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Changed jobs that are told one by one.
const JOBS_MAX: usize = 100;
/// Running conversions that are told each second.
const RUNNING_MAX: usize = 64;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// One event as it is sent.
#[derive(Clone)]
struct Told {
    number: u64,
    kind: &'static str,
    data: Arc<str>,
}

/// The newest events and those who watch them.
pub(super) struct Events {
    /// Sets the numbers of this run apart from those of earlier ones.
    run: u32,
    kept: Mutex<VecDeque<Told>>,
    /// The number of the newest event.
    newest: watch::Sender<u64>,
    watchers: AtomicUsize,
}

/// One who watches; counted as long as it lives.
struct Watcher(Arc<Events>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Events {
    pub(super) fn new() -> Events {
        Events {
            run: rand::random(),
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
            watchers: AtomicUsize::new(0),
        }
    }

    fn tell(&self, kind: &'static str, data: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.newest.borrow() + 1;
        kept.push_back(Told { number, kind, data: data.into() });
        if kept.len() > KEPT {
            kept.pop_front();
        }
        self.newest.send_replace(number);
    }

    /// Something happened that nobody was told: who comes back must look at everything again.
    fn skip(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        self.newest.send_modify(|newest| *newest += 1);
    }

    fn watch(self: &Arc<Self>) -> Option<Watcher> {
        let before = self.watchers.fetch_add(1, Ordering::Relaxed);
        let watcher = Watcher(Arc::clone(self));
        (before < WATCHERS_MAX).then_some(watcher)
    }

    fn id(&self, number: u64) -> String {
        format!("{:08x}-{number}", self.run)
    }

    /// The number of an event that this run told.
    fn number(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        let number = number.parse().ok()?;
        let ours = u32::from_str_radix(run, 16) == Ok(self.run) && number <= *self.newest.borrow();
        ours.then_some(number)
    }

    /// The events after this one; `None` when some of them are not known any more.
    fn after(&self, number: u64) -> Option<Vec<Told>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = *self.newest.borrow();
        let first = kept.front().map_or(newest + 1, |told| told.number);
        let missed = number + 1 < first;
        (!missed).then(|| kept.iter().filter(|told| told.number > number).cloned().collect())
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(events))
}

#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    params(("Last-Event-ID" = Option<String>, Header, description = "Go on after this event")),
    responses((status = 200, description = "Events: `job`, `progress`, `mesh`, `library`, `reset`", content_type = "text/event-stream"), Refused),
)]
async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(events): Extension<Arc<Events>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(watcher) = events.watch() else {
        let why = format!("{WATCHERS_MAX} clients watch the events already; close some");
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let last = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    // One that saw another run saw nothing of this one.
    let seen = match last {
        Some(id) => events.number(id),
        None => Some(*events.newest.borrow()),
    };
    let sse = Sse::new(stream_of(watcher, seen, shared.stop.clone()))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let mut response = sse.into_response();
    // nginx holds answers back unless it is told not to.
    let buffering = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(buffering, HeaderValue::from_static("no"));
    Ok(response)
}

/// What a client gets: a greeting, so that it knows at once that it watches, and then the events.
fn stream_of(
    watcher: Watcher,
    seen: Option<u64>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let events = Arc::clone(&watcher.0);
    let greeting = Event::default().comment("dmc").retry(Duration::from_secs(2));
    let mut waiting = VecDeque::from([greeting]);
    let mut number = seen.unwrap_or_else(|| {
        let newest = *events.newest.borrow();
        waiting.push_back(reset(&events, newest));
        newest
    });
    let mut newest = events.newest.subscribe();
    let next = async move || -> Option<Event> {
        loop {
            if let Some(event) = waiting.pop_front() {
                return Some(event);
            }
            let told = newest.borrow_and_update().to_owned();
            match watcher.0.after(number) {
                None => {
                    waiting.push_back(reset(&watcher.0, told));
                    number = told;
                }
                Some(all) => {
                    number = all.last().map_or(number, |told| told.number);
                    waiting.extend(all.iter().map(|told| event(&watcher.0, told)));
                }
            }
            if waiting.is_empty() {
                tokio::select! {
                    changed = newest.changed() => changed.ok()?,
                    () = stop.cancelled() => return None,
                }
            }
        }
    };
    stream::unfold(next, async |mut next| next().await.map(|event| (Ok(event), next)))
}

fn event(events: &Events, told: &Told) -> Event {
    Event::default().id(events.id(told.number)).event(told.kind).data(&*told.data)
}

fn reset(events: &Events, number: u64) -> Event {
    Event::default().id(events.id(number)).event("reset").data("{}")
}

/// Tells what changes until the agent stops.
pub(super) async fn pump(shared: Arc<Shared>, events: Arc<Events>) {
    let mut progress = tokio::time::interval(PROGRESS);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut watched, mut last) = (Instant::now(), String::new());
    loop {
        let changed = tokio::select! {
            () = shared.news.wait() => true,
            _ = progress.tick() => false,
            () = shared.stop.cancelled() => return,
        };
        if events.watchers.load(Ordering::Relaxed) > 0 {
            watched = Instant::now();
        }
        let is_watched = watched.elapsed() < RETURN;
        if changed {
            // What changes together is told together.
            tokio::time::sleep(GATHER).await;
            let changed = shared.news.take();
            if is_watched { tell(&shared, &events, changed).await } else { events.skip() }
        } else if is_watched
            && let Some(running) = running(&shared).await
            && running != last
        {
            events.tell("progress", running.clone());
            last = running;
        }
    }
}

async fn tell(shared: &Arc<Shared>, events: &Events, changed: Changed) {
    if changed.many || changed.jobs.len() > JOBS_MAX {
        events.skip();
    } else {
        for (id, now) in look(shared, changed.jobs.into_iter().collect()).await {
            events
                .tell("job", now.unwrap_or_else(|| json!({ "id": id, "gone": true }).to_string()));
        }
    }
    if changed.mesh {
        events.tell("mesh", "{}".to_owned());
    }
    if changed.library {
        events.tell("library", "{}".to_owned());
    }
}

/// The jobs as they are now, as JSON; `None` where one is gone.
async fn look(shared: &Arc<Shared>, ids: Vec<JobId>) -> Vec<(String, Option<String>)> {
    let requests: Vec<Request> =
        ids.iter().filter_map(|id| shared.jobs.request(*id).ok().flatten()).collect();
    let views = gather::jobs(shared, requests).await.unwrap_or_default();
    let text = |id: &str| {
        let view = views.iter().find(|view| view.id == id)?;
        serde_json::to_string(view).ok()
    };
    ids.iter().map(ToString::to_string).map(|id| (id.clone(), text(&id))).collect()
}

/// The conversions that are under way, as JSON; `None` without any.
async fn running(shared: &Arc<Shared>) -> Option<String> {
    let mut requests = shared.jobs.open_requests();
    requests.retain(|request| request.status == Status::InProgress);
    requests.truncate(RUNNING_MAX);
    if requests.is_empty() {
        return None;
    }
    let jobs = gather::jobs(shared, requests).await?;
    let jobs: Vec<_> = jobs
        .iter()
        .map(|job| {
            json!({ "id": job.id, "phase": job.phase, "progress": job.progress, "fps": job.fps })
        })
        .collect();
    Some(json!({ "jobs": jobs }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(events: &Events, after: u64) -> Option<Vec<u64>> {
        Some(events.after(after)?.iter().map(|told| told.number).collect())
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_or_is_told_to_look_again() {
        let events = Events::new();
        (0..3).for_each(|_| events.tell("mesh", String::new()));
        assert_eq!(numbers(&events, 1), Some(vec![2, 3]));
        assert_eq!(numbers(&events, 3), Some(vec![]));
        assert_eq!(events.number(&events.id(2)), Some(2));
        assert_eq!(events.number(&events.id(4)), None, "not told yet");
        assert_eq!(events.number("00000000-1").filter(|_| events.run != 0), None, "another run");
        assert_eq!(events.number("x"), None);
        events.skip();
        assert_eq!(numbers(&events, 3), None, "something was not told");
        assert_eq!(numbers(&events, 4), Some(vec![]));
        (0..KEPT + 5).for_each(|_| events.tell("mesh", String::new()));
        assert_eq!(numbers(&events, 4), None, "too old");
    }
}
