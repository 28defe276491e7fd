//! How the command line speaks with an agent: this machine's, or another one's.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use dmc_agent::config::{self, Settings};
use dmc_agent::http;
use dmc_agent::http::Problem;
use dmc_agent::http::views::StatusView;
use dmc_agent::service::{NAME, RUNTIME_DIR};
use dmc_agent::tls::{self, Trust};
use indicatif::MultiProgress;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::remote::{Patience, Refused, Remote, Trouble};
use super::{Usage, show};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Accepting a job reads the head of its source, which may lie on a sleeping disk.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// For bodies of any length; who pauses too long is given up earlier.
pub(crate) const BODY_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Between two looks whether an agent is there again.
const LOOK: Duration = Duration::from_secs(1);

/// What the global options say.
pub(crate) struct Place {
    pub data_dir: PathBuf,
    /// Nobody named another one: the agent of the machine's service is meant, too.
    pub is_usual: bool,
    pub config: Option<PathBuf>,
    pub json: bool,
    /// The agent on another machine that is meant.
    pub remote: Option<Remote>,
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
    token: Mutex<String>,
    pub(crate) json: bool,
    pub(crate) remote: Option<Remote>,
    /// It runs as the machine's service, as another user and with few directories.
    pub(crate) is_service: bool,
    /// What is drawn on the terminal now; lines are printed above it.
    drawn: Mutex<Option<MultiProgress>>,
}

impl Client {
    fn new(http: reqwest::Client, url: &str, token: String, place: &Place) -> Client {
        Client {
            http,
            base: format!("{url}/api/v1"),
            token: Mutex::new(token),
            json: place.json,
            remote: place.remote.clone(),
            is_service: false,
            drawn: Mutex::default(),
        }
    }

    /// The agent that is meant; `None` when none runs with the data directory.
    pub(crate) async fn find(place: &Place) -> anyhow::Result<Option<Client>> {
        if let Some(remote) = &place.remote {
            let client = Client::new(remote.http()?, remote.url(), remote.token()?, place);
            client.greet().await?;
            return Ok(Some(client));
        }
        if let Some(client) = Client::of_directory(place, &place.data_dir, false).await? {
            return Ok(Some(client));
        }
        let service = Path::new(RUNTIME_DIR);
        if !place.is_usual || !service.exists() {
            return Ok(None);
        }
        if std::fs::read_dir(service).is_err() {
            show::note(&format!(
                "the agent of this machine's service is for members of the group {NAME}: `sudo \
                 usermod -aG {NAME} $USER`, then log in again"
            ));
            return Ok(None);
        }
        Client::of_directory(place, service, true).await
    }

    /// The agent whose address and token are in a directory.
    async fn of_directory(
        place: &Place,
        dir: &Path,
        is_service: bool,
    ) -> anyhow::Result<Option<Client>> {
        let Some((contact, token)) = http::contact(dir) else { return Ok(None) };
        let http = tls::client(Trust::Nobody, Vec::new())
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            // The agent sends nobody elsewhere; whatever does is no agent.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut client = Client::new(http, &format!("http://{}", contact.api), token, place);
        client.is_service = is_service;
        let asked = client.request(Method::GET, "/status").send().await;
        match asked {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                bail!("the agent at {} refuses the token of {}", contact.api, dir.display())
            }
            Ok(answer) if answer.status().is_success() => Ok(Some(client)),
            // The file is left from an agent that was killed.
            _ => Ok(None),
        }
    }

    /// The agent that is meant, or an error that says how to start one.
    pub(crate) async fn connect(place: &Place) -> anyhow::Result<Client> {
        Client::find(place).await?.ok_or_else(|| {
            anyhow!(
                "no agent runs with the data directory {}; start one with `dmc agent`",
                place.data_dir.display()
            )
        })
    }

    /// Whether another machine's agent is there, is one, and lets us in.
    async fn greet(&self) -> anyhow::Result<()> {
        let url = self.home();
        let said: Value = match self.get("/status").await {
            Err(e) if Refused::is(&e, StatusCode::NOT_FOUND) => bail!(
                "there is an agent at this host, but not at {url}; is the path of the address right?"
            ),
            other => other?,
        };
        if serde_json::from_value::<StatusView>(said.clone()).is_ok() {
            return Ok(());
        }
        match said.get("version").and_then(Value::as_str) {
            Some(version) => bail!(
                "the agent at {url} is dmc {version}, which this dmc {} does not understand; bring \
                 both to the same version",
                env!("CARGO_PKG_VERSION")
            ),
            None => bail!("what answers at {url} is no dmc agent; is the address right?"),
        }
    }

    /// Address of the agent, as a browser takes it.
    pub(crate) fn home(&self) -> &str {
        self.base.trim_end_matches("/api/v1")
    }

    /// How commands to this agent begin, for advice.
    pub(crate) fn command(&self) -> String {
        self.remote.as_ref().map_or_else(|| "dmc".to_owned(), Remote::command)
    }

    /// Lines are printed above what is drawn from now on.
    pub(crate) fn draw(&self, drawn: Option<MultiProgress>) {
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = drawn;
    }

    fn say(&self, text: &str) {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        match drawn.as_ref() {
            Some(all) => all.suspend(|| show::note(text)),
            None => show::note(text),
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = self.http.request(method, format!("{}{path}", self.base));
        request.bearer_auth(token).timeout(ANSWER_TIMEOUT)
    }

    /// Sends a request once.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let answer = match (request.send().await, &self.remote) {
            (Ok(answer), _) => answer,
            (Err(e), Some(_)) => return Err(Trouble::of(e)),
            (Err(e), None) => {
                return Err(Trouble::Final(anyhow!(e).context("the agent does not answer")));
            }
        };
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    async fn refusal(&self, answer: Response) -> Trouble {
        let status = answer.status();
        let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        if let (true, Some(to)) = (status.is_redirection(), to) {
            let url = self.home();
            return Trouble::Final(anyhow!(
                "{url} sends elsewhere, to {to}; use the address there"
            ));
        }
        let problem: Option<Problem> = answer.json().await.ok();
        let away =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        if away.contains(&status) && self.remote.is_some() {
            let why = problem.map(|problem| problem.detail);
            let why = why.unwrap_or_else(|| format!("the proxy before it answers {status}"));
            return Trouble::Away { why, sent: status != StatusCode::SERVICE_UNAVAILABLE };
        }
        if status == StatusCode::UNAUTHORIZED && self.renew_token() {
            return Trouble::Away { why: "its token was another one".to_owned(), sent: false };
        }
        let remote = self.remote.as_ref();
        Trouble::Final(match problem {
            Some(problem) if problem.usage => Usage(problem.detail).into(),
            Some(problem) => {
                let detail = match remote {
                    Some(remote) if status == StatusCode::UNAUTHORIZED => remote.wrong_token(),
                    _ => problem.detail,
                };
                Refused { status, detail }.into()
            }
            None if remote.is_some() => anyhow!(
                "what answers at {} is no dmc agent (it says {status}); is the address right?",
                self.home()
            ),
            None => anyhow!("the agent answers {status} without a reason"),
        })
    }

    /// Whether the file of the token holds another one now.
    fn renew_token(&self) -> bool {
        let Some(Ok(new)) = self.remote.as_ref().map(Remote::token) else { return false };
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *token, new.clone()) != new
    }

    /// Does something until it is done, as far as the person wants to wait for the agent.
    pub(crate) async fn patiently<T>(
        &self,
        mut once: impl AsyncFnMut() -> Result<T, Trouble>,
    ) -> anyhow::Result<T> {
        let mut outage = Outage::default();
        loop {
            match once().await {
                Ok(done) => {
                    outage.over(self);
                    return Ok(done);
                }
                Err(Trouble::Final(e)) => return Err(e),
                Err(Trouble::Away { why, .. }) => outage.wait(self, &why).await?,
            }
        }
    }

    pub(crate) async fn read<T: DeserializeOwned>(&self, answer: Response) -> Result<T, Trouble> {
        let bytes = answer.bytes().await.map_err(Trouble::of)?;
        serde_json::from_slice(&bytes).map_err(|e| {
            let what = if e.is_syntax() || e.is_eof() {
                format!("what answers at {} is no dmc agent; is the address right?", self.home())
            } else {
                "the agent's answer cannot be read; is it another version?".to_owned()
            };
            Trouble::Final(anyhow!(e).context(what))
        })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let once = async || {
            let answer = self.send(self.request(Method::GET, path)).await?;
            self.read(answer).await
        };
        self.patiently(once).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let once = async || {
            let asked = self.send(self.request(Method::POST, path).json(body)).await;
            self.read(asked.map_err(|trouble| self.once_only(trouble))?).await
        };
        self.patiently(once).await
    }

    /// What may have been done is not done again.
    fn once_only(&self, trouble: Trouble) -> Trouble {
        match trouble {
            Trouble::Away { why, sent: true } => Trouble::Final(anyhow!(
                "no answer came from the agent at {}: {why}; whether it did that is not known, \
                 `{} jobs` shows it",
                self.home(),
                self.command()
            )),
            other => other,
        }
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let once = async || self.send(self.request(Method::DELETE, path)).await.map(|_empty| ());
        self.patiently(once).await
    }

    /// A download of any length.
    pub(crate) async fn download(&self, path: &str) -> anyhow::Result<Response> {
        let once = async || self.send(self.request(Method::GET, path).timeout(BODY_TIMEOUT)).await;
        self.patiently(once).await
    }
}

/// The time in which an agent cannot be reached.
#[derive(Default)]
pub(crate) struct Outage {
    since: Option<Instant>,
    said: Option<String>,
}

impl Outage {
    /// Waits a moment, or fails when that is not wanted any longer.
    pub(crate) async fn wait(&mut self, client: &Client, why: &str) -> anyhow::Result<()> {
        let url = client.home();
        let since = *self.since.get_or_insert_with(Instant::now);
        let Some(remote) = &client.remote else {
            bail!("the agent at {url} does not answer: {why}")
        };
        match remote.patience {
            Patience::None => bail!(
                "cannot reach the agent at {url}: {why}; `--wait-for-agent` waits until that changes"
            ),
            Patience::Until(most) if since.elapsed() >= most => {
                let most = show::duration(most.as_secs());
                bail!("cannot reach the agent at {url}, after {most}: {why}")
            }
            Patience::Until(_) | Patience::Endless => {}
        }
        if self.said.as_deref() != Some(why) {
            if client.json {
                show::json(&json!({ "event": "waiting", "agent": url, "error": why }));
            }
            client.say(&format!("waiting for the agent at {url}: {why}; Ctrl-C ends this"));
            self.said = Some(why.to_owned());
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// It is there.
    pub(crate) fn over(&mut self, client: &Client) {
        if self.said.take().is_some() {
            client.say(&format!("the agent at {} is there again", client.home()));
        }
        self.since = None;
    }
}
