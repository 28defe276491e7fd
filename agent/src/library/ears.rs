//! Hears from the system which directories of a folder changed. Network mounts tell nothing, and nothing
//! is lost by what was not heard: all of a folder is looked at now and then.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{RecursiveMode, Watcher};

use super::Handle;

/// Tells the task of a folder which directories changed, until it is dropped.
pub struct Ears {
    _watcher: notify::RecommendedWatcher,
    /// The directory that it listens to, by device and inode.
    of: Option<(u64, u64)>,
}

fn inode(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).map(|meta| (meta.dev(), meta.ino())).ok()
}

impl Ears {
    /// Listens from now on, below all of the folder. Blocks.
    ///
    /// # Errors
    /// The system does not tell, or has no watches left.
    pub fn begin(handle: &Arc<Handle>, root: &Path) -> notify::Result<Ears> {
        let of = inode(root);
        // The handle outlives the folder's task, and must not keep it.
        let (told, dir) = (Arc::downgrade(handle), root.to_owned());
        let tell = move |event: notify::Result<notify::Event>| {
            if let Some(handle) = told.upgrade() {
                heard(&handle, &dir, event);
            }
        };
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = notify::RecommendedWatcher::new(tell, config)?;
        watcher.watch(root, RecursiveMode::Recursive)?;
        Ok(Ears { _watcher: watcher, of })
    }

    /// Whether the directory of that name is still the one that it listens to: another disk may have
    /// been mounted there.
    pub fn hears(&self, root: &Path) -> bool {
        self.of.is_some() && inode(root) == self.of
    }
}

fn heard(handle: &Handle, root: &Path, event: notify::Result<notify::Event>) {
    match event {
        Ok(event) if event.need_rescan() => handle.changed_all(),
        Ok(event) if matches!(event.kind, notify::EventKind::Access(_)) => {}
        Ok(event) => {
            for path in &event.paths {
                let parent = path.parent().and_then(|parent| parent.strip_prefix(root).ok());
                // Without one, it is the folder itself.
                handle.changed(parent.map_or_else(PathBuf::new, Path::to_owned));
            }
        }
        Err(_) => handle.changed_all(),
    }
}
