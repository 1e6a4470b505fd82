//! Section 6: MQTT in the frames of a WebSocket.

use std::net::TcpStream;

use tungstenite::{
    Message, WebSocket,
    client::{IntoClientRequest as _, client_with_config},
    http::HeaderValue,
};

use super::packets::{Connect, PINGREQ, Publish, V3, V5, Version, subscribe};
use super::server::{WEBSOCKET_PATH, server, unique};
use crate::support::wait;

statements! {
    mqtt3_6_0_0_1_other_frames_end_the_connection => other_frames_end_the_connection(V3);
    mqtt5_6_0_0_1_other_frames_end_the_connection => other_frames_end_the_connection(V5);
    mqtt3_6_0_0_2_frames_need_not_be_packets => frames_need_not_be_packets(V3);
    mqtt5_6_0_0_2_frames_need_not_be_packets => frames_need_not_be_packets(V5);
    mqtt3_6_0_0_4_the_subprotocol_is_mqtt => frames_need_not_be_packets(V3);
    mqtt5_6_0_0_4_the_subprotocol_is_mqtt => frames_need_not_be_packets(V5);
    mqtt3_7_1_1_1_a_transport_in_order => a_transport_in_order(V3);
    mqtt5_4_2_0_1_a_transport_in_order => a_transport_in_order(V5);
}

/// Opens a WebSocket; the answer must name the subprotocol.
#[track_caller]
fn open() -> WebSocket<TcpStream> {
    let port = server().websocket;
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener takes us");
    stream.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
    let mut request = format!("ws://127.0.0.1:{port}{WEBSOCKET_PATH}")
        .into_client_request()
        .expect("the address is one");
    let subprotocol = HeaderValue::from_static("mqtt");
    request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
    let (socket, response) =
        client_with_config(request, stream, None).expect("the request is granted");
    let granted = response.headers().get("Sec-WebSocket-Protocol");
    assert_eq!(granted, Some(&HeaderValue::from_static("mqtt")));
    socket
}

fn send(socket: &mut WebSocket<TcpStream>, bytes: &[u8]) {
    socket.send(Message::binary(bytes.to_vec())).expect("the server reads");
}

/// Reads until there are this many bytes of MQTT.
#[track_caller]
fn read(socket: &mut WebSocket<TcpStream>, size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < size {
        match socket.read().expect("the server goes on") {
            Message::Binary(part) => bytes.extend_from_slice(&part),
            other => panic!("waited for binary frames, found {other:?}"),
        }
    }
    assert_eq!(bytes.len(), size, "{bytes:02x?}");
    bytes
}

/// Connects and reads the CONNACK, whose length is in its second byte.
#[track_caller]
fn connect(socket: &mut WebSocket<TcpStream>, version: Version) {
    send(socket, &Connect::new(version, &unique("client")).bytes());
    match socket.read().expect("the server answers") {
        Message::Binary(connack) => {
            assert_eq!((connack[0], connack[3]), (0x20, 0));
            assert_eq!(connack.len(), 2 + usize::from(connack[1]));
        }
        other => panic!("waited for CONNACK, found {other:?}"),
    }
}

fn other_frames_end_the_connection(version: Version) {
    let mut socket = open();
    connect(&mut socket, version);
    socket.send(Message::text("hello")).expect("the server reads");
    loop {
        match socket.read() {
            // In 5.0 it may be told first.
            Ok(Message::Binary(farewell)) => assert_eq!(farewell[0], 0xe0),
            Ok(Message::Close(_)) | Err(_) => return,
            Ok(other) => panic!("waited for the end, found {other:?}"),
        }
    }
}

fn frames_need_not_be_packets(version: Version) {
    let topic = unique("frames/");
    let mut socket = open();
    // A byte a frame, then three packets and a half in one, then the rest.
    for byte in Connect::new(version, &unique("client")).bytes() {
        send(&mut socket, &[byte]);
    }
    let connack = socket.read().expect("the server answers").into_data();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    let publish = Publish::new(&topic, "whole").bytes(version);
    let (half, rest) = publish.split_at(5);
    let mut many = subscribe(version, 1, &[], &[(topic.as_bytes(), 0)]);
    many.extend([&PINGREQ[..], &PINGREQ, half].concat());
    let suback = if version == V5 { 6 } else { 5 };
    send(&mut socket, &many);
    // The answers come in any order.
    let answers = read(&mut socket, suback + 4);
    assert_eq!(answers.windows(2).filter(|pair| *pair == [0xd0, 0]).count(), 2, "{answers:02x?}");
    assert!(answers.contains(&0x90), "{answers:02x?}");
    send(&mut socket, rest);
    assert_eq!(read(&mut socket, publish.len()), publish);
    // Empty frames and pings of the WebSocket are nothing to MQTT.
    send(&mut socket, &[]);
    socket.send(Message::Ping("x".into())).expect("the server reads");
    send(&mut socket, &PINGREQ);
    let mut found = Vec::new();
    while found.len() < 2 {
        match socket.read().expect("the server goes on") {
            Message::Pong(_) => found.push(0),
            Message::Binary(bytes) => found.push(bytes[0]),
            other => panic!("found {other:?}"),
        }
    }
    found.sort_unstable();
    assert_eq!(found, [0, 0xd0]);
}

fn a_transport_in_order(version: Version) {
    // TCP, by every other test; and frames over it, here.
    let topic = unique("transport/");
    let mut socket = open();
    connect(&mut socket, version);
    let subscribe = subscribe(version, 1, &[], &[(topic.as_bytes(), 0)]);
    send(&mut socket, &subscribe);
    read(&mut socket, if version == V5 { 6 } else { 5 });
    for number in 0..100 {
        let publish = Publish::new(&topic, &format!("{number:04}")).bytes(version);
        send(&mut socket, &publish);
        assert_eq!(read(&mut socket, publish.len()), publish);
    }
}
