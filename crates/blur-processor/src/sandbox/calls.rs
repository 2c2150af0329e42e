//! seccomp: which system calls can be made from now on.
//!
//! Strict is a list of what is allowed: memory, threads, time, and reading and writing of files that
//! are open or that Landlock lets be opened. It was made by running the default plugin and every
//! codec that the tests use, and holds beside it what other versions of the C library call in their
//! place. Relaxed is a list of what is refused, since nobody knows what a user's module calls: the
//! network, and what is only ever needed to get at other processes or the kernel.
//!
//! A refused call fails with EPERM, so that code which only tries its luck goes on without.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::Profile;

/// Confines all threads of this process and all they start.
///
/// # Errors
/// What the kernel does not enforce, in words.
pub(super) fn confine(profile: Profile) -> Result<(), String> {
    let filters = match profile {
        Profile::Strict => vec![without_clone3(), strict()],
        Profile::Relaxed => vec![relaxed()],
        Profile::Off => Vec::new(),
    };
    for filter in filters {
        filter
            .map_err(|error| error.to_string())
            .and_then(|program| {
                seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
            })
            .map_err(|error| format!("a filter of system calls ({error})"))?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn program(
    rules: Rules,
    otherwise: SeccompAction,
    matching: SeccompAction,
) -> seccompiler::Result<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, otherwise, matching, arch)?;
    Ok(BpfProgram::try_from(filter)?)
}

fn refuse() -> SeccompAction {
    SeccompAction::Errno(libc::EPERM as u32)
}

/// Any call of these.
fn always(calls: &[i64]) -> impl Iterator<Item = (i64, Vec<SeccompRule>)> + '_ {
    calls.iter().map(|call| (*call, Vec::new()))
}

/// Only with such an argument.
fn when(condition: SeccompCondition) -> seccompiler::Result<Vec<SeccompRule>> {
    Ok(vec![SeccompRule::new(vec![condition])?])
}

fn strict() -> seccompiler::Result<BpfProgram> {
    let mut rules: Rules = always(ALLOWED).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(always(ALLOWED_X86_64));
    // Threads, but no processes.
    let thread = libc::CLONE_THREAD as u64;
    let makes_a_thread = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        SeccompCmpOp::MaskedEq(thread),
        thread,
    )?;
    rules.insert(libc::SYS_clone, when(makes_a_thread)?);
    rules.insert(libc::SYS_socketpair, pairs()?);
    // The kernel lets a process do the following to any other of the same user, recorders included.
    let process = std::process::id();
    // Process ids are compared as 32 bits.
    let (own, group) = (u64::from(process), u64::from(process.wrapping_neg()));
    rules.insert(libc::SYS_kill, is_one_of(0, &[own, group])?);
    rules.insert(libc::SYS_tgkill, is_one_of(0, &[own])?);
    rules.insert(libc::SYS_prlimit64, is_one_of(0, &[0, own])?);
    for call in SCHEDULING {
        rules.insert(*call, is_one_of(0, &[0, own])?);
    }
    let itself = [
        argument(0, SeccompCmpOp::Eq, libc::PRIO_PROCESS as u64)?,
        argument(1, SeccompCmpOp::Eq, 0)?,
    ];
    let rule = SeccompRule::new(itself.to_vec())?;
    rules.insert(libc::SYS_setpriority, vec![rule]);
    program(rules, refuse(), SeccompAction::Allow)
}

/// Pairs of connected sockets within the process. Not of datagrams: those can be sent anywhere
/// else, too, by whoever names an address.
fn pairs() -> seccompiler::Result<Vec<SeccompRule>> {
    // Above the type lie flags.
    let kind = SeccompCmpOp::MaskedEq(0xf);
    [libc::SOCK_STREAM, libc::SOCK_SEQPACKET]
        .iter()
        .map(|wanted| {
            let kind = argument(1, kind.clone(), *wanted as u64)?;
            Ok(SeccompRule::new(vec![family(SeccompCmpOp::Eq)?, kind])?)
        })
        .collect()
}

/// Only with one of these as that argument.
fn is_one_of(number: u8, values: &[u64]) -> seccompiler::Result<Vec<SeccompRule>> {
    values
        .iter()
        .map(|value| {
            let is = argument(number, SeccompCmpOp::Eq, *value)?;
            Ok(SeccompRule::new(vec![is])?)
        })
        .collect()
}

/// Compares an argument of 32 bits.
fn argument(number: u8, how: SeccompCmpOp, value: u64) -> seccompiler::Result<SeccompCondition> {
    Ok(SeccompCondition::new(
        number,
        SeccompCmpArgLen::Dword,
        how,
        value,
    )?)
}

/// The flags of clone3 lie in memory, where a filter cannot look. Told that there is no such call, the C
/// library falls back to clone.
fn without_clone3() -> seccompiler::Result<BpfProgram> {
    let rules = always(&[libc::SYS_clone3]).collect();
    program(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )
}

fn relaxed() -> seccompiler::Result<BpfProgram> {
    let mut rules: Rules = always(REFUSED).collect();
    rules.insert(libc::SYS_socket, when(family(SeccompCmpOp::Ne)?)?);
    // Limits of others, recorders included; what a module starts has process ids that nobody knows yet.
    let others = argument(0, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, when(others)?);
    // Typing into the terminal that the program was started from.
    let types = is_one_of(1, &[libc::TIOCSTI, libc::TIOCLINUX])?;
    rules.insert(libc::SYS_ioctl, types);
    program(rules, SeccompAction::Allow, refuse())
}

/// Compares a new socket's family with that of sockets within this machine.
fn family(how: SeccompCmpOp) -> seccompiler::Result<SeccompCondition> {
    argument(0, how, libc::AF_UNIX as u64)
}

const ALLOWED: &[i64] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    // threads; clone3 is taken away again
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getcpu,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getattr,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // signals; sent only within the process, and to its group, which it ends when the dispatcher is gone
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // time
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_setitimer,
    libc::SYS_getitimer,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    // who and where it is
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_getpriority,
    libc::SYS_umask,
    // files
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // the socket to the dispatcher
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
];

/// How a process is scheduled; zero names the caller.
const SCHEDULING: &[i64] = &[
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setattr,
];

/// Older calls that this architecture still has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_X86_64: &[i64] = &[
    libc::SYS_arch_prctl,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_eventfd,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
];

const REFUSED: &[i64] = &[
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    // ways around this filter
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // the kernel and the machine
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    // other views of the file system
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
];
