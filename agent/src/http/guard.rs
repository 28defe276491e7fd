//! Who may use the API: whoever shows a token or has signed in with one, for what its scope allows,
//! and from no page of another site.

mod names;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, COOKIE, LOCATION, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{Access, Scope, Tokens};
use super::api::is_multipart;
use super::connections::Caller;
use super::problem::Problem;
pub(super) use names::Place;
use names::{Names, only};

/// The longest body: a wish with the longest paths takes a tenth of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the cookie of a browser that has signed in.
const SESSION: &str = "dmc_session";
/// The longest path that a reverse proxy may put this API under.
const PREFIX_BYTES_MAX: usize = 128;

/// What a request must show.
pub(super) struct Guard {
    tokens: Arc<Tokens>,
    names: Names,
}

impl Guard {
    pub(super) fn new(tokens: Arc<Tokens>, place: Place, hosts: Vec<String>) -> Guard {
        Guard { tokens, names: Names { place, hosts } }
    }

    /// Who calls; `None` where anybody may.
    fn check(&self, request: &Request) -> Result<Option<Access>, Problem> {
        self.names.check(request)?;
        let Some(needed) = needed(request.method(), request.uri().path()) else { return Ok(None) };
        let access = self.who(request)?;
        if access.scope < needed {
            let (has, needed) = (access.scope.word(), needed.word());
            let why = format!(
                "the token `{}` may only {has}, and this takes {needed}; make another with `dmc \
                 token add NAME --scope {needed}`",
                access.name
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        if !self.tokens.may_call(&access) {
            let why = format!(
                "the token `{}` is used too often; wait a second, or raise api_calls_per_s in the \
                 agent's settings",
                access.name
            );
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, why));
        }
        Ok(Some(access))
    }

    fn who(&self, request: &Request) -> Result<Access, Problem> {
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) {
            let token = only(headers, AUTHORIZATION).and_then(bearer);
            return token.and_then(|token| self.tokens.of_token(token)).ok_or_else(|| {
                let why = "the token is missing or wrong; that of this machine is in the file \
                           api.token of the data directory, and changes whenever the agent starts; \
                           `dmc token add` makes one that stays";
                Problem::new(StatusCode::UNAUTHORIZED, why)
            });
        }
        let signed_in = session_of(headers).and_then(|cookie| self.tokens.of_session(cookie));
        let access = signed_in.ok_or_else(|| {
            let why = "no token was shown: send it as `Authorization: Bearer …`; that of this \
                       machine is in the file api.token of the data directory";
            Problem::new(StatusCode::UNAUTHORIZED, why)
        })?;
        // Browsers say where a change comes from; one that does not cannot be told from a page of
        // another site.
        if !request.method().is_safe() && !headers.contains_key(ORIGIN) {
            let why = "the request changes something and does not say which page it comes from";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
        Ok(access)
    }
}

/// What a call takes; `None` where anybody may. What is not named here takes everything.
pub(super) fn needed(method: &Method, path: &str) -> Option<Scope> {
    const PUBLIC: [&str; 3] = ["/healthz", "/login", "/logout"];
    const SUBMIT: [&str; 3] = ["/api/v1/item", "/api/v1/jobs/", "/ui/jobs/"];
    if PUBLIC.contains(&path) || path.starts_with("/assets/") {
        return None;
    }
    // Undoing moves files of the whole library, as only those may who name its files.
    if path.starts_with("/api/v1/tokens") || (!method.is_safe() && path.ends_with("/undo")) {
        return Some(Scope::Admin);
    }
    if method.is_safe() || path == "/api/v1/sign-in-link" {
        return Some(Scope::Read);
    }
    let submits = SUBMIT.iter().any(|begin| path.starts_with(begin));
    Some(if submits { Scope::Submit } else { Scope::Admin })
}

/// What the cookie of a browser that has signed in says.
pub(super) fn session_of(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix(SESSION)?.strip_prefix('='))
}

/// The path that a reverse proxy puts this API under, as `/dmc`; empty without one.
pub(super) fn prefix(headers: &HeaderMap) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "/._~-".contains(c);
    let given = only(headers, "x-forwarded-prefix").unwrap_or_default().trim_end_matches('/');
    let fine = given.starts_with('/')
        && given.len() <= PREFIX_BYTES_MAX
        && !given.contains("//")
        && given.chars().all(good);
    if fine { given.to_owned() } else { String::new() }
}

/// A person who looks at a page without having signed in gets there.
fn to_sign_in(request: &Request) -> Option<Response> {
    let html = only(request.headers(), ACCEPT).is_some_and(|kinds| kinds.contains("text/html"));
    // Parts of a page are asked for by its script, which would put the other page inside this one.
    let inside = ["/api/", "/ui/"].iter().any(|begin| request.uri().path().starts_with(begin));
    let wanted = html && !inside && request.method() == Method::GET;
    let to = HeaderValue::from_str(&format!("{}/login", prefix(request.headers()))).ok()?;
    wanted.then(|| (StatusCode::SEE_OTHER, [(LOCATION, to)]).into_response())
}

fn bearer(credentials: &str) -> Option<&str> {
    let (scheme, token) = credentials.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Lets a request through with its whole body, or answers why not. Nothing of the body is read
/// before the token was shown.
pub(super) async fn admit(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let to_sign_in = to_sign_in(&request);
    match (checked(&guard, request).await, to_sign_in) {
        (Ok(request), _) => next.run(request).await,
        (Err(problem), Some(there)) if problem.status == StatusCode::UNAUTHORIZED => there,
        (Err(problem), _) => problem.into_response(),
    }
}

async fn checked(guard: &Guard, mut request: Request) -> Result<Request, Problem> {
    if let Some(access) = guard.check(&request)? {
        if let Some(caller) = request.extensions().get::<Arc<Caller>>() {
            caller.let_in()?;
        }
        request.extensions_mut().insert(access);
    }
    // A file goes to the disk as it comes; its handler bounds it.
    if request.uri().path() == "/api/v1/item" && is_multipart(request.headers()) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let too_long = || {
        let why = format!("the body has more than {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    let says = only(&parts.headers, CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if says.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    let read = tokio::time::timeout(BODY_TIMEOUT, body::to_bytes(body, BODY_BYTES_MAX));
    let body = read.await.map_err(|_| late())?.map_err(|_| too_long())?;
    Ok(Request::from_parts(parts, Body::from(body)))
}
