//! `Idempotency-Key`: a request that is sent again under its key has the same answer and no second effect.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName, request::Parts};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{Either, Ready, Shared, ready},
};
use tidegate_adapter_api::{
    EXCHANGE_PART_BYTES_MAX, Exchange, Keep, Outcome, RecalledExchange, Receipt, Refusal,
};
use tidegate_model::Principal;

use crate::problem::Problem;

/// How long a key is remembered (D23 of `docs/promises.md`).
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Longest key.
const KEY_BYTES_MAX: usize = 128;
/// Most keys remembered, those of requests under way included.
const KEYS_MAX: usize = 24_000;
/// When a client may try again while there are too many keys.
const FULL_RETRY: Duration = Duration::from_secs(60);

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Resolves to the outcome of a request: of one without a key, of one that is known, of one handed in now.
type Answer = Either<Receipt, Either<Ready<Outcome>, Shared<Receipt>>>;

/// The keys of the last 24 hours, each with its principal.
#[derive(Debug, Default)]
pub(crate) struct Keys(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Name, Entry>,
    /// In order of expiry; a place whose time is not that of its entry is out of date.
    by_age: VecDeque<(Instant, Name)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name {
    principal: Bytes,
    key: Bytes,
}

#[derive(Debug)]
struct Entry {
    /// A checksum of the request: under one key there is one request.
    request: u32,
    expires: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Handed in; resolves for everyone who asks, also when the first who did has gone away.
    HandedIn(Shared<Receipt>),
    Done,
}

impl Keys {
    /// Takes over what was answered before the gateway started.
    pub(crate) fn new(recalled: Vec<RecalledExchange>) -> Self {
        let now = Instant::now();
        let mut inner = Inner::default();
        for RecalledExchange { sender, id, answer, remaining } in recalled {
            let Ok(request) = <[u8; 4]>::try_from(&answer[..]) else { continue };
            let name = Name { principal: sender, key: id };
            let expires = now + remaining.min(LIFETIME);
            let (request, state) = (u32::from_be_bytes(request), State::Done);
            inner.insert(name, Entry { request, expires, state });
        }
        Self(Mutex::new(inner))
    }

    /// Hands a request in, unless it was handed in before under the same key; returns what resolves to the
    /// outcome. Without a key it is always handed in.
    ///
    /// # Errors
    ///
    /// The key is malformed, belongs to another request, or to one that is still under way.
    pub(crate) fn once(
        &self,
        principal: &Principal,
        head: &Parts,
        body: &[u8],
        hand_in: impl FnOnce(Option<Exchange>) -> Receipt,
    ) -> Result<Answer, Problem> {
        let Some(key) = key(&head.headers)? else {
            return Ok(Either::Left(hand_in(None)));
        };
        let sender = Bytes::copy_from_slice(principal.as_str().as_bytes());
        if sender.len() > EXCHANGE_PART_BYTES_MAX {
            return Err(Problem::bad_request("no Idempotency-Key for a name as long as yours"));
        }
        let name = Name { principal: sender, key };
        let request = request_key(head, body);
        // Held while the request is handed in, which does not wait: nobody else can do so meanwhile.
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        inner.expire(now);
        if let Some(outcome) = inner.known(&name, request)? {
            return Ok(Either::Right(Either::Left(ready(outcome))));
        }
        if inner.entries.len() >= KEYS_MAX {
            return Err(Refusal::Busy { retry_after: FULL_RETRY }.into());
        }
        let receipt = hand_in(Some(Exchange {
            keep: Keep::All,
            sender: name.principal.clone(),
            id: name.key.clone(),
            answer: Bytes::copy_from_slice(&request.to_be_bytes()),
            lifetime: LIFETIME,
        }));
        let receipt = receipt.shared();
        // What is refused at once takes no place, or those who are refused would use up the places of all.
        if !matches!(receipt.clone().now_or_never(), Some(Outcome::Refused(_))) {
            let state = State::HandedIn(receipt.clone());
            inner.insert(name, Entry { request, expires: now + LIFETIME, state });
        }
        Ok(Either::Right(Either::Right(receipt)))
    }
}

impl Inner {
    /// Returns the outcome of an earlier request under this name; a refused one leaves no trace.
    fn known(&mut self, name: &Name, request: u32) -> Result<Option<Outcome>, Problem> {
        let Some(entry) = self.entries.get_mut(name) else { return Ok(None) };
        if let State::HandedIn(receipt) = &entry.state {
            match receipt.clone().now_or_never() {
                None if entry.request == request => return Err(Problem::key_under_way()),
                None => return Err(Problem::key_reused()),
                Some(Outcome::Durable | Outcome::Accepted) => entry.state = State::Done,
                Some(Outcome::Refused(_)) => {
                    self.entries.remove(name);
                    return Ok(None);
                }
            }
        }
        if entry.request == request {
            Ok(Some(Outcome::Durable))
        } else {
            Err(Problem::key_reused())
        }
    }

    fn insert(&mut self, name: Name, entry: Entry) {
        self.by_age.push_back((entry.expires, name.clone()));
        self.entries.insert(name, entry);
        // Names of refused requests that came again.
        if self.by_age.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.by_age.retain(|(expires, name)| {
                entries.get(name).is_some_and(|entry| entry.expires == *expires)
            });
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((expires, name)) = self.by_age.front()
            && *expires <= now
        {
            if self.entries.get(name).is_some_and(|entry| entry.expires == *expires) {
                self.entries.remove(name);
            }
            self.by_age.pop_front();
        }
    }
}

/// Reads the key: a string, in quotes or not.
fn key(headers: &HeaderMap) -> Result<Option<Bytes>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.as_bytes();
    let quoted = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    let text = quoted.unwrap_or(text);
    let is_key = (1..=KEY_BYTES_MAX).contains(&text.len())
        && text.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    if !is_key || values.next().is_some() {
        return Err(Problem::bad_request(format!(
            "Idempotency-Key is one string of 1 to {KEY_BYTES_MAX} printable ASCII characters"
        )));
    }
    Ok(Some(Bytes::copy_from_slice(text)))
}

fn request_key(head: &Parts, body: &[u8]) -> u32 {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    let checksum = crc32c::crc32c(head.method.as_str().as_bytes());
    let checksum = crc32c::crc32c_append(checksum, target.as_bytes());
    crc32c::crc32c_append(checksum, body)
}

#[cfg(test)]
mod tests {
    use axum::{
        http::{HeaderValue, Request},
        response::IntoResponse,
    };
    use tidegate_adapter_api::ReceiptSender;

    use super::*;

    fn head(path: &str, key: &str) -> Parts {
        let request = Request::builder().method("POST").uri(path).header(HEADER, key);
        request.body(()).unwrap().into_parts().0
    }

    /// What becomes of a request: its outcome so far, or the status of the refusal.
    fn ask(
        keys: &Keys,
        who: &str,
        key: &str,
        body: &str,
        hand_in: impl FnOnce(Option<Exchange>) -> Receipt,
    ) -> Result<Option<Outcome>, u16> {
        let principal = Principal::new(who).unwrap();
        keys.once(&principal, &head("/plain", key), body.as_bytes(), hand_in)
            .map(FutureExt::now_or_never)
            .map_err(|problem| problem.into_response().status().as_u16())
    }

    fn never(_: Option<Exchange>) -> Receipt {
        panic!("it was handed in before");
    }

    fn pending(sender: &mut Option<ReceiptSender>) -> impl FnOnce(Option<Exchange>) -> Receipt {
        |exchange| {
            assert_eq!(exchange.unwrap().lifetime, LIFETIME);
            let (resolve, receipt) = Receipt::pair();
            *sender = Some(resolve);
            receipt
        }
    }

    /// D23: one key, one request, one effect; also when the first client went away before its answer.
    #[test]
    fn a_key_has_one_effect() {
        let keys = Keys::default();
        let mut sender = None;
        assert_eq!(ask(&keys, "a", "k", "1", pending(&mut sender)), Ok(None));
        assert_eq!(ask(&keys, "a", "k", "1", never), Err(409), "while it is under way");
        assert_eq!(ask(&keys, "a", "k", "2", never), Err(422));
        sender.take().unwrap().resolve(Outcome::Durable);
        for _ in 0..2 {
            assert_eq!(ask(&keys, "a", "k", "1", never), Ok(Some(Outcome::Durable)));
            assert_eq!(ask(&keys, "a", "\"k\"", "1", never), Ok(Some(Outcome::Durable)));
        }
        assert_eq!(ask(&keys, "a", "k", "2", never), Err(422), "another request");
        assert_eq!(ask(&keys, "b", "k", "1", pending(&mut sender)), Ok(None), "another client");
        // What was refused may be tried again.
        let busy = Outcome::Refused(Refusal::StorageFull);
        sender.take().unwrap().resolve(busy.clone());
        assert_eq!(ask(&keys, "b", "k", "1", |_| Receipt::ready(busy.clone())), Ok(Some(busy)));
        assert_eq!(ask(&keys, "b", "k", "1", pending(&mut sender)), Ok(None));
    }

    /// W08: what was answered before a restart is answered again.
    #[test]
    fn fault_w08_keys_come_back_after_a_restart() {
        let mut kept = None;
        let durable = |exchange| {
            kept = exchange;
            Receipt::ready(Outcome::Durable)
        };
        assert_eq!(ask(&Keys::default(), "a", "k", "1", durable), Ok(Some(Outcome::Durable)));
        let Exchange { sender, id, answer, .. } = kept.unwrap();
        let remaining = Duration::from_secs(60);
        let keys = Keys::new(vec![RecalledExchange { sender, id, answer, remaining }]);
        assert_eq!(ask(&keys, "a", "k", "1", never), Ok(Some(Outcome::Durable)));
        assert_eq!(ask(&keys, "a", "k", "2", never), Err(422));
        let mut inner = keys.0.into_inner().unwrap();
        inner.expire(Instant::now() + remaining);
        assert_eq!((inner.entries.len(), inner.by_age.len()), (0, 0));
    }

    #[test]
    fn refused_requests_leave_no_trace() {
        let keys = Keys::default();
        for _ in 0..1_000 {
            let busy = |_| Receipt::ready(Outcome::Refused(Refusal::StorageFull));
            assert!(matches!(ask(&keys, "a", "k", "1", busy), Ok(Some(Outcome::Refused(_)))));
        }
        let inner = keys.0.into_inner().unwrap();
        assert!(inner.entries.len() <= 1 && inner.by_age.len() <= 70, "{}", inner.by_age.len());
    }

    /// Those who are refused do not use up the places of the others.
    #[test]
    fn refused_requests_take_no_place() {
        let keys = Keys::default();
        for number in 0..=KEYS_MAX {
            let denied = |_| Receipt::ready(Outcome::Refused(Refusal::NotAuthorized));
            let refused = ask(&keys, "a", &number.to_string(), "1", denied);
            assert!(matches!(refused, Ok(Some(Outcome::Refused(_)))));
        }
        let taken = ask(&keys, "b", "k", "1", |_| Receipt::ready(Outcome::Accepted));
        assert!(taken.is_ok());
    }

    #[test]
    fn keys_are_read_from_the_header() {
        let long = "x".repeat(129);
        #[rustfmt::skip]
        let cases = [
            ("8e03978e-40d5",       Some("8e03978e-40d5")),
            ("\"8e03978e-40d5\"",   Some("8e03978e-40d5")),
            ("a b",                 Some("a b")),
            ("",                    None),
            ("\"\"",                None),
            ("a\"b",                None),
            (&long,                 None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_str(text).unwrap());
            let found = key(&headers).ok().flatten();
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{text}");
        }
        assert!(key(&HeaderMap::new()).unwrap().is_none());
        let mut twice = HeaderMap::new();
        twice.append(HEADER, HeaderValue::from_static("a"));
        twice.append(HEADER, HeaderValue::from_static("b"));
        assert!(key(&twice).is_err());
    }
}
