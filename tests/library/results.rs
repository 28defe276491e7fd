//! Where the results of a watched folder go.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use super::{LIMIT, add, bed, count, film, h264, jobs, names, until_quiet};
use crate::support::process::run;

#[test]
fn a_mirror_has_the_same_names_and_overwrites_nothing() {
    let bed = bed();
    let (dir, mirror) = (bed.dir("films"), bed.dir("mirror"));
    h264(&dir.join("a/b c/-d \u{1f3ac}.mp4"), 1);
    let odd = dir.join("e").join(OsStr::from_bytes(b"f\xff.mkv"));
    h264(&odd, 2);
    h264(&dir.join("same.mp4"), 3);
    h264(&dir.join("same.mkv"), 4);
    h264(&dir.join("theirs.mkv"), 5);
    fs::write(mirror.join("theirs.mkv"), "somebody's own").unwrap();
    add(&bed, &dir, &["--mirror", mirror.to_str().unwrap()]);
    let quiet = until_quiet(&bed);
    let told = || {
        let all = ["a/b c/-d \u{1f3ac}.mp4", "same.mp4", "same.mkv", "theirs.mkv"]
            .map(|name| dir.join(name));
        let all = all.iter().chain([&odd]);
        let told =
            all.map(|file| run(bed.dmc(0).args(["watch", "explain"]).arg(file), LIMIT).stdout);
        told.collect::<String>()
    };
    assert_eq!((count(&quiet, "done"), count(&quiet, "skipped")), (4, 1), "{quiet:#}\n{}", told());
    assert_eq!(names(&mirror.join("a/b c")), ["-d \u{1f3ac}.mkv"]);
    assert!(mirror.join("e").join(odd.file_name().unwrap()).exists());
    let both = names(&mirror);
    assert!(both.contains(&"same.mkv".to_owned()), "{both:?}");
    assert_eq!(both.iter().filter(|name| name.starts_with("same")).count(), 2, "{both:?}");
    assert_eq!(fs::read(mirror.join("theirs.mkv")).unwrap(), b"somebody's own");
    assert_eq!(
        names(&dir),
        ["a", "e", "same.mkv", "same.mp4", "theirs.mkv"],
        "nothing beside them"
    );
}

#[test]
fn results_may_take_the_place_of_their_sources_and_what_is_undone_stays_so() {
    let bed = bed();
    let dir = bed.dir("films");
    h264(&dir.join("a.mkv"), 1);
    film(&dir.join("b.avi"), 1, 2, &["-c:v", "mpeg4", "-q:v", "1"]);
    let original = fs::read(dir.join("a.mkv")).unwrap();
    add(&bed, &dir, &["--replace"]);
    let quiet = until_quiet(&bed);
    assert_eq!(names(&dir), ["a.mkv", "b.mkv"], "{quiet:#}");
    assert_eq!((quiet["converted"].as_u64(), jobs(&bed)), (Some(2), 2), "{quiet:#}");
    assert!(fs::metadata(dir.join("a.mkv")).unwrap().len() < original.len() as u64);
    let quiet = until_quiet(&bed);
    assert_eq!((count(&quiet, "failed"), jobs(&bed)), (0, 2), "results are no sources: {quiet:#}");
    let all = bed.ask(0, &["jobs", "list"]);
    let of_a = |job: &&Value| job["input"].as_str().unwrap().ends_with("a.mkv");
    let job = all.as_array().unwrap().iter().find(of_a).unwrap()["id"].as_str().unwrap().to_owned();
    let undone = run(bed.dmc(0).args(["undo", &job]), LIMIT);
    assert!(undone.ok(), "{undone}");
    assert_eq!(fs::read(dir.join("a.mkv")).unwrap(), original);
    let quiet = until_quiet(&bed);
    assert_eq!(jobs(&bed), 2, "who undid it wants it so: {quiet:#}");
    assert_eq!(fs::read(dir.join("a.mkv")).unwrap(), original);
}
