//! Every fuzz target on its corpus, on fresh inputs, and on some thousand changes of them.
//!
//! The same changes each time: a failure is written below `target/tmp` and is found again. A longer
//! look: `DMC_FUZZ_RUNS=1000000`, or libFuzzer, see docs/TESTING.md.
#![cfg(test)]

#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/seeds.rs"]
mod seeds;
#[path = "fuzz/lib.rs"]
mod targets;
#[path = "../protocol/tests/values/mod.rs"]
mod values;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Changed inputs for each target.
const RUNS: usize = 3_000;
/// No input may take longer, even on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(20);

macro_rules! smoke {
    ($($name:ident),* $(,)?) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*
    };
}

smoke!(
    wire_frame,
    control_stream,
    blob_stream,
    roster,
    join,
    txt_record,
    store_record,
    manifest,
    progress,
    ffprobe,
    proof,
    picture,
    mp4_header,
    api_body,
    config,
);

#[test]
fn every_target_is_tested_and_can_be_fuzzed() {
    let names: BTreeSet<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED.iter().copied().collect());
    for name in names {
        assert!(dir().join("fuzz_targets").join(format!("{name}.rs")).exists(), "{name}");
    }
}

/// `cargo test -p tests --test fuzz -- --ignored write_seeds`, when messages or records changed.
#[test]
#[ignore = "it writes into the corpus"]
fn write_seeds() {
    for name in TESTED {
        let corpus = dir().join("corpus").join(name);
        fs::create_dir_all(&corpus).unwrap();
        for (number, seed) in seeds::of(name).iter().enumerate() {
            fs::write(corpus.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// All inputs of a target: the files of its corpus, and fresh ones that are never out of date.
fn inputs(name: &str) -> Vec<Vec<u8>> {
    let corpus = dir().join("corpus").join(name);
    let mut files: Vec<PathBuf> =
        fs::read_dir(&corpus).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).chain(seeds::of(name)).collect()
}

fn smoke(name: &str) {
    let inputs = inputs(name);
    let accepted = inputs.iter().filter(|input| run(name, input)).count();
    assert!(accepted > 0, "{name} refuses all of its inputs: its corpus is out of date");
    let runs = std::env::var("DMC_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok());
    let mut mutator = Mutator::new(name, &inputs);
    for _ in 0..runs.unwrap_or(RUNS) {
        run(name, &mutator.next_input());
    }
}

/// Runs a target; an input that breaks it is kept.
fn run(name: &str, input: &[u8]) -> bool {
    let began = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| targets::run(name, input)));
    let slow = began.elapsed() > RUN_LIMIT;
    if done.is_err() || slow {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}.input"));
        fs::write(&kept, input).unwrap();
        eprintln!("{name} breaks with {}; mend it and put this into its corpus", kept.display());
    }
    assert!(!slow, "{name} took {:?}", began.elapsed());
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
