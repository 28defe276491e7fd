//! Real agents replace real films, and bring them back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::library::{Whole, all_below, dress, film};
use crate::support::bed::{Bed, Meeting};
use crate::support::dmc::Job;
use crate::support::process::{Finished, run};
use crate::support::wait;

/// For what an agent does to one short film.
pub const LIMIT: Duration = Duration::from_secs(120);
/// Quick, and smaller than what [`film`] makes.
pub const FAST: [&str; 4] = ["--codec", "h264", "--encoder-speed", "ultrafast"];

/// Waits until something is so.
pub fn wait_until(what: &str, now: impl FnMut() -> bool) {
    wait::wait_until(what, LIMIT, now);
}

/// Replaces a file and waits for the end of the job.
pub fn replace(bed: &Bed, source: &Path, words: &[&str]) -> (Finished, Option<Job>) {
    let mut command = bed.dmc(0);
    command.args(["convert", "--json", "--replace"]).args(FAST).args(words);
    let done = run(command.arg("--").arg(source), LIMIT);
    let job = Job::last_of(&done.stdout).map(|job| bed.job(0, job.id()));
    (done, job)
}

/// Asks for a film to be replaced without waiting for it; the job's id.
pub fn ask_for(bed: &Bed, source: &Path, words: &[&str]) -> String {
    let mut command = bed.dmc(0);
    command.args(["convert", "--json", "--detach", "--replace"]).args(FAST).args(words);
    let asked = run(command.arg("--").arg(source), LIMIT);
    assert!(asked.ok(), "{asked}");
    Job::last_of(&asked.stdout).unwrap_or_else(|| panic!("{asked}")).id().to_owned()
}

/// Waits until a job is over.
pub fn over(bed: &Bed, id: &str) -> Job {
    wait_until("the job is over", || {
        let job = bed.job(0, id);
        job.status().starts_with("finished") || job.status() == "cancelled"
    });
    bed.job(0, id)
}

/// `dmc undo`.
pub fn undo(bed: &Bed, words: &[&str]) -> Finished {
    run(bed.dmc(0).arg("undo").args(words), LIMIT)
}

/// Whether a file is a film that ffprobe reads, of this codec.
pub fn is_film(path: &Path, codec: &str) -> bool {
    let mut command = std::process::Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v", "-show_entries", "stream=codec_name"]);
    let mut place = std::ffi::OsString::from("file:");
    place.push(path);
    let done = run(command.args(["-of", "csv=p=0"]).arg(place), LIMIT);
    done.ok() && done.stdout.trim().trim_end_matches(',') == codec
}

fn names_in(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[test]
fn films_are_replaced_and_come_back_byte_for_byte() {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("films");
    let names: [(&[u8], &[u8]); 4] = [
        ("film one 🎬.avi".as_bytes(), "film one 🎬.mkv".as_bytes()),
        (b"-same.mkv", b"-same.mkv"),
        (b"raw\xff.avi", b"raw\xff.mkv"),
        (b"no ending", b"no ending.mkv"),
    ];
    for (name, output) in names {
        let (source, output) =
            (dir.join(OsStr::from_bytes(name)), dir.join(OsStr::from_bytes(output)));
        film(&source, 1);
        dress(&source);
        let original = Whole::read(&source).unwrap();
        let inode = fs::metadata(&source).unwrap().ino();

        let (done, job) = replace(&bed, &source, &[]);
        assert!(done.ok(), "{done}");
        let job = job.unwrap();
        assert_eq!(job.0["undo"]["state"], "kept", "{:#}", job.0);
        assert_eq!(names_in(&dir), std::slice::from_ref(&output), "nothing else is there");
        assert!(is_film(&output, "h264"), "{}", output.display());
        let result = Whole::read(&output).unwrap();
        assert_eq!(result.beside, original.beside, "the result has all that its source had");
        let list = bed.ask(0, &["undo", "--list"]);
        let listed = list.as_array().unwrap().iter().any(|undo| undo["job"] == job.id());
        assert!(listed, "{list:#}");

        let done = undo(&bed, &[job.id()]);
        assert!(done.ok(), "{done}");
        assert_eq!(Whole::read(&source), Some(original), "{}", source.display());
        assert_eq!(fs::metadata(&source).unwrap().ino(), inode, "it is the very same file");
        assert_eq!(names_in(&dir), std::slice::from_ref(&source), "nothing else is there");
        assert_eq!(bed.job(0, job.id()).0["undo"]["state"], "restored");
        let done = undo(&bed, &[job.id()]);
        assert!(done.code == Some(1) && done.stderr.contains("already"), "{done}");
        fs::remove_file(source).unwrap();
    }
    let left = all_below(&bed.data(0).join("undo"));
    assert!(left.is_empty(), "the store keeps {left:?}");
}

#[test]
fn links_and_other_names_keep_what_they_had() {
    let bed = Bed::start(1, Meeting::Address);
    let (dir, links) = (bed.dir("films"), bed.dir("links"));
    let (source, other) = (dir.join("film.mkv"), links.join("other name.mkv"));
    film(&source, 1);
    fs::hard_link(&source, &other).unwrap();
    let link = links.join("link.mkv");
    symlink(&source, &link).unwrap();
    let original = Whole::read(&source).unwrap();

    let (done, job) = replace(&bed, &link, &[]);
    assert!(done.ok(), "{done}");
    let job = job.unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), source, "the link stays a link");
    assert!(is_film(&source, "h264"), "its target is replaced");
    assert_eq!(Whole::read(&other).as_ref(), Some(&original), "the other name is as it was");
    let notes = job.0["notes"].to_string();
    assert!(notes.contains("hard links"), "{notes}");

    let done = undo(&bed, &[job.id()]);
    assert!(done.ok(), "{done}");
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&source), inode(&other), "they are one file again");
    assert_eq!(Whole::read(&source), Some(original));
}

#[test]
fn what_cannot_be_replaced_is_refused_before_anything_is_done() {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("films");
    let source = dir.join("film.avi");
    film(&source, 1);
    fs::write(dir.join("film.mkv"), "another film").unwrap();
    let (done, _) = replace(&bed, &source, &[]);
    assert!(done.code == Some(1) && done.stderr.contains("is another file"), "{done}");
    assert_eq!(fs::read(dir.join("film.mkv")).unwrap(), b"another film");
    fs::remove_file(dir.join("film.mkv")).unwrap();

    let link = dir.join("link.avi");
    symlink(&source, &link).unwrap();
    let (done, _) = replace(&bed, &link, &[]);
    assert!(done.code == Some(1) && done.stderr.contains("is a link to"), "{done}");
    for words in [&["-o", "x.mkv"][..], &["--overwrite"], &["--deliver-to", "nas"]] {
        let (done, _) = replace(&bed, &source, words);
        assert_eq!(done.code, Some(2), "{words:?}: {done}");
    }
    let done = undo(&bed, &["0123456789"]);
    assert!(done.code == Some(1) && done.stderr.contains("no job"), "{done}");
    assert_eq!(bed.ask(0, &["jobs"]), Value::Array(Vec::new()), "no job was begun");
}

#[test]
fn a_forgotten_job_can_be_undone_and_a_changed_result_stays() {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("films");
    let source = dir.join("film.mkv");
    film(&source, 1);
    fs::write(dir.join("film.mkv.srt"), "words").unwrap();
    let original = Whole::read(&source).unwrap();
    let (done, job) = replace(&bed, &source, &["--sidecars"]);
    assert!(done.ok(), "{done}");
    let job = job.unwrap();
    let removed = run(bed.dmc(0).args(["jobs", "remove", job.id()]), LIMIT);
    assert!(removed.ok(), "{removed}");
    fs::write(&source, "edited by somebody").unwrap();
    let done = undo(&bed, &[job.id()]);
    assert!(done.code == Some(1) && done.stderr.contains("--keep-result"), "{done}");
    assert_eq!(fs::read(&source).unwrap(), b"edited by somebody");
    let end = &job.id()[job.id().len() - 8..];
    let done = undo(&bed, &["--keep-result", end]);
    assert!(done.ok(), "{done}");
    assert_eq!(Whole::read(&source), Some(original));
    assert_eq!(fs::read(dir.join("film.converted.mkv")).unwrap(), b"edited by somebody");
    assert_eq!(names_in(&dir).len(), 3, "{:?}", names_in(&dir));
}

#[test]
fn originals_go_to_the_disk_that_the_settings_name_and_come_back() {
    let shm = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    if device(shm).is_none() || device(shm) == device(&std::env::temp_dir()) {
        return eprintln!("skipped: this machine has no second file system to write to");
    }
    let store = tempfile::tempdir_in(shm).unwrap();
    let at = store.path().to_owned();
    let bed = Bed::start_with(1, Meeting::Address, move |_, command| {
        command.env("DMC_UNDO_DIR", &at);
    });
    let dir = bed.dir("films");
    let source = dir.join("film.avi");
    film(&source, 1);
    dress(&source);
    let original = Whole::read(&source).unwrap();
    let (done, job) = replace(&bed, &source, &[]);
    assert!(done.ok(), "{done}");
    let id = job.unwrap().id().to_owned();
    wait_until("the original is on the other disk", || {
        let kept = bed.job(0, &id).0["undo"]["original"].as_str().map(PathBuf::from);
        kept.is_some_and(|kept| kept.starts_with(store.path()))
    });
    wait_until("it left the first one", || {
        names_in(&dir).len() == 1 && all_below(&bed.data(0).join("undo")).is_empty()
    });
    let done = undo(&bed, &[&id]);
    assert!(done.ok(), "{done}");
    assert_eq!(Whole::read(&source), Some(original));
    wait_until("nothing is left on the other disk", || all_below(store.path()).is_empty());
    assert_eq!(names_in(&dir), [source]);
}

/// Whatever a person has: each file is replaced and comes back, or is refused and untouched.
#[test]
fn every_file_of_the_corpus_comes_back() {
    let corpus = std::env::var_os("DMC_CORPUS").unwrap_or_default();
    let dirs: Vec<PathBuf> = std::env::split_paths(&corpus).collect();
    let mut files: Vec<_> = dirs.iter().flat_map(|dir| all_below(dir)).collect();
    files.retain(|path| path.is_file());
    if files.is_empty() {
        return; // nobody has named any
    }
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("films");
    for file in files {
        let source = dir.join(file.file_name().unwrap());
        fs::copy(&file, &source).unwrap();
        dress(&source);
        let original = Whole::read(&source).unwrap();
        let (done, job) = replace(&bed, &source, &[]);
        let replaced = done.ok();
        if let Some(job) = job.filter(|_| replaced) {
            let output = PathBuf::from(job.0["output"].as_str().unwrap());
            assert_eq!(names_in(&dir), std::slice::from_ref(&output), "nothing else is there");
            assert_eq!(Whole::read(&output).unwrap().beside, original.beside);
            let done = undo(&bed, &[job.id()]);
            assert!(done.ok(), "{done}");
        }
        assert_eq!(Whole::read(&source), Some(original), "{}", source.display());
        assert_eq!(names_in(&dir), std::slice::from_ref(&source), "nothing else is there");
        println!("{}: {}", file.display(), if replaced { "replaced" } else { "refused" });
        fs::remove_file(source).unwrap();
    }
}
