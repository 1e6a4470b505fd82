//! MQTT 3.1.1.

use std::future::Future;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing,
    Packet, Publish, QoS, StateError, SubscribeReasonCode,
};
use tidegate_uplink::{Ack, Disconnect, Failure};
use tokio::sync::mpsc;

use super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent, Up},
        settings::{LinkSettings, Login},
    },
    IN_FLIGHT_MAX, INCOMING_BYTES_MAX, REQUESTS, network,
};

/// The largest packet of the protocol.
const PACKET_BYTES_MAX: usize = 268_435_455;

pub(super) fn open(
    settings: &LinkSettings,
    login: Option<&Login>,
    tunnel: &str,
    events: mpsc::Sender<LinkEvent>,
) -> (AsyncClient, impl Future<Output = LinkError> + Send + use<>) {
    let mut options = MqttOptions::new(&settings.client_id, tunnel, 0);
    options.set_keep_alive(settings.keep_alive);
    options.set_clean_session(settings.commands.is_none());
    options.set_inflight(IN_FLIGHT_MAX);
    options.set_manual_acks(true);
    options.set_transport(rumqttc::Transport::unix());
    let incoming = usize::try_from(INCOMING_BYTES_MAX).expect("fits");
    options.set_max_packet_size(incoming, PACKET_BYTES_MAX);
    if let Some(login) = login {
        options.set_credentials(&login.username, &login.password);
    }
    let (client, mut event_loop) = AsyncClient::new(options, REQUESTS);
    event_loop.set_network_options(network());
    if let Some(commands) = &settings.commands {
        client
            .try_subscribe(commands.filter().as_str(), QoS::AtLeastOnce)
            .expect("the filter was checked, and the queue is empty");
    }
    (client, drive(event_loop, events))
}

async fn drive(mut event_loop: EventLoop, events: mpsc::Sender<LinkEvent>) -> LinkError {
    loop {
        let event = match event_loop.poll().await {
            Ok(event) => event,
            Err(error) => return link_error(&error),
        };
        let Some(event) = link_event(event) else { continue };
        if events.send(event).await.is_err() {
            return LinkError::transient("nobody listens");
        }
    }
}

fn link_event(event: Event) -> Option<LinkEvent> {
    Some(match event {
        Event::Outgoing(Outgoing::Publish(packet)) => LinkEvent::Sent { packet },
        Event::Outgoing(_) => return None,
        Event::Incoming(Packet::ConnAck(_)) => LinkEvent::Connected {
            keep_alive: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            receive_max: usize::from(u16::MAX),
        },
        Event::Incoming(Packet::PubAck(ack)) => {
            LinkEvent::Answered { packet: ack.pkid, answer: Answer::Final(Ack::Accepted) }
        }
        Event::Incoming(Packet::SubAck(ack))
            if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
        {
            LinkEvent::NotSubscribed { reason: "the broker refuses the subscription".into() }
        }
        Event::Incoming(Packet::Publish(publish)) => LinkEvent::Incoming(Incoming {
            topic: publish.topic.into(),
            payload: publish.payload,
            packet: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
            retained: publish.retain,
            content_type: None,
            content_encoding: None,
            reply_to: None,
        }),
        Event::Incoming(_) => LinkEvent::Alive,
    })
}

fn link_error(error: &ConnectionError) -> LinkError {
    use ConnectReturnCode::{
        BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion,
    };
    let (failure, how) = match error {
        ConnectionError::ConnectionRefused(
            BadClientId | BadUserNamePassword | NotAuthorized | RefusedProtocolVersion,
        ) => (Failure::Lasting, Disconnect::Otherwise),
        ConnectionError::MqttState(
            StateError::ConnectionAborted | StateError::Io(_) | StateError::Deserialization(_),
        ) => (Failure::Transient, Disconnect::ByPeer),
        _ => (Failure::Transient, Disconnect::Otherwise),
    };
    LinkError { reason: error.to_string(), failure, how }
}

pub(super) fn publish(client: &AsyncClient, up: Up) -> Result<(), LinkError> {
    client
        .try_publish(&*up.topic, QoS::AtLeastOnce, false, up.payload)
        .map_err(|_| LinkError::transient("the connection takes no more messages"))
}

pub(super) fn acknowledge(client: &AsyncClient, packet: u16) -> Result<(), LinkError> {
    let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
    publish.pkid = packet;
    client
        .try_ack(&publish)
        .map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
}
