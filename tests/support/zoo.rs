//! The zoo: small, hard media files made with ffmpeg, nothing but generated content.
//!
//! Every animal is a row of data. A row is made when it is first asked for and kept under the
//! target directory in a cage named after this file's own hash, so changing a row refills the cage.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::run;
use super::subtitles;

/// What the program may do with a file and still be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Only an exact copy will do.
    Exact,
    /// Damaged on purpose: an exact copy of what decodes, or a clear refusal.
    Damaged,
    /// Nothing in it can be converted: only a clear refusal will do.
    Hostile,
}

/// How an animal is made.
enum How {
    /// Words for ffmpeg; `@NAME` is another animal, `$OUT` the file to make.
    Ffmpeg(&'static str),
    /// The first bytes of another animal.
    Head(&'static str, u64),
    /// Another animal with bytes flipped after its first quarter, the same ones every time.
    Flip(&'static str),
    /// Two animals end to end.
    Join(&'static str, &'static str),
    /// These bytes.
    Bytes(fn() -> Vec<u8>),
}

/// One row of the zoo.
pub struct Animal {
    /// The file name, which also says the container.
    pub name: &'static str,
    /// What the program may do with it.
    pub expect: Expect,
    how: How,
}

const fn exact(name: &'static str, words: &'static str) -> Animal {
    Animal { name, expect: Expect::Exact, how: How::Ffmpeg(words) }
}

const fn damaged(name: &'static str, how: How) -> Animal {
    Animal { name, expect: Expect::Damaged, how }
}

const fn hostile(name: &'static str, how: How) -> Animal {
    Animal { name, expect: Expect::Hostile, how }
}

/// Things that the animals are made of; not shown to the program.
const FODDER: &[Animal] = &[
    exact(
        "film.mkv",
        "-f lavfi -i mandelbrot=s=320x180:r=25:maxiter=400:end_scale=0.02,noise=alls=6:allf=t:all_seed=7,format=yuv420p \
         -f lavfi -i sine=330:r=48000:b=2,volume=0.5 -f lavfi -i anoisesrc=r=48000:a=0.05:seed=3 \
         -filter_complex [1:a][2:a]amerge=inputs=2[a] -map 0:v -map [a] -t 12.2 -c:v ffv1 -g 1 -c:a pcm_s16le $OUT",
    ),
    exact(
        "plain.mp4",
        "-i @film.mkv -c:v libx264 -preset fast -crf 22 -g 50 -bf 3 -c:a aac -b:a 96k -movflags +faststart $OUT",
    ),
    exact(
        "long.mp4",
        "-stream_loop 3 -i @film.mkv -t 48 -vf scale=640:360,noise=alls=8:allf=t:all_seed=5 \
         -c:v libx264 -preset veryfast -crf 21 -g 50 -c:a aac -b:a 96k $OUT",
    ),
    exact(
        "tiny.mp4",
        "-t 2 -i @film.mkv -vf scale=160:90 -c:v libx264 -preset fast -crf 22 -g 25 -c:a aac -b:a 64k $OUT",
    ),
    exact("cover.jpg", "-f lavfi -i testsrc2=s=200x200 -frames:v 1 -update 1 $OUT"),
    exact("cover.png", "-f lavfi -i testsrc2=s=120x160 -frames:v 1 -update 1 $OUT"),
    exact("words.ass", "-i @words.srt $OUT"),
    exact("words.vtt", "-i @words.srt $OUT"),
    exact(
        "part1.ts",
        "-t 6 -i @film.mkv -c:v mpeg2video -q:v 4 -g 15 -bf 2 -c:a mp2 -output_ts_offset 100 $OUT",
    ),
    exact(
        "part2.ts",
        "-ss 6 -i @film.mkv -c:v mpeg2video -q:v 4 -g 15 -bf 2 -c:a mp2 -output_ts_offset 20 $OUT",
    ),
    Animal { name: "words.srt", expect: Expect::Exact, how: How::Bytes(subtitles::srt) },
    Animal { name: "pictures.sup", expect: Expect::Exact, how: How::Bytes(subtitles::sup) },
    Animal { name: "chapters.txt", expect: Expect::Exact, how: How::Bytes(chapters) },
    Animal { name: "Zoo Sans.ttf", expect: Expect::Exact, how: How::Bytes(font) },
];

/// The animals, by what is hard about them.
const ANIMALS: &[Animal] = &[
    // Prediction across the cut.
    exact(
        "h264_opengop.mp4",
        "-i @film.mkv -an -c:v libx264 -preset fast -crf 22 -x264-params open-gop=1:keyint=40:min-keyint=20:bframes=3:b-pyramid=2 $OUT",
    ),
    exact(
        "h264_opengop.mkv",
        "-i @film.mkv -c:v libx264 -preset fast -crf 22 -x264-params open-gop=1:keyint=40:min-keyint=20:bframes=3:b-pyramid=2 -c:a libmp3lame $OUT",
    ),
    exact(
        "h264_opengop.ts",
        "-i @film.mkv -c:v libx264 -preset fast -crf 22 -x264-params open-gop=1:keyint=40:min-keyint=20:bframes=3 -c:a aac $OUT",
    ),
    exact("h264_closedgop.mp4", "-i @plain.mp4 -c copy $OUT"),
    exact(
        "h264_intrarefresh.mp4",
        "-i @film.mkv -an -c:v libx264 -preset fast -crf 22 -x264-params intra-refresh=1:keyint=40 $OUT",
    ),
    exact(
        "h264_onekey.mp4",
        "-i @film.mkv -an -c:v libx264 -preset fast -crf 22 -x264-params keyint=infinite:scenecut=0 $OUT",
    ),
    exact(
        "hevc_opengop.mkv",
        "-i @film.mkv -an -c:v libx265 -preset superfast -x265-params log-level=none:open-gop=1:keyint=40:min-keyint=20:bframes=4 $OUT",
    ),
    exact(
        "hevc_opengop.mp4",
        "-i @film.mkv -c:v libx265 -preset superfast -tag:v hvc1 -x265-params log-level=none:open-gop=1:keyint=40:min-keyint=20:bframes=4 -c:a aac $OUT",
    ),
    exact(
        "hevc_closedgop.ts",
        "-i @film.mkv -an -c:v libx265 -preset superfast -x265-params log-level=none:open-gop=0:keyint=40 $OUT",
    ),
    // Time.
    exact(
        "h264_vfr.mkv",
        "-i @film.mkv -c:v libx264 -preset fast -crf 22 -g 20 -vf select='not(mod(n\\,3))+gt(mod(n\\,7)\\,4)' -fps_mode vfr -c:a flac $OUT",
    ),
    exact(
        "h264_vfr.mp4",
        "-i @film.mkv -an -c:v libx264 -preset fast -crf 22 -g 20 -vf select='not(mod(n\\,3))+gt(mod(n\\,7)\\,4)' -fps_mode vfr $OUT",
    ),
    exact("h264_editlist.mp4", "-ss 3.3 -i @plain.mp4 -c copy $OUT"),
    exact("h264_startoffset.mkv", "-i @plain.mp4 -c copy -output_ts_offset 7.123 $OUT"),
    exact(
        "mpeg2_offset.ts",
        "-i @film.mkv -c:v mpeg2video -q:v 4 -g 15 -bf 2 -c:a mp2 -output_ts_offset 3600.5 $OUT",
    ),
    exact(
        "ntsc_fps.mp4",
        "-f lavfi -i testsrc2=s=320x180:r=60000/1001:d=8 -c:v libx264 -preset fast -g 60 -crf 22 $OUT",
    ),
    exact(
        "audio_longer.mp4",
        "-i @plain.mp4 -f lavfi -t 17 -i sine=500 -map 0:v -map 1:a -c:v copy -c:a aac $OUT",
    ),
    exact(
        "audio_late.mkv",
        "-i @plain.mp4 -itsoffset 1.5 -i @plain.mp4 -map 0:v -map 1:a -c copy $OUT",
    ),
    Animal {
        name: "mpeg2_discontinuity.ts",
        expect: Expect::Exact,
        how: How::Join("part1.ts", "part2.ts"),
    },
    // Pictures.
    exact(
        "mpeg2_interlaced.mpg",
        "-i @film.mkv -vf scale=352:240,interlace=scan=tff -c:v mpeg2video -q:v 3 -g 15 -bf 2 -flags +ildct+ilme -top 1 -c:a mp2 $OUT",
    ),
    exact(
        "mpeg2_interlaced.ts",
        "-i @film.mkv -an -vf scale=352:240,interlace=scan=tff -c:v mpeg2video -q:v 3 -g 15 -bf 2 -flags +ildct+ilme -top 1 $OUT",
    ),
    exact(
        "h264_interlaced.mkv",
        "-i @film.mkv -an -vf scale=352:240,interlace=scan=tff,setfield=tff -c:v libx264 -preset fast -crf 20 -g 30 -flags +ildct+ilme -x264-params tff=1 $OUT",
    ),
    exact(
        "hdr10.mp4",
        "-i @film.mkv -an -t 8 -pix_fmt yuv420p10le -c:v libx265 -preset superfast -tag:v hvc1 -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc \
        -x265-params log-level=none:keyint=50:hdr10=1:repeat-headers=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400 $OUT",
    ),
    exact("hdr10.mkv", "-i @hdr10.mp4 -c copy $OUT"),
    exact("rotated.mp4", "-i @plain.mp4 -c copy -metadata:s:v rotate=90 $OUT"),
    exact(
        "anamorphic.mkv",
        "-i @film.mkv -an -t 8 -vf scale=180:144,setsar=16/11 -c:v libx264 -preset fast -crf 22 -g 40 -color_primaries smpte170m -color_trc smpte170m -colorspace smpte170m $OUT",
    ),
    exact(
        "fullrange.mp4",
        "-i @film.mkv -an -t 8 -vf scale=out_range=full,format=yuvj420p -c:v libx264 -preset fast -crf 22 -g 40 $OUT",
    ),
    exact(
        "odd_444.mkv",
        "-f lavfi -i testsrc2=s=323x241:r=25:d=8 -pix_fmt yuv444p -c:v libx264 -preset fast -crf 18 -g 50 $OUT",
    ),
    exact(
        "ten_bit_422.mkv",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=8 -pix_fmt yuv422p10le -c:v libx264 -preset fast -crf 18 -g 50 $OUT",
    ),
    exact("gray.mkv", "-i @film.mkv -an -t 6 -pix_fmt gray -c:v ffv1 -g 20 $OUT"),
    exact(
        "rgb.mkv",
        "-f lavfi -i testsrc2=s=320x180:r=25:d=6 -pix_fmt rgb24 -c:v libx264rgb -preset fast -crf 18 -g 40 $OUT",
    ),
    exact(
        "alpha_vp9.webm",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=6 -vf format=rgba,colorchannelmixer=aa=0.5 -c:v libvpx-vp9 -pix_fmt yuva420p -g 25 -auto-alt-ref 0 -deadline realtime -cpu-used 8 $OUT",
    ),
    exact(
        "alpha_prores.mov",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=6 -vf format=rgba,colorchannelmixer=aa=0.5 -c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le $OUT",
    ),
    exact(
        "alpha_ffv1.mkv",
        "-f lavfi -i testsrc2=s=320x240:r=25:d=6 -vf format=rgba,colorchannelmixer=aa=0.5 -c:v ffv1 -pix_fmt yuva420p -g 1 $OUT",
    ),
    // Codecs and containers.
    exact("mjpeg.avi", "-i @film.mkv -t 8 -c:v mjpeg -q:v 5 -c:a pcm_s16le $OUT"),
    exact("mpeg4_bframes.avi", "-i @film.mkv -c:v mpeg4 -bf 2 -g 40 -q:v 5 -c:a libmp3lame $OUT"),
    exact(
        "vp8.webm",
        "-i @film.mkv -c:v libvpx -b:v 1M -g 50 -auto-alt-ref 1 -deadline realtime -cpu-used 8 -c:a libvorbis $OUT",
    ),
    exact(
        "vp9.webm",
        "-i @film.mkv -c:v libvpx-vp9 -b:v 800k -g 50 -row-mt 1 -deadline realtime -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 16 -c:a libopus $OUT",
    ),
    exact(
        "av1_forward_key.mkv",
        "-i @film.mkv -an -c:v libsvtav1 -preset 10 -g 50 -svtav1-params irefresh-type=1 $OUT",
    ),
    exact(
        "av1.mp4",
        "-i @film.mkv -an -c:v libsvtav1 -preset 10 -g 50 -svtav1-params irefresh-type=2 $OUT",
    ),
    exact(
        "two_videos.mkv",
        "-i @plain.mp4 -i @film.mkv -map 0:v -map 1:v -map 0:a -t 8 -c:v:0 copy -c:v:1 libx264 -preset:v:1 fast -g:v:1 30 -filter:v:1 hflip,scale=160:90 -c:a copy -metadata:s:v:1 title=Mirror -disposition:v:1 0 $OUT",
    ),
    exact(
        "fragmented.mp4",
        "-i @plain.mp4 -c copy -movflags +frag_keyframe+empty_moov+default_base_moof $OUT",
    ),
    exact("anim.gif", "-f lavfi -i testsrc2=s=320x180:r=10:d=5 $OUT"),
    exact("anim.apng", "-f lavfi -i testsrc2=s=320x180:r=10:d=5 -plays 0 -f apng $OUT"),
    exact("still.png", "-f lavfi -i testsrc2=s=320x180 -frames:v 1 -update 1 $OUT"),
    exact("still.jpg", "-f lavfi -i testsrc2=s=320x180 -frames:v 1 -update 1 -q:v 3 $OUT"),
    // Everything that travels with the pictures.
    exact(
        "full.mkv",
        "-i @plain.mp4 -f lavfi -t 12 -i sine=440:r=48000 -i @words.srt -i @words.ass -i @words.vtt -i @pictures.sup -i @chapters.txt \
        -map 0:v -map 0:a -map 1:a -map 2 -map 3 -map 4 -map 5 -map_metadata 6 -map_chapters 6 -c copy -c:a:1 flac \
        -metadata:s:v:0 title='The film' -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -metadata:s:a:1 title='Kommentar äöü' -disposition:a:0 default -disposition:a:1 comment \
        -metadata:s:s:0 language=fra -disposition:s:0 default -disposition:s:1 forced -metadata:s:s:2 language=jpn -disposition:s:2 hearing_impaired -metadata:s:s:3 title=Pictures \
        -metadata:s:a:0 CUSTOM_TRACK='a custom tag' -metadata CUSTOM_FILM='of the file' \
        -attach '@Zoo Sans.ttf' -metadata:s:t:0 mimetype=application/x-truetype-font -attach @cover.jpg -metadata:s:t:1 mimetype=image/jpeg -metadata:s:t:1 filename=cover.jpg $OUT",
    ),
    exact(
        "full.mp4",
        "-i @plain.mp4 -f lavfi -t 12 -i sine=440:r=48000 -i @words.srt -i @chapters.txt -i @cover.jpg -map 0:v -map 0:a -map 1:a -map 2 -map 4:v -map_metadata 3 -map_chapters 3 \
        -c copy -c:a:1 aac -c:s mov_text -metadata:s:a:0 language=eng -metadata:s:a:1 language=deu -disposition:a:1 0 -disposition:v:1 attached_pic -metadata:s:s:0 language=fra $OUT",
    ),
    exact(
        "dvd_subtitles.mkv",
        "-i @plain.mp4 -i @pictures.sup -map 0:v -map 1:s -c:v copy -c:s dvdsub -metadata:s:s:0 language=eng $OUT",
    ),
    exact(
        "dvb_subtitles.ts",
        "-i @plain.mp4 -i @pictures.sup -map 0 -map 1:s -c:v copy -c:a mp2 -c:s dvbsub -metadata:s:s:0 language=eng $OUT",
    ),
    exact("webvtt.webm", "-i @vp8.webm -i @words.vtt -map 0 -map 1 -c copy $OUT"),
    // Sound alone.
    exact(
        "sound.flac",
        "-f lavfi -t 20 -i sine=330:r=44100 -ac 2 -c:a flac -metadata title=Tone -metadata ARTIST=Zoo -metadata MOOD=calm $OUT",
    ),
    exact(
        "sound_cover.mp3",
        "-f lavfi -t 20 -i sine=330:r=44100 -i @cover.jpg -map 0 -map 1 -ac 2 -c:a libmp3lame -c:v copy -id3v2_version 3 -disposition:v attached_pic -metadata title=Tone $OUT",
    ),
    exact(
        "sound.opus",
        "-f lavfi -t 20 -i sine=330:r=48000 -c:a libopus -metadata title=Tone $OUT",
    ),
    exact("sound.m4a", "-i @film.mkv -vn -c:a aac -metadata title=Tone -metadata artist=Zoo $OUT"),
    exact("sound.wav", "-f lavfi -t 8 -i sine=330:r=44100 -c:a pcm_s24le $OUT"),
    // Broken on purpose.
    damaged("truncated.ts", How::Head("h264_opengop.ts", 200_000)),
    damaged("truncated.mkv", How::Head("h264_opengop.mkv", 200_000)),
    damaged("truncated_faststart.mp4", How::Head("plain.mp4", 200_000)),
    damaged("corrupt.mkv", How::Flip("h264_opengop.mkv")),
    damaged("corrupt.ts", How::Flip("h264_opengop.ts")),
    hostile("no_index.mp4", How::Head("h264_opengop.mp4", 200_000)),
    hostile(
        "encrypted.mp4",
        How::Ffmpeg(
            "-i @plain.mp4 -map 0:v -c copy -encryption_scheme cenc-aes-ctr -encryption_key 76a6c65c5ea762046bd749a2e632ccbb -encryption_kid a7e61c373e219033c21091fa607bf3b8 $OUT",
        ),
    ),
    hostile("empty.mp4", How::Bytes(Vec::new)),
    hostile("text.mkv", How::Bytes(|| b"This is not a film.\n".repeat(200))),
    hostile(
        "playlist.mp4",
        How::Bytes(|| {
            b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nplain.mp4\n#EXT-X-ENDLIST\n".to_vec()
        }),
    ),
];

/// Every animal that the program is shown.
pub fn animals() -> &'static [Animal] {
    ANIMALS
}

/// The path of an animal or of some fodder, made now if the cage does not hold it yet.
pub fn get(name: &str) -> PathBuf {
    let cage = cage();
    let path = cage.join(name);
    if path.exists() {
        return path;
    }
    let animal = ANIMALS
        .iter()
        .chain(FODDER)
        .find(|a| a.name == name)
        .unwrap_or_else(|| panic!("no animal is named {name}"));
    // Tests are processes of their own: a lock per animal, or two would make the same one.
    let lock = fs::File::create(cage.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !path.exists() {
        // The extension stays last, because ffmpeg picks the container by it.
        let part = cage.join(format!("part-{name}"));
        make(&animal.how, &part);
        fs::rename(&part, &path).unwrap();
    }
    path
}

/// The directory of this version of the zoo.
fn cage() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    (include_str!("zoo.rs"), include_str!("subtitles.rs")).hash(&mut hasher);
    let cage = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("zoo-{:016x}", hasher.finish()));
    fs::create_dir_all(&cage).unwrap();
    cage
}

fn make(how: &How, out: &Path) {
    match how {
        How::Ffmpeg(words) => ffmpeg(words, out),
        How::Head(other, bytes) => {
            let all = fs::read(get(other)).unwrap();
            let end = usize::try_from(*bytes).unwrap();
            assert!(all.len() > end, "{other} has only {} bytes", all.len());
            fs::write(out, &all[..end]).unwrap();
        }
        How::Flip(other) => {
            let mut all = fs::read(get(other)).unwrap();
            flip(&mut all);
            fs::write(out, all).unwrap();
        }
        How::Join(first, second) => {
            let mut all = fs::read(get(first)).unwrap();
            all.extend(fs::read(get(second)).unwrap());
            fs::write(out, all).unwrap();
        }
        How::Bytes(bytes) => fs::write(out, bytes()).unwrap(),
    }
}

/// Flips forty bytes in the last three quarters, chosen by a fixed linear congruence.
fn flip(bytes: &mut [u8]) {
    let (start, mut state) = (bytes.len() / 4, 7_u64);
    for _ in 0..40 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = start + usize::try_from(state >> 33).unwrap() % (bytes.len() - start);
        bytes[at] ^= 0xff;
    }
}

fn ffmpeg(words: &str, out: &Path) {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-y"]);
    for word in split(words) {
        if word == "$OUT" {
            command.arg(out);
        } else if let Some(other) = word.strip_prefix('@') {
            command.arg(get(other));
        } else {
            command.arg(word);
        }
    }
    let made = run(&mut command, Duration::from_secs(180));
    assert!(made.ok(), "{made}");
}

/// Splits at spaces, except inside single quotes that open a word or follow an equals sign.
fn split(words: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in words.chars() {
        match c {
            // ffmpeg's own filter quotes must reach it, so a filter's `select='…'` keeps them.
            '\'' if word.starts_with("select=") => word.push(c),
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

fn chapters() -> Vec<u8> {
    ";FFMETADATA1\ntitle=Zoo film\nartist=Zoo\ncomment=a = b\\; c\n\
     [CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=5000\ntitle=One\n\
     [CHAPTER]\nTIMEBASE=1/1000\nSTART=5000\nEND=9040\ntitle=Zwei äöü\n\
     [CHAPTER]\nTIMEBASE=1/1000\nSTART=9040\nEND=12000\ntitle=Three\n"
        .as_bytes()
        .to_vec()
}

/// Nobody renders it: an attachment is only bytes that must arrive unchanged.
fn font() -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend((0..20_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()));
    bytes
}
