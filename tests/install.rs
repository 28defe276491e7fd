//! What makes dmc a service, without root: the definitions, the words to the service manager, the
//! scripts of the tarball. With root, `make package-test` boots whole machines for it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bed::free_udp_port;
use crate::support::dmc::{binary, dmc};
use crate::support::process::{Running, run, signal};

const LIMIT: Duration = Duration::from_secs(60);

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Whether a program is there.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Everything below a directory, by name.
fn files(root: &Path) -> Vec<String> {
    let found = run(Command::new("find").arg(root).args(["-type", "f", "-printf", "%P\n"]), LIMIT);
    let mut all: Vec<String> = found.stdout.lines().map(str::to_owned).collect();
    all.sort();
    all
}

/// What the agent told the service manager until one of its words is `wanted`.
fn told(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let (end, mut all) = (Instant::now() + LIMIT, Vec::new());
    let mut bytes = [0; 4_096];
    while Instant::now() < end {
        let Ok(length) = socket.recv(&mut bytes) else { continue };
        all.extend(String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned));
        if all.iter().any(|word| word == wanted) {
            return all;
        }
    }
    panic!("{wanted} was not told within {LIMIT:?}, only {all:?}");
}

#[test]
fn the_service_manager_hears_that_it_listens_lives_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut command = dmc(dir.path(), free_udp_port());
    command.args(["agent", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-discovery"]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000");
    let agent = Running::start(&mut command);
    let words = told(&socket, "READY=1");
    let status = words.iter().find_map(|word| word.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains("peers at port") && status.contains("API at 127.0.0.1:"), "{status}");
    // It is as ready as it says.
    let asked = run(dmc(dir.path(), 0).arg("status"), LIMIT);
    assert!(asked.ok(), "{asked}");
    // A pulse comes again and again, and stops when the process does.
    for _ in 0..3 {
        told(&socket, "WATCHDOG=1");
    }
    signal(agent.id(), rustix::process::Signal::STOP);
    while socket.recv(&mut [0; 4_096]).is_ok() {}
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert!(socket.recv(&mut [0; 4_096]).is_err(), "a stopped agent says that it lives");
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    signal(agent.id(), rustix::process::Signal::CONT);
    signal(agent.id(), rustix::process::Signal::TERM);
    told(&socket, "STOPPING=1");
    let done = agent.wait(LIMIT);
    assert!(done.ok(), "{done}");
}

#[test]
fn lines_for_the_journal_carry_their_level_and_no_time() {
    use std::os::linux::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let about = log.metadata().unwrap();
    let mut command = dmc(dir.path(), free_udp_port());
    command.args(["agent", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--no-discovery"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", about.st_dev(), about.st_ino()));
    let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let text = || fs::read_to_string(dir.path().join("log")).unwrap();
    let end = Instant::now() + LIMIT;
    while !text().contains("agent started") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(crate::support::process::end_tree(&mut child, LIMIT));
    let text = text();
    assert!(text.lines().any(|line| line.starts_with("<6>agent started")), "{text}");
    assert!(text.lines().all(|line| line.starts_with('<') && !line.contains("INFO")), "{text}");
}

#[test]
fn a_service_is_written_below_a_root_and_taken_away_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("image");
    let service = |words: &[&str]| {
        let mut command = dmc(dir.path(), 0);
        command.env("HOME", dir.path()).arg("service").args(words).arg("--root").arg(&root);
        let done = run(&mut command, LIMIT);
        assert!(done.ok(), "{done}");
    };
    service(&["install", "--media", "/data/My Films 🎬", "--media", "/home/ann/-Videos"]);
    let unit = "etc/systemd/system/dmc.service";
    let addition = "etc/systemd/system/dmc.service.d/install.conf";
    assert_eq!(files(&root), ["etc/dmc/config.toml", unit, addition]);
    let text = fs::read_to_string(root.join(addition)).unwrap();
    assert!(text.contains("ReadWritePaths=\"-/data/My Films 🎬\""), "{text}");
    assert!(text.contains("BindPaths=-/home/ann/-Videos"), "{text}");
    // A person's settings are kept, when it is installed again and when it is removed.
    fs::write(root.join("etc/dmc/config.toml"), "slots = 1\n").unwrap();
    service(&["install"]);
    service(&["uninstall"]);
    assert_eq!(files(&root), ["etc/dmc/config.toml"]);
    assert_eq!(fs::read_to_string(root.join("etc/dmc/config.toml")).unwrap(), "slots = 1\n");
    service(&["uninstall", "--purge"]);
    assert!(files(&root).is_empty());
}

#[test]
fn what_another_wrote_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("etc/systemd/system/dmc.service");
    fs::create_dir_all(unit.parent().unwrap()).unwrap();
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    for word in ["install", "uninstall"] {
        let mut command = dmc(dir.path(), 0);
        command.args(["service", word, "--root"]).arg(dir.path());
        let done = run(&mut command, LIMIT);
        assert!(!done.ok() && done.stderr.contains("was not written by dmc"), "{done}");
    }
    assert!(fs::read_to_string(&unit).unwrap().contains("/bin/true"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has("systemd-analyze") {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for format in ["systemd", "systemd-user"] {
        let mut command = dmc(dir.path(), 0);
        command.args(["service", "install", "--print", "--format", format]);
        let done = run(&mut command, LIMIT);
        assert!(done.ok(), "{done}");
        let unit = dir.path().join("dmc-test.service");
        fs::write(&unit, &done.stdout).unwrap();
        let verified =
            run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit), LIMIT);
        // It only warns, and also of the units that this machine brings.
        let about = format!("{}{}", verified.stdout, verified.stderr);
        let ours: Vec<&str> = about.lines().filter(|line| line.contains("dmc-test")).collect();
        // The user of the service is made when it is installed.
        assert!(ours.iter().all(|line| line.contains("user")), "{about}");
    }
}

#[test]
fn the_unit_leaves_little_open() {
    if !has("systemd-analyze") {
        eprintln!("skipped: there is no systemd-analyze here");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::copy(repo().join("agent/packaging/dmc.service"), units.join("dmc.service")).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=25", "--no-pager", "--root"]);
    let done = run(command.arg(root.path()).arg("dmc.service"), LIMIT);
    let last = done.stdout.lines().last().unwrap_or_default().to_owned();
    if done.stderr.contains("unrecognized option") {
        eprintln!("skipped: this systemd-analyze is too old");
        return;
    }
    // The figure, in tenths, must be below the threshold.
    assert!(done.ok(), "{last}\n{done}");
    println!("{last}");
}

#[test]
fn the_tarball_is_installed_for_a_user_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let package = |name: &str| {
        let mut command = Command::new(repo().join("agent/packaging/package.sh"));
        command.arg(name).arg(dir.path()).env("DMC_BIN", binary()).env("DMC_PACKAGE_LEVEL", "1");
        let done = run(&mut command, Duration::from_secs(300));
        assert!(done.ok(), "{done}");
        done.stdout.trim().to_owned()
    };
    let tarball = package("tarball");
    let done = run(Command::new("tar").arg("-C").arg(dir.path()).arg("-xf").arg(&tarball), LIMIT);
    assert!(done.ok(), "{done}");
    let unpacked = tarball.strip_suffix(".tar.gz").unwrap();
    let home = dir.path().join("home of ann");
    fs::create_dir(&home).unwrap();
    let script = |name: &str, words: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(Path::new(unpacked).join(name)).args(words).env("HOME", &home);
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        run(&mut command, LIMIT)
    };
    let done = script("install.sh", &["--user", "--no-service"]);
    assert!(done.ok(), "{done}");
    let installed = files(&home);
    for file in ["bin/dmc", "share/man/man1/dmc-convert.1.gz", "lib/dmc/uninstall.sh"] {
        assert!(installed.contains(&format!(".local/{file}")), "{file} of {installed:?}");
    }
    let there = run(Command::new(home.join(".local/bin/dmc")).arg("--version"), LIMIT);
    assert!(there.ok(), "{there}");
    // Once more, over itself; then what a person has stays.
    assert!(script("install.sh", &["--user", "--no-service"]).ok());
    let state = home.join(".local/share/dmc/identity.key");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, "state").unwrap();
    let done = script("uninstall.sh", &["--user"]);
    assert!(done.ok(), "{done}");
    assert_eq!(files(&home), [".local/share/dmc/identity.key"]);
    assert!(!script("install.sh", &["--nonsense"]).ok());
    assert!(!script("uninstall.sh", &["--user"]).ok(), "there is nothing to remove");
}
