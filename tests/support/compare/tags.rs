//! Tags and dispositions that the result has lost.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Both, Verdict};
use crate::support::film::tags;

impl Both<'_> {
    pub(super) fn film_tags(&self, verdict: &mut Verdict) {
        self.lost_tags("file", self.source.tags(), &self.result.tags(), verdict);
    }

    pub(super) fn stream_tags(&self, name: &str, was: &Value, is: &Value, verdict: &mut Verdict) {
        let mut now = tags(is);
        if self.source.is("ogg") {
            // Ogg hangs the tags that mean the file on its only stream.
            now.extend(self.result.tags());
        }
        let mut was_tags = tags(was);
        // The date of a file is its owner's; the date of a track is MP4's own bookkeeping.
        was_tags.remove("creation_time");
        self.lost_tags(name, was_tags, &now, verdict);
        let flags = |s: &Value| self.flags(s);
        verdict.equal(&format!("{name}: dispositions"), &flags(was), &flags(is));
    }

    fn lost_tags(
        &self,
        name: &str,
        was: BTreeMap<String, String>,
        is: &BTreeMap<String, String>,
        verdict: &mut Verdict,
    ) {
        for (key, value) in was.into_iter().filter(|(k, v)| is_meant(k, v)) {
            match is.get(&key) {
                Some(now) if *now == value => {}
                None if self.result.is("mp4") && !in_mp4(name, &key) => {
                    verdict.notes.push(format!("{name}: MP4 has no place for the tag {key}"));
                }
                now => verdict.differ(format!("{name}: tag {key}: {value:?} became {now:?}")),
            }
        }
    }

    /// The dispositions that are set and that the result's container can say.
    fn flags(&self, stream: &Value) -> Vec<String> {
        let holds: &[&str] = if self.result.is("matroska") {
            &["forced", "comment", "hearing_impaired", "visual_impaired", "original", "captions"]
        } else {
            &[]
        };
        let all = stream["disposition"].as_object().into_iter().flatten();
        let set = all.filter(|(_, value)| **value == 1).map(|(key, _)| key.clone());
        // Only a container with the flag can mean something by not setting it.
        let knows_default = self.source.is("matroska") && self.result.is("matroska");
        set.filter(|key| holds.contains(&key.as_str()) || (knows_default && key == "default"))
            .collect()
    }
}

/// Whether a tag is the user's rather than the container's or the writing program's own.
fn is_meant(key: &str, value: &str) -> bool {
    const PLUMBING: &[&str] = &[
        "encoder",
        "duration",
        "major_brand",
        "minor_version",
        "compatible_brands",
        "vendor_id",
        "alpha_mode",
        "rotate",
        "bps",
        "number_of_frames",
        "number_of_bytes",
        "software",
        "filename",
        "mimetype",
    ];
    const DEFAULT_HANDLERS: &[&str] = &["VideoHandler", "SoundHandler", "SubtitleHandler"];
    let machine = PLUMBING.contains(&key) || key.starts_with("_statistics") || key.contains("bps-");
    let default = match key {
        "language" => value == "und",
        "creation_time" => value.starts_with("1970-01-01T00:00:00"),
        "handler_name" => DEFAULT_HANDLERS.contains(&value),
        _ => false,
    };
    !machine && !default
}

/// Whether MP4 has a place for a tag.
fn in_mp4(of: &str, key: &str) -> bool {
    let keys: &[&str] = if of == "file" {
        &[
            "title",
            "artist",
            "album",
            "album_artist",
            "comment",
            "genre",
            "date",
            "composer",
            "copyright",
            "description",
        ]
    } else {
        &["language"]
    };
    keys.contains(&key)
}
