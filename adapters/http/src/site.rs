//! What all requests share.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use std::{sync::Arc, time::SystemTime};
use tidegate_adapter_api::{
    Access, AdapterContext, HealthSource, Intake, LoginRefusal, Outcome, PointSet, TopicSpace,
};
use tidegate_model::{Principal, Timestamp};
use tokio::sync::watch;

use crate::{
    body::BodyLimits, counters::HttpCounters, idempotency::Keys, login::Client, origin,
    problem::Problem,
};

/// The gateway as requests see it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) points: watch::Receiver<PointSet>,
    pub(crate) intake: Intake,
    pub(crate) topics: TopicSpace,
    pub(crate) health: HealthSource,
    pub(crate) body: BodyLimits,
    pub(crate) counters: HttpCounters,
    pub(crate) keys: Arc<Keys>,
    access: Access,
    stranger: Result<Principal, LoginRefusal>,
}

impl Site {
    pub(crate) fn new(context: &AdapterContext, body: BodyLimits, keys: Arc<Keys>) -> Self {
        Self {
            points: context.points.clone(),
            intake: context.intake.clone(),
            topics: context.topics.clone(),
            health: context.health.clone(),
            body,
            counters: HttpCounters::new(&context.counters),
            keys,
            stranger: context.access.stranger(),
            access: context.access.clone(),
        }
    }

    /// Returns on whose behalf a request is carried out; a foreign page's request is refused.
    pub(crate) async fn principal(
        &self,
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<Principal, Problem> {
        origin::check(headers, client.is_encrypted())?;
        Ok(client.principal(&self.access, &self.stranger, headers).await?)
    }

    /// Returns who manages the gateway with a request: somebody with a token or a certificate, never with a password,
    /// which browsers send unasked.
    pub(crate) async fn manager(
        &self,
        client: &Client,
        headers: &HeaderMap,
    ) -> Result<Principal, Problem> {
        if !client.has_token_or_certificate(headers) {
            origin::check(headers, client.is_encrypted())?;
            return Err(Problem::token_required());
        }
        self.principal(client, headers).await
    }
}

/// Says what became of what was handed in: 201 when it is durable, or taken and needed durable by nobody.
pub(crate) fn created(outcome: Outcome) -> Result<Response, Problem> {
    match outcome {
        Outcome::Durable | Outcome::Accepted => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::CREATED;
            Ok(response)
        }
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}

/// Returns a response with a body of this type.
pub(crate) fn content(content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// Returns a response with a JSON body.
pub(crate) fn json(body: Vec<u8>) -> Response {
    content(HeaderValue::from_static("application/json"), body)
}

/// Returns the wall-clock time; a clock before 1970 is shown as 1970.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
