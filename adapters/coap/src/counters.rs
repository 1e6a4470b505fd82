//! What the adapter counts.

use tidegate_adapter_api::{Counter, Counters};
use tidegate_coap::Stats;

/// The counters of one socket; the numbers of all sockets add up.
#[derive(Clone, Debug)]
pub(crate) struct CoapCounters {
    requests: Counter,
    duplicates: Counter,
    malformed: Counter,
    unmatched: Counter,
    pings: Counter,
    rejected: Counter,
    overloaded: Counter,
    repeated: Counter,
    reset: Counter,
    given_up: Counter,
    renumbered: Counter,
    evicted_superseded: Counter,
    evicted_newest: Counter,
    /// Exchanges of an earlier run whose repetitions are recognised.
    pub(crate) recalled: Counter,
    /// Answers that the socket did not take.
    pub(crate) not_sent: Counter,
    /// Requests refused by a resource, by reason.
    pub(crate) refused: Refused,
}

/// Requests refused by a resource.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) not_found: Counter,
    pub(crate) method: Counter,
    pub(crate) precondition: Counter,
    pub(crate) format: Counter,
    pub(crate) payload: Counter,
    pub(crate) credentials: Counter,
    pub(crate) rights: Counter,
    pub(crate) busy: Counter,
    pub(crate) storage: Counter,
    pub(crate) stopping: Counter,
}

impl CoapCounters {
    pub(crate) fn new(counters: &Counters) -> Self {
        let message = |kind| counters.counter("coap_messages", kind);
        let answer = |kind| counters.counter("coap_answers", kind);
        let refused = |reason| counters.counter("coap_requests_refused", reason);
        Self {
            requests: message("request"),
            duplicates: message("duplicate"),
            malformed: message("malformed"),
            unmatched: message("unmatched"),
            pings: message("ping"),
            rejected: refused("protocol"),
            overloaded: refused("overload"),
            repeated: answer("repeated"),
            reset: answer("reset"),
            given_up: answer("given-up"),
            renumbered: message("renumbered"),
            evicted_superseded: counters.counter("coap_duplicates_forgotten", "superseded"),
            evicted_newest: counters.counter("coap_duplicates_forgotten", "table-full"),
            recalled: counters.counter("coap_duplicates_recalled", "restart"),
            not_sent: answer("not-sent"),
            refused: Refused {
                not_found: refused("not-found"),
                method: refused("method"),
                precondition: refused("precondition"),
                format: refused("format"),
                payload: refused("payload"),
                credentials: refused("credentials"),
                rights: refused("rights"),
                busy: refused("busy"),
                storage: refused("storage"),
                stopping: refused("stopping"),
            },
        }
    }

    /// Adds what an endpoint has seen since `before`.
    pub(crate) fn add(&self, before: &Stats, after: &Stats) {
        for (counter, before, after) in [
            (&self.requests, before.requests, after.requests),
            (&self.duplicates, before.duplicates, after.duplicates),
            (&self.malformed, before.malformed, after.malformed),
            (&self.unmatched, before.unmatched, after.unmatched),
            (&self.pings, before.pings, after.pings),
            (&self.rejected, before.rejected, after.rejected),
            (&self.overloaded, before.overloaded, after.overloaded),
            (&self.repeated, before.repeated, after.repeated),
            (&self.reset, before.reset, after.reset),
            (&self.given_up, before.given_up, after.given_up),
            (&self.renumbered, before.renumbered, after.renumbered),
            (&self.evicted_superseded, before.evicted_superseded, after.evicted_superseded),
            (&self.evicted_newest, before.evicted_newest, after.evicted_newest),
        ] {
            if after > before {
                counter.add(after - before);
            }
        }
    }
}
