//! Files that change: on a bad disk, while they are made, and the source.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{FILM_LIMIT, ask_for, half_done, hold_encoder, leftovers, wait_for_success};
use crate::support::bed::{Bed, Meeting};
use crate::support::compare::{Depth, same_film};
use crate::support::film::Film;
use crate::support::process::{run, signal};
use crate::support::wait::wait_until;
use crate::support::zoo;

/// Files in the store that are held by names with that beginning.
fn held_files(data: &Path, holder: &str) -> Vec<PathBuf> {
    let holder: String = holder.bytes().map(|byte| format!("{byte:02x}")).collect();
    let pins = leftovers(&data.join("pins"));
    let names = pins.iter().filter_map(|pin| pin.file_name()?.to_str()?.split_once('.'));
    let held = names.filter(|(_, by)| by.starts_with(&holder));
    let mut files: Vec<PathBuf> =
        held.map(|(id, _)| data.join("blobs").join(&id[..2]).join(id)).collect();
    files.sort();
    files.dedup();
    files
}

/// Flips a bit in the middle of a file, as a bad disk does.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(file, bytes).unwrap();
}

#[test]
fn files_that_a_bad_disk_damages_are_made_anew() {
    let bed = Bed::start(1, Meeting::Address);
    let (source, out) = (zoo::get("plain.mp4"), bed.dir("out").join("film.mkv"));
    let words = ["--preset", "lossless", "--segment-seconds", "2"];
    let id = ask_for(&bed, 0, &source, &out, &words);
    wait_until("a segment is committed", FILM_LIMIT, || {
        bed.job(0, &id).0["tasks_done"].as_u64() > Some(0)
    });
    let encoder = hold_encoder(bed.process_id(0), "ffv1");
    let mut parts = Vec::new();
    wait_until("a piece waits beside that of the encoder", FILM_LIMIT, || {
        parts = held_files(bed.data(0), "part-");
        held_files(bed.data(0), "piece-").len() > 1
    });
    let words = fs::read_to_string(format!("/proc/{encoder}/cmdline")).unwrap();
    let idle = |file: &PathBuf| !words.contains(file.to_str().unwrap());
    let pieces: Vec<_> = held_files(bed.data(0), "piece-").into_iter().filter(idle).collect();
    assert!(!pieces.is_empty() && !parts.is_empty(), "{pieces:?} {parts:?}");
    damage(&pieces[0]);
    // The largest is a film, the smallest a list of frames.
    parts.sort_by_key(|file| fs::metadata(file).unwrap().len());
    damage(parts.last().unwrap());
    signal(encoder, Signal::CONT);
    let job = wait_for_success(&bed, 0, &id);
    assert!(job.0["proof"]["pixels_equal"].as_bool().unwrap(), "{:#}", job.0);
    same_film(&source, &out, Depth::Lossless);
    let log = bed.log(0);
    for what in ["its piece is damaged", "its result is damaged"] {
        assert!(log.contains(what), "not noticed: {what}");
    }
}

#[test]
fn a_source_that_is_only_touched_is_still_the_source() {
    let bed = Bed::start(1, Meeting::Address);
    let (id, source, out, encoder) = half_done(&bed);
    // Other times, another inode, the same bytes.
    let copy = source.with_extension("copy");
    fs::copy(&source, &copy).unwrap();
    fs::rename(&copy, &source).unwrap();
    signal(encoder, Signal::CONT);
    wait_for_success(&bed, 0, &id);
    same_film(&source, &out, Depth::Lossless);
    assert!(bed.log(0).contains("its content is the same"), "{}", bed.log(0));
}

#[test]
fn a_source_that_changes_fails_its_job_and_a_retry_converts_the_new_one() {
    let bed = Bed::start(1, Meeting::Address);
    let (id, source, out, encoder) = half_done(&bed);
    // The same size and modification time, other bytes.
    let time = fs::metadata(&source).unwrap().modified().unwrap();
    damage(&source);
    fs::File::options().write(true).open(&source).unwrap().set_modified(time).unwrap();
    signal(encoder, Signal::CONT);
    wait_until("the job is over", FILM_LIMIT, || bed.job(0, &id).status().starts_with("finished"));
    let job = bed.job(0, &id);
    assert_eq!(job.status(), "finished_with_errors", "{:#}", job.0);
    let errors = job.0["errors"].to_string();
    assert!(errors.contains("changed while it was being converted"), "{errors}");
    assert_eq!(leftovers(out.parent().unwrap()), Vec::<PathBuf>::new(), "nothing is mixed");

    fs::copy(zoo::get("h264_opengop.mkv"), &source).unwrap();
    let retried = run(bed.dmc(0).args(["jobs", "retry", &id]), Duration::from_secs(60));
    assert!(retried.ok(), "{retried}");
    wait_for_success(&bed, 0, &id);
    same_film(&source, &out, Depth::Lossless);
}

/// An ffmpeg that spoils the first picture part that it makes in a way that only decoding shows:
/// bytes in the middle, no packet more or less.
fn spoiling_ffmpeg(dir: &Path) -> PathBuf {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let real = std::env::split_paths(&search).map(|at| at.join("ffmpeg")).find(|at| at.exists());
    let (script, real) = (dir.join("ffmpeg"), real.unwrap());
    let text = format!(
        r#"#!/bin/sh
{real} "$@" || exit
for word; do case "$word" in file:*/media.mp4) part=${{word#file:}};; esac; done
case "$*" in *-progress*-c:v*) ;; *) exit 0;; esac
[ -n "$part" ] && mkdir {mark} 2>/dev/null || exit 0
size=$(stat -c %s "$part")
head -c 3000 /dev/zero | dd of="$part" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
"#,
        real = real.display(),
        mark = dir.join("spoilt").display(),
    );
    fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&script, mode).unwrap();
    script
}

#[test]
fn a_part_that_was_spoilt_while_it_was_made_is_found_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let ffmpeg = spoiling_ffmpeg(dir.path());
    let bed = Bed::start_with(1, Meeting::Address, |_, command| {
        // The sandbox lets ffmpeg start no other program.
        command.env("DMC_FFMPEG", &ffmpeg).env("DMC_SANDBOX", "off");
    });
    let (source, out) = (zoo::get("long.mp4"), bed.dir("out").join("film.mkv"));
    let words = ["--preset", "h264", "--encoder-speed", "ultrafast", "--segment-seconds", "12"];
    let (done, _) = bed.convert(0, &source, &out, &words, FILM_LIMIT);
    assert!(done.ok(), "{done}\n{}", bed.log(0));
    assert!(dir.path().join("spoilt").exists(), "nothing was spoilt");
    assert!(bed.log(0).contains("decoding the result"), "{}", bed.log(0));
    same_film(&source, &out, Depth::Times);
    assert_eq!(Film::strict_complaint(&out), None);
}
