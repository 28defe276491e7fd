//! The files of the dashboard. They are part of the program, and their addresses change with their
//! content, so browsers may keep them.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::super::problem::Problem;
use crate::runtime::Shared;
use axum::http::StatusCode;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 6] = [
    Asset {
        name: "htmx-2.0.11.min.js",
        kind: SCRIPT,
        bytes: include_bytes!("assets/htmx-2.0.11.min.js"),
    },
    Asset {
        name: "htmx-ext-sse-2.2.4.min.js",
        kind: SCRIPT,
        bytes: include_bytes!("assets/htmx-ext-sse-2.2.4.min.js"),
    },
    Asset { name: "dmc.js", kind: SCRIPT, bytes: include_bytes!("assets/dmc.js") },
    Asset {
        name: "dmc.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("assets/dmc.css"),
    },
    Asset { name: "dmc.svg", kind: "image/svg+xml", bytes: include_bytes!("assets/dmc.svg") },
    Asset {
        name: "LICENSES.txt",
        kind: "text/plain; charset=utf-8",
        bytes: include_bytes!("assets/LICENSES.txt"),
    },
];

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/assets/{name}", get(serve))
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The address of a file, relative to the base: with a mark of its content.
pub(super) fn place(name: &str) -> String {
    let bytes = find(name).map_or(&[][..], |asset| asset.bytes);
    let mark = blake3::hash(bytes).to_hex();
    format!("assets/{name}?v={}", &mark[..12])
}

async fn serve(Path(name): Path<String>) -> Result<Response, Problem> {
    let none = || Problem::new(StatusCode::NOT_FOUND, "the dashboard has no such file");
    let asset = find(&name).ok_or_else(none)?;
    let forever = "public, max-age=31536000, immutable";
    let headers = [(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, forever)];
    Ok((headers, asset.bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_the_content() {
        let place = place("dmc.css");
        assert_eq!(place.len(), "assets/dmc.css?v=".len() + 12);
        assert!(ASSETS.iter().all(|asset| !asset.bytes.is_empty()));
    }
}
