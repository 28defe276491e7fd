//! The agent as a service of the machine: what its manager is told, and the definitions that make
//! one. Nothing here is decided about media or peers.
//!
//! [`notify`] speaks with systemd, [`mod@unit`] writes its units, [`foreign`] those of other systems.

pub mod foreign;
pub mod notify;
pub mod unit;

use std::path::PathBuf;

/// Name of the service, of its user and of its group.
pub const NAME: &str = "dmc";
/// Where the system's agent keeps its state.
pub const STATE_DIR: &str = "/var/lib/dmc";
/// Where its settings are.
pub const CONFIG_DIR: &str = "/etc/dmc";
/// Where members of the group [`NAME`] find its address and token while it runs.
pub const RUNTIME_DIR: &str = "/run/dmc";
/// Settings as they are first, each with what it is for.
pub const CONFIG: &str = include_str!("../packaging/config.toml");

/// The directory that the service manager made for this agent's address and token, if it did.
pub fn runtime_dir() -> Option<PathBuf> {
    // Several are separated by colons; a path with one is none that systemd makes.
    std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from).filter(|dir| dir.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_come_with_it_are_the_defaults() {
        let text: String = CONFIG
            .lines()
            .filter_map(|line| line.strip_prefix("#: "))
            .map(|l| format!("{l}\n"))
            .collect();
        let written: toml::Table = text.parse().unwrap();
        assert!(written.len() > 10, "{text}");
        let defaults = toml::Table::try_from(crate::config::Settings::default()).unwrap();
        for (key, value) in &written {
            assert_eq!(defaults.get(key), Some(value), "{key}");
        }
        // As it is delivered it changes nothing.
        assert!(CONFIG.parse::<toml::Table>().unwrap().is_empty());
    }
}
