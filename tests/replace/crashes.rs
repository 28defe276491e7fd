//! Real agents that are killed while they replace a film or bring one back, at each step.

use std::path::PathBuf;

use crate::agents::{FAST, LIMIT, ask_for, is_film, over, undo, wait_until};
use crate::library::{Whole, all_below, copies_of, dress, film};
use crate::support::bed::{Bed, Meeting};
use crate::support::process::run;

/// The steps of a replacement, in their order.
const SAME: [&str; 9] = [
    "swap.record",
    "swap.dirs",
    "swap.about",
    "swap.staged",
    "swap.looked",
    "swap.exchanged",
    "swap.kept",
    "swap.synced",
    "swap.done",
];
const OTHER: [&str; 9] = [
    "swap.record",
    "swap.dirs",
    "swap.about",
    "swap.staged",
    "swap.named",
    "swap.looked",
    "swap.moved",
    "swap.synced",
    "swap.done",
];
const NO_EXCHANGE: [&str; 3] = ["swap.moved", "swap.named", "swap.synced"];
const UNDO: [&str; 6] =
    ["undo.record", "undo.looked", "undo.exchanged", "undo.held", "undo.removed", "undo.synced"];

struct Library {
    bed: Bed,
    dir: PathBuf,
}

impl Library {
    fn new() -> Library {
        let bed = Bed::start(1, Meeting::Address);
        let dir = bed.dir("films");
        Library { bed, dir }
    }

    /// Starts the agent again so that it kills itself at a step.
    fn armed(&mut self, step: &str, exchange: bool) {
        self.bed.kill(0);
        self.bed.change(0, |command| {
            command.env("DMC_FAULT", format!("kill:{step}"));
            if !exchange {
                command.env("DMC_NO_EXCHANGE", "1");
            }
        });
        self.bed.start_again(0);
        self.bed.wait_for_peers(0, 0);
    }

    /// Starts it again as it should be.
    fn healed(&mut self) {
        self.bed.kill(0);
        self.bed.change(0, |command| {
            command.env_remove("DMC_FAULT").env_remove("DMC_NO_EXCHANGE");
        });
        self.bed.start_again(0);
        self.bed.wait_for_peers(0, 0);
    }

    fn is_dead(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.bed.process_id(0)));
        stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    }

    /// A film is replaced, the agent dies at a step and starts again; then it is brought back.
    fn die_and_replace(&mut self, name: &str, step: &str, exchange: bool) {
        let source = self.dir.join(name);
        let output = source.with_extension("mkv");
        film(&source, 1);
        dress(&source);
        let original = Whole::read(&source).unwrap();
        self.armed(step, exchange);
        let id = ask_for(&self.bed, &source, &[]);
        wait_until("the agent died", || self.is_dead());
        let data = self.bed.data(0).to_owned();
        assert!(!copies_of(&original, &[&self.dir, &data]).is_empty(), "{step}: it is lost");
        self.healed();
        let job = over(&self.bed, &id);
        assert_eq!(job.status(), "finished_successful", "{step}: {:#}", job.0);
        assert_eq!(job.0["undo"]["state"], "kept", "{step}: {:#}", job.0);
        assert!(job.0["proof"].is_object(), "{step}: {:#}", job.0);
        assert!(is_film(&output, "h264"), "{step}");
        assert_eq!(all_below(&self.dir), [output], "{step}: nothing else is there");
        let done = undo(&self.bed, &[&id]);
        assert!(done.ok(), "{step}: {done}");
        assert_eq!(
            all_below(&self.dir),
            std::slice::from_ref(&source),
            "{step}: nothing else is there"
        );
        assert_eq!(Whole::read(&source), Some(original), "{step}");
        std::fs::remove_file(source).unwrap();
    }
}

#[test]
fn a_killed_agent_finishes_what_gets_the_same_name() {
    let mut library = Library::new();
    for step in SAME {
        library.die_and_replace("film one.mkv", step, true);
    }
}

#[test]
fn a_killed_agent_finishes_what_gets_another_ending() {
    let mut library = Library::new();
    for step in OTHER {
        library.die_and_replace("-film 🎬.avi", step, true);
    }
}

#[test]
fn a_killed_agent_finishes_where_files_cannot_exchange_their_names() {
    let mut library = Library::new();
    for step in NO_EXCHANGE {
        library.die_and_replace("film.mkv", step, false);
    }
}

#[test]
fn a_killed_agent_finishes_an_undo() {
    let mut library = Library::new();
    let source = library.dir.join("film.mkv");
    film(&source, 1);
    dress(&source);
    let original = Whole::read(&source).unwrap();
    for step in UNDO {
        let mut command = library.bed.dmc(0);
        command.args(["convert", "--replace"]).args(FAST).arg("--").arg(&source);
        let done = run(&mut command, LIMIT);
        assert!(done.ok(), "{done}");
        let list = library.bed.ask(0, &["undo", "--list"]);
        let id = list.as_array().unwrap().last().unwrap()["job"].as_str().unwrap().to_owned();
        library.armed(step, true);
        let asked = undo(&library.bed, &[&id]);
        assert!(!asked.ok(), "{step}: the agent should have died: {asked}");
        wait_until("the agent died", || library.is_dead());
        library.healed();
        let state = library.bed.job(0, &id).0["undo"]["state"].clone();
        assert_eq!(state, "restored", "{step}");
        assert_eq!(Whole::read(&source).as_ref(), Some(&original), "{step}");
        assert_eq!(
            all_below(&library.dir),
            std::slice::from_ref(&source),
            "{step}: nothing else is there"
        );
    }
}
