//! Every command that the documents name can be written: the parser takes it, each `make` has its
//! target, and each file that is run is there.

use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::args::Cli;

fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// README.md, CONTRIBUTING.md and docs/*.md, with what is in them.
fn documents() -> Vec<(PathBuf, String)> {
    let docs = std::fs::read_dir(repo().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        docs.filter(|path| path.extension() == Some("md".as_ref())).collect();
    all.extend(["README.md", "CONTRIBUTING.md"].map(|name| repo().join(name)));
    all.retain(|path| path.exists());
    all.sort();
    all.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// Where a command was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In a block: it must be whole.
    Block,
    /// In a sentence, where the end may be left out.
    Sentence,
}

/// The commands of a document, as words.
fn commands(text: &str) -> Vec<(Place, Vec<String>)> {
    let mut found = Vec::new();
    let mut in_block = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let line = line.trim_start().trim_start_matches("$ ");
            found.extend(split(line).into_iter().map(|words| (Place::Block, words)));
        } else {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2);
    found.extend(spans.flat_map(split).map(|words| (Place::Sentence, words)));
    found
}

/// A line of shell as simple commands; comments and redirections are left out.
fn split(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), String::new());
    let mut quote = None;
    let end = |word: &mut String, words: &mut Vec<String>| {
        if !word.is_empty() {
            words.push(std::mem::take(word));
        }
    };
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if word.is_empty() => break,
            (None, ';' | '|' | '&' | '>' | '<') => {
                end(&mut word, &mut words);
                all.push(std::mem::take(&mut words));
            }
            (None, _) if c.is_whitespace() => end(&mut word, &mut words),
            (None, _) => word.push(c),
        }
    }
    end(&mut word, &mut words);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}

/// The words after `dmc`, when it is dmc that is called: by itself, by sudo, or with variables.
fn call(words: &[String]) -> Option<Vec<String>> {
    let mut rest = words;
    loop {
        match rest {
            [first, user, _, ..] if first == "sudo" && user == "-u" => rest = &rest[3..],
            [first, ..] if first == "sudo" || first == "export" || first.contains('=') => {
                rest = &rest[1..];
            }
            [first, ..] if first == "dmc" || first.ends_with("/bin/dmc") => {
                let mut all = vec!["dmc".to_owned()];
                all.extend_from_slice(&rest[1..]);
                return Some(all);
            }
            _ => return None,
        }
    }
}

/// Whether the command line takes these words.
fn check(place: Place, words: &[String]) -> Result<(), String> {
    // What only dmc itself calls is no command for people.
    if words.get(1).is_some_and(|word| word.starts_with("__")) {
        return Ok(());
    }
    let Err(error) = Cli::try_parse_from(words) else { return Ok(()) };
    let stands_for = |word: &String| word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(()),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue if words.iter().any(stands_for) => {
            Ok(())
        }
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            if place == Place::Sentence =>
        {
            Ok(())
        }
        _ => Err(error.to_string()),
    }
}

#[test]
fn every_command_of_the_documents_is_one() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in documents() {
        for (place, words) in commands(&text) {
            let Some(words) = call(&words) else { continue };
            // `dmc …`, and optional parts in brackets, are no commands.
            if words.iter().any(|word| word.contains(['…', '[', '{'])) {
                continue;
            }
            seen += 1;
            if let Err(why) = check(place, &words) {
                wrong.push(format!("{}: {}\n{why}", path.display(), words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 100, "only {seen} commands were found: the documents are read wrongly");
}

#[test]
fn every_make_and_every_script_of_the_documents_is_there() {
    let makefile = std::fs::read_to_string(repo().join("Makefile")).unwrap();
    let is_target = |name: &str| {
        let targets =
            makefile.lines().filter_map(|line| line.split_once(':').map(|(left, _)| left));
        targets.flat_map(str::split_whitespace).any(|target| target == name)
    };
    let mut seen = 0;
    for (path, text) in documents() {
        for (_, words) in commands(&text) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let place = path.display();
            match words[..] {
                ["make", target, ..] if !target.contains('=') && !target.starts_with('-') => {
                    seen += 1;
                    assert!(is_target(target), "{place}: make {target}");
                }
                [script, ..]
                    if ["tests/", "examples/", "agent/"].iter().any(|d| script.starts_with(d))
                        && !script.contains(['{', '*', ' ']) =>
                {
                    seen += 1;
                    assert!(repo().join(script).exists(), "{place}: {script}");
                }
                _ => {}
            }
        }
    }
    assert!(seen > 10, "only {seen} were found");
}

#[test]
fn a_command_that_is_none_is_found() {
    let text =
        "Use `dmc jobs show`.\n```\nsudo dmc convert --no-such 1 # x\ndmc peers --json | jq\n```\n";
    let found: Vec<_> = commands(text)
        .into_iter()
        .filter_map(|(place, words)| Some(check(place, &call(&words)?).is_ok()))
        .collect();
    assert_eq!(found, [false, true, true]);
    assert!(check(Place::Block, &["dmc", "jobs", "show"].map(str::to_owned)).is_err());
}
