//! The settings in force, to look at. They are changed in the configuration file.

mod meanings;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};

use super::super::problem::Problem;
use super::{Frame, View, words};
use crate::config::{self, Settings};
use crate::runtime::Shared;
use meanings::{GROUPS, Group, MESH};

type Agent = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/settings", get(show))
}

async fn show(State(shared): Agent, frame: Frame) -> Response {
    frame.answer(View::Settings, "Settings", content(&shared))
}

/// The settings by their keys. What is secret is left out.
fn table(settings: &Settings) -> Result<toml::Table, toml::ser::Error> {
    let mut table = toml::Table::try_from(settings)?;
    // Signing secrets, and addresses that hold one in their path.
    let hosts = settings.webhooks.iter().map(|hook| toml::Value::from(host_of(&hook.url)));
    table.insert("webhooks".to_owned(), hosts.collect::<Vec<_>>().into());
    Ok(table)
}

/// Scheme and host of an address.
fn host_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}/…")
}

fn content(shared: &Shared) -> Result<Markup, Problem> {
    let wrong = |e: toml::ser::Error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the settings cannot be shown: {e}"),
        )
    };
    let table = table(&shared.settings).map_err(wrong)?;
    let mesh = table.get("mesh").and_then(toml::Value::as_table);
    Ok(html! {
        h1 { "Settings" }
        p { "Programs use this agent by its " a href="api" { "API" } "." }
        (place(shared))
        @for group in &GROUPS { (group_panel(group, &table)) }
        @if let Some(mesh) = mesh {
            details #mesh-limits .panel {
                summary { "Time-outs and limits between agents (table [mesh])" }
                (rows(&MESH, mesh))
            }
        }
    })
}

fn place(shared: &Shared) -> Markup {
    html! {
        p {
            "These are in force since the agent started. They are changed in the configuration \
             file, by " code { "DMC_…" } " variables or on the command line, and read at the next \
             start."
        }
        dl.places {
            @if let Some(file) = config::default_file() {
                dt { "Configuration file" }
                dd { span.path { (file.display()) }
                    @if !file.exists() { " (not there: defaults)" }
                    span.hint { " – unless the agent was started with --config or DMC_CONFIG" } }
            }
            dt { "Data directory" } dd.path { (shared.data_dir.display()) }
        }
    }
}

fn group_panel(group: &Group, table: &toml::Table) -> Markup {
    html! {
        section.panel {
            h2 { (group.title) }
            (rows(group.keys, table))
        }
    }
}

fn rows(keys: &[(&str, &str)], table: &toml::Table) -> Markup {
    html! {
        dl.settings {
            @for (key, meaning) in keys {
                div {
                    dt { code { (key) } }
                    dd.value { (value(key, table.get(*key))) }
                    dd.hint { (meaning) }
                }
            }
        }
    }
}

/// A value for people: sizes and times with their units.
fn value(key: &str, value: Option<&toml::Value>) -> String {
    let number = value.and_then(toml::Value::as_integer).and_then(|n| u64::try_from(n).ok());
    match (value, number) {
        (None, _) => "not set".to_owned(),
        (_, Some(bytes)) if key.ends_with("_bytes") && bytes > 0 => words::bytes(bytes),
        (_, Some(ms)) if key.ends_with("_ms") && ms >= 1_000 => words::duration(ms / 1_000),
        (_, Some(ms)) if key.ends_with("_ms") => format!("{ms} ms"),
        (_, Some(seconds)) if key.ends_with("_s") => words::duration(seconds),
        (_, Some(percent)) if key.ends_with("_percent") => format!("{percent} %"),
        (_, Some(number)) => words::count(number),
        (Some(toml::Value::Boolean(yes)), _) => if *yes { "yes" } else { "no" }.to_owned(),
        (Some(toml::Value::String(text)), _) if text.is_empty() => "empty".to_owned(),
        (Some(toml::Value::String(text)), _) => text.clone(),
        (Some(toml::Value::Array(items)), _) if items.is_empty() => "none".to_owned(),
        (Some(toml::Value::Array(items)), _) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        (Some(toml::Value::Table(table)), _) if table.is_empty() => "none".to_owned(),
        (Some(toml::Value::Table(table)), _) => {
            let pair = |(key, value): (&String, &toml::Value)| format!("{key} = {}", plain(value));
            table.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        (Some(other), _) => other.to_string(),
    }
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::Webhook;

    #[test]
    fn every_setting_is_shown_with_its_meaning() {
        let table = table(&Settings::default()).unwrap();
        let shown: Vec<&str> =
            GROUPS.iter().flat_map(|group| group.keys).map(|(key, _)| *key).collect();
        // Those without a value are in no table.
        let unset = ["api", "api_certificate", "api_key", "inbox", "undo_dir", "presets"];
        for key in table.keys().map(String::as_str).filter(|key| *key != "mesh").chain(unset) {
            assert_eq!(shown.iter().filter(|known| **known == key).count(), 1, "{key}");
        }
        assert_eq!(shown.len(), table.len() - 1 + unset.len());
        let mesh = table["mesh"].as_table().unwrap();
        let shown: Vec<&str> = MESH.iter().map(|(key, _)| *key).collect();
        for key in mesh.keys() {
            assert!(shown.contains(&key.as_str()), "mesh.{key}");
        }
        assert_eq!(shown.len(), mesh.len());
    }

    #[test]
    fn secrets_are_not_shown() {
        let hook = Webhook {
            url: "https://user:pass@hooks.example/secret-path?key=1".to_owned(),
            secret: "hidden".to_owned(),
            on: Default::default(),
        };
        let settings = Settings { webhooks: vec![hook], ..Settings::default() };
        let shown = value("webhooks", table(&settings).unwrap().get("webhooks"));
        assert_eq!(shown, "https://hooks.example/…");
    }

    #[test]
    fn values_have_their_units() {
        let cases = [
            ("x_bytes", toml::Value::from(1_500_000), "1.50 MB"),
            ("x_bytes", toml::Value::from(0), "0"),
            ("x_ms", toml::Value::from(90_000), "1 min 30 s"),
            ("x_ms", toml::Value::from(500), "500 ms"),
            ("x", toml::Value::from(true), "yes"),
            ("x", toml::Value::from(Vec::<String>::new()), "none"),
            ("x", toml::Value::from(vec!["a", "b"]), "a, b"),
        ];
        for (key, given, expected) in cases {
            assert_eq!(value(key, Some(&given)), expected);
        }
        assert_eq!(value("x", None), "not set");
    }
}
