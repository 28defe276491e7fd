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
            let rows = Preset::all().into_iter().map(|preset| {
                let crf = quality(&preset);
                let format = preset.container.to_string();
                vec![preset.name, preset.encoder.to_string(), crf, format, preset.description]
            });
            let heading = ["NAME", "ENCODER", "QUALITY", "FORMAT", "WHAT FOR"];
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
    }
}

/// The stable shape of a preset.
fn view(preset: &Preset) -> serde_json::Value {
    let mut shown = json!({
        "name": preset.name,
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
