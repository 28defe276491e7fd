//! Which jobs go first, changed later: `POST /api/v1/jobs/{id}/priority`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::{one, read_id};
use super::problem::{Problem, Refused};
use super::views::JobView;
use crate::archive;
use crate::jobs::Priority;
use crate::runtime::Shared;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(set))
}

/// How urgent a job is from now on.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Urgency {
    /// `low`, `normal`, `high`, or a number from -100 to 100; larger goes first.
    pub priority: Priority,
}

/// Makes a job that is not over go before or after others of this agent.
#[utoipa::path(
    operation_id = "set_job_priority",
    post,
    path = "/api/v1/jobs/{id}/priority",
    tag = "jobs",
    params(("id" = String, Path, format = "uuid", description = "The job")),
    request_body = Urgency,
    responses((status = 200, description = "The job", body = JobView), Refused),
)]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Json(urgency): Json<Urgency>,
) -> Result<Json<JobView>, Problem> {
    let view = one(&shared, &id).await?;
    if view.is_over() || !archive::set_priority(&shared, read_id(&id)?, urgency.priority).await? {
        let detail = format!("job {id} is over: {}", one(&shared, &id).await?.status);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(Json(one(&shared, &id).await?))
}
