//! Items: what clients of the API send, name, fetch and delete.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::{Api, close, is_problem};
use crate::support::bed::{Bed, Meeting};
use crate::support::process::run;
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(180);
const QUOTA: usize = 300_000;

/// A form's fields, then its file.
fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(format!("{head}{value}\r\n").as_bytes());
    }
    if let Some((name, bytes)) = file {
        let head = "--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=";
        body.extend_from_slice(format!("{head}\"{name}\"\r\n\r\n").as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--cut--\r\n");
    body
}

fn post(api: &Api, kind: &str, more: &[String], body: &[u8]) -> (u16, String, String) {
    let mut lines = vec![api.host(), api.bearer(), close(), format!("Content-Type: {kind}")];
    lines.extend_from_slice(more);
    api.say("POST /api/v1/item", &lines, body)
}

fn send(api: &Api, more: &[String], body: &[u8]) -> (u16, String, String) {
    let mut lines = vec![format!("Content-Length: {}", body.len())];
    lines.extend_from_slice(more);
    post(api, "multipart/form-data; boundary=cut", &lines, body)
}

fn name_a_file(api: &Api, path: &Path) -> (u16, String, String) {
    let wish = serde_json::json!({
        "client_id": "c", "conversion_type": "h264", "file_path": path.to_str().unwrap()
    });
    let body = wish.to_string();
    let length = format!("Content-Length: {}", body.len());
    post(api, "application/json", &[length], body.as_bytes())
}

fn parsed(answer: &(u16, String, String)) -> Value {
    serde_json::from_str(&answer.2).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

fn with(set: impl Fn(&mut Command)) -> Api {
    Api::of(Bed::start_with(1, Meeting::Address, |_, agent| set(agent)))
}

const PLAIN: [(&str, &str); 2] = [("client_id", "c"), ("conversion_type", "h264")];

/// Everything that clients sent and that is still here.
fn uploads(api: &Api) -> Vec<PathBuf> {
    let below = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let uploads = api.bed.data(0).join("uploads");
    let mut found = below(uploads.join(".arriving"));
    found.extend(below(uploads).into_iter().filter(|path| !path.ends_with(".arriving")));
    found
}

#[test]
fn the_examples_do_what_they_say() {
    let bed = Bed::start(1, Meeting::Address);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let film = zoo::get("plain.mp4");
    let mut curl = Command::new(examples.join("api.sh"));
    let done = run(curl.arg(&film).env("DMC_DATA", bed.data(0)), LIMIT);
    assert!(done.ok() && done.stdout.contains("every answer was right"), "{done}");
    let result = bed.dir("out").join("result.mp4");
    let mut python = Command::new("python3");
    python.arg(examples.join("client.py")).arg(&film).arg("h264").arg(&result);
    let done = run(python.env("DMC_DATA", bed.data(0)), LIMIT);
    assert!(done.ok(), "{done}");
    assert!(fs::metadata(&result).unwrap().len() > 1_000, "{done}");
    let left = fs::read_dir(bed.data(0).join("uploads")).unwrap();
    let left: Vec<_> = left.flatten().filter(|entry| entry.file_name() != ".arriving").collect();
    assert!(left.is_empty(), "what was deleted is gone: {left:?}");
}

#[test]
fn what_is_refused_leaves_nothing() {
    let api = with(|agent| {
        agent.env("DMC_UPLOAD_QUOTA_BYTES", QUOTA.to_string());
    });
    let film = fs::read(zoo::get("plain.mp4")).unwrap();
    let film = &film[..film.len().min(QUOTA / 2)];
    let huge = vec![0; 2 * QUOTA];
    is_problem(&send(&api, &[], &form(&PLAIN, Some(("a.mp4", &huge)))), 413);
    // Nor when it does not say how much will come.
    let mut chunked = Vec::new();
    for piece in form(&PLAIN, Some(("a.mp4", &huge))).chunks(10_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(&[piece, b"\r\n"].concat());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let kind = "multipart/form-data; boundary=cut";
    let lines = ["Transfer-Encoding: chunked".to_owned()];
    is_problem(&post(&api, kind, &lines, &chunked), 413);

    for name in ["../a.mp4", "/etc/a.mp4", "..", "a\\b.mp4", ""] {
        is_problem(&send(&api, &[], &form(&PLAIN, Some((name, film)))), 422);
    }
    let wrong = [PLAIN[0], PLAIN[1], ("checksum", "00")];
    is_problem(&send(&api, &[], &form(&wrong, Some(("a.mp4", film)))), 422);
    let stray = [PLAIN[0], PLAIN[1], ("urgency", "9")];
    is_problem(&send(&api, &[], &form(&stray, Some(("a.mp4", film)))), 422);
    let unranked = [PLAIN[0], PLAIN[1], ("priority", "soon")];
    is_problem(&send(&api, &[], &form(&unranked, Some(("a.mp4", film)))), 422);
    is_problem(&send(&api, &[], &form(&PLAIN, None)), 422);
    let client = [("client_id", "a/b"), PLAIN[1]];
    is_problem(&send(&api, &[], &form(&client, Some(("a.mp4", film)))), 422);
    is_problem(&send(&api, &[], &form(&PLAIN, Some(("a.mp4", b"no film")))), 422);
    is_problem(&post(&api, kind, &["Content-Length: 5".to_owned()], b"hello"), 422);
    // A client that goes away in the middle.
    let whole = form(&PLAIN, Some(("a.mp4", film)));
    let lines = [format!("Content-Length: {}", whole.len() + 1_000)];
    drop(post(&api, kind, &lines, &whole[..whole.len() / 2]));

    let end = Instant::now() + Duration::from_secs(40);
    while !uploads(&api).is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", uploads(&api));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(parsed(&api.ask("GET /api/v1/item/c")), Value::Array(Vec::new()));
    assert_eq!(parsed(&api.ask("GET /api/v1/jobs")), Value::Array(Vec::new()));
}

#[test]
fn only_files_below_the_listed_directories_may_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let (open, secret) = (dir.path().join("open"), dir.path().join("secret.mp4"));
    fs::create_dir(&open).unwrap();
    fs::copy(zoo::get("plain.mp4"), open.join("film.mp4")).unwrap();
    fs::copy(zoo::get("plain.mp4"), &secret).unwrap();
    symlink(&secret, open.join("link.mp4")).unwrap();
    let api = with(|agent| {
        agent.env("DMC_API_PATHS", &open);
    });
    for outside in [&secret, &open.join("link.mp4"), &open.join("../secret.mp4")] {
        is_problem(&name_a_file(&api, outside), 403);
    }
    is_problem(&name_a_file(&api, &dir.path().join("not-there.mp4")), 403);
    is_problem(&name_a_file(&api, Path::new("film.mp4")), 422);
    let made = name_a_file(&api, &open.join("film.mp4"));
    assert_eq!(made.0, 201, "{made:?}");
    let item = parsed(&made);
    let place = format!("/api/v1/item/c/{}", item["item_id"].as_str().unwrap());
    assert!(made.1.contains(&format!("location: {place}")), "{}", made.1);
    let expected = blake3::hash(&fs::read(&secret).unwrap()).to_hex().to_string();
    let end = Instant::now() + LIMIT;
    while parsed(&api.ask(&format!("GET {place}")))["checksum"] != expected {
        assert!(Instant::now() < end, "its checksum does not come");
        std::thread::sleep(Duration::from_millis(100));
    }
    let other = place.replace("/c/", "/d/");
    is_problem(&api.ask(&format!("GET {other}")), 404);
    assert_eq!(api.ask(&format!("DELETE {place}")).0, 204, "also while it runs");
    is_problem(&api.ask(&format!("GET {place}")), 404);
    assert!(open.join("film.mp4").exists(), "what was here before stays");
}

#[test]
fn a_request_with_a_key_is_done_once() {
    let mut api = Api::of(Bed::start(1, Meeting::Address));
    let film = fs::read(zoo::get("plain.mp4")).unwrap();
    let body = form(&PLAIN, Some(("a.mp4", &film)));
    let key = ["Idempotency-Key: tuesday".to_owned()];
    let first = send(&api, &key, &body);
    assert_eq!(first.0, 201, "{first:?}");
    let id = parsed(&first)["item_id"].clone();
    let again = send(&api, &key, &body);
    assert_eq!((again.0, &parsed(&again)["item_id"]), (200, &id));
    api.bed.kill(0);
    api.bed.start_again(0);
    api.bed.wait_for_peers(0, 0);
    api = Api::of(api.bed);
    let again = send(&api, &key, &body);
    assert_eq!((again.0, &parsed(&again)["item_id"]), (200, &id));
    assert_eq!(uploads(&api).len(), 1, "{:?}", uploads(&api));
    let other = send(&api, &["Idempotency-Key: wednesday".to_owned()], &body);
    assert_eq!(other.0, 201);
    let listed = parsed(&api.ask("GET /api/v1/item/c"));
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed:#}");
    assert_eq!(listed[1]["item_id"], id, "the newest first");

    // Who removes the job removes what was sent for it.
    let place = format!("/api/v1/jobs/{}", id.as_str().unwrap());
    api.ask(&format!("POST {place}/cancel"));
    let end = Instant::now() + LIMIT;
    while api.ask(&format!("DELETE {place}")).0 != 204 {
        assert!(Instant::now() < end, "the job does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(uploads(&api).len(), 1, "{:?}", uploads(&api));
    is_problem(&send(&api, &key, &body), 410);
}

#[test]
fn a_file_of_many_megabytes_arrives_whole() {
    let api = Api::new();
    // Behind its end a film may hold anything.
    let mut film = fs::read(zoo::get("plain.mp4")).unwrap();
    let large = 5_000_000_u32;
    film.extend_from_slice(&[large.to_be_bytes(), *b"free"].concat());
    film.extend((8..large).map(|n| n.to_le_bytes()[0]));
    let sum = blake3::hash(&film).to_hex().to_string();
    let fields = [("client_id", "c"), ("conversion_type", "h264"), ("checksum", sum.as_str())];
    let answer = send(&api, &[], &form(&fields, Some(("large.mp4", &film))));
    assert_eq!(answer.0, 201, "{answer:?}");
    let item = parsed(&answer);
    assert_eq!(item["file_size"], film.len());
    assert_eq!(item["checksum"], sum.as_str());
}

/// A client that sends zeros without an end in sight: what the agent answers, and the most that lay
/// on its disk meanwhile.
fn flood(api: &Api, length: Option<u64>) -> ((u16, String, String), u64) {
    let head = form(&PLAIN, Some(("endless.mp4", b"")));
    let head = &head[..head.len() - b"\r\n--cut--\r\n".len()];
    let kind = "Content-Type: multipart/form-data; boundary=cut".to_owned();
    let how = match length {
        Some(length) => format!("Content-Length: {length}"),
        None => "Transfer-Encoding: chunked".to_owned(),
    };
    let lines = [api.host(), api.bearer(), close(), kind, how].join("\r\n");
    let mut stream = api.connect();
    let mut begin = format!("POST /api/v1/item HTTP/1.1\r\n{lines}\r\n\r\n").into_bytes();
    let piece = |bytes: &[u8]| match length {
        Some(_) => bytes.to_vec(),
        None => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
    };
    begin.extend(piece(head));
    stream.write_all(&begin).unwrap();
    let mut sends = stream.try_clone().unwrap();
    let zeros = piece(&vec![0; 1 << 20]);
    let sending = std::thread::spawn(move || {
        let mut sent = 0;
        while sent < TEN_GB && sends.write_all(&zeros).is_ok() {
            sent += 1_u64 << 20;
        }
    });
    let (uploads, most) = (api.bed.data(0).join("uploads"), Mutex::new(0));
    let over = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        let (over, most) = (&over, &most);
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let mut most = most.lock().unwrap();
                *most = bytes_below(&uploads).max(*most);
                drop(most);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let mut said = Vec::new();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // What comes before the connection is cut is the answer.
        let _ = stream.read_to_end(&mut said);
        over.store(true, Ordering::Relaxed);
        String::from_utf8_lossy(&said).into_owned()
    });
    drop(stream);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let answer = (status, head.to_lowercase(), body.to_owned());
    sending.join().unwrap();
    (answer, most.into_inner().unwrap())
}

/// Bytes that the files below a directory take on the disk.
fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

const TEN_GB: u64 = 10_000_000_000;

#[test]
fn ten_gigabytes_do_not_get_into_a_quota_of_one() {
    let quota = 1_000_000_000;
    let api = with(|agent| {
        agent.env("DMC_UPLOAD_QUOTA_BYTES", quota.to_string());
    });
    // It says how much will come: nothing of it is kept.
    let (answer, most) = flood(&api, Some(TEN_GB));
    is_problem(&answer, 413);
    assert!(answer.2.contains("upload_quota_bytes"), "it says what to do: {}", answer.2);
    assert!(most < 1 << 20, "{most} bytes of it lay on the disk");
    // It does not say: what fits is taken until no more does.
    // The rest is poured away for a moment, so that the client hears why: how much depends on the machine.
    let (answer, most) = flood(&api, None);
    is_problem(&answer, 413);
    assert!(most <= quota + (1 << 20), "{most} bytes lay on the disk");
    let status = fs::read_to_string(format!("/proc/{}/status", api.bed.process_id(0))).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200 << 10, "{peak} KiB of memory");
    let end = Instant::now() + Duration::from_secs(40);
    while !uploads(&api).is_empty() {
        assert!(Instant::now() < end, "left behind: {:?}", uploads(&api));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(parsed(&api.ask("GET /api/v1/item/c")), Value::Array(Vec::new()));
    assert_eq!(parsed(&api.ask("GET /api/v1/jobs")), Value::Array(Vec::new()));
    // And what is honest still gets in.
    let film = fs::read(zoo::get("plain.mp4")).unwrap();
    assert_eq!(send(&api, &[], &form(&PLAIN, Some(("a.mp4", &film)))).0, 201);
}
