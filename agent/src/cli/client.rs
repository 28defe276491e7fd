//! How the command line speaks with an agent.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dmc_agent::config::{self, Settings};
use dmc_agent::http;
use dmc_agent::http::Problem;
use dmc_agent::tls::{self, Trust};
use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Usage;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Accepting a job reads the head of its source, which may lie on a sleeping disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// What the global options say.
pub(crate) struct Place {
    pub data_dir: PathBuf,
    pub config: Option<PathBuf>,
    pub json: bool,
}

impl Place {
    /// Settings from the file and the environment.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        Ok(config::load(self.config.as_deref(), std::env::vars_os().filter_map(utf8))?)
    }
}

fn utf8((key, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((key.into_string().ok()?, value.into_string().ok()?))
}

/// A connection to an agent's API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
    pub(crate) json: bool,
}

impl Client {
    /// The agent of the data directory; `None` when none runs.
    pub(crate) async fn find(place: &Place) -> anyhow::Result<Option<Client>> {
        let Some((contact, token)) = http::contact(&place.data_dir) else { return Ok(None) };
        let http = tls::client(Trust::Nobody, Vec::new())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            // The agent sends nobody elsewhere; whatever does is no agent.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let base = format!("http://{}/api/v1", contact.api);
        let client = Client { http, base, token, json: place.json };
        let asked = client.request(Method::GET, "/status").send().await;
        match asked {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                bail!(
                    "the agent at {} refuses the token of {}",
                    contact.api,
                    place.data_dir.display()
                )
            }
            Ok(answer) if answer.status().is_success() => Ok(Some(client)),
            // The file is left from an agent that was killed.
            _ => Ok(None),
        }
    }

    /// The agent of the data directory, or an error that says how to start one.
    pub(crate) async fn connect(place: &Place) -> anyhow::Result<Client> {
        Client::find(place).await?.ok_or_else(|| {
            anyhow!(
                "no agent runs with the data directory {}; start one with `dmc agent`",
                place.data_dir.display()
            )
        })
    }

    /// Address of the agent, as a browser takes it.
    pub(crate) fn home(&self) -> &str {
        self.base.trim_end_matches("/api/v1")
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.context("the agent does not answer")?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let problem: Problem = answer
            .json()
            .await
            .with_context(|| format!("the agent answers {status} without a reason"))?;
        if problem.usage { Err(Usage(problem.detail).into()) } else { Err(anyhow!(problem.detail)) }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.send(self.request(Method::GET, path)).await?;
        answer.json().await.context("the agent's answer cannot be read; is it another version?")
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let answer = self.send(self.request(Method::POST, path).json(body)).await?;
        answer.json().await.context("the agent's answer cannot be read; is it another version?")
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)).await.map(|_empty| ())
    }

    /// A download of any length.
    pub(crate) async fn download(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.request(Method::GET, path).timeout(Duration::from_secs(24 * 3_600));
        self.send(request).await
    }
}
