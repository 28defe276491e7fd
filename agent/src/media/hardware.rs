//! Encoders of graphics cards and media chips: their arguments (pure), and whether they work here.
//!
//! A listing of ffmpeg names encoders for hardware that is not there. So an encoder counts only after
//! it has encoded something on this machine, and who has none is told why.

use std::path::Path;
use std::time::{Duration, Instant};

use dmc_protocol::media::{
    Codec, Colour, Encoder, EncoderSpeed, FieldOrder, Hardware, PixFmt, Quality, Rational,
    VideoSettings,
};
use tokio_util::sync::CancellationToken;

use super::run::{self, Args, Call, Tools};

/// One trial that takes longer has failed.
const WALL: Duration = Duration::from_secs(5);
/// After this no further encoder is tried: a driver that hangs must not keep an agent from starting.
const BUDGET: Duration = Duration::from_secs(15);
/// Some cards refuse small pictures.
const TRIAL_SIZE: (u32, u32) = (640, 384);
const TRIAL_FRAMES: u32 = 8;

// ---- arguments ----

/// What comes before the inputs.
pub(crate) fn device(encoder: Encoder) -> &'static str {
    match encoder.hardware() {
        Some(Hardware::Vaapi) => "-init_hw_device vaapi=card -filter_hw_device card",
        _ => "",
    }
}

/// The last filter: pictures go to the card's memory where its encoder takes no others.
pub(crate) fn upload(settings: &VideoSettings) -> Option<&'static str> {
    let deep = settings.pix_fmt.depth() > 8;
    match settings.encoder.hardware()? {
        Hardware::Vaapi if deep => Some("format=p010le,hwupload"),
        Hardware::Vaapi => Some("format=nv12,hwupload"),
        _ => None,
    }
}

/// The encoder and its settings, for pictures of that size.
pub(crate) fn encoder(args: &mut Args, settings: &VideoSettings, size: (u32, u32)) {
    let Some(hardware) = settings.encoder.hardware() else { return };
    args.words(&format!("-c:v {}", settings.encoder));
    if hardware != Hardware::Vaapi {
        args.words(&format!("-pix_fmt {}", settings.pix_fmt));
    }
    let crf = match settings.quality {
        Quality::Crf(crf) => crf,
        _ => 0,
    };
    let av1 = settings.encoder.codec() == Codec::Av1;
    // AV1's quantisers have five times the steps.
    let qp = if av1 { u32::from(crf) * 5 } else { u32::from(crf) };
    let speed = settings.speed;
    args.words(&match hardware {
        Hardware::Nvenc => {
            let speed = 1 + steps(speed) * 6 / 8;
            format!("-preset p{speed} -tune hq -rc vbr -cq {crf} -b:v 0 -forced-idr 1")
        }
        Hardware::Qsv => format!("-preset {} -global_quality {crf}", qsv_speed(speed)),
        Hardware::Vaapi => format!("-rc_mode CQP -global_quality {}", qp.max(1)),
        Hardware::Amf => {
            let quality = ["speed", "balanced", "quality"][usize::from(steps(speed)) / 3];
            format!("-usage transcoding -quality {quality} -rc cqp -qp_i {qp} -qp_p {qp}")
        }
        Hardware::VideoToolbox => {
            // 0 is worst and 100 best.
            let quality = 100 - u32::from(crf.min(51)) * 100 / 51;
            format!("-allow_sw 0 -realtime 0 -q:v {}", quality.max(1))
        }
        Hardware::V4l2 => format!("-b:v {}", bit_rate(crf, settings.frame_rate, size)),
    });
    if settings.encoder.codec() == Codec::Hevc {
        args.words("-tag:v hvc1");
    }
}

/// 0 for the fastest, 8 for the slowest.
fn steps(speed: EncoderSpeed) -> u8 {
    let at = EncoderSpeed::ALL.into_iter().position(|other| other == speed);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(5)
}

fn qsv_speed(speed: EncoderSpeed) -> EncoderSpeed {
    speed.max(EncoderSpeed::Veryfast)
}

/// Media chips know bit rates only: about what x264 needs at that crf, and half for six steps more.
fn bit_rate(crf: u8, rate: Option<Rational>, (width, height): (u32, u32)) -> u64 {
    let fps = rate.map_or(25.0, |rate| f64::from(rate.num) / f64::from(rate.den.max(1)));
    let pixels = f64::from(width) * f64::from(height) * fps.clamp(1.0, 240.0);
    let bits = 0.1 * f64::powf(2.0, (23.0 - f64::from(crf)) / 6.0);
    (pixels * bits).clamp(100_000.0, 200_000_000.0) as u64
}

// ---- what works here ----

/// Each encoder with its fingerprint, or why it does not work here.
pub type Found = Vec<(Encoder, Result<[u8; 8], String>)>;

/// Tries every encoder whose device and driver are there. Without any hardware this costs one call.
pub async fn probe(tools: &Tools, ffmpeg_version: &str) -> Found {
    let listed = listed(tools).await;
    let driver = driver();
    let began = Instant::now();
    let mut found = Vec::new();
    for encoder in Encoder::HARDWARE {
        let state = match missing(encoder, &listed) {
            Some(why) => Err(why),
            None if began.elapsed() > BUDGET => {
                Err("it was not tried: other encoders took too long".to_owned())
            }
            None => trial(tools, encoder).await.map(|()| print(encoder, ffmpeg_version, &driver)),
        };
        if let (Err(why), false) = (&state, listed.is_empty()) {
            tracing::debug!(%encoder, %why, "this encoder is not used");
        }
        found.push((encoder, state));
    }
    found
}

/// Bits of graphics cards may differ from run to run, but not their headers: the same ffmpeg with the
/// same driver on the same card makes segments that can be joined.
fn print(encoder: Encoder, ffmpeg_version: &str, driver: &str) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    for part in [encoder.name(), ffmpeg_version, driver] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    let mut print = [0; 8];
    print.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    print
}

async fn listed(tools: &Tools) -> Vec<String> {
    let mut args = Args::default();
    args.words("-hide_banner -encoders");
    let mut call = Call::new("asking for ffmpeg's encoders", &tools.ffmpeg, args);
    call.wall = WALL;
    let Ok(captured) = run::capture(call, &CancellationToken::new()).await else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&captured.stdout).into_owned();
    text.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// Why it cannot work, as far as that shows without trying.
fn missing(encoder: Encoder, listed: &[String]) -> Option<String> {
    if !listed.iter().any(|name| name == encoder.name()) {
        return Some("this ffmpeg was built without it".to_owned());
    }
    let absent = match encoder.hardware()? {
        Hardware::Nvenc if !has("/dev", "nvidia") => "no NVIDIA driver is loaded (no /dev/nvidia0)",
        Hardware::Qsv | Hardware::Vaapi | Hardware::Amf if !has("/dev/dri", "renderD") => {
            "there is no graphics card, or this user may not see it (no /dev/dri/renderD128)"
        }
        Hardware::VideoToolbox if !cfg!(target_os = "macos") => "this is no machine of Apple's",
        Hardware::V4l2 if codec_devices().is_empty() => {
            "there is no media chip (no /dev/video* that encodes)"
        }
        _ => return None,
    };
    Some(absent.to_owned())
}

fn has(dir: &str, prefix: &str) -> bool {
    names(dir).iter().any(|name| name.starts_with(prefix))
}

/// File names in a directory, sorted.
fn names(dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Video devices that say that they are codecs: others are cameras, which are nobody's business.
pub(crate) fn codec_devices() -> Vec<String> {
    const CLASS: &str = "/sys/class/video4linux";
    let is_codec = |name: &String| {
        let text = std::fs::read_to_string(format!("{CLASS}/{name}/name")).unwrap_or_default();
        ["codec", "enc", "m2m"].iter().any(|word| text.to_lowercase().contains(word))
    };
    names(CLASS).into_iter().filter(is_codec).map(|name| format!("/dev/{name}")).collect()
}

/// What would change with the driver or the card. Cheap: a few small files.
pub(crate) fn driver() -> String {
    let mut text = String::new();
    for file in ["/proc/driver/nvidia/version", "/proc/sys/kernel/osrelease"] {
        text.push_str(&std::fs::read_to_string(file).unwrap_or_default());
    }
    text.push_str(&names("/dev/dri").join(" "));
    for card in names("/sys/class/drm") {
        for part in ["vendor", "device"] {
            let file = format!("/sys/class/drm/{card}/device/{part}");
            text.push_str(&std::fs::read_to_string(file).unwrap_or_default());
        }
    }
    text.push_str(&codec_devices().join(" "));
    for dir in ["/usr/lib/x86_64-linux-gnu/dri", "/usr/lib/aarch64-linux-gnu/dri", "/usr/lib64/dri"]
    {
        let meta = std::fs::metadata(Path::new(dir)).and_then(|meta| meta.modified());
        text.push_str(&format!("{:?}", meta.ok()));
    }
    text
}

async fn trial(tools: &Tools, encoder: Encoder) -> Result<(), String> {
    let mut args = Args::ffmpeg();
    args.words(device(encoder));
    let (width, height) = TRIAL_SIZE;
    args.words(&format!("-f lavfi -i testsrc2=size={width}x{height}:rate=25"));
    let Some(settings) = trial_settings(encoder) else { return Err("no pixel format".to_owned()) };
    let mut filters = vec![format!("format={}", settings.pix_fmt)];
    filters.extend(upload(&settings).map(ToOwned::to_owned));
    args.arg("-vf").arg(filters.join(",")).words(&format!("-frames:v {TRIAL_FRAMES}"));
    self::encoder(&mut args, &settings, TRIAL_SIZE);
    args.words("-f nut pipe:1");
    let mut call = Call::new("trying an encoder", &tools.ffmpeg, args);
    call.wall = WALL;
    match run::capture(call, &CancellationToken::new()).await {
        Ok(captured) if captured.stdout.len() > 500 => Ok(()),
        Ok(_) => Err("its trial gave nothing".to_owned()),
        Err(error) => {
            let said = error.stderr().unwrap_or_default();
            let first = said.lines().find(|line| !line.trim().is_empty());
            let why: String = first.unwrap_or("it did not run").trim().chars().take(160).collect();
            Err(format!("its trial failed: {why}"))
        }
    }
}

pub(crate) fn trial_settings(encoder: Encoder) -> Option<VideoSettings> {
    Some(VideoSettings {
        encoder,
        quality: Quality::Crf(28),
        speed: EncoderSpeed::Medium,
        pix_fmt: PixFmt::new("nv12")?,
        colour: Colour::default(),
        mastering: None,
        light: None,
        sample_aspect: None,
        field_order: FieldOrder::Progressive,
        frame_rate: Some(Rational::new(25, 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(encoder: Encoder, speed: EncoderSpeed, crf: u8) -> String {
        let mut settings = trial_settings(encoder).unwrap();
        (settings.speed, settings.quality) = (speed, Quality::Crf(crf));
        let mut args = Args::default();
        self::encoder(&mut args, &settings, (1_920, 1_080));
        let words: Vec<_> = args.words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn every_hardware_encoder_has_its_words() {
        use EncoderSpeed::{Medium, Ultrafast, Veryslow};
        let cases = [
            (
                Encoder::H264Nvenc,
                Medium,
                23,
                "-c:v h264_nvenc -pix_fmt nv12 -preset p4 -tune hq -rc vbr -cq 23 -b:v 0 -forced-idr 1",
            ),
            (
                Encoder::HevcNvenc,
                Veryslow,
                28,
                "-c:v hevc_nvenc -pix_fmt nv12 -preset p7 -tune hq -rc vbr -cq 28 -b:v 0 -forced-idr 1 -tag:v hvc1",
            ),
            (
                Encoder::Av1Nvenc,
                Ultrafast,
                35,
                "-c:v av1_nvenc -pix_fmt nv12 -preset p1 -tune hq -rc vbr -cq 35 -b:v 0 -forced-idr 1",
            ),
            (
                Encoder::H264Qsv,
                Ultrafast,
                23,
                "-c:v h264_qsv -pix_fmt nv12 -preset veryfast -global_quality 23",
            ),
            (
                Encoder::HevcQsv,
                Medium,
                26,
                "-c:v hevc_qsv -pix_fmt nv12 -preset medium -global_quality 26 -tag:v hvc1",
            ),
            (
                Encoder::Av1Qsv,
                Veryslow,
                30,
                "-c:v av1_qsv -pix_fmt nv12 -preset veryslow -global_quality 30",
            ),
            (Encoder::H264Vaapi, Medium, 23, "-c:v h264_vaapi -rc_mode CQP -global_quality 23"),
            (
                Encoder::HevcVaapi,
                Medium,
                28,
                "-c:v hevc_vaapi -rc_mode CQP -global_quality 28 -tag:v hvc1",
            ),
            (Encoder::Av1Vaapi, Medium, 28, "-c:v av1_vaapi -rc_mode CQP -global_quality 140"),
            (
                Encoder::H264Amf,
                Ultrafast,
                23,
                "-c:v h264_amf -pix_fmt nv12 -usage transcoding -quality speed -rc cqp -qp_i 23 -qp_p 23",
            ),
            (
                Encoder::HevcAmf,
                Medium,
                23,
                "-c:v hevc_amf -pix_fmt nv12 -usage transcoding -quality balanced -rc cqp -qp_i 23 -qp_p 23 -tag:v hvc1",
            ),
            (
                Encoder::Av1Amf,
                Veryslow,
                23,
                "-c:v av1_amf -pix_fmt nv12 -usage transcoding -quality quality -rc cqp -qp_i 115 -qp_p 115",
            ),
            (
                Encoder::H264VideoToolbox,
                Medium,
                23,
                "-c:v h264_videotoolbox -pix_fmt nv12 -allow_sw 0 -realtime 0 -q:v 55",
            ),
            (
                Encoder::HevcVideoToolbox,
                Medium,
                28,
                "-c:v hevc_videotoolbox -pix_fmt nv12 -allow_sw 0 -realtime 0 -q:v 46 -tag:v hvc1",
            ),
            (Encoder::H264V4l2, Medium, 23, "-c:v h264_v4l2m2m -pix_fmt nv12 -b:v 5184000"),
            (
                Encoder::HevcV4l2,
                Medium,
                29,
                "-c:v hevc_v4l2m2m -pix_fmt nv12 -b:v 2592000 -tag:v hvc1",
            ),
        ];
        assert_eq!(cases.len(), Encoder::HARDWARE.len());
        for (encoder, speed, crf, expected) in cases {
            assert_eq!(words(encoder, speed, crf), expected);
            assert!(Encoder::HARDWARE.contains(&encoder));
        }
    }

    #[test]
    fn only_vaapi_uploads_and_opens_a_card() {
        for encoder in Encoder::HARDWARE {
            let vaapi = encoder.hardware() == Some(Hardware::Vaapi);
            let mut settings = trial_settings(encoder).unwrap();
            assert_eq!(upload(&settings), vaapi.then_some("format=nv12,hwupload"));
            settings.pix_fmt = PixFmt::new("p010le").unwrap();
            assert_eq!(upload(&settings), vaapi.then_some("format=p010le,hwupload"));
            assert_eq!(device(encoder).is_empty(), !vaapi);
        }
    }

    #[test]
    fn an_encoder_that_ffmpeg_lacks_is_told_apart_from_missing_hardware() {
        let why = |listed: &[&str]| {
            let listed: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
            missing(Encoder::HevcVideoToolbox, &listed)
        };
        assert!(why(&[]).unwrap().contains("built without it"));
        if !cfg!(target_os = "macos") {
            assert!(why(&["hevc_videotoolbox"]).unwrap().contains("Apple"));
        }
    }

    #[test]
    fn another_driver_is_another_fingerprint() {
        let of = |driver| print(Encoder::HevcNvenc, "ffmpeg 7", driver);
        assert_eq!(of("550.1"), of("550.1"));
        assert_ne!(of("550.1"), of("550.2"));
    }
}
