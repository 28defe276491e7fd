//! How a person signs in.

use maud::{DOCTYPE, Markup, html};

use super::head;

/// The page on which a person gives the token. `prefix`: the path that a reverse proxy has put the
/// agent under; `error`: why the last try failed.
pub(in crate::http) fn login_page(prefix: &str, error: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(prefix, "Sign in"))
            body {
                main #main .sign-in {
                    h1 { "dmc" }
                    @if let Some(error) = error {
                        p .alert role="alert" { (error) }
                    }
                    form method="post" action="login" autocomplete="off" {
                        label for="token" { "Token" }
                        input #token name="token" type="password" autocomplete="off" required
                            spellcheck="false" autofocus aria-describedby="where";
                        button type="submit" { "Sign in" }
                    }
                    p #where .hint {
                        "The token is in the file " code { "api.token" } " of the agent's data \
                         directory. Or run " code { "dmc dashboard" } " on the agent's machine: it \
                         prints a link that signs in by itself."
                    }
                }
            }
        }
    }
}
