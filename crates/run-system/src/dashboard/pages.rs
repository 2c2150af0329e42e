//! The files of the page, as they are in the folder `page`.

use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};

const SCRIPT: &str = "text/javascript; charset=utf-8";

pub(super) async fn index() -> Html<&'static str> {
    Html(include_str!("page/index.html"))
}

pub(super) async fn login() -> Html<&'static str> {
    Html(include_str!("page/login.html"))
}

/// The login page after a wrong token.
pub(super) fn login_again() -> Html<String> {
    let page = include_str!("page/login.html");
    Html(page.replace("<p id=\"wrong\" hidden", "<p id=\"wrong\""))
}

pub(super) async fn script() -> impl IntoResponse {
    ([(CONTENT_TYPE, SCRIPT)], include_str!("page/app.js"))
}

pub(super) async fn texts() -> impl IntoResponse {
    ([(CONTENT_TYPE, SCRIPT)], include_str!("page/texts.js"))
}

pub(super) async fn style() -> impl IntoResponse {
    let kind = "text/css; charset=utf-8";
    ([(CONTENT_TYPE, kind)], include_str!("page/style.css"))
}

pub(super) async fn icon() -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "image/svg+xml")],
        include_str!("page/icon.svg"),
    )
}
