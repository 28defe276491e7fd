//! Tests of [`super`].

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use dmc_store::Kv;

use super::*;
use crate::library::records::Delivery;

struct Folder {
    dir: tempfile::TempDir,
    book: Book,
}

impl Folder {
    fn new() -> Folder {
        Folder { dir: tempfile::tempdir().unwrap(), book: Book::new(Kv::memory()) }
    }

    fn watch(&self) -> Watch {
        Watch {
            id: 1,
            dir: AnyPath(self.dir.path().to_owned()),
            presets: vec!["hevc".to_owned()],
            kinds: Vec::new(),
            rules: String::new(),
            delivery: Delivery::Alongside,
            paused: false,
            created_ms: 0,
        }
    }

    fn terms(&self) -> Terms {
        Terms { settle_ms: 1_000, leave_out: vec![self.dir.path().join("own")], believe: false }
    }

    fn write(&self, path: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    fn done(&self, mut scan: Scan) -> Report {
        while !scan.step(&self.book, Duration::ZERO, 1_000).unwrap() {}
        scan.report
    }

    fn scan(&self) -> Report {
        self.done(Scan::whole(self.watch(), self.terms()))
    }

    fn known(&self) -> Vec<String> {
        let mut found = Vec::new();
        for state in [State::SETTLING, State::FRESH, State::SKIPPED] {
            let page = self.book.first(1, state, None, 1_000).unwrap();
            found.extend(page.iter().map(|of| of.file.path.display().to_string()));
        }
        found.sort();
        let count: u64 = self.book.counts(1).unwrap().values().sum();
        assert_eq!(count, found.len() as u64, "the counters tell the same");
        found
    }
}

#[test]
fn files_are_found_once_and_forgotten_when_they_are_gone() {
    let folder = Folder::new();
    for path in ["a.mkv", "sub/b c.mkv", "sub/deep/-d \u{1f3ac}.mkv"] {
        folder.write(path);
    }
    let report = folder.scan();
    assert_eq!((report.files, report.new, report.dirs), (3, 3, 3), "{report:?}");
    let report = folder.scan();
    assert_eq!((report.files, report.new, report.changed, report.gone), (3, 0, 0, 0));
    fs::write(folder.dir.path().join("a.mkv"), "longer").unwrap();
    fs::remove_dir_all(folder.dir.path().join("sub/deep")).unwrap();
    let report = folder.scan();
    assert_eq!((report.changed, report.gone), (1, 1), "{report:?}");
    assert_eq!(folder.known(), ["a.mkv", "sub/b c.mkv"]);
}

#[test]
fn what_is_hidden_linked_or_our_own_is_left_out() {
    let folder = Folder::new();
    for path in ["a.mkv", ".hidden.mkv", ".dir/b.mkv", ".a.mkv.1.dmc-part", "own/c.mkv"] {
        folder.write(path);
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x.mkv"), "x").unwrap();
    symlink(outside.path(), folder.dir.path().join("out")).unwrap();
    symlink(folder.dir.path(), folder.dir.path().join("loop")).unwrap();
    symlink("a.mkv", folder.dir.path().join("b.mkv")).unwrap();
    folder.scan();
    assert_eq!(folder.known(), ["a.mkv"]);
}

#[test]
fn names_may_be_any_bytes() {
    let folder = Folder::new();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9 \xff.mkv");
    fs::write(folder.dir.path().join(name), "x").unwrap();
    folder.scan();
    let found = folder.book.first(1, State::SETTLING, None, 9).unwrap();
    assert_eq!(found[0].file.path.0, PathBuf::from(name));
    assert_eq!(folder.scan().new, 0);
}

#[test]
fn a_folder_that_is_suddenly_empty_or_gone_keeps_its_records() {
    let folder = Folder::new();
    folder.write("a.mkv");
    folder.write("sub/b.mkv");
    folder.scan();
    let aside = folder.dir.path().with_extension("aside");
    fs::rename(folder.dir.path(), &aside).unwrap();
    let report = folder.scan();
    assert!(report.stopped.unwrap().contains("cannot be read"));
    fs::create_dir(folder.dir.path()).unwrap();
    let report = folder.scan();
    assert!(report.stopped.unwrap().contains("suddenly empty"));
    assert_eq!(folder.known(), ["a.mkv", "sub/b.mkv"]);
    fs::remove_dir(folder.dir.path()).unwrap();
    fs::rename(&aside, folder.dir.path()).unwrap();
    let report = folder.scan();
    assert_eq!((report.new, report.changed, report.gone, report.stopped), (0, 0, 0, None));
    // Who says that they are really gone is believed.
    fs::remove_dir_all(folder.dir.path()).unwrap();
    fs::create_dir(folder.dir.path()).unwrap();
    let terms = Terms { believe: true, ..folder.terms() };
    folder.done(Scan::whole(folder.watch(), terms));
    assert!(folder.known().is_empty());
}

#[test]
fn another_disk_in_a_directory_keeps_what_is_known_there() {
    let folder = Folder::new();
    folder.write("disk/a.mkv");
    folder.scan();
    // As if it had been on another device.
    let place = tail_of(Path::new("disk"));
    let mut changes = folder.book.change(1);
    changes.put_dir(&place, Dir { path: AnyPath("disk".into()), device: u64::MAX }).unwrap();
    changes.flush().unwrap();
    fs::rename(folder.dir.path().join("disk/a.mkv"), folder.dir.path().join("disk/b.mkv")).unwrap();
    let report = folder.scan();
    assert!(report.troubles[0].contains("another disk"), "{report:?}");
    assert_eq!(folder.known(), ["disk/a.mkv"]);
    // The same files on a device with another number are the same disk.
    fs::rename(folder.dir.path().join("disk/b.mkv"), folder.dir.path().join("disk/a.mkv")).unwrap();
    assert!(folder.scan().troubles.is_empty());
}

#[test]
fn a_name_may_change_between_file_and_directory() {
    let folder = Folder::new();
    folder.write("x.mkv");
    folder.write("y.mkv/inside.mkv");
    folder.scan();
    fs::remove_file(folder.dir.path().join("x.mkv")).unwrap();
    folder.write("x.mkv/inside.mkv");
    fs::remove_dir_all(folder.dir.path().join("y.mkv")).unwrap();
    folder.write("y.mkv");
    folder.scan();
    assert_eq!(folder.known(), ["x.mkv/inside.mkv", "y.mkv"]);
    assert_eq!(folder.scan().new, 0);
}

#[test]
fn only_the_directories_that_changed_are_read() {
    let folder = Folder::new();
    folder.write("a/one.mkv");
    folder.write("b/one.mkv");
    folder.scan();
    folder.write("a/two.mkv");
    folder.write("a/new/three.mkv");
    folder.write("b/two.mkv");
    let some = Scan::some(folder.watch(), folder.terms(), vec![PathBuf::from("a")]);
    let report = folder.done(some);
    assert_eq!((report.dirs, report.new), (2, 2), "{report:?}");
    assert_eq!(folder.known().len(), 4);
}

#[test]
fn what_was_decided_by_other_rules_is_looked_at_again() {
    let folder = Folder::new();
    folder.write("a.mkv");
    folder.scan();
    let listed = folder.book.first(1, State::SETTLING, None, 9).unwrap().remove(0);
    let skip = |until_ms| State::Skipped { rule: String::new(), why: String::new(), until_ms };
    let set = |before: &File, state, judged| {
        let after = File { state, judged, ..before.clone() };
        let mut changes = folder.book.change(1);
        changes.put(&listed.tail, Some(before), after.clone()).unwrap();
        changes.flush().unwrap();
        after
    };
    let is = |state| folder.book.count(1, state).unwrap() == 1;
    let judged = folder.watch().fingerprint();
    let file = set(&listed.file, skip(None), judged);
    folder.scan();
    assert!(is(State::SKIPPED), "nothing changed");
    let file = set(&file, skip(Some(1_001)), judged);
    folder.scan();
    assert!(is(State::SKIPPED), "not yet");
    set(&file, skip(Some(1_000)), judged);
    folder.scan();
    assert!(is(State::FRESH), "it is time");
    let file = folder.book.first(1, State::FRESH, None, 9).unwrap().remove(0).file;
    set(&file, skip(None), judged ^ 1);
    folder.scan();
    assert!(is(State::FRESH), "other rules");
}
