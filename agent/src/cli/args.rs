//! What can be written on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dmc_agent::config::Door;
use dmc_agent::http::access::Scope;
use dmc_agent::jobs::Status;
use dmc_protocol::media::{Codec, Container, EncoderSpeed};

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
    Convert(ConvertArgs),
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
    /// Print a link that opens the dashboard of this agent in a browser.
    Dashboard,
    /// Finish what runs here and take nothing new.
    Pause,
    /// Take new work again.
    Resume,
    /// List and show presets.
    Presets {
        #[command(subcommand)]
        command: Option<PresetsCommand>,
    },
    /// Say what is missing on this machine, and how to mend it.
    Doctor,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
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
    /// Encodes at the same time [default: one for every eight threads].
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
    /// Try a failed or cancelled job again; what is done stays done.
    Retry { id: String },
    /// Do a job here that was handed over to another agent.
    TakeBack { id: String },
    /// Forget a job that is over.
    Remove { id: String },
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
    /// One preset.
    Show { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The settings in force.
    Show,
    /// Where the configuration file is.
    Path,
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
