//! Limits that every Unix can enforce on a process, and its priority.

use std::process::ExitStatus;

use tokio::process::Child;

use super::spec::Limits;

/// The lowest priority: the machine belongs to its user. The disk's scheduler follows it.
pub(super) const NICE: i32 = 19;
/// Files that a program may have open: libraries, inputs, and the threads' own.
#[cfg(unix)]
pub(super) const OPEN_FILES_MAX: u64 = 1024;
/// SVT-AV1 hangs below 2 GB even for small pictures, so a small machine gets no less than this.
const MEMORY_BYTES_MIN: u64 = 4 << 30;

/// The machine's memory in bytes; the most there can be where that cannot be asked.
pub(crate) fn machine_memory_bytes() -> u64 {
    #[cfg(target_os = "linux")]
    let total = {
        let info = rustix::system::sysinfo();
        // The type of these fields depends on the processor.
        #[allow(clippy::useless_conversion)]
        u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit.max(1)))
    };
    #[cfg(not(target_os = "linux"))]
    let total = u64::MAX;
    total
}

/// Three quarters of the machine's memory, in bytes: what asks for more takes the machine down.
pub(super) fn memory_bytes_default() -> u64 {
    MEMORY_BYTES_MIN.max(machine_memory_bytes() / 4 * 3)
}

/// Limits a program that has just started, from outside, where there is no launcher.
pub(crate) fn limit(child: &Child, limits: &Limits) {
    #[cfg(target_os = "linux")]
    if let Some(pid) = pid_of(child) {
        use rustix::process::{prlimit, setpriority_process};
        // Best effort: a program that is gone already needs no limits.
        let _ = setpriority_process(Some(pid), NICE);
        for (resource, max) in resources(limits) {
            let limit = rustix::process::Rlimit { current: Some(max), maximum: Some(max) };
            let _ = prlimit(Some(pid), resource, limit);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (child, limits, NICE);
}

/// What is limited, and to how much. The soft limit is the hard one: ffmpeg takes the signal of a
/// soft limit on processor time for a wish to end in peace.
#[cfg(unix)]
pub(super) fn resources(limits: &Limits) -> [(rustix::process::Resource, u64); 5] {
    use rustix::process::Resource;
    [
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_s.max(1)),
        (Resource::Fsize, limits.file_bytes),
        (Resource::Core, 0),
        (Resource::Nofile, OPEN_FILES_MAX),
    ]
}

/// How a program ended, in words: a limit shows as a signal.
pub(crate) fn ended(status: ExitStatus, limits: &Limits) -> String {
    #[cfg(unix)]
    {
        use rustix::process::Signal;
        use std::os::unix::process::ExitStatusExt;
        let Limits { memory_bytes, cpu_s, file_bytes } = limits;
        let signal = status.signal();
        let is = |one: Signal| signal == Some(one.as_raw());
        if is(Signal::XFSZ) {
            return format!(
                "it wrote more than {file_bytes} bytes into one file, which no honest result \
                 needs, and was stopped"
            );
        }
        if is(Signal::KILL) || is(Signal::XCPU) {
            return format!(
                "it was killed: by somebody, for want of memory, or because it used more than \
                 {cpu_s} s of processor time"
            );
        }
        if is(Signal::SEGV) || is(Signal::ABORT) {
            return format!(
                "it crashed ({status}): the file is damaged or hostile, or {memory_bytes} bytes \
                 of memory (the setting sandbox_memory_bytes) are too few"
            );
        }
    }
    let _ = limits;
    status.to_string()
}

#[cfg(unix)]
pub(super) fn pid_of(child: &Child) -> Option<rustix::process::Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_limit_is_named_when_it_ends_a_program() {
        let limits = Limits { memory_bytes: 11, cpu_s: 22, file_bytes: 33 };
        let words = |signal| ended(ExitStatus::from_raw(signal), &limits);
        assert!(words(25).contains("33 bytes"), "{}", words(25));
        assert!(words(9).contains("22 s"), "{}", words(9));
        assert!(words(11).contains("11 bytes"), "{}", words(11));
        assert_eq!(ended(ExitStatus::from_raw(1 << 8), &limits), "exit status: 1");
    }

    #[test]
    fn small_machines_can_still_encode() {
        assert!(memory_bytes_default() >= MEMORY_BYTES_MIN);
    }
}
