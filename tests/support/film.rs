//! What is in a media file, read with ffprobe and ffmpeg and nothing of the program under test.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::{Finished, run};

/// No file of the tests takes longer to read than this.
const READ_LIMIT: Duration = Duration::from_secs(300);

/// One packet or one decoded frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// When it is shown, in seconds after the file's start; none if the file does not say.
    pub at: Option<f64>,
    /// How long, in seconds.
    pub lasts: f64,
    /// Size of its bytes.
    pub size: u64,
    /// Hash of its bytes.
    pub hash: String,
}

/// The rows of one stream.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// One tick of its clock in seconds.
    pub tick_s: f64,
    /// In the order of the file.
    pub rows: Vec<Row>,
}

/// A media file as ffprobe describes it.
pub struct Film {
    /// Where it is.
    pub path: PathBuf,
    probe: Value,
}

impl Film {
    /// Reads the headers; the error is what ffprobe said.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-show_streams", "-show_format", "-show_chapters"]);
        command.args(["-show_data_hash", "md5", "-of", "json"]).arg(file_url(path));
        let seen = run(&mut command, READ_LIMIT);
        let probe: Value =
            serde_json::from_str(&seen.stdout).map_err(|e| format!("{e}: {seen}"))?;
        match probe["streams"].as_array() {
            Some(streams) if seen.ok() && !streams.is_empty() => {
                Ok(Self { path: path.to_owned(), probe })
            }
            _ => Err(seen.to_string()),
        }
    }

    /// Whether its container is one of ffmpeg's names for it, such as `matroska`.
    pub fn is(&self, container: &str) -> bool {
        self.probe["format"]["format_name"]
            .as_str()
            .is_some_and(|names| names.split(',').any(|name| name == container))
    }

    /// Whether it is one image rather than a film.
    pub fn is_still(&self) -> bool {
        let format = self.probe["format"]["format_name"].as_str().unwrap_or_default();
        format == "image2" || format.ends_with("_pipe")
    }

    /// All streams of a type; for video without the cover pictures.
    pub fn streams(&self, kind: &str) -> Vec<&Value> {
        self.all_streams().filter(|s| s["codec_type"] == kind && !is_cover(s)).collect()
    }

    /// The pictures that stand for the film rather than show it.
    pub fn covers(&self) -> Vec<&Value> {
        self.all_streams().filter(|s| is_cover(s)).collect()
    }

    fn all_streams(&self) -> impl Iterator<Item = &Value> {
        self.probe["streams"].as_array().into_iter().flatten()
    }

    /// The chapters.
    pub fn chapters(&self) -> &[Value] {
        self.probe["chapters"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The tags of the file as a whole.
    pub fn tags(&self) -> BTreeMap<String, String> {
        tags(&self.probe["format"])
    }

    /// Decoded frames of the videos, then packets of the sound, the subtitles and the covers.
    ///
    /// One run reads them all, so their times share one origin. Every video may go through a
    /// filter of its own first. The command follows rotation marks only of stills, and neither
    /// drops nor repeats a frame. What more threads make of damaged video is left to chance, so
    /// their number can be said.
    pub fn tracks(
        &self,
        filters: &[Option<String>],
        threads: Option<u32>,
    ) -> Result<Tracks, String> {
        let mut command = ffmpeg();
        if let Some(threads) = threads {
            command.arg("-threads").arg(threads.to_string());
        }
        for (n, stream) in self.streams("video").iter().enumerate() {
            if let Some(decoder) = alpha_decoder(stream) {
                command.arg(format!("-c:V:{n}")).arg(decoder);
            }
        }
        if !self.is_still() {
            command.arg("-noautorotate");
        }
        command.arg("-i").arg(file_url(&self.path));
        command.args(["-map", "0:V?", "-map", "0:a?", "-map", "0:s?"]);
        for cover in self.covers() {
            command.arg("-map").arg(format!("0:{}", cover["index"]));
        }
        command.args(["-c", "copy"]);
        for (n, filter) in filters.iter().enumerate() {
            command.arg(format!("-c:v:{n}")).arg("rawvideo");
            if let Some(filter) = filter {
                command.arg(format!("-filter:v:{n}")).arg(filter);
            }
        }
        command.args(["-fps_mode", "passthrough", "-enc_time_base", "-1"]);
        command.args(["-max_muxing_queue_size", "99999", "-max_interleave_delta", "0"]);
        command.args(["-f", "framehash", "-hash", "murmur3", "-"]);
        let read = run(&mut command, READ_LIMIT);
        if read.stdout.is_empty() || read.late {
            return Err(read.to_string());
        }
        let mut all = parse(&read.stdout).into_iter();
        let mut take = |count: usize| all.by_ref().take(count).collect::<Vec<Track>>();
        Ok(Tracks {
            video: take(self.streams("video").len()),
            audio: take(self.streams("audio").len()),
            subtitles: take(self.streams("subtitle").len()),
            covers: take(self.covers().len()),
            complaint: complaint(&read),
        })
    }

    /// The decoded samples of one sound, as one stream of one sample format.
    pub fn samples(&self, n: usize, format: &str) -> Result<Track, String> {
        let mut command = ffmpeg();
        command.arg("-i").arg(file_url(&self.path)).arg("-map").arg(format!("0:a:{n}"));
        command.args(["-c:a", format, "-f", "framehash", "-hash", "murmur3", "-"]);
        let read = run(&mut command, READ_LIMIT);
        parse(&read.stdout).into_iter().next().ok_or_else(|| read.to_string())
    }

    /// One hash over all decoded samples of one sound, however they are cut into frames.
    pub fn sample_hash(&self, n: usize, format: &str) -> Result<String, String> {
        let mut command = ffmpeg();
        command.arg("-i").arg(file_url(&self.path)).arg("-map").arg(format!("0:a:{n}"));
        command.args(["-c:a", format, "-f", "hash", "-hash", "md5", "-"]);
        let read = run(&mut command, READ_LIMIT);
        if read.stdout.trim().is_empty() { Err(read.to_string()) } else { Ok(read.stdout) }
    }

    /// One text subtitle as plain lines with their times in seconds.
    pub fn text(&self, n: usize) -> Result<Vec<(f64, String)>, String> {
        let mut command = ffmpeg();
        command.arg("-i").arg(file_url(&self.path)).arg("-map").arg(format!("0:s:{n}"));
        command.args(["-c:s", "srt", "-f", "srt", "-"]);
        let read = run(&mut command, READ_LIMIT);
        if read.ok() { Ok(parse_srt(&read.stdout)) } else { Err(read.to_string()) }
    }

    /// Side data of a video: that of the stream, and that of its first frame where only it knows.
    pub fn side_data(&self, n: usize) -> Vec<Value> {
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-select_streams", &format!("V:{n}")]);
        command.args(["-read_intervals", "%+#1", "-show_frames", "-of", "json"]);
        command.arg(file_url(&self.path));
        let seen = run(&mut command, READ_LIMIT);
        let frames: Value = serde_json::from_str(&seen.stdout).unwrap_or_default();
        let of = |value: &Value| value["side_data_list"].as_array().cloned().unwrap_or_default();
        let mut all = self.streams("video").get(n).map(|s| of(s)).unwrap_or_default();
        all.extend(of(&frames["frames"][0]));
        all
    }

    /// What ffmpeg objects to in this file when it must not forgive anything.
    pub fn strict_complaint(path: &Path) -> Option<String> {
        let mut command = ffmpeg();
        command.arg("-xerror").arg("-i").arg(file_url(path));
        command.args(["-map", "0:V?", "-map", "0:a?", "-f", "null", "-"]);
        let read = run(&mut command, READ_LIMIT);
        if read.ok() && read.stderr.trim().is_empty() { None } else { Some(read.to_string()) }
    }
}

/// The rows of all streams of a film, by type.
pub struct Tracks {
    /// Decoded frames.
    pub video: Vec<Track>,
    /// Packets.
    pub audio: Vec<Track>,
    /// Packets.
    pub subtitles: Vec<Track>,
    /// Packets.
    pub covers: Vec<Track>,
    /// What ffmpeg had to say while it read.
    pub complaint: Option<String>,
}

impl Tracks {
    /// The film's zero: its first frame, or its first sound when it shows nothing.
    pub fn origin(&self) -> f64 {
        let first = |tracks: &[Track]| {
            let times = tracks.iter().flat_map(|t| t.rows.iter().filter_map(|r| r.at));
            times.reduce(f64::min)
        };
        first(&self.video[..self.video.len().min(1)]).or_else(|| first(&self.audio)).unwrap_or(0.0)
    }
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error"]);
    command
}

/// A path that no name can turn into another protocol.
fn file_url(path: &Path) -> std::ffi::OsString {
    let mut url = std::ffi::OsString::from("file:");
    url.push(path);
    url
}

/// The decoder that sees the alpha layer of a VP8 or VP9 stream; ffmpeg's own ignore it.
pub fn alpha_decoder(stream: &Value) -> Option<&'static str> {
    let marked = tags(stream).get("alpha_mode").is_some_and(|mode| mode == "1");
    match stream["codec_name"].as_str() {
        Some("vp8") if marked => Some("libvpx"),
        Some("vp9") if marked => Some("libvpx-vp9"),
        _ => None,
    }
}

fn is_cover(stream: &Value) -> bool {
    stream["disposition"]["attached_pic"] == 1
}

fn complaint(read: &Finished) -> Option<String> {
    let said = read.stderr.trim();
    if read.ok() && said.is_empty() { None } else { Some(said.to_owned()) }
}

/// The tags of a stream, a chapter or the file; their names in small letters.
pub fn tags(of: &Value) -> BTreeMap<String, String> {
    let all = of["tags"].as_object().into_iter().flatten();
    all.filter_map(|(key, value)| Some((key.to_lowercase(), value.as_str()?.to_owned()))).collect()
}

/// Reads ffmpeg's framehash format, version 2.
fn parse(text: &str) -> Vec<Track> {
    let mut all: Vec<Track> = Vec::new();
    for line in text.lines() {
        if let Some(clock) = line.strip_prefix("#tb ") {
            // The first clocks come before any row; later ones only repeat them.
            let Some((n, ratio)) = clock.split_once(": ") else { continue };
            let n: usize = n.parse().unwrap();
            all.resize(all.len().max(n + 1), Track::default());
            all[n].tick_s = parse_ratio(ratio).unwrap();
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [n, _dts, pts, lasts, size, hash, ..] = fields[..] else { continue };
            let track = &mut all[n.parse::<usize>().unwrap()];
            let ticks = |field: &str| field.parse::<f64>().ok().filter(|t| t.abs() < 9e18);
            track.rows.push(Row {
                at: ticks(pts).map(|t| t * track.tick_s),
                lasts: ticks(lasts).unwrap_or(0.0) * track.tick_s,
                size: size.parse().unwrap(),
                hash: hash.to_owned(),
            });
        }
    }
    all
}

/// A fraction such as `1/1000` or `16:11`, or a plain number.
pub fn parse_ratio(text: &str) -> Option<f64> {
    match text.split_once(['/', ':']) {
        Some((over, under)) => {
            let (over, under) = (over.parse::<f64>().ok()?, under.parse::<f64>().ok()?);
            (under != 0.0).then(|| over / under)
        }
        None => text.parse().ok(),
    }
}

fn parse_srt(text: &str) -> Vec<(f64, String)> {
    let mut all = Vec::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines().skip_while(|l| !l.contains(" --> "));
        let Some((from, _)) = lines.next().and_then(|l| l.split_once(" --> ")) else { continue };
        let seconds = from
            .replace(',', ".")
            .split(':')
            .filter_map(|part| part.trim().parse::<f64>().ok())
            .fold(0.0, |sum, part| sum * 60.0 + part);
        all.push((seconds, strip_marks(&lines.collect::<Vec<_>>().join("\n"))));
    }
    all
}

/// Text without `<i>` and `{\an8}`: text formats mark style differently.
fn strip_marks(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(from) = rest.find('<').into_iter().chain(rest.find("{\\")).min() {
        let close = if rest[from..].starts_with('<') { '>' } else { '}' };
        let Some(length) = rest[from..].find(close) else { break };
        out.push_str(&rest[..from]);
        rest = &rest[from + length + 1..];
    }
    out.push_str(rest);
    out.trim().to_owned()
}
