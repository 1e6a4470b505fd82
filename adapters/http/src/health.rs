//! Whether the gateway lives and is ready, and its metrics.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::Response,
};
use tidegate_model::json::write_string;

use crate::{
    api::only_get,
    login::Client,
    problem::Problem,
    site::{Site, content, json},
};

/// `GET /health/live`: 200 as long as requests are answered.
pub(crate) async fn live(method: Method) -> Result<Response, Problem> {
    only_get(&method)?;
    Ok(json(br#"{"status":"live"}"#.to_vec()))
}

/// `GET /health/ready`: 200 when the store is open and the listeners are bound, else 503 and why.
pub(crate) async fn ready(
    State(site): State<Arc<Site>>,
    method: Method,
) -> Result<Response, Problem> {
    only_get(&method)?;
    let Some(reason) = site.health.not_ready() else {
        return Ok(json(br#"{"status":"ready"}"#.to_vec()));
    };
    let mut body = br#"{"status":"not-ready","reason":"#.to_vec();
    write_string(&reason, &mut body);
    body.push(b'}');
    let mut response = json(body);
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    Ok(response)
}

/// `GET /metrics`: everything that is counted, as OpenMetrics text.
pub(crate) async fn metrics(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Arc<Client>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    only_get(&method)?;
    site.principal(&client, &headers).await?;
    let text =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(content(text, site.health.metrics()))
}
