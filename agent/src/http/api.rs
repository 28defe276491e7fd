//! Routes of the local API.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::{Extension, Json, Router};
use dmc_protocol::id::JobId;
use dmc_protocol::mesh::Input;
use mime::APPLICATION_OCTET_STREAM as OCTETS;
use serde::Deserialize;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::description;
use super::gather;
use super::guard::{self, Guard};
use super::page::Page;
use super::problem::{self, Problem, Refused};
use super::statistics;
use super::views::{JobView, PeerView, StatusView};
use crate::intake::{self, Wish};
use crate::jobs::Status;
use crate::runtime::Shared;
use crate::source;

type Agent = State<Arc<Shared>>;

/// All calls, each with its description.
fn described() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(description::begin())
        .routes(routes!(status))
        .routes(routes!(peers))
        .routes(routes!(list_jobs, add_job))
        .routes(routes!(show_job, remove_job))
        .routes(routes!(cancel_job))
        .routes(routes!(retry_job))
        .routes(routes!(take_back_job))
        .routes(routes!(job_file))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .merge(super::items::routes())
        .merge(super::mesh::routes())
        .merge(super::events::routes())
        .merge(super::metrics::routes())
        .merge(super::statistics::routes())
        .merge(super::tokens::routes())
        .merge(super::undo::routes())
}

pub(super) fn routes(shared: Arc<Shared>, guard: Guard) -> Router {
    let (calls, description) = described().split_for_parts();
    calls
        .merge(description::routes(&description))
        .merge(super::tokens::pages())
        .merge(super::dashboard::routes(Arc::new(description)))
        .layer(Extension(Arc::new(statistics::Cache::default())))
        // The guard bounds bodies, and what is sent as a file is bounded by its own quota: the
        // library's limit of 2 MB would be in the way.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::new(guard), guard::admit))
        .layer(middleware::map_response(problem::explain))
        .with_state(shared)
}

pub(super) fn stopping() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping")
}

#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "agent",
    responses((status = 200, description = "This agent", body = StatusView), Refused),
)]
async fn status(State(shared): Agent) -> Result<Json<StatusView>, Problem> {
    Ok(Json(gather::status(&shared).await.ok_or_else(stopping)?))
}

#[utoipa::path(
    get,
    path = "/api/v1/peers",
    tag = "agent",
    responses((status = 200, description = "The agents that it knows", body = Vec<PeerView>), Refused),
)]
async fn peers(State(shared): Agent) -> Result<Json<Vec<PeerView>>, Problem> {
    Ok(Json(gather::peers(&shared).await.ok_or_else(stopping)?))
}

/// Which jobs are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those of one status.
    #[param(inline, value_type = Option<Status>)]
    status: Option<String>,
    /// Those before this one: the last id of the page before.
    #[param(format = "uuid")]
    cursor: Option<String>,
    /// At most so many.
    #[param(format = Int64, maximum = 4_294_967_295_u32)]
    limit: Option<u32>,
    /// Those whose id begins or ends so; nothing else counts then.
    id: Option<String>,
}

/// A page of jobs, the newest first. A page that is empty is the end.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    params(Which),
    responses((status = 200, description = "A page of jobs, the newest first", body = Vec<JobView>), Refused),
)]
async fn list_jobs(
    State(shared): Agent,
    Query(which): Query<Which>,
) -> Result<Json<Vec<JobView>>, Problem> {
    let Page { status, before, limit } = Page::of(which.status, which.cursor, which.limit)?;
    let page = match which.id {
        Some(part) => shared.jobs.find(&part, limit).and_then(|ids| {
            let requests = ids.into_iter().map(|id| shared.jobs.request(id));
            requests.filter_map(Result::transpose).collect()
        }),
        None => shared.jobs.page(status, before, limit),
    };
    Ok(Json(gather::jobs(&shared, page?).await.ok_or_else(stopping)?))
}

pub(super) fn read_id(text: &str) -> Result<JobId, Problem> {
    text.parse().map_err(|_| Problem::no_job(text))
}

pub(super) async fn one(shared: &Arc<Shared>, id: &str) -> Result<JobView, Problem> {
    let view = gather::job(shared, read_id(id)?).await;
    view.ok_or_else(|| if shared.stop.is_cancelled() { stopping() } else { Problem::no_job(id) })
}

#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 200, description = "The job with its tasks", body = JobView), Refused),
)]
async fn show_job(State(shared): Agent, Path(id): Path<String>) -> Result<Json<JobView>, Problem> {
    Ok(Json(one(&shared, &id).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/jobs",
    tag = "jobs",
    request_body = Wish,
    responses((status = 201, description = "The new job", body = JobView), Refused),
)]
pub(super) async fn add_job(
    State(shared): Agent,
    Json(wish): Json<Wish>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let id = intake::accept(&shared, wish).await?;
    Ok((StatusCode::CREATED, Json(one(&shared, &id.to_string()).await?)))
}

#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 200, description = "The job", body = JobView), Refused),
)]
pub(super) async fn cancel_job(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let view = one(&shared, &id).await?;
    if view.is_over() {
        let detail = format!("job {id} is over: {}", view.status);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    intake::cancel(&shared, read_id(&id)?).await;
    Ok(Json(one(&shared, &id).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/retry",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 200, description = "The job", body = JobView), Refused),
)]
pub(super) async fn retry_job(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let view = one(&shared, &id).await?;
    if !view.is_over() || view.status == "finished_successful" {
        let detail = format!("job {id} is {}: there is nothing to retry", view.status);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    intake::retry(&shared, read_id(&id)?).await?;
    Ok(Json(one(&shared, &id).await?))
}

#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/take-back",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 200, description = "The job", body = JobView), Refused),
)]
pub(super) async fn take_back_job(
    State(shared): Agent,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Problem> {
    let view = one(&shared, &id).await?;
    let away = ["handing_over", "handed_over", "returning"].contains(&view.phase.as_str());
    if view.is_over() || !away {
        let detail = format!("job {id} is not with another agent: it is {}", view.phase);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let job = read_id(&id)?;
    match shared.ask(move |mesh, _| mesh.handovers().get(job).is_some()).await {
        Some(false) => crate::owner::keep_here(&shared, job).await,
        _ => shared.tell(Input::TakeBack(job)).await,
    }
    // Answered after it was handled.
    shared.ask(|_, _| ()).await;
    Ok(Json(one(&shared, &id).await?))
}

#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 204, description = "It is forgotten"), Refused),
)]
async fn remove_job(State(shared): Agent, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    take_away(&shared, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a job that is over, and the file that a client sent for it.
pub(super) async fn take_away(shared: &Arc<Shared>, id: &str) -> Result<(), Problem> {
    let view = one(shared, id).await?;
    if !view.is_over() {
        let detail = format!("job {id} is not over; cancel it first");
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let id = read_id(id)?;
    let _turn = shared.jobs.turn().await;
    shared.tell(Input::RemoveJob(id)).await;
    // What it erases is erased before the request goes.
    shared.ask(|_, _| ()).await;
    shared.jobs.remove(id).await?;
    shared.undo.job_removed(id)?;
    if let Some(item) = shared.items.get(id)? {
        shared.items.remove(&item).await?;
    }
    source::unlist_unneeded(shared).await;
    Ok(())
}

#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/file",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    responses((status = 200, description = "The whole file", content_type = "application/octet-stream"), (status = 206, description = "The part that `Range` asks for", content_type = "application/octet-stream"), Refused),
)]
async fn job_file(
    State(shared): Agent,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    result_of(&shared, &id, request).await
}

/// The result of a job, or the parts of it that `Range` asks for.
pub(super) async fn result_of(
    shared: &Arc<Shared>,
    id: &str,
    request: Request,
) -> Result<Response, Problem> {
    let view = one(shared, id).await?;
    if view.status != "finished_successful" {
        let detail = format!("job {id} has no result yet: it is {}", view.status);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let gone = |e: std::io::Error| {
        let detail = format!("cannot read the result {}: {e}", view.output.display());
        Problem::new(StatusCode::GONE, detail)
    };
    tokio::fs::File::open(&view.output.0).await.map_err(gone)?;
    let serve = ServeFile::new_with_mime(&view.output.0, &OCTETS).with_buf_chunk_size(1 << 18);
    let Ok(response) = serve.oneshot(request).await;
    Ok(response.map(Body::new))
}

/// Whether the body is a form with a file, which goes to the disk as it comes.
pub(super) fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("multipart/form-data"))
}

#[utoipa::path(
    post,
    path = "/api/v1/pause",
    tag = "agent",
    responses((status = 200, description = "This agent", body = StatusView), Refused),
)]
pub(super) async fn pause(State(shared): Agent) -> Result<Json<StatusView>, Problem> {
    shared.tell(Input::SetPaused(true)).await;
    status(State(shared)).await
}

#[utoipa::path(
    post,
    path = "/api/v1/resume",
    tag = "agent",
    responses((status = 200, description = "This agent", body = StatusView), Refused),
)]
pub(super) async fn resume(State(shared): Agent) -> Result<Json<StatusView>, Problem> {
    shared.tell(Input::SetPaused(false)).await;
    status(State(shared)).await
}
