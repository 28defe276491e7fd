//! By which names this API may be called, and from which pages.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::{AsHeaderName, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};

use crate::http::problem::Problem;

/// Where a guard stands.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct Place {
    /// The port that it guards.
    pub port: u16,
    /// Whether other machines reach it: then by any of its addresses.
    pub wide: bool,
    /// Whether it is encrypted.
    pub tls: bool,
}

/// The names of an API.
pub(super) struct Names {
    pub place: Place,
    /// Names under which others call it, as `name` or `name:port`.
    pub hosts: Vec<String>,
}

impl Names {
    /// A web page whose name was made to point to this machine (DNS rebinding) calls us by that
    /// name, and a page of another site says where it is from; neither can know the token.
    pub(super) fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let refused = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, why));
        let target = request.uri().authority().map(Authority::as_str);
        if !only(headers, HOST).is_some_and(|host| self.is_here(host))
            || target.is_some_and(|target| !self.is_here(target))
        {
            return refused(
                "the request names another host; call the API at its address in agent.json, or \
                 list the name as api_hosts in the agent's settings",
            );
        }
        if headers.contains_key(ORIGIN)
            && !only(headers, ORIGIN)
                .is_some_and(|origin| self.is_our_page(origin, only(headers, HOST)))
        {
            return refused("the request comes from a page of another site, which may not use it");
        }
        Ok(())
    }

    fn is_our_page(&self, origin: &str, host: Option<&str>) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        // Who listed the name may have put TLS before it.
        if self.is_listed(authority) {
            return scheme == "http" || scheme == "https";
        }
        let ours = if self.place.tls { "https" } else { "http" };
        // Where other machines reach it, any address would be ours: one of theirs is not.
        let same = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
        scheme == ours && (same || !self.place.wide && self.is_here(authority))
    }

    /// Whether the settings name it. A name without a port is that of the usual ports only: on
    /// another one there may be somebody else's pages.
    fn is_listed(&self, authority: &str) -> bool {
        let plain = authority.strip_suffix(":80").or_else(|| authority.strip_suffix(":443"));
        let same = |host: &String| {
            host.eq_ignore_ascii_case(authority)
                || plain.is_some_and(|plain| host.eq_ignore_ascii_case(plain))
        };
        !authority.is_empty() && self.hosts.iter().any(same)
    }

    /// Whether it is a loopback address or `localhost`, with the API's port, or listed.
    fn is_here(&self, authority: &str) -> bool {
        if authority.contains('@') {
            return false;
        }
        if self.is_listed(authority) {
            return true;
        }
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host();
        // An address is no name that somebody could make to point here.
        let wide = self.place.wide;
        let here = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => host.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback() || wide),
            None => {
                host.eq_ignore_ascii_case("localhost")
                    || host.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback() || wide)
            }
        };
        let usual = if self.place.tls { 443 } else { 80 };
        here && authority.port_u16().unwrap_or(usual) == self.place.port
    }
}

/// The header's text when it is there exactly once.
pub(super) fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok();
    first.filter(|_| values.next().is_none())
}
