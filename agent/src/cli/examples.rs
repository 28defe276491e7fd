//! Examples at the end of each `--help` and manual page. A test parses every one of them.

use clap::{Command, CommandFactory};

use super::args::Cli;

/// A command, and what it is for.
type Example = (&'static str, &'static str);

/// The words of a subcommand, and its examples.
const EXAMPLES: &[(&[&str], &[Example])] = &[
    (
        &[],
        &[
            ("dmc agent", "on each machine: they find each other"),
            ("dmc convert film.mkv", "on one of them: all share the work"),
            ("dmc watch add /srv/media/films --replace", "a folder that gets smaller by itself"),
            ("dmc dashboard", "what everybody does, in a browser"),
        ],
    ),
    (
        &["agent"],
        &[
            ("dmc agent", "finds the others on this link by itself"),
            ("dmc agent --peer nas.home:7341", "where multicast does not reach"),
            ("dmc agent --name attic --slots 1", "under another name, one encode at a time"),
        ],
    ),
    (
        &["convert"],
        &[
            ("dmc convert film.mkv", "film.hevc.mkv beside it"),
            ("dmc convert --preset av1 --output-dir small -- *.mp4", "several, into a folder"),
            ("dmc convert --replace --sidecars film.avi", "dmc undo brings film.avi back"),
            ("dmc convert --target ssim=0.98 film.mkv", "the quality that samples ask for"),
            ("dmc convert --detach --priority high film.mkv", "do not wait; before others"),
            ("dmc convert -- -film.mkv", "a name that begins with a dash"),
            ("dmc --agent https://nas.home:7340 convert film.mkv", "sent to a machine elsewhere"),
        ],
    ),
    (
        &["jobs"],
        &[
            ("dmc jobs", "the newest ones"),
            ("dmc jobs list --status finished_with_errors", "what went wrong"),
            ("dmc jobs show 01a22253", "who did which part, and why one failed"),
            ("dmc jobs priority 01a22253 high", "before the others"),
            ("dmc jobs retry 01a22253", "what is done stays done"),
        ],
    ),
    (&["fetch"], &[("dmc fetch 01a22253 -o film.mkv", "a result under this name")]),
    (
        &["undo"],
        &[
            ("dmc undo --list", "what was replaced and can come back"),
            ("dmc undo 01a22253", "the original is where it was, as it was"),
        ],
    ),
    (
        &["mesh"],
        &[
            ("dmc mesh open", "for two minutes, on both machines"),
            ("dmc mesh invite", "a code for a machine that multicast does not reach"),
            ("dmc mesh evict laptop", "a machine that was sold or lost"),
        ],
    ),
    (
        &["token"],
        &[
            ("dmc token add phone --scope submit", "it may send films and fetch results"),
            ("dmc token revoke phone", "and now it may not"),
        ],
    ),
    (
        &["watch"],
        &[
            ("dmc watch add /srv/media/films --preset hevc --rules rules.toml", "by your rules"),
            ("dmc watch explain /srv/media/films/a.mkv", "why it is taken, or is not"),
            ("dmc watch list", "how far each folder is"),
        ],
    ),
    (
        &["watch", "add"],
        &[
            ("dmc watch add /srv/films --replace", "results take the place of the films"),
            ("dmc watch add /srv/films --mirror /srv/small", "the same tree elsewhere"),
            (
                "dmc watch add /srv/all --preset hevc --preset image-webp --preset audio-opus",
                "one preset for each kind",
            ),
        ],
    ),
    (
        &["presets"],
        &[
            ("dmc presets", "all of them"),
            ("dmc presets show hevc", "one as a file, to begin an own one with"),
            ("dmc presets import handbrake.json", "what HandBrake exported"),
        ],
    ),
    (
        &["forecast"],
        &[("dmc forecast /srv/films --preset hevc", "space, time and quality, before a start")],
    ),
    (
        &["service"],
        &[
            ("sudo dmc service install", "an agent that starts with the machine"),
            ("sudo dmc service install --media /data/films", "which may use this folder"),
            ("dmc service status", "whether it runs"),
        ],
    ),
    (
        &["completions"],
        &[("dmc completions bash > /etc/bash_completion.d/dmc", "for all who use bash")],
    ),
];

/// The command line, with its examples.
pub(crate) fn command() -> Command {
    EXAMPLES
        .iter()
        .fold(Cli::command(), |command, (path, examples)| added(command, path, &text(examples)))
}

fn added(command: Command, path: &[&str], text: &str) -> Command {
    match path {
        [] => command.after_help(text.to_owned()),
        [name, rest @ ..] => command.mut_subcommand(name, |command| added(command, rest, text)),
    }
}

/// Each with what it is for; below it where a line would be too long.
fn text(examples: &[Example]) -> String {
    let mut text = String::from("Examples:");
    for (line, meaning) in examples {
        text.push_str(&format!("\n  {line}\n      {meaning}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_a_command() {
        for (line, _) in EXAMPLES.iter().flat_map(|(_, examples)| *examples) {
            let words = line.split(" > ").next().unwrap().split_whitespace();
            let words = words.skip_while(|word| *word == "sudo");
            let parsed = command().try_get_matches_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn every_example_is_shown_by_its_command() {
        for (path, examples) in EXAMPLES {
            let words = ["dmc"].iter().chain(*path).chain(&["--help"]);
            let help = command().try_get_matches_from(words).unwrap_err().to_string();
            for (line, _) in *examples {
                assert!(help.contains(line), "{path:?} does not show `{line}`:\n{help}");
            }
        }
    }
}
