//! The calls of the API about watched folders.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::problem::{Problem, Refused};
use crate::library::explain::{self, ExplainError, ExplainView};
use crate::library::records::{Delivery, File, State as FileState};
use crate::library::{self, Doing, Handle, LastScan, WatchError, WatchWish};
use crate::paths::AnyPath;
use crate::runtime::Shared;
use crate::worker::chain;

type Agent = State<Arc<Shared>>;

/// Files of a page when nothing else is asked for.
const PAGE: u32 = 50;
/// Most files of a page.
const PAGE_MAX: u32 = 1_000;

/// A watched folder.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct WatchView {
    /// Its number.
    pub id: u32,
    /// The folder.
    #[schema(value_type = String)]
    pub dir: AnyPath,
    /// The presets, one for each kind of media.
    pub presets: Vec<String>,
    /// The kinds that are taken: `video`, `audio`, `image`.
    pub kinds: Vec<String>,
    /// Where results go: `alongside`, `replace` or `mirror`.
    pub delivery: String,
    /// The directory below which results go.
    #[schema(value_type = Option<String>)]
    pub mirror: Option<AnyPath>,
    /// The rules as they were written.
    pub rules: String,
    /// `watching`, `scanning`, `looking`, `paused` (by a person) or `stopped` (by itself).
    pub state: String,
    /// Why it is stopped, or how far it is.
    pub why: Option<String>,
    /// Files by where they stand: `settling`, `new`, `waiting`, `converting`, `done`, `skipped`,
    /// `failed`, and `results` of this agent's own.
    pub files: BTreeMap<String, u64>,
    /// Files that were converted, all in all.
    pub converted: u64,
    /// Bytes of their sources.
    pub bytes_before: u64,
    /// Bytes of their results.
    pub bytes_after: u64,
    /// The last look at all of it.
    pub last_scan: Option<ScanView>,
    /// What a person should know: what cannot be read, whether the system tells of changes.
    pub notes: Vec<String>,
}

impl WatchView {
    /// Files that are done, as people count them: where results take the place of their sources, those
    /// results.
    pub fn done(&self) -> u64 {
        let of = |state: &str| self.files.get(state).copied().unwrap_or_default();
        of("done") + if self.delivery == "replace" { of("results") } else { 0 }
    }
}

/// A look at all of a folder.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ScanView {
    /// When it was done, RFC 3339.
    pub at: String,
    /// How long it took.
    pub ms: u64,
    /// Files that are there.
    pub files: u64,
    /// Directories that are there.
    pub folders: u64,
    /// Files that were not known before.
    pub new: u64,
    /// Files that had changed.
    pub changed: u64,
    /// Files that were gone.
    pub gone: u64,
}

/// A file of a watched folder.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// The file.
    #[schema(value_type = String)]
    pub path: AnyPath,
    /// Its size.
    pub bytes: u64,
    /// Where it stands.
    pub state: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// The rule that it is skipped by.
    pub rule: Option<String>,
    /// Why it is skipped, or what went wrong.
    pub why: Option<String>,
    /// The preset that it is or was converted with.
    pub preset: Option<String>,
    /// Its job.
    pub job: Option<String>,
    /// Bytes of the result.
    pub bytes_after: Option<u64>,
    /// What to ask the page behind it with.
    pub cursor: String,
}

/// Which files are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Where they stand; without it, those that are skipped.
    pub state: Option<String>,
    /// Those behind this one: the cursor of the last file of the page before.
    pub cursor: Option<String>,
    /// At most so many.
    #[param(format = Int64, maximum = 4_294_967_295_u32)]
    pub limit: Option<u32>,
}

/// A file to be explained.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Explained {
    /// Its path, absolute.
    #[param(value_type = String)]
    path: AnyPath,
}

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list, add))
        .routes(routes!(why))
        .routes(routes!(show, remove))
        .routes(routes!(files))
        .routes(routes!(scan))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

impl From<WatchError> for Problem {
    fn from(error: WatchError) -> Problem {
        let usage = !matches!(error, WatchError::Store(_) | WatchError::Hangs { .. });
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, chain(&error));
        Problem { usage, ..problem }
    }
}

impl From<ExplainError> for Problem {
    fn from(error: ExplainError) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, chain(&error))
    }
}

fn rfc3339(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map(|at| at.to_string()).unwrap_or_default()
}

pub(super) fn find(shared: &Shared, id: &str) -> Result<Arc<Handle>, Problem> {
    let found = id.parse().ok().and_then(|id| shared.library.get(id));
    let none = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "there is no watched folder of this number; `dmc watch list` shows them",
        )
    };
    found.ok_or_else(none)
}

/// A folder as it is told.
pub(super) fn view(shared: &Shared, handle: &Handle) -> Result<WatchView, Problem> {
    let (watch, book) = (handle.watch(), &shared.library.book);
    let sums = book.sums(watch.id)?;
    let (state, why) = match handle.doing() {
        Doing::Watching => ("watching", None),
        Doing::Scanning(files) => ("scanning", Some(format!("{files} files so far"))),
        Doing::Looking(files) => ("looking", Some(format!("{files} files are to be looked at"))),
        Doing::Paused => ("paused", None),
        Doing::Lost(why) | Doing::Stopped(why) => ("stopped", Some(why)),
    };
    let last = handle.last();
    let notes = last.iter().flat_map(|last| last.report.troubles.clone()).chain(handle.deaf());
    let (delivery, mirror) = match &watch.delivery {
        Delivery::Alongside => ("alongside", None),
        Delivery::Replace => ("replace", None),
        Delivery::Mirror(to) => ("mirror", Some(to.clone())),
    };
    Ok(WatchView {
        id: watch.id,
        dir: watch.dir.clone(),
        presets: watch.presets.clone(),
        kinds: watch.kinds.iter().map(ToString::to_string).collect(),
        delivery: delivery.to_owned(),
        mirror,
        rules: watch.rules.clone(),
        state: state.to_owned(),
        why,
        files: book.counts(watch.id)?,
        converted: sums.converted,
        bytes_before: sums.before,
        bytes_after: sums.after,
        notes: notes.collect(),
        last_scan: last.map(|last| scan_view(&last)),
    })
}

fn scan_view(last: &LastScan) -> ScanView {
    ScanView {
        at: rfc3339(last.at_ms),
        ms: last.took_ms,
        files: last.report.files,
        folders: last.report.dirs,
        new: last.report.new,
        changed: last.report.changed,
        gone: last.report.gone,
    }
}

fn file_view(handle: &Handle, file: &File, cursor: &[u8]) -> FileView {
    let (mut rule, mut why, mut preset, mut job, mut after) = (None, None, None, None, None);
    match &file.state {
        FileState::Settling | FileState::Fresh => {}
        FileState::Waiting { preset: of } => preset = Some(of.clone()),
        FileState::Given { job: of, preset: by } => {
            (job, preset) = (Some(of.to_string()), Some(by.clone()));
        }
        FileState::Done { job: of, preset: by, after: bytes, under, .. } => {
            job = of.map(|of| of.to_string());
            (preset, after) = (Some(by.clone()), Some(*bytes));
            why = under.as_ref().map(|path| format!("its content was converted as {path}"));
        }
        FileState::Skipped { rule: by, why: because, .. } => {
            (rule, why) = (Some(by.clone()), Some(because.clone()));
        }
        FileState::Failed { job: of, why: because } => {
            (job, why) = (of.map(|of| of.to_string()), Some(because.clone()));
        }
        FileState::Result { job: of } => job = Some(of.to_string()),
    }
    FileView {
        path: AnyPath(handle.watch().dir.join(&file.path.0)),
        bytes: file.stamp.bytes,
        state: file.state.word().to_owned(),
        since: rfc3339(file.since_ms),
        rule,
        why,
        preset,
        job,
        bytes_after: after,
        cursor: BASE64.encode(cursor),
    }
}

/// A page of files.
pub(super) fn page(
    shared: &Shared,
    handle: &Handle,
    which: &Which,
) -> Result<Vec<FileView>, Problem> {
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let word = which.state.as_deref().unwrap_or("skipped");
    let state =
        FileState::WORDS.iter().position(|of| *of == word).and_then(|at| u8::try_from(at).ok());
    let state = state.ok_or_else(|| {
        wrong(format!("there is no such state; they are {}", FileState::WORDS.join(", ")))
    })?;
    let cursor = which.cursor.as_ref().map(|text| BASE64.decode(text)).transpose();
    let cursor = cursor.map_err(|_| wrong("the cursor is none of this list".to_owned()))?;
    let limit = which.limit.unwrap_or(PAGE).min(PAGE_MAX) as usize;
    let page = shared.library.book.last(handle.id, state, cursor.as_deref(), limit)?;
    Ok(page.iter().map(|of| file_view(handle, &of.file, &of.cursor)).collect())
}

#[utoipa::path(
    operation_id = "list_watches",
    get,
    path = "/api/v1/watch",
    tag = "library",
    responses((status = 200, description = "All watched folders", body = Vec<WatchView>), Refused),
)]
pub(super) async fn list(State(shared): Agent) -> Result<Json<Vec<WatchView>>, Problem> {
    let all = shared.library.all();
    let views = all.iter().map(|handle| view(&shared, handle));
    views.collect::<Result<_, _>>().map(Json)
}

/// One that is watched already is set up anew; what is known of its files stays.
#[utoipa::path(
    operation_id = "add_watch",
    post,
    path = "/api/v1/watch",
    tag = "library",
    request_body = WatchWish,
    responses((status = 201, description = "The folder is watched", body = WatchView), Refused),
)]
pub(super) async fn add(
    State(shared): Agent,
    Json(wish): Json<WatchWish>,
) -> Result<(StatusCode, Json<WatchView>), Problem> {
    let handle = library::add(&shared, wish).await?;
    Ok((StatusCode::CREATED, Json(view(&shared, &handle)?)))
}

#[utoipa::path(
    operation_id = "show_watch",
    get,
    path = "/api/v1/watch/{id}",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number")),
    responses((status = 200, description = "The watched folder", body = WatchView), Refused),
)]
async fn show(State(shared): Agent, Path(id): Path<String>) -> Result<Json<WatchView>, Problem> {
    Ok(Json(view(&shared, &*find(&shared, &id)?)?))
}

/// Its files and results stay where they are, and jobs that were made of them go on.
#[utoipa::path(
    operation_id = "remove_watch",
    delete,
    path = "/api/v1/watch/{id}",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number")),
    responses((status = 204, description = "It is not watched any more"), Refused),
)]
pub(super) async fn remove(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let handle = find(&shared, &id)?;
    library::remove(&shared, &handle).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of files that stand somewhere, the newest there first. A page that is empty is the end.
#[utoipa::path(
    operation_id = "list_watch_files",
    get,
    path = "/api/v1/watch/{id}/files",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number"), Which),
    responses((status = 200, description = "A page of files", body = Vec<FileView>), Refused),
)]
async fn files(
    State(shared): Agent,
    Path(id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<FileView>>, Problem> {
    let handle = find(&shared, &id)?;
    Ok(Json(page(&shared, &handle, &which)?))
}

#[utoipa::path(
    operation_id = "scan_watch",
    post,
    path = "/api/v1/watch/{id}/scan",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number")),
    responses((status = 200, description = "All of it is looked at now", body = WatchView), Refused),
)]
pub(super) async fn scan(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<WatchView>, Problem> {
    let handle = find(&shared, &id)?;
    library::rescan(&handle);
    Ok(Json(view(&shared, &handle)?))
}

#[utoipa::path(
    operation_id = "pause_watch",
    post,
    path = "/api/v1/watch/{id}/pause",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number")),
    responses((status = 200, description = "Nothing new is taken from it", body = WatchView), Refused),
)]
pub(super) async fn pause(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<WatchView>, Problem> {
    let handle = find(&shared, &id)?;
    library::pause(&shared, &handle, true).await?;
    Ok(Json(view(&shared, &handle)?))
}

/// A folder that stopped because its files are gone takes them for really gone.
#[utoipa::path(
    operation_id = "resume_watch",
    post,
    path = "/api/v1/watch/{id}/resume",
    tag = "library",
    params(("id" = u32, Path, description = "The folder's number")),
    responses((status = 200, description = "It goes on", body = WatchView), Refused),
)]
pub(super) async fn resume(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<WatchView>, Problem> {
    let handle = find(&shared, &id)?;
    library::pause(&shared, &handle, false).await?;
    Ok(Json(view(&shared, &handle)?))
}

/// What each rule of its folder says of a file, and why.
#[utoipa::path(
    operation_id = "explain_file",
    get,
    path = "/api/v1/watch/explain",
    tag = "library",
    params(Explained),
    responses((status = 200, description = "Why it is converted or not", body = ExplainView), Refused),
)]
async fn why(
    State(shared): Agent,
    Query(file): Query<Explained>,
) -> Result<Json<ExplainView>, Problem> {
    Ok(Json(explain::explain(&shared, &file.path).await?))
}
