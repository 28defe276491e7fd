//! seccomp: system calls that no conversion needs, refused.
//!
//! A list of what is refused, not of what is allowed: codecs, drivers of graphics cards and C
//! libraries need too many different calls, and other ones with each version. The list covers the
//! network, other processes, the kernel itself, and what older versions of Landlock leave open.

use std::collections::BTreeMap;

use libc::{
    SYS_accept, SYS_accept4, SYS_acct, SYS_add_key, SYS_adjtimex, SYS_bind, SYS_bpf, SYS_chroot,
    SYS_clock_adjtime, SYS_clock_settime, SYS_clone, SYS_clone3, SYS_connect, SYS_delete_module,
    SYS_execveat, SYS_fanotify_init, SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat,
    SYS_finit_module, SYS_fremovexattr, SYS_fsconfig, SYS_fsetxattr, SYS_fsmount, SYS_fsopen,
    SYS_fspick, SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup,
    SYS_ioctl, SYS_kcmp, SYS_kexec_load, SYS_keyctl, SYS_kill, SYS_listen, SYS_lookup_dcookie,
    SYS_lremovexattr, SYS_lsetxattr, SYS_memfd_create, SYS_mount, SYS_mount_setattr,
    SYS_move_mount, SYS_mq_open, SYS_msgget, SYS_name_to_handle_at, SYS_nfsservctl,
    SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open, SYS_pidfd_getfd, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_pivot_root, SYS_prlimit64, SYS_process_madvise,
    SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_quotactl, SYS_reboot,
    SYS_removexattr, SYS_request_key, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_semget,
    SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_setxattr, SYS_shmat,
    SYS_shmget, SYS_socket, SYS_swapoff, SYS_swapon, SYS_syslog, SYS_tgkill, SYS_tkill,
    SYS_truncate, SYS_umount2, SYS_unshare, SYS_userfaultfd, SYS_utimensat, SYS_vhangup, c_long,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// The same number everywhere; not all C libraries have a name for it.
const FCHMODAT2: c_long = 452;

/// Refused whatever their arguments.
const REFUSED: &[c_long] = &[
    // The network: without a socket there is none. UDP is out of reach of most Landlocks.
    SYS_socket,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept,
    SYS_accept4,
    // Other processes: to look into them, to end them, to share memory with them. A program that
    // is only in memory could be run although Landlock lets nothing be run.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_kcmp,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_shmget,
    SYS_shmat,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    SYS_execveat,
    SYS_memfd_create,
    // What Landlock does not cover: who may open files, their times and attributes, and in its
    // first versions their length. Files by number instead of by name.
    SYS_fchmod,
    SYS_fchmodat,
    FCHMODAT2,
    SYS_fchown,
    SYS_fchownat,
    SYS_utimensat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    SYS_truncate,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    // Mounts and namespaces.
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_unshare,
    SYS_setns,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_acct,
    SYS_nfsservctl,
    // Large parts of the kernel that have had many holes. io_uring would also make sockets.
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    SYS_lookup_dcookie,
    // The machine.
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_reboot,
    SYS_syslog,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_vhangup,
];

/// Old forms of the same calls, which newer processors never had.
#[cfg(target_arch = "x86_64")]
const REFUSED_OLD: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLD: &[c_long] = &[];

/// The x32 ABI: the calls of x86-64 under other numbers. Few kernels have it; none needs it here.
#[cfg(target_arch = "x86_64")]
const OTHER_ABI: Option<(c_long, std::ops::Range<c_long>)> = Some((0x4000_0000, 512..548));
#[cfg(not(target_arch = "x86_64"))]
const OTHER_ABI: Option<(c_long, std::ops::Range<c_long>)> = None;

/// Puts words into a terminal's input, as if they were typed there.
const TIOCSTI: u64 = 0x5412;
/// Pastes into a text console.
const TIOCLINUX: u64 = 0x541C;

/// Refuses the calls from now on, for this thread and what it becomes.
///
/// # Errors
/// One sentence about why they are not refused.
pub(super) fn refuse() -> Result<(), String> {
    let pid = u64::from(std::process::id());
    let rules = rules(pid).map_err(|error| error.to_string())?;
    apply(rules, libc::EPERM)?;
    // C libraries take this answer for an old kernel and use `clone`, whose flags can be seen.
    let numbers = [Some(SYS_clone3), OTHER_ABI.map(|(bit, _)| SYS_clone3 | bit)];
    let rules = numbers.into_iter().flatten().map(|call| (call, Vec::new()));
    apply(rules.collect(), libc::ENOSYS)
}

fn apply(rules: BTreeMap<c_long, Vec<SeccompRule>>, errno: i32) -> Result<(), String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let answer = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch);
    let program: Result<BpfProgram, _> = filter.and_then(BpfProgram::try_from);
    apply_filter(&program.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

/// An empty list of rules means always. The process keeps its id when it becomes another program.
fn rules(pid: u64) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let is = SeccompCondition::new;
    let thread = libc::CLONE_THREAD.unsigned_abs().into();
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        REFUSED.iter().chain(REFUSED_OLD).map(|call| (*call, Vec::new())).collect();
    // Threads, but no processes.
    rules.insert(SYS_clone, vec![SeccompRule::new(vec![is(0, Qword, MaskedEq(thread), 0)?])?]);
    // Signals to itself only: `abort` needs that.
    rules.insert(SYS_tgkill, vec![SeccompRule::new(vec![is(0, Dword, Ne, pid)?])?]);
    // Its own limits only; 0 stands for itself.
    let others = vec![is(0, Dword, Ne, 0)?, is(0, Dword, Ne, pid)?];
    rules.insert(SYS_prlimit64, vec![SeccompRule::new(others)?]);
    let typing = [TIOCSTI, TIOCLINUX].map(|request| {
        is(1, Dword, Eq, request).and_then(|condition| SeccompRule::new(vec![condition]))
    });
    rules.insert(SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    if let Some((bit, more)) = OTHER_ABI {
        let known: Vec<c_long> = rules.keys().copied().collect();
        rules.extend(known.into_iter().chain(more).map(|call| (call | bit, Vec::new())));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_ones_that_the_kernel_takes() {
        let rules = rules(1).unwrap();
        assert!(rules[&SYS_socket].is_empty() && !rules[&SYS_clone].is_empty());
        assert!(!rules.contains_key(&libc::SYS_openat) && !rules.contains_key(&libc::SYS_execve));
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        let answer = SeccompAction::Errno(1);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch).unwrap();
        let program = BpfProgram::try_from(filter).unwrap();
        assert!(program.len() < 4096, "{}", program.len());
    }
}
