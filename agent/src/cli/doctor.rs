//! `dmc doctor`: what is missing on this machine, and the command that mends it.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, SystemTime};

use dmc_agent::media::run::Tools;
use dmc_agent::media::sandbox::{Report, Sandbox};
use dmc_agent::media::{capability, hardware};
use dmc_protocol::media::Encoder;
use serde::Serialize;

use super::client::{Client, Place};
use super::{End, show};

/// Less free disk than this is trouble.
const FREE_BYTES_MIN: u64 = 5 << 30;
/// 2025-01-01: a clock before that was never set.
const CLOCK_MIN: Duration = Duration::from_secs(1_735_689_600);

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    /// `ok`, `warning` or `problem`.
    level: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    /// What is enforced, part by part; only of the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Report>,
}

fn ok(check: &'static str, detail: impl Into<String>) -> Finding {
    Finding { check, level: "ok", detail: detail.into(), mend: None, sandbox: None }
}

fn warning(check: &'static str, detail: impl Into<String>, mend: &str) -> Finding {
    Finding { level: "warning", mend: Some(mend.to_owned()), ..ok(check, detail) }
}

fn problem(check: &'static str, detail: impl Into<String>, mend: &str) -> Finding {
    Finding { level: "problem", mend: Some(mend.to_owned()), ..ok(check, detail) }
}

pub(crate) async fn run(place: &Place) -> anyhow::Result<End> {
    let (sandbox, confined) = confined(place)?;
    let mut findings = media(&sandbox).await;
    findings.push(confined);
    findings.push(disk(place));
    findings.push(multicast());
    findings.push(clock());
    findings.push(agent(place).await);
    let failed = findings.iter().any(|finding| finding.level == "problem");
    if place.json {
        show::json(&findings);
    } else {
        for finding in &findings {
            let Finding { check, level, detail, .. } = finding;
            show::line(&format!("{level:<8} {check:<10} {detail}"));
            if let Some(mend) = &finding.mend {
                show::line(&format!("{:19} to mend: {mend}", ""));
            }
        }
    }
    Ok(if failed { End::Failed } else { End::Done })
}

/// The sandbox of this machine's settings, as far as there is one.
fn confined(place: &Place) -> anyhow::Result<(Sandbox, Finding)> {
    let check = "sandbox";
    let (sandbox, report) = match Sandbox::new(&place.settings()?) {
        Ok(found) => found,
        Err(e) => {
            let mend = "see the message; dmc agent does not start";
            return Ok((Sandbox::default(), problem(check, e.to_string(), mend)));
        }
    };
    let lacks = report.lacks();
    let finding = if !report.wanted {
        let mend = "remove sandbox = \"off\" from the settings";
        warning(check, "off: ffmpeg may do what this user may", mend)
    } else if lacks.is_empty() {
        ok(check, format!("ffmpeg is confined: {}", report.words()))
    } else {
        warning(check, format!("ffmpeg is confined in part: {}", lacks.join("; ")), report.mend())
    };
    Ok((sandbox, Finding { sandbox: Some(report), ..finding }))
}

async fn media(sandbox: &Sandbox) -> Vec<Finding> {
    let install = "sudo apt install ffmpeg";
    let tools = match Tools::find() {
        Ok(tools) => tools.confined(sandbox),
        Err(e) => return vec![problem("ffmpeg", e.to_string(), install)],
    };
    let able = capability::detect(&tools).await;
    let mut findings = vec![if able.ffmpeg_version.is_empty() {
        let detail = format!("{} does not start", tools.ffmpeg.path().display());
        let mend = "if DMC_SANDBOX=off helps, see what the sandbox allows (docs/SECURITY.md)";
        problem("ffmpeg", detail, mend)
    } else {
        ok("ffmpeg", able.ffmpeg_version.clone())
    }];
    for encoder in Encoder::ALL {
        findings.push(if able.encoders.contains_key(&encoder) {
            ok("encoder", format!("{encoder} works"))
        } else {
            let detail = format!("{encoder} does not work; peers that have it can do such work");
            warning("encoder", detail, install)
        });
    }
    findings.extend(hardware(&tools, &able.ffmpeg_version).await);
    findings
}

/// Nobody needs hardware: what is not there is told, and is no warning.
async fn hardware(tools: &Tools, version: &str) -> Vec<Finding> {
    let found = hardware::probe(tools, version).await;
    let tell = |(encoder, state): (Encoder, Result<[u8; 8], String>)| {
        let detail = match state {
            Ok(_) => format!("{encoder} works"),
            Err(why) => format!("{encoder} is not used: {why}"),
        };
        ok("hardware", detail)
    };
    found.into_iter().map(tell).collect()
}

fn disk(place: &Place) -> Finding {
    let dir = place.data_dir.ancestors().find(|dir| dir.exists());
    match dir.map(dmc_store::free_space) {
        Some(Ok(free)) if free >= FREE_BYTES_MIN => {
            ok("disk", format!("{} free for {}", show::bytes(free), place.data_dir.display()))
        }
        Some(Ok(free)) => warning(
            "disk",
            format!("only {} free for {}", show::bytes(free), place.data_dir.display()),
            "free some space, or name another place with --data-dir",
        ),
        _ => problem(
            "disk",
            format!("{} cannot be used", place.data_dir.display()),
            "name another place with --data-dir",
        ),
    }
}

/// A multicast to this very machine: what mDNS needs at least.
fn multicast() -> Finding {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let heard = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_multicast_loop_v4(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let word = b"dmc doctor";
        socket.send_to(word, (group, socket.local_addr()?.port()))?;
        let mut heard = [0u8; 32];
        Ok(socket.recv(&mut heard)? == word.len())
    };
    match heard() {
        Ok(true) => ok("multicast", "mDNS can find agents on this link"),
        Ok(false) | Err(_) => warning(
            "multicast",
            "no multicast here: agents on other machines are not found by themselves",
            "name one of them with `dmc agent --peer HOST:PORT`, or allow UDP port 5353",
        ),
    }
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if now > CLOCK_MIN {
        ok("clock", "set")
    } else {
        let mend = "sudo timedatectl set-ntp true";
        warning("clock", "the clock was never set: dates of jobs will be wrong", mend)
    }
}

async fn agent(place: &Place) -> Finding {
    match Client::find(place).await {
        Ok(Some(_)) => ok("agent", "runs, and answers"),
        Ok(None) => warning(
            "agent",
            format!("none runs with the data directory {}", place.data_dir.display()),
            "dmc agent",
        ),
        Err(e) => problem("agent", format!("{e:#}"), "stop it and start it again"),
    }
}
