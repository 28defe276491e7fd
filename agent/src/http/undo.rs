//! Files that were replaced, and how they are brought back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::read_id;
use super::page::Page;
use super::problem::{Problem, Refused};
use crate::replace::view::UndoView;
use crate::replace::{self, SwapError};
use crate::runtime::Shared;
use crate::worker::chain;

type Agent = State<Arc<Shared>>;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(undo_job))
}

/// Which ones are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those before this job: the last one of the page before.
    #[param(format = "uuid")]
    cursor: Option<String>,
    /// At most so many.
    #[param(format = Int64, maximum = 4_294_967_295_u32)]
    limit: Option<u32>,
}

/// How an original is brought back.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UndoWish {
    /// Whether the result stays beside it, also when it was changed since.
    pub keep_result: bool,
}

/// A page of files that jobs replaced, the newest jobs first. A page that is empty is the end.
#[utoipa::path(
    get,
    path = "/api/v1/undo",
    tag = "jobs",
    params(Which),
    responses((status = 200, description = "A page of replaced files, the newest first", body = Vec<UndoView>), Refused),
)]
async fn list(
    State(shared): Agent,
    Query(which): Query<Which>,
) -> Result<Json<Vec<UndoView>>, Problem> {
    let Page { before, limit, .. } = Page::of(None, which.cursor, which.limit)?;
    let keep_days = shared.settings.undo_keep_days;
    let page = shared.undo.page(before, limit)?;
    Ok(Json(page.iter().map(|replaced| UndoView::of(replaced, keep_days)).collect()))
}

/// Brings the file back that a job replaced, byte for byte; the result is removed, unless it was
/// changed since.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/undo",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    request_body(content = Option<UndoWish>),
    responses((status = 200, description = "The file is back", body = UndoView), Refused),
)]
pub(super) async fn undo_job(
    State(shared): Agent,
    Path(id): Path<String>,
    wish: Option<Json<UndoWish>>,
) -> Result<Json<UndoView>, Problem> {
    let job = read_id(&id)?;
    if shared.undo.get(job)?.is_none() && shared.jobs.request(job)?.is_none() {
        return Err(Problem::no_job(&id));
    }
    let keep_result = wish.unwrap_or_default().keep_result;
    let restored = replace::undo(&shared, job, keep_result).await?;
    Ok(Json(UndoView::of(&restored, shared.settings.undo_keep_days)))
}

impl From<SwapError> for Problem {
    fn from(error: SwapError) -> Problem {
        let status = match &error {
            SwapError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ if error.is_disk_full() => StatusCode::INSUFFICIENT_STORAGE,
            SwapError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::CONFLICT,
        };
        Problem::new(status, chain(&error))
    }
}
