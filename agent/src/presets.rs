//! Presets that a person wrote, beside the built-in ones.
//!
//! Each is a TOML file in one directory, named after its file; it inherits from another preset and
//! says what is different. They are read when they are needed: a change counts for the next job.

mod file;
pub mod handbrake;

use std::path::{Path, PathBuf};

use dmc_protocol::media::{Preset, PresetError};

pub use file::{bit_rate, read_text, write_text};

/// Own presets that are looked at.
const FILES_MAX: usize = 500;
const FILE_BYTES_MAX: u64 = 64 << 10;
/// How many presets may inherit from one another in a row.
const DEPTH_MAX: usize = 8;
const NAME_CHARS_MAX: usize = 60;

/// Why a preset cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is none of that name, or its settings do not go together.
    #[error(transparent)]
    Preset(#[from] PresetError),
    /// A file says something that makes no sense.
    #[error("{}{}: {why}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    File {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: Option<usize>,
        /// What is wrong, and what would do.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Problem {
    fn file(path: &Path, line: Option<usize>, why: impl Into<String>) -> Problem {
        Problem::File { path: path.to_owned(), line, why: why.into() }
    }
}

/// Names of files, names of presets on command lines, parts of URLs: one set of characters for all.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty()
        && name.len() <= NAME_CHARS_MAX
        && name.chars().all(good)
        && !name.starts_with(['.', '-'])
}

/// The names of the own presets, sorted.
pub fn own_names(dir: Option<&Path>) -> Vec<String> {
    let entries = dir.and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let name = |path: PathBuf| {
        let is_preset = path.extension().is_some_and(|end| end == "toml");
        let name = path.file_stem()?.to_str()?.to_owned();
        (is_preset && is_name(&name)).then_some(name)
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| name(entry.path())).take(FILES_MAX).collect();
    names.sort_unstable();
    names
}

fn builtin_names() -> Vec<String> {
    Preset::all().into_iter().map(|preset| preset.name).collect()
}

/// The preset of that name, built in or of a person's own.
///
/// # Errors
/// [`Problem`], in words for that person.
pub fn find(dir: Option<&Path>, name: &str) -> Result<Preset, Problem> {
    find_within(dir, name, DEPTH_MAX)
}

fn find_within(dir: Option<&Path>, name: &str, depth: usize) -> Result<Preset, Problem> {
    let unknown = match Preset::builtin(name) {
        Ok(preset) => return Ok(preset),
        Err(unknown) => unknown,
    };
    let Some(dir) = dir.filter(|_| is_name(name)) else { return Err(unknown.into()) };
    let path = dir.join(format!("{name}.toml"));
    if !path.is_file() {
        let choices = builtin_names().into_iter().chain(own_names(Some(dir)));
        let choices = choices.collect::<Vec<_>>().join(", ");
        return Err(PresetError::Unknown { name: name.chars().take(60).collect(), choices }.into());
    }
    read_within(Some(dir), &path, name, depth)
}

fn read_within(
    dir: Option<&Path>,
    path: &Path,
    name: &str,
    depth: usize,
) -> Result<Preset, Problem> {
    let io = |source| Problem::Io { action: "read", path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Problem::file(path, None, "it is too long for a preset"));
    }
    let text = std::fs::read_to_string(path).map_err(io)?;
    read_text(path, &text, name, |inherited| match depth.checked_sub(1) {
        Some(depth) if inherited != name => find_within(dir, inherited, depth),
        _ => Err(Problem::file(path, None, "it inherits from itself, perhaps through others")),
    })
}

/// Reads a file that need not be among the own presets yet.
///
/// # Errors
/// [`Problem`], in words for the person who wrote it.
pub fn check(dir: Option<&Path>, path: &Path) -> Result<Preset, Problem> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    check_name(path, &name)?;
    read_within(dir, path, &name, DEPTH_MAX)
}

fn check_name(path: &Path, name: &str) -> Result<(), Problem> {
    if !is_name(name) {
        let why = "a preset is named after its file: letters, digits, `.`, `_`, `-`, and .toml";
        return Err(Problem::file(path, None, why));
    }
    if Preset::builtin(name).is_ok() {
        let why = format!("{name} is built in; give the file another name");
        return Err(Problem::file(path, None, why));
    }
    Ok(())
}

/// All presets, the built-in ones first; own ones that cannot be read come with what is wrong.
pub fn all(dir: Option<&Path>) -> Vec<Result<Preset, (String, Problem)>> {
    let builtin = builtin_names();
    let own = own_names(dir).into_iter().filter(|name| !builtin.contains(name));
    let own = own.map(|name| find(dir, &name).map_err(|problem| (name, problem)));
    Preset::all().into_iter().map(Ok).chain(own).collect()
}

/// All presets that can be used.
pub fn usable(dir: Option<&Path>) -> Vec<Preset> {
    all(dir).into_iter().filter_map(Result::ok).collect()
}

/// Puts a preset among the own ones; one of that name is never replaced.
///
/// # Errors
/// [`Problem`]; nothing was written.
pub fn add(dir: &Path, name: &str, text: &str) -> Result<PathBuf, Problem> {
    use std::io::Write;
    let path = dir.join(format!("{name}.toml"));
    check_name(&path, name)?;
    read_text(&path, text, name, |inherited| find(Some(dir), inherited))?;
    let io = |source| Problem::Io { action: "write", path: path.clone(), source };
    std::fs::create_dir_all(dir).map_err(io)?;
    let mut file = match std::fs::File::create_new(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let why = "there is one already; remove it, or give the new one another name";
            return Err(Problem::file(&path, None, why));
        }
        created => created.map_err(io)?,
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use dmc_protocol::media::{Container, PresetOverrides};

    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn presets_inherit_from_one_another() {
        let dir = dir(&[
            ("small.toml", "inherits = \"hevc\"\nmax_height = 720\ncrf = 30\n"),
            ("tiny.toml", "inherits = \"small\"\nmax_height = 480\n"),
        ]);
        let tiny = find(Some(dir.path()), "tiny").unwrap();
        let expected = (480, dmc_protocol::media::Quality::Crf(30));
        assert_eq!((tiny.max_height.unwrap(), tiny.quality), expected);
        assert_eq!(tiny.name, "tiny");
        assert_eq!(own_names(Some(dir.path())), ["small", "tiny"]);
    }

    #[test]
    fn circles_and_names_of_others_are_refused() {
        let dir = dir(&[
            ("a.toml", "inherits = \"b\"\n"),
            ("b.toml", "inherits = \"a\"\n"),
            ("me.toml", "inherits = \"me\"\n"),
        ]);
        for name in ["a", "me"] {
            let error = find(Some(dir.path()), name).unwrap_err().to_string();
            assert!(error.contains("inherits from itself"), "{error}");
        }
        for name in ["nothing", "../a", "-a", ""] {
            let error = find(Some(dir.path()), name).unwrap_err().to_string();
            assert!(error.contains("there is no preset"), "{error}");
        }
        let error = add(dir.path(), "hevc", "crf = 20").unwrap_err().to_string();
        assert!(error.contains("built in"), "{error}");
        let error = add(dir.path(), "a", "crf = 20").unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
    }

    #[test]
    fn programs_write_changes_as_people_do() {
        let text = r#"{"crf": 30, "container": "mp4", "codec": "hevc", "encoder_speed": "fast",
            "max_fps": "29.97", "crop": "auto", "target": "ssim=0.98", "subtitles": "eng,deu"}"#;
        let changes: PresetOverrides = serde_json::from_str(text).unwrap();
        assert_eq!((changes.crf, changes.container), (Some(30), Some(Container::Mp4)));
        // As older versions wrote it.
        let old: PresetOverrides = serde_json::from_str("{\"container\": \"Mp4\"}").unwrap();
        assert_eq!(old.container, Some(Container::Mp4));
        let again = serde_json::to_string(&changes).unwrap();
        assert_eq!(serde_json::from_str::<PresetOverrides>(&again).unwrap(), changes);
        for wrong in ["{\"crop\": \"1:2\"}", "{\"max_fps\": \"0\"}", "{\"container\": \"vob\"}"] {
            assert!(serde_json::from_str::<PresetOverrides>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_broken_file_hides_no_other() {
        let dir = dir(&[("good.toml", "crf = 20\n"), ("bad.toml", "crf = 99\n")]);
        let all = all(Some(dir.path()));
        assert_eq!(all.iter().filter(|found| found.is_err()).count(), 1);
        assert!(usable(Some(dir.path())).iter().any(|preset| preset.name == "good"));
    }
}
