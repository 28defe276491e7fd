//! Watched folders: what is taken, what is left alone and why, and that each file is done once,
//! whatever happens to its name, its disk or the agent.

mod results;
mod rules;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::api::{Api, is_problem};
use crate::support::bed::{Bed, Meeting};
use crate::support::process::run;

const LIMIT: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(150);

/// An agent that takes files as soon as they rest for a second.
fn bed() -> Bed {
    Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_WATCH_SETTLE_S", "1").env("DMC_WATCH_RESCAN_S", "5");
    })
}

/// Makes a film. `seed` makes it another one than the others.
fn film(path: &Path, seconds: u32, seed: u32, words: &[&str]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let picture = format!("testsrc2=s=96x64:r=10,hue=h={seed}");
    let mut call = Command::new("ffmpeg");
    call.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", &picture]);
    call.args(["-t", &seconds.to_string()]).args(words).arg("-f").arg(format_of(path));
    let done = run(call.arg("--").arg(path), LIMIT);
    assert!(done.ok() && path.exists(), "{done}");
}

fn format_of(path: &Path) -> &'static str {
    match path.extension().and_then(OsStr::to_str) {
        Some("mp4") => "mp4",
        Some("avi") => "avi",
        Some("gif") => "gif",
        _ => "matroska",
    }
}

const H264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-crf", "5"];

fn h264(path: &Path, seed: u32) {
    film(path, 1, seed, H264);
}

fn call(bed: &Bed, words: &[&OsStr]) -> Value {
    let done = run(bed.dmc(0).arg("watch").args(words).arg("--json"), LIMIT);
    assert!(done.ok(), "{done}");
    serde_json::from_str(&done.stdout).unwrap_or_default()
}

fn add(bed: &Bed, dir: &Path, words: &[&str]) -> Value {
    let mut all = vec![OsStr::new("add"), dir.as_os_str()];
    all.extend(words.iter().map(OsStr::new));
    call(bed, &all)
}

fn watch(bed: &Bed) -> Value {
    call(bed, &[OsStr::new("list")])[0].clone()
}

fn count(watch: &Value, state: &str) -> u64 {
    watch["files"][state].as_u64().unwrap()
}

/// Waits until a folder is as it should be.
fn until(bed: &Bed, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + LIMIT;
    loop {
        let now = watch(bed);
        if is(&now) {
            return now;
        }
        assert!(Instant::now() < end, "{what}: {now:#}");
        sleep(PAUSE);
    }
}

/// Nothing of the folder is under way, and all of it was looked at after this call.
fn until_quiet(bed: &Bed) -> Value {
    let before = watch(bed)["last_scan"]["at"].clone();
    call(bed, &[OsStr::new("scan")]);
    until(bed, "the folder comes to rest", |now| {
        now["last_scan"]["at"] != before
            && now["state"] == "watching"
            && ["settling", "new", "waiting", "converting"].iter().all(|of| count(now, of) == 0)
    })
}

fn explain(bed: &Bed, path: &Path) -> Value {
    call(bed, &[OsStr::new("explain"), path.as_os_str()])
}

/// The files of a state by their names, and why they are there.
fn listed(api: &Api, state: &str) -> BTreeMap<String, String> {
    let (status, _, body) = api.ask(&format!("GET /api/v1/watch/1/files?state={state}&limit=1000"));
    assert_eq!(status, 200, "{body}");
    let files: Value = serde_json::from_str(&body).unwrap();
    let name = |file: &Value| {
        let path = file["path"].as_str().unwrap();
        path.rsplit('/').next().unwrap().to_owned()
    };
    let why = |file: &Value| {
        let part = |key: &str| file[key].as_str().unwrap_or_default();
        format!("{} {}", part("rule"), part("why"))
    };
    files.as_array().unwrap().iter().map(|file| (name(file), why(file))).collect()
}

/// How many jobs the agent ever had.
fn jobs(bed: &Bed) -> usize {
    bed.ask(0, &["jobs", "list"]).as_array().unwrap().len()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_mixed_folder_is_converted_once_and_every_skip_says_why() {
    let bed = bed();
    let dir = bed.dir("films \u{1f3ac}");
    h264(&dir.join("a.mkv"), 1);
    h264(&dir.join("sub dir/-b \u{1f3ac}.mp4"), 2);
    let odd = dir.join(OsStr::from_bytes(b"c\xff.mkv"));
    h264(&odd, 3);
    film(&dir.join("d.avi"), 1, 4, &["-c:v", "mpeg4"]);
    film(&dir.join("already.mkv"), 1, 5, &["-c:v", "libx265", "-preset", "ultrafast"]);
    h264(&dir.join(".hidden.mkv"), 6);
    fs::write(dir.join("a.srt"), "no film").unwrap();
    fs::write(dir.join("poster.jpg"), "no film").unwrap();
    fs::write(dir.join("broken.mkv"), "no film either").unwrap();
    fs::write(dir.join("empty.mkv"), "").unwrap();
    std::os::unix::fs::symlink(dir.join("a.mkv"), dir.join("link.mkv")).unwrap();
    std::os::unix::fs::symlink(&dir, dir.join("loop")).unwrap();
    let sources: Vec<Vec<u8>> =
        [&dir.join("a.mkv"), &odd].iter().map(|path| fs::read(path).unwrap()).collect();

    let added = add(&bed, &dir, &[]);
    assert_eq!(added["kinds"][0], "video", "those that the preset makes: {added:#}");
    let quiet = until_quiet(&bed);
    let counts = ["done", "failed", "skipped", "results"].map(|state| count(&quiet, state));
    let api = Api::of(bed);
    let skipped = listed(&api, "skipped");
    assert_eq!(counts, [4, 0, 5, 4], "{quiet:#}\n{skipped:#?}");
    for (name, part) in [
        ("already.mkv", "hevc already"),
        ("a.srt", "does not end like"),
        ("poster.jpg", "a picture"),
        ("broken.mkv", "not a media file"),
        ("empty.mkv", "it is empty"),
    ] {
        assert!(skipped[name].contains(part), "{name}: {}", skipped[name]);
    }
    let found = names(&dir);
    for name in ["a.hevc.mkv", "d.hevc.mkv", "c\u{fffd}.hevc.mkv"] {
        assert!(found.iter().any(|of| of == name), "{name}: {found:?}");
    }
    assert_eq!(names(&dir.join("sub dir")), ["-b \u{1f3ac}.hevc.mkv", "-b \u{1f3ac}.mp4"]);
    for (path, bytes) in [&dir.join("a.mkv"), &odd].iter().zip(&sources) {
        assert_eq!(&fs::read(path).unwrap(), bytes, "{}", path.display());
    }
    assert!(quiet["bytes_after"].as_u64() < quiet["bytes_before"].as_u64(), "{quiet:#}");
    assert_eq!((quiet["converted"].as_u64(), jobs(&api.bed)), (Some(4), 4));

    let explained = |path: &Path| explain(&api.bed, path);
    let of = explained(&dir.join("a.mkv"));
    assert_eq!(
        (&of["decision"], &of["because"]["rule"]),
        (&"skip".into(), &"once".into()),
        "{of:#}"
    );
    assert_eq!(explained(&odd)["state"], "done");
    assert_eq!(explained(&dir.join("a.hevc.mkv"))["because"]["rule"], "results");
    assert_eq!(explained(&dir.join(".hidden.mkv"))["because"]["rule"], "hidden files");
    assert_eq!(explained(&dir.join("link.mkv"))["because"]["rule"], "regular files");
    let outside = run(api.bed.dmc(0).args(["watch", "explain", "/etc/passwd"]), LIMIT);
    assert!(outside.stderr.contains("no watched folder") && outside.code == Some(1), "{outside}");

    // A page of the dashboard shows the same.
    for (page, part) in [("library", "already.mkv"), ("library/1", "already.mkv")] {
        let (status, _, body) = api.ask(&format!("GET /{page}"));
        let shown = body.contains(part) == (page != "library");
        assert!(status == 200 && shown && body.contains("films"), "{page}: {status} {body}");
    }
    is_problem(&api.ask("GET /api/v1/watch/9"), 404);
    is_problem(&api.ask("GET /api/v1/watch/1/files?state=nonsense"), 400);
}

#[test]
fn a_picture_that_moves_is_a_picture() {
    let bed = bed();
    let dir = bed.dir("both");
    h264(&dir.join("film.mkv"), 1);
    film(&dir.join("loop.gif"), 1, 2, &[]);
    add(&bed, &dir, &["--preset", "hevc", "--preset", "image-webp"]);
    let quiet = until_quiet(&bed);
    assert_eq!(count(&quiet, "done"), 2, "{quiet:#}");
    assert_eq!(names(&dir), ["film.hevc.mkv", "film.mkv", "loop.gif", "loop.webp"]);
}

#[test]
fn a_file_that_is_still_written_is_not_taken() {
    let bed = bed();
    let dir = bed.dir("films");
    let whole = bed.dir("aside").join("a.mkv");
    film(&whole, 4, 1, H264);
    let bytes = fs::read(&whole).unwrap();
    add(&bed, &dir, &[]);
    until_quiet(&bed);
    let path = dir.join("a.mkv");
    let mut file = File::create(&path).unwrap();
    let nothing_yet = |bed: &Bed| {
        let now = watch(bed);
        assert!(["converting", "done", "failed"].iter().all(|of| count(&now, of) == 0), "{now:#}");
    };
    // It grows for longer than it must rest.
    for piece in bytes.chunks(bytes.len().div_ceil(8)) {
        file.write_all(piece).unwrap();
        file.sync_all().unwrap();
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            nothing_yet(&bed);
            sleep(PAUSE);
        }
    }
    // A download that stalls is no film either: somebody holds it open.
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        nothing_yet(&bed);
        sleep(PAUSE);
    }
    assert_eq!(count(&watch(&bed), "settling"), 1, "it is seen");
    drop(file);
    let quiet = until(&bed, "it is converted", |now| count(now, "done") == 1);
    assert_eq!((count(&quiet, "failed"), jobs(&bed)), (0, 1));
}

#[test]
fn what_is_renamed_moved_or_copied_is_not_done_twice() {
    let bed = bed();
    let dir = bed.dir("films");
    h264(&dir.join("a.mkv"), 1);
    h264(&dir.join("season/b.mkv"), 2);
    add(&bed, &dir, &[]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), count(&quiet, "results")), (2, 2), "{quiet:#}");
    // Sources and results, and a whole directory.
    fs::create_dir(dir.join("deep")).unwrap();
    fs::rename(dir.join("a.mkv"), dir.join("deep/renamed \u{1f3ac}.mkv")).unwrap();
    fs::rename(dir.join("a.hevc.mkv"), dir.join("result.mkv")).unwrap();
    fs::rename(dir.join("season"), dir.join("Season 01")).unwrap();
    fs::copy(dir.join("Season 01/b.mkv"), dir.join("copy.mkv")).unwrap();
    let quiet = until_quiet(&bed);
    let counts = ["done", "results", "skipped", "failed"].map(|state| count(&quiet, state));
    assert_eq!((counts, jobs(&bed)), ([3, 2, 0, 0], 2), "{quiet:#}");
    let of = explain(&bed, &dir.join("copy.mkv"));
    assert!(of["because"]["why"].as_str().unwrap().contains("season/b.mkv"), "{of:#}");
    // Another content under a name that was done is another file.
    h264(&dir.join("copy.mkv"), 3);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), jobs(&bed)), (3, 3), "{quiet:#}");
    // Also after it was forgotten and is watched anew.
    call(&bed, &[OsStr::new("remove"), dir.as_os_str()]);
    assert_eq!(call(&bed, &[OsStr::new("list")]), Value::Array(Vec::new()));
    add(&bed, &dir, &[]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), jobs(&bed)), (3, 3), "{quiet:#}");
}

#[test]
fn a_folder_that_is_gone_or_empty_stops_and_forgets_nothing() {
    let bed = bed();
    let dir = bed.dir("disk").join("films");
    for n in 0..3 {
        h264(&dir.join(format!("{n}.mkv")), n);
    }
    add(&bed, &dir, &[]);
    let before = until_quiet(&bed);
    assert_eq!(count(&before, "done"), 3);
    let aside = dir.with_extension("aside");
    let stopped = |part: &str| {
        let now = until(&bed, "it stops", |now| now["state"] == "stopped");
        assert!(now["why"].as_str().unwrap().contains(part), "{now:#}");
        assert_eq!((&now["files"], jobs(&bed)), (&before["files"], 3));
    };
    fs::rename(&dir, &aside).unwrap();
    stopped("cannot be read");
    fs::create_dir(&dir).unwrap();
    sleep(Duration::from_secs(1));
    call(&bed, &[OsStr::new("scan")]);
    until(&bed, "it sees that it is empty", |now| {
        now["why"].as_str().is_some_and(|why| why.contains("suddenly empty"))
    });
    stopped("suddenly empty");
    // The disk is there again.
    fs::remove_dir(&dir).unwrap();
    fs::rename(&aside, &dir).unwrap();
    call(&bed, &[OsStr::new("scan")]);
    let after = until_quiet(&bed);
    assert_eq!((&after["files"], jobs(&bed)), (&before["files"], 3));
    // And it is tended as before.
    h264(&dir.join("new.mkv"), 9);
    until(&bed, "a new film is taken", |now| count(now, "done") == 4);
    // Who says that they are really gone is believed.
    for entry in fs::read_dir(&dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    until(&bed, "it stops", |now| now["state"] == "stopped");
    call(&bed, &[OsStr::new("resume"), dir.as_os_str()]);
    let empty =
        until(&bed, "it goes on", |now| now["state"] == "watching" && count(now, "done") == 0);
    assert_eq!(empty["converted"], 4, "what was saved stays told");
}

#[test]
fn what_cannot_be_watched_is_refused_in_words() {
    let bed = bed();
    let dir = bed.dir("films");
    fs::create_dir(dir.join("below")).unwrap();
    add(&bed, &dir, &[]);
    let below = dir.join("below");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let cases: [(Vec<String>, i32, &str); 6] = [
        (vec![text(&below)], 2, "watched already"),
        (vec![text(&dir.join("none"))], 2, "No such file"),
        (vec![text(&dir), "--preset".into(), "vhs".into()], 2, "no preset `vhs`"),
        (
            vec![text(&dir), "--preset".into(), "hevc".into(), "--preset".into(), "av1".into()],
            2,
            "both make",
        ),
        (vec![text(&dir), "--kinds".into(), "audio".into()], 2, "no preset makes audio"),
        (vec![text(&dir), "--mirror".into(), text(dir.parent().unwrap())], 2, "lies in the mirror"),
    ];
    for (words, code, part) in cases {
        let refused = run(bed.dmc(0).args(["watch", "add"]).args(&words), LIMIT);
        assert_eq!(refused.code, Some(code), "{refused}");
        assert!(refused.stderr.contains(part), "{refused}");
    }
    assert_eq!(call(&bed, &[OsStr::new("list")]).as_array().unwrap().len(), 1);
}

#[test]
fn a_restart_in_the_middle_does_each_file_once() {
    let mut bed = bed();
    let dir = bed.dir("films");
    for n in 0..8 {
        film(&dir.join(format!("{n}.mkv")), 2, n, H264);
    }
    add(&bed, &dir, &[]);
    for done in [1, 4] {
        until(&bed, "some are done", |now| count(now, "done") >= done);
        bed.pull_plug(0);
        bed.start_again(0);
        bed.wait_for_peers(0, 0);
    }
    let quiet = until_quiet(&bed);
    let counts = ["done", "results", "failed", "skipped"].map(|state| count(&quiet, state));
    assert_eq!((counts, jobs(&bed)), ([8, 8, 0, 0], 8), "{quiet:#}");
    assert_eq!((&quiet["converted"], names(&dir).len()), (&8.into(), 16));
}

#[test]
fn a_paused_folder_takes_nothing_until_it_goes_on() {
    let bed = bed();
    let dir = bed.dir("films");
    add(&bed, &dir, &[]);
    call(&bed, &[OsStr::new("pause"), dir.as_os_str()]);
    h264(&dir.join("a.mkv"), 1);
    let end = Instant::now() + Duration::from_secs(4);
    while Instant::now() < end {
        let now = watch(&bed);
        assert!(now["state"] == "paused" && count(&now, "done") == 0 && jobs(&bed) == 0, "{now:#}");
        sleep(PAUSE);
    }
    call(&bed, &[OsStr::new("resume"), dir.as_os_str()]);
    until(&bed, "it is converted", |now| count(now, "done") == 1);
}
