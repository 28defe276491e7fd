//! What a conversion of a folder would bring, before anything is queued: space, time and quality.

pub mod estimate;

use std::path::{Path, PathBuf};

use dmc_protocol::media::options::Metric;
use dmc_protocol::media::{MediaKind, Preset, Quality, TaskSpec, VideoWork, WorkClass};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::media::index::Index;
use crate::media::plan::{self, PlanHints};
use crate::media::run::Tools;
use crate::media::streams::Probe;
use crate::media::{MediaError, borders, index, probe, quality};
use dmc_protocol::media::options::Crop;
use estimate::{Chance, Drawn, Estimate};

/// Length of a sample in seconds.
const SAMPLE_S: f64 = 3.0;
/// Files of a folder that are counted.
const FILES_MAX: usize = 1_000_000;
/// Folders within folders.
const DEPTH_MAX: usize = 32;
/// Ends of names of films.
const FILMS: [&str; 22] = [
    "mkv", "mp4", "m4v", "mov", "avi", "ts", "m2ts", "mts", "mpg", "mpeg", "vob", "wmv", "webm",
    "flv", "ogv", "3gp", "asf", "divx", "rm", "rmvb", "dv", "mxf",
];

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Files that are drawn.
    pub files: usize,
    /// Samples of each.
    pub samples: usize,
    /// What the draw follows from.
    pub seed: u64,
}

/// A film of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Film {
    /// Its path.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
}

/// A file that tells nothing, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    /// Its path.
    pub path: String,
    /// Why.
    pub why: String,
}

/// What came of looking.
#[derive(Debug, Clone)]
pub struct Looked {
    /// The films of the folder.
    pub films: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Films that were drawn and told something.
    pub drawn: usize,
    /// Whether every film was looked at.
    pub all: bool,
    /// Films that were drawn and tell nothing.
    pub skipped: Vec<Skipped>,
    /// What is predicted.
    pub estimate: Option<Estimate>,
    /// The class of the work, and this machine's speed at it in work units a second.
    pub speed: Option<(WorkClass, f64)>,
}

/// The films of a folder and of those in it, sorted. What cannot be read is not counted; links are not
/// followed.
pub fn films(dir: &Path) -> std::io::Result<Vec<Film>> {
    let mut found = Vec::new();
    let mut open = vec![(dir.to_owned(), 0)];
    let mut first = true;
    while let Some((dir, depth)) = open.pop() {
        let entries = match std::fs::read_dir(&dir) {
            Err(e) if first => return Err(e),
            Err(_) => continue,
            Ok(entries) => entries,
        };
        first = false;
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if hidden || found.len() >= FILES_MAX {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((path, depth + 1));
            } else if kind.is_file() && is_film(&path) {
                let bytes = entry.metadata().map_or(0, |meta| meta.len());
                found.push(Film { path, bytes });
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_film(path: &Path) -> bool {
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase());
    end.is_some_and(|end| FILMS.contains(&end.as_str()))
}

/// Which films are looked at: all, or as many as are wanted, each as often as its bytes.
fn draw(films: &[Film], effort: Effort, chance: &mut Chance) -> Vec<usize> {
    if films.len() <= effort.files {
        return (0..films.len()).collect();
    }
    let weights: Vec<u64> = films.iter().map(|film| film.bytes).collect();
    (0..effort.files).filter_map(|_| chance.pick(&weights)).collect()
}

/// Looks at some films and predicts for all.
///
/// # Errors
/// When it is ended, or the disk is full. Films that cannot be read are told in the result.
pub async fn look(
    tools: &Tools,
    films: &[Film],
    (preset, effort): (&Preset, Effort),
    desk: &Path,
    mut tell: impl FnMut(usize, usize, &Path),
    cancel: &CancellationToken,
) -> Result<Looked, MediaError> {
    let mut chance = Chance::new(effort.seed);
    let picked = draw(films, effort, &mut chance);
    let bytes = films.iter().map(|film| film.bytes).sum();
    let (mut drawn, mut skipped, mut speeds) = (Vec::new(), Vec::<Skipped>::new(), Vec::new());
    for (number, film) in picked.iter().map(|at| &films[*at]).enumerate() {
        tell(number, picked.len(), &film.path);
        match one(tools, film, (preset, effort), desk, &mut chance, cancel).await {
            Ok((file, class, speed)) => {
                drawn.push(file);
                speeds.push((class, speed));
            }
            Err(error) if error.is_cancelled() || error.is_disk_full() => return Err(error),
            Err(error) => {
                let path = film.path.display().to_string();
                let why = crate::worker::chain(&error);
                if !skipped.iter().any(|known| known.path == path) {
                    skipped.push(Skipped { path, why });
                }
            }
        }
    }
    let all = films.len() <= effort.files;
    let rate: Vec<f64> = speeds.iter().map(|(_, speed)| *speed).collect();
    let speed = speeds.first().map(|(class, _)| (*class, quality::mean(&rate).0));
    Ok(Looked {
        films: films.len(),
        bytes,
        drawn: drawn.len(),
        all,
        skipped,
        estimate: estimate::estimate(&drawn, bytes, all),
        speed,
    })
}

/// What one film tells: by each sample its result's bytes; its work; how fast it went.
async fn one(
    tools: &Tools,
    film: &Film,
    (preset, effort): (&Preset, Effort),
    desk: &Path,
    chance: &mut Chance,
    cancel: &CancellationToken,
) -> Result<(Drawn, WorkClass, f64), MediaError> {
    let refused = |why: &str| MediaError::refused(&film.path, why, "It is left out here");
    let probe = probe::probe(tools, &film.path).await?;
    if probe.kind != MediaKind::Video || probe.is_picture() {
        return Err(refused("it is no film"));
    }
    let index = index::index(tools, &film.path, &probe).await?;
    let mut preset = preset.clone();
    if preset.options.crop == Some(Crop::Auto) {
        preset.options.crop = borders::find(tools, &film.path, &probe).await?;
    }
    let hints = PlanHints { segment_target_s: f64::INFINITY, ..PlanHints::default() };
    let plan =
        plan::plan(&probe, &index, &preset, &hints).map_err(|e| plan::with_path(e, &film.path))?;
    let Some(mut work) = plan.tasks.iter().find_map(TaskSpec::video).cloned() else {
        return Err(refused("its pictures are copied: it keeps its size"));
    };
    let task = plan.tasks.iter().find(|task| task.video().is_some());
    let (class, units) = task.map_or_else(
        || (plan.tasks[0].class(), 0.0),
        |task| (task.class(), task.work_units() as f64),
    );
    let metric = preset.options.target.map_or(Metric::Ssim, |target| target.metric);
    let samples = take(tools, (film, &probe), &work, effort, desk, chance, cancel).await?;
    if samples.is_empty() {
        return Err(refused("no sample of it could be decoded"));
    }
    if let Some(target) = preset.options.target {
        let found = quality::search(tools, &samples, &work, target, cancel).await?;
        work.settings.quality = Quality::Crf(found.crf);
    }
    let source = Source::of(film, &probe, &index, &plan.tasks, &work);
    let (mut results, mut scores, mut pixels, mut seconds) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for sample in &samples {
        let trial = quality::trial(tools, sample, &work, metric, cancel).await?;
        results.push(source.result(sample, trial.bytes));
        scores.push(trial.score);
        pixels += f64::from(trial.frames) * f64::from(work.width) * f64::from(work.height);
        seconds += trial.seconds;
    }
    let file = Drawn { bytes: film.bytes, results, units, scores };
    Ok((file, class, pixels / seconds.max(0.001)))
}

async fn take(
    tools: &Tools,
    (film, probe): (&Film, &Probe),
    work: &VideoWork,
    effort: Effort,
    desk: &Path,
    chance: &mut Chance,
    cancel: &CancellationToken,
) -> Result<Vec<quality::Sample>, MediaError> {
    let length_us = probe.duration_us.unwrap_or(0);
    let part = length_us as f64 / effort.samples.max(1) as f64;
    let mut samples = Vec::new();
    for number in 0..effort.samples {
        // One place in each equal part of the film: chance within, evenly over all.
        let room = (part - SAMPLE_S * 1e6).max(0.0);
        let offset = part * number as f64 + room * chance.part();
        let at_us = probe.start_us.saturating_add(offset as i64);
        let file = desk.join(format!("sample{number}.nut"));
        let place = (at_us, SAMPLE_S.min(length_us.max(100_000) as f64 / 1e6));
        let what = (film.path.as_path(), probe);
        samples.extend(quality::take(tools, what, work, place, file, cancel).await?);
        if part < SAMPLE_S * 1e6 {
            break; // it is shorter than its samples
        }
    }
    Ok(samples)
}

/// What is known of a source without decoding it.
struct Source<'a> {
    index: &'a Index,
    work: &'a VideoWork,
    pictures: f64,
    length_s: f64,
    /// Bytes of the result beside its pictures.
    beside: f64,
}

impl<'a> Source<'a> {
    fn of(
        film: &Film,
        probe: &Probe,
        index: &'a Index,
        tasks: &[TaskSpec],
        work: &'a VideoWork,
    ) -> Source<'a> {
        let pictures = index.bytes() as f64;
        let length_s = probe.duration_us.unwrap_or(0) as f64 / 1e6;
        let encoded = tasks.iter().filter_map(|task| match task {
            TaskSpec::Audio(task) => Some(f64::from(task.bps) / 8.0 * length_s),
            _ => None,
        });
        let encoded: f64 = encoded.sum();
        let copied = (film.bytes as f64 - pictures).max(0.0);
        Source {
            index,
            work,
            pictures,
            length_s,
            beside: if encoded > 0.0 { encoded } else { copied },
        }
    }

    /// Bytes of the result if all of the film were like this sample: where the source needed more
    /// bytes, so will the result.
    fn result(&self, sample: &quality::Sample, coded: f64) -> f64 {
        let base = self.work.time_base;
        let from = sample.at_us;
        let to = from.saturating_add((sample.seconds * 1e6) as i64);
        let within = self.index.packets.iter().filter(|packet| {
            packet.pts.is_some_and(|pts| (from..to).contains(&base.ticks_to_us(pts)))
        });
        let spent: f64 = within.map(|packet| f64::from(packet.bytes)).sum();
        let by_time = coded / sample.seconds.max(0.1) * self.length_s;
        if spent <= 0.0 {
            return by_time + self.beside;
        }
        // Each alone is off, one where scenes differ, the other where keyframes fall badly.
        let by_bytes = coded / spent * self.pictures;
        let pictures = if by_time > 0.0 { (by_time * by_bytes).sqrt() } else { by_bytes };
        pictures + self.beside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn films_are_found_in_folders_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::create_dir_all(dir.path().join(".hidden")).unwrap();
        for name in ["x.MKV", "a/y.mp4", "a/b/-z 🎬.avi", "notes.txt", ".hidden/h.mkv", ".part.mkv"]
        {
            std::fs::write(dir.path().join(name), "12").unwrap();
        }
        let found = films(dir.path()).unwrap();
        let names: Vec<_> =
            found.iter().map(|film| film.path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, [Path::new("a/b/-z 🎬.avi"), Path::new("a/y.mp4"), Path::new("x.MKV")]);
        assert_eq!(found[0].bytes, 2);
        assert!(films(&dir.path().join("none")).is_err());
    }

    #[test]
    fn small_folders_are_looked_at_whole_and_large_ones_by_weight() {
        let film = |bytes| Film { path: PathBuf::from("x"), bytes };
        let effort = Effort { files: 4, samples: 1, seed: 9 };
        let small = [film(1), film(1)];
        assert_eq!(draw(&small, effort, &mut Chance::new(9)), [0, 1]);
        let large: Vec<Film> = (0..50).map(|n| film(if n == 7 { 1_000_000 } else { 1 })).collect();
        assert_eq!(draw(&large, effort, &mut Chance::new(9)), [7, 7, 7, 7]);
    }
}
