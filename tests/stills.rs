//! Pictures: upright, with their colours, transparency, movement and metadata, in every format.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::{Finished, run};

const LIMIT: Duration = Duration::from_secs(240);
/// The name of the picture's maker, and a place, as EXIF tells them.
const MAKER: &[u8] = b"Maker of \xf0\x9f\x93\xb7\0";
const PLACE: &[u8] = b"PLACE-52";

/// Runs ffmpeg on files in a directory; each word is an argument.
fn ffmpeg(dir: &Path, words: &[&str]) -> Finished {
    let mut command = Command::new("ffmpeg");
    command.current_dir(dir).args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    let done = run(command.args(words), LIMIT);
    assert!(done.ok(), "{done}");
    done
}

/// EXIF with a maker, an orientation and a place.
fn exif(orientation: u16) -> Vec<u8> {
    let entry = |tag: u16, kind: u16, count: usize, value: [u8; 4]| {
        let mut row = [tag.to_be_bytes(), kind.to_be_bytes()].concat();
        row.extend(u32::try_from(count).unwrap().to_be_bytes());
        row.extend(value);
        row
    };
    let (first, maker, gps) = (8, 8 + 2 + 36 + 4, 8 + 2 + 36 + 4 + MAKER.len());
    let at = |at: usize| u32::try_from(at).unwrap().to_be_bytes();
    let mut exif = [b"MM\0*", &at(first)[..], &[0, 3]].concat();
    let [high, low] = orientation.to_be_bytes();
    exif.extend(entry(0x010f, 2, MAKER.len(), at(maker)));
    exif.extend(entry(0x0112, 3, 1, [high, low, 0, 0]));
    exif.extend(entry(0x8825, 4, 1, at(gps)));
    exif.extend([0; 4]);
    exif.extend(MAKER);
    exif.extend([0, 1]);
    exif.extend(entry(2, 2, PLACE.len(), at(gps + 2 + 12 + 4)));
    exif.extend([0; 4]);
    exif.extend(PLACE);
    exif
}

/// A profile by its header alone.
fn profile() -> Vec<u8> {
    let mut profile = vec![7; 300];
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

const XMP: &[u8] =
    b"<x:xmpmeta><rdf tiff:Orientation=\"6\" exif:GPSLatitude=\"52,1N\" dc:title=\"T\"/></x:xmpmeta>";

/// Puts metadata into a JPEG file, behind its first two bytes.
fn into_jpeg(file: &Path, exif: &[u8], profile: &[u8], xmp: &[u8]) {
    let jpeg = fs::read(file).unwrap();
    let mut out = jpeg[..2].to_vec();
    let mut add = |marker: u8, parts: [&[u8]; 2]| {
        let data = parts.concat();
        if data.len() > parts[0].len() {
            out.extend([0xff, marker]);
            out.extend(u16::try_from(data.len() + 2).unwrap().to_be_bytes());
            out.extend(data);
        }
    };
    add(0xe1, [b"Exif\0\0", exif]);
    add(0xe1, [b"http://ns.adobe.com/xap/1.0/\0", xmp]);
    add(0xe2, [b"ICC_PROFILE\0\x01\x01", profile]);
    out.extend(&jpeg[2..]);
    fs::write(file, out).unwrap();
}

/// Puts EXIF into a PNG file, behind its header.
fn into_png(file: &Path, exif: &[u8]) {
    let png = fs::read(file).unwrap();
    let (head, rest) = png.split_at(8 + 25);
    let body = [b"eXIf", exif].concat();
    let crc = body.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    });
    let length = u32::try_from(exif.len()).unwrap().to_be_bytes();
    fs::write(file, [head, &length, &body, &(!crc).to_be_bytes(), rest].concat()).unwrap();
}

fn holds(file: &Path, part: &[u8]) -> bool {
    fs::read(file).unwrap().windows(part.len()).any(|window| window == part)
}

/// How alike two pictures are, in decibels, without anybody turning them.
fn alike(dir: &Path, a: &str, b: &str) -> f64 {
    let graph = "[0:v]format=gbrp[a];[1:v]format=gbrp[b];[a][b]psnr=stats_file=-";
    let words =
        ["-noautorotate", "-i", a, "-noautorotate", "-i", b, "-lavfi", graph, "-f", "null", "-"];
    let said = ffmpeg(dir, &words).stdout;
    let number = said.split("psnr_avg:").nth(1).unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// What makes a picture lie so that this orientation sets it right.
fn laid(orientation: u16) -> &'static str {
    match orientation {
        2 => "hflip",
        3 => "hflip,vflip",
        4 => "vflip",
        5 => "transpose=cclock_flip",
        6 => "transpose=cclock",
        7 => "transpose=clock_flip",
        8 => "transpose=clock",
        _ => "null",
    }
}

fn convert(bed: &Bed, dir: &Path, files: &[String], words: &[&str]) -> Finished {
    let mut command = bed.dmc(0);
    command.current_dir(dir).arg("convert").args(words).arg("--").args(files);
    run(&mut command, LIMIT)
}

/// A bed and a directory with an upright picture, `upright.png`.
fn desk() -> (Bed, PathBuf) {
    let bed = Bed::start(1, Meeting::Address);
    let dir = bed.dir("pictures of \u{1f42b}");
    let source = "testsrc2=size=90x60,format=rgb24";
    ffmpeg(&dir, &["-f", "lavfi", "-i", source, "-frames:v", "1", "upright.png"]);
    (bed, dir)
}

#[test]
fn every_orientation_stands_upright_once() {
    let (bed, dir) = desk();
    let mut files = Vec::new();
    for turn in 1..=8_u16 {
        let filter = laid(turn);
        let (jpg, png) = (format!("-j {turn}.jpg"), format!("p{turn}.png"));
        let to = ["-i", "upright.png", "-vf", filter];
        ffmpeg(&dir, &[&to[..], &["-q:v", "1", &format!("./{jpg}")]].concat());
        into_jpeg(&dir.join(&jpg), &exif(turn), &profile(), XMP);
        ffmpeg(&dir, &[&to[..], &[png.as_str()]].concat());
        into_png(&dir.join(&png), &exif(turn));
        files.extend([jpg, png]);
    }
    for (preset, end) in [
        ("image-webp", "webp"),
        ("image-webp-lossless", "webp"),
        ("image-jxl", "jxl"),
        ("lossless", "lossless.png"),
    ] {
        let out = bed.dir(preset);
        let words = ["--preset", preset, "--output-dir", out.to_str().unwrap()];
        let done = convert(&bed, &dir, &files, &words);
        assert!(done.ok(), "{done}");
        for file in &files {
            let name = file.rsplit_once('.').unwrap().0;
            let made = out.join(format!("{name}.{end}"));
            let db = alike(&dir, "upright.png", made.to_str().unwrap());
            // Turned wrongly it is less than 8 dB.
            assert!(db > 15.0, "{preset}: {file} is {db} dB from upright");
            // Turned once: the tag says so.
            assert!(holds(&made, &exif(1)), "{preset}: {file} has not the EXIF of an upright one");
            assert!(holds(&made, MAKER));
        }
    }
}

#[test]
fn metadata_comes_along_and_the_place_goes_when_asked() {
    let (bed, dir) = desk();
    ffmpeg(&dir, &["-i", "upright.png", "-q:v", "2", "a.jpg"]);
    into_jpeg(&dir.join("a.jpg"), &exif(1), &profile(), XMP);
    for (preset, end) in [("image-webp", "webp"), ("image-avif", "avif"), ("image-jxl", "jxl")] {
        let out = dir.join(format!("a.{end}"));
        for strip in [false, true] {
            let mut words = vec!["--preset", preset, "--overwrite"];
            words.extend(strip.then_some("--strip-gps"));
            let done = convert(&bed, &dir, &["a.jpg".to_owned()], &words);
            assert!(done.ok(), "{done}");
            assert!(holds(&out, MAKER), "{preset} lost the maker");
            assert!(holds(&out, b"dc:title=\"T\""), "{preset} lost the XMP");
            assert!(holds(&out, b"tiff:Orientation=\"1\""));
            assert_eq!(holds(&out, PLACE), !strip, "{preset}: the place in EXIF");
            assert_eq!(holds(&out, b"GPS"), !strip, "{preset}: the place in XMP");
            if preset != "image-jxl" {
                assert!(holds(&out, &profile()), "{preset} lost the profile");
            }
        }
    }
    // Nothing is promised that is not done.
    ffmpeg(&dir, &["-f", "lavfi", "-i", "testsrc2=duration=0.2", "film.mp4"]);
    let done = convert(&bed, &dir, &["film.mp4".to_owned()], &["--strip-gps"]);
    assert!(!done.ok() && done.stderr.contains("--strip-gps is for pictures"), "{done}");
}

#[test]
fn a_picture_is_not_handed_over_and_says_so() {
    let (bed, dir) = desk();
    let words = ["--hand-over", "--preset", "image-webp"];
    let done = convert(&bed, &dir, &["upright.png".to_owned()], &words);
    assert!(done.ok() && done.stdout.contains("note: not handed over: a picture"), "{done}");
    assert!(dir.join("upright.webp").exists());
}

#[test]
fn transparency_stays() {
    let (bed, dir) = desk();
    // Colours hidden under full transparency, and all degrees of it.
    let alpha = "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='clip((X-20)*6,0,255)'";
    ffmpeg(&dir, &["-i", "upright.png", "-vf", alpha, "t.png"]);
    for (preset, end, least) in [
        ("image-webp-lossless", "webp", f64::INFINITY),
        ("image-webp", "webp", 20.0),
        ("image-jxl", "jxl", 20.0),
    ] {
        let words = ["--preset", preset, "--overwrite", "--json"];
        let done = convert(&bed, &dir, &["t.png".to_owned()], &words);
        assert!(done.ok(), "{done}");
        let made = format!("t.{end}");
        // As they are seen on black, and the transparency itself.
        for take in ["format=gbrap,premultiply=inplace=1,format=gbrp", "format=rgba,alphaextract"] {
            let graph = format!("[0:v]{take}[a];[1:v]{take}[b];[a][b]psnr=stats_file=-");
            let words = ["-i", "t.png", "-i", &made, "-lavfi", &graph, "-f", "null", "-"];
            let said = ffmpeg(&dir, &words).stdout;
            let db = said.split("psnr_avg:").nth(1).unwrap().split_whitespace().next().unwrap();
            let db: f64 = db.parse().unwrap();
            assert!(db >= least, "{preset}: {take}: {db} dB");
        }
    }
    let done = convert(&bed, &dir, &["t.png".to_owned()], &["--preset", "image-avif"]);
    assert!(done.ok(), "{done}");
    assert!(holds(&dir.join("t.avif"), b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"));
}

/// The lengths of an animation's pictures in milliseconds, and how often it is played.
fn movement(file: &Path) -> (Vec<u32>, u16) {
    let bytes = fs::read(file).unwrap();
    let (mut at, mut lengths, mut loops) = (12, Vec::new(), 1);
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes(head[4..].try_into().unwrap()) as usize;
        let data = &bytes[at + 8..at + 8 + length];
        match &head[..4] {
            b"ANMF" => lengths.push(u32::from_le_bytes([data[12], data[13], data[14], 0])),
            b"ANIM" => loops = u16::from_le_bytes([data[4], data[5]]),
            _ => {}
        }
        at += 8 + length + length % 2;
    }
    (lengths, loops)
}

#[test]
fn what_moves_goes_on_moving() {
    let (bed, dir) = desk();
    let source = "testsrc2=size=64x48:rate=10:duration=1.2";
    ffmpeg(&dir, &["-f", "lavfi", "-i", source, "-loop", "4", "m.gif"]);
    for preset in ["image-webp", "image-webp-lossless"] {
        let words = ["--preset", preset, "--overwrite"];
        let done = convert(&bed, &dir, &["m.gif".to_owned()], &words);
        assert!(done.ok(), "{done}");
        let (lengths, loops) = movement(&dir.join("m.webp"));
        assert_eq!((lengths.len(), loops), (12, 5), "{preset}");
        assert!(lengths.iter().all(|length| *length == 100), "{preset}: {lengths:?}");
    }
    // Never the first picture alone.
    for preset in ["image-avif", "image-jxl"] {
        let done = convert(&bed, &dir, &["m.gif".to_owned()], &["--preset", preset]);
        assert!(!done.ok() && done.stderr.contains("image-webp"), "{done}");
    }
    ffmpeg(&dir, &["-i", "upright.png", "one.gif"]);
    let done = convert(&bed, &dir, &["one.gif".to_owned()], &["--preset", "image-jxl"]);
    assert!(done.ok(), "a GIF of one picture is a picture: {done}");
}

#[test]
fn a_preset_of_another_kind_says_which_fit() {
    let (bed, dir) = desk();
    ffmpeg(&dir, &["-f", "lavfi", "-i", "sine=duration=0.3", "s.wav"]);
    for (file, preset, part) in [
        ("upright.png", "hevc", "image-webp, image-webp-lossless, image-avif"),
        ("upright.png", "audio-opus", "it is a still picture, and preset audio-opus makes sound"),
        ("s.wav", "image-webp", "audio-opus, audio-aac, audio-mp3, audio-flac"),
        ("s.wav", "hevc", "audio-flac"),
    ] {
        let done = convert(&bed, &dir, &[file.to_owned()], &["--preset", preset]);
        assert!(!done.ok() && done.stderr.contains(part), "{file} by {preset}: {done}");
    }
    ffmpeg(&dir, &["-i", "upright.png", "-pix_fmt", "rgb48be", "deep.png"]);
    let done = convert(&bed, &dir, &["deep.png".to_owned()], &["--preset", "image-webp-lossless"]);
    assert!(!done.ok() && done.stderr.contains("WebP holds 8"), "{done}");
    let done = convert(&bed, &dir, &["deep.png".to_owned()], &["--preset", "image-jxl"]);
    assert!(done.ok(), "{done}");
    let shown = run(bed.dmc(0).args(["presets", "list", "--json"]), LIMIT);
    let shown: Vec<Value> = serde_json::from_str(&shown.stdout).unwrap();
    let of = |kind: &str| shown.iter().filter(|preset| preset["kind"] == kind).count();
    assert!(of("image") >= 4 && of("audio") >= 4 && of("video") >= 4, "{shown:?}");
}

/// Real pictures: each is converted, or refused in words.
#[test]
fn real_pictures_arrive() {
    let Some(dir) = std::env::var_os("DMC_CORPUS") else { return };
    let bed = Bed::start(1, Meeting::Address);
    let ends = ["jpg", "jpeg", "png", "gif", "tif", "tiff", "webp", "heic"];
    let mut files: Vec<PathBuf> = walk(Path::new(&dir));
    files.retain(|file| {
        let end = file.extension().and_then(|end| end.to_str()).unwrap_or_default();
        ends.contains(&end.to_lowercase().as_str())
    });
    for preset in ["image-webp", "image-webp-lossless", "image-avif", "image-jxl"] {
        let out = bed.dir(preset);
        for file in &files {
            let mut command = bed.dmc(0);
            command.args(["convert", "--preset", preset, "--output-dir"]).arg(&out);
            let done = run(command.arg("--").arg(file), LIMIT);
            let refused =
                ["moves", "move", "cannot read", "WebP holds", "CMYK", "cannot be decoded"];
            let why = refused.iter().any(|part| done.stderr.contains(part));
            println!(
                "{preset} {}: {}",
                file.display(),
                if done.ok() { "done" } else { &done.stderr }
            );
            assert!(done.ok() || why, "{done}");
        }
    }
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { walk(&path) } else { vec![path] }
        })
        .collect()
}
