//! Doors for the fuzz targets in `tests/fuzz`: decoders of bytes from outside, without the sockets,
//! files and programs around them. No part of the interface.

use std::net::{IpAddr, SocketAddr};

use dmc_protocol::id::AgentId;

use crate::config::{self, Settings};
use crate::discovery::{self, Sighting};

pub use crate::media::fuzzing::*;
pub use crate::net::fuzzing::*;

/// What the TXT record of a service with these addresses makes of it.
pub fn announced(
    strings: &[Vec<u8>],
    ips: &[IpAddr],
    port: u16,
    me: AgentId,
) -> Option<(AgentId, Vec<SocketAddr>)> {
    match discovery::announced(strings, ips, port, me)? {
        Sighting::Found(id, addresses, _) => Some((id, addresses)),
        Sighting::Twin(_) | Sighting::Withdrawn(_) | Sighting::OtherVersion(..) => None,
    }
}

/// The settings that a configuration file and the environment make; `None` when they are refused.
pub fn settings(text: &str, variables: Vec<(String, String)>) -> Option<Settings> {
    let file = Some((std::path::Path::new("config.toml"), text.to_owned()));
    config::read(file, variables.into_iter()).ok()
}
