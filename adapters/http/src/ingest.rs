//! Mapped paths: devices post values, and hear 201 when they are durable.

use axum::{
    http::{HeaderMap, Method, Request, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Body;
use tidegate_adapter_api::{
    Delivery, ReadingBatch,
    payload::{Announced, Body as Payload},
};

use crate::{
    body,
    login::Client,
    percent::segments,
    problem::Problem,
    site::{Site, created, wall_clock},
};

/// Carries out a request for a mapped path.
pub(crate) async fn handle<B>(
    site: &Site,
    client: &Client,
    request: Request<B>,
) -> Result<Response, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (head, body) = request.into_parts();
    let principal = site.principal(client, &head.headers).await?;
    let path = segments(head.uri.path())
        .map_err(|_| Problem::bad_request("the path is not percent-encoded UTF-8"))?;
    let points = site.points.borrow().clone();
    let Some((id, point, captures)) = points.match_path(&path) else {
        return Err(Problem::not_found(format!("nothing is mapped at {}", head.uri.path())));
    };
    if head.method != Method::POST && head.method != Method::PUT {
        return Err(Problem::method("POST, PUT"));
    }
    let bytes = body::read(body, &head.headers, site.body).await?;
    let payload = Payload {
        bytes: &bytes,
        announced: announced(&head.headers),
        arrival: wall_clock(),
        adapter: site.intake.adapter(),
    };
    let readings = payload.read(id, point, &captures)?;
    let hand_in = |exchange| {
        site.intake.submit(ReadingBatch {
            readings,
            generation: points.generation(),
            principal: Some(principal.clone()),
            delivery: Delivery::Confirmed,
            exchange,
        })
    };
    created(site.keys.once(&principal, &head, &bytes, hand_in)?.await)
}

fn announced(headers: &HeaderMap) -> Announced {
    match headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) {
        None => Announced::Nothing,
        Some(Ok(text)) => Announced::from_mime(Some(text)),
        Some(Err(_)) => Announced::Unknown,
    }
}

/// Returns whether a path belongs to the gateway itself: mappings cannot name it (`docs/config.md`).
pub(crate) fn is_reserved(path: &str) -> bool {
    let first = path.strip_prefix('/').map(|rest| rest.split('/').next().unwrap_or(""));
    matches!(first, Some("v1" | "health" | "metrics" | "console"))
}
