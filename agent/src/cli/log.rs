//! What the program says on standard error while it runs: for people, or for the journal.

use std::fmt;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::{Cli, Colour, Command};

pub(crate) fn start(cli: &Cli) {
    let is_agent = matches!(cli.command, Command::Agent(_));
    let level = match (cli.quiet, cli.verbose, is_agent) {
        (true, _, _) => "error",
        (_, 0, true) => "info",
        (_, 0, false) => "error",
        (_, 1, _) => "debug",
        _ => "trace",
    };
    // The libraries speak only when something is wrong or everything is wanted.
    let libraries = if cli.verbose > 2 { "debug" } else { "error" };
    let filter = std::env::var("DMC_LOG").unwrap_or_else(|_| {
        format!("{libraries},dmc={level},dmc_agent={level},dmc_store={level},dmc_protocol={level}")
    });
    let colour = match cli.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => std::io::stderr().is_terminal(),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    if is_journal() {
        log.with_ansi(false).event_format(ForJournal(Format::default().with_target(false))).init();
    } else {
        log.init();
    }
}

/// Whether standard error is the journal of systemd, which writes down the time itself.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = std::fs::metadata("/proc/self/fd/2") else { return false };
    // Redirected elsewhere, the variable stays.
    stream == format!("{}:{}", file.dev(), file.ino())
}

/// Lines as `sd-daemon(3)` wants them: `<N>` is the level.
struct ForJournal(Format);

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        let line = self.0.clone().without_time().with_level(false);
        line.format_event(context, Writer::new(&mut text), event)?;
        let level = number(*event.metadata().level());
        // A message of several lines has the same level in each.
        text.lines().try_for_each(|line| writeln!(writer, "<{level}>{line}"))
    }
}

/// The level as syslog counts it.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
