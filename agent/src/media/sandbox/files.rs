//! Which files a confined program may open: those of its call, and those without which no program
//! runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::hardware;
use super::elf;
use super::spec::Files;

/// What may be done with a file, or with all files of a directory and below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// Read, and list.
    Read,
    /// Read, write and shorten; not make, rename or remove.
    Write,
    /// Read, write and control: devices.
    Drive,
    /// Read and run.
    Execute,
}

/// Programs, libraries and their data. None holds what belongs to a person.
const SYSTEM: [&str; 18] = [
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/localtime",
    // How many processors there are, and how they are joined.
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/sys/devices/system",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];

/// Where drivers of graphics cards look for them, where there is one.
const CARDS: [&str; 5] =
    ["/sys/dev/char", "/sys/devices", "/sys/class/drm", "/proc/devices", "/proc/driver/nvidia"];

/// Everything that a program may open, with what it may do.
pub(super) fn rights(files: &Files, program: &Path) -> Vec<(PathBuf, Right)> {
    let mut rights: Vec<(PathBuf, Right)> = Vec::new();
    let mut add = |right: Right, paths: &mut dyn Iterator<Item = PathBuf>| {
        rights.extend(paths.map(|path| (path, right)));
    };
    add(Right::Read, &mut SYSTEM.iter().map(PathBuf::from));
    add(Right::Write, &mut [PathBuf::from("/dev/null")].into_iter());
    let cards = cards();
    if !cards.is_empty() {
        add(Right::Read, &mut CARDS.iter().map(PathBuf::from));
    }
    add(Right::Drive, &mut cards.into_iter());
    add(Right::Read, &mut libraries(program).into_iter());
    add(Right::Execute, &mut programs(program).into_iter());
    add(Right::Read, &mut files.reads.iter().cloned());
    add(Right::Read, &mut files.links_in.iter().flat_map(|dir| entries(dir)));
    add(Right::Write, &mut files.writes.iter().cloned());
    rights
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The devices of graphics cards: VAAPI's, those of NVIDIA's drivers, and media chips.
fn cards() -> Vec<PathBuf> {
    let is_card = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name == b"dri" || name.starts_with(b"nvidia")
    };
    let mut found: Vec<PathBuf> = entries(Path::new("/dev")).into_iter().filter(is_card).collect();
    found.extend(hardware::codec_devices().into_iter().map(PathBuf::from));
    found
}

/// What may be run: the program itself and what loads it. A script of somebody's own stands before
/// the real ffmpeg: it may become whatever else has its name on the search path.
fn programs(program: &Path) -> Vec<PathBuf> {
    let mut found = elf::executables(program);
    if elf::is_script(program)
        && let Some(name) = program.file_name()
    {
        let path = std::env::var_os("PATH").unwrap_or_default();
        for other in std::env::split_paths(&path).map(|dir| dir.join(name)) {
            found.extend(elf::executables(&other));
        }
    }
    found
}

/// The libraries of an ffmpeg that is not the system's: those beside it, those of its prefix, and
/// where the loader is told to look. Its directory itself may be somebody's home.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let told = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&told).filter(|dir| dir.is_absolute()));
    let program = program.canonicalize().unwrap_or_else(|_| program.to_owned());
    let Some(dir) = program.parent() else { return found.into_iter().collect() };
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".so") || name.contains(".so.")
    };
    if !SYSTEM.iter().any(|known| dir.starts_with(known)) {
        found.extend(entries(dir).into_iter().filter(is_library));
        found.insert(dir.join("lib"));
        if let (true, Some(prefix)) = (dir.ends_with("bin"), dir.parent()) {
            found.extend(["lib", "lib64"].map(|name| prefix.join(name)));
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_call_names_is_added_to_the_system() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("listed"), "").unwrap();
        let files = Files {
            reads: vec!["/films/a.mkv".into()],
            links_in: vec![dir.path().to_owned()],
            writes: vec!["/films/.a.dmc-part".into()],
        };
        let rights = rights(&files, Path::new("/bin/sh"));
        let own: Vec<_> = rights.iter().rev().take(3).rev().cloned().collect();
        let expected = [
            ("/films/a.mkv".into(), Right::Read),
            (dir.path().join("listed"), Right::Read),
            ("/films/.a.dmc-part".into(), Right::Write),
        ];
        assert_eq!(own, expected);
        let open = |path: &str| rights.iter().any(|(root, _)| Path::new(path).starts_with(root));
        for secret in ["/etc/passwd", "/home/ann/.ssh/id_ed25519", "/films/b.mkv", "/tmp/x"] {
            assert!(!open(secret), "{secret}");
        }
        assert!(rights.contains(&("/bin/sh".into(), Right::Execute)));
    }

    #[test]
    fn a_program_in_somebodys_home_does_not_open_it() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for name in ["ffmpeg", "libx.so.1", "diary.txt"] {
            std::fs::write(home.join(name), "").unwrap();
        }
        let found = libraries(&home.join("ffmpeg"));
        assert!(found.contains(&home.join("libx.so.1")), "{found:?}");
        let diary = home.join("diary.txt");
        assert!(!found.iter().any(|path| diary.starts_with(path)), "{found:?}");
    }
}
