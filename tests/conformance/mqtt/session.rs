//! Sections 3.1.2.4 and 4.1: what a session is, how long it lasts, and what it keeps.

use std::time::Duration;

use super::client::Client;
use super::packets::{Connect, Publish, V3, V5, Version, disconnect, prop};
use super::server::unique;

statements! {
    mqtt3_3_1_2_4_a_session_goes_on_or_begins => a_session_goes_on(V3);
    mqtt5_3_1_2_5_a_session_goes_on => a_session_goes_on(V5);
    mqtt5_3_1_2_6_a_session_begins => a_session_goes_on(V5);
    mqtt3_3_1_2_5_messages_are_kept_for_a_session => a_session_goes_on(V3);
    mqtt5_3_1_2_23_a_session_outlives_its_connection => a_session_goes_on(V5);
    mqtt3_4_5_0_1_messages_are_added_to_the_session => a_session_goes_on(V3);
    mqtt5_4_5_0_1_messages_are_added_to_the_session => a_session_goes_on(V5);
    mqtt3_3_1_2_6_a_clean_session_forgets => a_clean_start_forgets(V3);
    mqtt5_3_1_2_4_a_clean_start_forgets => a_clean_start_forgets(V5);
    mqtt3_3_1_4_3_clean_session_is_done => a_clean_start_forgets(V3);
    mqtt5_3_1_4_4_clean_start_is_done => a_clean_start_forgets(V5);
    mqtt3_3_1_2_7_retained_messages_outlive_sessions => retained_messages_outlive_sessions(V3);
    mqtt3_3_1_3_2_the_identifier_names_the_session => the_identifier_names_the_session(V3);
    mqtt5_3_1_3_2_the_identifier_names_the_session => the_identifier_names_the_session(V5);
    mqtt3_4_1_0_1_a_session_is_kept => a_session_goes_on(V3);
    mqtt3_4_1_0_2_a_session_lasts_as_its_connection => a_session_lasts_as_its_connection(V3);
    mqtt5_4_1_0_1_a_session_lasts_as_its_connection => a_session_lasts_as_its_connection(V5);
    mqtt5_4_1_0_2_a_session_ends_after_its_expiry => a_session_ends_after_its_expiry();
}

/// Lets time pass in which nothing comes to `witness`.
#[track_caller]
fn pass(witness: &mut Client, time: Duration) {
    assert_eq!(witness.next_within(time), None);
}

fn a_session_goes_on(version: Version) {
    let (topic, connect) = (unique("kept/"), Connect::lasting(version, &unique("client")));
    let mut client = Client::with(&connect);
    assert!(!client.connack.present, "it begins");
    assert_eq!(client.subscribe(&topic, 2), 2);
    drop(client);
    let mut publisher = Client::connect(version);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    publisher.publish(&Publish::new(&topic, "two").qos(2, 2));
    let mut client = Client::with(&connect);
    assert!(client.connack.present, "it goes on");
    let kept = [client.take(), client.take()].map(|it| (it.payload, it.qos, it.dup, it.retain));
    let message = |payload: &str, qos| (payload.to_owned(), qos, false, false);
    assert_eq!(kept, [message("one", 1), message("two", 2)]);
    publisher.publish(&Publish::new(&topic, "three").qos(1, 3));
    assert_eq!(client.take().payload, "three", "the subscription is still there");
}

fn a_clean_start_forgets(version: Version) {
    let (topic, id) = (unique("forgotten/"), unique("client"));
    let mut client = Client::with(&Connect::lasting(version, &id));
    client.subscribe(&topic, 1);
    drop(client);
    let mut publisher = Client::connect(version);
    publisher.publish(&Publish::new(&topic, "one").qos(1, 1));
    let mut client = Client::with(&Connect::new(version, &id));
    assert!(!client.connack.present);
    publisher.publish(&Publish::new(&topic, "two").qos(1, 2));
    assert_eq!(client.drain(), [], "neither messages nor subscriptions are left");
    client.subscribe(&topic, 1);
    drop(client);
    publisher.publish(&Publish::new(&topic, "three").qos(1, 3));
    let mut client = Client::with(&Connect::lasting(version, &id));
    assert!(!client.connack.present, "the clean session ended with its connection");
    assert_eq!(client.drain(), []);
}

fn retained_messages_outlive_sessions(version: Version) {
    let topic = unique("retained/");
    let mut client = Client::connect(version);
    client.publish(&Publish::new(&topic, "stays").qos(1, 1).retain());
    client.leave();
    let mut client = Client::connect(version);
    client.subscribe(&topic, 0);
    assert_eq!(client.message().payload, "stays");
}

fn the_identifier_names_the_session(version: Version) {
    let (one, other) = (unique("Client"), unique("client"));
    let mut client = Client::with(&Connect::lasting(version, &one));
    client.subscribe(&unique("named/"), 1);
    drop(client);
    let present = |id: &str| Client::with(&Connect::lasting(version, id)).connack.present;
    assert!(!present(&other));
    assert!(!present(&one.to_lowercase()), "letters are told apart");
    assert!(!present(&format!("{one} ")));
    assert!(present(&one));
}

fn a_session_lasts_as_its_connection(version: Version) {
    let (topic, mut connect) = (unique("lasts/"), Connect::lasting(version, &unique("client")));
    if version == V5 {
        connect.properties = prop::u32(prop::SESSION_EXPIRY, 2);
    }
    let mut client = Client::with(&connect);
    client.subscribe(&topic, 1);
    pass(&mut client, Duration::from_millis(2_500));
    Client::connect(version).publish(&Publish::new(&topic, "there").qos(1, 1));
    assert_eq!(client.take().payload, "there");
    client.ping();
    drop(client);
    assert!(Client::with(&connect).connack.present, "its time begins with its connection's end");
}

fn a_session_ends_after_its_expiry() {
    let mut witness = Client::connect(V5);
    let connect = Connect::lasting(V5, &unique("client"));
    let brief = Connect { properties: prop::u32(prop::SESSION_EXPIRY, 1), ..connect.clone() };
    let at_close = Connect { properties: Vec::new(), ..connect.clone() };
    Client::with(&at_close).leave();
    assert!(!Client::with(&brief).connack.present, "without a word it ends with its connection");
    Client::with(&brief).leave();
    pass(&mut witness, Duration::from_millis(2_200));
    assert!(!Client::with(&connect).connack.present);
    // DISCONNECT changes it, but for one that was to end at close.
    Client::with(&connect).leave_with(&disconnect(V5, 0, &prop::u32(prop::SESSION_EXPIRY, 0)));
    let mut client = Client::with(&at_close);
    assert!(!client.connack.present, "DISCONNECT has ended it");
    client.send(&disconnect(V5, 0, &prop::u32(prop::SESSION_EXPIRY, 10)));
    client.ends(0x82);
}
