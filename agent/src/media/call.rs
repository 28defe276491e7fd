//! What is called, and how: the program, its arguments, the files that they name, its limits.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dmc_protocol::id::{AgentId, AttemptId};
use dmc_protocol::media::InputFormat;

use super::bounds;
use super::children::Children;
use super::error::MediaError;
use super::sandbox::{Files, Limits, Sandbox};
use crate::machine;

/// How long any one call may take.
const WALL: Duration = Duration::from_secs(14 * 24 * 3600);
/// Room for the small files that encoders and drivers make for themselves, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A program that can be called.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    /// The agent that calls it, in the program's environment.
    pub(super) agent: Option<AgentId>,
    /// What it is confined by.
    pub(super) sandbox: Sandbox,
    /// Where its runs are noted.
    pub(super) children: Arc<Children>,
    /// The attempt that it works for.
    pub(super) attempt: Option<AttemptId>,
}

impl Program {
    /// The program in that file, not confined.
    pub fn at(path: impl Into<PathBuf>) -> Program {
        Program {
            path: path.into(),
            agent: None,
            sandbox: Sandbox::default(),
            children: Arc::default(),
            attempt: None,
        }
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The programs that do the work.
#[derive(Debug, Clone)]
pub struct Tools {
    /// ffmpeg.
    pub ffmpeg: Program,
    /// ffprobe.
    pub ffprobe: Program,
}

impl Tools {
    /// Finds the programs: `DMC_FFMPEG` and `DMC_FFPROBE`, else the search path.
    ///
    /// # Errors
    /// [`MediaError::NoTool`] when one is missing.
    pub fn find() -> Result<Tools, MediaError> {
        let need = |variable: &str, program: &'static str| {
            let chosen = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
            chosen.or_else(|| on_path(program)).ok_or(MediaError::NoTool { program })
        };
        Ok(Tools {
            ffmpeg: Program::at(need("DMC_FFMPEG", "ffmpeg")?),
            ffprobe: Program::at(need("DMC_FFPROBE", "ffprobe")?),
        })
    }

    /// The same, called by an agent that finds its leftovers after a crash.
    #[must_use]
    pub fn called_by(mut self, agent: AgentId) -> Tools {
        self.ffmpeg.agent = Some(agent);
        self.ffprobe.agent = Some(agent);
        self
    }

    /// The same; what runs is noted there.
    #[must_use]
    pub fn noted(mut self, children: &Arc<Children>) -> Tools {
        self.ffmpeg.children = Arc::clone(children);
        self.ffprobe.children = Arc::clone(children);
        self
    }

    /// The same, for an attempt: what runs may be stopped while the machine is needed.
    #[must_use]
    pub fn working_for(&self, attempt: AttemptId) -> Tools {
        let mut tools = self.clone();
        tools.ffmpeg.attempt = Some(attempt);
        tools.ffprobe.attempt = Some(attempt);
        tools
    }

    /// The same, confined.
    #[must_use]
    pub fn confined(mut self, sandbox: &Sandbox) -> Tools {
        self.ffmpeg.sandbox = sandbox.clone();
        self.ffprobe.sandbox = sandbox.clone();
        self
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The path as ffmpeg takes it: always a file, whatever its name looks like.
fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// A growing list of arguments, and the files that they name: a confined program reaches no others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args {
    pub words: Vec<OsString>,
    pub files: Files,
}

impl Args {
    /// The start of every ffmpeg call.
    pub fn ffmpeg() -> Args {
        let mut args = Args::default();
        args.words("-nostdin -hide_banner -nostats -loglevel error -y");
        args
    }

    /// The start of every ffprobe call.
    pub fn ffprobe() -> Args {
        let mut args = Args::default();
        args.words("-hide_banner -loglevel error");
        args
    }

    /// Several words, split at spaces. Only for text of our own.
    pub fn words(&mut self, words: &str) -> &mut Args {
        self.words.extend(words.split_ascii_whitespace().map(OsString::from));
        self
    }

    /// One argument, as it is.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Args {
        self.words.push(arg.as_ref().to_owned());
        self
    }

    /// All of another list.
    pub fn append(&mut self, mut other: Args) -> &mut Args {
        self.words.append(&mut other.words);
        self.files.append(other.files);
        self
    }

    /// The guards of one input, its format and its path.
    pub fn input(&mut self, format: Option<&InputFormat>, path: &Path) -> &mut Args {
        self.guards(format).arg("-i").read(path)
    }

    /// The guards of one input; `-i` or, for ffprobe, the path follows.
    pub fn guards(&mut self, format: Option<&InputFormat>) -> &mut Args {
        self.words("-protocol_whitelist file -format_whitelist").arg(InputFormat::whitelist());
        self.words(&format!("-max_pixels {}", bounds::PIXELS_MAX));
        if let Some(format) = format {
            self.arg("-f").arg(format.name());
        }
        self
    }

    /// The path of a file that is read.
    pub fn read(&mut self, path: &Path) -> &mut Args {
        self.files.reads.push(path.to_owned());
        self.arg(file_url(path))
    }

    /// Lets the program read what the links in a directory of ours lead to: for lists that name
    /// more files than arguments could.
    pub fn follows_links_in(&mut self, dir: &Path) -> &mut Args {
        self.files.links_in.push(dir.to_owned());
        self
    }

    /// The path of an output.
    pub fn output(&mut self, path: &Path) -> &mut Args {
        self.files.writes.push(path.to_owned());
        self.arg(file_url(path))
    }
}

/// One call of a program.
pub(crate) struct Call<'a> {
    /// What is being done, for people.
    pub step: &'static str,
    pub program: &'a Program,
    pub args: Args,
    /// The most that it may print.
    pub stdout_bytes_max: usize,
    /// How long it may take.
    pub wall: Duration,
    /// The largest file that it may write. Every call that writes a file must say how large an
    /// honest one can be.
    pub file_bytes_max: u64,
}

impl<'a> Call<'a> {
    /// A call with the usual limits, for a program that writes no file.
    pub fn new(step: &'static str, program: &'a Program, args: Args) -> Call<'a> {
        Call {
            step,
            program,
            args,
            stdout_bytes_max: 64 * 1024 * 1024,
            wall: WALL,
            file_bytes_max: FILE_BYTES_MAX,
        }
    }

    /// What the system enforces on the program.
    pub fn limits(&self) -> Limits {
        let threads = machine::threads();
        Limits {
            memory_bytes: self.program.sandbox.memory_bytes(),
            // All threads at work from the first second to the last.
            cpu_s: self.wall.as_secs().saturating_mul(threads as u64),
            file_bytes: self.file_bytes_max,
        }
    }

    /// The command as one could type it.
    pub fn text(&self) -> String {
        let quote = |word: &OsStr| {
            let text = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
            if !text.is_empty() && text.chars().all(plain) {
                return text.into_owned();
            }
            format!("'{}'", text.replace('\'', r"'\''"))
        };
        let mut words = vec![quote(self.program.path.as_os_str())];
        words.extend(self.args.words.iter().map(|arg| quote(arg)));
        words.join(" ")
    }

    /// The error of this call, with its command.
    pub fn failed(&self, why: impl Into<String>, stderr: &[u8]) -> MediaError {
        MediaError::Failed {
            step: self.step,
            why: why.into(),
            command: self.text(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }
}

/// The size of a file that must hold what these files hold, and what a container adds: twice as
/// much, and some. A file that is missing is for the program to report.
pub(crate) async fn room_for(files: &[&Path]) -> u64 {
    const FLOOR: u64 = 256 * 1024 * 1024;
    let mut bytes = 0_u64;
    for file in files {
        bytes = bytes.saturating_add(tokio::fs::metadata(file).await.map_or(0, |meta| meta.len()));
    }
    bytes.saturating_mul(2).saturating_add(FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_arguments_name_are_known() {
        let (a, b, c) = (Path::new("a"), Path::new("b"), Path::new("c"));
        let mut first = Args::ffmpeg();
        first.input(None, a);
        let mut rest = Args::default();
        rest.arg("-attach").read(b).output(c).follows_links_in(Path::new("d"));
        first.append(rest);
        assert_eq!(first.files.reads, [a, b]);
        assert_eq!((first.files.writes, first.files.links_in), (vec![c.into()], vec!["d".into()]));
        assert_eq!(first.words[first.words.len() - 3..], ["-attach", "file:b", "file:c"]);
    }

    #[test]
    fn processor_time_is_limited_by_the_time_on_the_wall() {
        let program = Program::at("ffmpeg");
        let mut call = Call::new("a test", &program, Args::default());
        call.wall = Duration::from_secs(7);
        let limits = call.limits();
        assert!(limits.cpu_s >= 7 && limits.cpu_s.is_multiple_of(7), "{limits:?}");
    }
}
