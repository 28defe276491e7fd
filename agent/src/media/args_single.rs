//! ffmpeg's arguments for pictures and sound that stand alone. Pure.

use std::path::Path;

use dmc_protocol::media::{Encoder, EncoderSpeed, Filter, Quality, SoundTask, StillTask};

use super::args::AUDIO_CHUNK;
use super::filters::filter;
use super::proof::HASH;
use super::run::Args;

/// What goes into a picture's encoder: all changes, as one chain.
pub(crate) fn still_chain(task: &StillTask) -> String {
    let mut chain: Vec<String> = task.filters.iter().map(filter).collect();
    if task.encoder == Encoder::LibaomAv1 {
        // What pictures are that say nothing else; the box around them repeats it.
        let matrix = if task.pix_fmt.is_grey() { "" } else { ":colorspace=smpte170m" };
        chain.push(format!(
            "setparams=range=full:color_primaries=bt709:color_trc=iec61966-2-1{matrix}"
        ));
    }
    if chain.is_empty() { "null".to_owned() } else { chain.join(",") }
}

/// The transparency of a picture as a grey one.
pub(crate) fn alpha_chain(task: &StillTask) -> String {
    let shape = task.filters.iter().filter(|filter| {
        !matches!(
            filter,
            Filter::Format { .. } | Filter::RgbToYuv { .. } | Filter::RgbToFullYuv { .. }
        )
    });
    let mut chain: Vec<String> = shape.map(filter).collect();
    chain.push("format=rgba,alphaextract,format=gray".to_owned());
    chain.join(",")
}

/// A picture: what its encoder makes of it, its transparency where that is a picture of its own, and
/// the list of what went in.
pub(crate) fn still(
    task: &StillTask,
    input: &Path,
    media: &Path,
    alpha: &Path,
    proof: &Path,
) -> Args {
    let mut args = Args::ffmpeg();
    args.arg("-noautorotate").input(Some(&task.format), input);
    let chain = still_chain(task);
    let apart = task.alpha && task.encoder == Encoder::LibaomAv1;
    let graph = if apart {
        let alpha = alpha_chain(task);
        format!("[0:v:0]split[c][a];[c]{chain},split[x][y];[a]{alpha}[z]")
    } else {
        format!("[0:v:0]{chain},split[x][y]")
    };
    args.arg("-filter_complex").arg(graph).words("-map [x] -map_metadata -1");
    let moves = task.loops.is_some();
    let count = if moves { "-fps_mode passthrough -enc_time_base -1" } else { "-frames:v 1" };
    args.words(&format!("{count} -c:v {} -pix_fmt {}", task.encoder.name(), task.pix_fmt));
    encoder(&mut args, task);
    args.output(media);
    if apart {
        args.words(&format!("-map [z] -frames:v 1 -c:v {} -pix_fmt gray", task.encoder.name()));
        // Edges that are not exact are seen as a seam.
        aom(&mut args, 4, task.speed);
        args.words("-f obu").output(alpha);
    }
    args.words(&format!("-map [y] {count} -f framehash -hash {HASH}")).output(proof);
    args
}

fn encoder(args: &mut Args, task: &StillTask) {
    let percent = match task.quality {
        Quality::Percent(percent) => percent.clamp(1, 100),
        _ => 100,
    };
    match task.encoder {
        Encoder::Libwebp | Encoder::LibwebpAnim => {
            let level = webp_method(task.speed);
            let quality = if task.is_lossless() { 75 } else { percent };
            args.words(&format!("-quality {quality} -compression_level {level}"));
            if task.is_lossless() {
                args.words("-lossless 1");
            }
            match task.loops {
                Some(loops) => args.words(&format!("-loop {loops} -f webp")),
                None => args.words("-f image2 -update 1"),
            };
        }
        Encoder::LibaomAv1 => {
            let crf = u16::from(100 - percent) * 63 / 100;
            aom(args, u8::try_from(crf).unwrap_or(63), task.speed);
            args.words("-f obu");
        }
        Encoder::Libjxl => {
            let distance = if task.is_lossless() { 0.0 } else { jxl_distance(percent) };
            let effort = jxl_effort(task.speed);
            args.words(&format!("-distance {distance:.2} -effort {effort} -f image2 -update 1"));
        }
        _ => _ = args.words("-f image2 -update 1"),
    }
}

fn aom(args: &mut Args, crf: u8, speed: EncoderSpeed) {
    let speed = match speed {
        EncoderSpeed::Ultrafast | EncoderSpeed::Superfast | EncoderSpeed::Veryfast => 8,
        EncoderSpeed::Faster | EncoderSpeed::Fast | EncoderSpeed::Medium => 7,
        EncoderSpeed::Slow => 6,
        EncoderSpeed::Slower => 5,
        EncoderSpeed::Veryslow => 4,
    };
    args.words(&format!(
        "-usage allintra -still-picture 1 -crf {crf} -b:v 0 -cpu-used {speed} -row-mt 1"
    ));
}

fn webp_method(speed: EncoderSpeed) -> u8 {
    match speed {
        EncoderSpeed::Ultrafast => 0,
        EncoderSpeed::Superfast => 1,
        EncoderSpeed::Veryfast => 2,
        EncoderSpeed::Faster | EncoderSpeed::Fast => 3,
        EncoderSpeed::Medium => 4,
        EncoderSpeed::Slow => 5,
        EncoderSpeed::Slower | EncoderSpeed::Veryslow => 6,
    }
}

fn jxl_effort(speed: EncoderSpeed) -> u8 {
    match speed {
        EncoderSpeed::Ultrafast | EncoderSpeed::Superfast => 3,
        EncoderSpeed::Veryfast | EncoderSpeed::Faster => 4,
        EncoderSpeed::Fast => 5,
        EncoderSpeed::Medium => 6,
        EncoderSpeed::Slow => 7,
        EncoderSpeed::Slower => 8,
        EncoderSpeed::Veryslow => 9,
    }
}

/// libjxl's own scale from a quality to a distance that eyes see.
fn jxl_distance(percent: u8) -> f64 {
    let q = f64::from(percent);
    if q >= 30.0 {
        0.1 + (100.0 - q) * 0.09
    } else {
        53.0 / 3_000.0 * q * q - 23.0 / 20.0 * q + 25.0
    }
    .min(15.0)
}

/// What goes into the encoder of sound: its rate, and channels in the order that it knows.
pub(crate) fn sound_chain(task: &SoundTask) -> String {
    let layout = match task.channels {
        1 => "mono",
        2 => "stereo",
        3 => "3.0",
        4 => "quad",
        5 => "5.0",
        6 => "5.1",
        7 => "6.1",
        _ => "7.1",
    };
    format!("aresample={},aformat=channel_layouts={layout},asetpts=N/SR/TB", task.sample_rate)
}

/// Where the sound ends is told in samples, not in milliseconds.
pub(crate) fn exact_length(args: &mut Args, task: &SoundTask) {
    args.words(&format!("-movie_timescale {}", task.sample_rate));
}

/// Sound alone, and the list of the samples that went in, ten seconds a line.
pub(crate) fn sound(task: &SoundTask, input: &Path, media: &Path, proof: &Path) -> Args {
    let mut args = Args::ffmpeg();
    args.input(Some(&task.format), input);
    let (stream, chain) = (task.stream, sound_chain(task));
    let graph = format!("[0:{stream}]{chain},asplit[x][z];[z]{AUDIO_CHUNK}[y]");
    args.arg("-filter_complex").arg(graph).words("-map [x] -map_metadata -1 -map_chapters -1");
    let bps = match task.encoder {
        Encoder::Libopus => task.bps.min(510_000 * u32::from(task.channels)),
        Encoder::Libmp3lame => task.bps.min(320_000),
        _ => task.bps.min(512_000 * u32::from(task.channels)),
    };
    args.words(&format!("-c:a {} -b:a {bps}", task.encoder.name()));
    if task.encoder == Encoder::Libopus {
        args.words(&format!("-mapping_family {}", u8::from(task.channels > 2)));
    }
    args.words(match task.encoder {
        Encoder::Libopus => "-f opus",
        Encoder::Libmp3lame => "-id3v2_version 0 -f mp3",
        _ => "-f mp4",
    });
    if task.encoder == Encoder::Aac {
        exact_length(&mut args, task);
    }
    args.output(media);
    args.words("-map [y] -c:a pcm_s16le -f framehash -hash crc32").output(proof);
    args
}

#[cfg(test)]
mod tests {
    use dmc_protocol::media::{InputFormat, PixFmt};

    use super::*;

    fn text(args: &Args) -> String {
        let words: Vec<_> = args.words.iter().map(|word| word.to_string_lossy()).collect();
        let all = words.join(" ");
        all.split_once("-filter_complex ").unwrap().1.to_owned()
    }

    fn task(encoder: Encoder, quality: Quality, pix_fmt: &str) -> StillTask {
        StillTask {
            format: InputFormat::new("png_pipe").unwrap(),
            encoder,
            quality,
            speed: EncoderSpeed::Medium,
            width: 30,
            height: 20,
            pix_fmt: PixFmt::new(pix_fmt).unwrap(),
            alpha: true,
            loops: None,
            filters: vec![Filter::TurnRight],
        }
    }

    #[test]
    fn each_encoder_of_pictures_gets_its_words() {
        let path = Path::new;
        let args =
            |task: &StillTask| text(&still(task, path("i"), path("m"), path("a"), path("p")));
        let webp = task(Encoder::Libwebp, Quality::Percent(82), "bgra");
        assert_eq!(
            args(&webp),
            "[0:v:0]transpose=clock,split[x][y] -map [x] -map_metadata -1 -frames:v 1 -c:v libwebp \
             -pix_fmt bgra -quality 82 -compression_level 4 -f image2 -update 1 file:m \
             -map [y] -frames:v 1 -f framehash -hash murmur3 file:p"
        );
        let lossless = StillTask { quality: Quality::Lossless, ..webp.clone() };
        assert!(args(&lossless).contains("-quality 75 -compression_level 4 -lossless 1"));
        let moving = StillTask { loops: Some(3), encoder: Encoder::LibwebpAnim, ..webp };
        assert!(
            args(&moving).contains("-fps_mode passthrough -enc_time_base -1 -c:v libwebp_anim")
        );
        assert!(args(&moving).contains("-loop 3 -f webp"));
        let avif = args(&task(Encoder::LibaomAv1, Quality::Percent(70), "yuv444p"));
        assert!(
            avif.contains("[a]transpose=clock,format=rgba,alphaextract,format=gray[z]"),
            "{avif}"
        );
        assert!(avif.contains("-still-picture 1 -crf 18 -b:v 0 -cpu-used 7"), "{avif}");
        let jxl = args(&task(Encoder::Libjxl, Quality::Percent(90), "rgba"));
        assert!(jxl.contains("-c:v libjxl -pix_fmt rgba -distance 1.00 -effort 6"), "{jxl}");
    }
}
