//! Limits on running programs.

use tokio::process::Child;

/// The lowest priority: the machine belongs to its user.
const NICE: i32 = 19;

/// Gives a program that has just started the lowest priority, no core dumps and a limit to
/// the size of its files.
pub(crate) fn confine(child: &Child, file_bytes_max: Option<u64>) {
    #[cfg(target_os = "linux")]
    if let Some(pid) = pid_of(child) {
        use rustix::process::{Resource, Rlimit, prlimit, setpriority_process};
        // Best effort: a program that is gone already needs no limits.
        let _ = setpriority_process(Some(pid), NICE);
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        let _ = prlimit(Some(pid), Resource::Core, none);
        if let Some(max) = file_bytes_max {
            let limit = Rlimit { current: Some(max), maximum: Some(max) };
            let _ = prlimit(Some(pid), Resource::Fsize, limit);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (child, file_bytes_max, NICE);
}

/// Kills a program and all that it started.
pub(crate) fn kill_group(child: &Child) {
    #[cfg(unix)]
    if let Some(pid) = pid_of(child) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = child;
}

#[cfg(unix)]
fn pid_of(child: &Child) -> Option<rustix::process::Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
}
