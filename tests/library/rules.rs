//! What a person says of the files of a watched folder, and what pays.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::{H264, LIMIT, add, bed, count, explain, film, h264, jobs, names, until, until_quiet};
use crate::support::bed::Bed;
use crate::support::process::run;

fn rules(bed: &Bed, text: &str) -> PathBuf {
    let path = bed.dir("aside").join("rules.toml");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn rules_decide_and_explain_themselves() {
    let bed = bed();
    let dir = bed.dir("films");
    h264(&dir.join("Films/a.mkv"), 1);
    h264(&dir.join("Films/a-trailer.mkv"), 2);
    h264(&dir.join("Extras/b.mkv"), 3);
    film(&dir.join("Films/small.mkv"), 1, 4, &["-c:v", "libx264", "-crf", "51"]);
    film(&dir.join("Films/long.mkv"), 3, 5, H264);
    film(&dir.join("Films/tall.mkv"), 1, 6, &[H264, &["-vf", "scale=64:200"]].concat());
    film(&dir.join("Films/vp9.mkv"), 1, 7, &["-c:v", "libvpx-vp9", "-lossless", "1"]);
    let text = "[skip]\nnames = [\"*-trailer.*\"]\npaths = [\"Extras/**\"]\nsmaller_than = \"5 kB\"\n\
                longer_than = \"2 s\"\nheight_above = 100\ncodecs = [\"vp9\"]\nyounger_than = \"0 s\"\n";
    let file = rules(&bed, text);
    add(&bed, &dir, &["--rules", file.to_str().unwrap()]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), count(&quiet, "skipped")), (1, 6), "{quiet:#}");
    for (name, rule, value) in [
        ("Films/a-trailer.mkv", "skip.names", "*-trailer.*"),
        ("Extras/b.mkv", "skip.paths", "Extras/**"),
        ("Films/small.mkv", "skip.smaller_than = 5 kB", "kB"),
        ("Films/long.mkv", "skip.longer_than = 2 s", "lasts 3 s"),
        ("Films/tall.mkv", "skip.height_above = 100", "200 lines"),
        ("Films/vp9.mkv", "skip.codecs = vp9", "vp9"),
    ] {
        let of = explain(&bed, &dir.join(name));
        let because = &of["because"];
        assert_eq!((&of["decision"], &of["state"]), (&"skip".into(), &"skipped".into()), "{of:#}");
        assert_eq!(because["rule"], rule, "{of:#}");
        assert!(because["why"].as_str().unwrap().contains(value), "{of:#}");
        let told = of["standing"].as_str().unwrap();
        assert!(told.contains(rule), "what was decided is what is explained: {told}");
    }
    // Other rules are decided by at once.
    let file = rules(&bed, "[skip]\nnames = [\"*-trailer.*\"]\n");
    add(&bed, &dir, &["--rules", file.to_str().unwrap()]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), count(&quiet, "skipped")), (6, 1), "{quiet:#}");

    let wrong = rules(&bed, "[skip]\n\nsmaler_than = \"5 kB\"\n");
    let mut refused = bed.dmc(0);
    refused.args(["watch", "add"]).arg(&dir).arg("--rules").arg(wrong);
    let refused = run(&mut refused, LIMIT);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(
        refused.stderr.contains("line 3") && refused.stderr.contains("`smaller_than`"),
        "{refused}"
    );
}

#[test]
fn a_result_that_saves_too_little_is_thrown_away() {
    let bed = bed();
    let dir = bed.dir("films");
    let path = dir.join("tight.mkv");
    film(&path, 2, 1, &["-c:v", "libx264", "-preset", "veryslow", "-crf", "45"]);
    h264(&dir.join("fat.mkv"), 2);
    let before = fs::read(&path).unwrap();
    let file = rules(&bed, "min_savings_percent = 30\n");
    add(&bed, &dir, &["--rules", file.to_str().unwrap()]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), count(&quiet, "skipped")), (1, 1), "{quiet:#}");
    assert_eq!(names(&dir), ["fat.hevc.mkv", "fat.mkv", "tight.mkv"]);
    assert_eq!(fs::read(&path).unwrap(), before);
    let of = explain(&bed, &path);
    assert_eq!(of["because"]["rule"], "min_savings_percent = 30", "{of:#}");
    // It is not tried again, whatever its name is; for less it is.
    fs::rename(&path, dir.join("again.mkv")).unwrap();
    until_quiet(&bed);
    assert_eq!(jobs(&bed), 2);
    let file = rules(&bed, "");
    add(&bed, &dir, &["--rules", file.to_str().unwrap()]);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "done"), jobs(&bed)), (2, 3), "{quiet:#}");
}

#[test]
fn a_film_that_cannot_pay_is_stopped_before_its_end() {
    let bed = bed();
    let dir = bed.dir("films");
    let path = dir.join("long.mkv");
    fs::create_dir_all(&dir).unwrap();
    let mut call = Command::new("ffmpeg");
    // Noise that a small source has little of already.
    let picture = "testsrc2=s=480x320:r=25";
    call.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", picture, "-t", "240"]);
    call.args(["-c:v", "libx264", "-preset", "ultrafast", "-crf", "51", "-g", "50"]);
    let made = run(call.arg(&path), LIMIT);
    assert!(made.ok(), "{made}");
    let file = rules(&bed, "min_savings_percent = 20\n");
    add(&bed, &dir, &["--rules", file.to_str().unwrap()]);
    let skipped = until(&bed, "it is left alone", |now| count(now, "skipped") == 1);
    assert_eq!(names(&dir), ["long.mkv"], "{skipped:#}");
    let job = bed.ask(0, &["jobs", "list"])[0].clone();
    let job = bed.job(0, job["id"].as_str().unwrap());
    assert_eq!(job.status(), "cancelled", "{:#}", job.0);
    let (done, all) = (job.0["tasks_done"].as_u64(), job.0["tasks_total"].as_u64());
    assert!(done < all, "{done:?} of {all:?}: {:#}", job.0["notes"]);
    assert!(job.0["notes"].to_string().contains("stopped after"), "{:#}", job.0["notes"]);
}
