//! Converts files on this machine alone, through the whole ladder, and says by which rung each
//! segment went. For development: `cargo run --example convert_local -- PRESET OUT_DIR FILE...`.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};

use dmc_agent::media::index::Index;
use dmc_agent::media::plan::{Demotion, Plan, PlanHints};
use dmc_agent::media::run::{TaskOutput, Tools, run_task};
use dmc_agent::media::streams::Probe;
use dmc_agent::media::verify::{self, Look, Verdict};
use dmc_agent::media::{MediaError, cut, index, join, plan, probe, publish};
use dmc_protocol::media::{Container, Feed, Preset, PresetOverrides, TaskInput, TaskSpec};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args_os().skip(1);
    let preset = words.next().unwrap_or_default().to_string_lossy().into_owned();
    let out_dir = PathBuf::from(words.next().unwrap_or_default());
    let (name, container) = preset.split_once(':').unwrap_or((&preset, "mkv"));
    let container: Container = container.parse()?;
    let over = PresetOverrides { container: Some(container), ..PresetOverrides::default() };
    let preset = Preset::builtin(name)?.with(&over)?;
    let tools = Tools::find()?;
    let mut failed = 0;
    for file in words {
        let file = PathBuf::from(file);
        let started = std::time::Instant::now();
        match convert(&tools, &file, &preset, &out_dir).await {
            Ok(line) => println!("OK   {} {line} {:.1?}", file.display(), started.elapsed()),
            Err(error) => {
                failed += 1;
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                println!("FAIL {} {error} {}", file.display(), cause.unwrap_or_default());
                if let (Some(command), Some(stderr)) = (error.command(), error.stderr()) {
                    println!("     {command}\n     {stderr}");
                }
            }
        }
    }
    std::process::exit(i32::from(failed > 0));
}

async fn convert(
    tools: &Tools,
    file: &Path,
    preset: &Preset,
    out_dir: &Path,
) -> Result<String, MediaError> {
    let cancel = CancellationToken::new();
    let probed = probe::probe(tools, file).await?;
    let packets = index::index(tools, file, &probed).await?;
    let target = std::env::var("SEGMENT_S").ok().and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let hints = PlanHints { segment_target_s: target, ..PlanHints::default() };
    let mut plan = plan::plan(&probed, &packets, preset, &hints)
        .map_err(|error| plan::with_path(error, file))?;
    let work = tempfile::tempdir().map_err(|error| MediaError::io("write", out_dir, error))?;
    let parts = (&probed, &packets);
    let (results, ways) = run_all(tools, file, &mut plan, parts, work.path(), &cancel).await?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.{}", preset.name, plan.join.container.extension()));
    let dest = out_dir.join(name);
    let temp = publish::temp_path(&dest, "local");
    join::join(tools, &plan, file, &results, &temp, work.path(), &cancel).await?;
    let report =
        verify::verify_output(tools, &plan, (&probed, file), &results, &temp, &cancel).await?;
    publish::publish(&temp, &dest, file, true)?;
    for note in &plan.notes {
        println!("     note: {note}");
    }
    let reasons = plan.reasons.join("; ");
    Ok(format!(
        "{:?} {reasons} [{}] frames={} pts_error={}us pixels={} ",
        plan.rung,
        ways.join(" "),
        report.frames,
        report.max_pts_error_us,
        report.pixels_equal
    ))
}

/// Runs all tasks, one after the other, each as far down the ladder as it must; the results, and the
/// ways by which they were made.
async fn run_all(
    tools: &Tools,
    file: &Path,
    plan: &mut Plan,
    (probed, packets): (&Probe, &Index),
    work: &Path,
    cancel: &CancellationToken,
) -> Result<(Vec<TaskOutput>, Vec<&'static str>), MediaError> {
    'plan: loop {
        let (mut results, mut ways): (Vec<TaskOutput>, _) = (Vec::new(), Vec::new());
        let mut task = 0;
        while (task as usize) < plan.tasks.len() {
            match run_one(tools, file, plan, task, work, results.last(), cancel).await? {
                Ok(output) => {
                    ways.push(way(&plan.tasks[task as usize]));
                    results.push(output);
                    task += 1;
                }
                Err(why) => match plan::demote(probed, packets, &plan.preset, plan, task) {
                    Demotion::Retry(replacement) => {
                        println!("     lower: {why}");
                        plan.replace(task, replacement);
                    }
                    Demotion::WholeFile(lower) => {
                        println!("     whole: {why}");
                        *plan = *lower;
                        continue 'plan;
                    }
                    Demotion::GiveUp => return Err(MediaError::Unproven { why }),
                },
            }
        }
        return Ok((results, ways));
    }
}

fn way(spec: &TaskSpec) -> &'static str {
    match spec {
        TaskSpec::Segment(segment) => match segment.feed {
            Feed::Piece { preroll_keyframes: 0 | 1, .. } => "piece",
            Feed::Piece { .. } => "piece+",
            Feed::Seek { .. } => "seek",
        },
        TaskSpec::Whole(whole) if whole.expected.is_some() => "whole",
        TaskSpec::Whole(_) => "decoded",
        TaskSpec::Audio(_) => "audio",
        TaskSpec::Image(_) | TaskSpec::Still(_) => "image",
        TaskSpec::Sound(_) => "sound",
    }
}

async fn run_one(
    tools: &Tools,
    file: &Path,
    plan: &Plan,
    task: u32,
    work: &Path,
    previous: Option<&TaskOutput>,
    cancel: &CancellationToken,
) -> Result<Result<TaskOutput, String>, MediaError> {
    let spec = &plan.tasks[task as usize];
    let dir = work.join(format!("{task}"));
    std::fs::create_dir_all(&dir).map_err(|error| MediaError::io("write", &dir, error))?;
    let piece = dir.join("piece.nut");
    let input = match spec.input() {
        TaskInput::Piece => {
            cut::cut_piece(tools, file, plan, task, &piece, cancel).await?;
            &piece
        }
        TaskInput::Source => file,
    };
    let output = match run_task(tools, spec, input, &dir, Look::Packets, |_| {}, cancel).await {
        Ok((output, _)) => output,
        Err(error) if error.is_unproven() => return Ok(Err(error.to_string())),
        Err(error) => return Err(error),
    };
    let files = (output.media.as_path(), output.proof.as_path());
    match verify::verify_result(tools, plan, task, files, (file, &dir), cancel).await? {
        Verdict::Good(_) => {}
        Verdict::Unproven(why) => return Ok(Err(why)),
        Verdict::Damaged(why) => return Err(MediaError::wrong("the result", why)),
    }
    if let Some(previous) = previous
        && !verify::link_ok(plan, task, &previous.proof, &output.proof).await?
    {
        return Ok(Err(format!("{} does not link to the one before", spec.label())));
    }
    Ok(Ok(output))
}
