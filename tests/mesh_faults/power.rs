//! A whole agent on a disk whose power is cut: what was not synced is gone.

use std::env;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use dmc_tests::rng::Rng;

use super::apart::{apart, ordinary};
use super::host::Host;
use super::link::must;
use super::mesh::{JOB_LIMIT, Mesh};
use super::watch::wait_until;
use crate::support::dmc::Job;
use crate::support::process::run;
use crate::support::zoo;

/// `EXT4_IOC_SHUTDOWN` with the flag for "do not even flush the journal".
const CUT: &str = "import fcntl,os,struct,sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
const LIMIT: Duration = Duration::from_secs(30);
const WORDS: &[&str] = &["--codec", "h264", "--encoder-speed", "medium", "--segment-seconds", "2"];

/// A loop-mounted ext4 for one of a host's disks; false where there can be none.
fn mount(host: &Host, disk: &str) -> bool {
    let (at, image) = (host.dir.join(disk), host.dir.join(format!("{disk}.image")));
    File::create(&image).unwrap().set_len(400 << 20).unwrap();
    let works = |words: &[&str]| run(Command::new(words[0]).args(&words[1..]), LIMIT).ok();
    let (at, image) = (at.to_str().unwrap(), image.to_str().unwrap());
    works(&["umount", at])
        && works(&["mkfs.ext4", "-qF", image])
        && works(&["mount", "-o", "loop", image, at])
        && works(&["python3", "-V"])
}

/// Cuts the power of a host: both disks stop as they are, then all its processes end.
fn cut(host: &mut Host) {
    host.sleep();
    for disk in ["data", "out"] {
        let at = host.dir.join(disk);
        let done = run(Command::new("python3").args(["-c", CUT]).arg(at), LIMIT);
        assert!(done.ok(), "{done}");
    }
    host.kill(true);
    for disk in ["data", "out"] {
        let (at, image) = (host.dir.join(disk), host.dir.join(format!("{disk}.image")));
        unmount(&at);
        must(&format!("mount -o loop {} {}", image.display(), at.display()));
    }
}

/// A process that was killed lets go of its files a moment later.
fn unmount(at: &Path) {
    for _ in 0..100 {
        if run(Command::new("umount").arg(at), LIMIT).ok() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{} cannot be unmounted", at.display());
}

fn committed(job: &Job) -> usize {
    job.tasks().iter().filter(|task| task["state"] == "committed").count()
}

#[test]
fn a_power_cut_in_the_middle_of_a_conversion_loses_nothing_acknowledged() {
    let name = "power::a_power_cut_in_the_middle_of_a_conversion_loses_nothing_acknowledged";
    let named = env::var("DMC_POWER_CUTS").ok();
    let limit = if named.is_some() { None } else { ordinary() };
    apart(name, limit, |dir| {
        let mut mesh = Mesh::start_with(dir, 2, 50, |host| {
            for disk in ["data", "out"] {
                if host.n == 0 && !mount(host, disk) {
                    println!("skipped: power cuts need root, loop devices, mkfs.ext4 and python3");
                    std::process::exit(0);
                }
            }
        });
        let cuts = named.as_ref().map_or(4, |text| text.parse().unwrap());
        let mut rng = Rng::new(cuts);
        let (mut done, mut round, mut kept) = (0, 0, 0);
        while done < cuts {
            round += 1;
            let asked = mesh.submit(0, &zoo::get("plain.mp4"), &format!("film-{round}.mkv"), WORDS);
            let id = asked.id.clone().unwrap();
            for cut_of_job in 0..rng.within((1, 3)) {
                // The first cuts come early, the others when there is something to lose.
                let wanted = usize::try_from(2 * cut_of_job).unwrap();
                wait_until("some tasks are committed", JOB_LIMIT, || {
                    mesh.hosts[0].job(&id).is_some_and(|job| committed(&job) >= wanted)
                });
                thread::sleep(Duration::from_millis(rng.within((0, 1_500))));
                let before = mesh.hosts[0].job(&id);
                cut(&mut mesh.hosts[0]);
                mesh.hosts[0].note(&format!("FAULT {done} power cut"));
                mesh.hosts[0].start();
                mesh.hosts[0].wait_ready();
                done += 1;
                // What it said before, it still knows.
                let after = mesh.hosts[0].job(&id);
                let after = after.unwrap_or_else(|| panic!("the job is lost: {before:#?}"));
                for task in before.iter().flat_map(|job| job.tasks()) {
                    if task["state"] == "committed" {
                        kept += 1;
                        let index = usize::try_from(task["index"].as_u64().unwrap()).unwrap();
                        let now = after.tasks().get(index).unwrap_or_else(|| panic!("{after:#?}"));
                        assert_eq!(now["state"], "committed", "{now:#}\n{after:#?}");
                    }
                }
            }
            let jobs = mesh.wait_done(JOB_LIMIT);
            mesh.check_result(&asked, &jobs);
            mesh.check_tidy(&jobs);
        }
        println!(
            "power cuts: {done}, jobs: {round}, committed tasks that were still committed: {kept}, lost: 0"
        );
    });
}
