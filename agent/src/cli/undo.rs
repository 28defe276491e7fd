//! `dmc undo`.

use dmc_agent::http::UndoWish;
use dmc_agent::replace::view::UndoView;

use super::args::UndoArgs;
use super::client::Client;
use super::{End, show};

/// Files that are asked for at a time.
const PAGE: usize = 500;

pub(crate) async fn run(client: &Client, options: UndoArgs) -> anyhow::Result<End> {
    let UndoArgs { id, keep_result, .. } = options;
    let Some(id) = id else { return list(client).await };
    let id = whole_id(client, &id).await?;
    let wish = UndoWish { keep_result };
    let back: UndoView = client.post(&format!("/jobs/{id}/undo"), &wish).await?;
    if client.json {
        show::json(&back);
        return Ok(End::Done);
    }
    let source = show::clean(&back.source.display().to_string());
    show::line(&format!("{source} is back ({})", show::bytes(back.bytes)));
    Ok(End::Done)
}

/// All files that were replaced, the newest job last.
async fn all(client: &Client) -> anyhow::Result<Vec<UndoView>> {
    let mut found: Vec<UndoView> = Vec::new();
    loop {
        let cursor = found.last().map(|last| format!("&cursor={}", last.job)).unwrap_or_default();
        let page: Vec<UndoView> = client.get(&format!("/undo?limit={PAGE}{cursor}")).await?;
        if page.is_empty() {
            break;
        }
        found.extend(page);
    }
    found.reverse();
    Ok(found)
}

/// People may write the end or the beginning of an id. The job itself may be forgotten.
async fn whole_id(client: &Client, part: &str) -> anyhow::Result<String> {
    let known = super::jobs::whole_id(client, part).await;
    let Err(unknown) = known else { return known };
    let part = part.to_lowercase();
    let fits = |job: &str| part.len() >= 4 && (job.starts_with(&part) || job.ends_with(&part));
    let found = all(client).await?;
    let mut fitting = found.iter().filter(|undo| fits(&undo.job));
    match (fitting.next(), fitting.next()) {
        (Some(undo), None) => Ok(undo.job.clone()),
        (Some(_), Some(_)) => anyhow::bail!("several jobs fit `{part}`; write more of the id"),
        (None, _) => Err(unknown),
    }
}

async fn list(client: &Client) -> anyhow::Result<End> {
    let found = all(client).await?;
    if client.json {
        show::json(&found);
        return Ok(End::Done);
    }
    if found.is_empty() {
        show::line("no file was replaced; `dmc convert --replace FILE` does that");
        return Ok(End::Done);
    }
    let rows = found.iter().map(|undo| {
        let state = match (&undo.why, undo.there, undo.state.as_str()) {
            (Some(why), _, state) => format!("{state}: {}", show::clean(why)),
            (None, false, "kept") => "kept, but its disk is away".to_owned(),
            (None, _, state) => state.to_owned(),
        };
        vec![
            undo.job.clone(),
            state,
            undo.until.clone().unwrap_or_default(),
            show::bytes(undo.bytes),
            show::clean(&undo.source.display().to_string()),
        ]
    });
    show::table(&["JOB", "STATE", "UNTIL", "SIZE", "FILE"], &rows.collect::<Vec<_>>());
    Ok(End::Done)
}
