//! Presets of a person, as files, and those of HandBrake.

use std::fs;

use super::{Desk, LIMIT, SOUND, size, text, times};
use crate::support::process::run;

#[test]
fn own_presets_are_files() {
    let desk = Desk::new();
    let source = desk.film("film.mkv", "-f lavfi -i testsrc2=size=192x128:rate=25:duration=1");
    let own = desk.own();
    fs::write(own.join("mini.toml"), "inherits = \"h264\"\ncrf = 30\nmax_height = 64\n").unwrap();
    let (job, film) = desk.convert(&source, &["--preset", "mini"]);
    assert_eq!((size(&film), text(&job.0, "preset")), ((96, 64), "mini"));

    fs::write(own.join("bad.toml"), "inherits = \"h264\"\nmax_heigth = 64\n").unwrap();
    let done = desk.try_convert(&source, &["--preset", "bad"]);
    assert_eq!(done.code, Some(2), "{done}");
    assert!(done.stderr.contains("line 2") && done.stderr.contains("`max_height`?"), "{done}");
    let checked = run(desk.dmc().args(["presets", "check"]).arg(own.join("bad.toml")), LIMIT);
    assert!(!checked.ok() && checked.stderr.contains("line 2"), "{checked}");
    let checked = run(desk.dmc().args(["presets", "check"]).arg(own.join("mini.toml")), LIMIT);
    assert!(checked.ok() && checked.stdout.contains("max_height = 64"), "{checked}");

    // A broken one hides no other, and is told.
    let listed = run(desk.dmc().args(["presets", "list"]), LIMIT);
    assert!(listed.ok() && listed.stdout.contains("mini"), "{listed}");
    assert!(listed.stderr.contains("bad.toml"), "{listed}");
    // What is shown is a preset file.
    let shown = run(desk.dmc().args(["presets", "show", "phone"]), LIMIT);
    fs::write(own.join("phone-copy.toml"), &shown.stdout).unwrap();
    let again = run(desk.dmc().args(["presets", "show", "phone-copy"]), LIMIT);
    assert_eq!(again.stdout, shown.stdout);
}

#[test]
fn presets_of_handbrake_are_imported_as_far_as_they_go() {
    let desk = Desk::new();
    desk.own();
    let file = desk.path("hb.json");
    fs::write(
        &file,
        r#"{"PresetList":[{"PresetName":"Tablet 480p","FileFormat":"av_mp4","VideoEncoder":"x264",
        "VideoQualityType":2,"VideoQualitySlider":26.0,"VideoPreset":"veryfast","VideoTune":"film",
        "PictureWidth":854,"PictureHeight":480,"VideoFramerate":"25","VideoFramerateMode":"pfr",
        "PictureDenoiseFilter":"nlmeans","AudioList":[{"AudioEncoder":"av_aac","AudioBitrate":96,
        "AudioMixdown":"mono"}],"SubtitleTrackSelectionBehavior":"none"}]}"#,
    )
    .unwrap();
    let done = run(desk.dmc().args(["presets", "import"]).arg(&file), LIMIT);
    assert!(done.ok(), "{done}");
    for part in ["preset tablet-480p", "ignored: VideoTune", "ignored: PictureDenoiseFilter"] {
        assert!(done.stdout.contains(part), "{part}: {done}");
    }
    let again = run(desk.dmc().args(["presets", "import"]).arg(&file), LIMIT);
    assert!(!again.ok() && again.stderr.contains("already"), "{again}");
    let words = format!(
        "-f lavfi -i testsrc2=size=1280x720:rate=50:duration=2 {SOUND} -c:v libx264 -preset ultrafast \
         -c:a aac -ac 2 -shortest"
    );
    let source = desk.film("film.mkv", &words);
    let (_, film) = desk.convert(&source, &["--preset", "tablet-480p"]);
    assert_eq!(size(&film), (854, 480));
    assert_eq!(film.streams("audio")[0]["channels"].as_u64(), Some(1));
    assert_eq!(times(&film.path).len(), 50);
    assert!(film.is("mp4"));
}
