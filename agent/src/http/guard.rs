//! Who may use the API: whoever can read the token, from this machine and from no web page.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, AsHeaderName, CONTENT_LENGTH, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::is_multipart;
use super::connections::Caller;
use super::problem::Problem;

/// The longest body: a wish with the longest paths takes a tenth of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a request must show.
pub(super) struct Guard {
    /// Hash of the token. Hashes are compared in constant time, and differ from their first byte
    /// on: time tells nothing about the token.
    token: blake3::Hash,
    port: u16,
}

impl Guard {
    pub(super) fn new(token: &str, port: u16) -> Guard {
        Guard { token: blake3::hash(token.as_bytes()), port }
    }

    /// A web page whose name was made to point to this machine (DNS rebinding) calls us by that
    /// name, and a page of another site says where it is from; neither can know the token.
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let refused = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, why));
        let target = request.uri().authority().map(Authority::as_str);
        if !only(headers, HOST).is_some_and(|host| self.is_here(host))
            || target.is_some_and(|target| !self.is_here(target))
        {
            return refused(
                "the request names another host; call the API at its address in agent.json",
            );
        }
        if headers.contains_key(ORIGIN)
            && !only(headers, ORIGIN)
                .and_then(|origin| origin.strip_prefix("http://"))
                .is_some_and(|authority| self.is_here(authority))
        {
            return refused("the request comes from a page of another site, which may not use it");
        }
        if !only(headers, AUTHORIZATION).and_then(bearer).is_some_and(|given| self.knows(given)) {
            let why = "the token is missing or wrong; it is in the file api.token of the data \
                       directory, and changes whenever the agent starts";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, why));
        }
        Ok(())
    }

    fn knows(&self, given: &str) -> bool {
        blake3::hash(given.as_bytes()) == self.token
    }

    /// Whether it is a loopback address or `localhost`, with the API's port.
    fn is_here(&self, authority: &str) -> bool {
        if authority.contains('@') {
            return false;
        }
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        let loopback = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback()),
            None => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
            }
        };
        loopback && authority.port_u16().unwrap_or(80) == self.port
    }
}

/// The header's text when it is there exactly once.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok();
    first.filter(|_| values.next().is_none())
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
    match checked(&guard, request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

async fn checked(guard: &Guard, request: Request) -> Result<Request, Problem> {
    guard.check(&request)?;
    if let Some(caller) = request.extensions().get::<Arc<Caller>>() {
        caller.let_in()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn status(headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/api/v1/status");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        Guard::new("secret", 7340).check(&request).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn only_the_token_opens() {
        let with =
            |credentials| status(&[("host", "127.0.0.1:7340"), ("authorization", credentials)]);
        assert_eq!(with("Bearer secret"), 200);
        assert_eq!(with("bearer secret"), 200);
        for wrong in
            ["", "secret", "Bearer", "Bearer ", "Bearer secre", "Bearer secret2", "Basic secret"]
        {
            assert_eq!(with(wrong), 401, "{wrong}");
        }
        assert_eq!(status(&[("host", "127.0.0.1:7340")]), 401);
        let twice = [
            ("host", "127.0.0.1:7340"),
            ("authorization", "Bearer x"),
            ("authorization", "Bearer secret"),
        ];
        assert_eq!(status(&twice), 401);
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        let with = |host| status(&[("host", host), ("authorization", "Bearer secret")]);
        for here in
            ["127.0.0.1:7340", "localhost:7340", "LOCALHOST:7340", "[::1]:7340", "127.3.2.1:7340"]
        {
            assert_eq!(with(here), 200, "{here}");
        }
        for elsewhere in [
            "",
            "127.0.0.1",
            "127.0.0.1:80",
            "evil.example:7340",
            "localhost.evil.example:7340",
            "192.168.1.2:7340",
            "0.0.0.0:7340",
            "[::]:7340",
            "127.0.0.1:7340@evil.example:7340",
            "me@127.0.0.1:7340",
            "127.0.0.1.:7340",
            "127.1:7340",
        ] {
            assert_eq!(with(elsewhere), 403, "{elsewhere}");
        }
        assert_eq!(status(&[("authorization", "Bearer secret")]), 403);
        let twice = [
            ("host", "localhost:7340"),
            ("host", "evil.example"),
            ("authorization", "Bearer secret"),
        ];
        assert_eq!(status(&twice), 403);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let with = |origin| {
            status(&[
                ("host", "localhost:7340"),
                ("origin", origin),
                ("authorization", "Bearer secret"),
            ])
        };
        assert_eq!(with("http://localhost:7340"), 200);
        for foreign in [
            "null",
            "http://localhost:3000",
            "https://evil.example",
            "http://evil.example:7340",
            "https://localhost:7340",
            "http://localhost",
            "file://",
        ] {
            assert_eq!(with(foreign), 403, "{foreign}");
        }
    }

    #[test]
    fn the_whole_address_in_a_request_counts_too() {
        let request = Request::builder()
            .uri("http://evil.example:7340/api/v1/status")
            .header("host", "localhost:7340")
            .header("authorization", "Bearer secret");
        let request = request.body(Body::empty()).unwrap();
        let refused = Guard::new("secret", 7340).check(&request).unwrap_err();
        assert_eq!(refused.status, 403);
    }
}
