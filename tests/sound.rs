//! Sound alone: every sample there and none added, names, covers and chapters kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(240);
/// Presets, the end of the file, and the samples a second that they make of 44,100.
const PRESETS: [(&str, &str, u64); 4] = [
    ("audio-opus", "opus", 48_000),
    ("audio-aac", "m4a", 44_100),
    ("audio-mp3", "mp3", 44_100),
    ("audio-flac", "flac", 44_100),
];

fn ffmpeg(dir: &Path, words: &[&str]) -> Finished {
    let mut command = Command::new("ffmpeg");
    command.current_dir(dir).args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    let done = run(command.args(words), LIMIT);
    assert!(done.ok(), "{done}");
    done
}

fn probe(file: &Path) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-loglevel", "error", "-show_streams", "-show_format", "-show_chapters"]);
    let done = run(command.args(["-of", "json", "-i"]).arg(file), LIMIT);
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {done}"))
}

/// Samples of the first sound when it is decoded.
fn samples(dir: &Path, file: &str) -> u64 {
    let words = ["-i", file, "-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "framehash", "-"];
    let said = ffmpeg(dir, &words).stdout;
    let channels = probe(&dir.join(file))["streams"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|stream| stream["channels"].as_u64());
    let rows = said.lines().filter(|line| !line.starts_with('#'));
    let bytes: u64 =
        rows.map(|row| row.split(',').nth(4).unwrap().trim().parse::<u64>().unwrap()).sum();
    bytes / 2 / channels.unwrap()
}

/// A tag of the file or of its sound, whatever its case.
fn tag(file: &Value, name: &str) -> Option<String> {
    let sound = file["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == "audio");
    let places = [&file["format"]["tags"], &sound.unwrap()["tags"]];
    let find = |tags: &Value| {
        let tags = tags.as_object()?;
        let (_, value) = tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        value.as_str().map(str::to_owned)
    };
    places.into_iter().find_map(find)
}

/// The first cover's bytes, as a hash.
fn cover(dir: &Path, file: &str) -> String {
    ffmpeg(dir, &["-i", file, "-map", "0:v:0", "-c", "copy", "-f", "hash", "-hash", "md5", "-"])
        .stdout
}

fn convert(bed: &Bed, dir: &Path, file: &str, words: &[&str]) -> Finished {
    let mut command = bed.dmc(0);
    run(command.current_dir(dir).arg("convert").args(words).arg("--").arg(file), LIMIT)
}

fn desk() -> (Bed, PathBuf) {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("music \u{1f3b5}");
    (bed, dir)
}

/// A song of 146,487 samples: not a whole number of packets of any codec.
fn song(dir: &Path, name: &str) {
    // Noise hardly becomes smaller: a cover that no argument could hold.
    let picture = "nullsrc=size=300x300,geq=random(1)*255:128:128,format=rgb24";
    ffmpeg(dir, &["-f", "lavfi", "-i", picture, "-frames:v", "1", "cover.png"]);
    assert!(fs::metadata(dir.join("cover.png")).unwrap().len() > 100_000);
    let sound = "sine=frequency=440:sample_rate=44100:duration=3.3217[a];\
                 anoisesrc=r=44100:d=3.3217:a=0.2:seed=3[b];[a][b]join=inputs=2:channel_layout=stereo";
    ffmpeg(
        dir,
        &[
            "-f",
            "lavfi",
            "-i",
            sound,
            "-i",
            "cover.png",
            "-map",
            "0:a",
            "-map",
            "1:v",
            "-c:v",
            "copy",
            "-disposition:v",
            "attached_pic",
            "-metadata",
            "title=Lied = \u{fc}ber; #1",
            "-metadata",
            "artist=Wer",
            "-metadata",
            "album=Platte",
            "-metadata",
            "track=3/12",
            "-metadata",
            "date=1999",
            name,
        ],
    );
}

#[test]
fn a_song_keeps_every_sample_its_names_and_its_cover() {
    let (bed, dir) = desk();
    song(&dir, "a song.flac");
    assert_eq!(samples(&dir, "a song.flac"), 146_487);
    for (preset, end, rate) in PRESETS {
        let out = bed.dir(preset);
        let words = ["--preset", preset, "--output-dir", out.to_str().unwrap()];
        let done = convert(&bed, &dir, "a song.flac", &words);
        assert!(done.ok(), "{done}");
        let name = if end == "flac" {
            "a song.audio-flac.flac".to_owned()
        } else {
            format!("a song.{end}")
        };
        let made = probe(&out.join(&name));
        let wanted = (146_487 * rate).div_ceil(44_100);
        let sound = made["streams"].as_array().unwrap().iter().find(|s| s["codec_type"] == "audio");
        // How much of AAC's last packet counts is said by the container, and ffmpeg does not look.
        let have = if end == "m4a" {
            sound.unwrap()["duration_ts"].as_u64().unwrap()
        } else {
            samples(&out, &name)
        };
        assert!(have.abs_diff(wanted) <= u64::from(rate != 44_100), "{preset}: {have} of {wanted}");
        for (key, value) in [
            ("title", "Lied = \u{fc}ber; #1"),
            ("artist", "Wer"),
            ("album", "Platte"),
            ("track", "3/12"),
        ] {
            assert_eq!(tag(&made, key).as_deref(), Some(value), "{preset}: {key} in {made}");
        }
        assert_eq!(cover(&dir, "a song.flac"), cover(&out, &name), "{preset}: the cover");
    }
}

#[test]
fn names_come_out_of_ogg_and_mp3_too() {
    let (bed, dir) = desk();
    song(&dir, "s.flac");
    for (preset, _, _) in &PRESETS[..3] {
        assert!(convert(&bed, &dir, "s.flac", &["--preset", preset]).ok());
    }
    for (file, preset, made) in [
        ("s.opus", "audio-mp3", "x.mp3"),
        ("s.mp3", "audio-opus", "x.opus"),
        ("s.m4a", "audio-flac", "x.flac"),
    ] {
        let done = convert(&bed, &dir, file, &["--preset", preset, "-o", made]);
        assert!(done.ok(), "{done}");
        let found = probe(&dir.join(made));
        assert_eq!(tag(&found, "title").as_deref(), Some("Lied = \u{fc}ber; #1"), "{found}");
        assert_eq!(cover(&dir, "s.flac"), cover(&dir, made), "{file}");
    }
}

#[test]
fn a_book_keeps_its_chapters() {
    let (bed, dir) = desk();
    let chapters = ";FFMETADATA1\ntitle=Buch\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=1500\n\
                    title=Eins\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=1500\nEND=3000\ntitle=Zwei\n";
    fs::write(dir.join("c.txt"), chapters).unwrap();
    ffmpeg(
        &dir,
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=duration=3:sample_rate=44100",
            "-i",
            "c.txt",
            "-map",
            "0",
            "-map_metadata",
            "1",
            "-map_chapters",
            "1",
            "-f",
            "ipod",
            "b.m4b",
        ],
    );
    for (preset, end) in
        [("audio-opus", "opus"), ("audio-mp3", "mp3"), ("audio-aac", "m4a"), ("audio-flac", "mka")]
    {
        let done = convert(&bed, &dir, "b.m4b", &["--preset", preset]);
        assert!(done.ok(), "{done}");
        let made = probe(&dir.join(format!("b.{end}")));
        let chapters = made["chapters"].as_array().unwrap();
        let titles: Vec<&str> =
            chapters.iter().filter_map(|chapter| chapter["tags"]["title"].as_str()).collect();
        assert_eq!(titles, ["Eins", "Zwei"], "{preset}");
        let begins: f64 = chapters[1]["start_time"].as_str().unwrap().parse().unwrap();
        // ffmpeg rounds them up to a second in Ogg, and the job says so.
        let late = if end == "opus" { 1.0 } else { 0.0 };
        assert!((1.49..=1.51 + late).contains(&begins), "{preset}: {begins}");
        assert_eq!(done.stdout.contains("a second late"), end == "opus", "{done}");
        assert_eq!(done.stdout.contains("cannot hold chapters"), end == "mka", "{done}");
    }
}

#[test]
fn channels_are_kept_or_refused() {
    let (bed, dir) = desk();
    let six = "anoisesrc=d=2:r=96000:a=0.3:seed=1,aformat=channel_layouts=mono,asplit=6[a][b][c][d][e][f];\
               [a][b][c][d][e][f]join=inputs=6:channel_layout=5.1(side)";
    ffmpeg(&dir, &["-f", "lavfi", "-i", six, "six.wav"]);
    for (preset, end) in [("audio-opus", "opus"), ("audio-aac", "m4a"), ("audio-flac", "flac")] {
        let done = convert(&bed, &dir, "six.wav", &["--preset", preset]);
        assert!(done.ok(), "{done}");
        let made = probe(&dir.join(format!("six.{end}")));
        assert_eq!(made["streams"][0]["channels"], 6, "{preset}");
    }
    let done = convert(&bed, &dir, "six.wav", &["--preset", "audio-mp3"]);
    assert!(!done.ok() && done.stderr.contains("it has 6 channels, and mp3 holds 2"), "{done}");
}

/// Real sound: each is converted.
#[test]
fn real_sound_arrives() {
    let Some(corpus) = std::env::var_os("DMC_CORPUS") else { return };
    let (bed, _) = desk();
    let dir = Path::new(&corpus).join("audio");
    for file in fs::read_dir(&dir).into_iter().flatten().flatten() {
        for (preset, _, _) in PRESETS {
            let out = bed.dir(preset);
            let mut command = bed.dmc(0);
            command.args(["convert", "--preset", preset, "--output-dir"]).arg(&out);
            let done = run(command.arg("--").arg(file.path()), LIMIT);
            println!("{preset} {}: {}", file.path().display(), done.stdout.trim());
            assert!(done.ok(), "{done}");
        }
    }
}
