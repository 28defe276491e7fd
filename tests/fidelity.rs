//! The main promise: a film that several agents convert losslessly is the same film.
//!
//! Shown are the zoo and every file below the directories of `DMC_CORPUS` (separated by `:`).
//! `DMC_ONLY=text` keeps the files whose name contains the text, `DMC_REPORT=file` also writes the
//! table of results there.
//!
//! The policy: a result is **exact**; or the file is **refused** with exit code 1 and a clear
//! error, which is right only for a file that is broken on purpose, that plain
//! `ffmpeg -xerror` cannot decode either, or that is a still image; everything else fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use crate::support::bed::{Bed, Meeting};
use crate::support::compare::{Depth, compare};
use crate::support::dmc::Job;
use crate::support::film::Film;
use crate::support::process::Finished;
use crate::support::zoo::{self, Expect};

/// No file is longer than half a minute.
const FILE_LIMIT: Duration = Duration::from_secs(240);
/// The films are short; without this few of them would be cut at all.
const SEGMENT_S: &str = "3";
/// As many films at a time, so that the comparing does not leave the agents idle.
const AT_ONCE: usize = 2;
/// Exact in Matroska, where any codec may be.
const LOSSLESS: &[&str] = &["--preset", "lossless"];
/// Exact in MP4: x264 keeps every bit of 8-bit pictures at crf 0.
const LOSSLESS_MP4: &[&str] = &["--preset", "h264", "--crf", "0"];
/// What people make of HDR: not exact, but every frame, its time and its colour data must be there.
const HDR_MP4: &[&str] = &["--preset", "hevc"];
/// These go to MP4 as well as to Matroska.
const ALSO_TO_MP4: &[(&str, &[&str])] = &[
    ("h264_opengop.ts", LOSSLESS_MP4),
    ("h264_vfr.mp4", LOSSLESS_MP4),
    ("h264_editlist.mp4", LOSSLESS_MP4),
    ("hevc_opengop.mp4", LOSSLESS_MP4),
    ("hdr10.mp4", HDR_MP4),
    ("rotated.mp4", LOSSLESS_MP4),
    ("full.mp4", LOSSLESS_MP4),
    ("audio_longer.mp4", LOSSLESS_MP4),
    ("fullrange.mp4", LOSSLESS_MP4),
];

/// A file to convert.
struct Case {
    source: PathBuf,
    /// The extension of the result.
    target: &'static str,
    words: &'static [&'static str],
    depth: Depth,
    expect: Expect,
    /// Not of the zoo: whether it is damaged is for ffmpeg to say.
    foreign: bool,
    still: bool,
}

enum Verdict {
    Exact(Vec<String>),
    Refused(String),
    Different(Vec<String>),
}

/// A line of the report.
struct Row {
    name: String,
    rung: String,
    rungs: String,
    workers: Vec<String>,
    seconds: f64,
    verdict: Verdict,
}

#[test]
fn every_film_arrives_exactly() {
    let cases = cases();
    let bed = Bed::start(2, Meeting::Address);
    let rows = judge_all(&bed, &cases);
    let report = report(&rows);
    println!("{report}");
    if let Some(path) = env::var_os("DMC_REPORT") {
        fs::write(path, &report).unwrap();
    }
    let wrong = rows.iter().filter(|r| matches!(r.verdict, Verdict::Different(_))).count();
    assert_eq!(wrong, 0, "{wrong} of {} files are not right:\n{report}", rows.len());
    if env::var_os("DMC_ONLY").is_none() {
        let all: BTreeSet<&String> = rows.iter().flat_map(|r| &r.workers).collect();
        assert!(all.len() > 1, "only {all:?} did any work");
        assert!(rows.iter().any(|r| r.workers.len() > 1), "no film was shared:\n{report}");
    }
}

fn cases() -> Vec<Case> {
    let only = env::var("DMC_ONLY").unwrap_or_default();
    let mut all = Vec::new();
    for animal in zoo::animals().iter().filter(|a| a.name.contains(&only)) {
        let source = zoo::get(animal.name);
        if let Some((_, words)) = ALSO_TO_MP4.iter().find(|(name, _)| *name == animal.name) {
            let depth = if *words == HDR_MP4 { Depth::Times } else { Depth::Lossless };
            let case = case(source.clone(), animal.expect, false);
            all.push(Case { target: "mp4", words, depth, ..case });
        }
        all.push(case(source, animal.expect, false));
    }
    for dir in env::var_os("DMC_CORPUS").iter().flat_map(env::split_paths) {
        assert!(dir.is_dir(), "DMC_CORPUS: {} is no directory", dir.display());
        let mut files = Vec::new();
        walk(&dir, &mut files);
        files.retain(|f| f.to_string_lossy().contains(&only));
        all.extend(files.into_iter().map(|file| case(file, Expect::Exact, true)));
    }
    all
}

fn case(source: PathBuf, expect: Expect, foreign: bool) -> Case {
    let film = Film::open(&source).ok();
    let still = film.as_ref().is_some_and(Film::is_still);
    let sound = film.is_some_and(|f| f.streams("video").is_empty());
    let target = match (still, sound) {
        (true, _) => "png",
        (_, true) => "mka",
        _ => "mkv",
    };
    Case { source, target, words: LOSSLESS, depth: Depth::Lossless, expect, foreign, still }
}

/// Every file below a directory, in the order of their names.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn judge_all(bed: &Bed, cases: &[Case]) -> Vec<Row> {
    let next = Mutex::new(0..cases.len());
    let rows = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(n) = next.lock().unwrap().next() else { return };
                    let row = judge(bed, n, &cases[n]);
                    eprintln!("{}", line(&row));
                    rows.lock().unwrap().insert(n, row);
                }
            });
        }
    });
    rows.into_inner().unwrap().into_values().collect()
}

fn judge(bed: &Bed, n: usize, case: &Case) -> Row {
    let dir = bed.dir(&format!("out-{n}"));
    let out = dir.join(format!("result.{}", case.target));
    let before = fingerprint(&case.source);
    let words = [case.words, &["--segment-seconds", SEGMENT_S]].concat();
    let start = Instant::now();
    let (done, job) = bed.convert(n % 2, &case.source, &out, &words, FILE_LIMIT);
    let seconds = start.elapsed().as_secs_f64();
    let mut verdict = verdict(case, &out, &done, job.as_ref());
    let mut also_wrong = |what: &str| match &mut verdict {
        Verdict::Different(all) => all.push(what.to_owned()),
        _ => verdict = Verdict::Different(vec![what.to_owned()]),
    };
    if fingerprint(&case.source) != before {
        also_wrong("the source was touched");
    }
    if done.ok() != out.exists() || fs::read_dir(&dir).unwrap().count() != usize::from(out.exists())
    {
        also_wrong("the directory of the result holds something else than the result");
    }
    // The disk need not hold every lossless film until the end.
    fs::remove_dir_all(&dir).unwrap();
    let name = case.source.file_name().unwrap().to_string_lossy();
    Row {
        name: format!("{name} -> {}", case.target),
        rung: job.as_ref().map_or("-", Job::rung).to_owned(),
        rungs: job.as_ref().map(Job::rungs).unwrap_or_default(),
        workers: job.as_ref().map(Job::workers).unwrap_or_default(),
        seconds,
        verdict,
    }
}

/// What must not change about a source.
fn fingerprint(path: &Path) -> (Vec<u8>, std::time::SystemTime) {
    (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap())
}

fn verdict(case: &Case, out: &Path, done: &Finished, job: Option<&Job>) -> Verdict {
    match done.code {
        Some(0) if case.expect == Expect::Hostile => {
            Verdict::Different(vec!["it was accepted, and must be refused".to_owned()])
        }
        Some(0) => exactness(case, out),
        Some(1) if !out.exists() => refusal(case, done, job),
        _ => Verdict::Different(vec![done.to_string()]),
    }
}

fn exactness(case: &Case, out: &Path) -> Verdict {
    let films = Film::open(&case.source).and_then(|source| Ok((source, Film::open(out)?)));
    match films.and_then(|(source, result)| compare(&source, &result, case.depth)) {
        Ok(verdict) if verdict.differences.is_empty() => Verdict::Exact(verdict.notes),
        Ok(verdict) => Verdict::Different(verdict.differences),
        Err(error) => Verdict::Different(vec![error]),
    }
}

fn refusal(case: &Case, done: &Finished, job: Option<&Job>) -> Verdict {
    let said = done.stderr.trim();
    let clear = !said.is_empty() && said.lines().count() <= 12 && !said.contains("panicked");
    if !clear {
        return Verdict::Different(vec![format!("refused, but not with one clear error: {done}")]);
    }
    if let Some(job) = job.filter(|job| job.status() != "finished_with_errors") {
        return Verdict::Different(vec![format!("refused, but the job is {}", job.status())]);
    }
    let allowed = case.expect != Expect::Exact
        || case.still
        || (case.foreign && Film::strict_complaint(&case.source).is_some());
    let reason = said.lines().next().unwrap_or_default().to_owned();
    if allowed {
        Verdict::Refused(reason)
    } else {
        Verdict::Different(vec![format!(
            "refused, though ffmpeg decodes it without a complaint: {said}"
        )])
    }
}

fn line(row: &Row) -> String {
    let (word, details) = match &row.verdict {
        Verdict::Exact(notes) => ("exact", notes.clone()),
        Verdict::Refused(reason) => ("refused", vec![reason.clone()]),
        Verdict::Different(all) => ("DIFFERENT", all.clone()),
    };
    let mut text = format!(
        "{:<44} {:<9} {:<28} {:<20} {:>6.1} s",
        row.name,
        word,
        row.rungs,
        row.workers.join("+"),
        row.seconds
    );
    for detail in details {
        write!(text, "\n    {detail}").unwrap();
    }
    text
}

/// The table, and how many files went by which rung.
fn report(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<44} {:<9} {:<28} {:<20} {:>8}\n",
        "file", "verdict", "rung (tasks)", "workers", "time"
    );
    let mut rungs: BTreeMap<&str, usize> = BTreeMap::new();
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        writeln!(text, "{}", line(row)).unwrap();
        let word = match row.verdict {
            Verdict::Exact(_) => "exact",
            Verdict::Refused(_) => "refused",
            Verdict::Different(_) => "DIFFERENT",
        };
        *verdicts.entry(word).or_default() += 1;
        if matches!(row.verdict, Verdict::Exact(_)) {
            *rungs.entry(&row.rung).or_default() += 1;
        }
    }
    writeln!(text, "verdicts: {verdicts:?}\nrungs of the exact ones: {rungs:?}").unwrap();
    text
}
