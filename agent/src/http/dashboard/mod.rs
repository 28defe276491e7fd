//! The dashboard: what a person sees and does in a browser.
//!
//! Pages are made here, whole. Regions of them (`ui/…`) are fetched again when `api/v1/events` says
//! that something changed, and buttons post to `ui/…`, too. Nothing comes from another site, and no
//! page has a script or a style inside: the policy forbids both, so a name of a file that looks like
//! one does nothing.
//!
//! Every link is relative to the `base` of the page, which is where a reverse proxy has put it.

mod assets;
mod calls;
mod conversions;
mod job;
mod jobs;
mod library;
mod login;
mod map;
mod mesh;
mod mesh_actions;
mod savings;
mod settings;
mod stills;
mod words;

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::{Extension, Router};
use maud::{DOCTYPE, Markup, html};
use utoipa::openapi::OpenApi as Description;

use super::guard::prefix;
use super::problem::Problem;
use crate::runtime::Shared;

pub(super) use login::login_page;

/// What a page may do: its own scripts, styles and pictures, and calls to this agent.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; base-uri 'self'; \
                      frame-ancestors 'none'";
/// htmx evaluates nothing and adds no styles.
const HTMX: &str = r#"{"allowEval":false,"includeIndicatorStyles":false}"#;
/// The event in a page after which its regions are fetched again.
const CHANGED: &str = "changed";
const HX_TRIGGER: HeaderName = HeaderName::from_static("hx-trigger");

pub(super) fn routes(description: Arc<Description>) -> Router<Arc<Shared>> {
    Router::new()
        .merge(assets::routes())
        .merge(mesh::routes())
        .merge(mesh_actions::routes())
        .merge(jobs::routes())
        .merge(job::routes())
        .merge(library::routes())
        .merge(savings::routes())
        .merge(settings::routes())
        .merge(calls::routes(description))
        .merge(stills::routes().layer(Extension(Arc::new(stills::Studio::default()))))
        .layer(map_response(protect))
}

/// The headers of every page, which keep what is foreign out of it.
pub(super) fn policies() -> [(HeaderName, &'static str); 3] {
    [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
    ]
}

async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in policies() {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages tell what is on this machine: they stay in no cache.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A page in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Mesh,
    Jobs,
    Library,
    Savings,
    Settings,
}

impl View {
    const ALL: [View; 5] = [View::Mesh, View::Jobs, View::Library, View::Savings, View::Settings];

    /// Where it is, relative to the base.
    fn place(self) -> &'static str {
        match self {
            View::Mesh => "./",
            View::Jobs => "jobs",
            View::Library => "library",
            View::Savings => "savings",
            View::Settings => "settings",
        }
    }

    fn title(self) -> &'static str {
        match self {
            View::Mesh => "Mesh",
            View::Jobs => "Jobs",
            View::Library => "Library",
            View::Savings => "Savings",
            View::Settings => "Settings",
        }
    }
}

/// What a page must know of its request.
struct Frame {
    /// The path that a reverse proxy has put the agent under; empty without one.
    prefix: String,
    /// The page itself, relative to its base.
    here: String,
}

impl<S: Sync> FromRequestParts<S> for Frame {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Frame, Infallible> {
        let here = parts.uri.path_and_query().map_or("", |here| here.as_str());
        let here = here.trim_start_matches('/').to_owned();
        Ok(Frame { prefix: prefix(&parts.headers), here })
    }
}

impl Frame {
    /// A page, or one that says why there is none.
    fn answer(&self, view: View, title: &str, main: Result<Markup, Problem>) -> Response {
        match main {
            Ok(main) => Html(self.page(view, title, &main).into_string()).into_response(),
            Err(problem) => {
                let status = StatusCode::from_u16(problem.status);
                let main = html! {
                    h1 { (problem.title) }
                    p role="alert" { (problem.detail) }
                    p { a href="jobs" { "All jobs" } }
                };
                let page = self.page(view, &problem.title, &main).into_string();
                (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Html(page)).into_response()
            }
        }
    }

    fn page(&self, view: View, title: &str, main: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(&self.prefix, title))
                body hx-ext="sse" sse-connect="api/v1/events" {
                    a.skip href={ (self.here) "#main" } { "Skip to the content" }
                    (banner(view))
                    div #alerts role="alert" {}
                    p #live .unseen role="status" {}
                    main #main tabindex="-1" { (main) }
                }
            }
        }
    }
}

/// The head of a page. The base comes first: everything after it is relative to it.
fn head(prefix: &str, title: &str) -> Markup {
    html! {
        head {
            base href={ (prefix) "/" };
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="htmx-config" content=(HTMX);
            title { (title) " · dmc" }
            link rel="icon" type="image/svg+xml" href=(assets::place("dmc.svg"));
            link rel="stylesheet" href=(assets::place("dmc.css"));
            script src=(assets::place("htmx-2.0.11.min.js")) defer {}
            script src=(assets::place("htmx-ext-sse-2.2.4.min.js")) defer {}
            script src=(assets::place("dmc.js")) defer {}
        }
    }
}

fn banner(view: View) -> Markup {
    html! {
        header.banner {
            a.brand href="./" { "dmc" }
            nav aria-label="Pages" {
                ul {
                    @for other in View::ALL {
                        li {
                            a href=(other.place()) aria-current=[(other == view).then_some("page")] {
                                (other.title())
                            }
                        }
                    }
                }
            }
            form.sign-out method="post" action="logout" {
                button.quiet type="submit" { "Sign out" }
            }
        }
    }
}

/// A region of a page that is fetched again when one of these kinds of events comes.
fn region(id: &str, from: &str, kinds: &[&str], content: &Markup) -> Markup {
    // The throttle drops what comes too soon; `late` (dmc.js) makes up for the last of it. A page
    // that hears no events at all is still right twice a minute.
    let on = |kind: &&str| format!("sse:{kind} throttle:1s, ");
    let on: String = kinds.iter().map(on).collect();
    html! {
        section id=(id) hx-get=(from) hx-swap="innerHTML"
            hx-trigger={ (on) "sse:reset, late, " (CHANGED) " from:body, every 30s" } {
            (content)
        }
    }
}

/// A part of a page.
fn part(markup: Markup) -> Html<String> {
    Html(markup.into_string())
}

/// The answer of a button whose effect the regions of the page show.
fn changed() -> Response {
    (StatusCode::NO_CONTENT, [(HX_TRIGGER, CHANGED)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    async fn frame(path: &str, prefix: &str) -> Frame {
        let request = Request::builder().uri(path).header("x-forwarded-prefix", prefix);
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        Frame::from_request_parts(&mut parts, &()).await.unwrap()
    }

    #[tokio::test]
    async fn a_page_is_relative_to_where_a_proxy_has_put_it() {
        let page = frame("/jobs?status=to_do", "/a/dmc/").await;
        let page = page.page(View::Jobs, "Jobs", &html! {}).into_string();
        assert!(page.contains(r#"<base href="/a/dmc/">"#), "{page}");
        assert!(page.contains(r#"href="jobs?status=to_do#main""#), "{page}");
        assert!(!page.contains(r#"href="/j"#) && !page.contains("style="), "{page}");
        let page = frame("//evil.example/", "//evil.example").await;
        let page = page.page(View::Mesh, "<b>", &html! {}).into_string();
        assert!(page.contains(r#"<base href="/">"#) && page.contains("&lt;b&gt;"), "{page}");
        assert!(page.contains(r##"href="evil.example/#main""##), "{page}");
    }
}
