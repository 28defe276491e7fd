//! HTTP clients, with TLS by *ring*, which the connections between agents use as well: one
//! cryptography library in the program.

use std::sync::Once;

use reqwest::{Certificate, ClientBuilder};

/// What a client believes of a server's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The certificates of this machine's store.
    Machine,
    /// None: there is no TLS where this client goes. A machine without a store can use it, and
    /// nobody waits for the store to be read.
    Nobody,
}

/// A client to be built on; `more` are certificates that it believes as well.
pub fn client(trust: Trust, more: Vec<Certificate>) -> ClientBuilder {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Somebody who installed another one before wants that one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = reqwest::Client::builder();
    match trust {
        Trust::Machine => builder.tls_certs_merge(more),
        Trust::Nobody => builder.tls_certs_only(more),
    }
}
