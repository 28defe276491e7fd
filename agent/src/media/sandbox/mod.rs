//! What confines ffmpeg and ffprobe, which read files that anybody may have made.
//!
//! The agent does not start them itself. It starts its own program anew, as a *launcher*, with what
//! the call may read and write and its limits (`spec`); the launcher confines itself and then
//! becomes ffmpeg (`launcher`). So the limits hold before ffmpeg's first instruction, and no
//! unsafe code is needed between fork and exec.
//!
//! On Linux Landlock fences files and TCP in (`fence`, `files`), and seccomp refuses system calls
//! that no conversion needs (`calls`). Limits and priority are there on every Unix. What is
//! missing is said once by the agent and by `dmc doctor` (`report`), and refused where the setting
//! `sandbox` is `required`.

#[cfg(target_os = "linux")]
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")),
    path = "no_calls.rs"
)]
mod calls;
#[cfg(target_os = "linux")]
mod elf;
#[cfg(target_os = "linux")]
mod fence;
#[cfg(target_os = "linux")]
mod files;
#[cfg(unix)]
mod launcher;
mod limits;
mod report;
mod spec;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use tokio::process::{Child, Command};

pub(crate) use limits::{ended, limit, machine_memory_bytes};
pub use report::Report;
pub(crate) use spec::{Files, Limits};

use crate::config::{Sandboxing, Settings};

/// The first argument of the launcher.
const WORD: &str = "__sandbox";

/// The program that knows [`WORD`]; nobody says so in tests of the library.
static LAUNCHER: OnceLock<PathBuf> = OnceLock::new();

/// To be called first in `main` of the program `dmc`, with the program's arguments and while it has
/// one thread. If it was started as a launcher, this ends in another program, or returns the exit
/// code of a failure. Otherwise it returns `None`, and from then on this program is what
/// [`Sandbox::new`] uses as a launcher.
pub fn entry() -> Option<ExitCode> {
    #[cfg(unix)]
    {
        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|word| word == WORD) {
            return Some(launcher::main(args));
        }
        // This name stays right when the program's file is replaced while it runs.
        let own = Path::new("/proc/self/exe");
        let own = if own.exists() { Some(own.to_owned()) } else { std::env::current_exe().ok() };
        if let Some(own) = own {
            let _ = LAUNCHER.set(own);
        }
    }
    None
}

/// Why there is no agent without a whole sandbox.
#[derive(Debug, thiserror::Error)]
#[error(
    "the setting sandbox = \"required\" cannot be kept here: {lacks}. {}, or set \
     sandbox = \"auto\" to run ffmpeg with what there is",
    report::MEND
)]
pub struct Lacking {
    /// What is missing.
    lacks: String,
}

/// How ffmpeg is confined. The default is not at all, except for limits that are set from outside.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    launcher: Option<PathBuf>,
    /// A call that cannot be fenced in fails.
    required: bool,
    memory_bytes: u64,
}

impl Sandbox {
    /// As the settings want it, and what of it is enforced here. Starts a process that tries it:
    /// blocks, for some milliseconds.
    ///
    /// # Errors
    /// [`Lacking`] when the settings require what this machine has not.
    pub fn new(settings: &Settings) -> Result<(Sandbox, Report), Lacking> {
        let memory_bytes = settings.sandbox_memory_bytes;
        if settings.sandbox == Sandboxing::Off {
            let sandbox = Sandbox { memory_bytes, ..Sandbox::default() };
            return Ok((sandbox, Report::off()));
        }
        let required = settings.sandbox == Sandboxing::Required;
        let launcher = LAUNCHER.get().cloned();
        let report = launcher.as_deref().map_or_else(Report::no_launcher, Report::ask);
        if required && !report.is_whole() {
            return Err(Lacking { lacks: report.lacks().join("; ") });
        }
        Ok((Sandbox { launcher, required, memory_bytes }, report))
    }

    /// Whether programs are started by a launcher.
    pub(crate) fn is_on(&self) -> bool {
        self.launcher.is_some()
    }

    /// The most memory that a program may ask for, in bytes: as set, or by the machine's.
    pub(crate) fn memory_bytes(&self) -> u64 {
        if self.memory_bytes > 0 { self.memory_bytes } else { limits::memory_bytes_default() }
    }

    /// The command that runs a program; its arguments are to be added.
    pub(crate) fn command(&self, program: &Path, files: &Files, limits: &Limits) -> Command {
        let Some(launcher) = &self.launcher else { return Command::new(program) };
        let mut command = Command::new(launcher);
        #[cfg(unix)]
        command.arg0("dmc");
        command.env_clear();
        command.envs(std::env::vars_os().filter(|(name, _)| is_needed(name)));
        command.arg(WORD).args(spec::to_args(files, limits, self.required)).arg(program);
        command
    }
}

/// Whether a program may see that variable of the agent's environment: secrets are kept in others.
fn is_needed(name: &OsStr) -> bool {
    const NAMES: [&str; 5] = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "SVT_LOG"];
    // Where drivers and libraries are, and how encoders on graphics cards are chosen.
    const BEGIN: [&str; 8] =
        ["LIBVA_", "VDPAU_", "NVIDIA_", "CUDA_", "MESA_", "FONTCONFIG_", "NIX_LD", "MALLOC_"];
    let Some(name) = name.to_str() else { return false };
    NAMES.contains(&name) || BEGIN.iter().any(|begin| name.starts_with(begin))
}

/// Kills a program and all that it started.
pub(crate) fn kill_group(child: &Child) {
    #[cfg(unix)]
    if let Some(pid) = limits::pid_of(child) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = child;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_environment_are_kept_from_ffmpeg() {
        for (name, kept) in [("PATH", true), ("LIBVA_DRIVER_NAME", true), ("HOME", false)] {
            assert_eq!(is_needed(OsStr::new(name)), kept, "{name}");
        }
        for secret in ["AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "DMC_MESH_KEY", "LD_PRELOAD"] {
            assert!(!is_needed(OsStr::new(secret)), "{secret}");
        }
    }

    #[test]
    fn without_a_launcher_a_required_sandbox_is_refused() {
        let settings = |sandbox| Settings { sandbox, ..Settings::default() };
        let error = Sandbox::new(&settings(Sandboxing::Required)).unwrap_err().to_string();
        assert!(error.contains("sandbox = \"auto\""), "{error}");
        let (sandbox, report) = Sandbox::new(&settings(Sandboxing::Auto)).unwrap();
        assert!(!sandbox.is_on() && !report.is_whole() && !report.lacks().is_empty());
        let (sandbox, report) = Sandbox::new(&settings(Sandboxing::Off)).unwrap();
        assert!(!sandbox.is_on() && report.lacks().is_empty());
    }
}
