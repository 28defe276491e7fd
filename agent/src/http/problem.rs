//! Errors as the API tells them: problem details (RFC 9457).

use axum::Json;
use axum::body::{self, Body};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dmc_protocol::message::bounded;
use dmc_store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use crate::intake::Refusal;
use crate::worker::chain;

const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// A refusal of the HTTP library is one sentence.
const SENTENCE_BYTES_MAX: usize = 4_096;
/// The most of a caller's own words that an answer repeats.
const ECHO_BYTES_MAX: usize = 64;

/// An error as the API tells it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// What happened, why, what to do next.
    pub detail: String,
    /// Whether the request itself makes no sense (exit code 2 of the command line).
    #[serde(default)]
    pub usage: bool,
    /// The HTTP status.
    pub status: u16,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Problem { title, detail: detail.into(), usage: false, status: status.as_u16() }
    }

    /// The request cannot mean anything.
    pub(super) fn usage(detail: impl Into<String>) -> Problem {
        Problem { usage: true, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    pub(super) fn no_job(id: &str) -> Problem {
        let id = bounded(id.to_owned(), ECHO_BYTES_MAX);
        Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no job {id}; `dmc jobs` lists the jobs of this agent"),
        )
    }
}

/// What any call may answer instead, for the description of the API.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "it only describes")]
pub(super) enum Refused {
    /// The request was refused; the body says why and what to do.
    #[response(status = "4XX", content_type = "application/problem+json")]
    Caller(Problem),
    /// The agent cannot answer now; the body says why and what to do.
    #[response(status = "5XX", content_type = "application/problem+json")]
    Agent(Problem),
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, chain(&refusal));
        Problem { usage: refusal.is_usage(), ..problem }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        Refusal::Store(error).into()
    }
}

/// Makes problem details of the library's own refusals: unknown paths, wrong methods, bodies that
/// do not parse.
pub(super) async fn explain(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE);
    // A page of the dashboard says it in its own way.
    let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if !is_error || is_page || kind == Some(&MEDIA_TYPE) {
        return response;
    }
    let (mut parts, said) = response.into_parts();
    let said = body::to_bytes(said, SENTENCE_BYTES_MAX).await.unwrap_or_default();
    let detail = match (String::from_utf8_lossy(&said), status) {
        (said, _) if !said.trim().is_empty() => said.into_owned(),
        (_, StatusCode::NOT_FOUND) => "the API has no such path".to_owned(),
        (_, StatusCode::METHOD_NOT_ALLOWED) => "this path has other methods: see Allow".to_owned(),
        _ => "the request was refused".to_owned(),
    };
    let told = Problem::new(status, detail).into_response();
    // Allow and the like stay.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(told.headers().clone());
    Response::from_parts(parts, Body::new(told.into_body()))
}
