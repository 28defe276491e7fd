//! Finding agents on the link by mDNS (RFC 6762, 6763). The only file that names mdns-sd.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dmc_protocol::codec::WIRE_VERSION;
use dmc_protocol::id::AgentId;
use mdns_sd::{
    IfKind, IfPredicate, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo, TxtProperty,
};
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// The service type that every agent announces.
pub const SERVICE: &str = "_dmc._tcp.local.";
/// More addresses of one agent than a machine has.
const ADDRESSES_MAX: usize = 16;
const VERSION_CHARS_MAX: usize = 16;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// What discovery tells.
#[derive(Debug, PartialEq, Eq)]
pub enum Sighting {
    /// An agent and where it can be reached, and whether it says that its door is open; said again
    /// with more addresses.
    Found(AgentId, Vec<SocketAddr>, bool),
    /// Another agent has this one's identity: its data directory was copied.
    Twin(Vec<SocketAddr>),
    /// The agent speaks another version of the protocol, as it wrote it.
    OtherVersion(AgentId, String),
    /// The agent withdrew its service, or it was not seen for a long time. No signal that it is
    /// gone: mDNS is no liveness signal.
    Withdrawn(AgentId),
}

/// Why there is no discovery.
#[derive(Debug, thiserror::Error)]
#[error("cannot announce this agent by mDNS; agents must be named with --peer")]
pub struct DiscoveryError(#[from] mdns_sd::Error);

/// The running announcement and search; ends with [`Discovery::stop`].
pub struct Discovery {
    daemon: ServiceDaemon,
    service: ServiceInfo,
    properties: Vec<(String, String)>,
    /// Whether a twin was told that this agent is there.
    told_twin: bool,
}

/// Virtual bridges of containers and machines: their addresses reach nobody on the link.
fn is_virtual(name: &str) -> bool {
    ["docker", "br-", "virbr", "lxcbr", "lxdbr", "cni", "podman"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

impl Discovery {
    /// Announces this agent and looks for others. `port_mdns` isolates tests from each other.
    pub fn start(
        me: AgentId,
        name: &str,
        port: u16,
        port_mdns: Option<u16>,
        door_open: bool,
        sightings: mpsc::Sender<Sighting>,
    ) -> Result<Discovery, DiscoveryError> {
        let daemon = match port_mdns {
            Some(port) => ServiceDaemon::new_with_port(port)?,
            None => ServiceDaemon::new()?,
        };
        daemon
            .disable_interface(IfKind::Predicate(IfPredicate::new(|nic| is_virtual(&nic.name))))?;
        daemon.set_ip_check_interval(1)?;
        let run = format!("{:016x}", rand::random::<u64>());
        let properties = [("id", me.to_string()), ("version", WIRE_VERSION.to_string())];
        let properties = properties.into_iter().chain([
            ("name", name.to_owned()),
            ("run", run.clone()),
            ("door", if door_open { "open" } else { "closed" }.to_owned()),
        ]);
        let properties: Vec<_> = properties.map(|(key, text)| (key.to_owned(), text)).collect();
        let service = service_info(me, "", port, &properties)?;
        daemon.register(service.clone())?;
        let events = daemon.browse(SERVICE)?;
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                if let Some(sighting) = read(event, me, &run)
                    && sightings.send(sighting).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Discovery { daemon, service, properties, told_twin: false })
    }

    /// Announces whether the door is open.
    pub fn set_door(&mut self, me: AgentId, open: bool) {
        let word = if open { "open" } else { "closed" };
        let door = self.properties.iter_mut().find(|(key, _)| key == "door");
        let Some((_, text)) = door.filter(|(_, text)| text != word) else { return };
        word.clone_into(text);
        let announced = service_info(me, "", self.service.get_port(), &self.properties)
            .and_then(|service| self.daemon.register(service));
        if let Err(e) = announced {
            warn!("the state of the door cannot be announced: {e}");
        }
    }

    /// Another agent with this one's identity takes what this one announces for its own words: it
    /// is told under another name.
    pub fn tell_twin(&mut self, me: AgentId) {
        if std::mem::replace(&mut self.told_twin, true) {
            return;
        }
        let announced = service_info(me, "-twin", self.service.get_port(), &self.properties)
            .and_then(|service| self.daemon.register(service));
        if let Err(e) = announced {
            warn!("the other agent with this identity cannot be told: {e}");
        }
    }

    /// Asks whether a peer whose connection was lost is still on the link.
    pub fn verify(&self, peer: AgentId) {
        let _ = self.daemon.verify(format!("{peer}.{SERVICE}"), Duration::from_secs(2));
    }

    /// Withdraws the announcement.
    pub async fn stop(self) {
        let withdrawn = async {
            if let Ok(done) = self.daemon.unregister(self.service.get_fullname()) {
                let _ = done.recv_async().await;
            }
            if let Ok(done) = self.daemon.shutdown() {
                let _ = done.recv_async().await;
            }
        };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, withdrawn).await.is_err() {
            warn!("the mDNS announcement was not withdrawn in time; it expires by itself");
        }
    }
}

fn service_info(
    me: AgentId,
    suffix: &str,
    port: u16,
    properties: &[(String, String)],
) -> Result<ServiceInfo, mdns_sd::Error> {
    let host = format!("dmc-{}.local.", me.short().to_lowercase());
    let properties: Vec<(&str, &str)> =
        properties.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
    let instance = format!("{me}{suffix}");
    let service = ServiceInfo::new(SERVICE, &instance, &host, (), port, &properties[..])?;
    let mut service = service.enable_addr_auto();
    // The peer id is unique: nothing to probe for, and peers see us a second earlier.
    service.set_requires_probe(false);
    Ok(service)
}

fn read(event: ServiceEvent, me: AgentId, run: &str) -> Option<Sighting> {
    match event {
        ServiceEvent::ServiceResolved(service) => found(&service, me, run),
        ServiceEvent::ServiceRemoved(_, fullname) => {
            let id = fullname.split('.').next()?.parse().ok()?;
            (id != me).then_some(Sighting::Withdrawn(id))
        }
        _ => None,
    }
}

/// The agent that a service says it is. Anybody on the link can say anything.
fn found(service: &ResolvedService, me: AgentId, run: &str) -> Option<Sighting> {
    let id: AgentId = service.get_property_val_str("id")?.parse().ok()?;
    let version = service.get_property_val_str("version")?;
    let port = service.get_port();
    if port == 0 {
        return None;
    }
    let ips: BTreeSet<IpAddr> =
        service.get_addresses().iter().map(|ip| ip.to_ip_addr()).filter(usable).collect();
    let addresses: Vec<SocketAddr> =
        ips.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect();
    if id == me {
        let other = service.get_property_val_str("run").is_some_and(|theirs| theirs != run);
        return other.then_some(Sighting::Twin(addresses));
    }
    if version != WIRE_VERSION.to_string() {
        let version: String = version.chars().take(VERSION_CHARS_MAX).collect();
        return Some(Sighting::OtherVersion(id, version));
    }
    let open = service.get_property_val_str("door") == Some("open");
    debug!(peer = %id.short(), ?addresses, "seen by mDNS");
    Some(Sighting::Found(id, addresses, open))
}

/// Whether it can be the address of one machine. Link-local IPv6 addresses need a zone that a
/// multiaddr does not carry.
fn usable(ip: &IpAddr) -> bool {
    match ip {
        _ if ip.is_unspecified() || ip.is_multicast() => false,
        IpAddr::V4(ip) => !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    }
}

/// What the TXT record of a service makes of it: `strings` are its parts, `key=value` each. For
/// fuzzing.
pub(crate) fn announced(
    strings: &[Vec<u8>],
    ips: &[IpAddr],
    port: u16,
    me: AgentId,
) -> Option<Sighting> {
    let properties: Vec<TxtProperty> = strings.iter().map(|string| property(string)).collect();
    let service = ServiceInfo::new(SERVICE, "x", "x.local.", ips, port, properties).ok()?;
    found(&service.as_resolved_service(), me, "")
}

/// As mdns-sd reads a part of a TXT record.
fn property(string: &[u8]) -> TxtProperty {
    match string.iter().position(|byte| *byte == b'=') {
        Some(at) => (String::from_utf8_lossy(&string[..at]), &string[at + 1..]).into(),
        None => String::from_utf8_lossy(string).as_ref().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_of_another_version_is_seen_as_one() {
        let (me, other) = (AgentId([1; 32]), AgentId([2; 32]));
        let ips = ["192.168.7.20".parse().unwrap()];
        let sees = |version: String| {
            let strings = [format!("id={other}"), format!("version={version}")];
            announced(&strings.map(String::into_bytes), &ips, 7341, me)
        };
        let newer = (WIRE_VERSION + 1).to_string();
        assert_eq!(sees(newer.clone()), Some(Sighting::OtherVersion(other, newer)));
        assert!(matches!(sees(WIRE_VERSION.to_string()), Some(Sighting::Found(..))));
    }
}
