//! Panics in the task of a connection, and under the lock of the core (broker.13).

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{super::connection::fault, *};

/// CONNECT of MQTT 5 as user `u` with password `p`, for a session of an hour, with a will on `will`.
pub(super) fn connect(client_id: &str) -> Vec<u8> {
    let text = |text: &str| [&[0, text.len() as u8][..], text.as_bytes()].concat();
    let head = b"\0\x04MQTT\x05\xC6\0\0\x05\x11\0\0\x0E\x10";
    let names = [text(client_id), vec![0], text("will"), text(client_id), text("u"), text("p")];
    packet(0x10, &[head.to_vec(), names.concat()].concat())
}

/// PUBLISH with quality of service 0.
fn publish(topic: &str) -> Vec<u8> {
    packet(0x30, &[&[0, topic.len() as u8][..], topic.as_bytes(), b"\0x"].concat())
}

pub(super) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head, u8::try_from(body.len()).unwrap()][..], body].concat()
}

impl Rig {
    /// Connects one more client, whose login is let through.
    pub(super) async fn join(&self, client_id: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(&connect(client_id)).await.unwrap();
        self.logins.go_on.notify_one();
        expect(&mut client, 0x20).await;
        client
    }

    /// Starts it with everything allowed and its own client let in, so that the next login is that of the next client.
    pub(super) async fn open() -> Self {
        let mut rig = Self::start().await;
        rig.allow_everything();
        rig.logins.go_on.notify_one();
        rig.heard(0x20).await;
        rig
    }

    fn allow_everything(&self) {
        let everything = || vec![AccessFilter::parse("#").unwrap()];
        self.broker.core().set_rules(AccessRules::new(vec![AccessEntry {
            principal: Glob::new("*"),
            publish: everything(),
            subscribe: everything(),
            command: Vec::new(),
            manage: None,
        }]));
    }
}

/// Reads packets until one of the type `head`, and returns its body; `None` at the end.
async fn read(client: &mut TcpStream, head: u8) -> Option<Vec<u8>> {
    let reading = async {
        loop {
            let mut first = [0; 2];
            client.read_exact(&mut first).await.ok()?;
            let mut body = vec![0; first[1].into()];
            client.read_exact(&mut body).await.ok()?;
            if first[0] & 0xF0 == head {
                return Some(body);
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer or the end")
}

pub(super) async fn expect(client: &mut TcpStream, head: u8) -> Vec<u8> {
    read(client, head).await.unwrap_or_else(|| panic!("no packet of type {head:02X}"))
}

/// broker.13: a panic ends the connection in whose task it happens, as if it had broken: its will is published, its
/// session is there when it comes again, and nobody else notices.
#[tokio::test]
async fn broker_13_a_panic_harms_one_connection() {
    let rig = Rig::open().await;
    let mut other = rig.join("other").await;
    other.write_all(b"\x82\x0A\0\x01\0\0\x04will\0").await.unwrap();
    expect(&mut other, 0x90).await;
    let mut struck = rig.join("struck").await;
    struck.write_all(&publish(fault::IN_TASK)).await.unwrap();
    assert_eq!(read(&mut struck, 0xE0).await, None, "the connection is closed");
    let will = expect(&mut other, 0x30).await;
    assert_eq!(will, b"\0\x04will\0struck");
    assert_eq!(rig.counters.panics.load(Ordering::Relaxed), 1);
    let summary = rig.broker.core().summary();
    assert_eq!((summary.sessions, summary.connected), (3, 2), "its session waits for it");
    assert!(!rig.broker.has_failed());

    // The thread that it happened on serves others, and the client itself.
    let mut struck = rig.join("struck").await;
    struck.write_all(&publish("will")).await.unwrap();
    assert_eq!(expect(&mut other, 0x30).await, b"\0\x04will\0x");
    rig.stop().await;
}

/// broker.13: what a panic leaves half-changed is used by nobody: the core is given to nobody any more, and the process
/// is told to end.
#[tokio::test]
async fn broker_13_a_panic_in_the_core_ends_the_process_in_order() {
    let rig = Rig::open().await;
    let mut struck = rig.join("struck").await;
    struck.write_all(&publish(fault::IN_CORE)).await.unwrap();
    timeout(PATIENCE, rig.broker.failed()).await.expect("it is told");
    assert!(rig.broker.has_failed());
    let broker = AssertUnwindSafe(&rig.broker);
    assert!(catch_unwind(|| drop(broker.core())).is_err(), "no lock hangs, and nothing is had");
    // What was handed to the journal before is durable.
    rig.store.stop().unwrap();
}
