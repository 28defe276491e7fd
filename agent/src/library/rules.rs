//! What a person says about the files of a watched folder, in TOML. What the rules mean for a file
//! is decided in [`super::judge`].

use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::Deserialize;

use super::units::{Rate, Size, Span};
use crate::hours::Hours;

/// The longest text of rules: it is kept in one record.
pub const RULES_BYTES_MAX: usize = 16 << 10;
/// Letters that a word may differ in and still be meant.
const TYPOS_MAX: usize = 3;

/// The rules of one folder.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Folders with a greater number go first.
    pub priority: i32,
    /// When its files are converted, in local time; none: always.
    pub hours: Hours,
    /// A result that saves less than this part of its source is thrown away.
    pub min_savings_percent: Option<Percent>,
    /// What a file must fit to be taken.
    pub only: Only,
    /// What a file must not fit to be taken.
    pub skip: Skip,
}

/// A file must fit all of these.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Only {
    /// Patterns for its name.
    pub names: Option<Names>,
    /// Patterns for its path below the folder.
    pub paths: Option<Paths>,
}

/// A file that fits one of these is left alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Skip {
    /// Patterns for its name.
    pub names: Option<Names>,
    /// Patterns for its path below the folder.
    pub paths: Option<Paths>,
    /// Smaller files.
    pub smaller_than: Option<Size>,
    /// Larger files.
    pub larger_than: Option<Size>,
    /// Files that were changed more recently; they are looked at again later.
    pub younger_than: Option<Span>,
    /// Files that were changed longer ago.
    pub older_than: Option<Span>,
    /// Files that are in the codec of the preset already.
    pub same_codec: bool,
    /// Files in one of these codecs, by ffmpeg's names.
    pub codecs: Vec<String>,
    /// Pictures with fewer lines.
    pub height_below: Option<u32>,
    /// Pictures with more lines.
    pub height_above: Option<u32>,
    /// Files with fewer bits a second.
    pub bitrate_below: Option<Rate>,
    /// Files with more bits a second.
    pub bitrate_above: Option<Rate>,
    /// Shorter films and sounds.
    pub shorter_than: Option<Span>,
    /// Longer films and sounds.
    pub longer_than: Option<Span>,
    /// Films with a high dynamic range.
    pub hdr: bool,
}

impl Default for Skip {
    fn default() -> Skip {
        Skip {
            names: None,
            paths: None,
            smaller_than: None,
            larger_than: None,
            younger_than: None,
            older_than: None,
            same_codec: true,
            codecs: Vec::new(),
            height_below: None,
            height_above: None,
            bitrate_below: None,
            bitrate_above: None,
            shorter_than: None,
            longer_than: None,
            hdr: false,
        }
    }
}

/// 1 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
pub struct Percent(pub u8);

impl TryFrom<u8> for Percent {
    type Error = String;

    fn try_from(percent: u8) -> Result<Percent, String> {
        match percent {
            1..=99 => Ok(Percent(percent)),
            _ => Err(format!("{percent} is no part of a hundred: write 1 to 99")),
        }
    }
}

/// Patterns with `*`, `?`, `[…]` and `{a,b}`, in upper or lower case.
#[derive(Debug, Clone)]
pub struct Patterns {
    texts: Vec<String>,
    set: GlobSet,
}

/// Patterns for names: a `*` is any part of a name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Names(pub Patterns);

/// Patterns for paths below the folder: `*` stays within one directory, `**` does not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Paths(pub Patterns);

impl PartialEq for Patterns {
    fn eq(&self, other: &Patterns) -> bool {
        self.texts == other.texts
    }
}

impl Patterns {
    fn new(texts: Vec<String>) -> Result<Patterns, String> {
        let mut set = GlobSetBuilder::new();
        for text in &texts {
            let mut glob = GlobBuilder::new(text);
            let wrong = |e: globset::Error| format!("\"{text}\" is no pattern: {}", e.kind());
            set.add(glob.case_insensitive(true).literal_separator(true).build().map_err(wrong)?);
        }
        let set = set.build().map_err(|e| format!("the patterns cannot be used: {}", e.kind()))?;
        Ok(Patterns { texts, set })
    }

    /// The first pattern that fits.
    pub fn fitting(&self, path: &Path) -> Option<&str> {
        let at = self.set.matches(path).into_iter().min()?;
        self.texts.get(at).map(String::as_str)
    }

    /// All patterns, for people.
    pub fn list(&self) -> String {
        self.texts.join(", ")
    }
}

impl TryFrom<Vec<String>> for Names {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Names, String> {
        match texts.iter().find(|text| text.contains('/')) {
            Some(path) => Err(format!("\"{path}\" is a path: write it under `paths`")),
            None => Patterns::new(texts).map(Names),
        }
    }
}

impl TryFrom<Vec<String>> for Paths {
    type Error = String;

    fn try_from(texts: Vec<String>) -> Result<Paths, String> {
        match texts.iter().find(|text| text.starts_with('/')) {
            Some(path) => Err(format!(
                "\"{path}\" begins with a slash: paths are those below the watched folder"
            )),
            None => Patterns::new(texts).map(Paths),
        }
    }
}

/// Rules that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the rules: {what}")]
pub struct RulesError {
    /// Where.
    pub line: usize,
    /// What is wrong there, and what to write instead.
    pub what: String,
}

impl Rules {
    /// Reads the text of a person.
    ///
    /// # Errors
    /// It is no TOML, or says what no rule says: with the line, and what was probably meant.
    pub fn read(text: &str) -> Result<Rules, RulesError> {
        if text.len() > RULES_BYTES_MAX {
            let what = format!("they are longer than {RULES_BYTES_MAX} bytes");
            return Err(RulesError { line: 1, what });
        }
        toml::from_str(text).map_err(|e: toml::de::Error| {
            let at = e.span().map_or(0, |span| span.start.min(text.len()));
            let before = text.as_bytes().get(..at).unwrap_or_default();
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            RulesError { line, what: explain(e.message()) }
        })
    }
}

/// The library's words, with the key that was probably meant.
fn explain(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else { return message.to_owned() };
    // Every other part stands between the marks.
    let mut words = rest.split('`').skip(1).step_by(2);
    let Some(given) = words.next() else { return message.to_owned() };
    let known: Vec<&str> = words.collect();
    let nearest = known.iter().map(|word| (distance(given, word), *word)).min();
    match nearest {
        Some((typos, word)) if typos <= TYPOS_MAX => {
            format!("there is no rule `{given}`; did you mean `{word}`?")
        }
        _ => format!("there is no rule `{given}` here; there are {}", known.join(", ")),
    }
}

/// How many letters must be changed, added or left out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_whole() {
        let text = include_str!("../../../examples/rules.toml");
        let rules = Rules::read(text).unwrap();
        assert_eq!(rules.min_savings_percent, Some(Percent(10)));
        assert!(rules.skip.names.is_some() && rules.skip.younger_than.is_some());
        // What it shows as a comment is right as well.
        let all: String = text
            .lines()
            .map(|line| line.strip_prefix("#= ").unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        let rules = Rules::read(&all).unwrap();
        assert!(rules.only.paths.is_some() && rules.skip.hdr && !rules.skip.codecs.is_empty());
    }

    #[test]
    fn no_rules_are_rules() {
        assert_eq!(Rules::read("").unwrap(), Rules::default());
        assert!(Rules::default().skip.same_codec);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_a_suggestion() {
        let cases = [
            ("[skip]\nsmaler_than = \"5 MB\"", 2, "did you mean `smaller_than`?"),
            ("prority = 3", 1, "did you mean `priority`?"),
            ("\n\n[skipp]\n", 3, "did you mean `skip`?"),
            ("[skip]\nbanana = 1", 2, "there are names, paths"),
            ("[skip]\n\nlarger_than = \"big\"", 3, "50 MB"),
            ("[skip]\nyounger_than = 5", 2, "7 days"),
            ("[skip]\nnames = [\"a[\"]", 2, "is no pattern"),
            ("[skip]\nnames = [\"a/b\"]", 2, "under `paths`"),
            ("[skip]\npaths = [\"/films\"]", 2, "below the watched folder"),
            ("hours = [\"late\"]", 1, "22:00-07:00"),
            ("min_savings_percent = 100", 1, "1 to 99"),
            ("[skip\n", 1, ""),
        ];
        for (text, line, part) in cases {
            let error = Rules::read(text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn patterns_fit_names_and_paths() {
        let rules = "[skip]\nnames = [\"*.sample.*\", \"*-trailer.???\"]\npaths = [\"extras/**\", \"*/x.mkv\"]";
        let skip = Rules::read(rules).unwrap().skip;
        let names = skip.names.unwrap().0;
        assert_eq!(names.fitting(Path::new("A.Sample.mkv")), Some("*.sample.*"));
        assert_eq!(names.fitting(Path::new("b-trailer.mp4")), Some("*-trailer.???"));
        assert_eq!(names.fitting(Path::new("b.mp4")), None);
        let paths = skip.paths.unwrap().0;
        assert!(paths.fitting(Path::new("Extras/deep/a.mkv")).is_some());
        assert!(paths.fitting(Path::new("a/x.mkv")).is_some());
        assert!(paths.fitting(Path::new("a/b/x.mkv")).is_none(), "one directory only");
    }
}
