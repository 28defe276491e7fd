//! Brings a result here: into a part that a later try goes on with, then to its name at once.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dmc_agent::http::views::JobView;
use futures::StreamExt;
use reqwest::{Method, Response, StatusCode, header};
use tempfile::TempPath;

use super::client::{BODY_TIMEOUT, Client, Outage};
use super::progress::Screen;
use super::remote::Trouble;
use super::show;

/// The agent sends nothing for so long: it is not there any more.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Before the next try, when something came in the last one.
const LOOK: Duration = Duration::from_secs(1);

/// Where a result goes.
pub(crate) struct Target<'a> {
    pub path: &'a Path,
    pub overwrite: bool,
}

/// A result that has arrived in part.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Part {
    /// Beside the result, so that it can get its name; named after the job, so that what is there
    /// already can only be of the same result.
    fn open(to: &Path, job: &str) -> anyhow::Result<Part> {
        let mut name = std::ffi::OsString::from(".");
        name.push(to.file_name().context("the result has no name; give one with -o")?);
        name.push(format!(".{job}.dmc-part"));
        let path = to.with_file_name(name);
        let failed = || format!("cannot write {}", path.display());
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let mut file = file.with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another dmc fetches {} just now", to.display())
            }
            Err(TryLockError::Error(e)) => return Err(e).with_context(failed),
        }
        let bytes = file.seek(SeekFrom::End(0)).with_context(failed)?;
        Ok(Part { path, file, bytes })
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.bytes += piece.len() as u64;
        Ok(())
    }

    fn begin_again(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.bytes = 0;
        Ok(())
    }

    /// The whole result gets its name; on the disk when this returns.
    fn publish(self, to: &Target<'_>) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", to.path.display());
        self.file.sync_all().with_context(failed)?;
        let part = TempPath::try_from_path(&self.path).with_context(failed)?;
        let renamed = match to.overwrite {
            true => part.persist(to.path),
            false => part.persist_noclobber(to.path),
        };
        if let Err(e) = renamed {
            let exists = e.error.kind() == io::ErrorKind::AlreadyExists;
            // It is whole: a later try only renames it.
            let _ = e.path.keep();
            if exists {
                bail!("{} exists; --overwrite replaces it", to.path.display());
            }
            return Err(anyhow!(e.error).context(failed()));
        }
        // The name is on the disk, too.
        let dir = to.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new(".")))
            .and_then(|dir| dir.sync_all())
            .with_context(failed)
    }
}

/// Copies the result of a job to a place; its length. What arrived stays when this fails, and the
/// next call goes on from there. `sum` is asked for its BLAKE3, where the agent tells one.
pub(crate) async fn result(
    client: &Client,
    job: &JobView,
    to: &Target<'_>,
    sum: impl AsyncFnOnce() -> anyhow::Result<Option<String>>,
    screen: &mut Screen,
) -> anyhow::Result<u64> {
    if to.path.symlink_metadata().is_ok() && !to.overwrite {
        bail!("{} exists; --overwrite replaces it", to.path.display());
    }
    let mut part = Part::open(to.path, &job.id)?;
    let whole = match arrive(client, job, to, &mut part, screen).await {
        Ok(whole) => whole,
        Err(e) => return Err(left(e, &part)),
    };
    let same = match sum().await? {
        Some(sum) if whole => checksum_of(&mut part.file)? == sum,
        _ => whole,
    };
    if !same {
        // What is wrong in it nobody knows: nothing of it is of use.
        let _ = std::fs::remove_file(&part.path);
        let (command, id) = (client.command(), &job.id);
        bail!("the result did not arrive as the agent has it; `{command} fetch {id}` tries again");
    }
    let bytes = part.bytes;
    part.publish(to)?;
    Ok(bytes)
}

/// Whether the part has the length that the result has, once everything came.
async fn arrive(
    client: &Client,
    job: &JobView,
    to: &Target<'_>,
    part: &mut Part,
    screen: &mut Screen,
) -> anyhow::Result<bool> {
    let name = to.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let length = job.proof.as_ref().map(|proof| proof.bytes);
    if length.is_none_or(|length| part.bytes > length) {
        part.begin_again()?;
    }
    let mut outage = Outage::default();
    while length != Some(part.bytes) || part.bytes == 0 {
        let before = part.bytes;
        let came = more(client, &job.id, part, |done, total| {
            screen.transfer("fetching", &name, done, total);
        });
        match came.await {
            Ok(total) => {
                outage.over(client);
                return Ok(part.bytes == total && length.is_none_or(|length| length == total));
            }
            Err(Trouble::Final(e)) => return Err(e),
            // The agent may be there: the next try says.
            Err(Trouble::Away { .. }) if part.bytes > before => tokio::time::sleep(LOOK).await,
            Err(Trouble::Away { why, .. }) => outage.wait(client, &why).await?,
        }
    }
    Ok(true)
}

/// Fetches what is missing; the length of the whole.
async fn more(
    client: &Client,
    job: &str,
    part: &mut Part,
    mut shown: impl FnMut(u64, u64),
) -> Result<u64, Trouble> {
    let failed = |e: io::Error| Trouble::Final(anyhow!(e).context("cannot write"));
    let request = client.request(Method::GET, &format!("/jobs/{job}/file")).timeout(BODY_TIMEOUT);
    let request = match part.bytes {
        0 => request,
        from => request.header(header::RANGE, format!("bytes={from}-")),
    };
    let answer = client.send(request).await?;
    let total = match range_of(&answer) {
        Some((from, total)) if from == part.bytes => total,
        Some(_) => {
            let why = "the agent sent another part than the one that was asked for";
            return Err(Trouble::Final(anyhow!(why)));
        }
        None => {
            part.begin_again().map_err(failed)?;
            answer.content_length().unwrap_or(0)
        }
    };
    let mut pieces = answer.bytes_stream();
    loop {
        let piece = tokio::time::timeout(PAUSE_MAX, pieces.next()).await;
        let late = || Trouble::Away { why: "it sends nothing any more".to_owned(), sent: true };
        let Some(piece) = piece.map_err(|_| late())? else { break };
        part.write(&piece.map_err(Trouble::of)?).map_err(failed)?;
        shown(part.bytes, total);
    }
    // A proxy that does not know the length ends where the agent ended.
    Ok(if total == 0 { part.bytes } else { total })
}

/// Where the part begins that an answer holds, and how long the whole is.
fn range_of(answer: &Response) -> Option<(u64, u64)> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, total) = range.strip_prefix("bytes ")?.split_once('/')?;
    Some((part.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

/// The error, with what is left of the download.
fn left(error: anyhow::Error, part: &Part) -> anyhow::Error {
    if part.bytes == 0 {
        let _ = std::fs::remove_file(&part.path);
        return error;
    }
    let (bytes, path) = (show::bytes(part.bytes), part.path.display());
    error
        .context(format!("the download broke off; {bytes} are in {path}, and the next try goes on"))
}

fn checksum_of(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut sum, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sum.finalize().to_hex().to_string()),
            count => sum.update(&buffer[..count]),
        };
    }
}
