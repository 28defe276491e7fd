//! Power cuts: an ext4 image that is shut down without writing its caches. What was synced is
//! there afterwards, the rest is not. Needs root, loop devices and python3; skipped without.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command};

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

#[test]
fn acknowledged_state_survives_power_cuts() {
    let dir = tempfile::tempdir().unwrap();
    // Mounts in a namespace of its own are gone with it, however the test ends.
    let program = ["unshare", "-m", "--propagation", "private"];
    let output = child::command(&program, "power_cut::child_cuts_power", dir.path()).output();
    let Ok(output) = output else {
        println!("skipped: unshare is missing");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("skipped") || text.is_empty() {
        println!("skipped: power cuts need root, loop devices, mkfs.ext4 and python3");
        return;
    }
    assert!(output.status.success() && text.contains("all checked"), "{output:?}");
}

#[test]
fn child_cuts_power() {
    let Some(dir) = child::directory() else { return };
    let (image, disk) = (dir.join("image"), dir.join("disk"));
    std::fs::create_dir(&disk).unwrap();
    std::fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    let (image, disk_text) = (image.to_str().unwrap(), disk.to_str().unwrap());
    let mount = ["mount", "-o", "loop", image, disk_text];
    if !works(&["python3", "-V"]) || !works(&["mkfs.ext4", "-qF", image]) || !works(&mount) {
        println!("\nskipped");
        return;
    }
    let cut = |child: &mut Child| {
        run(&["kill", "-STOP", &child.id().to_string()]);
        run(&["python3", "-c", CUT, disk_text]);
        child.kill().unwrap();
    };
    let remount = || {
        run(&["umount", disk_text]);
        run(&mount);
    };
    cut_commits(&disk.join("kv"), cut, remount);
    for lines in [1, 3] {
        let dir = disk.join(format!("transfer-{lines}"));
        let until = (lines, "saved ");
        let lines = child::stop_after(until, "crash::child_transfers", &dir, cut);
        remount();
        crash::check_transfer(&dir, &lines);
        crash::complete_transfer(&dir);
    }
    for lines in [1, 10, 40] {
        let dir = disk.join(format!("results-{lines}"));
        let until = (lines, "stored ");
        let lines = child::stop_after(until, "crash::child_stores_results", &dir, cut);
        remount();
        crash::check_results(&dir, &lines);
    }
    println!("\nall checked");
}

fn cut_commits(dir: &Path, cut: impl Fn(&mut Child), remount: impl Fn()) {
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let until = (7 + round * 53, "ack ");
        let lines = child::stop_after(until, "crash::child_commits", dir, &cut);
        remount();
        crash::check_commits(dir, &mut acknowledged, lines);
    }
}
