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
    /// An agent and where it can be reached; said again with more addresses.
    Found(AgentId, Vec<SocketAddr>),
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
    fullname: String,
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
        sightings: mpsc::Sender<Sighting>,
    ) -> Result<Discovery, DiscoveryError> {
        let daemon = match port_mdns {
            Some(port) => ServiceDaemon::new_with_port(port)?,
            None => ServiceDaemon::new()?,
        };
        daemon
            .disable_interface(IfKind::Predicate(IfPredicate::new(|nic| is_virtual(&nic.name))))?;
        daemon.set_ip_check_interval(1)?;
        let (id, version) = (me.to_string(), WIRE_VERSION.to_string());
        let properties = [("id", id.as_str()), ("version", version.as_str()), ("name", name)];
        let host = format!("dmc-{}.local.", me.short().to_lowercase());
        let mut service =
            ServiceInfo::new(SERVICE, &id, &host, (), port, &properties[..])?.enable_addr_auto();
        // The peer id is unique: nothing to probe for, and peers see us a second earlier.
        service.set_requires_probe(false);
        let fullname = service.get_fullname().to_owned();
        daemon.register(service)?;
        let events = daemon.browse(SERVICE)?;
        tokio::spawn(async move {
            while let Ok(event) = events.recv_async().await {
                if let Some(sighting) = read(event, me)
                    && sightings.send(sighting).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Discovery { daemon, fullname })
    }

    /// Asks whether a peer whose connection was lost is still on the link.
    pub fn verify(&self, peer: AgentId) {
        let _ = self.daemon.verify(format!("{peer}.{SERVICE}"), Duration::from_secs(2));
    }

    /// Withdraws the announcement.
    pub async fn stop(self) {
        let withdrawn = async {
            if let Ok(done) = self.daemon.unregister(&self.fullname) {
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

fn read(event: ServiceEvent, me: AgentId) -> Option<Sighting> {
    match event {
        ServiceEvent::ServiceResolved(service) => found(&service, me),
        ServiceEvent::ServiceRemoved(_, fullname) => {
            let id = fullname.split('.').next()?.parse().ok()?;
            (id != me).then_some(Sighting::Withdrawn(id))
        }
        _ => None,
    }
}

/// The agent that a service says it is. Anybody on the link can say anything.
fn found(service: &ResolvedService, me: AgentId) -> Option<Sighting> {
    let id: AgentId = service.get_property_val_str("id")?.parse().ok()?;
    let version = service.get_property_val_str("version")?;
    let port = service.get_port();
    if id == me || port == 0 {
        return None;
    }
    if version != WIRE_VERSION.to_string() {
        let version: String = version.chars().take(VERSION_CHARS_MAX).collect();
        warn!(peer = %id.short(), "speaks version {version:?}, this agent {WIRE_VERSION}");
        return None;
    }
    let ips: BTreeSet<IpAddr> =
        service.get_addresses().iter().map(|ip| ip.to_ip_addr()).filter(usable).collect();
    let addresses: Vec<SocketAddr> =
        ips.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, port)).collect();
    debug!(peer = %id.short(), ?addresses, "seen by mDNS");
    Some(Sighting::Found(id, addresses))
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
    found(&service.as_resolved_service(), me)
}

/// As mdns-sd reads a part of a TXT record.
fn property(string: &[u8]) -> TxtProperty {
    match string.iter().position(|byte| *byte == b'=') {
        Some(at) => (String::from_utf8_lossy(&string[..at]), &string[at + 1..]).into(),
        None => String::from_utf8_lossy(string).as_ref().into(),
    }
}
