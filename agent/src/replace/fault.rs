//! Where tests end the program in the middle, hold it, or take an ability away. Only debug builds
//! look at these variables.
//!
//! `DMC_FAULT=kill:NAME` ends the program at the step of that name, `kill:7` at the seventh; `hold:NAME`
//! makes the file `DMC_FAULT_FILE` there, and waits until somebody removes it.

/// A step of a replacement is done.
#[cfg(debug_assertions)]
pub fn at(step: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STEPS: AtomicUsize = AtomicUsize::new(0);

    let number = STEPS.fetch_add(1, Ordering::SeqCst) + 1;
    let Ok(wanted) = std::env::var("DMC_FAULT") else { return };
    let Some((what, place)) = wanted.split_once(':') else { return };
    if place != step && place.parse() != Ok(number) {
        return;
    }
    match what {
        "kill" => end(),
        "hold" => hold(),
        _ => {}
    }
}

#[cfg(debug_assertions)]
fn end() {
    use rustix::process::{Signal, getpid, kill_process};
    let _ = kill_process(getpid(), Signal::KILL);
    loop {
        std::thread::park(); // nothing more is done, even if the signal takes its time
    }
}

#[cfg(debug_assertions)]
fn hold() {
    let Some(file) = std::env::var_os("DMC_FAULT_FILE").map(std::path::PathBuf::from) else {
        return;
    };
    let _ = std::fs::write(&file, "");
    while file.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A step of a replacement is done.
#[cfg(not(debug_assertions))]
pub fn at(_step: &str) {}

/// Whether files shall not exchange their names, as on file systems that cannot do that.
pub fn no_exchange() -> bool {
    cfg!(debug_assertions) && std::env::var_os("DMC_NO_EXCHANGE").is_some()
}
