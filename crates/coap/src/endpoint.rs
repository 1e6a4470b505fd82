//! The server side of one UDP socket: what each datagram means, and what is sent when.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use coap_lite::{MessageType, Packet};

use crate::{
    Code, ExchangeId, Malformed, Output, Peer, Request, Response, Settings,
    exchange::{Answer, Evicted, Exchange, ExchangeTable, Seen, Token},
    request::{Controls, Rejection, read},
    transmission::{Repeated, Transmissions},
    wire::{decode, empty, encode},
};

/// What an endpoint has seen and done; numbers only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests handed up.
    pub requests: u64,
    /// Requests refused by the endpoint itself: options, methods, blocks, proxying.
    pub rejected: u64,
    /// Repetitions of requests, answered or ignored but not handed up.
    pub duplicates: u64,
    /// Requests that met a full endpoint: 5.03 if confirmable, else dropped.
    pub overloaded: u64,
    /// Datagrams that are no CoAP message or break its format.
    pub malformed: u64,
    /// Messages that belong to nothing: responses, and acknowledgements and resets of nothing.
    pub unmatched: u64,
    /// Pings.
    pub pings: u64,
    /// Answers sent again because they were not acknowledged.
    pub repeated: u64,
    /// Answers that the peer refused with a reset.
    pub reset: u64,
    /// Answers given up: never acknowledged, or too many under way.
    pub given_up: u64,
    /// Requests under a message ID that their peer used for another one shortly before: taken as new, unless
    /// the other one still awaits its answer.
    pub renumbered: u64,
    /// Answered requests forgotten before their time, whose peer had sent newer ones since.
    pub evicted_superseded: u64,
    /// Answered requests forgotten before their time, although they were the last of their peer.
    pub evicted_newest: u64,
}

/// Server side of one UDP socket: no socket, no clock, no task.
///
/// Call a `handle_*` method for each thing that happens and [`respond`](Self::respond) for each request
/// handed up; datagrams for the peers go into `output`, which belongs to the driver. Each call adds at
/// most one, except [`handle_timeout`](Self::handle_timeout), which stops when the output is full.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    exchanges: ExchangeTable,
    acks_due: BTreeSet<(Instant, ExchangeId)>,
    transmissions: Transmissions,
    next_message_id: u16,
    stats: Stats,
}

impl Endpoint {
    /// Makes an endpoint. `seed` is its only source of randomness: message IDs and waits follow from it.
    pub fn new(settings: Settings, seed: u64) -> Self {
        let [high, low, ..] = seed.to_be_bytes();
        Self {
            exchanges: ExchangeTable::new(&settings),
            acks_due: BTreeSet::new(),
            transmissions: Transmissions::new(&settings, seed),
            next_message_id: u16::from_be_bytes([high, low]),
            stats: Stats::default(),
            settings,
        }
    }

    /// Returns what was seen and done so far.
    pub fn stats(&self) -> Stats {
        let Evicted { superseded, newest } = self.exchanges.evicted();
        Stats { evicted_superseded: superseded, evicted_newest: newest, ..self.stats }
    }

    /// Takes one datagram; returns the request in it, if it holds one that is to be answered now.
    ///
    /// Every request handed up must be answered once with [`respond`](Self::respond).
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        peer: Peer,
        datagram: &[u8],
        output: &mut Output,
    ) -> Option<(ExchangeId, Request)> {
        let packet = match decode(datagram) {
            Ok(packet) => packet,
            Err(malformed) => {
                self.stats.malformed += 1;
                if let Malformed::Format { confirmable: true, message_id, .. } = malformed {
                    output.push(peer, empty(MessageType::Reset, message_id));
                }
                return None;
            }
        };
        let (kind, code) = (packet.header.get_type(), u8::from(packet.header.code));
        let message_id = packet.header.message_id;
        match (kind, code) {
            (MessageType::Confirmable | MessageType::NonConfirmable, 0x01..=0x1F) => {
                let id = ExchangeId::of(peer, message_id, datagram);
                return self.handle_request(now, id, packet, output);
            }
            // Section 4.3: an Empty confirmable message is a ping, and a reset its answer.
            (MessageType::Confirmable, 0) => {
                self.stats.pings += 1;
                output.push(peer, empty(MessageType::Reset, message_id));
            }
            // A response to nothing, or a reserved class (section 4.2).
            (MessageType::Confirmable, _) => {
                self.stats.unmatched += 1;
                output.push(peer, empty(MessageType::Reset, message_id));
            }
            (MessageType::Acknowledgement | MessageType::Reset, 0)
                if self.transmissions.settle(now, peer, message_id, output) =>
            {
                self.stats.reset += u64::from(kind == MessageType::Reset);
            }
            _ => self.stats.unmatched += 1,
        }
        None
    }

    /// Answers a request that was handed up. Does nothing if it was answered before.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ExchangeId,
        response: Response,
        output: &mut Output,
    ) {
        let Some(exchange) = self.exchanges.get_open(id) else { return };
        let (token, controls, confirmable) =
            (exchange.token, exchange.controls, exchange.confirmable);
        let ack_due = exchange.ack_due;
        let unwanted = response.is_unwanted(&controls);
        let acknowledgement = empty(MessageType::Acknowledgement, id.message_id());
        let packet = |kind, message_id| {
            response.clone().into_packet(kind, message_id, token.as_slice(), &controls)
        };
        if let Some(due) = ack_due {
            // Piggybacked: the answer is the acknowledgement (section 5.2.1).
            self.acks_due.remove(&(due, id));
            let bytes = if unwanted {
                acknowledgement
            } else {
                encode(&packet(MessageType::Acknowledgement, id.message_id()))
            };
            output.push(id.peer(), bytes.clone());
            self.exchanges.answer(id, Answer::Bytes(bytes));
        } else if confirmable {
            self.exchanges.answer(id, Answer::Bytes(acknowledgement));
            if !unwanted {
                let packet = packet(MessageType::Confirmable, self.take_message_id());
                let sent = self.transmissions.send(now, id.peer(), packet, output);
                self.stats.given_up += u64::from(!sent);
            }
        } else {
            self.exchanges.answer(id, Answer::Nothing);
            if !unwanted {
                let packet = packet(MessageType::NonConfirmable, self.take_message_id());
                output.push(id.peer(), encode(&packet));
            }
        }
    }

    /// Remembers a confirmable request that was answered with `code`, and no body, before a restart; for
    /// `remaining` a repetition of it is answered so, and not handed up.
    pub fn recall(&mut self, now: Instant, id: ExchangeId, remaining: Duration, code: Code) {
        self.exchanges.recall(now, id, remaining, Answer::Recalled(code));
    }

    /// Acts on deadlines that have passed at `now`, as long as `output` has room.
    pub fn handle_timeout(&mut self, now: Instant, output: &mut Output) {
        while output.has_room() {
            let Some(&(due, id)) = self.acks_due.first().filter(|&&(due, _)| due <= now) else {
                break;
            };
            self.acks_due.remove(&(due, id));
            if let Some(exchange) = self.exchanges.get_open(id) {
                exchange.ack_due = None;
                output.push(id.peer(), empty(MessageType::Acknowledgement, id.message_id()));
            }
        }
        while output.has_room() {
            match self.transmissions.repeat(now, output) {
                Some(Repeated::Again) => self.stats.repeated += 1,
                Some(Repeated::GivenUp(messages)) => {
                    self.stats.given_up += u64::try_from(messages).unwrap_or(u64::MAX);
                }
                None => break,
            }
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ack_due = self.acks_due.first().map(|&(due, _)| due);
        [ack_due, self.transmissions.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns how many requests await their answer.
    pub fn open_exchanges(&self) -> usize {
        self.exchanges.open_count()
    }

    fn handle_request(
        &mut self,
        now: Instant,
        id: ExchangeId,
        packet: Packet,
        output: &mut Output,
    ) -> Option<(ExchangeId, Request)> {
        let confirmable = packet.header.get_type() == MessageType::Confirmable;
        match self.exchanges.look_up(now, id) {
            Seen::Never => {}
            Seen::Renumbered => self.stats.renumbered += 1,
            // Not acknowledged: the peer repeats it, and by then the other one may be answered.
            Seen::Clash => {
                self.stats.renumbered += 1;
                return None;
            }
            Seen::Open(exchange) => {
                // The peer has waited for its first timeout: it hears that the request has arrived.
                let acknowledge = exchange.confirmable;
                if let Some(due) = exchange.ack_due.take() {
                    self.acks_due.remove(&(due, id));
                }
                self.stats.duplicates += 1;
                if acknowledge {
                    output.push(id.peer(), empty(MessageType::Acknowledgement, id.message_id()));
                }
                return None;
            }
            Seen::Answered(answer) => {
                self.stats.duplicates += 1;
                match answer {
                    Answer::Nothing => {}
                    Answer::Bytes(bytes) => output.push(id.peer(), bytes),
                    Answer::Recalled(code) => output.push(id.peer(), anew(code, id, &packet)),
                }
                return None;
            }
        }
        let token = Token::new(packet.get_token());
        if self.exchanges.open_count() >= self.settings.exchanges_max {
            self.stats.overloaded += 1;
            if confirmable {
                output.push(id.peer(), self.overload_answer(id, token));
            }
            return None;
        }
        let ack_due = confirmable.then(|| now + self.settings.ack_delay);
        let controls = Controls::of(&packet);
        self.exchanges.open(now, id, Exchange { token, confirmable, controls, ack_due });
        match read(packet, confirmable, self.settings.body_bytes_max) {
            Ok(request) => {
                self.stats.requests += 1;
                self.acks_due.extend(ack_due.map(|due| (due, id)));
                Some((id, request))
            }
            Err(rejection) => {
                self.stats.rejected += 1;
                match rejection {
                    // Section 5.4.1: a non-confirmable request is rejected in silence.
                    Rejection::BadOption(_) if !confirmable => {
                        self.exchanges.answer(id, Answer::Nothing);
                    }
                    Rejection::BadOption(response) | Rejection::Answer(response) => {
                        self.respond(now, id, response, output);
                    }
                }
                None
            }
        }
    }

    /// The answer to a request for which there is no room. It is not remembered: a repetition is a new try.
    fn overload_answer(&self, id: ExchangeId, token: Token) -> bytes::Bytes {
        let seconds = seconds_up(self.settings.retry_after);
        let packet = Response::diagnostic(Code::ServiceUnavailable, "too many requests at once")
            .max_age(seconds)
            .into_packet(
                MessageType::Acknowledgement,
                id.message_id(),
                token.as_slice(),
                &Controls::default(),
            );
        encode(&packet)
    }

    fn take_message_id(&mut self) -> u16 {
        let message_id = self.next_message_id;
        self.next_message_id = message_id.wrapping_add(1);
        message_id
    }
}

/// Makes the answer to a repetition whose request was answered before a restart.
fn anew(code: Code, id: ExchangeId, repetition: &Packet) -> bytes::Bytes {
    let (controls, response) = (Controls::of(repetition), Response::new(code));
    if response.is_unwanted(&controls) {
        return empty(MessageType::Acknowledgement, id.message_id());
    }
    let (kind, token) = (MessageType::Acknowledgement, repetition.get_token());
    encode(&response.into_packet(kind, id.message_id(), token, &controls))
}

/// Returns whole seconds, rounded up: Max-Age knows no fractions.
fn seconds_up(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
