//! ffmpeg lives on when its agent is killed. The next agent with the same data directory ends what
//! the last one left running: it would cost the machine's time for a result that nobody fetches,
//! and write into directories that are used anew.
//!
//! Every program that an agent starts carries the agent's id in its environment, so that programs
//! of other agents and of people are never touched. Works on Linux; elsewhere leftovers end by
//! themselves when their work is done.

use dmc_protocol::id::AgentId;

/// The variable in the environment of every program that an agent starts.
pub(crate) const MARK: &str = "DMC_CHILD_OF";

/// Ends the programs that an earlier run of this agent left behind, and waits until they are gone;
/// returns how many there were. Call it while the data directory is locked and before anything is
/// started. Blocks, for a few milliseconds as a rule.
pub fn end(agent: AgentId) -> usize {
    imp::end(&format!("{MARK}={agent}"))
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::OwnedFd;
    use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

    /// A program in the middle of a disk operation cannot end before that does.
    const GONE_LIMIT: Duration = Duration::from_secs(10);

    pub(super) fn end(mark: &str) -> usize {
        let mut ended = 0;
        let limit = Instant::now() + GONE_LIMIT;
        for pid in marked(mark) {
            let Some(process) = kill(pid, mark) else { continue };
            ended += 1;
            let left = limit.saturating_duration_since(Instant::now());
            if !is_gone(&process, left) {
                let pid = pid.as_raw_nonzero();
                tracing::warn!(%pid, "a program of an earlier run does not end");
            }
        }
        ended
    }

    /// Every process with the mark, but not this one.
    fn marked(mark: &str) -> Vec<Pid> {
        let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(Pid::from_raw)
            .filter(|pid| *pid != getpid() && has_mark(*pid, mark))
            .collect()
    }

    fn has_mark(pid: Pid, mark: &str) -> bool {
        // What cannot be read belongs to somebody else, or ended.
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
        environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
    }

    /// The number may be given away at any moment. The descriptor stays with the process that had
    /// the number when it was opened, so the mark is read once more after that.
    fn kill(pid: Pid, mark: &str) -> Option<OwnedFd> {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        if !has_mark(pid, mark) {
            return None;
        }
        pidfd_send_signal(&process, Signal::KILL).ok()?;
        Some(process)
    }

    fn is_gone(process: &OwnedFd, limit: Duration) -> bool {
        let timeout = Timespec::try_from(limit).ok();
        let mut waited = [PollFd::new(process, PollFlags::IN)];
        matches!(poll(&mut waited, timeout.as_ref()), Ok(1))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::process::Command;

        #[test]
        fn only_marked_programs_are_ended() {
            let unique = format!("{}-{}", std::process::id(), rand::random::<u64>());
            let sleep = |mark: &str| {
                let mut command = Command::new("sleep");
                let child = command.arg("300").env("DMC_TEST_CHILD_OF", mark).spawn().unwrap();
                // The kernel lets a parent go on before the child's environment is laid out.
                let place = format!("/proc/{}/environ", child.id());
                while std::fs::read(&place).unwrap().is_empty() {
                    std::thread::yield_now();
                }
                child
            };
            let mut ours = [sleep(&unique), sleep(&unique)];
            let mut others = [sleep(&format!("{unique}0")), sleep("")];
            assert_eq!(end(&format!("DMC_TEST_CHILD_OF={unique}")), 2);
            let left = others.iter_mut().map(|child| child.try_wait().unwrap().is_none());
            let left: Vec<bool> = left.collect();
            for other in &mut others {
                other.kill().unwrap();
                other.wait().unwrap();
            }
            // They were gone when `end` returned: nothing is waited for here.
            assert!(ours.iter_mut().all(|child| child.try_wait().unwrap().is_some()));
            assert_eq!(left, [true, true], "programs of others");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    pub(super) fn end(_mark: &str) -> usize {
        0
    }
}
