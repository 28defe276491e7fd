//! Sends a file to an agent: one form, as it is read, with its checksum at the end.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use dmc_agent::jobs::Priority;
use dmc_protocol::media::PresetOverrides;
use futures::stream;
use reqwest::{Body, Method, StatusCode, header};
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

use super::client::{ANSWER_TIMEOUT, BODY_TIMEOUT, Client, Outage};
use super::progress::Screen;
use super::remote::{Refused, Trouble};

const PIECE_BYTES: usize = 256 << 10;
/// The agent takes nothing for so long: it is not there any more.
const PAUSE_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// Between what is told of a file and the file.
const HEAD_PAUSE: Duration = Duration::from_millis(200);
/// How often an agent is asked again that is still answering the same request.
const BUSY_MAX: u32 = 60;
const BUSY_PAUSE: Duration = Duration::from_secs(2);
/// A BLAKE3 in hexadecimal digits.
const SUM_BYTES: u64 = 64;
/// The longest name that an agent takes.
const NAME_BYTES_MAX: usize = 200;

/// What the agent made of a file.
#[derive(Debug, Deserialize)]
pub(crate) struct Sent {
    /// The item, and its job.
    pub item_id: String,
}

/// What becomes of a file that is sent.
pub(crate) struct Order<'a> {
    pub client_id: &'a str,
    pub preset: &'a str,
    pub overrides: &'a PresetOverrides,
    pub priority: Priority,
}

/// Sends a file, again from its begin when the agent goes away and is waited for: the same key
/// makes no second item.
pub(crate) async fn send(
    client: &Client,
    file: &Path,
    order: &Order<'_>,
    screen: &mut Screen,
) -> anyhow::Result<Sent> {
    let key = Uuid::new_v4().to_string();
    let (mut outage, mut busy) = (Outage::default(), 0);
    loop {
        match once(client, file, order, &key, screen).await {
            Ok(sent) => {
                outage.over(client);
                return Ok(sent);
            }
            // The agent still keeps the first one that came with this key.
            Err(Trouble::Final(e)) if Refused::is(&e, StatusCode::CONFLICT) && busy < BUSY_MAX => {
                busy += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(Trouble::Final(e)) => return Err(e),
            Err(Trouble::Away { why, .. }) => {
                let name = file.display();
                let waited = outage.wait(client, &why).await;
                waited.with_context(|| format!("{name} was not sent"))?;
            }
        }
    }
}

async fn once(
    client: &Client,
    path: &Path,
    order: &Order<'_>,
    key: &str,
    screen: &mut Screen,
) -> Result<Sent, Trouble> {
    let failed = |e: io::Error| {
        let text = format!("cannot read {}", path.display());
        Trouble::Final(anyhow::Error::new(e).context(text))
    };
    let file = File::open(path).await.map_err(failed)?;
    let total = file.metadata().await.map_err(failed)?.len();
    let boundary = Uuid::new_v4().simple().to_string();
    let head = head(path, order, &boundary);
    let tail_bytes = tail(&boundary, "").len() as u64 + SUM_BYTES;
    let read = Arc::new(AtomicU64::new(0));
    let length = head.len() as u64 + total + tail_bytes;
    let kind = format!("multipart/form-data; boundary={boundary}");
    let form = Form {
        step: Step::Head(head),
        file,
        left: total,
        sum: blake3::Hasher::new(),
        boundary,
        read: Arc::clone(&read),
    };
    let request = client
        .request(Method::POST, "/item")
        .timeout(BODY_TIMEOUT)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_LENGTH, length)
        .header("Idempotency-Key", key)
        .body(Body::wrap_stream(stream::try_unfold(form, Form::next)));
    let mut answer = std::pin::pin!(client.send(request));
    let mut moved = (0, Instant::now());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer?,
            () = tokio::time::sleep(LOOK) => {}
        }
        let now = read.load(Ordering::Relaxed);
        screen.transfer("sending", &name, now, total);
        if now != moved.0 {
            moved = (now, Instant::now());
        }
        // All of it is sent: the agent writes it to its disk, and looks at it.
        let most = if now == total { ANSWER_TIMEOUT } else { PAUSE_MAX };
        if moved.1.elapsed() > most {
            let why = "it takes nothing any more".to_owned();
            return Err(Trouble::Away { why, sent: true });
        }
    };
    let read = answer.bytes().await.map_err(Trouble::of)?;
    serde_json::from_slice(&read)
        .context("the agent's answer cannot be read; is it another version?")
        .map_err(Trouble::Final)
}

/// The form up to the file.
fn head(path: &Path, order: &Order<'_>, boundary: &str) -> Vec<u8> {
    let mut head = Vec::new();
    let mut field = |name: &str, value: &str| {
        let text = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        );
        head.extend_from_slice(text.as_bytes());
    };
    field("client_id", order.client_id);
    field("conversion_type", order.preset);
    if *order.overrides != PresetOverrides::default() {
        field("overrides", &serde_json::to_string(order.overrides).unwrap_or_default());
    }
    // An older agent does not know the field.
    if order.priority != Priority::NORMAL {
        field("priority", &order.priority.to_string());
    }
    let name = plain_name(path.file_name().unwrap_or_default());
    let text = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n"
    );
    head.extend_from_slice(text.as_bytes());
    head
}

/// The form after the file. The checksum is known only then: the file is read once.
fn tail(boundary: &str, sum: &str) -> Vec<u8> {
    format!(
        "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"checksum\"\r\n\r\n{sum}\r\n\
         --{boundary}--\r\n"
    )
    .into_bytes()
}

/// The file's name as every agent takes it: what a form or a path cannot hold becomes `_`.
pub(crate) fn plain_name(name: &OsStr) -> String {
    let text = name.to_string_lossy();
    let good = |c: char| if c.is_control() || "/\\\"%\u{fffd}".contains(c) { '_' } else { c };
    let mut plain: String = text.chars().map(good).collect();
    if plain.len() > NAME_BYTES_MAX {
        // Its end says what kind of file it is.
        let from = plain.len() - NAME_BYTES_MAX;
        let from = (from..plain.len()).find(|at| plain.is_char_boundary(*at)).unwrap_or(from);
        plain = plain.split_off(from);
    }
    plain
}

enum Step {
    Head(Vec<u8>),
    File,
    End,
}

/// A form that is read as it is sent.
struct Form {
    step: Step,
    file: File,
    /// Bytes of the file that were not read yet.
    left: u64,
    sum: blake3::Hasher,
    boundary: String,
    read: Arc<AtomicU64>,
}

impl Form {
    async fn next(mut self) -> io::Result<Option<(Vec<u8>, Form)>> {
        match std::mem::replace(&mut self.step, Step::File) {
            Step::Head(head) => Ok(Some((head, self))),
            Step::File if self.left > 0 => {
                if self.read.load(Ordering::Relaxed) == 0 {
                    // An agent that refuses says so at once: its answer comes before the file goes.
                    tokio::time::sleep(HEAD_PAUSE).await;
                }
                let piece = self.piece().await?;
                Ok(Some((piece, self)))
            }
            Step::File => {
                self.step = Step::End;
                let tail = tail(&self.boundary, &self.sum.finalize().to_hex());
                Ok(Some((tail, self)))
            }
            Step::End => Ok(None),
        }
    }

    /// The next bytes of the file, as many as it had when it was opened and no more.
    async fn piece(&mut self) -> io::Result<Vec<u8>> {
        let most = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let mut piece = vec![0; most];
        let count = self.file.read(&mut piece).await?;
        if count == 0 {
            let why = "the file became shorter while it was sent";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        piece.truncate(count);
        self.sum.update(&piece);
        self.left -= count as u64;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_that_agents_take_them() {
        let of = |name: &str| plain_name(OsStr::new(name));
        assert_eq!(of("-ein Film 🎬.mp4"), "-ein Film 🎬.mp4");
        assert_eq!(of("a\"b\\c\n%22.mp4"), "a_b_c__22.mp4");
        let long = of(&format!("{}é.mp4", "ä".repeat(150)));
        assert!(long.len() <= NAME_BYTES_MAX && long.ends_with("äé.mp4"), "{long}");
    }
}
