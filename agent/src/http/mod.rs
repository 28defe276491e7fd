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
pub mod tokens;
pub mod views;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Extension;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::identity::write_private;
use crate::runtime::Shared;

use access::Tokens;
use events::Events;
use guard::Guard;

pub use problem::Problem;

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
    /// Anybody on the network could use it.
    #[error("the API address {addr} is not loopback, and the API has no encryption yet")]
    NotLocal {
        /// The address.
        addr: SocketAddr,
    },
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

/// Binds the API's address: the wanted one, or the usual port, or a free one.
pub async fn bind(wanted: Option<SocketAddr>) -> Result<TcpListener, HttpError> {
    if let Some(addr) = wanted {
        if !addr.ip().is_loopback() {
            return Err(HttpError::NotLocal { addr });
        }
        return TcpListener::bind(addr).await.map_err(|source| HttpError::Listen { addr, source });
    }
    let usual = SocketAddr::from(([127, 0, 0, 1], API_PORT));
    match TcpListener::bind(usual).await {
        Ok(listener) => Ok(listener),
        Err(_) => {
            let addr = SocketAddr::from(([127, 0, 0, 1], 0));
            TcpListener::bind(addr).await.map_err(|source| HttpError::Listen { addr, source })
        }
    }
}

/// Serves until the agent stops, and tells the command line where.
pub fn serve(listener: TcpListener, shared: Arc<Shared>) -> Result<SocketAddr, HttpError> {
    let write = |name: &str, bytes: &[u8]| {
        let path = shared.data_dir.join(name);
        write_private(&path, bytes).map_err(|source| HttpError::Write { path, source })
    };
    // A new one at every start: one that was said to somebody who took the port of an agent that
    // died is worth nothing.
    let token = access::secret();
    let tokens = Arc::new(Tokens::open(&shared.data_dir, &token)?);
    write(TOKEN_FILE, token.as_bytes())?;
    let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
    let api =
        listener.local_addr().map_err(|source| HttpError::Listen { addr: unknown, source })?;
    let contact = Contact { api, pid: std::process::id() };
    write(ADDRESS_FILE, serde_json::to_string(&contact).unwrap_or_default().as_bytes())?;
    let stop = shared.stop.clone();
    let events = Arc::new(Events::new());
    shared.tasks.spawn(events::pump(Arc::clone(&shared), Arc::clone(&events)));
    let guard = Guard::new(Arc::clone(&tokens), api.port(), shared.settings.api_hosts.clone());
    let routes = api::routes(shared, guard).layer(Extension(tokens)).layer(Extension(events));
    tokio::spawn(connections::open(listener, routes, stop));
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
