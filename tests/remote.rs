//! The command line at an agent on another machine: `dmc --agent URL …`.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bed::{Bed, Meeting, free_tcp_port};
use crate::support::dmc::dmc;
use crate::support::process::{Finished, Running, run, signal};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(600);

/// An agent at a port that it keeps, and a token that outlives its starts.
struct There {
    bed: Bed,
    url: String,
    token: String,
}

impl There {
    fn start(change: impl Fn(&mut Command)) -> Self {
        let port = free_tcp_port();
        let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
            agent.env("DMC_API", format!("127.0.0.1:{port}"));
            change(agent);
        });
        let made = bed.ask(0, &["token", "add", "test", "--scope", "submit"]);
        let token = made["token"].as_str().unwrap().to_owned();
        Self { bed, url: format!("http://127.0.0.1:{port}"), token }
    }

    fn start_again(&mut self) {
        self.bed.start_again(0);
        self.bed.wait_for_peers(0, 0);
    }

    /// The one job there.
    fn job(&self) -> Value {
        let jobs = self.bed.ask(0, &["jobs"]);
        assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs:#}");
        jobs[0].clone()
    }

    fn wait_for(&self, status: &str) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let jobs = self.bed.ask(0, &["jobs"]);
            if jobs[0]["status"] == status {
                return jobs[0].clone();
            }
            assert!(Instant::now() < end, "no job is {status}: {jobs:#}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Directories of files that were sent and are still there.
    fn kept(&self) -> usize {
        let uploads = fs::read_dir(self.bed.data(0).join("uploads")).into_iter().flatten();
        uploads.flatten().filter(|entry| entry.file_name() != ".arriving").count()
    }
}

/// A machine without an agent.
struct Here {
    dir: TempDir,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dmc-test-").tempdir().unwrap();
        fs::create_dir(dir.path().join("films")).unwrap();
        Self { dir }
    }

    fn films(&self) -> PathBuf {
        self.dir.path().join("films")
    }

    /// A call in the directory of the films.
    fn dmc(&self, url: &str, token: &str) -> Command {
        let mut command = dmc(&self.dir.path().join("none"), 0);
        command.current_dir(self.films()).env("DMC_TOKEN", token).args(["--agent", url]);
        command
    }

    fn copy(&self, animal: &str, name: &str) {
        fs::copy(zoo::get(animal), self.films().join(name)).unwrap();
    }

    /// All names beside the films.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.films()).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn says(done: &Finished, code: i32, text: &str) {
    assert!(done.code == Some(code) && done.stderr.contains(text), "not {code}, {text}: {done}");
}

fn same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} {}", a.display(), b.display());
}

#[test]
fn films_go_there_and_results_come_back() {
    let (there, here) = (There::start(|_| {}), Here::new());
    let call = || here.dmc(&there.url, &there.token);
    let names = ["-ein \"Film\" 🎬.mp4", "with space.mp4"];
    for name in names {
        here.copy("tiny.mp4", name);
    }
    let convert =
        |words: &[&str]| run(call().args(["convert", "--preset", "h264"]).args(words), LIMIT);
    let done = convert(&["--", names[0], names[1]]);
    assert!(done.ok(), "{done}");
    assert!(
        done.stdout.contains("proof: all") && done.stdout.contains("made by: agent-0"),
        "{done}"
    );
    let results = ["-ein \"Film\" 🎬.h264.mkv", "with space.h264.mkv"];
    assert_eq!(here.names(), [results[0], names[0], results[1], names[1]]);
    assert_eq!((there.kept(), there.bed.ask(0, &["jobs"]).as_array().unwrap().len()), (0, 0));

    // Refused before anything is sent.
    says(&convert(&["--", names[0]]), 1, "exists");
    let done = convert(&["--overwrite", "--keep", "--json", "--", names[0]]);
    assert!(done.ok(), "{done}");
    let job = there.job();
    same(Path::new(job["output"].as_str().unwrap()), &here.films().join(results[0]));
    assert!(done.stdout.lines().last().unwrap().contains(job["id"].as_str().unwrap()), "{done}");

    // What is asked about it is answered here as there.
    let id = job["id"].as_str().unwrap();
    let jobs = run(call().args(["jobs", "show", id]), LIMIT);
    assert!(jobs.ok() && jobs.stdout.contains("finished_successful"), "{jobs}");
    assert!(run(call().arg("peers"), LIMIT).ok());
    says(&run(call().args(["jobs", "cancel", id]), LIMIT), 1, "is over");
    let fetched = run(call().args(["fetch", id, "-o", "again.mkv"]), LIMIT);
    assert!(fetched.ok(), "{fetched}");
    same(&here.films().join("again.mkv"), &here.films().join(results[0]));
    assert!(run(call().args(["jobs", "remove", id]), LIMIT).ok());
    assert_eq!(there.kept(), 0);

    // Another format and quality, and a file that is no film.
    let done = convert(&["--crf", "40", "-o", "small.mp4", "--", names[1]]);
    assert!(done.ok(), "{done}");
    let size = |name: &str| fs::metadata(here.films().join(name)).unwrap().len();
    assert!(size("small.mp4") < size(results[1]), "the quality did not arrive");
    assert_eq!(&fs::read(here.films().join("small.mp4")).unwrap()[4..8], b"ftyp");
    fs::write(here.films().join("no.mp4"), "no film").unwrap();
    says(&convert(&["no.mp4"]), 1, "dmc: ");
    assert_eq!(there.kept(), 0);
    assert!(!here.names().iter().any(|name| name.contains("dmc-part")), "{:?}", here.names());
}

/// Answers every call by its path, until the test ends.
fn server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4_096];
            let count = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            let (status, body) = answer(head.split(' ').nth(1).unwrap_or_default());
            let length = body.len();
            let text = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(text.as_bytes());
        }
    });
    url
}

#[test]
fn what_is_wrong_is_said_at_once() {
    let there = There::start(|agent| {
        agent.env("DMC_UPLOAD_QUOTA_BYTES", "1000000");
    });
    let here = Here::new();
    here.copy("long.mp4", "a.mp4");
    let (url, token) = (there.url.as_str(), there.token.as_str());
    let nobody = format!("http://127.0.0.1:{}", free_tcp_port());
    let tls = url.replace("http:", "https:");
    let path = format!("{url}/dmc");
    let web = server(|_| (200, "<html>".to_owned()));
    let gone = server(|_| (404, "nothing here".to_owned()));
    let down = server(|_| (502, "Bad Gateway".to_owned()));
    let status = there.bed.ask(0, &["status"]).to_string();
    let old = server(move |path| match path {
        "/api/v1/status" => (200, status.clone()),
        _ => (404, r#"{"detail":"the API has no such path","status":404}"#.to_owned()),
    });
    let cases: [(&str, &str, &[&str], i32, &str); 16] = [
        (&nobody, token, &["status"], 1, "connection refused"),
        ("http://nowhere.invalid", token, &["status"], 1, "no such host"),
        (url, "wrong", &["status"], 1, "refuses the token of DMC_TOKEN"),
        (&tls, token, &["status"], 1, "does not speak TLS"),
        (&path, token, &["status"], 1, "is the path of the address right?"),
        (&web, token, &["status"], 1, "no dmc agent"),
        (&gone, token, &["status"], 1, "no dmc agent"),
        (&down, token, &["status"], 1, "the proxy before it answers 502"),
        (&old, token, &["convert", "a.mp4"], 1, "too old to take files (dmc "),
        // The answer is seen, though the film is on its way by then.
        (url, token, &["convert", "a.mp4"], 1, "uploaded files may take 1000000 bytes"),
        (&nobody, token, &["status", "--wait-for-agent=1s"], 1, "after 1 second"),
        ("127.0.0.1", token, &["status"], 2, "no address of an agent"),
        (url, "", &["status"], 2, "needs a token"),
        (url, token, &["agent"], 2, "on this machine"),
        (url, token, &["convert", "--hand-over", "a.mp4"], 2, "--hand-over"),
        ("", token, &["status", "--wait-for-agent"], 2, "needs --agent"),
    ];
    for (url, token, words, code, text) in cases {
        says(&run(here.dmc(url, token).args(words), LIMIT), code, text);
    }
    // A token that may only look.
    let made = there.bed.ask(0, &["token", "add", "look", "--scope", "read"]);
    let look = here.dmc(url, made["token"].as_str().unwrap()).args(["convert", "a.mp4"]).output();
    let look = String::from_utf8(look.unwrap().stderr).unwrap();
    assert!(look.contains("may only read"), "{look}");
    assert_eq!((there.kept(), here.names()), (0, vec!["a.mp4".to_owned()]));
}

#[test]
fn an_agent_that_is_away_is_waited_for_also_in_the_middle() {
    let (mut there, here) = (There::start(|_| {}), Here::new());
    here.copy("long.mp4", "film.mp4");
    assert!(there.bed.stop(0));
    let mut convert = here.dmc(&there.url, &there.token);
    convert.args(["--wait-for-agent", "convert", "--preset", "h264", "--keep", "film.mp4"]);
    let converting = Running::start(&mut convert);
    sleep(Duration::from_secs(2));
    there.start_again();
    there.wait_for("in_progress");
    there.bed.pull_plug(0);
    sleep(Duration::from_secs(3));
    there.start_again();
    let done = converting.wait(LIMIT);
    assert!(done.ok(), "{done}");
    assert!(done.stderr.matches("waiting for the agent").count() >= 2, "{done}");
    assert!(done.stderr.matches("is there again").count() >= 2, "{done}");
    let job = there.job();
    same(Path::new(job["output"].as_str().unwrap()), &here.films().join("film.h264.mkv"));
    assert_eq!(here.names(), ["film.h264.mkv", "film.mp4"]);
}

/// A line to the agent that is cut after so many bytes, once in each direction.
struct Line {
    up: AtomicI64,
    down: AtomicI64,
    /// Whether somebody asked for the rest of a file.
    rest: AtomicBool,
}

impl Line {
    fn open(port: u16, agent: String, up: i64, down: i64) -> Arc<Self> {
        let line = Arc::new(Self {
            up: AtomicI64::new(up),
            down: AtomicI64::new(down),
            rest: AtomicBool::new(false),
        });
        let (opened, listener) = (line.clone(), TcpListener::bind(("127.0.0.1", port)).unwrap());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&agent) else { continue };
                let (from, to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let line = opened.clone();
                thread::spawn(move || line.pass(from, to, &line.up));
                let line = opened.clone();
                thread::spawn(move || line.pass(far, near, &line.down));
            }
        });
        line
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
        let mut buffer = [0; 8_192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if String::from_utf8_lossy(&buffer[..count]).to_lowercase().contains("range: bytes=") {
                self.rest.store(true, Ordering::Relaxed);
            }
            let before = left.fetch_sub(count as i64, Ordering::Relaxed);
            // Only the piece that crosses the limit: what comes later passes.
            let cut = before > 0 && before <= count as i64;
            if cut || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[test]
fn transfers_that_break_off_go_on() {
    let port = free_tcp_port();
    let there = There::start(|agent| {
        agent.env("DMC_API_HOSTS", format!("localhost:{port}"));
    });
    let here = Here::new();
    here.copy("plain.mp4", "film.mp4");
    let agent = there.url.strip_prefix("http://").unwrap().to_owned();
    let line = Line::open(port, agent, 300_000, 100_000);
    let mut convert = here.dmc(&format!("http://localhost:{port}"), &there.token);
    convert.args(["--wait-for-agent=60s", "convert", "--preset", "h264", "--keep", "film.mp4"]);
    let done = run(&mut convert, LIMIT);
    assert!(done.ok(), "{done}");
    assert!(line.up.load(Ordering::Relaxed) < 0 && line.down.load(Ordering::Relaxed) < 0);
    assert!(line.rest.load(Ordering::Relaxed), "it did not go on where it stopped: {done}");
    let job = there.job();
    same(Path::new(job["output"].as_str().unwrap()), &here.films().join("film.h264.mkv"));
    assert_eq!(here.names(), ["film.h264.mkv", "film.mp4"]);
}

#[test]
fn who_leaves_is_told_how_to_go_on() {
    let (there, here) = (There::start(|_| {}), Here::new());
    here.copy("long.mp4", "film.mp4");
    let mut convert = here.dmc(&there.url, &there.token);
    let converting = Running::start(convert.args(["convert", "--preset", "h264", "film.mp4"]));
    let job = there.wait_for("in_progress");
    let id = job["id"].as_str().unwrap();
    signal(converting.id(), Signal::INT);
    let left = converting.wait(LIMIT);
    let fetch = format!("dmc --agent {} fetch {id}", there.url);
    says(&left, 130, &fetch);
    assert!(left.stderr.contains(&format!("jobs remove {id}")), "{left}");
    assert_eq!(here.names(), ["film.mp4"]);
    let early = run(here.dmc(&there.url, &there.token).args(["fetch", id]), LIMIT);
    says(&early, 1, "no result yet");
    there.wait_for("finished_successful");
    let fetched = run(here.dmc(&there.url, &there.token).args(["fetch", id]), LIMIT);
    assert!(fetched.ok(), "{fetched}");
    let job = there.job();
    same(Path::new(job["output"].as_str().unwrap()), &here.films().join("film.h264.mkv"));
    assert_eq!(here.names(), ["film.h264.mkv", "film.mp4"]);
}

#[test]
fn an_encrypted_agent_is_trusted_by_its_certificate() {
    let port = free_tcp_port();
    let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_API", format!("0.0.0.0:{port}"));
        agent.env("DMC_API_HOSTS", format!("localhost:{port}"));
    });
    let here = Here::new();
    let url = format!("https://localhost:{port}");
    let call = || {
        let mut command = here.dmc(&url, "");
        command.env("DMC_TOKEN_FILE", bed.data(0).join("api.token"));
        command
    };
    let refused = run(call().arg("status"), LIMIT);
    says(&refused, 1, "");
    assert!(["--ca-file", "ca-certificates"].iter().any(|word| refused.stderr.contains(word)));
    let certificate = bed.data(0).join("api.certificate.pem");
    let asked = run(call().arg("--ca-file").arg(&certificate).args(["status"]), LIMIT);
    assert!(asked.ok() && asked.stdout.contains("agent-0"), "{asked}");
}
