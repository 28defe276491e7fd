//! `dmc presets`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dmc_agent::presets::{self, handbrake};
use dmc_protocol::media::{AudioPolicy, Preset, Quality};
use serde_json::json;

use super::args::PresetsCommand;
use super::client::Place;
use super::{End, Usage, show};

const FILE_BYTES_MAX: u64 = 4 << 20;

pub(crate) fn run(place: &Place, command: Option<PresetsCommand>) -> anyhow::Result<End> {
    let dir = place.settings()?.presets;
    let dir = dir.as_deref();
    match command.unwrap_or(PresetsCommand::List) {
        PresetsCommand::List => Ok(list(place, dir)),
        PresetsCommand::Show { name } => {
            let preset = presets::find(dir, &name).map_err(|e| Usage(e.to_string()))?;
            if place.json {
                show::json(&view(&preset));
            } else {
                show::line(presets::write_text(&preset).trim_end());
            }
            Ok(End::Done)
        }
        PresetsCommand::Check { file } => check(place, dir, &file),
        PresetsCommand::Import { file, name } => import(place, dir, &file, name.as_deref()),
    }
}

fn list(place: &Place, dir: Option<&Path>) -> End {
    let found = presets::all(dir);
    let good = found.iter().filter_map(|found| found.as_ref().ok());
    if place.json {
        show::json(&good.map(view).collect::<Vec<_>>());
    } else {
        let rows = good.map(|preset| {
            let encoder =
                if preset.copies_pictures() { "copy".into() } else { preset.encoder.to_string() };
            let format = preset.container.to_string();
            let about = preset.description.clone();
            let kind = preset.kind().to_string();
            vec![kind, preset.name.clone(), encoder, quality(preset), format, about]
        });
        let heading = ["KIND", "NAME", "ENCODER", "QUALITY", "FORMAT", "WHAT FOR"];
        show::table(&heading, &rows.collect::<Vec<_>>());
    }
    let bad = found.iter().filter_map(|found| found.as_ref().err());
    for (_, problem) in bad {
        show::error(&format!("dmc: {problem}"));
    }
    End::Done
}

fn check(place: &Place, dir: Option<&Path>, file: &Path) -> anyhow::Result<End> {
    let preset = presets::check(dir, file)?;
    if place.json {
        show::json(&view(&preset));
    } else {
        show::line(&format!("{} can be used. In full it is:", preset.name));
        show::line(presets::write_text(&preset).trim_end());
    }
    Ok(End::Done)
}

fn import(
    place: &Place,
    dir: Option<&Path>,
    file: &Path,
    name: Option<&str>,
) -> anyhow::Result<End> {
    let dir = dir.context("no home directory: name a configuration file with --config")?;
    let shown = file.display();
    let length = std::fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    anyhow::ensure!(length <= FILE_BYTES_MAX, "{shown} is too long for a preset");
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    if file.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml")) {
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let path = presets::add(dir, name.unwrap_or(stem), &text)?;
        return Ok(say_import(place, &[(path, None)]));
    }
    let mapped = handbrake::import(&text).with_context(|| format!("cannot import {shown}"))?;
    if name.is_some() && mapped.len() > 1 {
        let text = format!("{shown} holds {} presets: leave --name out", mapped.len());
        return Err(Usage(text).into());
    }
    let mut made = Vec::new();
    for mapped in mapped {
        let path = presets::add(dir, name.unwrap_or(&mapped.name), &mapped.text)?;
        made.push((path, Some(mapped)));
    }
    Ok(say_import(place, &made))
}

fn say_import(place: &Place, made: &[(PathBuf, Option<handbrake::Mapped>)]) -> End {
    if place.json {
        let view = |(path, mapped): &(PathBuf, Option<handbrake::Mapped>)| {
            let mapped = mapped.as_ref();
            let ignored = mapped.map(|mapped| {
                let keys =
                    mapped.ignored.iter().map(|(key, value)| json!({ "key": key, "value": value }));
                keys.collect::<Vec<_>>()
            });
            json!({
                "name": path.file_stem().and_then(|stem| stem.to_str()),
                "file": path.display().to_string(),
                "ignored": ignored.unwrap_or_default(),
                "ignored_off": mapped.map(|mapped| mapped.off.clone()).unwrap_or_default(),
                "notes": mapped.map(|mapped| mapped.notes.clone()).unwrap_or_default(),
            })
        };
        show::json(&made.iter().map(view).collect::<Vec<_>>());
        return End::Done;
    }
    for (path, mapped) in made {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        show::line(&format!("preset {name}: {}", path.display()));
        let Some(mapped) = mapped else { continue };
        for note in &mapped.notes {
            show::line(&format!("  note: {}", show::clean(note)));
        }
        for (key, value) in &mapped.ignored {
            show::line(&format!("  ignored: {} = {}", show::clean(key), show::clean(value)));
        }
        if !mapped.off.is_empty() {
            let off = show::clean(&mapped.off.join(", "));
            show::line(&format!("  ignored, and off: {off}"));
        }
    }
    End::Done
}

fn quality(preset: &Preset) -> String {
    match (preset.options.target, preset.quality) {
        _ if preset.copies_pictures() => "as it is".to_owned(),
        (Some(target), _) => target.to_string(),
        (None, Quality::Crf(crf)) => format!("crf {crf}"),
        (None, Quality::Lossless) => "lossless".to_owned(),
        (None, Quality::Percent(percent)) => format!("quality {percent}"),
        (None, Quality::Bitrate(bps)) => format!("{} kbit/s a channel", bps / 1_000),
    }
}

/// The stable shape of a preset.
fn view(preset: &Preset) -> serde_json::Value {
    let options = &preset.options;
    let copies = preset.copies_pictures();
    let mut shown = json!({
        "name": preset.name,
        "kind": preset.kind(),
        "description": preset.description,
        "encoder": if copies { "copy" } else { preset.encoder.name() },
        "codec": if copies { "copy" } else { preset.encoder.codec().name() },
        "quality": quality(preset),
        "encoder_speed": preset.speed.name(),
        "container": preset.container.extension(),
        "family": options.family.to_string(),
        "audio": match preset.audio {
            AudioPolicy::Copy => "copy",
            AudioPolicy::Encode { encoder, .. } => encoder.codec().name(),
        },
    });
    let Some(shown_map) = shown.as_object_mut() else { return shown };
    if let (Quality::Crf(crf), false) = (preset.quality, copies) {
        shown_map.insert("crf".to_owned(), crf.into());
    }
    let more: [(&str, Option<serde_json::Value>); 7] = [
        ("max_width", options.max_width.map(Into::into)),
        ("max_height", preset.max_height.map(Into::into)),
        ("crop", options.crop.map(|crop| crop.to_string().into())),
        ("max_fps", options.max_fps.map(|fps| fps.to_string().into())),
        ("deinterlace", options.deinterlace.map(|way| way.to_string().into())),
        ("audio_channels", options.audio_channels.map(Into::into)),
        ("target", options.target.map(|target| target.to_string().into())),
    ];
    for (key, value) in more {
        if let Some(value) = value {
            shown_map.insert(key.to_owned(), value);
        }
    }
    shown
}
