//! What of the sandbox is enforced on this machine: tried, not believed.

use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::WORD;

/// The launcher's argument that asks for a report instead of a program.
pub(super) const ASK: &str = "--report";
/// What helps where something is missing.
pub(super) const MEND: &str = "Use a Linux kernel of 5.13 or newer with Landlock and seccomp (`cat \
     /sys/kernel/security/lsm` names landlock; containers must allow both)";

/// What is enforced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether a launcher was asked for at all: not with `sandbox = "off"`.
    pub wanted: bool,
    /// The version of Landlock's interface that is used; 0 where there is none.
    pub landlock_abi: u32,
    /// Files that were not named could not be read.
    pub files: bool,
    /// System calls that no conversion needs are refused; no socket could be made.
    pub calls: bool,
    /// Memory, processor time and the size of files are limited.
    pub limits: bool,
    /// Why something is missing, as far as the system says.
    pub troubles: Vec<String>,
}

impl Report {
    /// The sandbox is switched off.
    pub(super) fn off() -> Report {
        Report::default()
    }

    /// This program does not know how to start itself.
    pub(super) fn no_launcher() -> Report {
        let trouble = "there is no launcher on this system".to_owned();
        Report { wanted: true, troubles: vec![trouble], ..Report::default() }
    }

    /// Has a launcher confine itself and tell how far that went.
    pub(super) fn ask(launcher: &Path) -> Report {
        let mut command = Command::new(launcher);
        command.args([WORD, ASK]).stdin(Stdio::null());
        let said = command.output().map_err(|e| e.to_string()).and_then(|out| {
            serde_json::from_slice::<Report>(&out.stdout).map_err(|_| {
                format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim())
            })
        });
        said.unwrap_or_else(|error| {
            let trouble = format!("the launcher failed ({error})");
            Report { wanted: true, troubles: vec![trouble], ..Report::default() }
        })
    }

    /// Whether files and system calls are fenced in.
    pub fn is_whole(&self) -> bool {
        self.files && self.calls && self.limits
    }

    /// What was wanted and is missing, each as half a sentence.
    pub fn lacks(&self) -> Vec<String> {
        if !self.wanted {
            return Vec::new();
        }
        let parts = [
            (self.files, "ffmpeg may read and write all files of this user (no Landlock)"),
            (self.calls, "ffmpeg may use the network (no seccomp)"),
            (self.limits, "ffmpeg's memory and time are not limited"),
        ];
        let mut lacks: Vec<String> =
            parts.iter().filter(|part| !part.0).map(|part| part.1.to_owned()).collect();
        if !lacks.is_empty() {
            lacks.extend(self.troubles.iter().cloned());
        }
        lacks
    }

    /// What is enforced, for people.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.files {
            words.push(format!("files (Landlock, ABI {})", self.landlock_abi));
        }
        if self.calls {
            words.push("network and system calls (seccomp)".to_owned());
        }
        if self.limits {
            words.push("memory, processor time, size of files".to_owned());
        }
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }

    /// What helps where something is missing.
    pub fn mend(&self) -> &'static str {
        MEND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let whole = Report {
            wanted: true,
            landlock_abi: 7,
            files: true,
            calls: true,
            limits: true,
            ..Report::default()
        };
        assert!(whole.is_whole() && whole.lacks().is_empty());
        assert!(whole.words().contains("ABI 7"));
        let no_files = Report { files: false, troubles: vec!["why".into()], ..whole };
        assert!(!no_files.is_whole());
        assert_eq!(no_files.lacks().len(), 2, "{:?}", no_files.lacks());
        assert!(Report::off().lacks().is_empty());
    }

    #[test]
    fn a_launcher_that_is_none_is_no_sandbox() {
        let report = Report::ask(Path::new("/bin/true"));
        assert!(!report.is_whole() && report.lacks().len() == 4, "{report:?}");
    }
}
