//! What a person sees while a job runs: a bar on a terminal, plain lines elsewhere, or JSON.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use dmc_agent::http::views::JobView;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::show;

/// Plain lines come this often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// The speed is the mean over this long.
const SPEED_OVER: Duration = Duration::from_secs(15);
const BAR_PARTS: u64 = 10_000;

enum Kind {
    Bar { all: MultiProgress, bar: ProgressBar, agents: ProgressBar, note: ProgressBar },
    Lines { last: Option<(String, Instant)> },
    Json { last: String },
}

/// The display of one command.
pub(crate) struct Screen {
    kind: Kind,
    speed: Speed,
    moved: Moved,
}

/// A transfer over the last moments, for bytes a second.
#[derive(Default)]
struct Moved {
    what: String,
    samples: VecDeque<(Instant, u64)>,
}

impl Moved {
    fn add(&mut self, what: &str, bytes: u64) {
        if self.what != what || self.samples.back().is_some_and(|(_, last)| *last > bytes) {
            what.clone_into(&mut self.what);
            self.samples.clear();
        }
        let now = Instant::now();
        self.samples.push_back((now, bytes));
        while self.samples.front().is_some_and(|(at, _)| now - *at > SPEED_OVER) {
            self.samples.pop_front();
        }
    }

    fn text(&self, bytes: u64, total: u64) -> String {
        let text = format!("{} of {}", show::bytes(bytes), show::bytes(total));
        let (Some((from, before)), Some((to, _))) = (self.samples.front(), self.samples.back())
        else {
            return text;
        };
        let seconds = to.duration_since(*from).as_secs_f64();
        let rate = bytes.saturating_sub(*before) as f64 / seconds;
        if seconds > 0.9 { format!("{text}  {}/s", show::bytes(rate as u64)) } else { text }
    }
}

/// Progress over the last moments, for frames a second and the time that is left.
#[derive(Default)]
struct Speed {
    job: String,
    samples: VecDeque<(Instant, u64, f64)>,
}

impl Speed {
    fn add(&mut self, job: &JobView) {
        if self.job != job.id {
            self.job.clone_from(&job.id);
            self.samples.clear();
        }
        let now = Instant::now();
        self.samples.push_back((now, job.frames, job.progress));
        while self.samples.front().is_some_and(|(at, ..)| now - *at > SPEED_OVER) {
            self.samples.pop_front();
        }
    }

    fn rates(&self) -> Option<(f64, f64)> {
        let (from, frames_from, part_from) = self.samples.front()?;
        let (to, frames_to, part_to) = self.samples.back()?;
        let seconds = to.duration_since(*from).as_secs_f64();
        let frames = frames_to.saturating_sub(*frames_from) as f64;
        (seconds > 0.9).then(|| (frames / seconds, (part_to - part_from) / seconds))
    }

    /// Frames a second over all agents.
    fn fps(&self) -> f64 {
        self.rates().map_or(0.0, |(fps, _)| fps)
    }

    /// How long the encoding will still take.
    fn eta(&self, progress: f64) -> Option<Duration> {
        let (_, parts) = self.rates()?;
        let seconds = (1.0 - progress) / parts;
        (parts > 0.0 && seconds.is_finite()).then(|| Duration::from_secs(seconds as u64))
    }
}

impl Screen {
    pub(crate) fn new(json: bool) -> Screen {
        let kind = if json {
            Kind::Json { last: String::new() }
        } else if std::io::stderr().is_terminal() {
            bar()
        } else {
            Kind::Lines { last: None }
        };
        Screen { kind, speed: Speed::default(), moved: Moved::default() }
    }

    /// What is drawn: lines of others go above it.
    pub(crate) fn drawn(&self) -> Option<MultiProgress> {
        match &self.kind {
            Kind::Bar { all, .. } => Some(all.clone()),
            Kind::Lines { .. } | Kind::Json { .. } => None,
        }
    }

    /// A file on its way to or from another machine.
    pub(crate) fn transfer(&mut self, what: &str, name: &str, bytes: u64, total: u64) {
        self.moved.add(&format!("{what} {name}"), bytes);
        let part = if total == 0 { 1.0 } else { bytes as f64 / total as f64 };
        let text = format!("{what}  {}", self.moved.text(bytes, total));
        match &mut self.kind {
            Kind::Bar { bar, agents, note, .. } => {
                bar.set_position((part * BAR_PARTS as f64) as u64);
                bar.set_prefix(show::clean(name));
                bar.set_message(text);
                agents.set_message("");
                note.set_message("");
            }
            Kind::Lines { last } => {
                let due = last
                    .as_ref()
                    .is_none_or(|(phase, at)| *phase != what || at.elapsed() > LINE_EVERY);
                if due {
                    *last = Some((what.to_owned(), Instant::now()));
                    let percent = part * 100.0;
                    show::error(&format!("{percent:5.1} %  {text}  {}", show::clean(name)));
                }
            }
            Kind::Json { last } => {
                let now = format!("{what} {name} {part:.2}");
                if *last != now {
                    *last = now;
                    show::json(&serde_json::json!({
                        "event": what, "file": name, "bytes": bytes, "bytes_total": total
                    }));
                }
            }
        }
    }

    pub(crate) fn update(&mut self, job: &JobView) {
        self.speed.add(job);
        let summary = summary(job, &self.speed);
        match &mut self.kind {
            Kind::Bar { bar, agents, note, .. } => {
                bar.set_position((job.progress * BAR_PARTS as f64) as u64);
                let name = job.input.file_name().unwrap_or_default().to_string_lossy();
                bar.set_prefix(show::clean(&name));
                bar.set_message(summary);
                agents.set_message(who(job));
                if let Some(waiting) = &job.waiting {
                    note.set_message(waiting.clone());
                }
                bar.tick();
            }
            Kind::Lines { last } => {
                let due = last
                    .as_ref()
                    .is_none_or(|(phase, at)| *phase != job.phase || at.elapsed() > LINE_EVERY);
                if due && !job.is_over() {
                    *last = Some((job.phase.clone(), Instant::now()));
                    let waiting = job.waiting.as_deref().map(|why| format!("; {why}"));
                    let percent = job.progress * 100.0;
                    let waiting = waiting.unwrap_or_default();
                    show::error(&format!("{percent:5.1} %  {summary}  {}{waiting}", who(job)));
                }
            }
            Kind::Json { last } => {
                let now = format!("{} {:.3} {:?}", job.phase, job.progress, job.waiting);
                if *last != now && !job.is_over() {
                    *last = now;
                    show::json(&serde_json::json!({ "event": "progress", "job": job_line(job) }));
                }
            }
        }
    }

    /// A message that stays below the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.kind {
            Kind::Bar { note, .. } => note.set_message(text.to_owned()),
            Kind::Lines { .. } | Kind::Json { .. } => show::error(text),
        }
    }

    /// The bar goes; what follows is printed where it was.
    pub(crate) fn clear(&self) {
        if let Kind::Bar { all, .. } = &self.kind {
            let _ = all.clear();
        }
    }
}

fn bar() -> Kind {
    let style = |template: &str| {
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    };
    let all = MultiProgress::new();
    let bar = all.add(ProgressBar::new(BAR_PARTS));
    bar.set_style(style("{prefix}\n{bar:40.cyan/blue} {percent:>3} %  {msg}"));
    let agents = all.add(ProgressBar::new_spinner());
    agents.set_style(style("{msg}"));
    let note = all.add(ProgressBar::new_spinner());
    note.set_style(style("{msg:.yellow}"));
    Kind::Bar { all, bar, agents, note }
}

/// Events carry no task lists: they would repeat megabytes.
fn job_line(job: &JobView) -> JobView {
    JobView { tasks: Vec::new(), ..job.clone() }
}

fn summary(job: &JobView, speed: &Speed) -> String {
    let size = show::bytes(job.bytes);
    match job.phase.as_str() {
        "encoding" => {
            let eta = match speed.eta(job.progress) {
                Some(left) => format!("{} left", indicatif::HumanDuration(left)),
                None => "estimating".to_owned(),
            };
            format!("{:.0} fps  {eta}  {size}", speed.fps())
        }
        phase => format!("{phase}  {size}"),
    }
}

fn who(job: &JobView) -> String {
    let workers = job.workers.iter().map(|worker| {
        let now = match worker.now.as_slice() {
            [] => "idle".to_owned(),
            [first, ..] => format!("{first} at {:.0} fps", worker.fps),
        };
        format!("{} ({} done): {now}", show::clean(&worker.name), worker.segments)
    });
    workers.collect::<Vec<_>>().join("  |  ")
}
