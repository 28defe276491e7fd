//! Encryption of the API where others than this machine reach it (TLS, RFC 8446).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tracing::info;

use crate::identity::write_private;

const CERTIFICATE_FILE: &str = "api.certificate.pem";
const KEY_FILE: &str = "api.key.pem";

/// Why the API cannot be encrypted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate without a key, or a key without a certificate.
    #[error("api_certificate and api_key belong together: name both, or neither")]
    Half,
    /// A file cannot be used.
    #[error("cannot use {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The agent's own certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(String),
}

/// What encrypts: with the certificate of the settings, or with one that this agent makes for
/// itself once and keeps.
pub(super) fn acceptor(
    data_dir: &Path,
    named: (Option<&Path>, Option<&Path>),
    names: &[String],
) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = match named {
        (Some(certificate), Some(key)) => (certificate.to_owned(), key.to_owned()),
        (None, None) => own(data_dir, names)?,
        _ => return Err(TlsError::Half),
    };
    let failed = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(&certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(&certificate, e.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| failed(&key, e.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|e| failed(&certificate, e.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The agent's own certificate and key; made once, so that who has accepted it is not asked again.
fn own(data_dir: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (data_dir.join(CERTIFICATE_FILE), data_dir.join(KEY_FILE));
    let there = |path: &Path| match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(TlsError::File { path: path.to_owned(), reason: e.to_string() }),
    };
    if there(&certificate)? && there(&key)? {
        return Ok((certificate, key));
    }
    let made = |e: rcgen::Error| TlsError::Make(e.to_string());
    let names = names.iter().map(|name| name.split(':').next().unwrap_or_default().to_owned());
    let names: Vec<String> = names.chain(["localhost".to_owned()]).collect();
    let mut params = CertificateParams::new(names).map_err(made)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "dmc agent");
    let pair = KeyPair::generate().map_err(made)?;
    let signed = params.self_signed(&pair).map_err(made)?;
    let kept = |path: &Path, text: String| {
        let failed =
            |e: std::io::Error| TlsError::File { path: path.into(), reason: e.to_string() };
        write_private(path, text.as_bytes()).map_err(failed)
    };
    kept(&key, pair.serialize_pem())?;
    kept(&certificate, signed.pem())?;
    info!("the API has a certificate of its own: {}", certificate.display());
    Ok((certificate, key))
}
