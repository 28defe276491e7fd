//! The routines that move files, in a process of their own that is killed at each step of each way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use dmc_agent::jobs::Stamp;
use dmc_agent::replace::book::UndoBook;
use dmc_agent::replace::{Replaced, Replacement, Stage, carry, service};
use dmc_protocol::id::JobId;
use dmc_store::{Kv, StoreError};
use tempfile::TempDir;
use uuid::Uuid;

use crate::library::{Whole, all_below, copies_of, dress};

const DIR: &str = "DMC_TEST_STEPS";
const ACT: &str = "DMC_TEST_ACT";
/// Longer than any way.
const STEPS_MAX: usize = 60;

/// A way that a replacement can go.
#[derive(Debug, Clone, Copy)]
struct Way {
    source: &'static str,
    output: &'static str,
    /// The file system lets two files exchange their names.
    exchange: bool,
    /// The data directory is on the same file system, so originals go there.
    in_data: bool,
    sidecars: bool,
}

const SAME: Way = Way {
    source: "film one 🎬.mkv",
    output: "film one 🎬.mkv",
    exchange: true,
    in_data: true,
    sidecars: false,
};

const WAYS: [Way; 7] = [
    SAME,
    Way { exchange: false, ..SAME },
    Way { source: "no ending", output: "no ending.mkv", exchange: false, ..SAME },
    Way { exchange: false, in_data: false, ..SAME },
    Way { source: "-film.avi", output: "-film.mkv", sidecars: true, ..SAME },
    Way { source: "film.avi", output: "film.mkv", in_data: false, ..SAME },
    Way { in_data: false, ..SAME },
];

/// A library with one film that is about to be replaced.
struct Scene {
    dir: TempDir,
    /// A directory on another file system, where this machine has one.
    other: Option<TempDir>,
    way: Way,
    id: JobId,
    original: Whole,
    result: Whole,
}

/// The paths of a scene, which the killed process needs as well.
struct Paths(PathBuf, Way);

impl Paths {
    fn films(&self) -> PathBuf {
        self.0.join("films")
    }
    fn source(&self) -> PathBuf {
        self.films().join(self.1.source)
    }
    fn output(&self) -> PathBuf {
        self.films().join(self.1.output)
    }
    fn temp(&self) -> PathBuf {
        self.films().join(".part")
    }
    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
    /// One that is not there is on no file system.
    fn data(&self) -> PathBuf {
        self.0.join(if self.1.in_data { "data" } else { "none" })
    }
}

/// The records of a scene. A process that another thread starts in this moment holds their lock until
/// it runs its program.
fn open(paths: &Paths) -> UndoBook {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match Kv::open(&paths.state()) {
            Err(StoreError::Locked { .. }) if Instant::now() < end => {
                thread::sleep(Duration::from_millis(5));
            }
            opened => return UndoBook::new(opened.unwrap()),
        }
    }
}

impl Scene {
    fn new(way: Way) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths(dir.path().to_owned(), way);
        for made in ["films", "state", "data"] {
            fs::create_dir(dir.path().join(made)).unwrap();
        }
        fs::write(paths.source(), "the original ".repeat(20_000)).unwrap();
        dress(&paths.source());
        fs::write(paths.temp(), "the result ".repeat(9_000)).unwrap();
        if way.sidecars {
            let beside = |name: &str| paths.films().join(name);
            fs::write(beside("-film.avi.srt"), "words").unwrap();
            fs::write(beside("-film.srt"), "words that fit both").unwrap();
        }
        let id = JobId(Uuid::now_v7());
        let what = Replacement { source: paths.source(), output: paths.output() };
        let book = open(&paths);
        book.save(&Replaced::wanted(id, what, way.sidecars)).unwrap();
        let original = Whole::read(&paths.source()).unwrap();
        let result = Whole {
            bytes: fs::read(paths.temp()).unwrap(),
            // It gets all that the original has beside its content.
            beside: original.beside.clone(),
        };
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        let shm = Path::new("/dev/shm");
        let other = shm.is_dir().then(|| tempfile::tempdir_in(shm).unwrap());
        let other = other.filter(|other| device(other.path()) != device(dir.path()));
        Scene { dir, other, way, id, original, result }
    }

    fn paths(&self) -> Paths {
        Paths(self.dir.path().to_owned(), self.way)
    }

    fn book(&self) -> UndoBook {
        open(&self.paths())
    }

    /// Does something in another process, which is killed at a step. True: it was.
    fn act(&self, act: &str, step: usize) -> bool {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", "steps::child"]);
        let other = self.other.as_ref().map_or(self.dir.path(), TempDir::path);
        child.env(DIR, self.dir.path()).env(ACT, format!("{act} {}", self.id));
        child.env("DMC_TEST_OTHER", other).env("DMC_TEST_WAY", self.number());
        child.env("DMC_FAULT", format!("kill:{step}"));
        if !self.way.exchange {
            child.env("DMC_NO_EXCHANGE", "1");
        }
        let ended = child.output().unwrap();
        let killed = ended.status.signal() == Some(9);
        assert!(killed || ended.status.success(), "{act} at step {step}: {ended:?}");
        killed
    }

    fn number(&self) -> String {
        let same = |way: &Way| format!("{way:?}") == format!("{:?}", self.way);
        WAYS.iter().position(same).unwrap().to_string()
    }

    /// What must be true at any moment: nothing that counts is lost or cut short.
    fn check_moment(&self, when: &str) {
        let mut dirs = vec![self.dir.path()];
        dirs.extend(self.other.as_ref().map(TempDir::path));
        assert!(!copies_of(&self.original, &dirs).is_empty(), "{when}: the original is lost");
        for name in [self.paths().source(), self.paths().output()] {
            let found = Whole::read(&name).map(|whole| whole.bytes);
            let whole = found
                .as_ref()
                .is_none_or(|bytes| *bytes == self.original.bytes || *bytes == self.result.bytes);
            assert!(whole, "{when}: {} is not whole", name.display());
        }
    }

    /// What the next start does.
    fn start(&self) -> Stage {
        let book = self.book();
        service::settle_all(&book).unwrap();
        book.get(self.id).unwrap().unwrap().stage
    }

    /// All is as it was before anything was done; only the agent's cleaning is missing.
    fn check_untouched(&self, when: &str) {
        let _ = fs::remove_file(self.paths().temp());
        assert_eq!(Whole::read(&self.paths().source()).as_ref(), Some(&self.original), "{when}");
        let mut names: Vec<_> = all_below(&self.paths().films());
        names.retain(|name| *name != self.paths().source());
        let srt = if self.way.sidecars { 2 } else { 0 };
        assert_eq!(names.len(), srt, "{when}: {names:?}");
        assert!(all_below(&self.dir.path().join("data/undo")).is_empty(), "{when}");
        if self.way.sidecars {
            assert!(self.paths().films().join("-film.avi.srt").exists(), "{when}");
        }
    }

    /// The result has its place, and the original is kept with all that it had.
    fn check_kept(&self, when: &str) {
        let output = Whole::read(&self.paths().output());
        assert_eq!(output.as_ref(), Some(&self.result), "{when}");
        let taken = self.book().get(self.id).unwrap().unwrap().taken.unwrap();
        let kept = Whole::read(&taken.kept()).unwrap();
        assert_eq!(kept.bytes, self.original.bytes, "{when}");
        // The other file system may lack attributes; the words beside the copy have them.
        if taken.content.is_none() {
            assert_eq!(kept, self.original, "{when}");
        }
        let other_name = self.paths().source() != self.paths().output();
        assert!(!(other_name && self.paths().source().exists()), "{when}: two names");
        if self.way.sidecars {
            assert!(self.paths().films().join("-film.mkv.srt").exists(), "{when}");
            assert!(self.paths().films().join("-film.srt").exists(), "{when}");
        }
    }

    fn take(&self) {
        let (book, paths) = (self.book(), self.paths());
        let planned = Stamp::of(&paths.source()).unwrap();
        service::take(&book, &paths.data(), self.id, &paths.temp(), planned).unwrap();
    }

    fn undo(&self) {
        service::restore(&self.book(), self.id, false).unwrap();
    }
}

/// Does what the parent asks for, and is killed by itself.
#[test]
fn child() {
    let (Some(dir), Ok(act)) = (std::env::var_os(DIR), std::env::var(ACT)) else { return };
    let way: usize = std::env::var("DMC_TEST_WAY").unwrap().parse().unwrap();
    let paths = Paths(dir.into(), WAYS[way]);
    let (act, id) = act.split_once(' ').unwrap();
    let id: JobId = id.parse().unwrap();
    let book = open(&paths);
    match act {
        "take" => {
            let planned = Stamp::of(&paths.source()).unwrap();
            service::take(&book, &paths.data(), id, &paths.temp(), planned).unwrap();
        }
        "undo" => drop(service::restore(&book, id, false).unwrap()),
        "keep" => drop(service::restore(&book, id, true).unwrap()),
        "carry" => {
            let other = PathBuf::from(std::env::var_os("DMC_TEST_OTHER").unwrap()).join("undo");
            let mut replaced = book.get(id).unwrap().unwrap();
            carry::carry(&book, &mut replaced, &other.join(id.to_string())).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// Every step of `act` once: `before` makes the scene, `after` looks at what the next start made.
fn at_each_step(
    what: &str,
    way: Way,
    act: &str,
    before: impl Fn(&Scene),
    after: impl Fn(&Scene, Stage, &str),
) -> usize {
    for step in 1..STEPS_MAX {
        let scene = Scene::new(way);
        before(&scene);
        let killed = scene.act(act, step);
        let when = format!("{what}, {way:?}, killed at step {step}");
        scene.check_moment(&when);
        let stage = scene.start();
        scene.check_moment(&when);
        after(&scene, stage, &when);
        if !killed {
            println!("{what}: {} steps of {way:?}", step - 1);
            return step - 1;
        }
    }
    panic!("{what}: more than {STEPS_MAX} steps");
}

#[test]
fn a_replacement_that_is_killed_anywhere_is_finished_or_never_was() {
    let mut runs = 0;
    for way in WAYS {
        runs += at_each_step(
            "replace",
            way,
            "take",
            |_| {},
            |scene, stage, when| {
                match stage {
                    Stage::Wanted => scene.check_untouched(when),
                    Stage::Kept => scene.check_kept(when),
                    other => panic!("{when}: {other:?}"),
                }
                if stage == Stage::Kept {
                    scene.undo();
                    scene.check_untouched(when);
                }
            },
        );
    }
    println!("{runs} kills");
    assert!(runs >= 40, "{runs}");
}

#[test]
fn an_undo_that_is_killed_anywhere_brings_the_original_back() {
    let mut runs = 0;
    for way in WAYS {
        runs += at_each_step("undo", way, "undo", Scene::take, |scene, stage, when| {
            if stage == Stage::Kept {
                scene.check_kept(when); // it had not begun
                scene.undo();
            }
            scene.check_untouched(when);
        });
    }
    println!("{runs} kills");
    assert!(runs >= 20, "{runs}");
}

#[test]
fn an_undo_that_keeps_the_result_loses_neither() {
    let mut runs = 0;
    for way in WAYS {
        runs += at_each_step("keep", way, "keep", Scene::take, |scene, stage, when| {
            if stage == Stage::Kept {
                service::restore(&scene.book(), scene.id, true).unwrap();
            }
            let back = Whole::read(&scene.paths().source());
            assert_eq!(back.as_ref(), Some(&scene.original), "{when}");
            let results = copies_of(&scene.result, &[&scene.paths().films()]);
            assert_eq!(results.len(), 1, "{when}: {results:?}");
        });
    }
    println!("{runs} kills");
}

#[test]
fn an_original_on_its_way_to_another_disk_is_whole_on_one_of_them() {
    let mut runs = 0;
    for way in WAYS {
        runs += at_each_step("carry", way, "carry", Scene::take, |scene, _, when| {
            scene.check_kept(when);
            scene.undo();
            let back = Whole::read(&scene.paths().source());
            assert_eq!(back.as_ref(), Some(&scene.original), "{when}");
        });
        let away = |scene: &Scene| {
            scene.take();
            scene.act("carry", STEPS_MAX);
        };
        runs += at_each_step("undo from afar", way, "undo", away, |scene, stage, when| {
            if stage == Stage::Kept {
                scene.undo();
            }
            let back = Whole::read(&scene.paths().source());
            assert_eq!(back.as_ref(), Some(&scene.original), "{when}");
        });
    }
    println!("{runs} kills");
}

#[test]
fn what_others_changed_is_neither_overwritten_nor_removed() {
    for way in WAYS {
        let scene = Scene::new(way);
        let (book, paths) = (scene.book(), scene.paths());
        let planned = Stamp::of(&paths.source()).unwrap();
        fs::write(paths.source(), "somebody else's").unwrap();
        let refused = service::take(&book, &paths.data(), scene.id, &paths.temp(), planned);
        assert!(refused.unwrap_err().to_string().contains("changed"), "{way:?}");
        assert_eq!(fs::read(paths.source()).unwrap(), b"somebody else's");
        drop(book);

        let scene = Scene::new(way);
        scene.take();
        let (book, paths) = (scene.book(), scene.paths());
        fs::write(paths.output(), "edited").unwrap();
        let refused = service::restore(&book, scene.id, false).unwrap_err();
        assert!(refused.to_string().contains("--keep-result"), "{refused}");
        assert_eq!(fs::read(paths.output()).unwrap(), b"edited");
        let restored = service::restore(&book, scene.id, true).unwrap();
        assert_eq!(restored.stage, Stage::Restored);
        assert_eq!(Whole::read(&paths.source()).as_ref(), Some(&scene.original));
        let all = all_below(&paths.films());
        let edited = all.iter().filter(|path| fs::read(path).is_ok_and(|b| b == b"edited"));
        assert_eq!(edited.count(), 1, "{all:?}");
        let again = service::restore(&book, scene.id, false).unwrap_err();
        assert!(again.to_string().contains("already"), "{again}");
    }
}

#[test]
fn an_original_whose_name_is_taken_waits_in_the_store() {
    let way = WAYS[5];
    let scene = Scene::new(way);
    scene.take();
    let (book, paths) = (scene.book(), scene.paths());
    fs::write(paths.source(), "a new film").unwrap();
    let refused = service::restore(&book, scene.id, false).unwrap_err();
    assert!(refused.to_string().contains("never overwritten"), "{refused}");
    assert_eq!(fs::read(paths.source()).unwrap(), b"a new film");
    fs::remove_file(paths.source()).unwrap();
    drop(book);
    scene.undo();
    scene.check_untouched("the name is free again");
}
