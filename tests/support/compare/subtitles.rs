//! Are they the same subtitles?

use serde_json::Value;

use super::{Both, Verdict};
use crate::support::film::{Row, Track};

/// Text subtitles of some formats count in hundredths.
const TEXT_S: f64 = 0.011;

impl Both<'_> {
    pub(super) fn subtitles(&self, verdict: &mut Verdict) {
        let was = self.source.streams("subtitle");
        let is = self.result.streams("subtitle");
        if was.len() != is.len() {
            return;
        }
        for (n, (was, is)) in was.into_iter().zip(is).enumerate() {
            let name = format!("subtitle {n}");
            if let Some(what) = self.words(n, was, is) {
                verdict.differ(format!("{name}: {what}"));
            }
            self.stream_tags(&name, was, is, verdict);
        }
    }

    pub(super) fn has_pictures(&self) -> bool {
        self.source.streams("subtitle").iter().any(|s| is_picture(s))
    }

    /// What differs in a subtitle: the packets, and where those must be rewritten, the words.
    fn words(&self, n: usize, was: &Value, is: &Value) -> Option<String> {
        let from = self.source_tracks.subtitles.get(n)?;
        let to = self.result_tracks.subtitles.get(n)?;
        // MP4 fills the time between two texts with empty ones.
        let full = |t: &Track| t.rows.iter().filter(|r| r.size > 2).cloned().collect::<Vec<Row>>();
        let (a, b) = (full(from), full(to));
        let same = a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.hash == b.hash);
        if same {
            let from = Track { rows: a, ..from.clone() };
            let to = Track { rows: b, ..to.clone() };
            return self
                .moved(&from, &to, TEXT_S)
                .first()
                .map(|(row, what)| format!("line {row}: {what}"));
        }
        if is_picture(was) {
            return Some(format!("{} pictures became {} others", a.len(), b.len()));
        }
        let (Ok(a), Ok(b)) = (self.source.text(n), self.result.text(n)) else {
            return Some(format!("{} cannot be read as text", is["codec_name"]));
        };
        if a.len() != b.len() {
            return Some(format!("{} lines became {}", a.len(), b.len()));
        }
        a.iter()
            .zip(&b)
            .find(|(a, b)| a.1 != b.1 || (self.since(a.0, b.0)).abs() > TEXT_S)
            .map(|(a, b)| format!("{a:?} became {b:?}"))
    }
}

fn is_picture(stream: &Value) -> bool {
    let codec = stream["codec_name"].as_str().unwrap_or_default();
    ["dvd_subtitle", "dvb_subtitle", "hdmv_pgs_subtitle", "xsub"].contains(&codec)
}
