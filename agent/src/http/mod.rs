//! The HTTP API and the dashboard: what the command line, scripts and browsers need. Loopback; a
//! token, or a browser that has signed in with one.

pub mod access;
mod api;
mod connections;
mod dashboard;
mod description;
mod events;
pub(crate) mod gather;
mod guard;
mod handed;
mod held;
mod items;
pub mod mesh;
mod metrics;
mod page;
mod problem;
mod statistics;
mod tls;
pub mod tokens;
mod undo;
pub mod views;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Extension;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::config::Settings;
use crate::identity::write_private;
use crate::runtime::Shared;

use access::Tokens;
use events::Events;
use guard::{Guard, Place};

pub use problem::Problem;
pub use undo::UndoWish;

/// The port that the API prefers.
pub const API_PORT: u16 = 7340;
const ADDRESS_FILE: &str = "agent.json";
const TOKEN_FILE: &str = "api.token";

/// Where the agent of a data directory can be reached: kept in a file there while it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Contact {
    /// Address of the API.
    pub api: SocketAddr,
    /// Process id of the agent.
    pub pid: u32,
}

/// Why the API does not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address cannot be used.
    #[error("the API cannot listen on {addr}; choose another address with --api")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The tokens of earlier runs.
    #[error(transparent)]
    Tokens(#[from] access::TokensUnreadable),
    /// A file in the data directory cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Where the API is listened for.
pub struct Listeners {
    /// On this machine only, for the command line.
    local: TcpListener,
    /// Where other machines reach it, and what encrypts it there.
    wide: Option<(TcpListener, Option<TlsAcceptor>)>,
}

/// Binds the API's addresses: the wanted one, or the usual port, or a free one. An address that other
/// machines reach is encrypted unless the settings say otherwise; the command line of this machine
/// then has one of its own.
pub async fn bind(settings: &Settings, data_dir: &Path) -> Result<Listeners, HttpError> {
    let listen = async |addr: SocketAddr| {
        TcpListener::bind(addr).await.map_err(|source| HttpError::Listen { addr, source })
    };
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    match settings.api {
        Some(addr) if addr.ip().is_loopback() => {
            Ok(Listeners { local: listen(addr).await?, wide: None })
        }
        Some(addr) => {
            let named = (settings.api_certificate.as_deref(), settings.api_key.as_deref());
            let tls = if settings.api_insecure {
                warn!(
                    "the API at {addr} is not encrypted: who sees its traffic can read the tokens"
                );
                None
            } else {
                Some(tls::acceptor(data_dir, named, &settings.api_hosts)?)
            };
            let wide = Some((listen(addr).await?, tls));
            Ok(Listeners { local: listen(free).await?, wide })
        }
        None => {
            let usual = SocketAddr::from(([127, 0, 0, 1], API_PORT));
            let local = match TcpListener::bind(usual).await {
                Ok(listener) => listener,
                Err(_) => listen(free).await?,
            };
            Ok(Listeners { local, wide: None })
        }
    }
}

/// Serves until the agent stops, and tells the command line where.
pub fn serve(listeners: Listeners, shared: &Arc<Shared>) -> Result<SocketAddr, HttpError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = shared.data_dir.join(name);
        write_private(&path, bytes).map_err(|source| HttpError::Write { path, source })
    };
    // A new one at every start: one that was said to somebody who took the port of an agent that
    // died is worth nothing.
    let token = access::secret();
    let tokens = Arc::new(Tokens::open(&shared.data_dir, &token, shared.settings.api_calls_per_s)?);
    write(TOKEN_FILE, token.as_bytes())?;
    let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
    let of = |listener: &TcpListener| {
        listener.local_addr().map_err(|source| HttpError::Listen { addr: unknown, source })
    };
    let api = of(&listeners.local)?;
    let contact = Contact { api, pid: std::process::id() };
    write(ADDRESS_FILE, serde_json::to_string(&contact).unwrap_or_default().as_bytes())?;
    let events = Arc::new(Events::new());
    shared.tasks.spawn(events::pump(Arc::clone(shared), Arc::clone(&events)));
    let open = |listener: TcpListener, place: Place, tls: Option<TlsAcceptor>| {
        let guard = Guard::new(Arc::clone(&tokens), place, shared.settings.api_hosts.clone());
        let routes = api::routes(Arc::clone(shared), guard)
            .layer(Extension(Arc::clone(&tokens)))
            .layer(Extension(Arc::clone(&events)));
        tokio::spawn(connections::open(listener, tls, routes, shared.stop.clone()));
    };
    if let Some((listener, tls)) = listeners.wide {
        let wide = of(&listener)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!("the API is at {scheme}://{wide} for other machines");
        open(listener, Place { port: wide.port(), wide: true, tls: tls.is_some() }, tls);
    }
    open(listeners.local, Place { port: api.port(), wide: false, tls: false }, None);
    Ok(api)
}

/// Removes the file that tells where the agent is.
pub fn withdraw(data_dir: &Path) {
    let _ = std::fs::remove_file(data_dir.join(ADDRESS_FILE));
}

/// Where the agent of a data directory was last reached, and the token that it wants.
pub fn contact(data_dir: &Path) -> Option<(Contact, String)> {
    let contact = std::fs::read(data_dir.join(ADDRESS_FILE)).ok()?;
    let contact = serde_json::from_slice(&contact).ok()?;
    let token = std::fs::read_to_string(data_dir.join(TOKEN_FILE)).ok()?;
    Some((contact, token))
}
