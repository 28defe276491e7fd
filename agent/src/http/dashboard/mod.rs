//! stub, replaced by the dashboard.
use crate::runtime::Shared;
use axum::Router;
use axum::http::HeaderName;
use std::sync::Arc;
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
pub(super) fn policies() -> [(HeaderName, &'static str); 0] {
    []
}
pub(super) fn login_page(_prefix: &str, error: Option<&str>) -> maud::Markup {
    maud::html! { p { (error.unwrap_or("sign in")) } }
}
