//! What must be executable so that one program runs: itself, and what the kernel loads it with.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The kernel reads no more of a script's first line.
const LINE_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4096;
/// The type of the program header that names the loader.
const PT_INTERP: u32 = 3;

/// The program, its loader, and for a script the same of its interpreter.
pub(super) fn executables(program: &Path) -> Vec<PathBuf> {
    let mut found = vec![program.to_owned()];
    let mut at = program.to_owned();
    // A script may name another script; the kernel follows four.
    for _ in 0..5 {
        let Ok(file) = File::open(&at) else { break };
        if let Some(shell) = script(&file) {
            found.push(shell.clone());
            at = shell;
            continue;
        }
        found.extend(loader(&file));
        break;
    }
    found
}

/// Whether another program reads this one.
pub(super) fn is_script(program: &Path) -> bool {
    File::open(program).is_ok_and(|file| script(&file).is_some())
}

/// The interpreter in the line `#!…` of a script.
fn script(file: &File) -> Option<PathBuf> {
    let mut line = Vec::new();
    let mut file = file;
    Read::by_ref(&mut file).take(LINE_BYTES_MAX as u64).read_to_end(&mut line).ok()?;
    let rest = line.strip_prefix(b"#!")?;
    let mut words = rest.split(|byte| byte.is_ascii_whitespace());
    path(words.find(|word| !word.is_empty())?)
}

/// The loader of a dynamic program (64 bits, little-endian); static ones need none.
fn loader(file: &File) -> Option<PathBuf> {
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size) = (long(&header, 32)?, u64::from(short(&header, 54)?));
    for number in 0..u64::from(short(&header, 56)?) {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table.checked_add(number * size)?).ok()?;
        if word(&entry, 0)? == PT_INTERP {
            let length = usize::try_from(long(&entry, 32)?).ok()?.min(PATH_BYTES_MAX);
            let mut name = vec![0; length];
            file.read_exact_at(&mut name, long(&entry, 8)?).ok()?;
            return path(name.split(|byte| *byte == 0).next()?);
        }
    }
    None
}

fn path(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    (!bytes.is_empty()).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_needs_its_shell_and_the_shell_its_loader() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("ffmpeg");
        std::fs::write(&script, "#! /bin/sh -e\nexit\n").unwrap();
        let found = executables(&script);
        assert_eq!(found[..2], [script, "/bin/sh".into()]);
        assert_eq!(found[1..], executables(Path::new("/bin/sh")));
        // This test itself is a dynamic program as a rule; its loader is a file.
        let own = executables(&std::env::current_exe().unwrap());
        assert!(own.len() <= 2 && own.iter().all(|path| path.exists()), "{own:?}");
    }

    #[test]
    fn damaged_programs_need_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let mut huge = b"\x7fELF\x02\x01".to_vec();
        huge.resize(64, 0xff);
        for bytes in [&b""[..], b"#!", b"#!\n", b"\x7fELF", &huge] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(executables(&file), std::slice::from_ref(&file), "{bytes:?}");
        }
    }
}
