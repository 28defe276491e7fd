//! A quality that is to be reached, and what a folder would become: told before, measured after.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Desk, LIMIT, notes};
use crate::support::process::run;

/// SSIM of two films, by ffmpeg.
fn ssim(a: &Path, b: &Path) -> f64 {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "info", "-i"]).arg(a).arg("-i").arg(b);
    let seen = run(command.args(["-lavfi", "[0:v][1:v]ssim", "-f", "null", "-"]), LIMIT);
    let line = seen.stderr.lines().rfind(|line| line.contains("SSIM")).unwrap();
    let (_, rest) = line.split_once("All:").unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

const GRAIN: &str = "-f lavfi -i mandelbrot=size=320x192:rate=25:maxiter=200:end_scale=0.0005,\
                     noise=alls=8:allf=t:all_seed=7";

#[test]
fn a_wanted_quality_is_found_and_reached() {
    let desk = Desk::new();
    let source =
        desk.film("film.mkv", &format!("{GRAIN} -t 24 -c:v libx264 -preset ultrafast -crf 12"));
    let words = ["--preset", "h264", "--target", "ssim=0.95", "--encoder-speed", "veryfast"];
    let (job, film) = desk.convert(&source, &words);
    let said = notes(&job);
    let number = |before: &str| -> f64 {
        let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("{before}: {said}"));
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        rest[..end].parse().unwrap()
    };
    let predicted = number("predicted ssim ");
    let measured = number("measured over the whole film: ssim ");
    let truth = ssim(&film.path, &source);
    assert!((measured - truth).abs() < 0.0005, "{measured} told, {truth} is");
    assert!(predicted >= 0.95 && (predicted - truth).abs() < 0.01, "{predicted}, {truth}");
    assert!((0.945..0.975).contains(&truth), "{truth}: {said}");
    // One step more would have been too much.
    let crf = number("crf ") as u8;
    assert!((2..51).contains(&crf), "{said}");
}

#[test]
fn a_forecast_is_near_the_truth() {
    let desk = Desk::new();
    let library = desk.path("library");
    fs::create_dir_all(library.join("more")).unwrap();
    let kinds = [
        ("a.mkv", format!("{GRAIN} -t 20 -c:v libx264 -preset ultrafast -crf 14")),
        (
            "b 🎬.mp4",
            "-f lavfi -i testsrc2=size=320x192:rate=25:duration=24 -c:v mpeg4 -q:v 2".to_owned(),
        ),
        ("more/-c.mkv", format!("{GRAIN} -t 16 -vf hflip -c:v mpeg2video -q:v 3 -g 15")),
    ];
    let mut before = 0;
    for (name, words) in kinds {
        let made = desk.film(&format!("library/{name}"), &words);
        before += fs::metadata(made).unwrap().len();
    }
    let words = ["--preset", "h264", "--encoder-speed", "veryfast", "--json"];
    let ask = || run(desk.dmc().arg("forecast").arg(&library).args(words), LIMIT);
    let done = ask();
    assert!(done.ok(), "{done}");
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((told["films"].as_u64(), told["bytes"].as_u64()), (Some(3), Some(before)));
    assert_eq!(told["sampled_all"], true);

    let (mut after, mut scores) = (0, Vec::new());
    for entry in ["a.mkv", "b 🎬.mp4", "more/-c.mkv"] {
        let source = library.join(entry);
        let out = desk.path("out.mkv");
        let words = ["--preset", "h264", "--encoder-speed", "veryfast", "--overwrite", "-o"];
        let words: Vec<&str> = words.into_iter().chain([out.to_str().unwrap()]).collect();
        let (_, film) = desk.convert(&source, &words);
        after += fs::metadata(&film.path).unwrap().len();
        scores.push(ssim(&film.path, &source));
    }
    let bar = |key: &str, part: &str| told[key][part].as_f64().unwrap();
    let value = bar("result_bytes", "value");
    assert!((value / after as f64 - 1.0).abs() < 0.2, "{value} predicted, {after} is: {told:#}");
    assert!(bar("result_bytes", "low") <= value && value <= bar("result_bytes", "high"));
    let score = scores.iter().sum::<f64>() / 3.0;
    assert!((bar("ssim_or_vmaf", "value") - score).abs() < 0.01, "{score}: {told:#}");
    assert!(bar("seconds", "value") > 0.0);

    // The same seed, the same places.
    let again: Value = serde_json::from_str(&ask().stdout).unwrap();
    assert_eq!(again["ssim_or_vmaf"], told["ssim_or_vmaf"]);
    let none = run(desk.dmc().arg("forecast").arg(desk.path("data")), LIMIT);
    assert!(!none.ok() && none.stderr.contains("no film"), "{none}");
}
