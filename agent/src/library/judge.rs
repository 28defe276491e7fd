//! Whether a file is converted, rule by rule. Pure: everything that decides comes in, and every
//! ruling tells the value that decided it.
//!
//! Rules that need no more than what a directory tells come first. Only a file that passes them is
//! looked into.

use std::path::Path;

use dmc_protocol::media::MediaKind;

use super::kinds;
use super::rules::{Patterns, Rules};
use super::units::{Rate, Size, Span};

/// What a watched folder makes of a kind of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name of the preset.
    pub preset: String,
    /// What it makes.
    pub kind: MediaKind,
    /// The codec that it makes, by ffmpeg's name; empty when it copies.
    pub codec: String,
}

/// What a watched folder takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aim {
    /// The presets, one a kind.
    pub targets: Vec<Target>,
    /// The kinds that are taken.
    pub kinds: Vec<MediaKind>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its path below the watched folder.
    pub path: &'a Path,
    /// Its size.
    pub bytes: u64,
    /// When its content was last changed, in milliseconds since 1970.
    pub changed_ms: i64,
    /// What is in it, once it was looked into.
    pub media: Option<&'a Media>,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Media {
    /// What it mainly is.
    pub kind: MediaKind,
    /// ffmpeg's name of the codec of its pictures, or of its sound.
    pub codec: String,
    /// Lines of its pictures.
    pub height: Option<u32>,
    /// Its length in seconds.
    pub seconds: Option<u64>,
    /// Whether it has a high dynamic range.
    pub hdr: bool,
}

/// What a rule says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing against it.
    Pass,
    /// It is left alone.
    Skip,
    /// It is left alone until then, in milliseconds since 1970.
    Until(i64),
}

/// A rule, what it says, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// The rule as it is written.
    pub rule: String,
    /// What it says.
    pub verdict: Verdict,
    /// The value that decided.
    pub why: String,
}

/// What follows from all rulings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It must be looked into: so far nothing is against it.
    Look,
    /// It is converted with this preset.
    Take(String),
    /// It is left alone.
    Skip {
        /// The first rule that says so.
        rule: String,
        /// Why.
        why: String,
        /// When that may be over, in milliseconds since 1970.
        until_ms: Option<i64>,
    },
}

/// All rulings on a file, those that are cheap first. Without [`Facts::media`] only those.
pub fn judge(rules: &Rules, aim: &Aim, facts: &Facts<'_>, now_ms: i64) -> Vec<Ruling> {
    let mut court = Court { rulings: Vec::new() };
    court.by_name(rules, aim, facts.path);
    court.by_size(rules, facts.bytes);
    court.by_age(rules, facts.changed_ms, now_ms);
    if let Some(media) = facts.media {
        court.by_kind(aim, media.kind);
        court.by_codec(rules, aim, media);
        court.by_pictures(rules, media);
        court.by_length(rules, media, facts.bytes);
    }
    court.rulings
}

/// What the rulings mean together.
pub fn decide(rulings: &[Ruling], aim: &Aim, media: Option<&Media>) -> Decision {
    let against = rulings.iter().find(|ruling| ruling.verdict != Verdict::Pass);
    if let Some(Ruling { rule, verdict, why }) = against {
        let until_ms = match verdict {
            Verdict::Until(ms) => Some(*ms),
            Verdict::Skip | Verdict::Pass => None,
        };
        return Decision::Skip { rule: rule.clone(), why: why.clone(), until_ms };
    }
    let Some(media) = media else { return Decision::Look };
    match aim.target(media.kind) {
        Some(target) => Decision::Take(target.preset.clone()),
        // `by_kind` is against it.
        None => Decision::Skip {
            rule: "preset".to_owned(),
            why: format!("no preset makes {}", media.kind),
            until_ms: None,
        },
    }
}

impl Aim {
    /// The preset for a kind of files.
    pub fn target(&self, kind: MediaKind) -> Option<&Target> {
        self.targets.iter().find(|target| target.kind == kind)
    }

    fn kinds(&self) -> String {
        let kinds = self.kinds.iter().map(ToString::to_string);
        kinds.collect::<Vec<_>>().join(", ")
    }
}

struct Court {
    rulings: Vec<Ruling>,
}

impl Court {
    fn say(&mut self, rule: impl Into<String>, verdict: Verdict, why: impl Into<String>) {
        self.rulings.push(Ruling { rule: rule.into(), verdict, why: why.into() });
    }

    fn skip_if(&mut self, against: bool, rule: impl Into<String>, why: impl Into<String>) {
        self.say(rule, if against { Verdict::Skip } else { Verdict::Pass }, why);
    }

    fn by_name(&mut self, rules: &Rules, aim: &Aim, path: &Path) {
        let name = Path::new(path.file_name().unwrap_or_default());
        let names = rules.only.names.as_ref().map(|names| &names.0);
        match kinds::by_name(name) {
            Some(kind) if !aim.kinds.contains(&kind) => {
                let why = format!("it is named like {}", kinds::article(kind));
                self.say(format!("kinds = {}", aim.kinds()), Verdict::Skip, why);
            }
            Some(kind) => {
                let why = format!("it is named like {}", kinds::article(kind));
                self.say(format!("kinds = {}", aim.kinds()), Verdict::Pass, why);
            }
            // Who names patterns means what fits them.
            None if names.is_none() => {
                let why = "its name does not end like that of a film, a sound or a picture";
                self.say("media files", Verdict::Skip, why);
            }
            None => {}
        }
        let paths = rules.only.paths.as_ref().map(|paths| &paths.0);
        self.only("only.names", names, name);
        self.only("only.paths", paths, path);
        self.none_of("skip.names", rules.skip.names.as_ref().map(|names| &names.0), name);
        self.none_of("skip.paths", rules.skip.paths.as_ref().map(|paths| &paths.0), path);
    }

    fn only(&mut self, rule: &str, patterns: Option<&Patterns>, path: &Path) {
        let Some(patterns) = patterns else { return };
        match patterns.fitting(path) {
            Some(pattern) => self.say(rule, Verdict::Pass, format!("it fits \"{pattern}\"")),
            None => {
                self.say(rule, Verdict::Skip, format!("it fits none of {}", patterns.list()));
            }
        }
    }

    fn none_of(&mut self, rule: &str, patterns: Option<&Patterns>, path: &Path) {
        let Some(patterns) = patterns else { return };
        match patterns.fitting(path) {
            Some(pattern) => self.say(rule, Verdict::Skip, format!("it fits \"{pattern}\"")),
            None => self.say(rule, Verdict::Pass, "it fits none of them"),
        }
    }

    fn by_size(&mut self, rules: &Rules, bytes: u64) {
        let (skip, size) = (&rules.skip, Size(bytes));
        if let Some(least) = skip.smaller_than {
            let rule = format!("skip.smaller_than = {least}");
            self.skip_if(size < least, rule, format!("it has {size}"));
        }
        if let Some(most) = skip.larger_than {
            let rule = format!("skip.larger_than = {most}");
            self.skip_if(size > most, rule, format!("it has {size}"));
        }
        if bytes == 0 {
            self.say("media files", Verdict::Skip, "it is empty");
        }
    }

    fn by_age(&mut self, rules: &Rules, changed_ms: i64, now_ms: i64) {
        let age_s = now_ms.saturating_sub(changed_ms) / 1_000;
        let age = Span(u64::try_from(age_s).unwrap_or(0));
        let why = match age_s {
            0.. => format!("it was changed {age} ago"),
            _ => "it was changed in the future".to_owned(),
        };
        if let Some(least) = rules.skip.younger_than {
            let rule = format!("skip.younger_than = {least}");
            if age < least {
                let span_ms = i64::try_from(least.0).unwrap_or(i64::MAX).saturating_mul(1_000);
                // A time in the future is that of a wrong clock: it is looked at again all the same.
                let until = changed_ms.min(now_ms).saturating_add(span_ms);
                self.say(rule, Verdict::Until(until), &*why);
            } else {
                self.say(rule, Verdict::Pass, &*why);
            }
        }
        if let Some(most) = rules.skip.older_than {
            self.skip_if(age > most, format!("skip.older_than = {most}"), &*why);
        }
    }

    fn by_kind(&mut self, aim: &Aim, kind: MediaKind) {
        let is = format!("it is {}", kinds::article(kind));
        self.skip_if(!aim.kinds.contains(&kind), format!("kinds = {}", aim.kinds()), &*is);
        match aim.target(kind) {
            Some(target) => self.say(format!("preset = {}", target.preset), Verdict::Pass, is),
            None => {
                let names: Vec<&str> = aim.targets.iter().map(|of| of.preset.as_str()).collect();
                let why = format!("{is}, and no preset of the folder makes {kind}");
                self.say(format!("preset = {}", names.join(", ")), Verdict::Skip, why);
            }
        }
    }

    fn by_codec(&mut self, rules: &Rules, aim: &Aim, media: &Media) {
        let why = match media.codec.as_str() {
            "" => "its codec is not known".to_owned(),
            codec => format!("it is {codec}"),
        };
        let makes = aim.target(media.kind).filter(|target| !target.codec.is_empty());
        if let (true, Some(target)) = (rules.skip.same_codec, makes) {
            let same = media.codec.eq_ignore_ascii_case(&target.codec);
            let already = if same { " already" } else { "" };
            let rule = format!("skip.same_codec ({} makes {})", target.preset, target.codec);
            self.skip_if(same, rule, format!("{why}{already}"));
        }
        if !rules.skip.codecs.is_empty() {
            let listed = |codec: &String| codec.eq_ignore_ascii_case(&media.codec);
            let rule = format!("skip.codecs = {}", rules.skip.codecs.join(", "));
            self.skip_if(rules.skip.codecs.iter().any(listed), rule, why);
        }
    }

    fn by_pictures(&mut self, rules: &Rules, media: &Media) {
        let (below, above) = (rules.skip.height_below, rules.skip.height_above);
        let why = match media.height {
            Some(height) => format!("its pictures have {height} lines"),
            None => "it has no pictures".to_owned(),
        };
        if let Some(least) = below {
            let against = media.height.is_some_and(|height| height < least);
            self.skip_if(against, format!("skip.height_below = {least}"), &*why);
        }
        if let Some(most) = above {
            let against = media.height.is_some_and(|height| height > most);
            self.skip_if(against, format!("skip.height_above = {most}"), &*why);
        }
        if rules.skip.hdr {
            let why = if media.hdr { "its range is high" } else { "its range is not high" };
            self.skip_if(media.hdr, "skip.hdr", why);
        }
    }

    fn by_length(&mut self, rules: &Rules, media: &Media, bytes: u64) {
        let skip = &rules.skip;
        let seconds = media.seconds.filter(|seconds| *seconds > 0);
        let rate = seconds.map(|seconds| Rate(bytes.saturating_mul(8) / seconds));
        let unknown = || "its length is not known".to_owned();
        let why = rate.map_or_else(unknown, |rate| format!("it has {rate}"));
        if let Some(least) = skip.bitrate_below {
            let against = rate.is_some_and(|rate| rate < least);
            self.skip_if(against, format!("skip.bitrate_below = {least}"), &*why);
        }
        if let Some(most) = skip.bitrate_above {
            let against = rate.is_some_and(|rate| rate > most);
            self.skip_if(against, format!("skip.bitrate_above = {most}"), &*why);
        }
        // Anything that lasts no whole second is short.
        let span = media.seconds.map(Span);
        let why = span.map_or_else(unknown, |span| format!("it lasts {span}"));
        if let Some(least) = skip.shorter_than {
            let against = span.is_some_and(|span| span < least);
            self.skip_if(against, format!("skip.shorter_than = {least}"), &*why);
        }
        if let Some(most) = skip.longer_than {
            let against = span.is_some_and(|span| span > most);
            self.skip_if(against, format!("skip.longer_than = {most}"), &*why);
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
