//! Tokens by name, and how a browser signs in.

use std::sync::Arc;

use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::{Access, AccessError, Named, SESSION_LIFE_S, Scope, Tokens};
use super::dashboard;
use super::guard::{Place, prefix, session_of};
use super::problem::{Problem, Refused};
use crate::runtime::Shared;
use crate::worker::chain;

/// A token as lists show it: never the token itself.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// What people call it.
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
    /// RFC 3339.
    pub created_at: String,
    /// The token, in the answer to the call that made it and nowhere else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl TokenView {
    fn of(named: Named, token: Option<String>) -> TokenView {
        TokenView { name: named.name, scope: named.scope, created_at: named.created_at, token }
    }
}

/// A token that is wanted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenWish {
    /// What people will call it.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub name: String,
    /// What it may be used for.
    pub scope: Scope,
}

/// What signs a browser in, once and soon.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// Path and query below the address of the agent.
    pub path: String,
}

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(revoke)).routes(routes!(link))
}

/// What a browser signs in and out with.
pub(super) fn pages() -> Router<Arc<Shared>> {
    Router::new().route("/login", get(login).post(sign_in)).route("/logout", post(sign_out))
}

fn refused(error: &AccessError) -> Problem {
    let status = match error {
        AccessError::Name(_) => StatusCode::UNPROCESSABLE_ENTITY,
        AccessError::Taken(_) | AccessError::TooMany => StatusCode::CONFLICT,
        AccessError::Unknown(_) => StatusCode::NOT_FOUND,
        AccessError::Write { .. } => StatusCode::INSUFFICIENT_STORAGE,
    };
    Problem::new(status, chain(error))
}

#[utoipa::path(
    operation_id = "list_tokens",
    get,
    path = "/api/v1/tokens",
    tag = "tokens",
    responses((status = 200, description = "All named tokens", body = Vec<TokenView>), Refused),
)]
async fn list(Extension(tokens): Extension<Arc<Tokens>>) -> Json<Vec<TokenView>> {
    Json(tokens.list().into_iter().map(|named| TokenView::of(named, None)).collect())
}

#[utoipa::path(
    operation_id = "add_token",
    post,
    path = "/api/v1/tokens",
    tag = "tokens",
    request_body = TokenWish,
    responses((status = 201, description = "The token; it is told this once", body = TokenView), Refused),
)]
async fn add(
    Extension(tokens): Extension<Arc<Tokens>>,
    Json(wish): Json<TokenWish>,
) -> Result<(StatusCode, Json<TokenView>), Problem> {
    let made = blocking(move || tokens.add(&wish.name, wish.scope)).await?;
    Ok((StatusCode::CREATED, Json(TokenView::of(made.0, Some(made.1)))))
}

#[utoipa::path(
    operation_id = "revoke_token",
    delete,
    path = "/api/v1/tokens/{name}",
    tag = "tokens",
    params(("name" = String, Path, pattern = "^[A-Za-z0-9._-]{1,64}$", description = "Its name")),
    responses((status = 204, description = "It opens nothing any more"), Refused),
)]
async fn revoke(
    Extension(tokens): Extension<Arc<Tokens>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    blocking(move || tokens.revoke(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccessError> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    let failed = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the agent is stopping");
    done.map_err(failed)?.map_err(|e| refused(&e))
}

#[utoipa::path(
    operation_id = "sign_in_link",
    post,
    path = "/api/v1/sign-in-link",
    tag = "tokens",
    responses((status = 200, description = "What signs a browser in, once and soon", body = LinkView), Refused),
)]
async fn link(
    Extension(tokens): Extension<Arc<Tokens>>,
    Extension(access): Extension<Access>,
) -> Json<LinkView> {
    Json(LinkView { path: format!("login?code={}", tokens.link(access)) })
}

#[derive(Deserialize)]
struct Code {
    code: Option<String>,
}

async fn login(
    Extension(tokens): Extension<Arc<Tokens>>,
    Extension(place): Extension<Place>,
    Query(Code { code }): Query<Code>,
    headers: HeaderMap,
) -> Response {
    let Some(code) = code else { return page(&headers, StatusCode::OK, None) };
    match tokens.follow(&code) {
        Some(access) => let_in(tokens, place, &headers, access).await,
        None => {
            let why = "This link was used or is too old; `dmc dashboard` prints a new one.";
            page(&headers, StatusCode::UNAUTHORIZED, Some(why))
        }
    }
}

#[derive(Deserialize)]
struct Given {
    token: String,
}

async fn sign_in(
    Extension(tokens): Extension<Arc<Tokens>>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Form(Given { token }): Form<Given>,
) -> Response {
    match tokens.of_token(token.trim()) {
        Some(access) => let_in(tokens, place, &headers, access).await,
        None => {
            let why = "This is no token of this agent.";
            page(&headers, StatusCode::UNAUTHORIZED, Some(why))
        }
    }
}

async fn sign_out(
    Extension(tokens): Extension<Arc<Tokens>>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
) -> Response {
    if let Some(cookie) = session_of(&headers).map(str::to_owned) {
        let _ = tokio::task::spawn_blocking(move || tokens.sign_out(&cookie)).await;
    }
    see_other(&headers, "/login", &set_cookie(place, &headers, "", 0))
}

fn page(headers: &HeaderMap, status: StatusCode, error: Option<&str>) -> Response {
    let body = dashboard::login_page(&prefix(headers), error).into_string();
    (status, dashboard::policies(), Html(body)).into_response()
}

async fn let_in(
    tokens: Arc<Tokens>,
    place: Place,
    headers: &HeaderMap,
    access: Access,
) -> Response {
    match tokio::task::spawn_blocking(move || tokens.sign_in(access, place.tls)).await {
        Ok(cookie) => see_other(headers, "/", &set_cookie(place, headers, &cookie, SESSION_LIFE_S)),
        Err(_) => super::api::stopping().into_response(),
    }
}

/// Scripts cannot read it, and pages of other sites cannot make a browser send it.
fn set_cookie(place: Place, headers: &HeaderMap, value: &str, life_s: u32) -> String {
    let path = prefix(headers);
    let proxied = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let secure = if place.tls || proxied { "; Secure" } else { "" };
    format!(
        "dmc_session={value}; Path={path}/; Max-Age={life_s}; HttpOnly; SameSite=Strict{secure}"
    )
}

fn see_other(headers: &HeaderMap, path: &str, cookie: &str) -> Response {
    let to = format!("{}{path}", prefix(headers));
    let mut response = StatusCode::SEE_OTHER.into_response();
    // Both are made of checked characters.
    if let (Ok(to), Ok(cookie)) = (HeaderValue::from_str(&to), HeaderValue::from_str(cookie)) {
        response.headers_mut().insert(header::LOCATION, to);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
