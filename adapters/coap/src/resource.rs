//! What a request means: values written to mapped resources, last values read, resources listed.

use std::time::Duration;

use bytes::Bytes;
use tidegate_adapter_api::{
    Delivery, Exchange, Intake, LastMessage, LoginRefusal, Outcome, PathPoint, PointId, PointSet,
    ReadingBatch, Receipt, Refusal,
    payload::{Announced, Body, PayloadError},
};
use tidegate_coap::{Code, Link, Method, Request, Response, content_format, write_links};
use tidegate_model::{Captures, Presentation, Principal, Timestamp, Value, json};

use crate::{
    counters::Refused,
    discovery::{WELL_KNOWN_CORE, links},
};

/// The answer to a write that is durable.
pub(crate) const DONE: Code = Code::Changed;

/// How long a last value may be held by a cache, in seconds: the next one may come at any time.
const LAST_VALUE_AGE: u32 = 1;

/// When a device may try again while the storage is full.
const STORAGE_RETRY: Duration = Duration::from_secs(60);

/// When a device may try again that met a stopping gateway.
const RESTART_RETRY: Duration = Duration::from_secs(5);

/// The resources of one listener, as the mappings of this moment name them.
#[derive(Debug)]
pub(crate) struct Site {
    points: PointSet,
    links: Vec<Link>,
    intake: Intake,
    client: Result<Principal, LoginRefusal>,
    refused: Refused,
}

/// What follows from a request.
#[derive(Debug)]
pub(crate) enum Step {
    /// The answer is known.
    Answer(Response),
    /// The answer depends on the receipt.
    Await(Receipt),
}

impl Site {
    /// Makes a site without resources. `client` is who peers without credentials are.
    pub(crate) fn new(
        intake: Intake,
        client: Result<Principal, LoginRefusal>,
        refused: Refused,
    ) -> Self {
        Self { points: PointSet::default(), links: Vec::new(), intake, client, refused }
    }

    /// Takes the points of a new load of the mappings.
    pub(crate) fn set_points(&mut self, points: PointSet) {
        self.links = links(&points);
        self.points = points;
    }

    /// Carries out a request that arrived at `arrival`; `exchange` names it if it changes anything.
    pub(crate) fn handle(
        &self,
        request: &Request,
        arrival: Timestamp,
        exchange: impl FnOnce() -> Exchange,
    ) -> Step {
        let client = match &self.client {
            Ok(client) => client,
            Err(refusal) => {
                self.refused.credentials.increment();
                return answer(Code::Unauthorized, &refusal.to_string());
            }
        };
        if request.path == WELL_KNOWN_CORE {
            return self.list(request);
        }
        let Some((id, point, captures)) = self.points.match_path(&request.path) else {
            self.refused.not_found.increment();
            let text = format!("nothing is mapped at /{}", request.path.join("/"));
            return answer(Code::NotFound, &text);
        };
        match request.method {
            Method::Post | Method::Put => {
                // A non-confirmable request is not repeated: nobody waits for its answer.
                let exchange = request.confirmable.then(exchange);
                self.write(request, client, (id, point, captures), arrival, exchange)
            }
            Method::Get => Step::Answer(self.read(request, client, (id, point, captures))),
            _ => self.refuse_method("use GET, PUT or POST"),
        }
    }

    /// Returns the answer to a write with this outcome.
    pub(crate) fn outcome(&self, outcome: &Outcome) -> Response {
        match outcome {
            Outcome::Durable | Outcome::Accepted => Response::new(DONE),
            Outcome::Refused(refusal) => self.refusal(refusal),
        }
    }

    fn list(&self, request: &Request) -> Step {
        if request.method != Method::Get {
            return self.refuse_method("use GET");
        }
        if request.accept.is_some_and(|accept| accept != content_format::LINK_FORMAT) {
            return answer(Code::NotAcceptable, "only application/link-format (40)");
        }
        let links = write_links(&self.links, &request.query);
        Step::Answer(Response::content(content_format::LINK_FORMAT, links))
    }

    fn refuse_method(&self, text: &str) -> Step {
        self.refused.method.increment();
        answer(Code::MethodNotAllowed, text)
    }

    fn write(
        &self,
        request: &Request,
        client: &Principal,
        (id, point, captures): (PointId, &PathPoint, Captures),
        arrival: Timestamp,
        exchange: Option<Exchange>,
    ) -> Step {
        // A mapped resource exists and has no entity tags (RFC 7252, section 5.10.8).
        let matches = request.if_match.is_empty() || request.if_match.iter().any(Bytes::is_empty);
        if request.if_none_match || !matches {
            self.refused.precondition.increment();
            return answer(Code::PreconditionFailed, "the resource exists and has no entity tag");
        }
        let body = Body {
            bytes: &request.payload,
            announced: Announced::from_content_format(request.content_format),
            arrival,
            adapter: self.intake.adapter(),
        };
        match body.read(id, point, &captures) {
            Ok(readings) => Step::Await(self.intake.submit(ReadingBatch {
                readings,
                generation: self.points.generation(),
                principal: Some(client.clone()),
                delivery: if request.confirmable {
                    Delivery::Confirmed
                } else {
                    Delivery::Unconfirmed
                },
                exchange,
            })),
            Err(error @ PayloadError::Unsupported) => {
                self.refused.format.increment();
                answer(Code::UnsupportedContentFormat, &error.to_string())
            }
            Err(error) => {
                self.refused.payload.increment();
                answer(Code::BadRequest, &error.to_string())
            }
        }
    }

    fn read(
        &self,
        request: &Request,
        client: &Principal,
        (id, _, captures): (PointId, &PathPoint, Captures),
    ) -> Response {
        match self.intake.last(client, self.points.generation(), id, &captures) {
            Ok(Some(message)) => representation(&message, request.accept).unwrap_or_else(|| {
                Response::diagnostic(Code::NotAcceptable, "use text (0) or JSON (50)")
            }),
            Ok(None) => {
                self.refused.not_found.increment();
                Response::diagnostic(Code::NotFound, "no value yet")
            }
            Err(refusal) => self.refusal(&refusal),
        }
        .max_age(LAST_VALUE_AGE)
    }

    fn refusal(&self, refusal: &Refusal) -> Response {
        let diagnostic = |code| Response::diagnostic(code, &refusal.to_string());
        let later = |after| diagnostic(Code::ServiceUnavailable).max_age(seconds_up(after));
        let (counter, response) = match refusal {
            Refusal::Busy { retry_after } => (&self.refused.busy, later(*retry_after)),
            // A retained message must go first: no sooner than storage comes free.
            Refusal::StorageFull | Refusal::RetainedQuota => {
                (&self.refused.storage, later(STORAGE_RETRY))
            }
            Refusal::ShuttingDown => (&self.refused.stopping, later(RESTART_RETRY)),
            Refusal::NotAuthorized => (&self.refused.rights, diagnostic(Code::Forbidden)),
            Refusal::Invalid { .. } => (&self.refused.payload, diagnostic(Code::BadRequest)),
            Refusal::TooLarge { limit } => {
                let size = u32::try_from(*limit).unwrap_or(u32::MAX);
                (&self.refused.payload, diagnostic(Code::RequestEntityTooLarge).size1(size))
            }
            _ => (&self.refused.payload, diagnostic(Code::InternalServerError)),
        };
        counter.increment();
        response
    }
}

fn answer(code: Code, text: &str) -> Step {
    Step::Answer(Response::diagnostic(code, text))
}

/// Returns the last message in the wanted format; without a wish as its subscribers get it. `None` if it
/// has no such form.
fn representation(message: &LastMessage, accept: Option<u16>) -> Option<Response> {
    use content_format::{JSON, OCTET_STREAM, TEXT};
    let own = match message.payload.as_reading() {
        Some(_) if message.payload.presentation() == Some(Presentation::Envelope) => JSON,
        Some(reading) => match reading.value {
            Value::Bytes(_) => OCTET_STREAM,
            Value::Array(_) | Value::Document(_) => JSON,
            _ => TEXT,
        },
        None => match message.content_type.as_deref() {
            Some("application/json") => JSON,
            Some(text) if text.starts_with("text/plain") => TEXT,
            _ => OCTET_STREAM,
        },
    };
    match (accept, message.payload.as_reading()) {
        (None, _) => Some(Response::content(own, message.payload.to_bytes())),
        (Some(wanted), _) if wanted == own => {
            Some(Response::content(own, message.payload.to_bytes()))
        }
        (Some(TEXT), Some(reading)) if !matches!(reading.value, Value::Bytes(_)) => {
            Some(Response::content(TEXT, json::bare_value(&reading.value)))
        }
        (Some(JSON), Some(reading)) => Some(Response::content(JSON, json::envelope(reading))),
        _ => None,
    }
}

/// Returns whole seconds, at least one: Max-Age knows no fractions, and 0 would ask for haste.
fn seconds_up(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests;
