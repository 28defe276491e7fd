//! What the program does when it was started as a launcher: it makes the outputs, confines itself
//! and becomes another program. It has one thread, so that what confines the thread confines all.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use rustix::process::{Rlimit, getrlimit, setpriority_process, setrlimit};

use super::limits::{NICE, resources};
use super::report::{ASK, Report};
use super::spec::{self, Files, Limits, Spec};

/// The exit code of a launcher that did not get as far as the program. Shells have 126 and 127 for
/// nearly the same.
const FAILED: u8 = 125;

/// Becomes the program that the arguments name; returns only when that fails.
pub(super) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let failed = if args == [ASK] {
        report()
    } else {
        spec::from_args(args.into_iter()).and_then(|spec| start(&spec))
    };
    match failed {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // The agent reads this as what the program said.
            let _ = writeln!(std::io::stderr(), "dmc: the sandbox failed: {why}");
            ExitCode::from(FAILED)
        }
    }
}

fn start(spec: &Spec) -> Result<(), String> {
    let program = Path::new(&spec.command[0]);
    spec.files.writes.iter().try_for_each(|path| make(path))?;
    let report = confine(&spec.files, &spec.limits, program);
    // Whoever wants less than all was told at the start of the agent.
    if spec.required && !report.is_whole() {
        return Err(format!("it is required, but {}", report.lacks().join("; ")));
    }
    let error = Command::new(program).args(&spec.command[1..]).exec();
    Err(format!("{} cannot be started: {error}", program.display()))
}

/// An output must be there before the fence is: so the program needs no right to its directory,
/// which may be one where people keep other files.
fn make(path: &Path) -> Result<(), String> {
    let made = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    made.map(drop).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

/// Confines this process as far as the system can.
fn confine(files: &Files, limits: &Limits, program: &Path) -> Report {
    let mut report = Report { wanted: true, ..Report::default() };
    let mut note = |what: &str, done: Result<(), String>| {
        let trouble = done.map_err(|why| format!("{what}: {why}"));
        trouble.map_err(|trouble| report.troubles.push(trouble)).is_ok()
    };
    let limited = note("limits", limit(limits));
    #[cfg(target_os = "linux")]
    let (abi, called) = {
        let mut abi = 0;
        let fenced = super::fence::raise(files, program).map(|found| abi = found);
        (note("Landlock", fenced).then_some(abi), note("seccomp", super::calls::refuse()))
    };
    #[cfg(not(target_os = "linux"))]
    let (abi, called) = {
        let _ = (files, program);
        let none = || Err("only Linux has it".to_owned());
        (note("Landlock", none()).then_some(0), note("seccomp", none()))
    };
    report.limits = limited;
    report.calls = called;
    report.files = abi.is_some();
    report.landlock_abi = abi.unwrap_or(0);
    report
}

fn limit(limits: &Limits) -> Result<(), String> {
    setpriority_process(None, NICE).map_err(|error| format!("priority: {error}"))?;
    for (resource, max) in resources(limits) {
        // A limit that this process was given itself may only be lowered.
        let max = getrlimit(resource).maximum.map_or(max, |ours| ours.min(max));
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        setrlimit(resource, limit).map_err(|error| format!("{resource:?}: {error}"))?;
    }
    Ok(())
}

/// Confines this process and tells how far that goes: by what it can still do.
fn report() -> Result<(), String> {
    let limits = Limits { memory_bytes: 1 << 32, cpu_s: 60, file_bytes: 1 << 20 };
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/bin/true"));
    let mut report = confine(&Files::default(), &limits, &own);
    let mut check = |kept: &mut bool, broken: bool, trouble: &str| {
        if *kept && broken {
            *kept = false;
            report.troubles.push(trouble.to_owned());
        }
    };
    let (mut files, mut calls) = (report.files, report.calls);
    let read = std::fs::read_dir("/").is_ok();
    check(&mut files, read, "Landlock: the root directory can still be listed");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
    check(&mut calls, socket, "seccomp: a socket can still be made");
    (report.files, report.calls) = (files, calls);
    let json = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| error.to_string())
}
