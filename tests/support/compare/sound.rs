//! Is it the same sound, and with the same pictures?

use serde_json::Value;

use super::{Both, Depth, Verdict, report};
use crate::support::film::{Film, Tracks};

/// Sound may move against the picture by Matroska's tick, or by that of an MP4 edit list.
const SYNC_S: f64 = 0.001_1;

impl Both<'_> {
    pub(super) fn audio(&self, verdict: &mut Verdict) {
        let streams = self.source.streams("audio").into_iter().zip(self.result.streams("audio"));
        for (n, (was, is)) in streams.enumerate() {
            let name = format!("audio {n}");
            if self.depth == Depth::Lossless {
                for field in ["sample_rate", "channels"] {
                    verdict.equal(&format!("{name}: {field}"), &was[field], &is[field]);
                }
                self.sound(n, &name, (was, is), verdict);
            }
            self.stream_tags(&name, was, is, verdict);
        }
    }

    /// The same packets at the same times, or else the same samples.
    fn sound(&self, n: usize, name: &str, of: (&Value, &Value), verdict: &mut Verdict) {
        let (Some(from), Some(to)) =
            (self.source_tracks.audio.get(n), self.result_tracks.audio.get(n))
        else {
            return verdict.differ(format!("{name}: no packets could be read"));
        };
        let same_packets = from.rows.len() == to.rows.len()
            && from.rows.iter().zip(&to.rows).all(|(a, b)| a.hash == b.hash);
        if same_packets {
            let moved = self.moved(from, to, SYNC_S.max(from.tick_s).max(to.tick_s));
            return report(&format!("{name}: time of packet"), &moved, verdict);
        }
        let format = sample_format(of.0);
        match (self.source.sample_hash(n, format), self.result.sample_hash(n, format)) {
            (Ok(was), Ok(is)) if was == is => self.sync(n, name, format, verdict),
            (Ok(_), Ok(_)) => verdict.differ(format!(
                "{name}: neither the packets ({} became {}) nor the samples are the same; {} became {}",
                from.rows.len(), to.rows.len(), of.0["codec_name"], of.1["codec_name"],
            )),
            (was, is) => verdict.differ(format!("{name}: cannot be decoded: {was:?} {is:?}")),
        }
    }

    /// The same samples: do they start when they did?
    fn sync(&self, n: usize, name: &str, format: &str, verdict: &mut Verdict) {
        let start = |film: &Film, tracks: &Tracks| {
            let first = film.samples(n, format).ok()?.rows.first()?.at?;
            Some(first - tracks.origin())
        };
        let was = start(self.source, &self.source_tracks);
        let is = start(self.result, &self.result_tracks);
        if let (Some(was), Some(is)) = (was, is)
            && (was - is).abs() > SYNC_S
        {
            verdict.differ(format!("{name}: starts at {is:.6} s instead of {was:.6} s"));
        }
    }
}

/// The PCM codec that holds every bit of a stream's decoded samples.
fn sample_format(stream: &Value) -> &'static str {
    match stream["sample_fmt"].as_str().unwrap_or_default() {
        "u8" | "u8p" | "s16" | "s16p" => "pcm_s16le",
        "s32" | "s32p" => "pcm_s32le",
        "dbl" | "dblp" => "pcm_f64le",
        _ => "pcm_f32le",
    }
}
