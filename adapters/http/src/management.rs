//! The gateway itself over HTTP: for those with a token or a certificate, on loopback, too (docs/promises.md, C14).

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, Method},
    response::Response,
};

use crate::{
    api::only_get,
    login::Client,
    problem::Problem,
    site::{Site, json},
};

/// `GET /v1/status`: what `tidegate status --json` prints. Takes the right `manage = "read"`.
pub(crate) async fn status(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Arc<Client>>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    only_get(&method)?;
    let manager = site.manager(&client, &headers).await?;
    let status = site.health.status(&manager);
    let status = status.ok_or_else(|| Problem::forbidden("it takes the right to manage"))?;
    Ok(json(status.into_bytes()))
}
