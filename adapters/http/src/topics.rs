//! The topic space over HTTP: publish to a topic, read its last message, list topics.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::Response,
};
use bytes::Bytes;
use tidegate_adapter_api::{LastMessage, Publication};
use tidegate_model::{
    Presentation, Qos, Topic, TopicFilter, Value,
    json::{write_string, write_value},
};

use crate::{
    api::only_get,
    body,
    login::Client,
    percent::decode,
    problem::Problem,
    site::{Site, content, created, json},
};

/// Path under which each topic has a resource.
const PREFIX: &str = "/v1/topics/";

/// Topics in one answer, unless the request says otherwise, and at most.
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1_000;

/// Bytes of one list; it ends with the message that passes them, and says where to go on.
const LIST_BYTES_MAX: usize = 1 << 20;

/// Longest content type that is kept with a message.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

/// `/v1/topics/<topic>`: POST publishes, PUT publishes retained, GET returns the last message.
pub(crate) async fn one(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Arc<Client>>,
    request: Request,
) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    let principal = site.principal(&client, &head.headers).await?;
    let topic = topic(head.uri.path())?;
    let retain = match head.method {
        Method::GET | Method::HEAD => {
            let last = site.topics.last(&principal, &topic)?;
            let nothing = || Problem::not_found(format!("`{topic}` has no message yet"));
            return last.map(|message| show(&message)).ok_or_else(nothing);
        }
        Method::POST => false,
        Method::PUT => true,
        _ => return Err(Problem::method("GET, HEAD, POST, PUT")),
    };
    let payload = body::read(body, &head.headers, site.body).await?;
    let content_type = content_type(&head.headers)?;
    let body = payload.clone();
    let publish = |exchange| {
        let qos = Qos::AtLeastOnce;
        let publication = Publication { topic, payload, qos, retain, content_type, exchange };
        site.topics.publish(&principal, publication)
    };
    created(site.keys.once(&principal, &head, &body, publish)?.await)
}

/// `GET /v1/topics`: topics with their last messages, `?filter=…&limit=…&after=…`.
pub(crate) async fn list(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Arc<Client>>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    only_get(&method)?;
    let principal = site.principal(&client, &headers).await?;
    let Selection { filter, limit, after } = Selection::read(query.as_deref().unwrap_or(""))?;
    let messages = site.topics.list(&principal, &filter, after.as_ref(), limit)?;
    Ok(json(write_list(&messages, limit)))
}

/// Which topics a list shows.
#[derive(Debug, PartialEq, Eq)]
struct Selection {
    filter: TopicFilter,
    limit: usize,
    after: Option<Topic>,
}

impl Selection {
    /// Reads a query; `+` in it stands for itself, as filters are full of it.
    fn read(query: &str) -> Result<Self, Problem> {
        let mut filter = None;
        let mut limit = None;
        let mut after = None;
        for argument in query.split('&').filter(|argument| !argument.is_empty()) {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let value = decode(value)
                .map_err(|_| Problem::bad_request("the query is not percent-encoded UTF-8"))?;
            match name {
                "filter" if filter.is_none() => filter = Some(read_filter(&value)?),
                "limit" if limit.is_none() => limit = Some(read_limit(&value)?),
                "after" if after.is_none() => after = Some(read_after(&value)?),
                _ => {
                    let detail = "the arguments are filter, limit and after, each once";
                    return Err(Problem::bad_request(detail));
                }
            }
        }
        let all = || TopicFilter::new("#").expect("`#` is a filter");
        Ok(Self { filter: filter.unwrap_or_else(all), limit: limit.unwrap_or(LIST_DEFAULT), after })
    }
}

fn read_filter(value: &str) -> Result<TopicFilter, Problem> {
    TopicFilter::new(value)
        .map_err(|error| Problem::bad_argument("filter", format!("`{value}` {error}")))
}

fn read_limit(value: &str) -> Result<usize, Problem> {
    value.parse().ok().filter(|limit| (1..=LIST_MAX).contains(limit)).ok_or_else(|| {
        Problem::bad_argument("limit", format!("`{value}` is not a number from 1 to {LIST_MAX}"))
    })
}

fn read_after(value: &str) -> Result<Topic, Problem> {
    Topic::new(value).map_err(|error| Problem::bad_argument("after", format!("`{value}` {error}")))
}

/// Takes the topic out of a path; its levels are decoded one by one and may be empty.
fn topic(path: &str) -> Result<Topic, Problem> {
    let levels = path.strip_prefix(PREFIX).unwrap_or("").split('/');
    let decoded: Result<Vec<Cow<'_, str>>, _> = levels.map(decode).collect();
    let decoded =
        decoded.map_err(|_| Problem::bad_request("the path is not percent-encoded UTF-8"))?;
    if decoded.iter().any(|level| level.contains('/')) {
        return Err(Problem::bad_request("a level of a topic has no `/` in it"));
    }
    let text = decoded.join("/");
    Topic::new(&text).map_err(|error| Problem::bad_request(format!("the topic `{text}` {error}")))
}

fn content_type(headers: &HeaderMap) -> Result<Option<Arc<str>>, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if text.len() <= CONTENT_TYPE_BYTES_MAX => Ok(Some(text.into())),
        _ => Err(Problem::bad_request(format!(
            "Content-Type has at most {CONTENT_TYPE_BYTES_MAX} ASCII characters"
        ))),
    }
}

/// Returns a message as its subscribers get it.
///
/// What a client published may be a page with a program in it. It is never run here: browsers are told
/// not to guess its type and to keep it in a sandbox.
fn show(message: &LastMessage) -> Response {
    let mut response = content(media_type(message), Body::from(message.payload.to_bytes()));
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn media_type(message: &LastMessage) -> HeaderValue {
    let known = message.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    let derived = || match (message.payload.as_reading(), message.payload.presentation()) {
        (Some(reading), Some(Presentation::Value)) => match reading.value {
            Value::String(_) => "text/plain; charset=utf-8",
            Value::Bytes(_) => "application/octet-stream",
            _ => "application/json",
        },
        (Some(_), _) => "application/json",
        (None, _) => "application/octet-stream",
    };
    known.unwrap_or_else(|| HeaderValue::from_static(derived()))
}

/// Writes `{"topics":[…],"next":"…"}`; `next` names the `after` of the next request, if there may be more.
fn write_list(messages: &[LastMessage], limit: usize) -> Vec<u8> {
    let mut output = br#"{"topics":["#.to_vec();
    let mut shown = 0;
    for message in messages {
        if shown > 0 {
            output.push(b',');
        }
        write_message(message, &mut output);
        shown += 1;
        if output.len() >= LIST_BYTES_MAX {
            break;
        }
    }
    output.push(b']');
    if let Some(last) =
        messages[..shown].last().filter(|_| shown < messages.len() || shown >= limit)
    {
        output.extend_from_slice(br#","next":"#);
        write_string(last.topic.as_str(), &mut output);
    }
    output.push(b'}');
    output
}

/// Writes one message: a mapped one with its envelope, any other with its payload as text or base64.
fn write_message(message: &LastMessage, output: &mut Vec<u8>) {
    let member = |name: &str, value: &str, output: &mut Vec<u8>| {
        output.push(b',');
        write_string(name, output);
        output.push(b':');
        write_string(value, output);
    };
    output.extend_from_slice(br#"{"topic":"#);
    write_string(message.topic.as_str(), output);
    member("arrival", &message.arrival.to_string(), output);
    if let Some(reading) = message.payload.as_reading() {
        output.extend_from_slice(br#","envelope":"#);
        output.extend_from_slice(&tidegate_model::json::envelope(reading));
    } else {
        if let Some(content_type) = &message.content_type {
            member("content-type", content_type, output);
        }
        write_payload(message.payload.to_bytes(), output);
    }
    output.push(b'}');
}

fn write_payload(bytes: Bytes, output: &mut Vec<u8>) {
    output.extend_from_slice(br#","payload":"#);
    match std::str::from_utf8(&bytes) {
        Ok(text) => write_string(text, output),
        Err(_) => {
            write_value(&Value::Bytes(bytes), output);
            output.extend_from_slice(br#","encoding":"base64""#);
        }
    }
}

#[cfg(test)]
mod tests;
