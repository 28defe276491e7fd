//! `dmc token` and `dmc dashboard`: who may use the API of this agent.

use dmc_agent::http::tokens::{LinkView, TokenView, TokenWish};
use serde_json::json;

use super::args::TokenCommand;
use super::client::Client;
use super::{End, show};

pub(crate) async fn run(client: &Client, command: TokenCommand) -> anyhow::Result<End> {
    match command {
        TokenCommand::Add { name, scope } => {
            let made: TokenView = client.post("/tokens", &TokenWish { name, scope }).await?;
            if client.json {
                show::json(&made);
            } else {
                show::line(made.token.as_deref().unwrap_or_default());
                let what = "this is the only time that it is told";
                show::note(&format!("{what}; send it as `Authorization: Bearer …`"));
            }
        }
        TokenCommand::List => {
            let all: Vec<TokenView> = client.get("/tokens").await?;
            if client.json {
                show::json(&all);
            } else {
                let rows = all
                    .into_iter()
                    .map(|token| vec![token.name, token.scope.word().to_owned(), token.created_at]);
                show::table(&["NAME", "SCOPE", "CREATED"], &rows.collect::<Vec<_>>());
            }
        }
        TokenCommand::Revoke { name } => client.delete(&format!("/tokens/{name}")).await?,
    }
    Ok(End::Done)
}

/// The link works once, within two minutes: it may be seen in the list of processes of this machine.
pub(crate) async fn dashboard(client: &Client) -> anyhow::Result<End> {
    let link: LinkView = client.post("/sign-in-link", &json!({})).await?;
    let url = format!("{}/{}", client.home(), link.path);
    if client.json {
        show::json(&json!({ "url": url }));
    } else {
        show::line(&url);
        show::note("open it within two minutes; it works once");
    }
    Ok(End::Done)
}
