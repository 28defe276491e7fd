//! Where a result goes, and whether it can go there.

use std::path::{Path, PathBuf};

use dmc_protocol::media::{Container, MediaKind, Preset};

use super::{Refusal, Wish};
use crate::media::{MediaError, plan};
use crate::replace::{self, Replacement};

/// Where the result goes, as the wish says it.
pub(super) fn output_path(
    wish: &Wish,
    preset: &Preset,
    trial: &plan::Plan,
) -> Result<PathBuf, Refusal> {
    let end = trial.join.container.extension();
    let is_new =
        |end: &str| wish.input.extension().is_none_or(|old| !old.eq_ignore_ascii_case(end));
    let what = match trial.kind {
        MediaKind::Video => format!("{}.", preset.made_of()),
        // `photo.webp`: the format says it all, unless the source has the same.
        MediaKind::Audio | MediaKind::Image if preset.kind() == trial.kind && is_new(end) => {
            String::new()
        }
        MediaKind::Audio | MediaKind::Image => format!("{}.", preset.name),
    };
    let name = || {
        let mut name = wish.input.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{what}{end}"));
        name
    };
    let path = match (&wish.output, &wish.output_dir) {
        (Some(output), _) => output.0.clone(),
        (None, Some(dir)) => dir.join(name()),
        (None, None) => wish.input.with_file_name(name()),
    };
    if path.file_name().is_none() || !path.is_absolute() {
        return Err(Refusal::Wish(format!("{} is no name for a file", path.display())));
    }
    Ok(path)
}

/// The source and the name that the result takes over, when it is to replace its source.
pub(super) fn replacement(wish: &Wish, trial: &plan::Plan) -> Result<Option<Replacement>, Refusal> {
    let refused = |text: &str| Err(Refusal::Wish(text.to_owned()));
    match wish.replace {
        false if wish.sidecars => refused("--sidecars needs --replace"),
        false => Ok(None),
        true if wish.output.is_some() || wish.output_dir.is_some() || wish.overwrite => {
            refused("--replace takes the name of the source: leave out the result's name")
        }
        true if wish.deliver_to.is_some() => {
            refused("--replace needs the result here, and --deliver-to leaves it elsewhere")
        }
        true => Ok(Some(replace::replacement(&wish.input, trial.join.container)?)),
    }
}

/// What can be known at once of a place for a result.
///
/// # Errors
/// It cannot be written, is the source itself, or is there already and shall stay.
pub fn check_output(input: &Path, output: &Path, overwrite: bool) -> Result<(), MediaError> {
    let dir = output.parent().unwrap_or(Path::new("/"));
    if !dir.is_dir() {
        let e = std::io::Error::new(std::io::ErrorKind::NotFound, "no such directory");
        return Err(MediaError::io("write into", dir, e));
    }
    let same = std::fs::canonicalize(output).ok();
    if same.is_some() && same == std::fs::canonicalize(input).ok() {
        let why = "the result would replace its own source";
        return Err(MediaError::refused(input, why, "Choose another name with -o"));
    }
    match std::fs::symlink_metadata(output) {
        Ok(meta) if meta.is_dir() => {
            let e = std::io::Error::from(std::io::ErrorKind::IsADirectory);
            return Err(MediaError::io("write", output, e));
        }
        Ok(_) if !overwrite => return Err(MediaError::Exists { path: output.to_owned() }),
        _ => {}
    }
    // A file without a name: permissions and read-only mounts show at once, and nothing stays.
    tempfile::tempfile_in(dir).map(|_gone| ()).map_err(|e| MediaError::io("write into", dir, e))
}

/// The container that the name of the result asks for, where it says one.
pub fn container_of(output: &Path) -> Option<Container> {
    let extension = output.extension()?.to_str()?.to_lowercase();
    match extension.as_str() {
        "mkv" => Some(Container::Mkv),
        "mp4" | "m4v" => Some(Container::Mp4),
        _ => None,
    }
}
