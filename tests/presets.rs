//! Presets and their options with real conversions: what was asked for is looked up in the result.

mod files;
mod quality;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::bed::free_udp_port;
use crate::support::dmc::{Job, dmc};
use crate::support::film::{Film, parse_ratio};
use crate::support::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(240);

/// A directory with films, a data directory and one for own presets.
struct Desk {
    dir: TempDir,
    port: u16,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dmc-presets-").tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        Self { dir, port: free_udp_port() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn dmc(&self) -> Command {
        dmc(&self.path("data"), self.port)
    }

    /// Where the program looks for own presets here.
    fn own(&self) -> PathBuf {
        let dir = self.path("data").join("no-config/dmc/presets");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Makes a film by ffmpeg's own words.
    fn film(&self, name: &str, words: &str) -> PathBuf {
        let path = self.path(name);
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y"]).args(words.split_whitespace()).arg(&path);
        let made = run(&mut command, LIMIT);
        assert!(made.ok(), "{made}");
        path
    }

    fn try_convert(&self, source: &Path, words: &[&str]) -> Finished {
        run(self.dmc().args(["convert", "--json"]).args(words).arg("--").arg(source), LIMIT)
    }

    /// Converts to the end; the job and its result.
    fn convert(&self, source: &Path, words: &[&str]) -> (Job, Film) {
        let done = self.try_convert(source, words);
        assert!(done.ok(), "{done}");
        let job = Job::last_of(&done.stdout).unwrap();
        assert_eq!(job.status(), "finished_successful", "{done}");
        let output = PathBuf::from(job.0["output"].as_str().unwrap());
        (job, Film::open(&output).unwrap())
    }
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

fn size(film: &Film) -> (u64, u64) {
    let video = film.streams("video")[0];
    (video["width"].as_u64().unwrap(), video["height"].as_u64().unwrap())
}

fn notes(job: &Job) -> String {
    job.0["notes"].as_array().unwrap().iter().map(|note| format!("{note}\n")).collect()
}

/// When the frames of the pictures are shown, in seconds.
fn times(film: &Path) -> Vec<f64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time"]);
    let seen = run(command.args(["-of", "csv=p=0"]).arg(film), LIMIT);
    let mut times: Vec<f64> =
        seen.stdout.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    times
}

const SOUND: &str = "-f lavfi -i sine=frequency=300:sample_rate=48000:duration=4";

#[test]
fn pictures_are_scaled_cropped_and_made_plain() {
    let desk = Desk::new();
    let words = format!(
        "-f lavfi -i testsrc2=size=640x360:rate=25:duration=4 {SOUND} -vf pad=640:480:0:60 \
         -pix_fmt yuv422p10le -c:v libx264 -preset ultrafast -c:a aac -ac 2 -shortest"
    );
    let source = desk.film("film.mkv", &words);
    let (job, film) = desk.convert(&source, &["--preset", "h264", "--crop", "auto"]);
    assert_eq!(size(&film), (640, 360), "{}", notes(&job));
    assert!(notes(&job).contains("cropped to 640×360 at 0, 60"), "{}", notes(&job));

    let words = ["--preset", "h264-web", "--crop", "320:240:64:80", "--max-width", "200"];
    let (_, film) = desk.convert(&source, &words);
    assert_eq!(size(&film), (200, 150));
    let video = film.streams("video")[0];
    assert_eq!((text(video, "codec_name"), text(video, "pix_fmt")), ("h264", "yuv420p"));
    let audio = film.streams("audio")[0];
    assert_eq!((text(audio, "codec_name"), audio["channels"].as_u64()), ("aac", Some(2)));
    assert!(film.is("mp4"));
    // The list of samples comes before the pictures: it starts to play at once.
    let bytes = fs::read(&film.path).unwrap();
    let at = |name: &[u8]| bytes.windows(4).position(|four| four == name).unwrap();
    assert!(at(b"moov") < at(b"mdat"));

    let done = desk.try_convert(&source, &["--crop", "640:480:64:0", "-o", "/tmp/none.mkv"]);
    assert!(!done.ok() && done.stderr.contains("--crop asks for more"), "{done}");
    for (words, part) in [
        (&["--crop", "1:2"][..], "width:height:x:y"),
        (&["--max-width", "3"], "outside 16–16384"),
        (&["--audio-channels", "9"], "outside 1–8"),
        (&["--target", "psnr=40"], "ssim=0.98"),
        (&["--subtitles", "english"], "eng,deu"),
        (&["--preset", "remux", "--max-height", "100"], "copies the pictures"),
    ] {
        let done = desk.try_convert(&source, words);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stderr.contains(part), "{part}: {done}");
    }
}

#[test]
fn frames_are_capped_exactly_in_segments() {
    let desk = Desk::new();
    // Uneven times, as phones record them, and a keyframe each second.
    let source = desk.film(
        "phone.mkv",
        "-f lavfi -i testsrc2=size=192x128:rate=60:duration=9 \
         -vf setpts='PTS+(0.004/TB)*mod(N,3)' -fps_mode passthrough \
         -c:v libx264 -preset ultrafast -g 60",
    );
    let words = ["--preset", "lossless", "--max-fps", "30", "--segment-seconds", "2"];
    let (job, film) = desk.convert(&source, &words);
    assert_eq!(job.rung(), "pieces", "{}", notes(&job));
    assert!(job.tasks().len() >= 4);
    // Computed here by itself: the first frame of each thirtieth, a quarter of one tolerated.
    let all = times(&source);
    let slot = |at: f64| ((at - all[0]) * 30.0 + 0.25 + 1e-9).floor();
    let expected: Vec<f64> = (0..all.len())
        .filter(|n| *n == 0 || slot(all[*n]) > slot(all[*n - 1]))
        .map(|n| all[n])
        .collect();
    let found = times(&film.path);
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(&expected).map(|(a, b)| ((a - found[0]) - (b - expected[0])).abs());
    assert!(off.fold(0.0, f64::max) < 0.0015);
    assert_eq!(job.0["proof"]["frames"].as_u64(), Some(expected.len() as u64));

    // The pixels are those of the same frames of the source.
    let hashes = |input: &Path| {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-i"]).arg(input);
        command.args(["-map", "0:v", "-fps_mode", "passthrough", "-pix_fmt", "yuv420p"]);
        let seen = run(command.args(["-f", "framehash", "-"]), LIMIT);
        assert!(seen.ok(), "{seen}");
        let lines = seen.stdout.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let of_all = hashes(&source);
    assert_eq!(of_all.len(), all.len());
    let kept = (0..all.len()).filter(|n| expected.contains(&all[*n])).map(|n| of_all[n].clone());
    assert_eq!(hashes(&film.path), kept.collect::<Vec<_>>());

    // What is slow enough stays whole.
    let (job, film) = desk.convert(&source, &["--preset", "h264", "--max-fps", "120"]);
    assert_eq!(times(&film.path).len(), all.len(), "{}", notes(&job));
}

#[test]
fn fields_become_frames() {
    let desk = Desk::new();
    let source = desk.film(
        "tv.mkv",
        "-f lavfi -i testsrc2=size=320x240:rate=50:duration=4 -vf interlace=scan=tff \
         -c:v mpeg2video -q:v 2 -g 12 -flags +ildct+ilme -top 1",
    );
    let before = Film::open(&source).unwrap();
    assert_eq!(text(before.streams("video")[0], "field_order"), "tt");
    let frames = times(&source).len();
    for how in ["--deinterlace", "--deinterlace=yadif"] {
        let out = desk.path(&format!("out{}.mkv", how.len()));
        let out = out.to_str().unwrap();
        let (job, film) =
            desk.convert(&source, &["--preset", "h264", how, "-o", out, "--segment-seconds", "1"]);
        assert_eq!(job.rung(), "whole", "{}", notes(&job));
        assert_eq!(text(film.streams("video")[0], "field_order"), "progressive");
        assert_eq!(times(&film.path).len(), frames);
        // Combed lines differ from their neighbours much more than whole frames do.
        let (combed, whole) = (combing(&source), combing(&film.path));
        assert!(whole < combed * 0.6, "{how}: {combed} before, {whole} after");
    }
    let plain = desk.film("plain.mkv", "-f lavfi -i testsrc2=size=192x128:rate=25:duration=1");
    let (job, _) = desk.convert(&plain, &["--deinterlace"]);
    assert!(notes(&job).contains("nothing is deinterlaced"), "{}", notes(&job));
}

/// How much ffmpeg's detector of fields finds: interlaced frames of all.
fn combing(film: &Path) -> f64 {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "info", "-i"]).arg(film);
    let seen = run(command.args(["-vf", "idet", "-f", "null", "-"]), LIMIT);
    let line = seen.stderr.lines().rfind(|line| line.contains("Multi frame detection")).unwrap();
    let number = |name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split_whitespace().next().unwrap().parse::<f64>().unwrap()
    };
    number("TFF:") + number("BFF:") + 0.1 * number("Undetermined:")
}

#[test]
fn high_dynamic_range_becomes_ordinary() {
    let desk = Desk::new();
    let source = desk.film(
        "hdr.mkv",
        "-f lavfi -i testsrc2=size=320x180:rate=25:duration=2 -pix_fmt yuv420p10le \
         -c:v libx265 -preset ultrafast -x265-params \
         log-level=error:hdr10=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:\
         master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):\
         max-cll=1000,400",
    );
    let (job, film) = desk.convert(&source, &["--preset", "h264-web"]);
    let video = film.streams("video")[0];
    for key in ["color_transfer", "color_primaries", "color_space"] {
        assert_eq!(text(video, key), "bt709", "{key}: {video:#}\n{}", notes(&job));
    }
    assert_eq!(text(video, "pix_fmt"), "yuv420p");
    // What x264 writes of itself is no picture's property.
    let said =
        film.side_data(0).iter().map(|data| data["side_data_type"].to_string()).collect::<String>();
    assert!(!said.contains("Mastering") && !said.contains("light level"), "{said}");
    let (_, kept) = desk.convert(&source, &["--preset", "hevc"]);
    assert_eq!(text(kept.streams("video")[0], "color_transfer"), "smpte2084");
}

#[test]
fn tracks_are_chosen_and_mixed() {
    let desk = Desk::new();
    let srt = desk.path("text.srt");
    fs::write(&srt, "1\n00:00:00,500 --> 00:00:02,000\nHello\n").unwrap();
    let srt = srt.to_str().unwrap();
    let source = desk.film(
        "film.mkv",
        &format!(
            "-f lavfi -i testsrc2=size=192x128:rate=25:duration=4 {SOUND} {SOUND} -i {srt} -i {srt} \
             -map 0 -map 1 -map 2 -map 3 -map 4 -c:v libx264 -preset ultrafast -c:a ac3 -ac 6 -c:s srt \
             -metadata:s:a:0 language=eng -metadata:s:a:1 language=ger \
             -metadata:s:s:0 language=eng -metadata:s:s:1 language=fre"
        ),
    );
    let languages = |film: &Film, kind: &str| -> Vec<String> {
        let streams = film.streams(kind);
        streams.iter().map(|stream| text(&stream["tags"], "language").to_owned()).collect()
    };
    let words = [
        "--audio-languages",
        "deu",
        "--subtitles",
        "fra",
        "--audio-channels",
        "2",
        "--audio-codec",
        "opus",
        "--audio-bitrate",
        "64k",
    ];
    let (job, film) = desk.convert(&source, &words);
    assert_eq!(languages(&film, "audio"), ["ger"], "{}", notes(&job));
    assert_eq!(languages(&film, "subtitle"), ["fre"]);
    let audio = film.streams("audio")[0];
    assert_eq!((text(audio, "codec_name"), audio["channels"].as_u64()), ("opus", Some(2)));
    assert!(notes(&job).contains("left out, as asked"), "{}", notes(&job));

    let out = desk.path("all.mkv");
    let words = ["--audio-languages", "jpn", "--subtitles", "none", "-o", out.to_str().unwrap()];
    let (job, film) = desk.convert(&source, &words);
    assert_eq!((languages(&film, "audio").len(), film.streams("subtitle").len()), (2, 0));
    assert!(notes(&job).contains("all of them are kept"), "{}", notes(&job));
    assert_eq!(film.streams("audio")[0]["channels"].as_u64(), Some(6), "copied sound stays");
}

#[test]
fn phones_get_small_films_of_thirty_frames() {
    let desk = Desk::new();
    let words = format!(
        "-f lavfi -i testsrc2=size=1920x816:rate=60:duration=2 {SOUND} -c:v libx264 \
         -preset ultrafast -c:a ac3 -ac 6 -shortest"
    );
    let source = desk.film("wide.mkv", &words);
    let (_, film) = desk.convert(&source, &["--preset", "phone", "--encoder-speed", "ultrafast"]);
    assert_eq!(size(&film), (1280, 544));
    let video = film.streams("video")[0];
    let rate = parse_ratio(text(video, "avg_frame_rate")).unwrap();
    assert!((29.0..=30.6).contains(&rate), "{rate}");
    assert_eq!(film.streams("audio")[0]["channels"].as_u64(), Some(2));
}

#[test]
fn a_remux_keeps_every_packet() {
    let desk = Desk::new();
    for (name, coder) in [
        ("a b 🎬.mp4", "-c:v libx264 -preset ultrafast -bf 2"),
        ("-h.ts", "-c:v libx264 -preset ultrafast -bf 2 -x264-params aud=1"),
        ("x265.mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=error -tag:v hvc1"),
        ("hevc.ts", "-c:v libx265 -preset ultrafast -x265-params log-level=error"),
        ("old.avi", "-c:v mpeg4 -q:v 5"),
    ] {
        let words = format!(
            "-f lavfi -i testsrc2=size=192x128:rate=25:duration=4 {SOUND} -g 25 {coder} -c:a mp2"
        );
        // ffmpeg, too, must not take the name for an option.
        let source = desk.film(name, &words);
        let (job, film) = desk.convert(&source, &["--preset", "remux"]);
        assert_eq!(job.rung(), "remux", "{}", notes(&job));
        assert!(film.path.to_str().unwrap().ends_with(".remux.mkv"), "{:?}", film.path);
        assert_eq!(job.0["proof"]["pixels_equal"], true);
        assert_eq!(job.0["proof"]["frames"].as_u64(), Some(times(&source).len() as u64));
        let hash = |path: &Path| {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-v", "error", "-i"]).arg(path);
            command.args(["-map", "0:v", "-fps_mode", "passthrough", "-f", "hash", "-"]);
            run(&mut command, LIMIT).stdout
        };
        assert_eq!(hash(&source), hash(&film.path), "{name}");
    }
}

#[test]
fn hardware_is_used_only_where_it_works() {
    let desk = Desk::new();
    let source = desk.film("film.mkv", "-f lavfi -i testsrc2=size=320x192:rate=25:duration=1");
    let doctor = run(desk.dmc().args(["doctor", "--json"]), LIMIT);
    let found: Value = serde_json::from_str(&doctor.stdout).unwrap();
    let of = |name: &str| {
        let findings = found.as_array().unwrap().iter();
        let mut details = findings.filter(|f| f["check"] == "hardware").map(|f| text(f, "detail"));
        details.find(|detail| detail.starts_with(name)).unwrap().to_owned()
    };
    let names =
        ["h264_nvenc", "h264_qsv", "h264_vaapi", "h264_amf", "h264_videotoolbox", "h264_v4l2m2m"];
    let works: Vec<&str> = names.into_iter().filter(|name| of(name).ends_with("works")).collect();
    if !works.is_empty() {
        let (job, film) = desk.convert(&source, &["--preset", "h264", "--encoder", "hardware"]);
        assert!(works.iter().any(|name| notes(&job).contains(name)), "{}", notes(&job));
        assert_eq!(text(film.streams("video")[0], "codec_name"), "h264");
        return;
    }
    assert!(names.iter().all(|name| of(name).contains(": ")), "each says why");
    let done = desk.try_convert(&source, &["--preset", "h264", "--encoder", "hardware"]);
    assert!(!done.ok() && done.stderr.contains("no agent has hardware"), "{done}");
    let (job, _) = desk.convert(&source, &["--preset", "h264", "--encoder", "auto"]);
    assert!(notes(&job).contains("libx264 does it"), "{}", notes(&job));
}
