//! Joins the results of a plan's tasks and what is kept of the source into one file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dmc_protocol::media::{Codec, Container, MediaKind, TaskSpec};
use tokio_util::sync::CancellationToken;

use super::args::seconds;
use super::boxes;
use super::error::MediaError;
use super::plan::{Origin, OutStream, Plan};
use super::priming;
use super::run::{self, Args, Call, Tools};
use super::streams::StreamKind;
use super::timeline::{self, Timeline};
use super::work::TaskOutput;

/// Writes the joined file to `out`. `results` are those of the plan's tasks, in their order. `desk`
/// is an empty directory for links, lists and other small files; the caller removes it.
///
/// # Errors
/// When a result is missing, ffmpeg fails, or the disk is full.
pub async fn join(
    tools: &Tools,
    plan: &Plan,
    source: &Path,
    results: &[TaskOutput],
    out: &Path,
    desk: &Path,
    cancel: &CancellationToken,
) -> Result<(), MediaError> {
    if results.len() != plan.tasks.len() {
        let why = format!("{} of {} are there", results.len(), plan.tasks.len());
        return Err(MediaError::wrong("the results", why));
    }
    if plan.kind == MediaKind::Image {
        return super::picture::finish(plan, source, &results[0].media, out).await;
    }
    let timeline = timeline::read(plan, results).await?;
    let list = match &timeline {
        Some(timeline) => Some(write_list(plan, results, timeline, desk).await?),
        None => None,
    };
    let covers = extract_covers(tools, plan, source, desk, cancel).await?;
    let delays = priming::corrections(tools, plan, source, results, desk, cancel).await?;
    let parts =
        Parts { timeline: timeline.as_ref(), list: list.as_deref(), covers: &covers, delays };
    let args = if has_own_format(plan.join.container) {
        super::join_alone::arguments(plan, source, results, &covers, (desk, out)).await?
    } else {
        arguments(plan, source, results, &parts, out)
    };
    let mut call = Call::new("joining the result", &tools.ffmpeg, args);
    call.file_bytes_max = bytes_max(source, results).await;
    run::with_progress(call, |_| {}, cancel).await?;
    if plan.join.container == Container::Mp4 {
        boxes::turn(out, plan.join.orientation).await?;
    }
    Ok(())
}

/// No honest result is larger than what it is joined from and what a container adds.
async fn bytes_max(source: &Path, results: &[TaskOutput]) -> u64 {
    let mut files = vec![source];
    files.extend(results.iter().map(|result| result.media.as_path()));
    run::room_for(&files).await
}

/// The list of segments for ffmpeg, each with its exact length.
async fn write_list(
    plan: &Plan,
    results: &[TaskOutput],
    timeline: &Timeline,
    desk: &Path,
) -> Result<PathBuf, MediaError> {
    let mut list = String::from("ffconcat version 1.0\n");
    for (number, task) in plan.video_tasks().into_iter().enumerate() {
        let media = &results[task as usize].media;
        let name = format!("segment{number}");
        link(media, &desk.join(&name)).await?;
        let _ = writeln!(list, "file {name}");
        if let Some(TaskSpec::Segment(segment)) = plan.tasks.get(task as usize) {
            let us = timeline.time_base.ticks_to_us(segment.b_pts - segment.a_pts);
            let _ = writeln!(list, "duration {}", seconds(us));
        }
    }
    let path = desk.join("list.ffconcat");
    tokio::fs::write(&path, list).await.map_err(|e| MediaError::io("write", &path, e))?;
    Ok(path)
}

async fn link(from: &Path, to: &Path) -> Result<(), MediaError> {
    let from = std::path::absolute(from).map_err(|e| MediaError::io("read", from, e))?;
    #[cfg(unix)]
    let done = tokio::fs::symlink(&from, to).await;
    #[cfg(not(unix))]
    let done = tokio::fs::copy(&from, to).await.map(|_| ());
    done.map_err(|error| MediaError::io("link", to, error))
}

/// Whether sound alone is joined with its names, covers and chapters in the manner of its format.
fn has_own_format(container: Container) -> bool {
    matches!(container, Container::Opus | Container::M4a | Container::Mp3)
}

/// A cover picture as a file, with its name and type inside the result.
pub(super) struct CoverFile {
    pub(super) file: PathBuf,
    name: String,
    pub(super) mime: String,
    tags: Vec<(String, String)>,
}

/// In Matroska a cover is an attached file, not a track.
async fn extract_covers(
    tools: &Tools,
    plan: &Plan,
    source: &Path,
    desk: &Path,
    cancel: &CancellationToken,
) -> Result<Vec<CoverFile>, MediaError> {
    let mut covers = Vec::new();
    for stream in &plan.join.streams {
        let Origin::CoverFile { name, mime } = &stream.origin else { continue };
        let file = desk.join(format!("cover{}", covers.len()));
        let mut args = Args::ffmpeg();
        args.input(Some(&plan.source_format), source);
        args.words(&format!("-map 0:{} -c copy -frames:v 1 -f image2 -update 1", stream.source));
        args.output(&file);
        let mut call = Call::new("reading the cover", &tools.ffmpeg, args);
        call.file_bytes_max = run::room_for(&[source]).await;
        run::capture(call, cancel).await?;
        let tags = stream.tags.clone();
        covers.push(CoverFile { file, name: name.clone(), mime: mime.clone(), tags });
    }
    Ok(covers)
}

/// What was made ready for joining.
struct Parts<'a> {
    timeline: Option<&'a Timeline>,
    list: Option<&'a Path>,
    covers: &'a [CoverFile],
    /// For each stream of the result how much later it is written, in microseconds.
    delays: Vec<i64>,
}

fn arguments(
    plan: &Plan,
    source: &Path,
    results: &[TaskOutput],
    parts: &Parts<'_>,
    out: &Path,
) -> Args {
    let Parts { timeline, list, covers, delays } = parts;
    let mut command = Command {
        plan,
        source,
        args: Args::ffmpeg(),
        maps: Args::default(),
        inputs: 0,
        source_input: 0,
        streams: 0,
    };
    if !plan.join.continuous {
        // ffmpeg would move each input by the start of those of its streams that are used.
        command.args.arg("-copyts");
    }
    if let (Some(timeline), Some(list)) = (timeline, *list) {
        command.pictures(timeline, list);
    }
    command.source_input = match plan.join.continuous {
        true => command.source(),
        false => command.moved_source(plan.start_us.saturating_neg()),
    };
    for (at, stream) in plan.join.streams.iter().enumerate() {
        let correction = delays.get(at).copied().unwrap_or(0);
        if command.map(stream, correction, results) {
            command.describe(stream);
        }
    }
    command.finish(covers, *timeline, out)
}

/// ffmpeg's command as it grows.
struct Command<'a> {
    plan: &'a Plan,
    source: &'a Path,
    /// The inputs; at the end, everything.
    args: Args,
    /// What is taken from the inputs, and what is said of it.
    maps: Args,
    /// Inputs so far.
    inputs: u32,
    /// The input that is the source as a whole.
    source_input: u32,
    /// Streams of the result so far.
    streams: u32,
}

impl Command<'_> {
    /// Counts an input that was added; its number.
    fn input(&mut self) -> u32 {
        self.inputs += 1;
        self.inputs - 1
    }

    /// The encoded pictures, as a list of segments.
    fn pictures(&mut self, timeline: &Timeline, list: &Path) {
        self.args.arg("-itsoffset").arg(seconds(timeline.first_us));
        self.args
            .words("-protocol_whitelist file -format_whitelist concat,mov -f concat -safe 1 -i");
        self.args.read(list).follows_links_in(list.parent().unwrap_or(Path::new(".")));
        self.input();
    }

    fn source(&mut self) -> u32 {
        self.args.input(Some(&self.plan.source_format), self.source);
        self.input()
    }

    /// The source, so much later, in microseconds.
    fn moved_source(&mut self, us: i64) -> u32 {
        self.args.arg("-itsoffset").arg(seconds(us));
        self.source()
    }

    /// Takes a stream from where it is, `correction` µs later than it would be. False: it is no
    /// stream of its own.
    fn map(&mut self, stream: &OutStream, correction: i64, results: &[TaskOutput]) -> bool {
        let (plan, whole, number) = (self.plan, self.source_input, self.streams);
        match &stream.origin {
            Origin::Pictures => self.maps.words("-map 0:v:0"),
            Origin::Copy if correction != 0 && !plan.join.continuous => {
                // An input of its own: only its stream may move.
                let input = self.moved_source(correction.saturating_sub(plan.start_us));
                self.maps.words(&format!("-map {input}:{}", stream.source))
            }
            Origin::Copy => self.maps.words(&format!("-map {whole}:{}", stream.source)),
            Origin::Subtitle(encoder) => {
                self.maps.words(&format!("-map {whole}:{} -c:{number} {encoder}", stream.source))
            }
            Origin::Task(task) => {
                let Some(result) = results.get(*task as usize) else { return false };
                let delay = plan.delay_us(stream.source).saturating_add(correction);
                self.args.arg("-itsoffset").arg(seconds(delay)).input(None, &result.media);
                let input = self.input();
                self.maps.words(&format!("-map {input}:a:0"))
            }
            Origin::CoverFile { .. } => return false,
        };
        true
    }

    /// Tags and dispositions of the stream that was mapped last.
    fn describe(&mut self, stream: &OutStream) {
        let number = self.streams;
        for (key, value) in &stream.tags {
            self.maps.arg(format!("-metadata:s:{number}")).arg(format!("{key}={value}"));
        }
        let dispositions = match stream.dispositions.as_slice() {
            [] => "0".to_owned(),
            names => names.join("+"),
        };
        self.maps.arg(format!("-disposition:{number}")).arg(dispositions);
        self.streams += 1;
    }

    /// Attaches a cover picture.
    fn attach(&mut self, cover: &CoverFile) {
        let number = self.streams;
        self.args.arg("-attach").read(&cover.file);
        for (key, value) in [("mimetype", &cover.mime), ("filename", &cover.name)] {
            self.args.arg(format!("-metadata:s:{number}")).arg(format!("{key}={value}"));
        }
        for (key, value) in cover.tags.iter().filter(|(key, _)| key.eq_ignore_ascii_case("title")) {
            self.args.arg(format!("-metadata:s:{number}")).arg(format!("{key}={value}"));
        }
        self.streams += 1;
    }

    fn finish(mut self, covers: &[CoverFile], timeline: Option<&Timeline>, out: &Path) -> Args {
        let (plan, whole) = (self.plan, self.source_input);
        self.args.words("-c copy");
        self.args.append(std::mem::take(&mut self.maps));
        covers.iter().for_each(|cover| self.attach(cover));
        let mut args = self.args;
        args.words(&format!("-map_metadata {whole} -map_chapters {whole}"));
        args.words("-max_interleave_delta 0");
        container(&mut args, plan, timeline);
        args.output(out);
        if plan.join.continuous {
            // The same streams as were read for the pictures, so that the jumps are bridged alike.
            let pictures = plan.join.streams.iter().find(|s| s.origin == Origin::Pictures);
            let stream = pictures.map_or(0, |stream| stream.source);
            args.words(&format!("-map {whole}:{stream} -c copy -f null -"));
        }
        args
    }
}

fn container(args: &mut Args, plan: &Plan, timeline: Option<&Timeline>) {
    match plan.join.container {
        Container::Mp4 => {
            // FLAC in MP4 is a standard, which ffmpeg 5.1 still calls experimental.
            args.words("-movflags +faststart -strict -2");
            if let Some(timeline) = timeline {
                args.words(&format!("-video_track_timescale {}", timeline.time_base.den));
            }
            if plan.preset.encoder.codec() == Codec::Hevc {
                args.words("-tag:v:0 hvc1");
            }
            args.words("-f mp4");
        }
        Container::Flac => _ = args.words("-f flac"),
        _ => {
            // QuickTime, in which segments are, has no place for where the chroma is.
            let video = plan.tasks.iter().find_map(|task| task.video());
            let location = video.and_then(|video| video.settings.colour.chroma_location);
            if let Some(location) = location {
                args.words(&format!("-chroma_sample_location:v:0 {location}"));
            }
            args.words("-f matroska");
        }
    }
}

/// How many streams of each kind the joined file must have.
pub(crate) fn expected_streams(plan: &Plan) -> Vec<(StreamKind, usize)> {
    use StreamKind::{Attachment, Audio, Cover, Subtitle, Video};
    [Video, Audio, Subtitle, Cover, Attachment]
        .into_iter()
        .map(|kind| (kind, plan.join.streams.iter().filter(|s| s.kind == kind).count()))
        .collect()
}
