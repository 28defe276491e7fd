//! Waiting for a moment: what the agents' logs say from now on.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::mesh::Mesh;

/// Moments come within this time, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(120);

/// Reads logs from where they were when it was made.
pub struct Watch {
    logs: Vec<(usize, PathBuf, u64)>,
}

impl Watch {
    /// Watches all hosts of a mesh.
    pub fn new(mesh: &Mesh) -> Self {
        let logs = mesh.hosts.iter().map(|host| {
            let path = host.dir.join("log");
            let length = path.metadata().map_or(0, |meta| meta.len());
            (host.n, path, length)
        });
        Self { logs: logs.collect() }
    }

    /// Waits for a line that is wanted; its host and its text.
    pub fn until(&mut self, what: &str, wanted: impl Fn(usize, &str) -> bool) -> (usize, String) {
        let end = Instant::now() + LIMIT;
        loop {
            for (host, path, at) in &mut self.logs {
                let mut file = File::open(path).unwrap();
                file.seek(SeekFrom::Start(*at)).unwrap();
                let mut new = String::new();
                file.read_to_string(&mut new).unwrap();
                // A line that is not whole yet is for the next time.
                for line in new.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                    *at += line.len() as u64;
                    if wanted(*host, line) {
                        return (*host, line.to_owned());
                    }
                }
            }
            assert!(Instant::now() < end, "waited in vain until {what}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until something is so; how long it took.
pub fn wait_until(what: &str, limit: Duration, mut now: impl FnMut() -> bool) -> Duration {
    let since = Instant::now();
    while !now() {
        assert!(since.elapsed() < limit, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
    since.elapsed()
}
