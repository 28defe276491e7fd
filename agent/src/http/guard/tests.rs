//! Who is let in, and who is not.

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
    let cookie = format!("a=b; dmc_session={}; c=d", guard.tokens.sign_in(access, false));
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
    guard.names.place = Place { port: 443, wide: true, tls: true };
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
    for bad in ["", "/", "dmc", "//evil.example", "/a//b", "/a\"b", "/a b", "/a?b", "http://x"] {
        assert_eq!(of(bad), "", "{bad}");
    }
}

#[test]
fn only_the_token_opens() {
    let with = |credentials| status(&[("host", "127.0.0.1:7340"), ("authorization", credentials)]);
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
    let twice =
        [("host", "localhost:7340"), ("host", "evil.example"), ("authorization", "Bearer secret")];
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
    guard.names.hosts = vec!["nas.home".to_owned(), "box.example:8443".to_owned()];
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
    for origin in ["https://nas.home:3000", "https://localhost:7340", "ftp://nas.home", "nas.home"]
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
