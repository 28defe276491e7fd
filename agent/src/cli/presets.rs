//! `dmc presets`.

use dmc_protocol::media::{Preset, Quality};
use serde_json::json;

use super::args::PresetsCommand;
use super::client::Place;
use super::{End, Usage, show};

pub(crate) fn run(place: &Place, command: Option<PresetsCommand>) -> anyhow::Result<End> {
    match command.unwrap_or(PresetsCommand::List) {
        PresetsCommand::List if place.json => {
            show::json(&Preset::all().iter().map(view).collect::<Vec<_>>());
        }
        PresetsCommand::List => {
            let mut all = Preset::all();
            // Films first; within a kind as they are.
            all.sort_by_key(Preset::kind);
            let rows = all.into_iter().map(|preset| {
                let (kind, quality) = (preset.kind().to_string(), quality(&preset));
                let format = preset.container.to_string();
                let encoder = preset.encoder.to_string();
                vec![kind, preset.name, encoder, quality, format, preset.description]
            });
            let heading = ["KIND", "NAME", "ENCODER", "QUALITY", "FORMAT", "WHAT FOR"];
            show::table(&heading, &rows.collect::<Vec<_>>());
        }
        PresetsCommand::Show { name } => {
            let preset = Preset::builtin(&name).map_err(|e| Usage(e.to_string()))?;
            let shown = view(&preset);
            if place.json {
                show::json(&shown);
            } else {
                show::line(toml::to_string(&shown)?.trim_end());
            }
        }
    }
    Ok(End::Done)
}

fn quality(preset: &Preset) -> String {
    match preset.quality {
        Quality::Crf(crf) => format!("crf {crf}"),
        Quality::Lossless => "lossless".to_owned(),
        Quality::Percent(percent) => format!("quality {percent}"),
        Quality::Bitrate(bps) => format!("{} kbit/s a channel", bps / 1_000),
    }
}

/// The stable shape of a preset.
fn view(preset: &Preset) -> serde_json::Value {
    let mut shown = json!({
        "name": preset.name,
        "kind": preset.kind(),
        "description": preset.description,
        "encoder": preset.encoder.name(),
        "codec": preset.encoder.codec().name(),
        "quality": quality(preset),
        "encoder_speed": preset.speed.name(),
        "container": preset.container.extension(),
    });
    if let (Quality::Crf(crf), Some(shown)) = (preset.quality, shown.as_object_mut()) {
        shown.insert("crf".to_owned(), crf.into());
    }
    shown
}
