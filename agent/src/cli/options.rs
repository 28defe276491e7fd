//! What can be said of pictures and tracks beside a preset, and of a forecast.

use std::path::PathBuf;

use clap::Args;
use dmc_protocol::media::options::{Crop, Deinterlace, Family, Fps, Target, Tracks};
use dmc_protocol::media::{EncoderSpeed, PresetOverrides};

/// What most conversions leave as it is.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Pictures and tracks")]
pub(crate) struct OptionArgs {
    /// Scale wider pictures down to this width.
    #[arg(long, value_name = "PIXELS")]
    pub max_width: Option<u32>,
    /// Keep this part of the pictures, or `auto`: all but black borders.
    #[arg(long, value_name = "W:H:X:Y")]
    pub crop: Option<Crop>,
    /// Leave out frames where there are more in a second: 30, 29.97, 24000/1001.
    #[arg(long, value_name = "FPS")]
    pub max_fps: Option<Fps>,
    /// Make whole frames of interlaced ones: bwdif or yadif.
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "bwdif", require_equals = true)]
    pub deinterlace: Option<Deinterlace>,
    /// Make ordinary pictures of those with high dynamic range.
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tone_map: Option<bool>,
    /// Mix sound with more channels down to so many.
    #[arg(long, value_name = "N")]
    pub audio_channels: Option<u16>,
    /// Bits a second of each audio track, as in 160k.
    #[arg(long, value_name = "RATE", value_parser = bit_rate)]
    pub audio_bitrate: Option<u32>,
    /// Audio tracks to keep: languages as in eng,deu; or all, or none.
    #[arg(long, value_name = "LANGS")]
    pub audio_languages: Option<Tracks>,
    /// Subtitles to keep: all, none, or languages as in eng,deu.
    #[arg(long, value_name = "LANGS")]
    pub subtitles: Option<Tracks>,
    /// Who encodes: software, hardware (refused where there is none) or auto.
    #[arg(long, value_name = "FAMILY")]
    pub encoder: Option<Family>,
    /// The quality to reach, as in ssim=0.98 or vmaf=95; the crf is found by trial encodes.
    #[arg(long, value_name = "METRIC=SCORE", conflicts_with = "crf")]
    pub target: Option<Target>,
}

/// What is predicted, and how thoroughly.
#[derive(Debug, Args)]
pub(crate) struct ForecastArgs {
    /// The folder; those in it count, too.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Target settings; `dmc presets` lists them.
    #[arg(long, default_value = "hevc", value_name = "NAME")]
    pub preset: String,
    /// Films that are drawn; of no more than so many, each is looked at.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub files: u16,
    /// Samples of three seconds of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=50))]
    pub samples: u16,
    /// What the draw follows from: the same seed draws the same films and places.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another quality (constant rate factor; smaller is better).
    #[arg(long)]
    pub crf: Option<u8>,
    /// Another encoder speed: ultrafast to veryslow.
    #[arg(long)]
    pub encoder_speed: Option<EncoderSpeed>,
    /// Scale taller pictures down to this height.
    #[arg(long, value_name = "PIXELS")]
    pub max_height: Option<u32>,
    #[command(flatten)]
    pub options: OptionArgs,
}

fn bit_rate(text: &str) -> Result<u32, String> {
    let bad = || format!("`{text}` is no bit rate; write it as in 160k");
    dmc_agent::presets::bit_rate(text).ok_or_else(bad)
}

impl OptionArgs {
    /// The same as changes to a preset.
    pub(crate) fn overrides(&self) -> PresetOverrides {
        let this = self.clone();
        PresetOverrides {
            max_width: this.max_width,
            crop: this.crop,
            max_fps: this.max_fps,
            deinterlace: this.deinterlace,
            tone_map: this.tone_map,
            audio_channels: this.audio_channels,
            audio_bps: this.audio_bitrate,
            audio_tracks: this.audio_languages,
            subtitles: this.subtitles,
            family: this.encoder,
            target: this.target,
            ..PresetOverrides::default()
        }
    }
}

impl ForecastArgs {
    /// The same as changes to a preset.
    pub(crate) fn overrides(&self) -> PresetOverrides {
        PresetOverrides {
            crf: self.crf,
            encoder_speed: self.encoder_speed,
            max_height: self.max_height,
            ..self.options.overrides()
        }
    }
}
