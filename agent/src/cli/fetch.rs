//! `dmc fetch`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use dmc_agent::http::views::JobView;
use futures::StreamExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::args::FetchArgs;
use super::client::Client;
use super::download::{self, Target};
use super::progress::Screen;
use super::{End, jobs, show};

pub(crate) async fn run(client: &Client, options: FetchArgs) -> anyhow::Result<End> {
    let id = jobs::whole_id(client, &options.id).await?;
    let path = format!("/jobs/{id}/file");
    if options.output.as_deref() == Some(Path::new("-")) {
        copy(client, &path, &mut tokio::io::stdout()).await?;
        return Ok(End::Done);
    }
    let job: JobView = client.get(&format!("/jobs/{id}")).await?;
    let name = || job.output.file_name().map(PathBuf::from);
    let to = options.output.or_else(name).context("the result has no name; give one with -o")?;
    let target = Target { path: &to, overwrite: options.overwrite };
    // On standard error, also beside JSON: the answer is one value.
    let mut screen = Screen::new(false);
    client.draw(screen.drawn());
    let fetched = download::result(client, &job, &target, async || Ok(None), &mut screen).await;
    screen.clear();
    let bytes = fetched?;
    if client.json {
        show::json(&serde_json::json!({ "output": to.display().to_string(), "bytes": bytes }));
    } else {
        show::line(&format!("{} ({})", to.display(), show::bytes(bytes)));
    }
    Ok(End::Done)
}

async fn copy(
    client: &Client,
    path: &str,
    to: &mut (impl AsyncWrite + Unpin),
) -> anyhow::Result<u64> {
    let answer = client.download(path).await?;
    let expected = answer.content_length();
    let mut stream = answer.bytes_stream();
    let mut written = 0u64;
    while let Some(part) = stream.next().await {
        let part = part.context("the download broke off")?;
        to.write_all(&part).await.context("cannot write")?;
        written += part.len() as u64;
    }
    to.flush().await.context("cannot write")?;
    if expected.is_some_and(|expected| expected != written) {
        anyhow::bail!("the download ended after {written} bytes, too early");
    }
    Ok(written)
}
