//! The command line with everything that people give it by mistake.
//!
//! Whatever is wrong: one clear error, the right exit code, no file left behind, and the source
//! as it was.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::bed::{Bed, Meeting, free_udp_port};
use crate::support::dmc::{binary, dmc};
use crate::support::namespaces::unshare;
use crate::support::process::{Finished, Running, descendants, run, signal};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(90);

/// A source directory, a destination directory and a data directory; no agent runs.
struct Desk {
    dir: TempDir,
    port: u16,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dmc-test-").tempdir().unwrap();
        for name in ["in", "out", "data"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir, port: free_udp_port() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts an animal of the zoo on the desk.
    fn with(&self, animal: &str) -> PathBuf {
        let path = self.path("in").join(animal);
        fs::copy(zoo::get(animal), &path).unwrap();
        path
    }

    fn dmc(&self) -> Command {
        dmc(&self.path("data"), self.port)
    }

    fn convert(&self, source: &Path, words: &[&str]) -> Finished {
        let out = self.path("out").join("film.mkv");
        run(self.dmc().arg("convert").args(words).arg("-o").arg(out).arg("--").arg(source), LIMIT)
    }

    /// Every file of the source and destination directories: bytes and time of change.
    fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut all = BTreeMap::new();
        for dir in ["in", "out"] {
            for entry in fs::read_dir(self.path(dir)).unwrap() {
                let path = entry.unwrap().path();
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                all.insert(path, (bytes, changed));
            }
        }
        all
    }

    /// Converts something that cannot be converted; nothing on the desk may change.
    fn refuses(&self, source: &Path, words: &[&str], code: i32, about: &[&str]) {
        let before = self.files();
        let done = self.convert(source, words);
        one_clear_error(&done, code, about);
        assert!(before == self.files(), "files changed: {:?}\n{done}", self.files().keys());
    }
}

/// The exit code, and an error that a person understands and that names one of `about`.
fn one_clear_error(done: &Finished, code: i32, about: &[&str]) {
    assert_eq!(done.code, Some(code), "{done}");
    let said = done.stderr.to_lowercase();
    assert!(about.iter().any(|word| said.contains(&word.to_lowercase())), "{about:?}: {done}");
    assert!(!said.contains("panicked"), "{done}");
    assert!(said.matches("error:").count() <= 1, "more than one error: {done}");
    assert!(said.trim().lines().count() <= 12, "too long to be clear: {done}");
}

#[test]
fn what_is_no_film_is_refused() {
    let desk = Desk::new();
    desk.refuses(&desk.path("in").join("missing.mp4"), &[], 1, &["missing.mp4"]);
    desk.refuses(&desk.path("in"), &[], 1, &["directory"]);
    for animal in ["empty.mp4", "text.mkv", "no_index.mp4", "playlist.mp4", "encrypted.mp4"] {
        desk.refuses(&desk.with(animal), &[], 1, &[animal]);
    }
}

#[test]
fn an_unknown_preset_is_a_usage_error() {
    let desk = Desk::new();
    desk.refuses(&desk.with("tiny.mp4"), &["--preset", "nonsense"], 2, &["nonsense"]);
}

#[test]
fn unknown_words_are_usage_errors() {
    let desk = Desk::new();
    for words in
        [&["nonsense"][..], &["convert"], &["convert", "--nonsense", "x"], &["jobs", "show"]]
    {
        let done = run(desk.dmc().args(words), LIMIT);
        one_clear_error(&done, 2, &["usage", "--help"]);
    }
}

#[test]
fn a_result_that_exists_is_kept() {
    let desk = Desk::new();
    let (source, out) = (desk.with("tiny.mp4"), desk.path("out").join("film.mkv"));
    fs::write(&out, "precious").unwrap();
    desk.refuses(&source, &[], 1, &["exists"]);
    let done = desk.convert(&source, &["--overwrite"]);
    assert!(done.ok(), "{done}");
    assert_ne!(fs::read(&out).unwrap(), b"precious");
}

#[test]
fn a_source_is_never_its_own_result() {
    let desk = Desk::new();
    let source = desk.with("tiny.mp4");
    let before = desk.files();
    let mut command = desk.dmc();
    command.args(["convert", "--overwrite", "-o"]).arg(&source).arg(&source);
    one_clear_error(&run(&mut command, LIMIT), 1, &["source", "itself", "same file"]);
    assert!(before == desk.files());
}

#[test]
fn a_place_that_is_no_directory_is_refused() {
    let desk = Desk::new();
    let source = desk.with("tiny.mp4");
    let file = desk.path("out").join("file");
    fs::write(&file, "x").unwrap();
    for place in [file.join("film.mkv"), desk.path("out").join("no/such/place/film.mkv")] {
        let before = desk.files();
        let done = run(desk.dmc().args(["convert", "-o"]).arg(place).arg(&source), LIMIT);
        one_clear_error(&done, 1, &["directory", "no such"]);
        assert!(before == desk.files(), "{done}");
    }
}

/// Runs a conversion to a file system of its own, which nobody else sees and which is gone after.
fn convert_to_mount(desk: &Desk, options: &str) -> Option<(Finished, String)> {
    let mut command = unshare(&["--mount"])?;
    let script = "mount -t tmpfs -o \"$1\" none \"$2\" || exit 99; shift\n\
                  \"$3\" --data-dir \"$4\" convert --preset lossless -o \"$1/film.mkv\" \"$2\"; code=$?\n\
                  ls -A \"$1\"; exit $code";
    command.args(["sh", "-c", script, "sh", options]);
    command.arg(desk.path("out")).arg(desk.with("h264_closedgop.mp4"));
    command.arg(binary()).arg(desk.path("data"));
    command.env("DMC_DISCOVERY_PORT", desk.port.to_string());
    let done = run(&mut command, LIMIT);
    // The program's own lines go to stdout too, so only the file names after them are looked at.
    let left = done.stdout.lines().filter(|l| l.contains(".mkv") || l.contains(".part"));
    let left = left.collect::<Vec<_>>().join("\n");
    Some((done, left))
}

#[test]
fn a_read_only_place_is_refused() {
    let desk = Desk::new();
    let before = zoo::get("h264_closedgop.mp4");
    let Some((done, left)) = convert_to_mount(&desk, "ro") else { return };
    one_clear_error(&done, 1, &["read-only", "permission", "not writable", "cannot write"]);
    assert_eq!(left, "", "{done}");
    let source = desk.path("in").join("h264_closedgop.mp4");
    assert!(fs::read(source).unwrap() == fs::read(before).unwrap());
}

#[test]
fn a_full_disk_is_said_and_cleaned() {
    let desk = Desk::new();
    let Some((done, left)) = convert_to_mount(&desk, "size=300k") else { return };
    one_clear_error(&done, 1, &["space", "full"]);
    assert_eq!(left, "", "{done}");
}

#[test]
fn without_ffmpeg_it_says_what_to_install() {
    let desk = Desk::new();
    let source = desk.with("tiny.mp4");
    let before = desk.files();
    let empty = desk.path("empty");
    fs::create_dir(&empty).unwrap();
    let mut command = desk.dmc();
    command.args(["convert", "-o"]).arg(desk.path("out").join("film.mkv")).arg(source);
    one_clear_error(&run(command.env("PATH", empty), LIMIT), 1, &["ffmpeg"]);
    assert!(before == desk.files());
}

/// A directory with an ffmpeg that has no HEVC encoder.
fn poor_ffmpeg(dir: &Path) {
    let find = run(Command::new("sh").args(["-c", "command -v ffmpeg; command -v ffprobe"]), LIMIT);
    let mut paths = find.stdout.lines();
    let (ffmpeg, ffprobe) = (paths.next().unwrap(), paths.next().unwrap());
    symlink(ffprobe, dir.join("ffprobe")).unwrap();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n\
         *' -encoders '*) {ffmpeg} \"$@\" | grep -v hevc ;;\n\
         *hevc*|*x265*) echo \"Unknown encoder 'libx265'\" >&2; exit 1 ;;\n\
         *) exec {ffmpeg} \"$@\" ;;\nesac\n"
    );
    fs::write(dir.join("ffmpeg"), script).unwrap();
    fs::set_permissions(dir.join("ffmpeg"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_job_that_nobody_can_do_waits_and_says_for_what() {
    let tools = tempfile::tempdir().unwrap();
    poor_ffmpeg(tools.path());
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("PATH", &path);
    });
    let out = bed.dir("out").join("film.mkv");
    let mut command = bed.dmc(0);
    command.env("PATH", &path).args(["convert", "--preset", "hevc", "-o"]).arg(&out);
    let waiting = Running::start(command.arg(zoo::get("tiny.mp4")));
    let id = wait_for("the job says what it waits for", || {
        let jobs = bed.ask(0, &["jobs", "list"]);
        let id = jobs[0]["id"].as_str()?.to_owned();
        let mut job = bed.job(0, &id).0;
        for named_by_the_person in ["preset", "input", "output", "tasks", "spec"] {
            job.as_object_mut()?.remove(named_by_the_person);
        }
        let text = job.to_string().to_lowercase();
        let says = text.contains("hevc") || text.contains("libx265");
        let waits = job["status"] == "to_do" || job["status"] == "in_progress";
        (says && waits).then_some(id)
    });
    let cancelled = run(bed.dmc(0).args(["jobs", "cancel", &id]), LIMIT);
    assert!(cancelled.ok(), "{cancelled}");
    let done = waiting.wait(LIMIT);
    assert_eq!(done.code, Some(1), "{done}");
    assert_eq!(bed.job(0, &id).status(), "cancelled");
    assert!(!out.exists());
}

fn wait_for<T>(what: &str, mut now: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = now() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_source_that_changes_on_the_way_is_not_published() {
    let bed = Bed::start(1, Meeting::Address);
    let (source, out) = (bed.dir("in").join("film.mp4"), bed.dir("out").join("film.mkv"));
    fs::copy(zoo::get("long.mp4"), &source).unwrap();
    let mut command = bed.dmc(0);
    // So short that not all of them are cut before the change.
    command.args(["convert", "--preset", "hevc", "--segment-seconds", "4", "-o"]);
    command.arg(&out).arg(&source);
    let converting = Running::start(&mut command);
    wait_for("it works", || {
        (bed.ask(0, &["jobs", "list"])[0]["status"] == "in_progress").then_some(())
    });
    let mut file = OpenOptions::new().append(true).open(&source).unwrap();
    file.write_all(b"one more take").unwrap();
    drop(file);
    let changed = fs::read(&source).unwrap();
    let done = converting.wait(Duration::from_secs(180));
    one_clear_error(&done, 1, &["changed"]);
    assert!(fs::read(&source).unwrap() == changed);
    assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(source.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn ctrl_c_twice_leaves_nothing() {
    let desk = Desk::new();
    let source = desk.with("long.mp4");
    let before = desk.files();
    let mut command = desk.dmc();
    command.args(["convert", "--preset", "hevc", "-o"]).arg(desk.path("out").join("film.mkv"));
    let converting = Running::start(command.arg(source));
    let encoders = wait_for("an encoder runs", || {
        let below = descendants(converting.id());
        // Probes are short; an encoder lives for longer than one look.
        thread::sleep(Duration::from_millis(1_500));
        let now = descendants(converting.id());
        let lasting = now.into_iter().filter(|p| below.iter().any(|b| b.id == p.id));
        Some(lasting.collect::<Vec<_>>()).filter(|all| !all.is_empty())
    });
    signal(converting.id(), Signal::INT);
    thread::sleep(Duration::from_millis(700));
    signal(converting.id(), Signal::INT);
    let done = converting.wait(Duration::from_secs(20));
    assert!(!done.late && !done.ok(), "{done}");
    assert!(before == desk.files(), "{:?}", desk.files().keys());
    for process in encoders {
        assert!(!Path::new(&format!("/proc/{}", process.id)).exists(), "{process:?} still runs");
    }
}

#[test]
fn any_file_name_will_do() {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("names");
    let names: &[&[u8]] = &[
        b"with space",
        "film \u{1f3ac} äöü".as_bytes(),
        b"-dash",
        b"new\nline",
        b"quote'\"$(x)",
        b"100%d",
        b"concat:a|b",
        b"not-\xff-utf8",
        b"[a]*?{b}",
        b"back\\slash",
    ];
    let mut expected = Vec::new();
    for name in names {
        let named = |end: &str| OsStr::from_bytes(&[name, end.as_bytes()].concat()).to_owned();
        let source = named(".mp4");
        fs::copy(zoo::get("tiny.mp4"), dir.join(&source)).unwrap();
        // A relative name, so that the command line and the agent stand in different directories.
        let mut command = bed.dmc(0);
        command.current_dir(&dir).args(["convert", "--preset", "hevc", "--"]).arg(&source);
        let done = run(&mut command, LIMIT);
        assert!(done.ok(), "{source:?}: {done}");
        expected.extend([source, named(".hevc.mkv")]);
    }
    let mut found: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn it_explains_itself() {
    let desk = Desk::new();
    let help = run(desk.dmc().arg("--help"), LIMIT);
    assert!(help.ok(), "{help}");
    for word in ["agent", "convert", "jobs", "status", "fetch", "peers", "presets", "doctor"] {
        assert!(help.stdout.contains(word), "{word}: {help}");
        let help = run(desk.dmc().args([word, "--help"]), LIMIT);
        assert!(help.ok() && help.stdout.contains("Usage"), "{help}");
    }
    let version = run(desk.dmc().arg("--version"), LIMIT);
    assert!(version.ok() && version.stdout.starts_with("dmc "), "{version}");
}

#[test]
fn its_completions_are_a_shell_script() {
    let desk = Desk::new();
    let script = run(desk.dmc().args(["completions", "bash"]), LIMIT);
    assert!(script.ok() && script.stdout.contains("convert"), "{script}");
    let file = desk.path("completions");
    fs::write(&file, &script.stdout).unwrap();
    let read = run(Command::new("bash").arg("-n").arg(file), LIMIT);
    assert!(read.ok(), "{read}");
}

#[test]
fn presets_and_doctor_speak_json() {
    let desk = Desk::new();
    let presets = run(desk.dmc().args(["presets", "list", "--json"]), LIMIT);
    let list: Value = serde_json::from_str(&presets.stdout).unwrap();
    let names: Vec<&str> =
        list.as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    for name in ["hevc", "h264", "av1", "lossless"] {
        assert!(names.contains(&name), "{name}: {presets}");
    }
    let preset = run(desk.dmc().args(["presets", "show", "hevc", "--json"]), LIMIT);
    let preset: Value = serde_json::from_str(&preset.stdout).unwrap();
    assert_eq!(preset["name"], "hevc");
    // It may find something to complain of on this machine, and says so by its exit code.
    let doctor = run(desk.dmc().args(["doctor", "--json"]), LIMIT);
    assert!(matches!(doctor.code, Some(0 | 1)), "{doctor}");
    let found: Value = serde_json::from_str(&doctor.stdout).unwrap();
    assert!(found.to_string().contains("ffmpeg"), "{found:#}");
}
