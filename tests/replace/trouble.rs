//! A source that changes in the very moment, and a disk without room.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agents::{ask_for, is_film, over, undo, wait_until};
use crate::library::{Whole, all_below, film};
use crate::support::bed::{Bed, Meeting};
use crate::support::namespaces::{mount_disk, on_small_disks};
use crate::support::process::run;

/// An agent that is held at a step of its replacements while a file is there.
struct Held {
    bed: Bed,
    source: PathBuf,
    job: String,
    file: PathBuf,
}

impl Held {
    /// Replaces a film, and changes its source in the moment of that step.
    fn change_at(name: &str, step: &str, exchange: bool, change: impl Fn(&Path)) -> Held {
        let fault = format!("hold:{step}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.keep().join("held");
        let at = file.clone();
        let bed = Bed::start_with(1, Meeting::Address, move |_, command| {
            command.env("DMC_FAULT", &fault).env("DMC_FAULT_FILE", &at);
            if !exchange {
                command.env("DMC_NO_EXCHANGE", "1");
            }
        });
        let source = bed.dir("films").join(name);
        film(&source, 1);
        let job = ask_for(&bed, &source, &[]);
        let held = Held { bed, source, job, file };
        held.wait();
        change(&held.source);
        held.go_on();
        held
    }

    fn wait(&self) {
        wait_until("the agent is held", || self.file.exists());
    }

    fn go_on(&self) {
        fs::remove_file(&self.file).unwrap();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.file.parent().unwrap());
    }
}

/// Another program puts another version of the file there.
fn put_another(source: &Path) {
    let new = source.with_file_name("new");
    film(&new, 2);
    fs::rename(new, source).unwrap();
}

#[test]
fn a_source_that_changes_in_the_last_moment_stays_as_it_is_then() {
    // Between the last look and the exchange; where the original is moved away first; and where
    // the result has another name already.
    for (name, exchange) in [("film.mkv", true), ("film.mkv", false), ("film.avi", true)] {
        let held = Held::change_at(name, "swap.looked", exchange, put_another);
        let (bed, source, id) = (&held.bed, &held.source, &held.job);
        let job = over(bed, id);
        assert_eq!(job.status(), "finished_with_errors", "{name}: {:#}", job.0);
        assert!(job.0["errors"].to_string().contains("changed"), "{name}: {:#}", job.0);
        assert!(is_film(source, "mpeg4"), "{name}: the new version is there");
        let dir = source.parent().unwrap();
        assert_eq!(all_below(dir), std::slice::from_ref(source), "{name}: nothing else is there");
        // The new version is converted, too: held once more at the same step, and let go.
        let new = Whole::read(source).unwrap();
        let mut retry = bed.dmc(0);
        let asked = run(retry.args(["jobs", "retry", id]), Duration::from_secs(60));
        assert!(asked.ok(), "{asked}");
        held.wait();
        held.go_on();
        let job = over(bed, id);
        assert_eq!(job.status(), "finished_successful", "{name}: {:#}", job.0);
        assert!(undo(bed, &[id]).ok());
        assert_eq!(Whole::read(source), Some(new), "{name}: the version that was replaced");
    }
}

#[test]
fn a_source_that_is_written_to_meanwhile_keeps_what_was_written() {
    let write = |source: &Path| {
        use std::io::Write;
        let mut file = fs::File::options().append(true).open(source).unwrap();
        file.write_all(b"more").unwrap();
    };
    let held = Held::change_at("film.mkv", "swap.staged", true, write);
    let source = &held.source;
    let job = over(&held.bed, &held.job);
    assert_eq!(job.status(), "finished_with_errors", "{:#}", job.0);
    assert!(fs::read(source).unwrap().ends_with(b"more"));
    assert_eq!(
        all_below(source.parent().unwrap()),
        std::slice::from_ref(source),
        "nothing else is there"
    );
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    if !on_small_disks(module_path!(), "a_full_disk_is_waited_for_and_nothing_is_lost") {
        return;
    }
    let bed = Bed::start_with(1, Meeting::Address, |_, command| {
        command.env("DMC_DISK_RESERVE_BYTES", "0");
    });
    let dir = bed.dir("films");
    mount_disk(&dir, 16);
    let source = dir.join("film.mkv");
    film(&source, 2);
    let original = Whole::read(&source).unwrap();
    let filler = dir.join("filler");
    // All but the one per cent that stays free anyway, and what the names need.
    let free = rustix::fs::statvfs(&dir).map(|disk| disk.f_bavail * disk.f_frsize).unwrap();
    let filling = vec![1; usize::try_from(free).unwrap() - (40 << 10)];
    fs::write(&filler, filling).unwrap();
    let id = ask_for(&bed, &source, &[]);
    wait_until("it waits for room", || {
        let job = bed.job(0, &id);
        assert!(!job.status().starts_with("finished"), "{:#}", job.0);
        job.0["waiting"].as_str().is_some_and(|why| why.contains("room"))
    });
    assert_eq!(Whole::read(&source).as_ref(), Some(&original));
    fs::remove_file(filler).unwrap();
    let job = over(&bed, &id);
    assert_eq!(job.status(), "finished_successful", "{:#}", job.0);
    // The data directory is on another file system: the original stays on this one.
    let kept = job.0["undo"]["original"].as_str().unwrap();
    assert!(Path::new(kept).starts_with(dir.join(".dmc-undo")), "{kept}");
    let done = undo(&bed, &[&id]);
    assert!(done.ok(), "{done}");
    assert_eq!(Whole::read(&source), Some(original));
    assert_eq!(all_below(&dir), [source]);
}
