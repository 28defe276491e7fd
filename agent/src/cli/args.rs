//! What can be written on the command line.
#![allow(rustdoc::bare_urls, rustdoc::invalid_html_tags, reason = "they are read in a terminal")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dmc_agent::config::Door;
use dmc_agent::http::access::Scope;
use dmc_agent::jobs::{Priority, Status};
use dmc_protocol::media::{Codec, Container, EncoderSpeed, MediaKind};

use super::service::ServiceCommand;

use super::options::{ForecastArgs, OptionArgs};

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

/// Converts films on all machines at home: no server, no shared folder, every frame proven.
#[derive(Debug, Parser)]
#[command(name = "dmc", version, propagate_version = true)]
pub(crate) struct Cli {
    /// Where the agent keeps its state.
    #[arg(long, global = true, env = "DMC_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file (TOML).
    #[arg(long, global = true, env = "DMC_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only errors.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto)]
    pub color: Colour,
    #[command(flatten)]
    pub remote: RemoteArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach an agent on another machine. Its token is no option: what is said on a command
/// line, every user of this machine can read.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "An agent on another machine")]
pub(crate) struct RemoteArgs {
    /// Use the agent at this address, as in https://nas.home/dmc.
    #[arg(long, global = true, env = "DMC_AGENT", value_name = "URL")]
    pub agent: Option<String>,
    /// File that holds a token for it; or the variable DMC_TOKEN holds the token.
    #[arg(long, global = true, env = "DMC_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) to trust beside those of this machine.
    #[arg(long, global = true, env = "DMC_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Wait while it cannot be reached, at most for a time such as 90s or 5m.
    #[arg(long, global = true, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    pub wait_for_agent: Option<Option<Time>>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an agent on this machine.
    Agent(AgentArgs),
    /// Convert files, with all agents that are there.
    Convert(Box<ConvertArgs>),
    /// List and manage jobs.
    Jobs {
        #[command(subcommand)]
        command: Option<JobsCommand>,
    },
    /// Show this agent, or one job.
    Status {
        /// A job's id.
        id: Option<String>,
    },
    /// Copy the result of a finished job.
    Fetch(FetchArgs),
    /// Bring a file back that a job replaced, or list those files.
    Undo(UndoArgs),
    /// List the agents that this one knows.
    Peers,
    /// Show and change who belongs to the mesh.
    Mesh {
        #[command(subcommand)]
        command: Option<MeshCommand>,
    },
    /// Make and revoke the tokens with which programs use this agent.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Watch folders, and convert what is in them by rules.
    Watch {
        #[command(subcommand)]
        command: Option<WatchCommand>,
    },
    /// Print a link that opens the dashboard of this agent in a browser.
    Dashboard,
    /// Finish what runs here and take nothing new.
    Pause,
    /// Take new work again.
    Resume,
    /// List, show, check and import presets.
    Presets {
        #[command(subcommand)]
        command: Option<PresetsCommand>,
    },
    /// Predict what converting a folder would bring: space, time and quality, with error bars.
    Forecast(ForecastArgs),
    /// Say what is missing on this machine, and how to mend it.
    Doctor,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Run an agent in the background, from the start of the machine.
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Write manual pages into a directory.
    #[command(hide = true)]
    Man {
        /// The directory.
        dir: PathBuf,
    },
    /// Show the settings in force.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[derive(Debug, Default, Args)]
pub(crate) struct AgentArgs {
    /// Name that people see [default: the host's name].
    #[arg(long)]
    pub name: Option<String>,
    /// Address to listen on for peers; port 0 picks a free one.
    #[arg(long, value_name = "ADDR")]
    pub listen: Vec<SocketAddr>,
    /// Address of the local API; port 0 picks a free one.
    #[arg(long, value_name = "ADDR", overrides_with = "api")]
    pub api: Option<SocketAddr>,
    /// A peer to connect to (HOST:PORT), for networks without multicast.
    #[arg(long, value_name = "ADDR")]
    pub peer: Vec<String>,
    /// Encodes at the same time [default: two, one more for every eight threads beyond eight; fewer
    /// where memory is short].
    #[arg(long)]
    pub slots: Option<u32>,
    /// Whether agents that see each other join by themselves.
    #[arg(long, value_enum)]
    pub door: Option<Door>,
    /// Neither announce this agent nor look for others.
    #[arg(long)]
    pub no_discovery: bool,
    /// Do not encrypt the API where other machines reach it.
    #[arg(long)]
    pub insecure: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Files to convert.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Target settings; `dmc presets` lists them.
    #[arg(long, default_value = "hevc", value_name = "NAME")]
    pub preset: String,
    /// Name of the result [default: name.<codec>.<container> beside the source].
    #[arg(short, long, value_name = "OUT", conflicts_with = "output_dir")]
    pub output: Option<PathBuf>,
    /// Directory of the results.
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Replace results that exist.
    #[arg(long)]
    pub overwrite: bool,
    /// The result takes the place of its source, which `dmc undo` can bring back.
    #[arg(long, conflicts_with_all = ["output", "output_dir", "overwrite", "deliver_to"])]
    pub replace: bool,
    /// Rename files that carry the source's whole name, as film.avi.srt, when that changes.
    #[arg(long, requires = "replace")]
    pub sidecars: bool,
    /// Which jobs go first: low, normal, high, or a number from -100 to 100.
    #[arg(long, value_name = "PRIORITY", default_value_t, allow_hyphen_values = true)]
    pub priority: Priority,
    /// Return at once; the running agent does the work.
    #[arg(long)]
    pub detach: bool,
    /// Give the whole job to another agent, so that this machine may leave; the result comes when
    /// it is back.
    #[arg(long)]
    pub hand_over: bool,
    /// Give the whole job to this agent (name or id); the result stays in its inbox.
    #[arg(long, value_name = "AGENT")]
    pub deliver_to: Option<String>,
    /// The result's name below that inbox [default: the name that it would have here].
    #[arg(long, value_name = "PATH", requires = "deliver_to")]
    pub deliver_as: Option<String>,
    /// Another video codec.
    #[arg(long)]
    pub codec: Option<Codec>,
    /// Another quality (constant rate factor; smaller is better).
    #[arg(long)]
    pub crf: Option<u8>,
    /// Another quality of a picture, 1 to 100 (larger is better).
    #[arg(long, value_name = "PERCENT")]
    pub quality: Option<u8>,
    /// Remove where a picture was taken from its EXIF and XMP.
    #[arg(long)]
    pub strip_gps: bool,
    /// Another encoder speed: ultrafast to veryslow.
    #[arg(long)]
    pub encoder_speed: Option<EncoderSpeed>,
    /// Another file format of a film: mkv or mp4.
    #[arg(long)]
    pub container: Option<Container>,
    /// Scale taller pictures down to this height.
    #[arg(long, value_name = "PIXELS")]
    pub max_height: Option<u32>,
    /// Encode the sound with this codec instead of copying it.
    #[arg(long, value_name = "CODEC")]
    pub audio_codec: Option<Codec>,
    #[command(flatten)]
    pub options: OptionArgs,
    /// Leave the file and its result on the agent of --agent, too.
    #[arg(long)]
    pub keep: bool,
    /// Wanted length of segments, 1 to 600.
    #[arg(long, value_name = "SECONDS", hide_short_help = true)]
    pub segment_seconds: Option<u32>,
    /// Settings of the agent that runs when none is running.
    #[command(flatten)]
    pub agent: AgentArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// The newest jobs.
    List {
        /// Only those of one status: to_do, in_progress, finished_successful,
        /// finished_with_errors or cancelled.
        #[arg(long)]
        status: Option<Status>,
        /// At most so many; 0 lists all.
        #[arg(long, value_name = "N", default_value_t = super::jobs::LIST_MAX)]
        limit: usize,
    },
    /// One job with its tasks and attempts.
    Show { id: String },
    /// End a job.
    Cancel { id: String },
    /// Let a job go before or after others: low, normal, high, or a number from -100 to 100.
    Priority {
        id: String,
        #[arg(allow_hyphen_values = true)]
        priority: Priority,
    },
    /// Try a failed or cancelled job again; what is done stays done.
    Retry { id: String },
    /// Do a job here that was handed over to another agent.
    TakeBack { id: String },
    /// Forget a job that is over.
    Remove { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WatchCommand {
    /// Watch a folder from now on; one that is watched already gets these settings.
    Add(WatchAdd),
    /// The watched folders, and how far they are.
    List,
    /// Watch a folder no more. Its files, results and running jobs stay.
    Remove { dir: PathBuf },
    /// Look at all files now, of one folder or of all.
    Scan { dir: Option<PathBuf> },
    /// Take nothing new from a folder, or from all.
    Pause { dir: Option<PathBuf> },
    /// Go on. A folder that stopped because its files are gone takes them for really gone.
    Resume { dir: Option<PathBuf> },
    /// Say what each rule says of a file, and why.
    Explain { file: PathBuf },
}

#[derive(Debug, Args)]
pub(crate) struct WatchAdd {
    /// The folder, with all that lies below it.
    pub dir: PathBuf,
    /// Target settings; once for each kind of media. `dmc presets` lists them.
    #[arg(long, value_name = "NAME", default_value = "hevc")]
    pub preset: Vec<String>,
    /// Kinds to take: video, audio, image [default: those that the presets make].
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub kinds: Vec<Kind>,
    /// Which files to convert, and when; examples/rules.toml shows all rules.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Results take the place of their sources; `dmc undo` brings those back.
    #[arg(long, conflicts_with = "mirror")]
    pub replace: bool,
    /// Results go below this directory, by the same relative paths [default: beside the sources].
    #[arg(long, value_name = "DIR")]
    pub mirror: Option<PathBuf>,
}

/// A kind of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Video,
    Audio,
    Image,
}

impl From<Kind> for MediaKind {
    fn from(kind: Kind) -> MediaKind {
        match kind {
            Kind::Video => MediaKind::Video,
            Kind::Audio => MediaKind::Audio,
            Kind::Image => MediaKind::Image,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is told only this once.
    Add {
        /// What people will call it.
        name: String,
        /// What it may be used for.
        #[arg(long, value_enum, default_value_t = Scope::Submit)]
        scope: Scope,
    },
    /// List the tokens.
    List,
    /// A token opens nothing any more, and browsers that signed in with it are signed out.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// The members, the door, and who was refused.
    Status,
    /// Let agents on this link join by themselves; theirs must be open as well.
    Open {
        /// For how long, as in 90s or 5m.
        #[arg(long = "for", value_name = "TIME", default_value = "2m")]
        time: Time,
        /// Let more than one agent join.
        #[arg(long)]
        many: bool,
    },
    /// Let nobody join by itself any more; a code that was given out is void.
    Close,
    /// Print a code with which one agent can join, once, within ten minutes.
    Invite,
    /// Join the mesh of the agent that made this code.
    Join {
        /// What `dmc mesh invite` printed there.
        code: String,
        /// Where that agent is (HOST:PORT), when it is not found by itself.
        #[arg(long, value_name = "ADDR")]
        peer: Option<String>,
    },
    /// Remove an agent for ever; its key never comes back.
    Evict {
        /// Name or id.
        peer: String,
        /// Remove those as well that joined through it and that nobody else vouches for.
        #[arg(long)]
        with_joined: bool,
    },
    /// Leave the mesh: the agent becomes a new one (it must not run meanwhile).
    Reset {
        /// It is really wanted.
        #[arg(long)]
        yes: bool,
    },
}

/// A time as people write it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub std::time::Duration);

impl std::str::FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Time, String> {
        let bad = || format!("`{text}` is not a time; write it as in 90s, 5m or 1h");
        let time: jiff::SignedDuration = text.parse().map_err(|_| bad())?;
        time.try_into().map(Time).map_err(|_| bad())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum PresetsCommand {
    /// All presets.
    List,
    /// One preset, as a file that says all of it.
    Show { name: String },
    /// Say whether a preset file can be used, and what is wrong with it.
    Check {
        /// The file (TOML).
        file: PathBuf,
    },
    /// Put a preset file, or a preset that HandBrake exported, among the own presets.
    Import {
        /// The file: .toml, or HandBrake's .json.
        file: PathBuf,
        /// Another name for it.
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The settings in force.
    Show,
    /// Where the configuration file is.
    Path,
}

#[derive(Debug, Args)]
pub(crate) struct UndoArgs {
    /// The job that replaced the file.
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    pub id: Option<String>,
    /// List the files that were replaced, the newest last.
    #[arg(long)]
    pub list: bool,
    /// Keep the result beside its source, even if it was changed since.
    #[arg(long, conflicts_with = "list")]
    pub keep_result: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// The job's id.
    pub id: String,
    /// Where to write the result; `-` for standard output [default: its name, here].
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Replace a file that exists.
    #[arg(long)]
    pub overwrite: bool,
}
