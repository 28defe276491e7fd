//! The comparator itself: it must see every way in which a conversion can go wrong, and nothing
//! in a faithful one. Plain ffmpeg plays the program here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::compare::{Depth, Verdict, compare};
use crate::support::film::Film;
use crate::support::process::run;
use crate::support::zoo;

/// Makes `name` from animals with ffmpeg's `words` and compares it with the first of them.
fn judge(sources: &[&str], words: &str, name: &str) -> Verdict {
    let dir = tempfile::tempdir().unwrap();
    let sources: Vec<PathBuf> = sources.iter().map(|s| zoo::get(s)).collect();
    let result = convert(&dir, &sources, words, name);
    verdict(&sources[0], &result)
}

fn convert(dir: &TempDir, sources: &[PathBuf], words: &str, name: &str) -> PathBuf {
    let out = dir.path().join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y", "-noautorotate"]);
    for source in sources {
        command.arg("-i").arg(source);
    }
    for word in words.split_whitespace() {
        match word.strip_prefix('@') {
            Some(fodder) => command.arg(zoo::get(fodder)),
            None => command.arg(word),
        };
    }
    let made = run(command.arg(&out), Duration::from_secs(120));
    assert!(made.ok(), "{made}");
    out
}

fn verdict(source: &Path, result: &Path) -> Verdict {
    let (source, result) = (Film::open(source).unwrap(), Film::open(result).unwrap());
    compare(&source, &result, Depth::Lossless).unwrap()
}

/// The verdict must name what was spoiled, and nothing else.
fn sees(verdict: &Verdict, what: &str) {
    assert!(!verdict.differences.is_empty(), "nothing was seen");
    for difference in &verdict.differences {
        assert!(difference.contains(what), "{difference:?} is not about {what:?}");
    }
}

fn sees_nothing(verdict: &Verdict) {
    assert_eq!(verdict.differences, Vec::<String>::new());
}

const FFV1: &str = "-map 0 -c copy -c:v:0 ffv1 -g 1 -fps_mode passthrough -enc_time_base -1 -default_mode passthrough";

/// All of `full.mkv`. ffmpeg 5 would copy its cover as a film of one frame, so it is attached again.
const KEEP: &str = "-map 0:V -map 0:a -map 0:s -map 0:t -c copy -default_mode passthrough \
    -attach @cover.jpg -metadata:s:t:1 mimetype=image/jpeg -metadata:s:t:1 filename=cover.jpg";

#[test]
fn a_faithful_copy_is_the_same_film() {
    sees_nothing(&judge(&["full.mkv"], KEEP, "copy.mkv"));
    for name in ["h264_vfr.mkv", "dvd_subtitles.mkv", "audio_late.mkv"] {
        sees_nothing(&judge(&[name], "-map 0 -c copy -default_mode passthrough", "copy.mkv"));
    }
}

#[test]
fn another_lossless_codec_is_the_same_film() {
    for name in ["h264_opengop.mkv", "h264_vfr.mp4", "mpeg2_offset.ts", "ten_bit_422.mkv"] {
        sees_nothing(&judge(&[name], FFV1, "ffv1.mkv"));
    }
}

#[test]
fn another_lossless_pixel_format_is_the_same_picture() {
    let words = "-c:v ffv1 -pix_fmt bgra -fps_mode passthrough -enc_time_base -1";
    sees_nothing(&judge(&["anim.gif"], words, "bgra.mkv"));
}

#[test]
fn a_lost_alpha_layer_is_seen() {
    let verdict = judge(&["alpha_vp9.webm"], "-c:v ffv1 -g 1", "opaque.mkv");
    sees(&verdict, "picture of frame");
}

#[test]
fn one_changed_frame_is_seen() {
    let spoil =
        format!("{FFV1} -filter:v:0 drawbox=w=1:h=1:color=white:t=fill:enable='eq(n\\,77)'");
    let verdict = judge(&["h264_opengop.mkv"], &spoil, "spoilt.mkv");
    sees(&verdict, "picture of frame 77");
    assert!(verdict.differences[0].ends_with("1 in all"), "{verdict:?}");
}

#[test]
fn one_changed_frame_of_a_damaged_film_is_seen_where_it_is_whole() {
    let spoil =
        format!("{FFV1} -filter:v:0 drawbox=w=1:h=1:color=white:t=fill:enable='eq(n\\,20)'");
    let verdict = judge(&["corrupt.mkv"], &spoil, "spoilt.mkv");
    sees(&verdict, "picture of frame 20");
    assert!(verdict.differences[0].ends_with("1 in all"), "{verdict:?}");
}

#[test]
fn one_moved_frame_is_seen() {
    let spoil = format!("{FFV1} -filter:v:0 setpts=PTS+eq(N\\,50)*0.004/TB");
    sees(&judge(&["h264_opengop.mkv"], &spoil, "moved.mkv"), "time of frame 50");
}

#[test]
fn one_lost_frame_is_seen() {
    let spoil = format!("{FFV1} -filter:v:0 select=not(eq(n\\,60))");
    let verdict = judge(&["h264_opengop.mkv"], &spoil, "lost.mkv");
    assert!(verdict.differences[0].contains("number of frames"), "{verdict:?}");
}

#[test]
fn sound_out_of_step_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let source = zoo::get("h264_opengop.mkv");
    let words = "-map 0:v -map 1:a -c copy -default_mode passthrough";
    let out = dir.path().join("late.mkv");
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-i"]).arg(&source);
    command.args(["-itsoffset", "0.005", "-i"]).arg(&source);
    let made = run(command.args(words.split(' ')).arg(&out), Duration::from_secs(60));
    assert!(made.ok(), "{made}");
    sees(&verdict(&source, &out), "audio 0: time of packet");
}

#[test]
fn sound_encoded_again_is_seen() {
    let words = format!("{KEEP} -c:a:0 aac");
    sees(&judge(&["full.mkv"], &words, "again.mkv"), "audio 0: neither the packets");
}

#[test]
fn sound_in_another_lossless_codec_is_the_same_sound() {
    sees_nothing(&judge(&["h264_vfr.mkv"], "-map 0 -c copy -c:a pcm_s16le", "pcm.mkv"));
    sees_nothing(&judge(&["sound.wav"], "-c:a flac", "tone.mka"));
}

#[test]
fn a_lost_subtitle_is_seen() {
    let words = format!("{KEEP} -map -0:s:3");
    sees(&judge(&["full.mkv"], &words, "fewer.mkv"), "number of subtitle streams");
}

#[test]
fn changed_words_and_moved_words_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let film = zoo::get("webvtt.webm");
    let words = "-map 0 -c:v copy -c:a copy -c:s srt";
    sees_nothing(&verdict(&film, &convert(&dir, std::slice::from_ref(&film), words, "srt.mkv")));
    for (was, is) in [("boundary", "border"), ("00:00:03,500", "00:00:03,900")] {
        let text = std::fs::read_to_string(zoo::get("words.srt")).unwrap();
        assert!(text.contains(was));
        let other = dir.path().join("other.srt");
        std::fs::write(&other, text.replace(was, is)).unwrap();
        let words = "-map 0:v -map 0:a -map 1:s -c:v copy -c:a copy -c:s srt";
        let made = convert(&dir, &[film.clone(), other], words, "other.mkv");
        sees(&verdict(&film, &made), "subtitle 0");
    }
}

#[test]
fn lost_tags_and_dispositions_are_seen() {
    for (words, what) in [
        ("-metadata title=Other", "tag title"),
        ("-metadata CUSTOM_FILM=", "tag custom_film"),
        ("-metadata:s:a:1 language=eng", "audio 1: tag language"),
        ("-metadata:s:a:0 CUSTOM_TRACK=", "tag custom_track"),
        ("-disposition:a:1 0", "audio 1: dispositions"),
        ("-disposition:s:1 default", "subtitle 1: dispositions"),
        ("-map_chapters -1", "number of chapters"),
        ("-metadata:s:t:0 filename=Other.ttf", "attachments"),
    ] {
        sees(&judge(&["full.mkv"], &format!("{KEEP} {words}"), "spoilt.mkv"), what);
    }
}

#[test]
fn a_lost_cover_and_a_lost_font_are_seen() {
    let (keep, cover) = KEEP.split_once("-attach").unwrap();
    sees(&judge(&["full.mkv"], keep, "no-cover.mkv"), "cover pictures");
    let words =
        format!("{} -attach {cover}", keep.replace("-map 0:t", "")).replace("s:t:1", "s:t:0");
    sees(&judge(&["full.mkv"], &words, "no-font.mkv"), "attachments");
}

#[test]
fn lost_colour_data_is_seen() {
    let verdict = judge(&["hdr10.mkv"], FFV1, "plain.mkv");
    let all = verdict.differences.join("\n");
    assert!(all.contains("Mastering display metadata"), "{all}");
    assert!(all.contains("Content light level metadata"), "{all}");
    assert!(!all.contains("picture of frame"), "{all}");
}

#[test]
fn a_lost_rotation_is_seen() {
    sees(&judge(&["rotated.mp4"], "-c copy -metadata:s:v rotate=0", "upright.mp4"), "rotation");
}

#[test]
fn a_wrong_pixel_aspect_is_seen() {
    let spoil = format!("{FFV1} -aspect 4:3");
    sees(&judge(&["h264_vfr.mkv"], &spoil, "fat.mkv"), "pixel aspect");
}

#[test]
fn a_wrong_field_order_is_seen() {
    let spoil = format!("{FFV1} -filter:v:0 setfield=bff");
    let verdict = judge(&["h264_interlaced.mkv"], &spoil, "bottom.mkv");
    sees(&verdict, "field order");
}

#[test]
fn every_animal_can_be_made() {
    for animal in zoo::animals() {
        let path = zoo::get(animal.name);
        let expect = animal.expect == zoo::Expect::Exact;
        assert!(!expect || Film::open(&path).is_ok(), "{} cannot be read", animal.name);
    }
}
