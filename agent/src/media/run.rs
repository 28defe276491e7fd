//! The one way in which ffmpeg and ffprobe are called.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dmc_protocol::id::AgentId;
use dmc_protocol::media::InputFormat;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::MediaError;
use super::{leftovers, sandbox};

pub use super::work::{TaskOutput, run_task};

/// Pixels of one picture that ffmpeg may decode: a small file can ask for gigabytes.
const PIXELS_MAX: u64 = 134_217_728;
/// How much of a program's stderr is kept, from its end.
const STDERR_BYTES_MAX: usize = 16 * 1024;
/// How long a program may make no progress.
const STALL: Duration = Duration::from_secs(300);
/// How long any one call may take.
const WALL: Duration = Duration::from_secs(14 * 24 * 3600);

/// A program that can be called.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    /// The agent that calls it, in the program's environment.
    agent: Option<AgentId>,
}

impl Program {
    /// The program in that file.
    pub fn at(path: impl Into<PathBuf>) -> Program {
        Program { path: path.into(), agent: None }
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
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// How far a running task is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Progress {
    /// Frames done, counting pre-roll that is thrown away.
    pub frames: u64,
    /// Frames per second.
    pub fps: f32,
    /// Bytes written.
    pub out_bytes: u64,
    /// Media time written, in microseconds.
    pub out_time_us: i64,
}

/// The path as ffmpeg takes it: always a file, whatever its name looks like.
pub(crate) fn file_url(path: &Path) -> OsString {
    let mut url = OsString::from("file:");
    url.push(path);
    url
}

/// A growing list of arguments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Args(pub Vec<OsString>);

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
        self.0.extend(words.split_ascii_whitespace().map(OsString::from));
        self
    }

    /// One argument, as it is.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Args {
        self.0.push(arg.as_ref().to_owned());
        self
    }

    /// The guards of one input, its format and its path.
    pub fn input(&mut self, format: Option<&InputFormat>, path: &Path) -> &mut Args {
        self.guards(format).arg("-i").arg(file_url(path))
    }

    /// The guards of one input; `-i` or, for ffprobe, the path follows.
    pub fn guards(&mut self, format: Option<&InputFormat>) -> &mut Args {
        self.words("-protocol_whitelist file -format_whitelist").arg(InputFormat::whitelist());
        self.words(&format!("-max_pixels {PIXELS_MAX}"));
        if let Some(format) = format {
            self.arg("-f").arg(format.name());
        }
        self
    }

    /// The path of an output.
    pub fn output(&mut self, path: &Path) -> &mut Args {
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
    /// The largest file that it may write.
    pub file_bytes_max: Option<u64>,
}

impl<'a> Call<'a> {
    /// A call with the usual limits.
    pub fn new(step: &'static str, program: &'a Program, args: Args) -> Call<'a> {
        Call {
            step,
            program,
            args,
            stdout_bytes_max: 64 * 1024 * 1024,
            wall: WALL,
            file_bytes_max: None,
        }
    }

    /// The command as one could type it.
    fn text(&self) -> String {
        let quote = |word: &OsStr| {
            let text = word.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
            if !text.is_empty() && text.chars().all(plain) {
                return text.into_owned();
            }
            format!("'{}'", text.replace('\'', r"'\''"))
        };
        let mut words = vec![quote(self.program.path.as_os_str())];
        words.extend(self.args.0.iter().map(|arg| quote(arg)));
        words.join(" ")
    }

    fn failed(&self, why: impl Into<String>, stderr: &[u8]) -> MediaError {
        MediaError::Failed {
            step: self.step,
            why: why.into(),
            command: self.text(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }
}

/// What a finished program printed.
pub(crate) struct Captured {
    pub stdout: Vec<u8>,
}

/// Runs a program to its end and returns what it printed.
pub(crate) async fn capture(
    call: Call<'_>,
    cancel: &CancellationToken,
) -> Result<Captured, MediaError> {
    let mut stdout = Vec::new();
    let max = call.stdout_bytes_max;
    execute(&call, cancel, |bytes| {
        stdout.extend_from_slice(bytes);
        if stdout.len() > max { Flow::TooMuch } else { Flow::Progressed }
    })
    .await?;
    Ok(Captured { stdout })
}

/// Runs ffmpeg with `-progress pipe:1` and reports how far it is.
pub(crate) async fn with_progress(
    mut call: Call<'_>,
    mut report: impl FnMut(Progress) + Send,
    cancel: &CancellationToken,
) -> Result<String, MediaError> {
    let mut args = Args::default();
    args.words("-progress pipe:1 -stats_period 0.5");
    args.0.append(&mut call.args.0);
    call.args = args;
    let mut lines = ProgressLines::default();
    execute(&call, cancel, |bytes| {
        let before = lines.now;
        lines.push(bytes, &mut report);
        let moved = lines.now.frames != before.frames
            || lines.now.out_bytes != before.out_bytes
            || lines.now.out_time_us != before.out_time_us;
        if moved { Flow::Progressed } else { Flow::Idle }
    })
    .await
}

/// What a chunk of output means for the watchdog.
enum Flow {
    Progressed,
    Idle,
    TooMuch,
}

/// Collects `key=value` lines; a `progress=` line ends a block.
#[derive(Default)]
pub(super) struct ProgressLines {
    pending: Vec<u8>,
    pub(super) now: Progress,
}

impl ProgressLines {
    const LINE_BYTES_MAX: usize = 4096;

    pub(super) fn push(&mut self, bytes: &[u8], report: &mut impl FnMut(Progress)) {
        for &byte in bytes {
            if byte != b'\n' {
                if self.pending.len() < Self::LINE_BYTES_MAX {
                    self.pending.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.pending).into_owned();
            self.pending.clear();
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            match key.trim() {
                "frame" => self.now.frames = value.parse().unwrap_or(self.now.frames),
                "fps" => self.now.fps = value.parse().unwrap_or(self.now.fps),
                "total_size" => self.now.out_bytes = value.parse().unwrap_or(self.now.out_bytes),
                "out_time_us" => {
                    self.now.out_time_us = value.parse().unwrap_or(self.now.out_time_us);
                }
                "progress" => report(self.now),
                _ => {}
            }
        }
    }
}

async fn execute(
    call: &Call<'_>,
    cancel: &CancellationToken,
    mut on_stdout: impl FnMut(&[u8]) -> Flow,
) -> Result<String, MediaError> {
    if cancel.is_cancelled() {
        return Err(MediaError::Cancelled);
    }
    tracing::debug!(step = call.step, command = %call.text(), "run");
    let mut child = spawn(call)?;
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(call.failed("its output could not be read", b""));
    };
    let stderr = tokio::spawn(keep_tail(stderr));
    let started = Instant::now();
    let mut moved = Instant::now();
    let mut buffer = vec![0; 64 * 1024];
    let trouble = loop {
        let deadline = (moved + STALL.min(call.wall)).min(started + call.wall);
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Some(MediaError::Cancelled),
            () = tokio::time::sleep_until(deadline) => {
                break Some(call.failed("it made no progress for too long and was stopped", b""));
            }
            read = stdout.read(&mut buffer) => match read {
                Ok(0) => break None,
                Ok(count) => match on_stdout(&buffer[..count]) {
                    Flow::Progressed => moved = Instant::now(),
                    Flow::Idle => {}
                    Flow::TooMuch => break Some(call.failed("it printed too much", b"")),
                },
                Err(error) => break Some(call.failed(error.to_string(), b"")),
            },
        }
    };
    if let Some(mut trouble) = trouble {
        stop(&mut child).await;
        let said = stderr.await.unwrap_or_default();
        if let MediaError::Failed { stderr, .. } = &mut trouble {
            *stderr = String::from_utf8_lossy(&said).into_owned();
        }
        return Err(trouble);
    }
    finish(call, child, stderr, started, cancel).await
}

async fn finish(
    call: &Call<'_>,
    mut child: Child,
    stderr: tokio::task::JoinHandle<Vec<u8>>,
    started: Instant,
    cancel: &CancellationToken,
) -> Result<String, MediaError> {
    let status = tokio::select! {
        status = child.wait() => status,
        () = cancel.cancelled() => {
            stop(&mut child).await;
            return Err(MediaError::Cancelled);
        }
        () = tokio::time::sleep_until((Instant::now() + STALL).min(started + call.wall)) => {
            stop(&mut child).await;
            return Err(call.failed("it did not end and was stopped", b""));
        }
    };
    let said = stderr.await.unwrap_or_default();
    match status {
        Ok(status) if status.success() => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok(status) => Err(call.failed(status.to_string(), &said)),
        Err(error) => Err(call.failed(error.to_string(), &said)),
    }
}

fn spawn(call: &Call<'_>) -> Result<Child, MediaError> {
    let mut command = Command::new(&call.program.path);
    if let Some(agent) = call.program.agent {
        command.env(leftovers::MARK, agent.to_string());
    }
    command
        .args(&call.args.0)
        .env("LC_ALL", "C")
        .env("AV_LOG_FORCE_NOCOLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let child = command
        .spawn()
        .map_err(|error| call.failed(format!("it could not be started: {error}"), b""))?;
    sandbox::confine(&child, call.file_bytes_max);
    Ok(child)
}

async fn stop(child: &mut Child) {
    sandbox::kill_group(child);
    // The group is gone; this reaps our child, and kills it where there are no groups.
    let _ = child.kill().await;
}

async fn keep_tail(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * STDERR_BYTES_MAX {
            kept.drain(..kept.len() - STDERR_BYTES_MAX);
        }
    }
    let surplus = kept.len().saturating_sub(STDERR_BYTES_MAX);
    kept.drain(..surplus);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_across_chunk_borders() {
        let mut lines = ProgressLines::default();
        let mut seen = Vec::new();
        for part in ["frame=1", "2\nfps=3.5\ntotal_size=N/A\nout_time_us=", "99\nprogress=end\n"] {
            lines.push(part.as_bytes(), &mut |p| seen.push(p));
        }
        assert_eq!(seen, [Progress { frames: 12, fps: 3.5, out_bytes: 0, out_time_us: 99 }]);
    }

    #[tokio::test]
    async fn a_program_is_stopped_when_asked() {
        let mut args = Args::default();
        args.words("60");
        let sleep = Program::at("/bin/sleep");
        let call = Call::new("sleep", &sleep, args);
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert!(matches!(capture(call, &cancel).await, Err(MediaError::Cancelled)));
    }

    #[tokio::test]
    async fn a_failure_carries_the_command_and_what_was_said() {
        let mut args = Args::default();
        args.arg("-c").arg("echo oh no >&2; exit 3");
        let shell = Program::at("/bin/sh");
        let call = Call::new("a test", &shell, args);
        let error = capture(call, &CancellationToken::new()).await.err().unwrap();
        assert_eq!(error.stderr(), Some("oh no\n"));
        assert!(error.command().unwrap().contains("'echo oh no >&2; exit 3'"));
        assert!(error.to_string().contains("oh no"), "{error}");
    }
}
