//! A SUBSCRIBE that takes many visits to the core (broker.12, M11).

use super::{panics::packet, *};

/// Retained messages on `t/0`, `t/1`, …
const RETAINED: usize = 200;
/// More filters than go to the core in one visit.
const FILTERS: u8 = 90;

/// Filters that begin with a wildcard and match nothing, and one that matches everything.
fn subscribe(packet_id: u8) -> Vec<u8> {
    let none = (1..FILTERS).flat_map(|number| {
        let filter = format!("+/{number:02}/no");
        [&[0, filter.len() as u8][..], filter.as_bytes(), &[1]].concat()
    });
    let body: Vec<u8> =
        [0, packet_id, 0].into_iter().chain(none).chain(*b"\0\x03t/+\x01").collect();
    let length = [(body.len() % 128 + 128) as u8, (body.len() / 128) as u8];
    [&[0x82][..], &length, &body].concat()
}

impl Rig {
    /// Starts it with retained messages, of which few are looked at in each visit.
    async fn with_retained() -> Self {
        let limits = BrokerLimits { retained_looks: 50, ..BrokerLimits::default() };
        let rig = Self::start_with(limits).await;
        rig.broker.core().set_rules(everybody_may_everything());
        for number in 0..RETAINED {
            let message = Message {
                topic: Topic::new(&format!("t/{number}")).unwrap(),
                payload: Payload::bytes(b"x".as_slice()),
                qos: Qos::AtLeastOnce,
                retain: true,
                properties: None,
                publisher: Principal::anonymous(),
                arrival: rig.broker.clock().wall(),
            };
            rig.broker.publish(vec![message], Source::Gateway, || Completion::None).unwrap();
        }
        rig
    }
}

/// broker.12, M11: it is answered once, for all filters and in its turn, and every retained message comes, whether the
/// session lasts or not.
#[tokio::test]
async fn broker_12_a_subscribe_of_many_visits_is_answered_in_its_turn() {
    for is_lasting in [true, false] {
        let mut rig = Rig::with_retained().await;
        rig.logins.go_on.notify_one();
        rig.heard(0x20).await;
        let mut lasting;
        let client = if is_lasting {
            lasting = rig.join("lasting").await;
            &mut lasting
        } else {
            &mut rig.client
        };
        let unsubscribe = packet(0xA2, b"\0\x08\0\0\x03no/");
        client.write_all(&[subscribe(7), unsubscribe].concat()).await.unwrap();
        let mut topics = std::collections::BTreeSet::new();
        let mut answers = Vec::new();
        while answers.len() < 2 || topics.len() < RETAINED {
            let (head, body) = next(client).await;
            match head & 0xF0 {
                0x30 => {
                    let length = usize::from(body[1]);
                    topics.insert(body[2..2 + length].to_vec());
                    let puback = packet(0x40, &body[2 + length..4 + length]);
                    client.write_all(&puback).await.unwrap();
                }
                kind => answers.push((kind, body)),
            }
        }
        let (kinds, bodies): (Vec<u8>, Vec<_>) = answers.into_iter().unzip();
        assert_eq!(kinds, [0x90, 0xB0], "SUBACK, then UNSUBACK");
        assert_eq!(bodies[0], [&[0, 7, 0][..], &vec![1; FILTERS.into()]].concat());
        assert_eq!(rig.broker.core().counters().retained_looks, 90 * RETAINED as u64);
        rig.stop().await;
    }
}

/// Reads a packet; returns its first byte and its body.
async fn next(client: &mut TcpStream) -> (u8, Vec<u8>) {
    let reading = async {
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        let mut body = vec![0; head[1].into()];
        client.read_exact(&mut body).await.unwrap();
        (head[0], body)
    };
    timeout(PATIENCE, reading).await.expect("something comes")
}
