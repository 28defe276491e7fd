//! The agent's ed25519 key: who it is, for ever.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dmc_protocol::id::AgentId;
use libp2p::PeerId;
pub use libp2p::identity::Keypair;

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot {action} the identity file {path}")]
    Io {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a key.
    #[error(
        "{path} is not an ed25519 key; move it away, and the agent makes a new identity (peers will see a new agent)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error("{path} can be read by others (mode {mode:o}); `chmod 600` it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Reads the key of a data directory, or makes one at the first start.
pub fn load_or_create(data_dir: &Path) -> Result<Keypair, IdentityError> {
    let path = data_dir.join("identity.key");
    let failed = |action| {
        let path = path.clone();
        move |source| IdentityError::Io { action, path, source }
    };
    match fs::metadata(&path) {
        Ok(meta) => {
            let mode = meta.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(IdentityError::Exposed { path, mode });
            }
            let bytes = fs::read(&path).map_err(failed("read"))?;
            Keypair::from_protobuf_encoding(&bytes)
                .ok()
                .filter(|key| agent_id(&key.public().to_peer_id()).is_some())
                .ok_or(IdentityError::Damaged { path })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            let bytes = key
                .to_protobuf_encoding()
                .map_err(|_| IdentityError::Damaged { path: path.clone() })?;
            write_private(&path, &bytes).map_err(failed("write"))?;
            Ok(key)
        }
        Err(e) => Err(failed("read")(e)),
    }
}

/// Forgets the key: the next start makes another one.
///
/// # Errors
/// The file cannot be removed.
pub fn remove(data_dir: &Path) -> Result<(), IdentityError> {
    let path = data_dir.join("identity.key");
    match fs::remove_file(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(IdentityError::Io { action: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// Writes a file that only its owner may read: temporary name, fsync, rename.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temp = path.with_extension("tmp");
    // One that is left over, or was put there, would keep its own mode.
    match fs::remove_file(&temp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    match path.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

/// The protocol's name of a libp2p peer; `None` when its key is not ed25519.
pub fn agent_id(peer: &PeerId) -> Option<AgentId> {
    AgentId::from_peer_id_bytes(&peer.to_bytes())
}

/// The libp2p name of an agent; `None` when the bytes are no point of the curve's encoding.
pub fn peer_id(agent: AgentId) -> Option<PeerId> {
    PeerId::from_bytes(&agent.peer_id_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_a_restart_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = load_or_create(dir.path()).unwrap();
        let again = load_or_create(dir.path()).unwrap();
        assert_eq!(first.public(), again.public());
        let id = agent_id(&first.public().to_peer_id()).unwrap();
        assert_eq!(peer_id(id).unwrap(), first.public().to_peer_id());
        assert_eq!(id.to_string(), first.public().to_peer_id().to_string());

        let path = dir.path().join("identity.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load_or_create(dir.path()), Err(IdentityError::Exposed { .. })));
    }

    #[test]
    fn a_private_file_is_private_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (path, left) = (dir.path().join("api.token"), dir.path().join("api.tmp"));
        for file in [&path, &left] {
            fs::write(file, "old").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
        }
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!left.exists());
    }
}
