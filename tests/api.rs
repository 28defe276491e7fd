//! The local API as a stranger on this machine, or a web page, would try it: raw requests.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::Running;
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(30);

/// An agent, its API's address and its token.
pub struct Api {
    pub bed: Bed,
    pub addr: SocketAddr,
    token: String,
}

impl Api {
    pub fn new() -> Self {
        Self::of(Bed::start_with(1, Meeting::Address, |_, agent| {
            agent.env("DMC_LOG", "trace");
        }))
    }

    /// The API of the first agent there.
    pub fn of(bed: Bed) -> Self {
        let contact = fs::read_to_string(bed.data(0).join("agent.json")).unwrap();
        let contact: Value = serde_json::from_str(&contact).unwrap();
        let addr = contact["api"].as_str().unwrap().parse().unwrap();
        let token = fs::read_to_string(bed.data(0).join("api.token")).unwrap();
        Self { bed, addr, token }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends a head with these lines and a body; the status, the head and the body of the answer.
    pub fn say(&self, first: &str, lines: &[String], body: &[u8]) -> (u16, String, String) {
        let mut stream = self.connect();
        let head = format!("{first} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
        // The agent may refuse before it has read everything.
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        answer(&mut stream)
    }

    pub fn host(&self) -> String {
        format!("Host: {}", self.addr)
    }

    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// A request that is right but for its first line.
    pub fn ask(&self, first: &str) -> (u16, String, String) {
        self.say(first, &[self.host(), self.bearer(), close()], b"")
    }

    fn works(&self) {
        assert_eq!(self.ask("GET /api/v1/status").0, 200);
    }
}

pub fn close() -> String {
    "Connection: close".to_owned()
}

fn answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut bytes = Vec::new();
    // A connection that is cut after its answer is one that was closed.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_lowercase(), body.to_owned())
}

/// The answer is a problem with that status, and says something.
pub fn is_problem((status, head, body): &(u16, String, String), expected: u16) {
    assert_eq!(*status, expected, "{head}\n{body}");
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    let problem: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(problem["status"], expected, "{body}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    assert!(problem["title"].is_string(), "{body}");
}

#[test]
fn only_who_has_the_token_is_answered() {
    let api = Api::new();
    api.works();
    let first = "GET /api/v1/status";
    let none = api.say(first, &[api.host(), close()], b"");
    is_problem(&none, 401);
    assert!(none.1.contains("www-authenticate: bearer"), "{}", none.1);
    let mut almost = api.bearer();
    let last = if almost.pop() == Some('0') { '1' } else { '0' };
    almost.push(last);
    is_problem(&api.say(first, &[api.host(), almost, close()], b""), 401);
    // Not even which paths there are is told.
    is_problem(&api.say("GET /nonsense", &[api.host(), close()], b""), 401);
    let mode = fs::metadata(api.bed.data(0).join("api.token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn pages_and_foreign_names_are_refused() {
    let api = Api::new();
    let first = "GET /api/v1/status";
    let port = api.addr.port();
    let with = |lines: &[String]| api.say(first, &[lines, &[api.bearer(), close()]].concat(), b"");
    assert_eq!(with(&[format!("Host: localhost:{port}")]).0, 200);
    assert_eq!(with(&[api.host(), format!("Origin: http://localhost:{port}")]).0, 200);
    for host in [format!("evil.example:{port}"), "127.0.0.1:1".to_owned(), "localhost".to_owned()] {
        is_problem(&with(&[format!("Host: {host}")]), 403);
    }
    for origin in ["https://evil.example", "http://localhost:1", "null"] {
        is_problem(&with(&[api.host(), format!("Origin: {origin}")]), 403);
    }
    let preflight = [api.host(), "Origin: https://evil.example".to_owned(), close()];
    let refused = api.say("OPTIONS /api/v1/jobs", &preflight, b"");
    is_problem(&refused, 403);
    assert!(!refused.1.contains("access-control-allow"), "{}", refused.1);
}

#[test]
fn bodies_have_a_limit_and_must_make_sense() {
    let api = Api::new();
    let post = |lines: &[String], body: &[u8]| {
        let json = "Content-Type: application/json".to_owned();
        let own = [api.host(), api.bearer(), json, close()];
        api.say("POST /api/v1/jobs", &[&own, lines].concat(), body)
    };
    let length = |bytes: usize| [format!("Content-Length: {bytes}")];
    // Refused by its length alone, before anything of it is there.
    is_problem(&post(&length(1 << 40), b""), 413);
    let body = vec![b' '; (1 << 20) + 1];
    let chunks = [b"100001\r\n", &body[..], b"\r\n0\r\n\r\n"].concat();
    is_problem(&post(&["Transfer-Encoding: chunked".to_owned()], &chunks), 413);
    for body in ["{", "[]", "{\"input\":1}", "null"] {
        let answer = post(&length(body.len()), body.as_bytes());
        assert!((400..500).contains(&answer.0), "{body}: {}", answer.2);
        is_problem(&answer, answer.0);
    }
    let unknown = api.say("POST /api/v1/jobs", &[api.host(), api.bearer(), close()], b"");
    is_problem(&unknown, 415);
    api.works();
}

#[test]
fn an_id_is_no_path() {
    let api = Api::new();
    for id in ["..%2f..%2fapi.token", "%2e%2e", "%00", "%ff", "x", "../../../api.token"] {
        for end in ["", "/file"] {
            let answer = api.ask(&format!("GET /api/v1/jobs/{id}{end}"));
            assert!(matches!(answer.0, 400 | 404), "{id}{end}: {}", answer.0);
            is_problem(&answer, answer.0);
            assert!(!answer.2.contains(&api.token), "{id}{end}");
        }
    }
    is_problem(&api.ask("GET /api/v1/../../api.token"), 404);
    is_problem(&api.ask("PUT /api/v1/status"), 405);
    is_problem(&api.ask("GET /nonsense"), 404);
}

#[test]
fn who_only_holds_connections_keeps_nobody_out() {
    let api = Api::new();
    let held: Vec<TcpStream> = (0..300).map(|_| api.connect()).collect();
    for mut stream in held.iter().skip(280) {
        stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: ").unwrap();
    }
    api.works();
    // The newest of them are only cut off by time; the others are gone already.
    let began = Instant::now();
    let gone = held.iter().take(200).all(|mut stream| {
        let mut byte = [0];
        !matches!(stream.read(&mut byte), Ok(1..))
    });
    assert!(gone && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let mut newest = held.last().unwrap();
    let mut said = Vec::new();
    let _ = newest.read_to_end(&mut said);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // A head without end, and one with too many lines.
    let long = format!("X: {}", "y".repeat(20_000));
    assert_eq!(api.say("GET /", &[api.host(), long], b"").0, 431);
    let lines: Vec<String> = (0..200).map(|n| format!("X-{n}: y")).collect();
    assert_eq!(api.say("GET /", &lines, b"").0, 431);
    api.works();
}

#[test]
fn the_token_is_in_no_log_and_no_argument() {
    let api = Api::new();
    let out = api.bed.dir("out").join("film.mkv");
    let mut command = api.bed.dmc(0);
    command.args(["-vvv", "convert", "--preset", "hevc", "-o"]).arg(&out);
    let converting = Running::start(command.arg(zoo::get("long.mp4")));
    let end = Instant::now() + Duration::from_secs(5);
    let mut seen = 0;
    while Instant::now() < end {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        for line in processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()) {
            let line = String::from_utf8_lossy(&line);
            assert!(!line.contains(&api.token), "{line}");
            seen += usize::from(line.contains("dmc"));
        }
        api.works();
    }
    assert!(seen > 0);
    let jobs = api.bed.ask(0, &["jobs", "list"]);
    let id = jobs[0]["id"].as_str().unwrap();
    assert_eq!(api.ask(&format!("POST /api/v1/jobs/{id}/cancel")).0, 200);
    let done = converting.wait(LIMIT);
    assert!(!done.stderr.is_empty() && !done.stderr.contains(&api.token), "{}", done.stderr);
    assert!(!done.stdout.contains(&api.token), "{}", done.stdout);
    let log = api.bed.log(0);
    assert!(log.len() > 10_000, "it logs everything: {log}");
    assert!(!log.contains(&api.token), "the token is in the log");
}
