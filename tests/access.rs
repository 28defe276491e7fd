//! Who may do what through the API, and what those are told who watch: tokens, browsers, events,
//! figures, webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{Api, close, is_problem};
use crate::support::bed::{Bed, Meeting};
use crate::support::dmc::dmc;
use crate::support::process::run;
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(120);

fn new_token(api: &Api, name: &str, scope: &str) -> String {
    let made = api.bed.ask(0, &["token", "add", name, "--scope", scope]);
    made["token"].as_str().unwrap().to_owned()
}

fn with(api: &Api, token: &str, first: &str, body: &str) -> (u16, String, String) {
    let bearer = format!("Authorization: Bearer {token}");
    let kind = "Content-Type: application/json".to_owned();
    let length = format!("Content-Length: {}", body.len());
    api.say(first, &[api.host(), bearer, kind, length, close()], body.as_bytes())
}

#[test]
fn a_token_does_what_its_scope_allows_until_it_is_revoked() {
    let mut api = Api::new();
    let read = new_token(&api, "reader", "read");
    let submit = new_token(&api, "sonarr", "submit");
    let admin = new_token(&api, "admin", "admin");
    for token in [&read, &submit, &admin] {
        assert_eq!(with(&api, token, "GET /api/v1/jobs", "").0, 200);
    }
    let item =
        json!({ "client_id": "c", "conversion_type": "h264", "file_path": "/no" }).to_string();
    is_problem(&with(&api, &read, "POST /api/v1/item", &item), 403);
    // Let in, and refused for its file.
    let refused = with(&api, &submit, "POST /api/v1/item", &item);
    assert!(refused.0 == 403 && refused.2.contains("api_paths"), "{refused:?}");
    let job = json!({ "input": "/no", "preset": "h264" }).to_string();
    for weak in [&read, &submit] {
        is_problem(&with(&api, weak, "POST /api/v1/jobs", &job), 403);
        is_problem(&with(&api, weak, "POST /api/v1/pause", ""), 403);
        is_problem(&with(&api, weak, "GET /api/v1/tokens", ""), 403);
    }
    is_problem(&with(&api, &admin, "POST /api/v1/jobs", &job), 422);
    let names = api.bed.ask(0, &["token", "list"]);
    assert!(!names.to_string().contains(&submit[4..]), "{names}");
    assert_eq!(names.as_array().unwrap().len(), 3);
    let again = run(api.bed.dmc(0).args(["token", "add", "admin"]), LIMIT);
    assert!(again.code == Some(1) && again.stderr.contains("revoke it first"), "{again}");
    assert!(run(api.bed.dmc(0).args(["token", "revoke", "reader"]), LIMIT).ok());
    is_problem(&with(&api, &read, "GET /api/v1/jobs", ""), 401);
    // The others outlive the agent.
    assert!(api.bed.stop(0));
    api.bed.start_again(0);
    api.bed.wait_for_peers(0, 0);
    let api = Api::of(api.bed);
    assert_eq!(with(&api, &submit, "GET /api/v1/jobs", "").0, 200);
    is_problem(&with(&api, &read, "GET /api/v1/jobs", ""), 401);
}

#[test]
fn a_browser_signs_in_by_a_link_once_and_out_again() {
    let api = Api::new();
    let html = "Accept: text/html".to_owned();
    let away = api.say("GET /", &[api.host(), html.clone(), close()], b"");
    assert!(away.0 == 303 && away.1.contains("location: /login\r\n"), "{away:?}");
    let url = api.bed.ask(0, &["dashboard"])["url"].as_str().unwrap().to_owned();
    let path = url.split_once("/login").unwrap().1.to_owned();
    let open = format!("GET /login{path}");
    let opened = api.say(&open, &[api.host(), html.clone(), close()], b"");
    assert_eq!(opened.0, 303, "{opened:?}");
    let set = opened.1.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(set.contains("httponly") && set.contains("samesite=strict"), "{set}");
    // Heads are compared in lower case; the cookie has only such letters.
    let cookie = format!("Cookie: {}", set.split(';').next().unwrap());
    let look = |path: &str| {
        api.say(&format!("GET {path}"), &[api.host(), cookie.clone(), html.clone(), close()], b"")
    };
    let page = look("/");
    assert!(page.0 == 200 && page.1.contains("content-security-policy"), "{page:?}");
    assert_eq!(look("/api/v1/status").0, 200);
    assert_eq!(api.say(&open, &[api.host(), html.clone(), close()], b"").0, 401, "used twice");
    let change = [api.host(), cookie.clone(), "Content-Length: 0".to_owned(), close()];
    is_problem(&api.say("POST /api/v1/pause", &change, b""), 403);
    let ours = format!("Origin: http://{}", api.addr);
    let change = [&change[..], &[ours]].concat();
    assert_eq!(api.say("POST /api/v1/pause", &change, b"").0, 200);
    assert_eq!(api.say("POST /logout", &change, b"").0, 303);
    assert_eq!(look("/api/v1/status").0, 401);
}

/// Someone who watches the events.
struct Watching {
    lines: BufReader<TcpStream>,
    last: String,
}

impl Watching {
    fn new(api: &Api, after: Option<&str>) -> Self {
        let mut stream = api.connect();
        let after = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!(
            "GET /api/v1/events HTTP/1.1\r\n{}\r\n{}\r\n{after}\r\n",
            api.host(),
            api.bearer()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut watching = Self { lines: BufReader::new(stream), last: String::new() };
        // The greeting: from here on nothing is missed.
        while !watching.line().starts_with("retry:") {}
        watching
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the events ended");
        line.trim_end().to_owned()
    }

    /// The next event: its kind and its data.
    fn next(&mut self) -> (String, Value) {
        let mut kind = String::new();
        loop {
            let line = self.line();
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut self.last);
            } else if let Some(word) = line.strip_prefix("event: ") {
                word.clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (kind, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Waits until the events say that a job stands so.
    fn until(&mut self, status: &str) -> Value {
        loop {
            let (kind, data) = self.next();
            if kind == "job" && data["status"] == status {
                return data;
            }
        }
    }
}

fn convert(api: &Api, name: &str) {
    let out = api.bed.dir("out").join(name);
    let words = ["--preset", "h264", "--encoder-speed", "ultrafast"];
    let (done, _) = api.bed.convert(0, &zoo::get("plain.mp4"), &out, &words, LIMIT);
    assert!(done.ok(), "{done}");
}

#[test]
fn events_tell_a_job_from_its_beginning_to_its_end_also_after_a_lost_connection() {
    let api = Api::new();
    let mut many: Vec<Watching> = (0..100).map(|_| Watching::new(&api, None)).collect();
    let mut first = Watching::new(&api, None);
    convert(&api, "a.mkv");
    let data = first.until("in_progress");
    let id = data["id"].clone();
    let seen = first.last.clone();
    drop(first);
    let mut again = Watching::new(&api, Some(&seen));
    let done = again.until("finished_successful");
    assert_eq!(done["id"], id);
    assert!(done["proof"]["frames"].as_u64() > Some(0), "{done}");
    for watching in &mut many {
        assert_eq!(watching.until("finished_successful")["id"], id);
    }
    let mut stranger = Watching::new(&api, Some("00000000-7"));
    assert_eq!(stranger.next().0, "reset");
    assert!(api.bed.log(0).lines().all(|line| !line.contains("ERROR")));
}

#[test]
fn figures_are_there_for_prometheus_and_anybody_may_ask_whether_it_lives() {
    let api = Api::new();
    convert(&api, "a.mkv");
    let (status, head, body) = api.ask("GET /metrics");
    assert!(status == 200 && head.contains("openmetrics-text"), "{head}");
    let says = |line: &str| assert!(body.lines().any(|of| of == line), "no {line} in {body}");
    says("dmc_jobs{status=\"finished_successful\"} 1");
    says("dmc_jobs{status=\"to_do\"} 0");
    says("dmc_paused 0");
    says("dmc_slots 1");
    assert!(body.ends_with("# EOF\n") || body.trim_end().ends_with("# EOF"), "{body}");
    is_problem(&api.say("GET /metrics", &[api.host(), close()], b""), 401);
    let sums: Value = serde_json::from_str(&api.ask("GET /api/v1/statistics").2).unwrap();
    let film = std::fs::metadata(zoo::get("plain.mp4")).unwrap().len();
    assert_eq!(
        (&sums["all"]["jobs"], &sums["codecs"]["h264"]["before"]),
        (&json!(1), &json!(film))
    );
    let presets: Value = serde_json::from_str(&api.ask("GET /api/v1/presets").2).unwrap();
    assert!(presets.as_array().unwrap().iter().any(|preset| preset["name"] == "hevc"), "{presets}");
    let alive = api.say("GET /healthz", &[api.host(), close()], b"");
    assert_eq!((alive.0, alive.2.as_str()), (200, "{\"status\":\"ok\"}"));
}

/// Answers the first request with 500 and all others with 200; the bodies and heads of all.
fn listener() -> (u16, thread::JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = thread::spawn(move || {
        let mut all = Vec::new();
        for answer in ["500 No", "200 OK"] {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line == "\r\n" {
                    break;
                }
                let line = line.to_ascii_lowercase();
                if let Some(number) = line.strip_prefix("content-length: ") {
                    length = number.trim().parse().unwrap();
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let bye =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            (&stream).write_all(bye.as_bytes()).unwrap();
            all.push((head, String::from_utf8(body).unwrap()));
        }
        all
    });
    (port, told)
}

#[test]
fn others_are_told_that_a_job_is_over_also_when_they_were_away_and_the_agent_was_killed() {
    let (port, told) = listener();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let hook = format!(
        "[[webhooks]]\nurl = \"http://127.0.0.1:{port}/hook\"\nsecret = \"s3cret\"\non = [\"finished\"]\n"
    );
    std::fs::write(&config, hook).unwrap();
    let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_CONFIG", &config);
    });
    let mut api = Api::of(bed);
    convert(&api, "a.mkv");
    let end = Instant::now() + LIMIT;
    while !api.bed.log(0).contains("is tried again") {
        assert!(Instant::now() < end, "{}", api.bed.log(0));
        thread::sleep(Duration::from_millis(50));
    }
    api.bed.kill(0);
    api.bed.start_again(0);
    let told = told.join().unwrap();
    let id = |head: &str| {
        head.lines().find_map(|line| line.strip_prefix("webhook-id: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(id(&told[0].0), id(&told[1].0), "the same is told");
    assert!(told[1].0.contains("webhook-signature: v1,"), "{}", told[1].0);
    let body: Value = serde_json::from_str(&told[1].1).unwrap();
    assert_eq!(body["type"], "job.finished");
    assert_eq!(body["data"]["status"], "finished_successful");
}

#[test]
fn other_machines_reach_it_encrypted_or_not_at_all() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, format!("api_hosts = [\"nas.home:{port}\"]\n")).unwrap();
    let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_CONFIG", &config).args(["--api", &format!("0.0.0.0:{port}")]);
    });
    let api = Api::of(bed);
    assert_ne!(api.addr.port(), port, "the command line has an address of its own");
    let token = new_token(&api, "phone", "read");
    let certificate = api.bed.data(0).join("api.certificate.pem");
    let curl = |host: &str, scheme: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "20", "--cacert"]).arg(&certificate);
        command.args(["--resolve", &format!("{host}:{port}:127.0.0.1"), "--config", "-"]);
        command.arg(format!("{scheme}://{host}:{port}/api/v1/status"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let line = format!("header = \"Authorization: Bearer {token}\"\n");
        child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        (
            out.status.success(),
            String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned(),
        )
    };
    let (ok, said) = curl("nas.home", "https");
    assert!(ok && said.contains("\"version\""), "{said}");
    let (ok, said) = curl("nas.home", "http");
    assert!(!ok, "without encryption: {said}");
    let (ok, said) = curl("other.home", "https");
    assert!(!ok, "the certificate has another name: {said}");
    let half = dir.path().join("half.toml");
    std::fs::write(&half, "api_key = \"/no.pem\"\n").unwrap();
    let mut command = dmc(&dir.path().join("data"), 0);
    command.args(["agent", "--no-discovery"]);
    command.args(["--listen", "127.0.0.1:0", "--api", "0.0.0.0:0"]).env("DMC_CONFIG", &half);
    let half = run(&mut command, LIMIT);
    assert!(half.code == Some(1) && half.stderr.contains("belong together"), "{half}");
}

#[test]
fn over_tls_a_browser_stays_signed_in_when_the_agent_starts_anew() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_API_HOSTS", format!("nas.home:{port}"));
        agent.args(["--api", &format!("0.0.0.0:{port}")]);
    });
    let get = |bed: &Bed, jar: &str, home: &str, path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"]);
        curl.args(["-H", "Accept: text/html"]);
        curl.arg("--cacert").arg(bed.data(0).join("api.certificate.pem"));
        curl.args(["--resolve", &format!("nas.home:{port}:127.0.0.1")]);
        curl.arg("-b").arg(dir.path().join(jar)).arg("-c").arg(dir.path().join(jar));
        let asked = run(curl.arg(format!("{home}/{path}")), LIMIT);
        assert!(asked.ok(), "{asked}");
        asked.stdout
    };
    let link = |bed: &Bed| {
        let link = bed.ask(0, &["dashboard"])["url"].as_str().unwrap().to_owned();
        let (home, code) = link.split_once("/login").unwrap();
        (home.to_owned(), format!("login{code}"))
    };
    let wide = format!("https://nas.home:{port}");
    assert_eq!(get(&bed, "tls", &wide, &link(&bed).1), "303");
    let (local, code) = link(&bed);
    assert_eq!(get(&bed, "plain", &local, &code), "303");
    assert_eq!(get(&bed, "tls", &wide, "jobs"), "200");
    assert_eq!(get(&bed, "plain", &local, "jobs"), "200");
    assert_eq!(get(&bed, "nobody", &wide, "jobs"), "303", "to the page for signing in");

    bed.kill(0);
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    assert_eq!(get(&bed, "tls", &wide, "jobs"), "200");
    let (local, _) = link(&bed);
    assert_eq!(get(&bed, "plain", &local, "jobs"), "303");
    assert!(run(bed.dmc(0).args(["token", "revoke", "local"]), LIMIT).ok());
    assert_eq!(get(&bed, "tls", &wide, "jobs"), "303");
}
