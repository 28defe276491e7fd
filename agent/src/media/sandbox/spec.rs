//! What one call may do, as the launcher's arguments. Pure.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The files that one call needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    /// Files that it reads.
    pub reads: Vec<PathBuf>,
    /// Directories of ours with links to files that it reads.
    pub links_in: Vec<PathBuf>,
    /// Files that it writes, and may read again.
    pub writes: Vec<PathBuf>,
}

impl Files {
    /// Adds those of another call.
    pub fn append(&mut self, mut other: Files) {
        self.reads.append(&mut other.reads);
        self.links_in.append(&mut other.links_in);
        self.writes.append(&mut other.writes);
    }
}

/// What the system enforces on one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Addresses that it may use, in bytes: memory, files mapped into it, and what is only
    /// reserved.
    pub memory_bytes: u64,
    /// Processor time of all its threads together, in seconds.
    pub cpu_s: u64,
    /// The largest file that it may write, in bytes.
    pub file_bytes: u64,
}

/// What a launcher is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub files: Files,
    pub limits: Limits,
    /// Fail where files or system calls cannot be fenced in.
    pub required: bool,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

const UNLIMITED: Limits = Limits { memory_bytes: u64::MAX, cpu_s: u64::MAX, file_bytes: u64::MAX };

/// The launcher's arguments up to the program.
pub(super) fn to_args(files: &Files, limits: &Limits, required: bool) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut paths = |word: &str, paths: &[PathBuf]| {
        for path in paths {
            args.extend([word.into(), path.into()]);
        }
    };
    paths("--read", &files.reads);
    paths("--links-in", &files.links_in);
    paths("--write", &files.writes);
    let Limits { memory_bytes, cpu_s, file_bytes } = limits;
    for (word, value) in [("--memory", memory_bytes), ("--cpu", cpu_s), ("--file", file_bytes)] {
        args.extend([word.into(), value.to_string().into()]);
    }
    if required {
        args.push("--required".into());
    }
    args.push("--".into());
    args
}

/// Reads what [`to_args`] wrote, and the program's own arguments behind it.
///
/// # Errors
/// One sentence about what makes no sense.
pub(super) fn from_args(args: impl Iterator<Item = OsString>) -> Result<Spec, String> {
    let mut args = args;
    let (mut files, mut limits, mut required) = (Files::default(), UNLIMITED, false);
    loop {
        let word = args.next().ok_or("`--` and a program are missing")?;
        let word = word.to_str().ok_or("an option is no text")?.to_owned();
        let mut value = || args.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--" => break,
            "--required" => required = true,
            "--read" => files.reads.push(value()?.into()),
            "--links-in" => files.links_in.push(value()?.into()),
            "--write" => files.writes.push(value()?.into()),
            "--memory" => limits.memory_bytes = number(&value()?)?,
            "--cpu" => limits.cpu_s = number(&value()?)?,
            "--file" => limits.file_bytes = number(&value()?)?,
            _ => return Err(format!("{word} is no option")),
        }
    }
    let command: Vec<OsString> = args.collect();
    if command.is_empty() {
        return Err("a program is missing".to_owned());
    }
    Ok(Spec { files, limits, required, command })
}

fn number(text: &OsStr) -> Result<u64, String> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("{} is no number", text.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_understands_what_it_is_told() {
        let files = Files {
            reads: vec!["/a b".into(), "--write".into()],
            links_in: vec!["/links".into()],
            writes: vec!["-out".into()],
        };
        let limits = Limits { memory_bytes: 1 << 33, cpu_s: 9, file_bytes: 0 };
        for required in [false, true] {
            let mut args = to_args(&files, &limits, required);
            args.extend(["ffmpeg".into(), "--read".into(), "--".into()]);
            let spec = from_args(args.into_iter()).unwrap();
            assert_eq!((&spec.files, spec.limits, spec.required), (&files, limits, required));
            assert_eq!(spec.command, ["ffmpeg", "--read", "--"]);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [&["--"][..], &[], &["--read"], &["--cpu", "x", "--", "a"], &["--net", "--"]] {
            let args = words.iter().map(OsString::from);
            assert!(from_args(args).is_err(), "{words:?}");
        }
    }
}
