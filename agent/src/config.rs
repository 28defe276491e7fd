//! Settings: built-in defaults, then the configuration file, then `DMC_…` environment variables,
//! then the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use dmc_protocol::media::{Encoder, MediaKind};
use serde::{Deserialize, Serialize};

use crate::hours::Hours;
use crate::manners::YieldHow;
use crate::webhooks::Webhook;

/// Whether agents that see each other join by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// Open at first, then closed.
    Auto,
    /// Always open.
    Open,
    /// Never open.
    Closed,
}

/// Whether jobs are handed over by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandOver {
    /// While this machine runs on its battery.
    Auto,
    /// Only when a person asks for it.
    Never,
}

/// Whether ffmpeg is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandboxing {
    /// As far as the system can; what it lacks is said.
    Auto,
    /// Wholly, or the agent does not start.
    Required,
    /// Not at all: only limits and priority.
    Off,
}

/// Everything that a person can set; every key has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name that people see; empty: the host's name.
    pub name: String,
    /// Addresses to listen on for peers; port 0 picks a free one. Empty: port 7341 on all
    /// interfaces, or a free port when that is taken.
    pub listen: Vec<SocketAddr>,
    /// Address of the HTTP API. Port 0 picks a free one. Where other machines reach it, it is
    /// encrypted, and the command line of this machine has an address of its own.
    pub api: Option<SocketAddr>,
    /// Certificate of the API, with its chain (PEM); without one the agent makes its own.
    pub api_certificate: Option<PathBuf>,
    /// The certificate's private key (PEM).
    pub api_key: Option<PathBuf>,
    /// Calls that each token may make in a second, with ten times as many at once now and then; the
    /// token of this machine may make any number.
    pub api_calls_per_s: NonZeroU32,
    /// Whether the API is not encrypted where other machines reach it.
    pub api_insecure: bool,
    /// Peers to dial, `HOST:PORT`, for networks without multicast.
    pub peers: Vec<String>,
    /// Encodes at the same time; 0: chosen from the processor.
    pub slots: u32,
    /// Whether agents that see each other join by themselves.
    pub door: Door,
    /// Whether to announce and look for agents by mDNS.
    pub discovery: bool,
    /// Another UDP port for mDNS, for tests; 0: the standard one.
    pub discovery_port: u16,
    /// Free bytes that dmc leaves on a disk.
    pub disk_reserve_bytes: u64,
    /// Most bytes of pieces and results that are kept for running jobs.
    pub blob_quota_bytes: u64,
    /// Most bytes of files that clients send through the API.
    pub upload_quota_bytes: u64,
    /// Directories whose files clients of the API may name.
    pub api_paths: Vec<PathBuf>,
    /// Other names of the API, `name` or `name:port`: those under which a reverse proxy passes
    /// calls on, or other machines call. A name alone is for ports 80 and 443.
    pub api_hosts: Vec<String>,
    /// Who is told that a job is over.
    pub webhooks: Vec<Webhook>,
    /// Whether this agent keeps whole jobs of members that leave.
    pub custodian: bool,
    /// Whether jobs are handed over by themselves while this machine runs on its battery.
    pub hand_over: HandOver,
    /// Jobs that are open at a time: read, planned and shared out. Others wait on the disk. 0: no
    /// new job begins.
    pub jobs_open_max: usize,
    /// Jobs of watched folders at a time; other files wait in their folders.
    pub watch_jobs_max: usize,
    /// Seconds in which a file of a watched folder must not change before it is taken.
    pub watch_settle_s: u64,
    /// Seconds between two looks at all of a watched folder: not every disk tells of changes.
    pub watch_rescan_s: u64,
    /// Where results that others deliver to this agent are put; without it, none are.
    pub inbox: Option<PathBuf>,
    /// Days that the originals of replaced files are kept.
    pub undo_keep_days: u32,
    /// Most bytes of them; the oldest go first. 0: a tenth of the disk that they are on.
    pub undo_bytes_max: u64,
    /// Where they are kept; without it, on the disk that they were on.
    pub undo_dir: Option<PathBuf>,
    /// Whether ffmpeg is confined to the files of each call, without network or other programs.
    pub sandbox: Sandboxing,
    /// The most memory that one ffmpeg may ask for, in bytes; 0: three quarters of the machine's,
    /// and 4 GiB at least. Encoders of AV1 need 2 GiB even for small pictures.
    pub sandbox_memory_bytes: u64,
    /// Whether an agent that knows nothing of its speed measures itself when it starts: two or
    /// three seconds, once for each ffmpeg.
    pub calibrate: bool,
    /// Where own presets are: TOML files, each named after its preset. Not set: `presets` beside the
    /// configuration file.
    pub presets: Option<PathBuf>,
    /// Encodes at the same time on the graphics card or media chip: many refuse more than a few.
    pub hardware_sessions: NonZeroU32,
    /// Kinds of work that this agent takes: "video", "audio", "image". Empty: all.
    pub accept: Vec<MediaKind>,
    /// Encoders whose work this agent should get, as ["libsvtav1"]; other work goes to others while
    /// any of them is idle. Empty: no matter.
    pub prefer: BTreeSet<Encoder>,
    /// Encodes of a kind at the same time, where that is less than `slots`, as { image = 1 }.
    pub slots_of: BTreeMap<MediaKind, u32>,
    /// When this agent works, in local time, as "22:00-07:00"; outside, it takes no new work and
    /// what runs is finished. Empty: always.
    pub hours: Hours,
    /// The part of the processor, 0 to 1, from which other programs need the machine: while they use
    /// that much this agent takes no new work. 0: it does not look.
    pub yield_load: f64,
    /// Whether it takes no new work while this machine runs on its battery.
    pub yield_on_battery: bool,
    /// What is done with running work meanwhile: "pause" stops it where it is, "finish" ends it.
    pub yield_how: YieldHow,
    /// For how long others must need the processor, in seconds, before it yields.
    pub yield_after_s: u64,
    /// For how long the machine must be free, in seconds, before it works again.
    pub yield_until_s: u64,
    /// After so many minutes of yielding, work that is not finished goes to other agents.
    pub yield_give_back_min: u64,
    /// The part of the time in which encoders run, in per cent.
    pub cpu_share_percent: u32,
    /// Seconds that running work gets when the agent stops.
    pub stop_grace_s: u64,
    /// Time-outs and limits between agents.
    pub mesh: dmc_protocol::config::Config,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            listen: Vec::new(),
            api: None,
            api_certificate: None,
            api_key: None,
            api_calls_per_s: NonZeroU32::new(50).unwrap_or(NonZeroU32::MIN),
            api_insecure: false,
            peers: Vec::new(),
            slots: 0,
            door: Door::Auto,
            discovery: true,
            discovery_port: 0,
            disk_reserve_bytes: 1 << 30,
            blob_quota_bytes: 1 << 40,
            upload_quota_bytes: 100 << 30,
            api_paths: Vec::new(),
            api_hosts: Vec::new(),
            webhooks: Vec::new(),
            custodian: true,
            hand_over: HandOver::Auto,
            jobs_open_max: 64,
            watch_jobs_max: 16,
            watch_settle_s: 30,
            watch_rescan_s: 900,
            inbox: None,
            undo_keep_days: 30,
            undo_bytes_max: 0,
            undo_dir: None,
            sandbox: Sandboxing::Auto,
            sandbox_memory_bytes: 0,
            calibrate: true,
            presets: None,
            hardware_sessions: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
            accept: Vec::new(),
            prefer: BTreeSet::new(),
            slots_of: BTreeMap::new(),
            hours: Hours::default(),
            yield_load: 0.0,
            yield_on_battery: false,
            yield_how: YieldHow::Pause,
            yield_after_s: 10,
            yield_until_s: 30,
            yield_give_back_min: 10,
            cpu_share_percent: 100,
            stop_grace_s: 10,
            mesh: dmc_protocol::config::Config::default(),
        }
    }
}

impl Settings {
    /// What cannot be meant, in words.
    fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.yield_load) {
            return Err("yield_load is a part of the processor: write it as in 0.5".to_owned());
        }
        if !(1..=100).contains(&self.cpu_share_percent) {
            return Err("cpu_share_percent is a number from 1 to 100".to_owned());
        }
        Ok(())
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file or a variable says something that is no setting.
    #[error("{place}: {reason}")]
    Invalid {
        /// The file or variable.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The home directory is not known.
    #[error("no home directory: name a data directory with --data-dir or DMC_DATA_DIR")]
    NoHome,
}

/// Where an agent keeps its state when nobody says otherwise (XDG base directories).
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let dirs = directories::ProjectDirs::from("", "", "dmc").ok_or(ConfigError::NoHome)?;
    Ok(dirs.data_dir().to_owned())
}

/// Where the configuration file is when nobody says otherwise.
pub fn default_file() -> Option<PathBuf> {
    Some(directories::ProjectDirs::from("", "", "dmc")?.config_dir().join("config.toml"))
}

/// Reads the settings. `file` must exist when it is named; the default one need not.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let found = file.map(Path::to_owned).or_else(|| default_file().filter(|path| path.exists()));
    let text = match &found {
        Some(path) => {
            let failed = |source| ConfigError::Read { path: path.clone(), source };
            Some((path.as_path(), std::fs::read_to_string(path).map_err(failed)?))
        }
        None => None,
    };
    let mut settings = read(text, variables)?;
    if settings.presets.is_none() {
        let beside = found.or_else(default_file);
        settings.presets = beside.and_then(|file| Some(file.parent()?.join("presets")));
    }
    Ok(settings)
}

/// The settings that a file's text and variables make.
pub(crate) fn read(
    file: Option<(&Path, String)>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let defaults = toml::Table::try_from(Settings::default()).map_err(|e| {
        ConfigError::Invalid { place: "built-in defaults".to_owned(), reason: e.to_string() }
    })?;
    let mut table = toml::Table::new();
    if let Some((path, text)) = file {
        let invalid = |reason| ConfigError::Invalid { place: path.display().to_string(), reason };
        table = text.parse().map_err(|e: toml::de::Error| invalid(e.to_string()))?;
        // Checked before variables are laid over it, so that the error names the file.
        Settings::deserialize(table.clone()).map_err(|e| invalid(e.to_string()))?;
    }
    for (variable, value) in variables {
        overlay(&mut table, &defaults, &variable, &value);
    }
    let settings = Settings::deserialize(table).map_err(|e| ConfigError::Invalid {
        place: "a DMC_… environment variable".to_owned(),
        reason: e.to_string(),
    })?;
    settings.check().map_err(|reason| ConfigError::Invalid { place: "settings".into(), reason })?;
    Ok(settings)
}

/// Settings whose variable is a list with commas.
const LISTS: [&str; 7] = ["peers", "listen", "hours", "accept", "prefer", "api_paths", "api_hosts"];

/// Settings that are text whatever it looks like, and those that have no default to be known by.
const TEXTS: [&str; 8] =
    ["name", "api", "api_certificate", "api_key", "door", "inbox", "undo_dir", "presets"];

/// `DMC_SLOTS=2` sets `slots`, `DMC_MESH_LEASE_MS=5000` sets `mesh.lease_ms`; others are not ours.
fn overlay(table: &mut toml::Table, defaults: &toml::Table, variable: &str, value: &str) {
    let Some(key) = variable.strip_prefix("DMC_").map(str::to_lowercase) else { return };
    if let Some(key) = key.strip_prefix("mesh_") {
        let known = defaults.get("mesh").and_then(|mesh| mesh.get(key)).is_some();
        let mesh = table.entry("mesh").or_insert_with(|| toml::Table::new().into());
        if let (true, Some(mesh)) = (known, mesh.as_table_mut()) {
            mesh.insert(key.to_owned(), read_value(value));
        }
    } else if LISTS.contains(&key.as_str()) {
        let items = value.split(',').map(|item| toml::Value::from(item.trim()));
        table.insert(key, items.collect::<Vec<_>>().into());
    } else if TEXTS.contains(&key.as_str()) {
        table.insert(key, value.into());
    } else if defaults.contains_key(&key) {
        table.insert(key, read_value(value));
    }
}

fn read_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "slots = 3\nprefer = [\"libx265\"]\nslots_of = { image = 2 }\n[mesh]\nlease_ms = 7000\n").unwrap();
        let owned = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(Some(file.path()), owned)
    }

    #[test]
    fn variables_win_over_the_file_and_the_file_over_defaults() {
        let settings =
            with(&[("DMC_MESH_SUSPECT_MS", "5"), ("DMC_NAME", "7"), ("DMC_OTHER", "x")]).unwrap();
        assert_eq!((settings.slots, settings.mesh.lease_ms), (3, 7000));
        assert!(settings.prefer.contains(&Encoder::Libx265));
        assert_eq!(settings.slots_of.get(&MediaKind::Image), Some(&2));
        assert_eq!((settings.mesh.suspect_ms, settings.name.as_str()), (5, "7"));
        assert_eq!(settings.mesh.heartbeat_ms, 10_000);
        assert_eq!(with(&[("DMC_SLOTS", "9")]).unwrap().slots, 9);
        let hours = with(&[("DMC_HOURS", "22:00-07:00,12:00-13:00")]).unwrap().hours;
        assert_eq!(hours.to_string(), "22:00-07:00, 12:00-13:00");
        let hosts = with(&[("DMC_API_HOSTS", "nas.home,box:8443")]).unwrap().api_hosts;
        assert_eq!(hosts, ["nas.home", "box:8443"]);
        let tls = with(&[("DMC_API_CERTIFICATE", "/a.pem"), ("DMC_API_KEY", "/b.pem")]).unwrap();
        assert_eq!(tls.api_certificate, Some(PathBuf::from("/a.pem")));
        assert_eq!(tls.api_key, Some(PathBuf::from("/b.pem")));
        assert_eq!(with(&[("DMC_SANDBOX", "off")]).unwrap().sandbox, Sandboxing::Off);
        let how = with(&[("DMC_YIELD_HOW", "finish"), ("DMC_YIELD_LOAD", "0.5")]).unwrap();
        assert_eq!((how.yield_how, how.yield_load), (YieldHow::Finish, 0.5));
        assert_eq!(with(&[("DMC_YIELD_LOAD", "1")]).unwrap().yield_load, 1.0);
    }

    #[test]
    fn what_is_no_setting_is_said() {
        assert!(matches!(with(&[("DMC_HOURS", "late")]), Err(ConfigError::Invalid { .. })));
        assert!(matches!(with(&[("DMC_SLOTS", "many")]), Err(ConfigError::Invalid { .. })));
        for wrong in [("DMC_YIELD_LOAD", "1.5"), ("DMC_CPU_SHARE_PERCENT", "0")] {
            let error = with(&[wrong]).unwrap_err().to_string();
            assert!(error.contains(&wrong.0.to_lowercase()[4..]), "{error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "slotz = 3\n").unwrap();
        let error = load(Some(file.path()), std::iter::empty()).unwrap_err();
        assert!(error.to_string().contains("slotz"), "{error}");
    }
}
