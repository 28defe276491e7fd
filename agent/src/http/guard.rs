//! Who may use the API: whoever shows a token or has signed in with one, for what its scope allows,
//! and from no page of another site.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{self, Body};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, AUTHORIZATION, AsHeaderName, CONTENT_LENGTH, COOKIE, HOST, LOCATION, ORIGIN,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{Access, Scope, Tokens};
use super::api::is_multipart;
use super::connections::Caller;
use super::problem::Problem;

/// The longest body: a wish with the longest paths takes a tenth of it.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Name of the cookie of a browser that has signed in.
const SESSION: &str = "dmc_session";
/// The longest path that a reverse proxy may put this API under.
const PREFIX_BYTES_MAX: usize = 128;

/// Where a guard stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The port that it guards.
    pub port: u16,
    /// Whether other machines reach it: then by any of its addresses.
    pub wide: bool,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// What a request must show.
pub(super) struct Guard {
    tokens: Arc<Tokens>,
    place: Place,
    /// Names under which others call this API, as `name` or `name:port`.
    hosts: Vec<String>,
}

impl Guard {
    pub(super) fn new(tokens: Arc<Tokens>, place: Place, hosts: Vec<String>) -> Guard {
        Guard { tokens, place, hosts }
    }

    /// Who calls; `None` where anybody may.
    fn check(&self, request: &Request) -> Result<Option<Access>, Problem> {
        self.check_place(request)?;
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

    /// A web page whose name was made to point to this machine (DNS rebinding) calls us by that
    /// name, and a page of another site says where it is from; neither can know the token.
    fn check_place(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let refused = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, why));
        let target = request.uri().authority().map(Authority::as_str);
        if !only(headers, HOST).is_some_and(|host| self.is_here(host))
            || target.is_some_and(|target| !self.is_here(target))
        {
            return refused(
                "the request names another host; call the API at its address in agent.json, or \
                 list the name as api_hosts in the agent's settings",
            );
        }
        if headers.contains_key(ORIGIN)
            && !only(headers, ORIGIN)
                .is_some_and(|origin| self.is_our_page(origin, only(headers, HOST)))
        {
            return refused("the request comes from a page of another site, which may not use it");
        }
        Ok(())
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

    fn is_our_page(&self, origin: &str, host: Option<&str>) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        // Who listed the name may have put TLS before it.
        if self.is_listed(authority) {
            return scheme == "http" || scheme == "https";
        }
        let ours = if self.place.tls { "https" } else { "http" };
        // Where other machines reach it, any address would be ours: one of theirs is not.
        let same = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
        scheme == ours && (same || !self.place.wide && self.is_here(authority))
    }

    /// Whether the settings name it. A name without a port is that of the usual ports only: on
    /// another one there may be somebody else's pages.
    fn is_listed(&self, authority: &str) -> bool {
        let plain = authority.strip_suffix(":80").or_else(|| authority.strip_suffix(":443"));
        let same = |host: &String| {
            host.eq_ignore_ascii_case(authority)
                || plain.is_some_and(|plain| host.eq_ignore_ascii_case(plain))
        };
        !authority.is_empty() && self.hosts.iter().any(same)
    }

    /// Whether it is a loopback address or `localhost`, with the API's port, or listed.
    fn is_here(&self, authority: &str) -> bool {
        if authority.contains('@') {
            return false;
        }
        if self.is_listed(authority) {
            return true;
        }
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        // An address is no name that somebody could make to point here.
        let wide = self.place.wide;
        let here = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback() || wide),
            None => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback() || wide)
            }
        };
        let usual = if self.place.tls { 443 } else { 80 };
        here && authority.port_u16().unwrap_or(usual) == self.place.port
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { port: 7340, wide: false, tls: false };

    fn guard() -> (Guard, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path(), "secret", std::num::NonZeroU32::MAX).unwrap();
        (Guard::new(Arc::new(tokens), PLACE, Vec::new()), dir)
    }

    fn asked(guard: &Guard, call: &str, headers: &[(&str, &str)]) -> u16 {
        let (method, path) = call.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        guard.check(&request).map_or_else(|problem| problem.status, |_| 200)
    }

    fn status(headers: &[(&str, &str)]) -> u16 {
        asked(&guard().0, "GET /api/v1/status", headers)
    }

    #[test]
    fn scopes_bound_what_a_token_does() {
        let (guard, _dir) = guard();
        let calls = [
            ("GET /api/v1/jobs", Scope::Read),
            ("GET /api/v1/item/c/1/file", Scope::Read),
            ("GET /metrics", Scope::Read),
            ("GET /", Scope::Read),
            ("POST /api/v1/item", Scope::Submit),
            ("DELETE /api/v1/item/c/1", Scope::Submit),
            ("POST /api/v1/jobs/1/cancel", Scope::Submit),
            ("POST /ui/jobs/1/cancel", Scope::Submit),
            ("POST /api/v1/jobs/1/undo", Scope::Admin),
            ("POST /ui/jobs/1/undo", Scope::Admin),
            ("GET /api/v1/undo", Scope::Read),
            ("POST /api/v1/jobs", Scope::Admin),
            ("POST /api/v1/pause", Scope::Admin),
            ("POST /api/v1/mesh/evict", Scope::Admin),
            ("GET /api/v1/tokens", Scope::Admin),
            ("DELETE /api/v1/tokens/x", Scope::Admin),
            ("POST /ui/mesh/open", Scope::Admin),
            ("PUT /what/ever", Scope::Admin),
        ];
        for scope in [Scope::Read, Scope::Submit, Scope::Admin] {
            let (_, token) = guard.tokens.add(scope.word(), scope).unwrap();
            let bearer = format!("Bearer {token}");
            let headers = [("host", "localhost:7340"), ("authorization", bearer.as_str())];
            for (call, needed) in calls {
                let expected = if scope >= needed { 200 } else { 403 };
                assert_eq!(asked(&guard, call, &headers), expected, "{call} with {scope:?}");
            }
        }
    }

    #[test]
    fn only_whole_pages_lead_to_the_one_for_signing_in() {
        let leads = |method: &str, path: &str, accept: &str| {
            let request = Request::builder().method(method).uri(path).header("accept", accept);
            to_sign_in(&request.body(Body::empty()).unwrap()).is_some()
        };
        assert!(leads("GET", "/jobs", "text/html,*/*"));
        for (method, path, accept) in [
            ("GET", "/ui/jobs", "text/html, */*"),
            ("GET", "/api/v1/jobs", "text/html"),
            ("POST", "/jobs", "text/html"),
            ("GET", "/jobs", "*/*"),
        ] {
            assert!(!leads(method, path, accept), "{method} {path}");
        }
    }

    #[test]
    fn a_browser_that_signed_in_changes_things_from_our_pages_only() {
        let (guard, _dir) = guard();
        let access = Access { name: "local".to_owned(), scope: Scope::Admin };
        let cookie = format!("a=b; dmc_session={}; c=d", guard.tokens.sign_in(access));
        let (host, cookie) = (("host", "localhost:7340"), ("cookie", cookie.as_str()));
        assert_eq!(asked(&guard, "GET /", &[host, cookie]), 200);
        assert_eq!(asked(&guard, "GET /", &[host, ("cookie", "dmc_session=x")]), 401);
        assert_eq!(asked(&guard, "POST /ui/mesh/open", &[host, cookie]), 403);
        let ours = ("origin", "http://localhost:7340");
        assert_eq!(asked(&guard, "POST /ui/mesh/open", &[host, cookie, ours]), 200);
        let foreign = ("origin", "http://evil.example");
        assert_eq!(asked(&guard, "POST /ui/mesh/open", &[host, cookie, foreign]), 403);
    }

    #[test]
    fn anybody_may_sign_in_and_ask_whether_it_lives() {
        let (guard, _dir) = guard();
        for call in ["GET /healthz", "GET /login", "POST /login", "GET /assets/dmc.css"] {
            assert_eq!(asked(&guard, call, &[("host", "localhost:7340")]), 200, "{call}");
            assert_eq!(asked(&guard, call, &[("host", "evil.example")]), 403, "{call}");
        }
    }

    #[test]
    fn where_others_reach_it_any_address_is_answered_and_no_other_name() {
        let (mut guard, _dir) = guard();
        guard.place = Place { port: 443, wide: true, tls: true };
        let with = |host: &str, origin: &str| {
            let headers = [("host", host), ("origin", origin), ("authorization", "Bearer secret")];
            asked(&guard, "POST /api/v1/pause", &headers)
        };
        assert_eq!(with("192.168.1.2", "https://192.168.1.2"), 200);
        assert_eq!(with("[fe80::1]:443", "https://[fe80::1]:443"), 200);
        assert_eq!(with("192.168.1.2", "http://192.168.1.2"), 403, "its page is encrypted");
        assert_eq!(with("192.168.1.2", "https://192.168.1.3"), 403, "a page of another machine");
        assert_eq!(with("evil.example", "https://evil.example"), 403);
    }

    #[test]
    fn only_plain_prefixes_are_believed() {
        let of = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            prefix(&HeaderMap::from_iter([("x-forwarded-prefix".parse().unwrap(), value)]))
        };
        assert_eq!(of("/dmc"), "/dmc");
        assert_eq!(of("/a/b/"), "/a/b");
        for bad in ["", "/", "dmc", "//evil.example", "/a//b", "/a\"b", "/a b", "/a?b", "http://x"]
        {
            assert_eq!(of(bad), "", "{bad}");
        }
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
    fn names_of_the_settings_are_answered_and_their_pages_too() {
        let (mut guard, _dir) = guard();
        guard.hosts = vec!["nas.home".to_owned(), "box.example:8443".to_owned()];
        let with = |host: &str, origin: Option<&str>| {
            let mut headers = vec![("host", host), ("authorization", "Bearer secret")];
            headers.extend(origin.map(|origin| ("origin", origin)));
            asked(&guard, "GET /api/v1/status", &headers)
        };
        for host in ["nas.home", "NAS.home", "nas.home:80", "nas.home:443", "box.example:8443"] {
            assert_eq!(with(host, None), 200, "{host}");
        }
        let other = [
            "nas.home:8080",
            "x.nas.home",
            "nas.home.",
            "box.example",
            "box.example:443",
            "a@nas.home",
        ];
        for host in other {
            assert_eq!(with(host, None), 403, "{host}");
        }
        for origin in ["http://nas.home", "https://nas.home", "https://box.example:8443"] {
            assert_eq!(with("nas.home", Some(origin)), 200, "{origin}");
        }
        for origin in
            ["https://nas.home:3000", "https://localhost:7340", "ftp://nas.home", "nas.home"]
        {
            assert_eq!(with("nas.home", Some(origin)), 403, "{origin}");
        }
        // The address in the request line is looked at in the same way.
        assert_eq!(asked(&guard, "GET http://evil.example/", &[("host", "nas.home")]), 403);
        let whole = "GET http://nas.home/healthz";
        assert_eq!(asked(&guard, whole, &[("host", "nas.home")]), 200);
    }

    #[test]
    fn the_whole_address_in_a_request_counts_too() {
        let request = Request::builder()
            .uri("http://evil.example:7340/api/v1/status")
            .header("host", "localhost:7340")
            .header("authorization", "Bearer secret");
        let request = request.body(Body::empty()).unwrap();
        let refused = guard().0.check(&request).unwrap_err();
        assert_eq!(refused.status, 403);
    }
}
