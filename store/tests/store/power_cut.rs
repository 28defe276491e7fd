//! Power cuts: an ext4 image that is shut down without writing its caches. What was synced is
//! there afterwards, the rest is not. Needs root, loop devices and python3; skipped without.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use dmc_store::Kv;

use crate::{child, crash};

/// `EXT4_IOC_SHUTDOWN` with the flag for "do not even flush the journal".
const CUT: &str = "import fcntl,os,struct,sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// Whether a command succeeds.
fn works(words: &[&str]) -> bool {
    let output = Command::new(words[0]).args(&words[1..]).output();
    output.is_ok_and(|output| output.status.success())
}

fn run(words: &[&str]) {
    assert!(works(words), "{words:?} failed");
}

/// How many power cuts a test makes: `DMC_POWER_CUTS`, or a few.
fn cuts() -> usize {
    std::env::var("DMC_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

/// Runs one of the tests below in a mount namespace, whose mounts are gone with it, however the
/// test ends; what it printed, or none where there can be no power cuts.
fn with_mounts(test: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let program = ["unshare", "-m", "--propagation", "private"];
    let output = child::command(&program, test, dir.path()).output();
    let Ok(output) = output else {
        println!("skipped: unshare is missing");
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("skipped") || text.is_empty() {
        println!("skipped: power cuts need root, loop devices, mkfs.ext4 and python3");
        return None;
    }
    assert!(output.status.success() && text.contains("power cuts: "), "{output:?}");
    let line = text.lines().find(|line| line.starts_with("power cuts: "));
    println!("{}", line.unwrap_or_default());
    Some(text)
}

#[test]
fn acknowledged_state_survives_power_cuts() {
    with_mounts("power_cut::child_cuts_power");
}

/// The negative control: the same cuts, without the one fsync that sled does not do.
#[test]
fn without_the_fsync_power_cuts_lose_acknowledged_state() {
    let Some(text) = with_mounts("power_cut::child_cuts_power_without_fsync") else { return };
    assert!(text.contains("harm: "), "the check cannot fail: {text}");
}

/// An ext4 image whose power can be cut.
struct Disk {
    image: String,
    at: PathBuf,
}

impl Disk {
    /// None where there can be none.
    fn mount(dir: &Path) -> Option<Disk> {
        let (image, at) = (dir.join("image"), dir.join("disk"));
        std::fs::create_dir(&at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let disk = Disk { image: image.to_str().unwrap().to_owned(), at };
        let made = works(&["python3", "-V"]) && works(&["mkfs.ext4", "-qF", &disk.image]);
        if made && works(&disk.mounting()) {
            return Some(disk);
        }
        println!("\nskipped");
        None
    }

    fn mounting(&self) -> [&str; 5] {
        ["mount", "-o", "loop", &self.image, self.at.to_str().unwrap()]
    }

    /// Runs a child until it said so many lines, cuts the power and mounts the disk again.
    fn cut(&self, until: (usize, &str), test: &str, dir: &Path) -> Vec<String> {
        let lines = child::stop_after(until, test, dir, |child: &mut Child| {
            run(&["kill", "-STOP", &child.id().to_string()]);
            run(&["python3", "-c", CUT, self.at.to_str().unwrap()]);
            child.kill().unwrap();
        });
        run(&["umount", self.at.to_str().unwrap()]);
        run(&self.mounting());
        lines
    }
}

#[test]
fn child_cuts_power() {
    let Some(dir) = child::directory() else { return };
    let Some(disk) = Disk::mount(&dir) else { return };
    let (cuts, mut states) = (cuts(), 0);
    let mut acknowledged = BTreeSet::new();
    for round in 0..cuts {
        let at = disk.at.join(format!("round-{round}"));
        match round % 4 {
            // The same database lives on through all rounds.
            0 | 2 => {
                let (until, kv) = ((1 + round * 53 % 307, "ack "), disk.at.join("kv"));
                let lines = disk.cut(until, "crash::child_commits", &kv);
                states += lines.len();
                crash::check_commits(&kv, &mut acknowledged, lines);
            }
            1 => {
                let until = (1 + round / 4 % 7, "saved ");
                let lines = disk.cut(until, "crash::child_transfers", &at);
                states += lines.len();
                crash::check_transfer(&at, &lines);
                crash::complete_transfer(&at);
            }
            _ => {
                let until = (1 + round * 11 % 41, "stored ");
                let lines = disk.cut(until, "crash::child_stores_results", &at);
                states += lines.len();
                crash::check_results(&at, &lines);
            }
        }
        // It would be full after some hundred rounds.
        let _none = std::fs::remove_dir_all(&at);
    }
    println!("\npower cuts: {cuts}, states acknowledged: {states}, lost: 0");
}

#[test]
fn child_commits_without_fsync() {
    let Some(dir) = child::directory() else { return };
    crash::commit_until_stopped(&Kv::open_without_fsync(&dir).unwrap());
}

#[test]
fn child_cuts_power_without_fsync() {
    let Some(dir) = child::directory() else { return };
    let Some(disk) = Disk::mount(&dir) else { return };
    let (mut harmed, mut example) = (0, String::new());
    for round in 0..cuts() {
        // What harms one round must not harm the next.
        let (kv, mut acknowledged) = (disk.at.join(format!("kv-{round}")), BTreeSet::new());
        let until = (1 + round * 53 % 307, "ack ");
        let lines = disk.cut(until, "power_cut::child_commits_without_fsync", &kv);
        if let Some(harm) = crash::find_harm(&kv, &mut acknowledged, lines) {
            (harmed, example) = (harmed + 1, harm);
        }
        let _gone = std::fs::remove_dir_all(&kv);
    }
    println!("\npower cuts: {} without fsync, harmed: {harmed}", cuts());
    if harmed > 0 {
        println!("harm: {example}");
    }
}
