//! Originals beside blurred videos, where an administrator allows it. This is the only part of the dashboard that opens an
//! unblurred video; its address exists only where `dashboard_show_originals` is true, and every request is logged.

use super::guard::Visitor;
use super::{Refusal, State, on_disk, published, videos};
use axum::extract::{ConnectInfo, Path};
use axum::http::HeaderMap;
use axum::http::header::RANGE;
use axum::response::Response;

/// The original of the published video of that name.
pub(super) async fn send(
    state: State,
    ConnectInfo(visitor): ConnectInfo<Visitor>,
    Path((source, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let way = state.0.guard.way(&headers);
    let (wanted_source, wanted_file) = (source.clone(), file.clone());
    let opened = on_disk(state.0, move |shared| {
        let dirs = shared.original_dirs();
        published::open_original(shared.processed_dir()?, &dirs, &source, &file)
    })
    .await?
    .ok_or_else(Refusal::not_found)?;
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    tracing::info!(
        visitor = %visitor.address.ip(),
        way,
        source = wanted_source,
        video = wanted_file,
        range = range.unwrap_or("all"),
        "the original of a video was looked at"
    );
    Ok(videos::answer(opened, &headers))
}
