//! Accepts the API's connections, so few and so briefly that no local page or program can exhaust
//! the agent.
//!
//! A connection is a stranger until one of its requests has shown the token. Strangers are few, and
//! a new one takes the place of the oldest: who only holds connections open keeps nobody out.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::problem::Problem;

/// Connections that have not shown the token.
const STRANGERS_MAX: usize = 32;
/// Connections that have; each `dmc` that follows a job, and each page that is open, holds one.
const KNOWN_MAX: usize = 384;
/// For the head of a request, and between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// What a connection may keep in memory.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Until more files may be opened.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

struct Door {
    /// With the oldest first.
    strangers: Mutex<VecDeque<Weak<Caller>>>,
    known: Arc<Semaphore>,
}

/// One connection; its requests carry it.
pub(super) struct Caller {
    door: Arc<Door>,
    /// Ends the connection.
    end: CancellationToken,
    /// Its place among those that have shown the token.
    known: OnceLock<OwnedSemaphorePermit>,
}

impl Caller {
    /// The token was shown: nobody takes this connection's place any more.
    pub(super) fn let_in(&self) -> Result<(), Problem> {
        if self.known.get().is_some() {
            return Ok(());
        }
        let Ok(place) = Arc::clone(&self.door.known).try_acquire_owned() else {
            let why = format!(
                "{KNOWN_MAX} connections use the API already; end some `dmc` that follow a job"
            );
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
        };
        // A second request at the same time cannot be: a connection has one after the other.
        let _ = self.known.set(place);
        Ok(())
    }

    fn is_stranger(&self) -> bool {
        self.known.get().is_none()
    }
}

impl Door {
    /// Takes a connection in; the oldest stranger goes when there are too many.
    fn enter(self: &Arc<Self>) -> Arc<Caller> {
        let caller = Arc::new(Caller {
            door: Arc::clone(self),
            end: CancellationToken::new(),
            known: OnceLock::new(),
        });
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.retain(|other| other.upgrade().is_some_and(|other| other.is_stranger()));
        if strangers.len() >= STRANGERS_MAX
            && let Some(oldest) = strangers.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.end.cancel();
        }
        strangers.push_back(Arc::downgrade(&caller));
        caller
    }
}

/// Answers connections until the agent stops.
pub(super) async fn open(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    routes: Router,
    stop: CancellationToken,
) {
    let door =
        Arc::new(Door { strangers: Mutex::default(), known: Arc::new(Semaphore::new(KNOWN_MAX)) });
    let mut troubled = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                troubled = false;
                let (routes, caller, stop) = (routes.clone(), door.enter(), stop.clone());
                match tls.clone() {
                    None => drop(tokio::spawn(answer(stream, routes, caller, stop))),
                    Some(tls) => drop(tokio::spawn(encrypt(tls, stream, routes, caller, stop))),
                }
            }
            // It went before it was taken in.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                if !std::mem::replace(&mut troubled, true) {
                    warn!("the API takes no connection for now: {e}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers a connection that begins with a handshake, soon or not at all.
async fn encrypt(
    tls: TlsAcceptor,
    stream: TcpStream,
    routes: Router,
    caller: Arc<Caller>,
    stop: CancellationToken,
) {
    let end = caller.end.clone();
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)) => shaken,
        () = end.cancelled() => return,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => answer(stream, routes, caller, stop).await,
        Ok(Err(e)) => debug!("a connection of the API could not be encrypted: {e}"),
        Err(_) => debug!("a connection of the API began with nothing"),
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    caller: Arc<Caller>,
    stop: CancellationToken,
) {
    let end = caller.end.clone();
    let inner = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Arc::clone(&caller));
        inner.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = end.cancelled() => return,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = done {
        debug!("a connection of the API ended: {e}");
    }
}
