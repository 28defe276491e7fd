//! One function for each decoder of bytes from outside: it takes any bytes, says whether they were
//! accepted, and panics when something that must hold does not.
//!
//! libFuzzer calls these functions (`fuzz_targets/`), and so does the test `../fuzz.rs`, with the
//! inputs in `corpus/` and some thousand changes of each.

mod api;
mod disk;
mod media;
mod mesh;
mod wire;

/// A fuzz target.
pub struct Target {
    /// Its name: that of its program and of its directory in `corpus/`.
    pub name: &'static str,
    /// What it does with any bytes.
    pub run: fn(&[u8]) -> bool,
}

/// All targets.
///
/// A decoder of bytes from outside that is new gets a function in one of the modules, a line here, a
/// file in `fuzz_targets/` with its `[[bin]]` in `Cargo.toml`, and seeds in `../fuzz/seeds.rs` or
/// files in `corpus/`. What is new inside of messages and records needs only its values in
/// `protocol/tests/values`. The signed facts of a roster, when there is one, belong into `wire.rs`
/// as `fact`: decoded, verified, inserted into an empty roster, and the members computed.
pub const TARGETS: &[Target] = &[
    Target { name: "wire_frame", run: wire::frame },
    Target { name: "control_stream", run: wire::control_stream },
    Target { name: "blob_stream", run: wire::blob_stream },
    Target { name: "roster", run: mesh::roster },
    Target { name: "join", run: mesh::join },
    Target { name: "txt_record", run: wire::txt_record },
    Target { name: "store_record", run: disk::record },
    Target { name: "manifest", run: disk::manifest },
    Target { name: "progress", run: media::progress },
    Target { name: "ffprobe", run: media::ffprobe },
    Target { name: "proof", run: media::proof },
    Target { name: "picture", run: media::picture },
    Target { name: "mp4_header", run: media::mp4_header },
    Target { name: "api_body", run: api::body },
    Target { name: "config", run: api::config },
];

/// The parts of a text input, which lines of `%%` separate.
fn parts(data: &[u8]) -> Vec<&[u8]> {
    const LINE: &[u8] = b"\n%%\n";
    let mut parts = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(LINE.len()).position(|window| window == LINE) {
        parts.push(&rest[..at]);
        rest = &rest[at + LINE.len()..];
    }
    parts.push(rest);
    parts
}

/// Runs a target by its name.
///
/// # Panics
/// When there is no such target, or something that must hold does not.
pub fn run(name: &str, data: &[u8]) -> bool {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target is in the list").run)(data)
}
