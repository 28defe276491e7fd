//! Hostile media and hostile programs against the sandbox.
//!
//! Each attack is made twice: confined, where it must fail, and without the fence, where it must
//! succeed: otherwise the test could not fail. The commands given to ffmpeg here are weaker than
//! dmc's own on purpose, without its lists of formats and protocols, so that the sandbox alone has
//! to hold. What dmc itself says to the same files is tested too.

use std::ffi::OsStr;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::bed::free_udp_port;
use crate::support::dmc::{binary, dmc};
use crate::support::process::{Finished, run};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(240);
/// What no attack may bring to light.
const CANARY: &str = "CANARY-8f31c0";
/// Reads like a subtitle, so that ffmpeg finds something in it.
const SECRET: &str = "1\n00:00:00,000 --> 00:00:05,000\nCANARY-8f31c0\n";

/// A directory with a secret, and what attacks it.
struct Cell {
    dir: TempDir,
}

impl Cell {
    /// `None` where the system has no whole sandbox; that is said.
    fn new() -> Option<Cell> {
        let report = run(Command::new(binary()).args(["__sandbox", "--report"]), LIMIT);
        let report: Value = serde_json::from_str(&report.stdout).unwrap_or_default();
        if ["files", "calls", "limits"].iter().any(|part| report[part] != true) {
            eprintln!("skipped: no whole sandbox here: {report}");
            return None;
        }
        let cell = Cell { dir: tempfile::Builder::new().prefix("dmc-test-").tempdir().unwrap() };
        cell.write("secret.srt", SECRET);
        Some(cell)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), text).unwrap();
        self.text(name)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Runs a command, confined to `may` or as it is. Words are split at spaces; `@name` is a file
    /// of the cell.
    fn run(&self, fence: Fence<'_>, command: &str) -> Finished {
        let words = |text: &str| -> Vec<String> {
            let words = text.split_ascii_whitespace();
            words.map(|word| self.named(word)).collect()
        };
        let mut all = words(command);
        all[0] = program(&all[0]).to_str().unwrap().to_owned();
        let mut command = match fence {
            Fence::None => Command::new(&all[0]),
            Fence::May(may) => {
                let mut command = Command::new(binary());
                command.args(["__sandbox", "--required"]).args(words(may)).arg("--").arg(&all[0]);
                command
            }
        };
        let done = run(command.args(&all[1..]).current_dir(self.dir.path()), LIMIT);
        eprintln!("{done}");
        done
    }

    fn named(&self, word: &str) -> String {
        match word.split_once('@') {
            Some((before, name)) => format!("{before}{}", self.text(name)),
            None => word.to_owned(),
        }
    }
}

/// How a command is run.
#[derive(Clone, Copy)]
enum Fence<'a> {
    /// As it is: the attack must succeed.
    None,
    /// By the launcher, with these options.
    May(&'a str),
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join(name));
    files.find(|file| file.is_file()).unwrap_or_else(|| panic!("no program {name}"))
}

/// A picture of 100,000 × 100,000 pixels, as far as its header goes.
fn huge_png() -> Vec<u8> {
    let crc = |bytes: &[u8]| {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |c, _| {
                if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 }
            })
        })
    };
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&100_000_u32.to_be_bytes()[..], &100_000_u32.to_be_bytes(), &[8, 2, 0, 0, 0]];
    for (name, data) in [(b"IHDR", header.concat()), (b"IDAT", vec![0x78, 0x9c]), (b"IEND", vec![])]
    {
        png.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        let chunk = [&name[..], &data].concat();
        png.extend(&chunk);
        png.extend(crc(&chunk).to_be_bytes());
    }
    png
}

/// Fills the cell with films that are none, all named like films.
fn hostile_files(cell: &Cell, port: u16) {
    let make = "ffmpeg -nostdin -f lavfi -i testsrc2=s=64x64:d=1 -c:v mpeg2video @secret.ts";
    assert!(cell.run(Fence::None, make).ok());
    let list = |what: &str| {
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{what}\n#EXT-X-ENDLIST\n")
    };
    cell.write("passwd.mp4", list("file:///etc/passwd"));
    cell.write("playlist.mp4", list("secret.ts"));
    cell.write("http.mp4", list(&format!("http://127.0.0.1:{port}/x.ts")));
    cell.write("concat.mkv", "ffconcat version 1.0\nfile secret.srt\n");
    cell.write("passwd.mkv", "ffconcat version 1.0\nfile /etc/passwd\n");
    cell.write("huge.png", huge_png());
}

#[test]
fn dmc_refuses_hostile_media_with_and_without_a_sandbox() {
    let Some(cell) = Cell::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    hostile_files(&cell, listener.local_addr().unwrap().port());
    let made = cell.run(
        Fence::None,
        "ffmpeg -loglevel error -f lavfi -i testsrc2=s=64x64:r=1:d=2 \
         -vf setpts=N*20*86400/TB -fps_mode passthrough -c:v ffv1 @long.mkv",
    );
    assert!(made.ok(), "{made}");
    assert!(run(Command::new("mkfifo").arg(cell.path("endless.ts")), LIMIT).ok());
    let cases = [
        ("passwd.mp4", "playlist or a script"),
        ("playlist.mp4", "playlist or a script"),
        ("http.mp4", "playlist or a script"),
        ("concat.mkv", "playlist or a script"),
        ("passwd.mkv", "playlist or a script"),
        ("huge.png", "100000×100000"),
        ("long.mkv", "20 days"),
        ("endless.ts", "not a regular file"),
    ];
    for sandbox in ["required", "off"] {
        let data = cell.path(sandbox);
        let mut command = dmc(&data, free_udp_port());
        command.env("DMC_SANDBOX", sandbox).args(["convert", "--output-dir"]).arg(&data);
        command.args(cases.map(|(name, _)| cell.path(name)));
        let done = run(&mut command, LIMIT);
        eprintln!("{done}");
        assert_eq!(done.code, Some(1), "{done}");
        for (name, words) in cases {
            let line = done.stderr.lines().find(|line| line.contains(name));
            assert!(line.is_some_and(|line| line.contains(words)), "{name}: {done}");
        }
        assert!(!done.stderr.contains(CANARY) && !done.stdout.contains(CANARY), "{done}");
        let results = fs::read_dir(&data).unwrap().flatten().map(|entry| entry.path());
        let results: Vec<_> =
            results.filter(|path| path.extension() == Some("mkv".as_ref())).collect();
        assert!(results.is_empty(), "{results:?}");
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "somebody was called");
}

#[test]
fn lists_in_media_read_no_other_file() {
    let Some(cell) = Cell::new() else { return };
    hostile_files(&cell, 9);
    let concat = "ffmpeg -nostdin -y -f concat -safe 0 -i @concat.mkv -f srt @out.srt";
    let done = cell.run(Fence::May("--read @concat.mkv --write @out.srt"), concat);
    assert!(!done.ok() && done.stderr.contains("Permission denied"), "{done}");
    assert!(!cell.read("out.srt").contains(CANARY));
    assert!(cell.run(Fence::None, concat).ok() && cell.read("out.srt").contains(CANARY));

    let hls =
        "ffmpeg -nostdin -allowed_extensions ALL -f hls -i @playlist.mp4 -c copy -f framehash -";
    let done = cell.run(Fence::May("--read @playlist.mp4"), hls);
    assert!(!done.ok() && !done.stdout.contains("0, "), "{done}");
    let done = cell.run(Fence::None, hls);
    assert!(done.ok() && done.stdout.contains("0, "), "{done}");

    let filter = "ffmpeg -nostdin -f lavfi -i movie=@secret.ts -f framehash -";
    let done = cell.run(Fence::May(""), filter);
    assert!(!done.ok() && !done.stdout.contains("0, "), "{done}");
    assert!(cell.run(Fence::None, filter).stdout.contains("0, "));
}

#[test]
fn etc_passwd_is_not_read() {
    let Some(cell) = Cell::new() else { return };
    hostile_files(&cell, 9);
    let list = "ffmpeg -nostdin -f concat -safe 0 -i @passwd.mkv -f null -";
    let denied = |done: &Finished| done.stderr.contains("Permission denied");
    assert!(denied(&cell.run(Fence::May("--read @passwd.mkv"), list)));
    // Without the fence it is opened, and then found to be no film.
    assert!(!denied(&cell.run(Fence::None, list)));
    let raw = "ffmpeg -nostdin -f s8 -ar 8000 -ac 1 -i /etc/passwd -f s8 -";
    let done = cell.run(Fence::May(""), raw);
    assert!(!done.ok() && denied(&done) && !done.stdout.contains("root:"), "{done}");
    assert!(cell.run(Fence::None, raw).stdout.contains("root:"));
}

#[test]
fn nobody_is_called() {
    let Some(cell) = Cell::new() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    hostile_files(&cell, listener.local_addr().unwrap().port());
    let hls = "ffmpeg -nostdin -protocol_whitelist file,http,tcp -allowed_extensions ALL -f hls \
               -i @http.mp4 -f null -";
    cell.run(Fence::May("--read @http.mp4"), hls);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a connection was made");
    listener.set_nonblocking(false).unwrap();
    let called = thread::spawn(move || drop(listener.accept().unwrap()));
    cell.run(Fence::None, hls);
    called.join().unwrap();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    let send = format!(
        "ffmpeg -nostdin -f lavfi -i testsrc2=d=0.2 -c:v mpeg2video -f mpegts udp://127.0.0.1:{port}"
    );
    assert!(!cell.run(Fence::May(""), &send).ok());
    assert!(socket.recv(&mut [0; 2048]).is_err(), "a datagram came");
    assert!(cell.run(Fence::None, &send).ok());
    socket.recv(&mut [0; 2048]).unwrap();
}

#[test]
fn a_picture_bomb_gets_no_more_than_its_memory() {
    let Some(cell) = Cell::new() else { return };
    // 384 MB when decoded; a few hundred kilobytes in the file.
    let make =
        "ffmpeg -nostdin -f lavfi -i color=s=8000x8000 -frames:v 1 -pix_fmt rgb48be @bomb.png";
    assert!(cell.run(Fence::None, make).ok());
    assert!(fs::metadata(cell.path("bomb.png")).unwrap().len() < 2_000_000);
    let decode = "ffmpeg -nostdin -benchmark -threads 1 -i @bomb.png -f null -";
    let done = cell.run(Fence::May("--read @bomb.png --memory 400000000"), decode);
    assert!(done.stderr.contains("Cannot allocate memory"), "{done}");
    assert!(peak_kb(&done).is_none_or(|peak| peak < 400_000_000 / 1024), "{done}");
    let done = cell.run(Fence::None, decode);
    assert!(done.ok() && peak_kb(&done).unwrap() > 400_000_000 / 1024, "{done}");
}

/// The most memory that ffmpeg had, as it says itself.
fn peak_kb(done: &Finished) -> Option<u64> {
    let said = done.stderr.rsplit_once("maxrss=")?.1;
    let digits = said.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[test]
fn an_endless_stream_ends_at_the_size_of_its_file() {
    let Some(cell) = Cell::new() else { return };
    let endless = "ffmpeg -nostdin -y -f lavfi -i testsrc2 -fs 20000000 -f rawvideo @out.yuv";
    let size = || fs::metadata(cell.path("out.yuv")).unwrap().len();
    let done = cell.run(Fence::May("--write @out.yuv --file 5000000"), endless);
    assert!(done.code.is_none() && !done.late && size() <= 5_000_000, "{}: {done}", size());
    assert!(cell.run(Fence::None, endless).ok() && size() > 5_000_000);
}

#[test]
fn a_film_that_decodes_for_ever_ends_with_its_processor_time() {
    let Some(cell) = Cell::new() else { return };
    // Frames that repeat the last one: 4K for a few bytes each.
    let make = "ffmpeg -nostdin -f lavfi -i color=s=3840x2160:r=25:d=2 -c:v libx264 \
                -preset ultrafast @bomb.mkv";
    assert!(cell.run(Fence::None, make).ok());
    assert!(fs::metadata(cell.path("bomb.mkv")).unwrap().len() < 1_000_000);
    let decode = "ffmpeg -nostdin -y -stream_loop 3 -i @bomb.mkv -f framecrc @out.txt";
    let done = cell.run(Fence::May("--read @bomb.mkv --write @out.txt --cpu 1"), decode);
    assert!(done.code.is_none() && !done.late, "{done}");
    fs::remove_file(cell.path("out.txt")).unwrap();
    let done = cell.run(Fence::None, decode);
    assert!(done.ok() && cell.read("out.txt").lines().count() > 200, "{done}");
}

/// What a decoder that was taken over could try: files, programs, other processes.
#[test]
fn a_program_in_the_sandbox_does_nothing_else() {
    let Some(cell) = Cell::new() else { return };
    let fresh = || {
        cell.write("diary.txt", "dear diary");
        fs::set_permissions(cell.path("diary.txt"), fs::Permissions::from_mode(0o600)).unwrap();
        let _ = fs::remove_file(cell.path("new.txt"));
    };
    cell.write("write.sh", "echo x > \"$1\"");
    cell.write("fork.sh", "echo $(echo BROKEN OUT)");
    cell.write("exec.sh", "exec \"$1\" BROKEN OUT");
    let text = |name: &str| cell.read(name);
    let mode = || fs::metadata(cell.path("diary.txt")).unwrap().permissions().mode() & 0o777;
    type Escaped<'a> = Box<dyn Fn(&Finished) -> bool + 'a>;
    let said: fn(&Finished) -> bool = |done| done.stdout.contains("BROKEN OUT");
    let attacks: [(&str, &str, Escaped<'_>); 9] = [
        ("", "cat @secret.srt", Box::new(|done| done.stdout.contains(CANARY))),
        ("", "ls @", Box::new(|done| done.stdout.contains("secret.srt"))),
        ("--read @write.sh", "sh @write.sh @new.txt", Box::new(|_| cell.path("new.txt").exists())),
        (
            "--read @write.sh --read @diary.txt",
            "sh @write.sh @diary.txt",
            Box::new(|_| text("diary.txt") == "x\n"),
        ),
        ("--write @diary.txt", "rm -f @diary.txt", Box::new(|_| !cell.path("diary.txt").exists())),
        (
            "--write @diary.txt",
            "mv @diary.txt @new.txt",
            Box::new(|_| cell.path("new.txt").exists()),
        ),
        ("--write @diary.txt", "chmod 0777 @diary.txt", Box::new(|_| mode() == 0o777)),
        ("--read @fork.sh", "sh @fork.sh", Box::new(said)),
        ("--read @exec.sh", "sh @exec.sh /bin/echo", Box::new(said)),
    ];
    for (may, attack, escaped) in attacks {
        fresh();
        let done = cell.run(Fence::May(may), attack);
        assert!(!escaped(&done) && !done.ok(), "{done}");
        fresh();
        let done = cell.run(Fence::None, attack);
        assert!(escaped(&done), "the attack itself does not work: {done}");
    }
}

#[test]
fn a_program_in_the_sandbox_ends_no_other() {
    let Some(cell) = Cell::new() else { return };
    cell.write("kill.sh", "kill -9 \"$1\"");
    let mut victim = Command::new("sleep").arg("300").spawn().unwrap();
    let attack = format!("sh @kill.sh {}", victim.id());
    let done = cell.run(Fence::May("--read @kill.sh"), &attack);
    let lives = victim.try_wait().unwrap().is_none();
    let without = cell.run(Fence::None, &attack);
    let end = victim.wait().unwrap();
    assert!(lives && !done.ok(), "{done}");
    assert!(without.ok() && end.code().is_none(), "{without}");
}

/// What the agent starts is confined, not only what a test starts: here ffprobe itself is hostile.
#[test]
fn a_hostile_ffprobe_tells_nothing() {
    let Some(cell) = Cell::new() else { return };
    let (secret, leak) = (cell.text("secret.srt"), cell.path("leak.txt"));
    let script = format!(
        "#!/bin/sh\n{{ while read -r line; do echo \"$line\" >> {leak}; done; }} < {secret}\n\
         exec {ffprobe} \"$@\"\n",
        leak = leak.display(),
        ffprobe = program("ffprobe").display()
    );
    cell.write("ffprobe", script);
    fs::set_permissions(cell.path("ffprobe"), fs::Permissions::from_mode(0o755)).unwrap();
    for (sandbox, leaks) in [("auto", false), ("required", false), ("off", true)] {
        let data = cell.path(sandbox);
        let mut command = dmc(&data, free_udp_port());
        command.env("DMC_SANDBOX", sandbox).env("DMC_FFPROBE", cell.path("ffprobe"));
        command.arg("convert").arg("-o").arg(cell.path(&format!("{sandbox}.mkv")));
        let done = run(command.arg(zoo::get("tiny.mp4")), LIMIT);
        eprintln!("sandbox = {sandbox}: {done}");
        assert_eq!(cell.read("leak.txt").contains(CANARY), leaks, "{sandbox}: {done}");
        // What it was for it may still do: become the real ffprobe.
        assert!(done.ok(), "{done}");
    }
}

/// Starts a program to which one system call says that this kernel does not have it.
const LACKING: &str = r#"
import ctypes, os, struct, sys
call = int(sys.argv[1])
step = lambda code, yes, no, k: struct.pack("HBBI", code, yes, no, k)
steps = step(0x20, 0, 0, 0) + step(0x15, 0, 1, call)
steps += step(0x06, 0, 0, 0x00050000 | 38) + step(0x06, 0, 0, 0x7fff0000)
kept = ctypes.create_string_buffer(steps)
class Filter(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("steps", ctypes.c_void_p)]
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
filter = Filter(4, ctypes.cast(kept, ctypes.c_void_p))
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn doctor(cell: &Cell, sandbox: &str, without: Option<u32>) -> (Finished, Value) {
    let mut command = dmc(&cell.path("data"), free_udp_port());
    if let Some(call) = without {
        let own: Vec<_> = command.get_args().map(OsStr::to_owned).collect();
        let mut python = Command::new("python3");
        python.args(["-c", LACKING, &call.to_string()]).arg(binary()).args(own);
        command = python;
    }
    command.env("DMC_SANDBOX", sandbox).env("XDG_CONFIG_HOME", cell.path("none"));
    let done = run(command.args(["doctor", "--json"]), LIMIT);
    let findings: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    let finding = findings
        .as_array()
        .and_then(|all| all.iter().find(|finding| finding["check"] == "sandbox").cloned());
    eprintln!("sandbox = {sandbox}, without {without:?}: {finding:#?}");
    (done, finding.unwrap_or_default())
}

#[test]
fn the_doctor_says_what_is_enforced() {
    let Some(cell) = Cell::new() else { return };
    for sandbox in ["auto", "required"] {
        let (_, finding) = doctor(&cell, sandbox, None);
        assert_eq!(finding["level"], "ok");
        assert!(finding["sandbox"]["landlock_abi"].as_u64() > Some(0), "{finding}");
        assert_eq!(finding["sandbox"]["calls"], true);
    }
    assert_eq!(doctor(&cell, "off", None).1["level"], "warning");
}

#[test]
fn what_the_kernel_lacks_is_said_and_refused_where_it_is_required() {
    let Some(cell) = Cell::new() else { return };
    if !run(Command::new("python3").arg("--version"), LIMIT).ok() {
        return eprintln!("skipped: no python3");
    }
    let seccomp = if cfg!(target_arch = "x86_64") { 317 } else { 277 };
    for (call, part) in [(444, "Landlock"), (seccomp, "seccomp")] {
        let (_, finding) = doctor(&cell, "auto", Some(call));
        assert_eq!(finding["level"], "warning");
        assert!(finding["detail"].as_str().unwrap().contains(part), "{finding}");
        let (done, finding) = doctor(&cell, "required", Some(call));
        assert_eq!((finding["level"].as_str(), done.code), (Some("problem"), Some(1)));

        let mut agent = Command::new("python3");
        agent.args(["-c", LACKING, &call.to_string()]).arg(binary());
        agent.env("DMC_SANDBOX", "required").env("XDG_CONFIG_HOME", cell.path("none"));
        agent.arg("--data-dir").arg(cell.path("data")).args(["convert", "-o"]);
        agent.arg(cell.path("x.mkv")).arg(zoo::get("tiny.mp4"));
        let done = run(&mut agent, LIMIT);
        eprintln!("{done}");
        assert!(done.code == Some(1) && done.stderr.contains(part), "{done}");
        assert!(!cell.path("x.mkv").exists());
    }
}
