use std::path::Path;

use dmc_protocol::media::*;

use super::*;

fn work(encoder: Encoder) -> VideoWork {
    VideoWork {
        time_base: Rational::new(1, 12_288),
        source_width: 640,
        source_height: 480,
        width: 640,
        height: 480,
        exact_filters: Vec::new(),
        filters: Vec::new(),
        settings: VideoSettings {
            encoder,
            quality: Quality::Crf(20),
            speed: EncoderSpeed::Medium,
            pix_fmt: PixFmt::new("yuv420p").unwrap(),
            colour: Colour { full_range: Some(false), primaries: Some(9), ..Colour::default() },
            mastering: None,
            light: Some(ContentLight { max_cll: 1000, max_fall: 400 }),
            sample_aspect: Some(Rational::new(1, 1)),
            field_order: FieldOrder::Progressive,
            frame_rate: Some(Rational::new(24, 1)),
        },
    }
}

fn text(args: &Args) -> String {
    let words: Vec<String> = args.words.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

#[test]
fn a_piece_is_moved_back_and_trimmed() {
    let task = SegmentTask {
        number: 1,
        segments: 2,
        a_pts: 1000,
        b_pts: 2000,
        expected: PtsDigest { count: 2, hash: [0; 32] },
        feed: Feed::Piece { shift_s: 3600, preroll_keyframes: 1 },
        video: work(Encoder::Libx265),
    };
    let args = segment(&task, Path::new("-in"), Path::new("m"), Path::new("p"));
    assert_eq!(
        text(&args),
        "-nostdin -hide_banner -nostats -loglevel error -y -copyts -noautorotate \
         -protocol_whitelist file -max_pixels 134217728 -f nut -i file:-in -filter_complex \
         [0:v:0]settb=1/12288,setpts=PTS-44236800,trim=end_pts=2000,split[x][y];\
         [x]trim=start_pts=1000,setpts=PTS-1000,setsar=1/1:max=1000000,\
         setparams=range=limited:color_primaries=9[e] \
         -map [e] -fps_mode passthrough -enc_time_base 1/12288 -c:v libx265 -pix_fmt yuv420p \
         -crf 20 -preset medium -tag:v hvc1 \
         -x265-params log-level=error:fps=24/1:max-cll=1000,400:hdr10=1 \
         -map_metadata -1 -map_chapters -1 -video_track_timescale 12288 -f mp4 file:m \
         -map [y] -fps_mode passthrough -enc_time_base 1/12288 -f framehash -hash murmur3 file:p"
    );
}

#[test]
fn seconds_are_written_without_rounding() {
    for (us, expected) in [(0, "0.000000"), (-250_000, "-0.250000"), (12_000_001, "12.000001")] {
        assert_eq!(seconds(us), expected);
    }
}

#[test]
fn x265_gets_no_threads_that_one_processor_cannot_run() {
    assert_eq!(threads(1), Some("pools=none:frame-threads=1"));
    assert_eq!(threads(2), None);
}
