//! Presets of HandBrake, as far as they map. Pure.
//!
//! HandBrake exports JSON: a `PresetList` of presets, some of them folders with a `ChildrenArray`. What
//! has a counterpart here becomes a key of a preset file; every other key is told.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use toml::Table;

/// Presets that one file may hold.
const PRESETS_MAX: usize = 200;

/// One preset, mapped.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// Its name, fit for a file.
    pub name: String,
    /// The text of the preset file.
    pub text: String,
    /// Keys that have no counterpart and would change the result, with their values.
    pub ignored: Vec<(String, String)>,
    /// Keys that have no counterpart and are off.
    pub off: Vec<String>,
    /// What is done another way.
    pub notes: Vec<String>,
}

/// Why a file is no preset that could be mapped.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("it is no preset of HandBrake: there is no PresetList in it")]
    Other,
    /// A preset's encoder is none of ours.
    #[error("preset `{name}` uses the encoder {encoder}, which has no counterpart here")]
    Encoder {
        /// The preset.
        name: String,
        /// HandBrake's name of the encoder.
        encoder: String,
    },
}

/// Maps every preset of a file.
///
/// # Errors
/// [`ImportError`] for what is no such file, and for encoders without a counterpart.
pub fn import(text: &str) -> Result<Vec<Mapped>, ImportError> {
    let document: Value = serde_json::from_str(text)?;
    let list = match &document {
        Value::Array(list) => list,
        _ => document.get("PresetList").and_then(Value::as_array).ok_or(ImportError::Other)?,
    };
    let mut found = Vec::new();
    collect(list, &mut found, 0);
    let mapped: Vec<Mapped> =
        found.into_iter().take(PRESETS_MAX).map(map).collect::<Result<_, _>>()?;
    if mapped.is_empty() { Err(ImportError::Other) } else { Ok(mapped) }
}

fn collect<'a>(list: &'a [Value], found: &mut Vec<&'a Map<String, Value>>, depth: usize) {
    for preset in list.iter().filter_map(Value::as_object) {
        match preset.get("ChildrenArray").and_then(Value::as_array) {
            Some(children) if !children.is_empty() && depth < 8 => {
                collect(children, found, depth + 1);
            }
            _ if preset.contains_key("VideoEncoder") => found.push(preset),
            _ => {}
        }
    }
}

/// A preset while it is read: what was asked for is known afterwards.
struct Source<'a> {
    keys: &'a Map<String, Value>,
    read: BTreeSet<&'static str>,
    out: Table,
    notes: Vec<String>,
}

impl Source<'_> {
    fn value(&mut self, key: &'static str) -> Option<&Value> {
        self.read.insert(key);
        self.keys.get(key)
    }

    fn text(&mut self, key: &'static str) -> String {
        self.value(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn number(&mut self, key: &'static str) -> Option<f64> {
        match self.value(key)? {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        }
    }

    fn flag(&mut self, key: &'static str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or_default()
    }

    fn strings(&mut self, key: &'static str) -> Vec<String> {
        let list = self.value(key).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn set(&mut self, key: &str, value: impl Into<toml::Value>) {
        self.out.insert(key.to_owned(), value.into());
    }

    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

fn map(keys: &Map<String, Value>) -> Result<Mapped, ImportError> {
    let mut source = Source { keys, read: BTreeSet::new(), out: Table::new(), notes: Vec::new() };
    let title = source.text("PresetName");
    let about = source.text("PresetDescription");
    let about = if about.is_empty() { format!("{title}, from HandBrake") } else { about };
    source.set("description", about.chars().take(200).collect::<String>());
    video(&mut source, &title)?;
    picture(&mut source);
    sound(&mut source);
    subtitles(&mut source);
    // How HandBrake sorts its own list says nothing about films.
    for key in ["Type", "Default", "Folder", "FolderOpen", "PresetDisabled", "ChildrenArray"] {
        source.read.insert(key);
    }
    let (mut ignored, mut off) = (Vec::new(), Vec::new());
    for (key, value) in keys.iter().filter(|(key, _)| !source.read.contains(key.as_str())) {
        if is_off(value) {
            off.push(key.clone());
        } else {
            ignored.push((key.clone(), value.to_string().chars().take(80).collect()));
        }
    }
    let text = source.out.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    Ok(Mapped { name: file_name(&title), text, ignored, off, notes: source.notes })
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => matches!(text.as_str(), "" | "off" | "none" | "auto"),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// Letters, digits and dashes.
fn file_name(title: &str) -> String {
    let mut name = String::new();
    for c in title.chars().take(60) {
        if c.is_ascii_alphanumeric() || c == '.' || c == '_' {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches(['-', '.']).to_owned();
    if name.is_empty() { "handbrake".to_owned() } else { name }
}

fn video(source: &mut Source<'_>, title: &str) -> Result<(), ImportError> {
    let encoder = source.text("VideoEncoder");
    let word = encoder.to_ascii_lowercase();
    let chip = ["nvenc", "qsv", "vce", "vt_", "mf_"].iter().any(|part| word.contains(part));
    let codec = match word.as_str() {
        "ffv1" => "ffv1",
        _ if word.contains("264") => "h264",
        _ if word.contains("265") || word.contains("hevc") => "hevc",
        _ if word.contains("av1") => "av1",
        _ => return Err(ImportError::Encoder { name: title.to_owned(), encoder }),
    };
    source.set("codec", codec);
    if chip {
        source.set("encoder", "hardware");
    }
    if word.contains("10bit") || word.contains("12bit") {
        source.note(format!("{encoder}: the depth of the pictures follows the source here"));
    } else if codec != "ffv1" {
        source.set("plain_pixels", true);
    }
    let container = match source.text("FileFormat").as_str() {
        "av_mp4" | "mp4" | "m4v" => "mp4",
        "av_mkv" | "mkv" | "" => "mkv",
        other => {
            source.note(format!("FileFormat {other}: MKV is made instead"));
            "mkv"
        }
    };
    source.set("container", container);
    quality(source, codec);
    let speed = source.text("VideoPreset");
    match speed.as_str() {
        "" => {}
        "placebo" => {
            source.set("encoder_speed", "veryslow");
            source.note("VideoPreset placebo: veryslow is the slowest here");
        }
        _ if codec == "av1" && speed.parse::<u8>().is_ok() => {
            let number: u8 = speed.parse().unwrap_or(8);
            let word = match number {
                0..=3 => "veryslow",
                4 => "slower",
                5 | 6 => "slow",
                7 => "medium",
                8 => "fast",
                9 => "faster",
                10 => "veryfast",
                11 => "superfast",
                _ => "ultrafast",
            };
            source.set("encoder_speed", word);
        }
        _ if speed.parse::<dmc_protocol::media::EncoderSpeed>().is_ok() => {
            source.set("encoder_speed", speed);
        }
        _ => source.note(format!("VideoPreset {speed} has no counterpart: the usual speed")),
    }
    Ok(())
}

fn quality(source: &mut Source<'_>, codec: &str) {
    // 1 is an average bit rate, 2 a constant quality.
    let by_rate = source.number("VideoQualityType") == Some(1.0);
    let rate = source.number("VideoAvgBitrate");
    let crf = source.number("VideoQualitySlider");
    for key in ["VideoMultiPass", "VideoTurboMultiPass", "VideoTwoPass", "VideoTurboTwoPass"] {
        source.read.insert(key);
    }
    match crf {
        _ if codec == "ffv1" => {}
        _ if by_rate => source.note(format!(
            "VideoAvgBitrate {}: there are no bit rates here; the codec's usual quality is used",
            rate.unwrap_or(0.0)
        )),
        Some(crf) if (0.0..=63.0).contains(&crf) => {
            if crf.fract() != 0.0 {
                source.note(format!("VideoQualitySlider {crf} becomes {}", crf.round()));
            }
            source.set("crf", crf.round() as i64);
        }
        _ => source.note("it says no quality: the codec's usual one is used"),
    }
}

fn picture(source: &mut Source<'_>) {
    for (key, ours) in [("PictureWidth", "max_width"), ("PictureHeight", "max_height")] {
        let pixels = source.number(key).filter(|pixels| (16.0..=16_384.0).contains(pixels));
        if let Some(pixels) = pixels {
            source.set(ours, pixels as i64);
        }
    }
    crop(source);
    let rate = source.text("VideoFramerate");
    let mode = source.text("VideoFramerateMode");
    if let Ok(fps) = rate.parse::<dmc_protocol::media::options::Fps>() {
        source.set("max_fps", fps.to_string());
        if mode == "cfr" {
            source
                .note(format!("VideoFramerateMode cfr: frames are capped at {fps}, none is made"));
        }
    }
    match source.text("PictureDeinterlaceFilter").as_str() {
        "" | "off" => {}
        "bwdif" => source.set("deinterlace", "bwdif"),
        "yadif" => source.set("deinterlace", "yadif"),
        other => {
            source.set("deinterlace", "bwdif");
            source.note(format!("PictureDeinterlaceFilter {other}: bwdif is used"));
        }
    }
}

fn crop(source: &mut Source<'_>) {
    let mode = source.number("PictureCropMode");
    let auto = source.flag("PictureAutoCrop") || matches!(mode, Some(0.0 | 1.0));
    let edges = ["PictureTopCrop", "PictureBottomCrop", "PictureLeftCrop", "PictureRightCrop"]
        .map(|key| source.number(key).unwrap_or(0.0));
    if auto {
        source.set("crop", "auto");
    } else if edges.iter().any(|edge| *edge > 0.0) {
        let [top, bottom, left, right] = edges;
        source.note(format!(
            "crop of {top}, {bottom}, {left} and {right} pixels from top, bottom, left and right: \
             here it needs the size of the film; use --crop WIDTH:HEIGHT:X:Y"
        ));
    }
}

fn sound(source: &mut Source<'_>) {
    let languages = source.strings("AudioLanguageList");
    let behaviour = source.text("AudioTrackSelectionBehavior");
    let languages = codes(&languages);
    if behaviour == "none" {
        source.set("audio_languages", "none");
    } else if !languages.is_empty() {
        source.set("audio_languages", languages.join(","));
    }
    let tracks = source.value("AudioList").and_then(Value::as_array).cloned().unwrap_or_default();
    if tracks.len() > 1 {
        source.note(format!(
            "AudioList has {} entries: the first counts for all tracks",
            tracks.len()
        ));
    }
    let Some(first) = tracks.first().and_then(Value::as_object) else { return };
    let text = |key: &str| first.get(key).and_then(Value::as_str).unwrap_or_default();
    let encoder = text("AudioEncoder").to_ascii_lowercase();
    if encoder.starts_with("copy") {
        source.set("audio_codec", "copy");
        return;
    }
    let codec = match encoder.as_str() {
        _ if encoder.contains("aac") => "aac",
        _ if encoder.contains("opus") => "opus",
        _ if encoder.contains("flac") => "flac",
        _ => {
            source.note(format!("AudioEncoder {encoder}: AAC is used"));
            "aac"
        }
    };
    source.set("audio_codec", codec);
    let kilobits = first.get("AudioBitrate").and_then(Value::as_f64);
    if let Some(kilobits) =
        kilobits.filter(|rate| (8.0..=1_536.0).contains(rate) && codec != "flac")
    {
        source.set("audio_bitrate", kilobits as i64 * 1_000);
    }
    let channels = match text("AudioMixdown") {
        "mono" | "left_only" | "right_only" => Some(1),
        "stereo" | "dpl1" | "dpl2" => Some(2),
        "5point1" | "5_2_lfe" => Some(6),
        "6point1" => Some(7),
        "7point1" => Some(8),
        _ => None,
    };
    if let Some(channels) = channels {
        source.set("audio_channels", channels);
    }
    let known = ["AudioEncoder", "AudioBitrate", "AudioMixdown", "AudioTrackQualityEnable"];
    let rest = first.iter().filter(|(key, value)| !known.contains(&key.as_str()) && !is_off(value));
    let rest: Vec<&str> = rest.map(|(key, _)| key.as_str()).collect();
    if !rest.is_empty() {
        source.note(format!("of AudioList, ignored: {}", rest.join(", ")));
    }
}

fn subtitles(source: &mut Source<'_>) {
    let languages = source.strings("SubtitleLanguageList");
    let languages = codes(&languages);
    match source.text("SubtitleTrackSelectionBehavior").as_str() {
        "none" => source.set("subtitles", "none"),
        _ if !languages.is_empty() => source.set("subtitles", languages.join(",")),
        _ => {}
    }
}

/// ISO codes; `any` and `und` choose nothing.
fn codes(languages: &[String]) -> Vec<String> {
    let is_code =
        |code: &&String| matches!(code.len(), 2 | 3) && !matches!(code.as_str(), "any" | "und");
    languages.iter().filter(is_code).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
      "PresetList": [{
        "Folder": true, "PresetName": "Mine", "ChildrenArray": [{
          "PresetName": "Living Room 4K (HEVC)", "PresetDescription": "For the projector",
          "FileFormat": "av_mp4", "VideoEncoder": "x265_10bit", "VideoQualityType": 2,
          "VideoQualitySlider": 21.5, "VideoPreset": "slow", "VideoTune": "grain",
          "PictureWidth": 3840, "PictureHeight": 2160, "PictureAutoCrop": true,
          "VideoFramerate": "59.94", "VideoFramerateMode": "pfr",
          "PictureDeinterlaceFilter": "decomb", "PictureDenoiseFilter": "off",
          "PictureRotate": "", "ChapterMarkers": true,
          "AudioLanguageList": ["eng", "any"], "AudioTrackSelectionBehavior": "all",
          "AudioList": [{"AudioEncoder": "av_aac", "AudioBitrate": 160, "AudioMixdown": "stereo",
                         "AudioTrackDRCSlider": 2.5}],
          "SubtitleTrackSelectionBehavior": "none", "Type": 1
        }]
      }], "VersionMajor": 50
    }"#;

    #[test]
    fn a_preset_is_mapped_as_far_as_it_goes() {
        let mapped = import(FILE).unwrap();
        let [mapped] = &mapped[..] else { panic!("{mapped:?}") };
        assert_eq!(mapped.name, "living-room-4k-hevc");
        let table: Table = mapped.text.parse().unwrap();
        let expected: Table = "description = \"For the projector\"\ncodec = \"hevc\"\n\
            container = \"mp4\"\ncrf = 22\nencoder_speed = \"slow\"\nmax_width = 3840\n\
            max_height = 2160\ncrop = \"auto\"\nmax_fps = \"60000/1001\"\ndeinterlace = \"bwdif\"\n\
            audio_codec = \"aac\"\naudio_bitrate = 160000\naudio_channels = 2\n\
            audio_languages = \"eng\"\nsubtitles = \"none\"\n"
            .parse()
            .unwrap();
        assert_eq!(table, expected);
        let ignored: Vec<&str> = mapped.ignored.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(ignored, ["ChapterMarkers", "VideoTune"]);
        assert_eq!(mapped.off, ["PictureDenoiseFilter", "PictureRotate"]);
        let notes = mapped.notes.join("\n");
        for part in ["21.5 becomes 22", "decomb", "AudioTrackDRCSlider", "depth"] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
    }

    #[test]
    fn what_it_makes_is_a_preset() {
        let mapped = import(FILE).unwrap().remove(0);
        let dir = tempfile::tempdir().unwrap();
        crate::presets::add(dir.path(), &mapped.name, &mapped.text).unwrap();
        let preset = crate::presets::find(Some(dir.path()), "living-room-4k-hevc").unwrap();
        assert_eq!(preset.options.audio_bps, Some(160_000));
    }

    #[test]
    fn hardware_and_bit_rates_are_told() {
        let text = r#"[{"PresetName":"-- x","VideoEncoder":"nvenc_h265","VideoQualityType":1,
            "VideoAvgBitrate":3000,"VideoPreset":"p9"}]"#;
        let mapped = import(text).unwrap().remove(0);
        assert!(mapped.text.contains("encoder = \"hardware\""), "{}", mapped.text);
        assert!(mapped.notes.iter().any(|note| note.contains("VideoAvgBitrate 3000")));
        assert_eq!(mapped.name, "x");
    }

    #[test]
    fn other_files_are_refused_in_words() {
        for (text, part) in [
            ("nonsense", "no JSON"),
            ("{}", "no PresetList"),
            ("{\"PresetList\":[]}", "no PresetList"),
            ("{\"PresetList\":[{\"PresetName\":\"v\",\"VideoEncoder\":\"VP9\"}]}", "VP9"),
        ] {
            let error = import(text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
