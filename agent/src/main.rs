//! The program `dmc`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Started by an agent as what becomes ffmpeg, this is not the command line of a person.
    if let Some(code) = dmc_agent::media::sandbox::entry() {
        return code;
    }
    cli::main()
}
