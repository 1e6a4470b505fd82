//! The adapter over real sockets on loopback, against a gateway under the test's control.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{sync::Arc, time::Duration};

use coap_lite::{CoapOption, MessageClass, MessageType, Packet};
use tidegate_adapter_api::{
    Adapter, CommandReply, CommandRequest, Delivery, Exchange, Keep, Outcome, PathPoint, Point,
    PointAddress, PointId, PointSet, RecalledExchange, Refusal,
    test_kit::{Handles, TestGateway, stops_and_starts_again},
};
use tidegate_adapter_coap::{CoapAdapter, CoapSettings};
use tidegate_model::{
    AdapterName, Captures, Command, CommandKind, OutcomeKind, PathPattern, PayloadFormat,
    Timestamp, Value,
};
use tokio::{
    net::UdpSocket,
    task::JoinHandle,
    time::{Instant, timeout},
};

const PATIENCE: Duration = Duration::from_secs(5);

fn point(id: u32, pattern: &str) -> Point {
    let address = PathPoint {
        pattern: PathPattern::parse(pattern).unwrap(),
        payload: Some(PayloadFormat::Text),
        text_type: None,
        each: None,
        unit: None,
    };
    Point { id: PointId(id), address: PointAddress::Coap(address) }
}

fn adapter(ack_delay: Duration) -> CoapAdapter {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let settings = CoapSettings { ack_delay, ..CoapSettings::listening_on(listen) };
    CoapAdapter::bind(AdapterName::new("coap").unwrap(), settings).unwrap()
}

struct Bench {
    gateway: Arc<TestGateway>,
    handles: Handles,
    run: JoinHandle<()>,
    client: UdpSocket,
}

/// Starts an adapter in the background, and a client of it.
async fn start(ack_delay: Duration) -> Bench {
    let mut adapter = adapter(ack_delay);
    let gateway = TestGateway::new();
    let (mut context, handles) = gateway.context(adapter.name(), vec![point(0, "/t/{n}")], true);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(adapter.local_addrs()[0]).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test supervises itself")]
    let run = tokio::spawn(async move { adapter.run(&mut context).await.unwrap() });
    Bench { gateway, handles, run, client }
}

impl Bench {
    async fn send(&self, packet: &Packet) {
        self.client.send(&packet.to_bytes().unwrap()).await.unwrap();
    }

    async fn receive(&self) -> Packet {
        let mut buffer = [0; 2_048];
        let length = timeout(PATIENCE, self.client.recv(&mut buffer)).await.unwrap().unwrap();
        Packet::from_bytes(&buffer[..length]).unwrap()
    }

    async fn stop(self) {
        self.handles.shutdown.cancel();
        timeout(Duration::from_secs(1), self.run).await.unwrap().unwrap();
    }
}

fn post(kind: MessageType, message_id: u16, payload: &[u8]) -> Packet {
    let mut packet = Packet::new();
    packet.header.set_type(kind);
    packet.header.code = MessageClass::from(2);
    packet.header.message_id = message_id;
    packet.set_token(vec![7, 8]);
    packet.add_option(CoapOption::UriPath, b"t".to_vec());
    packet.add_option(CoapOption::UriPath, b"a/b".to_vec());
    packet.payload = payload.to_vec();
    packet
}

fn shown(packet: &Packet) -> (MessageType, String, u16) {
    (packet.header.get_type(), packet.header.code.to_string(), packet.header.message_id)
}

/// D17 of `docs/promises.md`, main.10: 2.04 comes after the receipt, and not before.
#[tokio::test]
async fn a_confirmable_post_is_answered_when_it_is_durable() {
    let bench = start(Duration::from_secs(1)).await;
    bench.gateway.hold();
    bench.send(&post(MessageType::Confirmable, 1, b"21.5")).await;
    let batch = bench.gateway.next_batch().await;
    assert_eq!(batch.delivery, Delivery::Confirmed);
    assert_eq!(batch.readings[0].captures, Captures::new(["a/b".into()]));
    let mut buffer = [0; 64];
    let early = timeout(Duration::from_millis(100), bench.client.recv(&mut buffer)).await;
    assert!(early.is_err(), "no answer before the receipt");
    bench.gateway.release(&Outcome::Durable);
    let answer = bench.receive().await;
    assert_eq!(shown(&answer), (MessageType::Acknowledgement, "2.04".into(), 1));
    assert_eq!(answer.get_token(), [7, 8]);
    bench.stop().await;
}

/// C06, D18: acknowledged at once when it takes long, processed once, answered separately.
#[tokio::test]
async fn a_slow_write_is_acknowledged_first_and_answered_once() {
    let bench = start(Duration::from_millis(50)).await;
    bench.gateway.hold();
    let request = post(MessageType::Confirmable, 1, b"21.5");
    let acknowledged = (MessageType::Acknowledgement, "0.00".to_owned(), 1);
    bench.send(&request).await;
    assert_eq!(shown(&bench.receive().await), acknowledged);
    for _ in 0..4 {
        bench.send(&request).await;
        assert_eq!(shown(&bench.receive().await), acknowledged);
    }
    bench.gateway.release(&Outcome::Durable);
    let answer = bench.receive().await;
    assert_eq!(shown(&answer).1, "2.04");
    assert_eq!(answer.header.get_type(), MessageType::Confirmable);
    let mut ack = Packet::new();
    ack.header.set_type(MessageType::Acknowledgement);
    ack.header.code = MessageClass::Empty;
    ack.header.message_id = answer.header.message_id;
    bench.send(&ack).await;
    bench.send(&request).await;
    assert_eq!(shown(&bench.receive().await), acknowledged);
    bench.gateway.next_batch().await;
    assert_eq!(bench.gateway.batches_waiting(), 0, "one record for one exchange");
    assert_eq!(bench.handles.count("coap_messages", "duplicate"), 5);
    bench.stop().await;
}

/// main.10, D17: what is handed in names its exchange, and what was answered before a restart is not handed in
/// again: the repetition gets the same answer.
#[tokio::test]
async fn a_repetition_after_a_restart_is_answered_and_not_handed_in() {
    let before = start(Duration::from_secs(1)).await;
    let request = post(MessageType::Confirmable, 7, b"21.5");
    before.send(&request).await;
    let answer = before.receive().await;
    let exchange = before.gateway.next_batch().await.exchange.unwrap();
    assert_eq!((exchange.keep, exchange.lifetime.as_secs()), (Keep::Newest, 247));
    before.send(&post(MessageType::NonConfirmable, 8, b"21.6")).await;
    assert_eq!(before.gateway.next_batch().await.exchange, None, "nobody repeats this one");
    let client = before.client.local_addr().unwrap();
    let listener = before.client.peer_addr().unwrap();
    before.stop().await;

    let mut adapter = CoapAdapter::bind(
        AdapterName::new("coap").unwrap(),
        CoapSettings::listening_on(vec![listener]),
    )
    .unwrap();
    let gateway = TestGateway::new();
    let remaining = Duration::from_secs(200);
    let Exchange { sender, id, answer: kept, .. } = exchange;
    gateway.add_recalled(Keep::Newest, RecalledExchange { sender, id, answer: kept, remaining });
    let (mut context, handles) = gateway.context(adapter.name(), vec![point(0, "/t/{n}")], true);
    let client = UdpSocket::bind(client).await.unwrap();
    client.connect(listener).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test supervises itself")]
    let run = tokio::spawn(async move { adapter.run(&mut context).await.unwrap() });
    let bench = Bench { gateway, handles, run, client };

    bench.send(&request).await;
    assert_eq!(bench.receive().await.to_bytes().unwrap(), answer.to_bytes().unwrap());
    bench.send(&post(MessageType::Confirmable, 7, b"99")).await;
    bench.receive().await;
    let batch = bench.gateway.next_batch().await;
    assert_eq!(batch.readings[0].reading.value, Value::Integer(99), "counted anew, not repeated");
    assert_eq!(bench.gateway.batches_waiting(), 0);
    assert_eq!(bench.handles.count("coap_duplicates_recalled", "restart"), 1);
    bench.stop().await;
}

/// main.10, D17: the same holds when only the adapter's own run breaks off and is begun anew; what was under way
/// then is answered when it is durable.
#[tokio::test]
async fn main_10_a_repetition_after_a_failed_run_is_answered_and_not_handed_in() {
    let mut adapter = adapter(Duration::from_secs(1));
    let gateway = TestGateway::new();
    let (mut context, handles) = gateway.context(adapter.name(), vec![point(0, "/t/{n}")], true);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(adapter.local_addrs()[0]).await.unwrap();
    let [answered, under_way] = [(7, &b"21.5"[..]), (8, b"21.6")]
        .map(|(id, payload)| post(MessageType::Confirmable, id, payload).to_bytes().unwrap());
    let mut answer = [0; 64];
    let broken_off = async {
        client.send(&answered).await.unwrap();
        let length = timeout(PATIENCE, client.recv(&mut answer)).await.unwrap().unwrap();
        gateway.next_batch().await;
        gateway.hold();
        client.send(&under_way).await.unwrap();
        gateway.next_batch().await;
        length
    };
    let length = tokio::select! {
        ended = adapter.run(&mut context) => panic!("{ended:?}"),
        length = broken_off => length,
    };

    #[expect(clippy::disallowed_methods, reason = "a test supervises itself")]
    let run = tokio::spawn(async move { adapter.run(&mut context).await.unwrap() });
    let bench = Bench { gateway, handles, run, client };
    bench.client.send(&under_way).await.unwrap();
    let early = timeout(Duration::from_millis(100), bench.client.recv(&mut [0; 64])).await;
    assert!(early.is_err(), "no answer before the receipt");
    bench.gateway.release(&Outcome::Durable);
    let repeated = bench.receive().await;
    assert_eq!(shown(&repeated), (MessageType::Acknowledgement, "2.04".into(), 8));
    bench.client.send(&answered).await.unwrap();
    assert_eq!(bench.receive().await.to_bytes().unwrap(), answer[..length]);
    assert_eq!(bench.gateway.batches_waiting(), 0, "one record for one exchange");
    assert_eq!(bench.handles.count("coap_duplicates_recalled", "restart"), 2);
    bench.stop().await;
}

#[tokio::test]
async fn non_confirmable_writes_may_be_dropped_and_say_so() {
    let bench = start(Duration::from_secs(1)).await;
    bench.send(&post(MessageType::NonConfirmable, 1, b"21.5")).await;
    assert_eq!(bench.gateway.next_batch().await.delivery, Delivery::Unconfirmed);
    let answer = bench.receive().await;
    assert_eq!(
        (answer.header.get_type(), shown(&answer).1),
        (MessageType::NonConfirmable, "2.04".into())
    );
    bench.stop().await;
}

/// More requests than there are receipts: 5.03 with Max-Age, and as many answers as requests.
#[tokio::test]
async fn a_full_intake_answers_busy() {
    let bench = start(Duration::from_secs(30)).await;
    bench.gateway.hold();
    let mut busy = 0;
    for message_id in 0..1_100 {
        bench.send(&post(MessageType::Confirmable, message_id, b"1")).await;
        if message_id >= 1_024 {
            let answer = bench.receive().await;
            assert_eq!(shown(&answer).1, "5.03");
            assert_eq!(answer.get_first_option(CoapOption::MaxAge), Some(&vec![1]));
            busy += 1;
        } else if message_id % 32 == 31 {
            // The socket buffer is not part of the test.
            for _ in 0..32 {
                bench.gateway.next_batch().await;
            }
        }
    }
    assert_eq!((bench.gateway.release(&Outcome::Durable), busy), (1_024, 76));
    for _ in 0..1_024 {
        assert_eq!(shown(&bench.receive().await).1, "2.04");
    }
    bench.stop().await;
}

/// What is under way when the gateway stops is answered, as long as the answer comes soon.
#[tokio::test]
async fn a_stop_gives_the_last_answers() {
    let bench = start(Duration::from_secs(1)).await;
    bench.gateway.hold();
    bench.send(&post(MessageType::Confirmable, 1, b"21.5")).await;
    bench.gateway.next_batch().await;
    let stopping = Instant::now();
    bench.handles.shutdown.cancel();
    // One thread runs all tasks: when this one goes on, the server, which was woken first, has seen the stop.
    tokio::task::yield_now().await;
    bench.gateway.release(&Outcome::Refused(Refusal::StorageFull));
    assert_eq!(shown(&bench.receive().await).1, "5.03");
    timeout(PATIENCE, bench.run).await.unwrap().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(1));
}

/// `docs/config.md`, reload: new mappings take effect without a restart.
#[tokio::test]
async fn a_reload_reaches_the_adapter() {
    let bench = start(Duration::from_secs(1)).await;
    bench.handles.points.send_replace(PointSet::new(vec![point(4, "/other")], 2));
    bench.send(&post(MessageType::Confirmable, 1, b"21.5")).await;
    let answer = bench.receive().await;
    assert_eq!(shown(&answer).1, "4.04");
    assert_eq!(answer.payload, b"nothing is mapped at /t/a/b");
    assert_eq!(bench.handles.count("coap_requests_refused", "not-found"), 1);
    bench.stop().await;
}

/// C01: garbage of every length does not stop the service.
#[tokio::test]
async fn garbage_is_survived() {
    let bench = start(Duration::from_secs(1)).await;
    for length in [0, 1, 3, 4, 5, 64, 1_500, 60_000] {
        for byte in [0x00, 0x40, 0x4F, 0x50, 0x7F, 0xFF] {
            bench.client.send(&vec![byte; length]).await.unwrap();
        }
        // What was confirmable is reset; all of it is read before the next length.
        while timeout(Duration::from_millis(20), bench.client.recv(&mut [0; 64])).await.is_ok() {}
    }
    bench.send(&post(MessageType::Confirmable, 9, b"1")).await;
    assert_eq!(shown(&bench.receive().await), (MessageType::Acknowledgement, "2.04".into(), 9));
    assert!(bench.handles.count("coap_messages", "malformed") >= 30);
    bench.stop().await;
}

#[tokio::test]
async fn commands_are_refused() {
    let bench = start(Duration::from_secs(1)).await;
    let (reply, outcome) = CommandReply::pair();
    let command = Command {
        id: None,
        kind: CommandKind::Write,
        value: Value::Integer(1),
        expires: Timestamp::from_unix_micros(i64::MAX),
    };
    let captures = Captures::none();
    let request = CommandRequest { point: PointId(0), generation: 1, captures, command, reply };
    bench.handles.commands.send(request).await.unwrap();
    assert_eq!(timeout(PATIENCE, outcome).await.unwrap().unwrap().kind, OutcomeKind::Refused);
    bench.stop().await;
}

#[tokio::test]
async fn the_contract_of_adapters_is_kept() {
    stops_and_starts_again(&mut adapter(Duration::from_secs(1)), vec![point(0, "/t")]).await;
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = adapter(Duration::from_secs(1));
    let settings = CoapSettings::listening_on(first.local_addrs());
    let error = CoapAdapter::bind(AdapterName::new("second").unwrap(), settings).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", first.local_addrs()[0]));
}
