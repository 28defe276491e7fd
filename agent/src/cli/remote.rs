//! An agent on another machine: where it is, what opens it, and why it cannot be reached.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use dmc_agent::tls::{self, Trust};
use reqwest::{Certificate, StatusCode, Url};

use super::Usage;
use super::args::RemoteArgs;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOKEN_BYTES_MAX: usize = 4_096;

/// Where the token comes from.
#[derive(Debug, Clone)]
enum Source {
    /// Read again when the agent refuses it: an agent's own token changes when it starts.
    File(PathBuf),
    Variable(String),
}

/// How long an agent that cannot be reached is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    None,
    Until(Duration),
    Endless,
}

/// What the options say of an agent on another machine.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// Without a slash at its end.
    url: String,
    tls: bool,
    source: Source,
    ca_file: Option<PathBuf>,
    pub patience: Patience,
}

impl Remote {
    /// `None`: this machine's own agent is meant.
    pub(crate) fn of(args: &RemoteArgs) -> anyhow::Result<Option<Remote>> {
        let Some(given) = args.agent.as_deref().filter(|url| !url.is_empty()) else {
            return match args.wait_for_agent {
                Some(_) => {
                    Err(usage("--wait-for-agent needs --agent: it is for another machine's"))
                }
                None => Ok(None),
            };
        };
        let (url, tls) = address(given)?;
        let variable = std::env::var("DMC_TOKEN").ok().filter(|token| !token.is_empty());
        let source = match (&args.token_file, variable) {
            (Some(file), _) => Source::File(file.clone()),
            (None, Some(token)) => Source::Variable(token),
            (None, None) => {
                return Err(usage(
                    "--agent needs a token: name its file with --token-file or DMC_TOKEN_FILE, or \
                     put it into DMC_TOKEN; `dmc token add NAME` on the agent's machine makes one",
                ));
            }
        };
        let patience = match args.wait_for_agent {
            None => Patience::None,
            Some(None) => Patience::Endless,
            Some(Some(time)) => Patience::Until(time.0),
        };
        Ok(Some(Remote { url, tls, source, ca_file: args.ca_file.clone(), patience }))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How commands to this agent begin, for advice.
    pub(crate) fn command(&self) -> String {
        match std::env::var("DMC_AGENT") {
            Ok(known) if known.trim_end_matches('/') == self.url => "dmc".to_owned(),
            _ => format!("dmc --agent {}", self.url),
        }
    }

    pub(crate) fn token(&self) -> anyhow::Result<String> {
        let (token, place) = match &self.source {
            Source::Variable(token) => (token.clone(), "DMC_TOKEN".to_owned()),
            Source::File(file) => {
                let place = file.display().to_string();
                let text = std::fs::read_to_string(file).with_context(|| {
                    format!("cannot read the token from {place}; is it the right file?")
                })?;
                (text, place)
            }
        };
        let token = token.trim();
        let plain = (1..=TOKEN_BYTES_MAX).contains(&token.len())
            && token.chars().all(|c| c.is_ascii_graphic());
        anyhow::ensure!(plain, "{place} holds no token: it must be one word");
        Ok(token.to_owned())
    }

    pub(crate) fn wrong_token(&self) -> String {
        let from = match &self.source {
            Source::File(file) => file.display().to_string(),
            Source::Variable(_) => "DMC_TOKEN".to_owned(),
        };
        format!(
            "the agent at {} refuses the token of {from}; `dmc token add NAME` on its machine makes \
             one that stays",
            self.url
        )
    }

    pub(crate) fn http(&self) -> anyhow::Result<reqwest::Client> {
        let more = match &self.ca_file {
            Some(file) => certificates(file)?,
            None => Vec::new(),
        };
        let trust = if self.tls { Trust::Machine } else { Trust::Nobody };
        let builder = tls::client(trust, more)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        builder.build().context(
            "TLS cannot be used: this machine has no certificates to trust; install \
             ca-certificates, or name some with --ca-file",
        )
    }
}

fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// The address without a slash at its end, and whether it is one with TLS.
fn address(given: &str) -> anyhow::Result<(String, bool)> {
    let bad = |why: &str| {
        let right = "write it as in http://nas.home:7340 or https://nas.home/dmc";
        usage(format!("`{given}` is no address of an agent: {why}; {right}"))
    };
    let url: Url = given.parse().map_err(|e| bad(&format!("{e}")))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(bad("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("it must hold no user and no password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it must hold no ? and no #"));
    }
    let text = url.as_str().trim_end_matches('/');
    let text = text.strip_suffix("/api/v1").unwrap_or(text).trim_end_matches('/');
    Ok((text.to_owned(), url.scheme() == "https"))
}

fn certificates(file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let place = file.display();
    let pem = std::fs::read(file).with_context(|| format!("cannot read {place}"))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    anyhow::ensure!(!found.is_empty(), "{place} holds no certificates; they must be PEM");
    Ok(found)
}

/// What an agent does not do.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct Refused {
    pub status: StatusCode,
    pub detail: String,
}

impl Refused {
    /// Whether this is an agent's refusal with that status.
    pub(crate) fn is(error: &anyhow::Error, status: StatusCode) -> bool {
        error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == status)
    }
}

/// Why a call did not come through.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The agent may be there again in a while. `sent`: it may have got the call all the same.
    Away { why: String, sent: bool },
    /// Waiting changes nothing.
    Final(anyhow::Error),
}

impl Trouble {
    /// What a failure of the HTTP library means.
    pub(crate) fn of(error: reqwest::Error) -> Trouble {
        let sent = !error.is_connect();
        let error = error.without_url();
        match found(&error) {
            Some(Cause::Trust(e)) => Trouble::Final(anyhow::anyhow!(
                "its certificate is not trusted ({e}); name that of its authority with --ca-file, \
                 and call it by a name that the certificate holds"
            )),
            Some(Cause::Tls(e)) => Trouble::Final(anyhow::anyhow!(
                "what is there does not speak TLS as it should ({e}); is it an address with http://?"
            )),
            Some(Cause::Io(kind)) => Trouble::Away { why: words(kind, &error), sent },
            Some(Cause::Name) => Trouble::Away { why: "no such host".to_owned(), sent },
            None if error.is_timeout() => {
                Trouble::Away { why: "it does not answer in time".to_owned(), sent }
            }
            None => Trouble::Away { why: deepest(&error), sent },
        }
    }
}

enum Cause<'a> {
    Trust(&'a rustls::CertificateError),
    Tls(&'a rustls::Error),
    Io(io::ErrorKind),
    Name,
}

/// What can be told of an error, from the outermost of its causes inwards.
fn found(error: &reqwest::Error) -> Option<Cause<'_>> {
    let mut next: Option<&(dyn Error + 'static)> = error.source();
    while let Some(cause) = next {
        match innermost(cause).downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(e)) => return Some(Cause::Trust(e)),
            Some(e) => return Some(Cause::Tls(e)),
            None => {}
        }
        if cause.to_string().starts_with("dns error") {
            return Some(Cause::Name);
        }
        if let Some(e) = cause.downcast_ref::<io::Error>().filter(|e| e.raw_os_error().is_some()) {
            return Some(Cause::Io(e.kind()));
        }
        next = cause.source();
    }
    None
}

/// What is wrapped in an error of IO, which does not name that as its source.
fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        error = inner;
    }
    error
}

fn words(kind: io::ErrorKind, error: &reqwest::Error) -> String {
    match kind {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "no way leads there".to_owned()
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection broke off".to_owned()
        }
        io::ErrorKind::TimedOut => "it does not answer in time".to_owned(),
        _ => deepest(error),
    }
}

fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_agents() {
        let good = [
            ("http://nas.home:7340", "http://nas.home:7340", false),
            ("http://nas.home:7340/", "http://nas.home:7340", false),
            ("https://NAS.home/dmc/", "https://nas.home/dmc", true),
            ("https://nas.home/dmc/api/v1/", "https://nas.home/dmc", true),
            ("http://[::1]:7340", "http://[::1]:7340", false),
        ];
        for (given, url, tls) in good {
            assert_eq!(address(given).unwrap(), (url.to_owned(), tls), "{given}");
        }
        let bad =
            ["", "nas", "nas.home:7340", "ftp://nas", "http://", "http://a:b@nas", "http://nas/?x"];
        for given in bad {
            let error = address(given).unwrap_err();
            assert!(error.is::<Usage>(), "{given}: {error}");
        }
    }
}
