//! The one way in which ffmpeg and ffprobe are called.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::children::Running;
use super::error::MediaError;
use super::{leftovers, sandbox};

use crate::machine;

pub(crate) use super::call::{Args, Call, room_for};
pub use super::call::{Program, Tools};
pub use super::work::{TaskOutput, run_task};

/// How much of a program's stderr is kept, from its end.
const STDERR_BYTES_MAX: usize = 16 * 1024;
/// How long a program may make no progress.
const STALL: Duration = Duration::from_secs(300);
/// How often it is looked whether a program that was stopped has gone on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
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

/// Runs ffmpeg with `-progress pipe:1` and reports how far it is. Returns what it told on stderr; of
/// much, the end.
pub(crate) async fn with_progress(
    mut call: Call<'_>,
    mut report: impl FnMut(Progress) + Send,
    cancel: &CancellationToken,
) -> Result<String, MediaError> {
    let mut args = Args::default();
    args.words("-progress pipe:1 -stats_period 0.5");
    args.append(std::mem::take(&mut call.args));
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
    let (mut child, running) = spawn(call)?;
    let (Some(mut stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(call.failed("its output could not be read", b""));
    };
    let stderr = tokio::spawn(keep_tail(stderr));
    let started = Instant::now();
    let mut patience = Patience::begin(call.wall);
    let mut buffer = vec![0; 64 * 1024];
    let trouble = loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break Some(MediaError::Cancelled),
            () = tokio::time::sleep(patience.left(&running)) => {
                if patience.is_over(&running) {
                    let why = "it made no progress for too long and was stopped";
                    break Some(call.failed(why, b""));
                }
            }
            read = stdout.read(&mut buffer) => match read {
                Ok(0) => break None,
                Ok(count) => match on_stdout(&buffer[..count]) {
                    Flow::Progressed => patience.moved(&running),
                    Flow::Idle => {}
                    Flow::TooMuch => break Some(call.failed("it printed too much", b"")),
                },
                Err(error) => break Some(call.failed(error.to_string(), b"")),
            },
        }
    };
    tell_cost(call, child.id(), started);
    if let Some(mut trouble) = trouble {
        stop(&mut child).await;
        let said = stderr.await.unwrap_or_default();
        if let MediaError::Failed { stderr, .. } = &mut trouble {
            *stderr = String::from_utf8_lossy(&said).into_owned();
        }
        return Err(trouble);
    }
    patience.moved(&running);
    finish(call, child, &running, stderr, patience, cancel).await
}

/// Says what the step took, for whoever looks for the time; the program has said all, and nobody
/// has asked for its end yet.
fn tell_cost(call: &Call<'_>, pid: Option<u32>, started: Instant) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let wall_ms = started.elapsed().as_millis() as u64;
    let ticks = pid.and_then(machine::ticks_of);
    let cpu_ms = ticks.map(|ticks| ticks * 1_000 / rustix::param::clock_ticks_per_second());
    tracing::debug!(step = call.step, wall_ms, cpu_ms, "ran");
}

async fn finish(
    call: &Call<'_>,
    mut child: Child,
    running: &Running,
    stderr: tokio::task::JoinHandle<Vec<u8>>,
    patience: Patience,
    cancel: &CancellationToken,
) -> Result<String, MediaError> {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = cancel.cancelled() => {
                stop(&mut child).await;
                return Err(MediaError::Cancelled);
            }
            () = tokio::time::sleep(patience.left(running)) => {
                if patience.is_over(running) {
                    stop(&mut child).await;
                    return Err(call.failed("it did not end and was stopped", b""));
                }
            }
        }
    };
    let said = stderr.await.unwrap_or_default();
    match status {
        Ok(status) if status.success() => Ok(String::from_utf8_lossy(&said).into_owned()),
        Ok(status) => Err(call.failed(sandbox::ended(status, &call.limits()), &said)),
        Err(error) => Err(call.failed(error.to_string(), &said)),
    }
}

/// The program is confined before its first instruction where there is a sandbox, and as far as
/// possible from outside where there is none.
fn spawn(call: &Call<'_>) -> Result<(Child, Running), MediaError> {
    let program = call.program;
    let limits = call.limits();
    let mut command = program.sandbox.command(program.path(), &call.args.files, &limits);
    if let Some(agent) = program.agent {
        command.env(leftovers::MARK, agent.to_string());
    }
    command
        .args(&call.args.words)
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
    if !program.sandbox.is_on() {
        sandbox::limit(&child, &limits);
    }
    let pid = child.id().unwrap_or_default();
    let running = program.children.started(pid, call.step, program.attempt);
    Ok((child, running))
}

/// How long a program may go on. The time in which it was stopped does not count.
struct Patience {
    wall: Duration,
    started: Instant,
    /// When it last got on, and how long it had been stopped by then.
    moved: (Instant, Duration),
}

impl Patience {
    fn begin(wall: Duration) -> Patience {
        let now = Instant::now();
        Patience { wall, started: now, moved: (now, Duration::ZERO) }
    }

    fn moved(&mut self, running: &Running) {
        self.moved = (Instant::now(), running.stopped());
    }

    /// What is left of it, if the program is not stopped meanwhile.
    fn rest(&self, running: &Running) -> Duration {
        let stopped = running.stopped();
        let (moved, stopped_then) = self.moved;
        let quiet = moved.elapsed().saturating_sub(stopped.saturating_sub(stopped_then));
        let all = self.started.elapsed().saturating_sub(stopped);
        STALL.min(self.wall).saturating_sub(quiet).min(self.wall.saturating_sub(all))
    }

    /// When to look again.
    fn left(&self, running: &Running) -> Duration {
        let soon = if running.stopped().is_zero() { Duration::ZERO } else { LOOK_AGAIN };
        self.rest(running).max(soon)
    }

    fn is_over(&self, running: &Running) -> bool {
        self.rest(running).is_zero()
    }
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
