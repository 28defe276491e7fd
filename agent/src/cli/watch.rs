//! `dmc watch`: folders whose files are converted by themselves.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dmc_agent::http::library::WatchView;
use dmc_agent::library::WatchWish;
use dmc_agent::library::explain::ExplainView;
use dmc_agent::library::rules::Rules;
use dmc_agent::paths::AnyPath;
use reqwest::Method;
use serde_json::json;

use super::args::{WatchAdd, WatchCommand};
use super::client::Client;
use super::{End, Usage, show};

pub(crate) async fn run(client: &Client, command: Option<WatchCommand>) -> anyhow::Result<End> {
    match command.unwrap_or(WatchCommand::List) {
        WatchCommand::Add(options) => add(client, options).await,
        WatchCommand::List => list(client).await,
        WatchCommand::Remove { dir } => {
            let watch = one(client, &dir).await?;
            client.delete(&format!("/watch/{}", watch.id)).await?;
            Ok(End::Done)
        }
        WatchCommand::Scan { dir } => each(client, dir, "scan").await,
        WatchCommand::Pause { dir } => each(client, dir, "pause").await,
        WatchCommand::Resume { dir } => each(client, dir, "resume").await,
        WatchCommand::Explain { file } => explain(client, &file).await,
    }
}

/// A path on the agent's machine: one of this machine is made absolute, another one's must be.
fn absolute(client: &Client, path: &Path) -> anyhow::Result<AnyPath> {
    if client.remote.is_some() {
        if !path.is_absolute() {
            let path = path.display();
            let text = format!("write the whole path on that machine instead of {path}");
            return Err(Usage(text).into());
        }
        return Ok(AnyPath(path.to_owned()));
    }
    let whole = std::path::absolute(path);
    Ok(AnyPath(whole.with_context(|| format!("`{}` is no file name", path.display()))?))
}

async fn add(client: &Client, options: WatchAdd) -> anyhow::Result<End> {
    let rules = match &options.rules {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the rules in {}", file.display()))?;
            Rules::read(&text).map_err(|e| Usage(format!("{}: {e}", file.display())))?;
            Some(text)
        }
        None => None,
    };
    let wish = WatchWish {
        dir: absolute(client, &options.dir)?,
        presets: options.preset,
        kinds: options.kinds.into_iter().map(Into::into).collect(),
        rules,
        replace: options.replace,
        mirror: options.mirror.as_deref().map(|dir| absolute(client, dir)).transpose()?,
    };
    let watch: WatchView = client.post("/watch", &wish).await?;
    if client.json {
        show::json(&watch);
    } else {
        let dir = show::clean(&watch.dir.to_string());
        show::line(&format!("watching {dir} with {}", watch.presets.join(", ")));
        show::note("`dmc watch list` shows how far it is, `dmc watch explain FILE` why");
    }
    Ok(End::Done)
}

async fn all(client: &Client) -> anyhow::Result<Vec<WatchView>> {
    client.get("/watch").await
}

/// The folder of that name. It may be gone, so it is not looked at.
async fn one(client: &Client, dir: &Path) -> anyhow::Result<WatchView> {
    let wanted = absolute(client, dir)?;
    let real = std::fs::canonicalize(dir).ok();
    let is = |watch: &WatchView| {
        watch.dir.components().eq(wanted.components()) || real.as_ref() == Some(&watch.dir.0)
    };
    let found = all(client).await?.into_iter().find(is);
    found.with_context(|| {
        let dir = show::clean(&wanted.to_string());
        format!("{dir} is not watched; `dmc watch list` shows the folders that are")
    })
}

/// Does something with one folder, or with all.
async fn each(client: &Client, dir: Option<PathBuf>, what: &str) -> anyhow::Result<End> {
    let watches = match dir {
        Some(dir) => vec![one(client, &dir).await?],
        None => all(client).await?,
    };
    let mut done = Vec::new();
    for watch in watches {
        let path = format!("/watch/{}/{what}", watch.id);
        done.push(client.post::<WatchView>(&path, &json!({})).await?);
    }
    print(client, &done);
    Ok(End::Done)
}

async fn list(client: &Client) -> anyhow::Result<End> {
    let watches = all(client).await?;
    print(client, &watches);
    if watches.is_empty() && !client.json {
        show::note("no folder is watched; `dmc watch add DIR --preset hevc` adds one");
    }
    Ok(End::Done)
}

fn print(client: &Client, watches: &[WatchView]) {
    if client.json {
        return show::json(&watches);
    }
    let rows = watches.iter().map(|watch| {
        let of = |states: &[&str]| {
            let counts = states.iter().filter_map(|state| watch.files.get(*state));
            counts.sum::<u64>().to_string()
        };
        let saved = watch.bytes_before.saturating_sub(watch.bytes_after);
        vec![
            watch.state.clone(),
            watch.presets.join(","),
            of(&["settling", "new", "waiting"]),
            of(&["converting"]),
            watch.done().to_string(),
            of(&["skipped"]),
            of(&["failed"]),
            show::bytes(saved),
            show::clean(&watch.dir.to_string()),
        ]
    });
    let heading =
        ["STATE", "PRESETS", "WAITING", "RUNNING", "DONE", "SKIPPED", "FAILED", "SAVED", "FOLDER"];
    show::table(&heading, &rows.collect::<Vec<_>>());
    for watch in watches {
        let dir = show::clean(&watch.dir.to_string());
        for note in watch.why.iter().chain(&watch.notes) {
            show::note(&format!("{dir}: {}", show::clean(note)));
        }
    }
}

async fn explain(client: &Client, file: &Path) -> anyhow::Result<End> {
    let path = absolute(client, file)?;
    // As the API has it: any bytes.
    let path = serde_json::to_value(&path)?;
    let query = [("path", path.as_str().unwrap_or_default())];
    let told: ExplainView = client
        .patiently(async || {
            let request = client.request(Method::GET, "/watch/explain").query(&query);
            client.read(client.send(request).await?).await
        })
        .await?;
    if client.json {
        show::json(&told);
        return Ok(End::Done);
    }
    let rows = told.rulings.iter().map(|ruling| {
        vec![ruling.verdict.clone(), show::clean(&ruling.rule), show::clean(&ruling.why)]
    });
    show::table(&["VERDICT", "RULE", "WHY"], &rows.collect::<Vec<_>>());
    let because = told.because.as_ref().map(|of| format!(": {} – {}", of.rule, of.why));
    let with = told.preset.as_ref().map(|preset| format!(" with {preset}"));
    let rest = because.or(with).unwrap_or_default();
    show::line(&show::clean(&format!("decision: {}{rest}", told.decision)));
    let standing = told.standing.map(|text| format!(" ({text})")).unwrap_or_default();
    show::line(&show::clean(&format!("now: {}{standing}", told.state)));
    if let Some(job) = told.job {
        show::line(&format!("job: {job}"));
    }
    Ok(End::Done)
}
