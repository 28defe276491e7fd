//! A preset as a TOML file.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use dmc_protocol::media::options::{Family, Fps, Tracks};
use dmc_protocol::media::{
    AudioPolicy, Codec, Container, Encoder, EncoderSpeed, MediaKind, Preset, PresetOverrides,
    Quality,
};
use toml::Value;

use super::Problem;

/// Every key, in the order in which they are written.
const KEYS: [&str; 22] = [
    "inherits",
    "description",
    "copy",
    "codec",
    "crf",
    "quality",
    "target",
    "encoder",
    "encoder_speed",
    "container",
    "max_width",
    "max_height",
    "crop",
    "max_fps",
    "deinterlace",
    "tone_map",
    "plain_pixels",
    "audio_codec",
    "audio_channels",
    "audio_bitrate",
    "audio_languages",
    "subtitles",
];

/// What a preset inherits from when it does not say so.
const BASE: &str = "hevc";

/// Reads the text of a file. `find` gives the preset that it inherits from.
///
/// # Errors
/// [`Problem::File`] with the line, and [`Problem`] of the inherited one.
pub fn read_text(
    path: &Path,
    text: &str,
    name: &str,
    find: impl FnOnce(&str) -> Result<Preset, Problem>,
) -> Result<Preset, Problem> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        Problem::file(path, line, format!("it is no TOML: {}", e.message()))
    })?;
    let at = |key: &str, why: String| Problem::file(path, line_of(text, key), why);
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let near = nearest(key).map_or_else(
            || format!("there are {}", KEYS.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(at(key, format!("there is no key `{key}`; {near}")));
    }
    let reader = Reader { table: &table, at: &at };
    let inherited = reader.text("inherits")?.unwrap_or_else(|| BASE.to_owned());
    let base = find(&inherited).map_err(|problem| match problem {
        Problem::Preset(e) => at("inherits", e.to_string()),
        other => other,
    })?;
    let preset = apply(base, &reader)?;
    let preset = Preset {
        name: name.to_owned(),
        description: match reader.text("description")? {
            Some(text) => text.chars().take(200).collect(),
            None => format!("as {inherited}, with {} settings of its own", table.len()),
        },
        ..preset
    };
    preset.check().map_err(|e| Problem::file(path, None, e.to_string()))?;
    Ok(preset)
}

fn apply(mut base: Preset, reader: &Reader<'_>) -> Result<Preset, Problem> {
    if let Some(copy) = reader.flag("copy")? {
        base.options.copy_pictures = copy;
    }
    if let Some(plain) = reader.flag("plain_pixels")? {
        base.options.plain_pixels = plain;
    }
    let audio = reader.text("audio_codec")?;
    let copied = audio.as_deref() == Some("copy");
    if copied {
        base.audio = AudioPolicy::Copy;
        base.options.audio_channels = None;
        base.options.audio_bps = None;
    }
    let overrides = PresetOverrides {
        codec: reader.word("codec")?,
        quality: reader.number("quality", 100)?.and_then(|n| u8::try_from(n).ok()),
        crf: reader.number("crf", 63)?.and_then(|n| u8::try_from(n).ok()),
        encoder_speed: reader.word::<EncoderSpeed>("encoder_speed")?,
        container: reader.word::<Container>("container")?,
        max_height: reader.number("max_height", 16_384)?,
        audio_codec: if copied { None } else { reader.word("audio_codec")? },
        max_width: reader.number("max_width", 16_384)?,
        crop: reader.word("crop")?,
        max_fps: reader.word::<Fps>("max_fps")?,
        deinterlace: reader.word("deinterlace")?,
        tone_map: reader.flag("tone_map")?,
        audio_channels: reader.number("audio_channels", 8)?.and_then(|n| u16::try_from(n).ok()),
        audio_bps: reader.rate("audio_bitrate")?,
        audio_tracks: reader.word::<Tracks>("audio_languages")?,
        subtitles: reader.word::<Tracks>("subtitles")?,
        family: reader.word::<Family>("encoder")?,
        target: reader.word("target")?,
    };
    base.with(&overrides).map_err(|e| {
        // The message names the option; the line is that of the first key that could be meant.
        let text = e.to_string();
        let key = KEYS.iter().rev().find(|key| {
            let spoken = key.replace('_', "-");
            reader.table.contains_key(**key) && (text.contains(&spoken) || text.contains(**key))
        });
        (reader.at)(key.copied().unwrap_or("codec"), text)
    })
}

/// Bits per second: a number, or `160k`.
pub fn bit_rate(text: &str) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let (digits, factor) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => (text.as_str(), 1),
    };
    digits.trim().parse::<u32>().ok()?.checked_mul(factor)
}

struct Reader<'a> {
    table: &'a toml::Table,
    at: &'a dyn Fn(&str, String) -> Problem,
}

impl Reader<'_> {
    fn text(&self, key: &str) -> Result<Option<String>, Problem> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err((self.at)(key, format!("`{key}` must be a text in quotes"))),
        }
    }

    /// A text, a number, or a list of texts, as one word.
    fn word<T: FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<Option<T>, Problem> {
        let text = match self.table.get(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Float(number)) => number.to_string(),
            Some(Value::Array(items)) => {
                let items: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                let bad = || (self.at)(key, format!("`{key}` must be a list of texts"));
                items.ok_or_else(bad)?.join(",")
            }
            Some(_) => return Err((self.at)(key, format!("`{key}` must be a text in quotes"))),
        };
        text.parse().map(Some).map_err(|e: T::Err| (self.at)(key, format!("`{key}`: {e}")))
    }

    fn number(&self, key: &str, max: u32) -> Result<Option<u32>, Problem> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|n| u32::try_from(n).ok());
        let why = || (self.at)(key, format!("`{key}` must be a whole number, at most {max}"));
        number.filter(|n| *n <= max).map(Some).ok_or_else(why)
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let why = || (self.at)(key, format!("`{key}` must be true or false"));
        value.as_bool().map(Some).ok_or_else(why)
    }

    fn rate(&self, key: &str) -> Result<Option<u32>, Problem> {
        let Some(value) = self.table.get(key) else { return Ok(None) };
        let rate = match value {
            Value::Integer(number) => u32::try_from(*number).ok(),
            Value::String(text) => bit_rate(text),
            _ => None,
        };
        let why = || (self.at)(key, format!("`{key}` must be bits a second, as in \"160k\""));
        rate.map(Some).ok_or_else(why)
    }
}

/// The line that sets a key.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let sets = |line: &str| {
        let (before, _) = line.split_once('=').unwrap_or_default();
        before.trim().trim_matches(['"', '\'']) == key
    };
    let is_table = |line: &str| line.trim().trim_matches(['[', ']']).trim() == key;
    text.lines().position(|line| sets(line) || is_table(line)).map(|at| at + 1)
}

/// The key that was probably meant.
fn nearest(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let ranked = KEYS.iter().map(|key| (distance(&word, key), *key));
    let near = ranked.min().filter(|(far, key)| *far <= 2.max(key.len() / 3)).map(|(_, key)| key);
    // `bitrate` is a part of `audio_bitrate`.
    near.or_else(|| KEYS.into_iter().find(|key| word.len() > 3 && key.contains(&word)))
}

/// Letters to change, add or remove.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(60).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The whole preset as a file that says all, so that it may be kept and changed.
pub fn write_text(preset: &Preset) -> String {
    let options = &preset.options;
    let mut text = String::new();
    let mut line = |key: &str, value: Value| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("description", preset.description.clone().into());
    if preset.kind() != MediaKind::Video {
        write_single(preset, &mut line);
        return text;
    }
    if options.copy_pictures {
        line("copy", true.into());
    } else {
        line("codec", preset.encoder.codec().name().into());
        match (options.target, preset.quality) {
            (Some(target), _) => line("target", target.to_string().into()),
            (None, Quality::Crf(crf)) => line("crf", i64::from(crf).into()),
            _ => {}
        }
        line("encoder", options.family.to_string().into());
        line("encoder_speed", preset.speed.name().into());
    }
    line("container", preset.container.extension().into());
    let mut some = |key: &str, value: Option<String>, quoted: bool| {
        if let Some(value) = value {
            let number = value.parse::<i64>().ok().filter(|_| !quoted);
            line(key, number.map_or_else(|| Value::from(value), Value::from));
        }
    };
    some("max_width", options.max_width.map(|n| n.to_string()), false);
    some("max_height", preset.max_height.map(|n| n.to_string()), false);
    some("crop", options.crop.map(|crop| crop.to_string()), true);
    some("max_fps", options.max_fps.map(|fps| fps.to_string()), true);
    some("deinterlace", options.deinterlace.map(|way| way.to_string()), true);
    if options.tone_map {
        line("tone_map", true.into());
    }
    if options.plain_pixels {
        line("plain_pixels", true.into());
    }
    match preset.audio {
        AudioPolicy::Copy => line("audio_codec", "copy".into()),
        AudioPolicy::Encode { encoder, .. } => line("audio_codec", audio(encoder).into()),
    }
    if let Some(channels) = options.audio_channels {
        line("audio_channels", i64::from(channels).into());
    }
    if let Some(bps) = options.audio_bps {
        line("audio_bitrate", i64::from(bps).into());
    }
    if options.audio_tracks != Tracks::All {
        line("audio_languages", options.audio_tracks.to_string().into());
    }
    if options.subtitles != Tracks::All {
        line("subtitles", options.subtitles.to_string().into());
    }
    text
}

/// A preset of pictures or of sound: what it inherits from says the encoder and the format.
fn write_single(preset: &Preset, line: &mut impl FnMut(&str, Value)) {
    let lossless = preset.is_lossless();
    let like = |of: &Preset| (of.encoder, of.is_lossless()) == (preset.encoder, lossless);
    if let Some(base) = Preset::all().into_iter().find(like) {
        line("inherits", base.name.into());
    }
    if let Quality::Percent(percent) = preset.quality {
        line("quality", i64::from(percent).into());
    }
    if let Some(height) = preset.max_height {
        line("max_height", i64::from(height).into());
    }
    if let Some(bps) = preset.options.audio_bps {
        line("audio_bitrate", i64::from(bps).into());
    }
}

fn audio(encoder: Encoder) -> &'static str {
    Codec::name(encoder.codec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Preset, String> {
        let find = |name: &str| Preset::builtin(name).map_err(Problem::from);
        read_text(Path::new("my.toml"), text, "my", find).map_err(|e| e.to_string())
    }

    #[test]
    fn every_key_means_something() {
        let text = "inherits = \"h264\"\ndescription = \"mine\"\ncrf = 19\nencoder = \"auto\"\n\
            encoder_speed = \"slow\"\ncontainer = \"mp4\"\nmax_width = 1280\nmax_height = 720\n\
            crop = \"auto\"\nmax_fps = 25\ndeinterlace = \"bwdif\"\ntone_map = true\n\
            plain_pixels = true\naudio_codec = \"opus\"\naudio_channels = 2\n\
            audio_bitrate = \"128k\"\naudio_languages = [\"eng\", \"deu\"]\nsubtitles = \"none\"\n";
        let preset = read(text).unwrap();
        let options = &preset.options;
        assert_eq!((preset.quality, preset.speed), (Quality::Crf(19), EncoderSpeed::Slow));
        assert_eq!((options.audio_channels, options.audio_bps), (Some(2), Some(128_000)));
        assert_eq!(options.audio_tracks.to_string(), "eng,deu");
        assert_eq!(options.max_fps.unwrap().to_string(), "25");
        assert!(options.plain_pixels && options.tone_map);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for preset in Preset::all() {
            let text = write_text(&preset);
            let again = read(&text).unwrap();
            let mut expected = Preset { name: "my".to_owned(), ..preset.clone() };
            // How much sound gets for each channel is no key.
            if let (AudioPolicy::Encode { .. }, AudioPolicy::Encode { encoder, channel_bps }) =
                (expected.audio, again.audio)
            {
                expected.audio = AudioPolicy::Encode { encoder, channel_bps };
            }
            if preset.copies_pictures() {
                (expected.encoder, expected.quality) = (again.encoder, again.quality);
            }
            assert_eq!(again, expected, "{text}");
        }
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let cases = [
            (
                "crf = 20\nmax_heigth = 720\n",
                "my.toml, line 2: there is no key `max_heigth`; did you mean `max_height`?",
            ),
            ("bitrate = 5\n", "did you mean `audio_bitrate`?"),
            ("\n\ncrf = 60\n", "line 3: crf 60 is outside 0–51"),
            ("crf = \"20\"\n", "line 1: `crf` must be a whole number"),
            ("codec = \"vp8\"\n", "line 1: `codec`: `vp8` is not a codec"),
            ("crop = \"1:2\"\n", "line 1: `crop`: `1:2` is no part of a picture"),
            ("tone_map = 1\n", "`tone_map` must be true or false"),
            ("inherits = \"vhs\"\n", "line 1: there is no preset `vhs`"),
            ("crf = = 2\n", "line 1: it is no TOML"),
            ("inherits = \"remux\"\nmax_height = 720\n", "copies the pictures"),
            ("[video]\ncrf = 3\n", "line 1: there is no key `video`"),
        ];
        for (text, part) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{error}\n{part}");
        }
    }
}
