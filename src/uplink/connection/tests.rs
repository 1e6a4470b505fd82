//! What is heard of a connection at its end.

use super::*;
use crate::uplink::link::Answer;
use tidegate_uplink::{Ack, Outbox, Outcome};

/// Makes a connection whose driver is the test's.
fn connection<F>(driver: impl FnOnce(mpsc::Sender<LinkEvent>) -> F) -> Connection
where
    F: Future<Output = LinkError> + Send + 'static,
{
    let (sender, events) = mpsc::channel(EVENTS);
    let options = rumqttc::MqttOptions::new("test", "localhost", 1_883);
    let (client, _) = rumqttc::AsyncClient::new(options, 1);
    Connection {
        client: Client::V4(client),
        driver: Box::pin(driver(sender)),
        events,
        handed_over: VecDeque::new(),
        in_flight: HashMap::new(),
        sent: VecDeque::new(),
        receive_max: 1,
        is_up: true,
        last_heard: Instant::now(),
        patience: NEVER,
        ack_timeout: Duration::ZERO,
        kept: watch::Sender::new(0),
        is_held: false,
        ended: None,
    }
}

fn answered(packet: u16) -> LinkEvent {
    LinkEvent::Answered { packet, answer: Answer::Final(Ack::Accepted) }
}

fn packet(event: Result<LinkEvent, LinkError>) -> Result<u16, String> {
    match event {
        Ok(LinkEvent::Answered { packet, .. }) => Ok(packet),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.reason),
    }
}

/// uplink.22: answers that came in the moment in which the connection ended count, and its end comes after them.
#[tokio::test]
async fn what_was_said_last_is_heard_before_the_end() {
    let mut connection = connection(|events| async move {
        for number in 1..=3 {
            events.send(answered(number)).await.unwrap();
        }
        LinkError::transient("it broke")
    });
    for number in 1..=3 {
        assert_eq!(packet(connection.next().await), Ok(number));
        assert!(!connection.has_room(), "nothing goes by a connection that has ended");
    }
    for _ in 0..2 {
        assert_eq!(packet(connection.next().await), Err("it broke".to_owned()));
    }
}

/// An answer that is there is no missing one, although it is looked at late: the process stood still.
#[tokio::test]
async fn an_answer_that_is_read_late_is_not_overdue() {
    let mut connection = connection(|events| async move {
        events.send(answered(7)).await.unwrap();
        std::future::pending().await
    });
    let name = tidegate_model::UplinkName::new("cloud").unwrap();
    let mut outbox = Outbox::open(&name, std::iter::empty()).unwrap();
    let outcome = Outcome { topic: "t".into(), payload: "{}".into(), correlation: None };
    connection.handed_over.push_back(Token::Outcome(outbox.push(outcome).0));
    connection.note_sent(7);
    assert_eq!(packet(connection.next().await), Ok(7));
}

/// A message that is not taken ends the connection, after what was said before.
#[tokio::test]
async fn what_is_not_taken_ends_the_connection_in_its_turn() {
    let mut connection = connection(|events| {
        events.try_send(answered(7)).unwrap();
        std::future::pending()
    });
    // Nobody has the other end.
    connection.acknowledge(1);
    assert_eq!(packet(connection.next().await), Ok(7));
    let ended = packet(connection.next().await);
    assert!(ended.as_ref().is_err_and(|error| error.contains("acknowledgements")), "{ended:?}");
}
