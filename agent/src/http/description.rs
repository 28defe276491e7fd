//! The description of the API for programs (OpenAPI 3.1), made from the code of the calls.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::problem::Problem;
use crate::runtime::Shared;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "dmc",
        description = "The agent of the distributed media converter. Times are RFC 3339, errors \
                       are problem details (RFC 9457), lists are paged by `cursor` and `limit`."
    ),
    tags(
        (name = "items", description = "Files that clients send or name, and their results"),
        (name = "jobs", description = "Conversions, with their tasks and attempts"),
        (name = "library", description = "Watched folders, their rules and files"),
        (name = "agent", description = "This agent and those that it knows"),
        (name = "mesh", description = "Who belongs to the mesh"),
        (name = "tokens", description = "Who may use this API"),
        (name = "events", description = "What changes, as it changes"),
    ),
    components(schemas(Problem)),
    modifiers(&Bearer)
)]
struct Begin;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut Description) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
        description.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    }
}

/// What is said before the calls.
pub(super) fn begin() -> Description {
    Begin::openapi()
}

pub(super) fn routes(description: &Description) -> Router<Arc<Shared>> {
    // Made of constants: what cannot be written would be noticed by the first test.
    let text = Bytes::from(description.to_json().unwrap_or_default());
    let tell = move || {
        let answer = ([(header::CONTENT_TYPE, mime::APPLICATION_JSON.as_ref())], text.clone());
        std::future::ready(answer.into_response())
    };
    Router::new().route("/api/v1/openapi.json", get(tell))
}
