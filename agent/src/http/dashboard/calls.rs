//! The calls of the API, for people to read; programs read `api/v1/openapi.json`.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use maud::{Markup, html};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::{OpenApi as Description, PathItem, RefOr};

use super::{Frame, View};
use crate::http::guard::needed;
use crate::runtime::Shared;

pub(super) fn routes(description: Arc<Description>) -> Router<Arc<Shared>> {
    Router::new().route("/api", get(show)).layer(Extension(description))
}

async fn show(Extension(description): Extension<Arc<Description>>, frame: Frame) -> Response {
    frame.answer(View::Settings, "API", Ok(content(&description)))
}

fn content(description: &Description) -> Markup {
    html! {
        h1 { "API" }
        p {
            "For programs: a token goes into the header " code { "Authorization: Bearer …" } "; "
            code { "dmc token add NAME --scope read|submit|admin" } " makes one. All details, for \
            programs as well: " a href="api/v1/openapi.json" { "openapi.json" } "."
        }
        @for (path, item) in &description.paths.paths {
            @for (method, call) in calls(item) { (one(&method, path, call)) }
        }
    }
}

fn calls(item: &PathItem) -> impl Iterator<Item = (Method, &Operation)> {
    let all =
        [(Method::GET, &item.get), (Method::POST, &item.post), (Method::DELETE, &item.delete)];
    all.into_iter().filter_map(|(method, call)| Some((method, call.as_ref()?)))
}

fn one(method: &Method, path: &str, call: &Operation) -> Markup {
    let scope = needed(method, path).map_or("no token", |scope| scope.word());
    html! {
        section.panel {
            h2 { code { (method) " " (path) } }
            p { span.badge data-state="here" { (scope) }
                @if let Some(summary) = &call.summary { " " (summary) } }
            dl {
                @for parameter in call.parameters.iter().flatten().filter_map(plain) {
                    dt { code { (parameter.name) } " " span.hint { (place(&parameter.parameter_in)) } }
                    dd { (parameter.description.as_deref().unwrap_or_default()) }
                }
                @for (status, answer) in &call.responses.responses {
                    dt { (status) }
                    dd { @if let RefOr::T(answer) = answer { (answer.description) } }
                }
            }
        }
    }
}

/// All of ours are written out where they are used.
fn plain(parameter: &RefOr<Parameter>) -> Option<&Parameter> {
    match parameter {
        RefOr::T(parameter) => Some(parameter),
        RefOr::Ref(_) => None,
    }
}

fn place(place: &ParameterIn) -> &'static str {
    match place {
        ParameterIn::Path => "in the path",
        ParameterIn::Query | ParameterIn::QueryString => "in the query",
        ParameterIn::Header => "header",
        ParameterIn::Cookie => "cookie",
    }
}
