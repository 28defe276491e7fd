//! What a result is called that takes the place of its source, and where the source then goes.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use dmc_protocol::id::JobId;
use dmc_protocol::media::Container;

use super::files::exists;
use super::{SwapError, failed};
use crate::intake::container_of;

/// The store beside a source whose disk is not that of the data directory.
const HIDDEN: &str = ".dmc-undo";
/// The store in the data directory.
const STORE: &str = "undo";
/// No library takes such a file for a film.
const ENDING: &str = ".original";
const NAME_BYTES_MAX: usize = 255;

/// A source, and the name of the result that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// The source; no link.
    pub source: PathBuf,
    /// The same name, or one with the ending of the result's format.
    pub output: PathBuf,
}

/// What replacing `input` means, and whether it can be done.
///
/// # Errors
/// It cannot: words for people.
pub fn replacement(input: &Path, container: Container) -> Result<Replacement, SwapError> {
    let refused = |text: String| Err(SwapError::Refused(text));
    let read = |e| failed("read", input, e);
    let source = fs::canonicalize(input).map_err(read)?;
    let meta = fs::metadata(&source).map_err(read)?;
    if !meta.is_file() {
        return refused(format!(
            "{} is no regular file, so nothing can replace it",
            input.display()
        ));
    }
    let output = output_of(&source, container);
    if source != output {
        if fs::symlink_metadata(input).map_err(read)?.is_symlink() {
            return refused(format!(
                "{} is a link to {}, and would point at nothing once that is called {}; name the \
                 file itself, or choose the format that it has",
                input.display(),
                source.display(),
                output.display()
            ));
        }
        if exists(&output)? {
            return refused(format!(
                "{} would replace {}, but exists already and is another file; move it away first",
                output.display(),
                source.display()
            ));
        }
    }
    let dir = source.parent().unwrap_or(Path::new("/"));
    // A file without a name: permissions and read-only mounts show at once, and nothing stays.
    tempfile::tempfile_in(dir).map_err(|e| failed("write into", dir, e))?;
    Ok(Replacement { source, output })
}

/// The source's name where its ending says the result's format already.
fn output_of(source: &Path, container: Container) -> PathBuf {
    let ending = source.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let says_so = ending.as_deref() == Some(container.extension());
    if says_so || container_of(source) == Some(container) {
        return source.to_owned();
    }
    source.with_extension(container.extension())
}

/// Where originals of a file may go, the best first: the data directory costs no room and is in
/// nobody's way, but must be on the same file system; beside the file always is.
pub fn dirs(data_dir: &Path, source: &Path, job: JobId) -> Vec<PathBuf> {
    let beside = dir_beside(source, job);
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let same = device(data_dir).is_some_and(|of| device(source) == Some(of));
    let in_data = same.then(|| data_dir.join(STORE).join(job.to_string()));
    in_data.into_iter().chain([beside]).collect()
}

/// The job's directory in the store beside a file.
pub fn dir_beside(source: &Path, job: JobId) -> PathBuf {
    source.with_file_name(HIDDEN).join(job.to_string())
}

/// Whether that is a store beside a source.
pub(super) fn is_hidden(store: &Path) -> bool {
    store.file_name().is_some_and(|name| name == HIDDEN)
}

/// The original's name in the store: people find it, and libraries do not.
pub fn kept_name(source: &Path) -> OsString {
    let mut name = source.file_name().unwrap_or_default().to_owned();
    if name.len() + ENDING.len() > NAME_BYTES_MAX {
        return OsString::from(ENDING.trim_start_matches('.'));
    }
    name.push(ENDING);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_stays_unless_its_ending_would_lie() {
        let names = [
            ("a.mkv", Container::Mkv, "a.mkv"),
            ("a.MKV", Container::Mkv, "a.MKV"),
            ("a.m4v", Container::Mp4, "a.m4v"),
            ("a.part1.avi", Container::Mkv, "a.part1.mkv"),
            ("-a 🎬", Container::Mkv, "-a 🎬.mkv"),
            (".avi", Container::Mkv, ".avi.mkv"),
        ];
        for (source, container, output) in names {
            let found = output_of(&Path::new("/films").join(source), container);
            assert_eq!(found, Path::new("/films").join(output), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str| dir.path().join(name);
        fs::write(of("film.avi"), "a film").unwrap();
        let good = replacement(&of("film.avi"), Container::Mkv).unwrap();
        assert_eq!(good.output.file_name().unwrap(), "film.mkv");
        std::os::unix::fs::symlink(of("film.avi"), of("link.avi")).unwrap();
        let said = |input: &str| replacement(&of(input), Container::Mkv).unwrap_err().to_string();
        assert!(said("link.avi").contains("is a link to"), "{}", said("link.avi"));
        fs::write(of("film.mkv"), "another").unwrap();
        assert!(said("film.avi").contains("exists already"), "{}", said("film.avi"));
        std::os::unix::fs::symlink(of("film.mkv"), of("link.mkv")).unwrap();
        let target = replacement(&of("link.mkv"), Container::Mkv).unwrap();
        assert_eq!(target.source, fs::canonicalize(of("film.mkv")).unwrap());
        assert_eq!(target.source, target.output);
    }
}
