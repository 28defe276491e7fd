//! Units of systemd. Those of the packages are the templates: there is one text of each.

use std::path::{Path, PathBuf};

/// The first line of every file that `dmc service install` writes: what lacks it is another's.
pub const MARK: &str = "# Written by `dmc service install`; `dmc service uninstall` removes it.";

const SYSTEM: &str = include_str!("../../packaging/dmc.service");
const USER: &str = include_str!("../../packaging/dmc-user.service");
/// The program in the templates.
const PROGRAM: &str = "/usr/bin/dmc";
/// Directories that the system's unit hides, and into which single folders can be mounted.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];
/// Before each folder in the file of the media folders, so that they can be listed.
const FOLDER: &str = "# media folder: ";

/// A path that no unit can name.
#[derive(Debug, thiserror::Error)]
#[error(
    "systemd cannot be told of {path}: {why}. Name a directory above it, or mount it under \
     another name"
)]
pub struct Unnameable {
    path: String,
    why: &'static str,
}

/// The unit of the machine's agent.
///
/// # Errors
/// The program's path cannot be written in a unit.
pub fn system(program: &Path) -> Result<String, Unnameable> {
    with_program(SYSTEM, program)
}

/// The unit of a user's agent.
///
/// # Errors
/// As [`system`].
pub fn user(program: &Path) -> Result<String, Unnameable> {
    with_program(USER, program)
}

fn with_program(unit: &str, program: &Path) -> Result<String, Unnameable> {
    let line = format!("ExecStart={}", quoted(program, "")?.replace('$', "$$"));
    Ok(format!("{MARK}\n{}", unit.replacen(&format!("ExecStart={PROGRAM}"), &line, 1)))
}

/// What adds media folders to the system's unit, and lets another user run it.
///
/// # Errors
/// A folder cannot be written in a unit.
pub fn addition(folders: &[PathBuf], run_as: Option<&str>) -> Result<String, Unnameable> {
    let mut text = format!("{MARK}\n");
    for folder in folders {
        let named = quoted(folder, "")?;
        text.push_str(&format!("{FOLDER}{}\n", named.trim_matches('"')));
    }
    text.push_str("[Service]\n");
    if let Some(name) = run_as {
        text.push_str(&format!("User={name}\nGroup=\n"));
    }
    for folder in folders {
        // One that is not there now (a disk that is not plugged in) does not stop the agent.
        let key = if is_hidden(folder) { "BindPaths" } else { "ReadWritePaths" };
        text.push_str(&format!("{key}={}\n", quoted(folder, "-")?));
    }
    Ok(text)
}

/// The folders in what [`addition`] wrote, as a person reads them.
pub fn folders(addition: &str) -> Vec<String> {
    addition.lines().filter_map(|line| line.strip_prefix(FOLDER)).map(str::to_owned).collect()
}

/// Whether the system's unit hides this place unless it is mounted there.
fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().any(|hidden| path.starts_with(hidden))
}

/// A path as a word of a unit: quotes keep spaces, and `%` begins no specifier.
fn quoted(path: &Path, before: &str) -> Result<String, Unnameable> {
    let refused = |why| Unnameable { path: path.display().to_string(), why };
    let text = path.to_str().ok_or_else(|| refused("its name is not UTF-8"))?;
    if text.chars().any(char::is_control) {
        return Err(refused("its name holds a control character"));
    }
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let plain = escaped.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c));
    Ok(if plain { format!("{before}{escaped}") } else { format!("\"{before}{escaped}\"") })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_unit_runs_the_program_that_made_it() {
        let unit = system(Path::new("/opt/my $dmc/50 % \"dmc\"")).unwrap();
        assert!(unit.contains("ExecStart=\"/opt/my $$dmc/50 %% \\\"dmc\\\"\" agent\n"), "{unit}");
        assert!(unit.starts_with(MARK) && unit.contains("Type=notify"));
        assert!(
            user(Path::new("/usr/local/bin/dmc"))
                .unwrap()
                .contains("ExecStart=/usr/local/bin/dmc agent\n")
        );
    }

    #[test]
    fn folders_of_homes_are_mounted_and_others_made_writable() {
        let given = ["/data/Films 🎬", "/home/ann/Videos", "/homeless"].map(PathBuf::from);
        let text = addition(&given, Some("ann")).unwrap();
        assert!(text.contains("ReadWritePaths=\"-/data/Films 🎬\"\n"), "{text}");
        assert!(text.contains("BindPaths=-/home/ann/Videos\n"), "{text}");
        assert!(text.contains("ReadWritePaths=-/homeless\n") && text.contains("User=ann\n"));
        assert_eq!(folders(&text), ["/data/Films 🎬", "/home/ann/Videos", "/homeless"]);
    }

    #[test]
    fn what_a_unit_cannot_name_is_refused() {
        let lines = PathBuf::from("/srv/a\nExecStartPre=/bin/true");
        let bytes = PathBuf::from(OsStr::from_bytes(b"/srv/\xff"));
        for path in [lines, bytes] {
            let error = addition(&[path], None).unwrap_err().to_string();
            assert!(error.starts_with("systemd cannot be told of /srv/"), "{error}");
        }
    }
}
