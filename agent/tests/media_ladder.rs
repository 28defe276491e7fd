//! Converts a small zoo of hard films without loss, through every rung of the ladder, and compares
//! each frame and timestamp of the result with a direct decode of the source.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use dmc_agent::media::plan::{Demotion, Plan, PlanHints, Rung};
use dmc_agent::media::run::{TaskOutput, Tools, run_task};
use dmc_agent::media::streams::StreamKind;
use dmc_agent::media::verify::{self, Look, Verdict};
use dmc_agent::media::{MediaError, cut, index, join, plan, probe};
use dmc_protocol::media::{Container, Feed, Preset, PresetOverrides, TaskInput, TaskSpec};
use tokio_util::sync::CancellationToken;

/// A source of the zoo: its name, the arguments that make it, and the rung that must convert it.
struct Case {
    name: &'static str,
    make: &'static str,
    pix_fmt: &'static str,
    rung: Rung,
}

const MOVING: &str = "-f lavfi -i testsrc2=s=192x144:r=24:d=6";

const CASES: &[Case] = &[
    Case {
        name: "open gop with spaces ü.mp4",
        make: "-c:v libx264 -x264-params open-gop=1:keyint=24:min-keyint=12:bframes=3:b-pyramid=2",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "-leading-dash.mkv",
        make: "-c:v libx264 -x264-params open-gop=1:keyint=24:min-keyint=12:bframes=3",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "hevc.mkv",
        make: "-c:v libx265 -preset ultrafast -x265-params \
               log-level=none:open-gop=1:keyint=24:min-keyint=12:bframes=4",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "vfr.mp4",
        make: "-vf select='not(mod(n\\,3))+gt(mod(n\\,7)\\,4)' -vsync vfr -c:v libx264 -g 12",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "offset.ts",
        make: "-c:v libx264 -g 24 -bf 2 -f mpegts -output_ts_offset 3600.5",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "one key.mp4",
        make: "-c:v libx264 -g 9999 -sc_threshold 0",
        pix_fmt: "yuv420p",
        rung: Rung::Whole,
    },
    Case {
        name: "b-frames.avi",
        make: "-c:v mpeg4 -bf 2 -g 24 -q:v 3",
        pix_fmt: "yuv420p",
        rung: Rung::Whole,
    },
    Case {
        name: "full range.avi",
        make: "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p",
        pix_fmt: "yuvj420p",
        rung: Rung::Pieces,
    },
    Case {
        name: "odd.mkv",
        make: "-vf crop=191:143:0:0:exact=1,format=yuv444p -c:v libx264 -g 24",
        pix_fmt: "yuv444p",
        rung: Rung::Pieces,
    },
    Case {
        name: "alpha.mov",
        make: "-vf format=rgba,colorchannelmixer=aa=0.5 -c:v prores_ks -profile:v 4444 \
               -pix_fmt yuva444p10le",
        pix_fmt: "yuva444p12le",
        rung: Rung::Pieces,
    },
    Case { name: "palette.gif", make: "-r 10", pix_fmt: "bgra", rung: Rung::Whole },
    Case {
        name: "interlaced.mkv",
        make: "-vf tinterlace=interleave_top -c:v libx264 -flags +ildct+ilme \
               -x264-params tff=1:keyint=12",
        pix_fmt: "yuv420p",
        rung: Rung::Pieces,
    },
];

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y"])
        .args(args)
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn url(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn make(dir: &Path, case: &Case) -> PathBuf {
    let path = dir.join(case.name);
    let mut args: Vec<&str> = MOVING.split_whitespace().collect();
    args.extend(case.make.split_whitespace());
    let out = url(&path);
    args.push(&out);
    ffmpeg(&args);
    path
}

/// Microseconds and hash of every frame, by ffmpeg alone, upright as a player shows it. `pix_fmt`
/// is the source's, where FFV1 stores the same pixels under another name.
fn direct(path: &Path, pix_fmt: &str) -> Vec<(i64, String)> {
    let text = ffmpeg(&[
        "-i",
        &url(path),
        "-map",
        "0:V:0",
        "-pix_fmt",
        pix_fmt,
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1/1000000",
        "-f",
        "framehash",
        "-",
    ]);
    let text = String::from_utf8(text).unwrap();
    let mut frames: Vec<(i64, String)> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            (fields[2].parse().unwrap(), fields[5].to_owned())
        })
        .collect();
    frames.sort();
    frames
}

fn lossless(container: Container) -> Preset {
    let over = PresetOverrides { container: Some(container), ..PresetOverrides::default() };
    Preset::builtin("lossless").unwrap().with(&over).unwrap()
}

/// The whole path of a job on one machine; returns the plan that succeeded and the result.
async fn convert(
    tools: &Tools,
    source: &Path,
    preset: &Preset,
    dir: &Path,
) -> Result<(Plan, PathBuf), MediaError> {
    let cancel = CancellationToken::new();
    let probed = probe::probe(tools, source).await?;
    let packets = index::index(tools, source, &probed).await?;
    let hints = PlanHints { segment_target_s: 1.9, ..PlanHints::default() };
    let mut plan = plan::plan(&probed, &packets, preset, &hints)?;
    let mut results: Vec<TaskOutput> = Vec::new();
    while results.len() < plan.tasks.len() {
        let task = u32::try_from(results.len()).unwrap();
        let previous = results.last();
        match attempt(tools, source, &plan, task, dir, previous, &cancel).await? {
            Some(output) => results.push(output),
            None => match plan::demote(&probed, &packets, preset, &plan, task) {
                Demotion::Retry(lower) => plan.replace(task, lower),
                Demotion::WholeFile(lower) => {
                    plan = *lower;
                    results.clear();
                }
                Demotion::GiveUp => panic!("no rung converts {}", source.display()),
            },
        }
    }
    let out = dir.join(format!("result.{}", plan.join.container.extension()));
    let desk = dir.join("desk");
    std::fs::create_dir(&desk).unwrap();
    join::join(tools, &plan, source, &results, &out, &desk, &cancel).await?;
    verify::verify_output(tools, &plan, (&probed, source), &results, &out, &cancel).await?;
    Ok((plan, out))
}

/// One attempt at one task; `None` when it needs a lower rung.
async fn attempt(
    tools: &Tools,
    source: &Path,
    plan: &Plan,
    task: u32,
    dir: &Path,
    previous: Option<&TaskOutput>,
    cancel: &CancellationToken,
) -> Result<Option<TaskOutput>, MediaError> {
    let spec = &plan.tasks[task as usize];
    let dir = dir.join(format!("task {task}"));
    std::fs::create_dir_all(&dir).unwrap();
    let piece = dir.join("piece");
    let input = match spec.input() {
        TaskInput::Piece => {
            cut::cut_piece(tools, source, plan, task, &piece, cancel).await?;
            piece.as_path()
        }
        TaskInput::Source => source,
    };
    let mut frames = 0;
    let output = match run_task(
        tools,
        spec,
        input,
        &dir,
        Look::Packets,
        |p| frames = p.frames,
        cancel,
    )
    .await
    {
        Err(error) if error.is_unproven() => return Ok(None),
        other => other?.0,
    };
    assert!(frames > 0 || spec.video().is_none(), "progress was reported");
    let files = (output.media.as_path(), output.proof.as_path());
    match verify::verify_result(tools, plan, task, files, (source, &dir), cancel).await? {
        Verdict::Good(_) => {}
        Verdict::Unproven(_) => return Ok(None),
        Verdict::Damaged(why) => panic!("{} is damaged: {why}", spec.label()),
    }
    let linked = match previous {
        Some(previous) => verify::link_ok(plan, task, &previous.proof, &output.proof).await?,
        None => true,
    };
    Ok(linked.then_some(output))
}

#[tokio::test]
async fn every_frame_and_timestamp_of_the_zoo_survives() {
    let tools = Tools::find().unwrap();
    let zoo = tempfile::tempdir().unwrap();
    for case in CASES {
        let source = make(zoo.path(), case);
        let dir = tempfile::tempdir().unwrap();
        let done = convert(&tools, &source, &lossless(Container::Mkv), dir.path()).await;
        let (plan, out) = done.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert_eq!(plan.rung, case.rung, "{}: {:?}", case.name, plan.reasons);
        let (want, have) = (direct(&source, case.pix_fmt), direct(&out, case.pix_fmt));
        assert_eq!(want.len(), have.len(), "{}: number of frames", case.name);
        let (first_want, first_have) = (want[0].0, have[0].0);
        for (want, have) in want.iter().zip(&have) {
            let off = ((want.0 - first_want) - (have.0 - first_have)).abs();
            assert!(off <= 1_100, "{}: the frame at {} µs is {off} µs off", case.name, want.0);
            assert!(want.1 == have.1, "{}: other pixels at {} µs", case.name, want.0);
        }
    }
}

#[tokio::test]
async fn a_refused_segment_goes_down_the_ladder_rung_by_rung() {
    let tools = Tools::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = make(dir.path(), &CASES[0]);
    let probed = probe::probe(&tools, &source).await.unwrap();
    let packets = index::index(&tools, &source, &probed).await.unwrap();
    let preset = lossless(Container::Mkv);
    let hints = PlanHints { segment_target_s: 1.0, ..PlanHints::default() };
    let mut plan = plan::plan(&probed, &packets, &preset, &hints).unwrap();
    let last = u32::try_from(plan.tasks.len()).unwrap() - 1;
    let mut rungs = Vec::new();
    loop {
        rungs.push(match &plan.tasks[last.min(plan.tasks.len() as u32 - 1) as usize] {
            TaskSpec::Segment(segment) => match segment.feed {
                Feed::Piece { preroll_keyframes, .. } => format!("piece {preroll_keyframes}"),
                Feed::Seek { .. } => "seek".to_owned(),
            },
            TaskSpec::Whole(whole) => format!("whole {}", whole.expected.is_some()),
            other => panic!("{other:?}"),
        });
        let task = last.min(plan.tasks.len() as u32 - 1);
        match plan::demote(&probed, &packets, &preset, &plan, task) {
            Demotion::Retry(lower) => plan.replace(task, lower),
            Demotion::WholeFile(lower) => plan = *lower,
            Demotion::GiveUp => break,
        }
    }
    assert_eq!(rungs, ["piece 1", "piece 3", "seek", "whole false"]);
}

#[tokio::test]
async fn entering_the_whole_source_gives_the_same_frames() {
    let tools = Tools::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = make(dir.path(), &CASES[0]);
    let probed = probe::probe(&tools, &source).await.unwrap();
    let packets = index::index(&tools, &source, &probed).await.unwrap();
    let preset = lossless(Container::Mkv);
    let hints = PlanHints { segment_target_s: 1.0, ..PlanHints::default() };
    let mut plan = plan::plan(&probed, &packets, &preset, &hints).unwrap();
    for task in 0..plan.tasks.len() as u32 {
        for _ in 0..2 {
            if let Demotion::Retry(lower) = plan::demote(&probed, &packets, &preset, &plan, task) {
                plan.replace(task, lower);
            }
        }
        assert_eq!(plan.tasks[task as usize].input(), TaskInput::Source);
        let cancel = CancellationToken::new();
        let output = attempt(&tools, &source, &plan, task, dir.path(), None, &cancel).await;
        assert!(output.unwrap().is_some(), "task {task} is exact");
    }
}

/// A film with two sounds, subtitles, chapters, an attached file and tags.
fn rich_film(dir: &Path) -> PathBuf {
    let (subtitles, chapters) = (dir.join("s.srt"), dir.join("c.txt"));
    std::fs::write(&subtitles, "1\n00:00:01,000 --> 00:00:03,000\nHello <i>world</i> äöü\n")
        .unwrap();
    std::fs::write(
        &chapters,
        ";FFMETADATA1\ntitle=Zoo\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=3000\ntitle=One\n\
         [CHAPTER]\nTIMEBASE=1/1000\nSTART=3000\nEND=6000\ntitle=Two\n",
    )
    .unwrap();
    let font = dir.join("font.ttf");
    std::fs::write(&font, [0, 1, 0, 0, 0, 0]).unwrap();
    let film = dir.join("rich.mkv");
    let text = format!(
        "-i|file:{}|-i|file:{}|-f|lavfi|-i|sine=440:r=48000:d=6|-f|lavfi|-i|sine=880:r=48000:d=7|\
         -map|0:v|-map|3:a|-map|4:a|-map|1:s|-map_metadata|2|-map_chapters|2|\
         -c:v|libx264|-g|24|-c:a:0|aac|-c:a:1|flac|-c:s|srt|\
         -metadata:s:v:0|title=Picture|-metadata:s:a:0|language=eng|-metadata:s:a:1|language=deu|\
         -metadata:s:a:1|title=Kommentar|-disposition:a:1|comment|-metadata:s:s:0|language=fra|\
         -disposition:s:0|forced|-attach|file:{}|-metadata:s:t:0|mimetype=font/ttf|file:{}",
        subtitles.display(),
        chapters.display(),
        font.display(),
        film.display()
    );
    let mut args: Vec<&str> = MOVING.split_whitespace().collect();
    args.extend(text.split('|'));
    ffmpeg(&args);
    film
}

#[tokio::test]
async fn everything_beside_the_pictures_survives_in_matroska() {
    let tools = Tools::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = rich_film(dir.path());
    let (plan, out) =
        convert(&tools, &source, &lossless(Container::Mkv), dir.path()).await.unwrap();
    assert_eq!(plan.notes, Vec::<String>::new());
    let (want, have) =
        (probe::probe(&tools, &source).await.unwrap(), probe::probe(&tools, &out).await.unwrap());
    assert_eq!((have.chapters, have.tags.get("title")), (2, want.tags.get("title")));
    assert_eq!(want.streams.len(), have.streams.len());
    for (want, have) in want.streams.iter().zip(&have.streams) {
        let describe = |stream: &dmc_agent::media::streams::Stream| {
            let tag = |name| stream.tag(name).map(ToOwned::to_owned);
            let tags = [tag("language"), tag("title"), tag("filename"), tag("mimetype")];
            (stream.kind, stream.dispositions.clone(), tags)
        };
        assert_eq!(describe(want), describe(have));
    }
}

#[tokio::test]
async fn what_mp4_cannot_hold_is_said_before_work_starts() {
    let tools = Tools::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = rich_film(dir.path());
    let over = PresetOverrides { container: Some(Container::Mp4), ..PresetOverrides::default() };
    let preset = Preset::builtin("h264").unwrap().with(&over).unwrap();
    let (plan, out) = convert(&tools, &source, &preset, dir.path()).await.unwrap();
    assert!(plan.notes.iter().any(|note| note.contains("attachment")), "{:?}", plan.notes);
    let made = probe::probe(&tools, &out).await.unwrap();
    let count = |kind| made.streams_of(kind).count();
    assert_eq!((count(StreamKind::Audio), count(StreamKind::Subtitle)), (2, 1));
    let (want, have) = (direct(&source, "yuv420p"), direct(&out, "yuv420p"));
    let times = |frames: &[(i64, String)]| {
        frames.iter().map(|(us, _)| us - frames[0].0).collect::<Vec<_>>()
    };
    for (want, have) in times(&want).iter().zip(times(&have)) {
        assert!((want - have).abs() <= 1_100, "{want} {have}");
    }
    assert_eq!(want.len(), have.len());
}

#[tokio::test]
async fn what_cannot_be_converted_is_refused_in_one_sentence() {
    let tools = Tools::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n";
    let cases = [
        (dir.path().join("missing.mkv"), "no such file"),
        (dir.path().to_owned(), "is a directory"),
        (file("empty.mkv", b""), "is empty"),
        (file("text.mkv", b"this is no film"), "not a media file"),
        (file("playlist.mp4", playlist), "playlist"),
        (file("script.mkv", b"ffconcat version 1.0\nfile /etc/passwd\n"), "playlist"),
        (file("photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0"), "HEIC"),
    ];
    for (path, part) in cases {
        let error = probe::probe(&tools, &path).await.unwrap_err().to_string();
        assert!(error.contains(part), "{}: {error}", path.display());
    }
}
