use std::net::SocketAddr;

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass};
use proptest::prelude::*;

use super::*;
use crate::{Method, content_format, exchange::ENTRY_BYTES};

/// An endpoint with its peers and its clock.
struct Bench {
    endpoint: Endpoint,
    output: Output,
    start: Instant,
    now: Instant,
}

const PEER: &str = "192.0.2.1:5683";

fn peer(text: &str) -> Peer {
    text.parse::<SocketAddr>().unwrap().into()
}

impl Bench {
    fn new(settings: Settings) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test has to start somewhere")]
        let start = Instant::now();
        let endpoint = Endpoint::new(settings, 0x1000_0000_0000_0007);
        Self { endpoint, output: Output::with_capacity(64), start, now: start }
    }

    /// Without jitter, so that times can be told.
    fn exact() -> Self {
        Self::new(Settings { ack_random_factor: 1.0, ..Settings::default() })
    }

    fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = self.start + Duration::from_secs_f64(seconds);
        self
    }

    fn receive_from(&mut self, from: &str, packet: &Packet) -> Option<(ExchangeId, Request)> {
        let datagram = encode(packet);
        self.endpoint.handle_datagram(self.now, peer(from), &datagram, &mut self.output)
    }

    fn receive(&mut self, packet: &Packet) -> Option<(ExchangeId, Request)> {
        self.receive_from(PEER, packet)
    }

    fn respond(&mut self, id: ExchangeId, response: Response) {
        self.endpoint.respond(self.now, id, response, &mut self.output);
    }

    fn time_out(&mut self) {
        self.endpoint.handle_timeout(self.now, &mut self.output);
    }

    /// Runs all deadlines up to `seconds`; returns when something was sent, in whole milliseconds.
    fn run_until(&mut self, seconds: f64) -> Vec<u128> {
        let end = self.start + Duration::from_secs_f64(seconds);
        let mut times = Vec::new();
        while let Some(deadline) = self.endpoint.poll_timeout().filter(|&deadline| deadline <= end)
        {
            self.now = deadline;
            self.time_out();
            for _ in 0..self.sent().len() {
                times.push((deadline - self.start).as_millis());
            }
        }
        self.now = end;
        times
    }

    fn sent(&mut self) -> Vec<Datagram> {
        std::iter::from_fn(|| self.output.pop()).collect()
    }

    fn sent_one(&mut self) -> Packet {
        let sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        decode(&sent[0].bytes).unwrap()
    }
}

use crate::Datagram;

fn message(kind: MessageType, code: u8, message_id: u16) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::from(code);
    packet.header.message_id = message_id;
    packet
}

fn post(kind: MessageType, message_id: u16) -> Packet {
    let mut packet = message(kind, 2, message_id);
    packet.set_token(vec![0xAA, 0xBB]);
    packet.add_option(CoapOption::UriPath, b"t".to_vec());
    packet.payload = b"21.5".to_vec();
    packet
}

fn con(message_id: u16) -> Packet {
    post(MessageType::Confirmable, message_id)
}

fn with(mut packet: Packet, option: CoapOption, value: &[u8]) -> Packet {
    packet.add_option(option, value.to_vec());
    packet
}

fn changed() -> Response {
    Response::new(Code::Changed)
}

fn code(packet: &Packet) -> String {
    packet.header.code.to_string()
}

/// main.10: one request is handed up once; each repetition gets the same bytes again for 247 s.
#[test]
fn a_repeated_request_is_answered_again_and_not_processed_again() {
    let mut bench = Bench::exact();
    let (id, request) = bench.receive(&con(7)).unwrap();
    assert_eq!((request.method, &*request.payload), (Method::Post, &b"21.5"[..]));
    assert_eq!((request.path, request.confirmable), (vec!["t".to_owned()], true));
    bench.respond(id, changed());
    let answer = bench.sent();
    let packet = decode(&answer[0].bytes).unwrap();
    assert_eq!(packet.header.get_type(), MessageType::Acknowledgement);
    assert_eq!((packet.header.message_id, packet.get_token()), (7, &[0xAA, 0xBB][..]));

    for seconds in [0.0, 2.0, 246.0] {
        assert!(bench.at(seconds).receive(&con(7)).is_none());
        assert_eq!(bench.sent(), answer, "after {seconds} s");
    }
    // Another port is another peer, another message ID another request.
    assert!(bench.receive_from("192.0.2.1:5684", &con(7)).is_some());
    assert!(bench.receive(&con(8)).is_some());
    assert!(bench.at(248.0).receive(&con(7)).is_some(), "a new request after the lifetime");
    assert_eq!(bench.endpoint.stats().duplicates, 3);
}

/// C06: a repetition while the answer is awaited is acknowledged, not processed.
#[test]
fn a_repetition_during_processing_is_acknowledged_at_once() {
    let mut bench = Bench::exact();
    let (id, _) = bench.receive(&con(7)).unwrap();
    for seconds in [0.5, 0.6, 2.0] {
        assert!(bench.at(seconds).receive(&con(7)).is_none());
        assert_eq!(bench.sent()[0].bytes, empty(MessageType::Acknowledgement, 7));
    }
    assert_eq!(bench.endpoint.poll_timeout(), None, "no second acknowledgement is due");
    bench.respond(id, changed());
    let answer = bench.sent_one();
    assert_eq!(answer.header.get_type(), MessageType::Confirmable);
    assert_eq!(answer.get_token(), [0xAA, 0xBB]);
    assert!(bench.receive(&con(7)).is_none());
    assert_eq!(bench.sent()[0].bytes, empty(MessageType::Acknowledgement, 7));
}

/// D18 of `docs/promises.md`: what takes long is acknowledged first and answered separately.
#[test]
fn a_slow_answer_follows_separately_and_is_repeated() {
    let mut bench = Bench::exact();
    let (id, _) = bench.receive(&con(7)).unwrap();
    assert_eq!(bench.endpoint.poll_timeout(), Some(bench.start + Duration::from_secs(1)));
    bench.at(0.999).time_out();
    assert!(bench.sent().is_empty());
    bench.at(1.0).time_out();
    assert_eq!(bench.sent()[0].bytes, empty(MessageType::Acknowledgement, 7));

    bench.at(10.0).respond(id, changed());
    let first = bench.sent();
    let answer = decode(&first[0].bytes).unwrap();
    assert_eq!(answer.header.get_type(), MessageType::Confirmable);
    assert_eq!((code(&answer), answer.header.message_id), ("2.04".into(), 0x1000));
    // Section 4.2: at 0, 2, 6, 14, 30 s; given up at 62 s.
    assert_eq!(bench.run_until(100.0), [12_000, 16_000, 24_000, 40_000]);
    let stats = bench.endpoint.stats();
    assert_eq!((stats.repeated, stats.given_up), (4, 1));
    assert_eq!(bench.endpoint.poll_timeout(), None);
}

#[test]
fn an_acknowledgement_or_a_reset_of_the_same_peer_ends_the_repetitions() {
    for (kind, resets) in [(MessageType::Acknowledgement, 0), (MessageType::Reset, 1)] {
        let mut bench = Bench::exact();
        let (id, _) = bench.receive(&con(7)).unwrap();
        bench.at(1.0).time_out();
        bench.respond(id, changed());
        let sent = bench.sent();
        let message_id = decode(&sent[1].bytes).unwrap().header.message_id;
        // Spoofed: another port, another message ID, or not Empty.
        bench.receive_from("192.0.2.1:1", &message(kind, 0, message_id));
        bench.receive(&message(kind, 0, message_id + 1));
        bench.receive(&message(kind, 0x44, message_id));
        assert_eq!(bench.endpoint.stats().unmatched, 3);
        assert!(bench.endpoint.poll_timeout().is_some());
        bench.receive(&message(kind, 0, message_id));
        assert_eq!((bench.endpoint.poll_timeout(), bench.endpoint.stats().reset), (None, resets));
        assert!(bench.sent().is_empty());
    }
}

/// Section 4.7: one message under way to a peer (NSTART), the next when it is acknowledged.
#[test]
fn separate_answers_to_one_peer_take_turns() {
    let mut bench = Bench::exact();
    let ids = [1, 2, 3].map(|message_id| bench.receive(&con(message_id)).unwrap().0);
    bench.at(1.0).time_out();
    assert_eq!(bench.sent().len(), 3);
    for id in ids {
        bench.respond(id, changed());
    }
    let first = bench.sent_one();
    bench.receive(&message(MessageType::Acknowledgement, 0, first.header.message_id));
    let second = bench.sent_one();
    assert_ne!(first.header.message_id, second.header.message_id);
    // The peer is gone: what waits behind is given up with it.
    bench.run_until(100.0);
    assert_eq!(bench.endpoint.stats().given_up, 2);
}

#[test]
fn first_waits_are_spread_over_the_allowed_range() {
    let mut bench = Bench::new(Settings::default());
    let mut waits = Vec::new();
    for port in 1..200 {
        let from = format!("192.0.2.1:{port}");
        let (id, _) = bench.at(0.0).receive_from(&from, &con(1)).unwrap();
        bench.at(1.0).time_out();
        bench.respond(id, changed());
        let message_id = decode(&bench.sent()[1].bytes).unwrap().header.message_id;
        waits.push((bench.endpoint.poll_timeout().unwrap() - bench.now).as_millis());
        bench.receive_from(&from, &message(MessageType::Acknowledgement, 0, message_id));
    }
    assert!(waits.iter().all(|wait| (2_000..=3_000).contains(wait)), "{waits:?}");
    assert!(waits.iter().min() < Some(&2_100) && waits.iter().max() > Some(&2_900));
}

/// Section 4.3: non-confirmable requests get non-confirmable answers; their repetitions nothing.
#[test]
fn a_non_confirmable_request_is_answered_in_kind() {
    let mut bench = Bench::exact();
    let non = post(MessageType::NonConfirmable, 7);
    let (id, request) = bench.receive(&non).unwrap();
    assert!(!request.confirmable);
    assert_eq!(bench.endpoint.poll_timeout(), None, "nothing to acknowledge");
    bench.respond(id, changed());
    let answer = bench.sent_one();
    assert_eq!(answer.header.get_type(), MessageType::NonConfirmable);
    assert_eq!((answer.header.message_id, answer.get_token()), (0x1000, &[0xAA, 0xBB][..]));
    for seconds in [0.0, 144.0] {
        assert!(bench.at(seconds).receive(&non).is_none());
        assert!(bench.sent().is_empty());
    }
    assert!(bench.at(146.0).receive(&non).is_some());
}

/// Section 1.2 of the digest: pings and what cannot be processed are reset if confirmable, else ignored.
#[test]
fn what_cannot_be_processed_is_reset_or_ignored() {
    use MessageType::{Acknowledgement, Confirmable, NonConfirmable, Reset};
    for first_bits in [Confirmable, NonConfirmable, Acknowledgement, Reset] {
        for code in [0_u8, 0x21, 0x45, 0x60, 0x84, 0xC0, 0xE1, 0xFF] {
            let mut bench = Bench::exact();
            assert!(bench.receive(&message(first_bits, code, 9)).is_none());
            let expected = (first_bits == Confirmable).then(|| empty(Reset, 9));
            let sent: Vec<Bytes> = bench.sent().into_iter().map(|sent| sent.bytes).collect();
            assert_eq!(sent, Vec::from_iter(expected), "{first_bits:?} {code:#04X}");
        }
        // A request in an acknowledgement is ignored, too.
        let mut bench = Bench::exact();
        let handed_up = bench.receive(&post(first_bits, 9)).is_some();
        assert_eq!(handed_up, matches!(first_bits, Confirmable | NonConfirmable));
    }
    let mut bench = Bench::exact();
    for (datagram, replies) in
        [(&[0x40, 1, 0, 9, 0xFF][..], 1), (&[0x50, 1, 0, 9, 0xFF], 0), (&[1], 0)]
    {
        bench.endpoint.handle_datagram(bench.now, peer(PEER), datagram, &mut bench.output);
        assert_eq!(bench.sent().len(), replies);
    }
    assert_eq!(bench.endpoint.stats().malformed, 3);
}

/// C10 and main.10: what the endpoint refuses by itself.
#[test]
fn requests_are_refused_with_the_code_of_the_standard() {
    #[rustfmt::skip]
    let cases = [
        (with(con(1), CoapOption::Unknown(65_001), b""),        "4.02"),
        (with(con(1), CoapOption::Oscore, b"\x01"),             "4.02"),
        (with(con(1), CoapOption::ProxyUri, b"coap://10.0.0.1/"), "5.05"),
        (with(con(1), CoapOption::ProxyScheme, b"http"),        "5.05"),
        (message(MessageType::Confirmable, 8, 1),               "4.05"),
        (message(MessageType::Confirmable, 31, 1),              "4.05"),
        (with(con(1), CoapOption::UriPath, b"\xFF"),            "4.00"),
        (with(con(1), CoapOption::Block1, &[0x0F]),             "4.00"),    // size 7
        (with(con(1), CoapOption::Block2, &[0x07]),             "4.00"),
        (with(con(1), CoapOption::Block1, &[0x0E]),             "4.13"),    // more follows
        (with(con(1), CoapOption::Block1, &[0x16]),             "4.08"),    // block 1 of nothing
    ];
    for (packet, expected) in cases {
        let mut bench = Bench::exact();
        assert!(bench.receive(&packet).is_none());
        let answer = bench.sent_one();
        assert_eq!(code(&answer), expected, "{packet:?}");
        assert!(!answer.payload.is_empty() && answer.get_content_format().is_none());
        let size1 = answer.get_first_option(CoapOption::Size1);
        assert_eq!(size1.is_some(), expected == "4.13");
        assert_eq!(bench.endpoint.stats().rejected, 1);
    }
    let mut bench = Bench::exact();
    let ignored = with(post(MessageType::NonConfirmable, 1), CoapOption::Unknown(65_001), b"");
    assert!(bench.receive(&ignored).is_none() && bench.sent().is_empty());
    let large = Settings { body_bytes_max: 3, ..Settings::default() };
    let mut bench = Bench::new(large);
    assert!(bench.receive(&con(1)).is_none());
    assert_eq!(code(&bench.sent_one()), "4.13");
}

/// RFC 7959: one block that is the whole body is taken; large answers are given block by block.
#[test]
fn blocks_are_taken_and_given() {
    let mut bench = Bench::exact();
    let (id, _) = bench.receive(&with(con(1), CoapOption::Block1, &[0x06])).unwrap();
    bench.respond(id, changed());
    assert_eq!(bench.sent_one().get_first_option(CoapOption::Block1), Some(&vec![0x06]));

    let body: Bytes = vec![b'x'; 2_500].into();
    let mut get = |message_id, block2: &[u8]| {
        let mut packet = message(MessageType::Confirmable, 1, message_id);
        if !block2.is_empty() {
            packet.add_option(CoapOption::Block2, block2.to_vec());
        }
        let (id, _) = bench.receive(&packet).unwrap();
        bench.respond(id, Response::content(content_format::JSON, body.clone()));
        bench.sent_one()
    };
    #[rustfmt::skip]
    let cases: [(&[u8], &str, Option<u8>, usize); 6] = [
        (&[],           "2.05", Some(0x0E), 1_024),
        (&[0x16],       "2.05", Some(0x1E), 1_024),
        (&[0x26],       "2.05", Some(0x26), 452),
        (&[0x36],       "4.00", None,       26),
        (&[0x02],       "2.05", Some(0x0A), 64),
        (&[0x00],       "2.05", Some(0x08), 16),
    ];
    let tag = get(50, &[]).get_first_option(CoapOption::ETag).cloned();
    for (message_id, (block2, expected, described, length)) in (100..).zip(cases) {
        let answer = get(message_id, block2);
        assert_eq!((code(&answer), answer.payload.len()), (expected.into(), length), "{block2:?}");
        let value = answer.get_first_option(CoapOption::Block2).and_then(|value| value.first());
        assert_eq!(value.copied(), described);
        assert!(described.is_none() || answer.get_first_option(CoapOption::ETag) == tag.as_ref());
    }
}

/// RFC 7967: a class of answers that is not wanted is not sent, and a confirmable request acknowledged.
#[test]
fn unwanted_answers_are_not_sent() {
    #[rustfmt::skip]
    let cases = [
        (0_u8,  Code::Changed,      true),
        (2,     Code::Changed,      false),
        (2,     Code::BadRequest,   true),
        (8,     Code::BadRequest,   false),
        (16,    Code::ServiceUnavailable, false),
        (26,    Code::Changed,      false),
        (24,    Code::Changed,      true),
    ];
    for (bits, answer, wanted) in cases {
        let mut bench = Bench::exact();
        let (id, _) = bench.receive(&with(con(7), CoapOption::NoResponse, &[bits])).unwrap();
        bench.respond(id, Response::new(answer));
        assert_eq!(code(&bench.sent_one()), if wanted { code_of(answer) } else { "0.00".into() });
        let non = with(post(MessageType::NonConfirmable, 8), CoapOption::NoResponse, &[bits]);
        let (id, _) = bench.receive(&non).unwrap();
        bench.respond(id, Response::new(answer));
        assert_eq!(bench.sent().len(), usize::from(wanted), "{bits} {answer:?}");
    }
}

fn code_of(code: Code) -> String {
    MessageClass::Response(code).to_string()
}

#[test]
fn a_full_endpoint_says_so() {
    let mut bench = Bench::new(Settings { exchanges_max: 1, ..Settings::default() });
    let (id, _) = bench.receive(&con(1)).unwrap();
    assert!(bench.receive(&con(2)).is_none());
    let answer = bench.sent_one();
    assert_eq!(code(&answer), "5.03");
    assert_eq!(answer.get_first_option(CoapOption::MaxAge), Some(&vec![1]));
    assert!(bench.receive(&post(MessageType::NonConfirmable, 3)).is_none());
    assert!(bench.sent().is_empty());
    assert_eq!(bench.endpoint.stats().overloaded, 2);
    bench.respond(id, changed());
    assert!(bench.receive(&con(2)).is_some(), "the refusal is not remembered");
}

/// A peer that begins to count its messages anew is heard: only the same datagram is a repetition.
#[test]
fn another_request_under_the_same_message_id_is_no_repetition() {
    let mut bench = Bench::exact();
    let mut other = con(7);
    other.payload = b"21.6".to_vec();
    let (id, _) = bench.receive(&con(7)).unwrap();
    assert!(bench.receive(&other).is_none(), "not while the first awaits its answer");
    assert!(bench.sent().is_empty(), "and the peer is not told that it has arrived");
    bench.respond(id, changed());
    bench.sent();
    let (id, request) = bench.receive(&other).unwrap();
    assert_eq!(&*request.payload, b"21.6");
    bench.respond(id, changed());
    bench.sent();
    assert!(bench.receive(&other).is_none());
    assert_eq!(code(&bench.sent_one()), "2.04");
    assert_eq!((bench.endpoint.stats().renumbered, bench.endpoint.stats().duplicates), (2, 1));
}

/// main.10, D17: what was answered before a restart is answered again, with the repetition's own token, and
/// not handed up, until its time is over.
#[test]
fn what_was_answered_before_a_restart_is_not_processed_again() {
    let mut before = Bench::exact();
    let (id, _) = before.receive(&con(7)).unwrap();
    before.respond(id, changed());
    let answer = before.sent();

    let mut bench = Bench::exact();
    let same = ExchangeId::new(id.peer(), id.message_id(), id.request_key());
    let remaining = Duration::from_secs(100);
    bench.endpoint.recall(bench.now, same, remaining, Code::Changed);
    for seconds in [0.0, 99.0] {
        assert!(bench.at(seconds).receive(&con(7)).is_none());
        assert_eq!(bench.sent(), answer, "the same bytes, after {seconds} s");
    }
    assert!(bench.receive(&con(8)).is_some());
    assert!(bench.receive_from("192.0.2.2:5683", &con(7)).is_some());
    assert!(bench.at(101.0).receive(&con(7)).is_some(), "its time is over");
    // It lives no longer than any other, whatever the clock said.
    bench.endpoint.recall(bench.now, same, Duration::MAX / 2, Code::Changed);
}

/// RFC 7252, section 4.4: what is sent to another address of ours is another exchange, and answered from there.
#[test]
fn each_address_of_ours_has_its_own_exchanges() {
    let mut bench = Bench::exact();
    let datagram = encode(&con(7));
    for local in ["198.51.100.1", "198.51.100.2"] {
        let peer = Peer::of(local.parse().unwrap(), PEER.parse().unwrap());
        let request = bench.endpoint.handle_datagram(bench.now, peer, &datagram, &mut bench.output);
        bench.respond(request.unwrap().0, changed());
        assert_eq!(bench.sent()[0].peer, peer);
    }
    assert_eq!(bench.endpoint.stats().duplicates, 0);
}

/// A table with room for `entries` entries.
fn table_of(entries: usize, per_peer: usize) -> Bench {
    Bench::new(Settings {
        duplicates_max: entries,
        duplicates_per_peer_max: per_peer,
        exchanges_max: 4,
        ..Settings::default()
    })
}

impl Bench {
    fn exchange_with(&mut self, from: &str, message_id: u16) {
        let (id, _) = self.receive_from(from, &con(message_id)).expect("a new request");
        self.respond(id, changed());
        self.sent();
    }

    fn knows(&mut self, from: &str, message_id: u16) -> bool {
        let known = self.receive_from(from, &con(message_id)).is_none();
        self.sent();
        known
    }
}

/// The table is bounded by entries and by bytes; the oldest answered entry goes, an open one never.
#[test]
fn the_table_of_duplicates_is_bounded() {
    let mut bench = table_of(8, 8);
    let (open, _) = bench.receive(&con(1)).unwrap();
    for message_id in 2..30 {
        bench.exchange_with(PEER, message_id);
    }
    assert_eq!(bench.endpoint.exchanges.size().0, 8);
    assert_eq!(bench.endpoint.stats().evicted_superseded, 21);
    assert!(bench.knows(PEER, 1), "the open one is still known");
    assert!(bench.knows(PEER, 29) && bench.knows(PEER, 23));
    bench.exchange_with(PEER, 2);
    bench.respond(open, changed());
    assert_eq!(bench.endpoint.open_exchanges(), 0);
    assert!(bench.at(300.0).receive(&con(99)).is_some());
    assert_eq!(bench.endpoint.exchanges.size().0, 1, "all expired but the new one");

    let bytes_max = 3 * ENTRY_BYTES;
    let mut bench = Bench::new(Settings { duplicate_bytes_max: bytes_max, ..Settings::default() });
    for message_id in 0..30 {
        let (id, _) = bench.receive(&con(message_id)).unwrap();
        bench.respond(id, Response::content(content_format::TEXT, vec![b'x'; 50]));
        assert!(bench.endpoint.exchanges.size().1 <= bytes_max);
    }
}

/// One peer has its own bound, and when the table is full, those go first whose peer has asked again since.
#[test]
fn the_last_request_of_every_peer_goes_last() {
    let mut bench = table_of(1_000, 3);
    for message_id in 0..10 {
        bench.exchange_with(PEER, message_id);
    }
    assert_eq!(bench.endpoint.exchanges.size().0, 3);
    assert!(bench.knows(PEER, 7) && bench.knows(PEER, 9));

    let mut bench = table_of(8, 8);
    bench.exchange_with("192.0.2.77:5683", 1);
    for message_id in 0..50 {
        bench.exchange_with(PEER, message_id);
    }
    assert!(bench.knows("192.0.2.77:5683", 1), "a busy peer costs a quiet one nothing");
    assert_eq!(bench.endpoint.stats().evicted_newest, 0);
    for port in 1..=10 {
        bench.exchange_with(&format!("192.0.2.78:{port}"), 1);
    }
    let stats = bench.endpoint.stats();
    assert_eq!((stats.evicted_superseded, stats.evicted_newest), (49, 4));
    assert!(bench.knows("192.0.2.78:10", 1) && bench.knows("192.0.2.78:3", 1));
    assert_eq!(bench.endpoint.exchanges.size().0, 8);
}

proptest! {
    /// Whatever arrives in whatever order: no panic, at most one datagram for each call, all bounds kept.
    #[test]
    fn any_input_keeps_the_bounds(
        steps in proptest::collection::vec(
            (0_u8..8, 0_u16..12, any::<u8>(), 0_u64..40_000), 1..200,
        ),
    ) {
        let settings = Settings {
            duplicates_max: 8,
            duplicates_per_peer_max: 5,
            exchanges_max: 4,
            transmissions_max: 3,
            duplicate_bytes_max: 7 * ENTRY_BYTES,
            ..Settings::default()
        };
        let mut bench = Bench::new(settings);
        let mut open = Vec::new();
        for (action, message_id, byte, wait_ms) in steps {
            bench.now += Duration::from_millis(wait_ms);
            let from = if byte & 1 == 0 { PEER } else { "192.0.2.9:1" };
            match action {
                0..=2 => open.extend(bench.receive_from(from, &con(message_id)).map(|(id, _)| id)),
                3 => {
                    let non = post(MessageType::NonConfirmable, message_id);
                    open.extend(bench.receive_from(from, &non).map(|(id, _)| id));
                }
                4 => {
                    let ack = message(MessageType::Acknowledgement, 0, 0x1000 + message_id);
                    bench.receive_from(from, &ack);
                }
                5 if !open.is_empty() => {
                    let id = open.swap_remove(usize::from(byte) % open.len());
                    bench.respond(id, Response::diagnostic(Code::BadRequest, "no"));
                }
                6 => {
                    let datagram = [0x40 | byte & 0x3F, byte, 0, 1, byte, byte];
                    let (now, output) = (bench.now, &mut bench.output);
                    let request = bench.endpoint.handle_datagram(now, peer(from), &datagram, output);
                    open.extend(request.map(|(id, _)| id));
                }
                _ => {
                    bench.time_out();
                    bench.sent();
                }
            }
            prop_assert!(bench.sent().len() <= 1);
            prop_assert_eq!(bench.endpoint.open_exchanges(), open.len());
            let (entries, bytes) = bench.endpoint.exchanges.size();
            prop_assert!(entries <= 7 && bytes <= 7 * ENTRY_BYTES);
        }
        for id in open {
            bench.respond(id, changed());
        }
        bench.sent();
        bench.run_until(1e7);
        prop_assert_eq!(bench.endpoint.poll_timeout(), None, "everything comes to an end");
    }
}
