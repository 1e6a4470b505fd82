//! MQTT 5.0.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError,
        mqttbytes::{
            QoS,
            v5::{
                ConnectReturnCode, DisconnectReasonCode, Packet, PubAck, PubAckReason, Publish,
                PublishProperties, SubscribeReasonCode,
            },
        },
    },
};
use tidegate_model::Topic;
use tidegate_uplink::{Ack, Disconnect, Failure, ReplyTo};
use tokio::sync::mpsc;

use super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent, Up},
        settings::{LinkSettings, Login},
    },
    CONNECT_TIMEOUT, IN_FLIGHT_MAX, INCOMING_BYTES_MAX, REQUESTS, network,
};

/// Commands that a broker may send without having our answer.
const RECEIVE_MAX: u16 = 64;
/// The user property that says how a payload is compressed.
const CONTENT_ENCODING: &str = "content-encoding";

pub(super) fn open(
    settings: &LinkSettings,
    login: Option<&Login>,
    tunnel: &str,
    events: mpsc::Sender<LinkEvent>,
) -> (AsyncClient, impl Future<Output = LinkError> + Send + use<>) {
    let mut options = MqttOptions::new(&settings.client_id, tunnel, 0);
    options.set_keep_alive(settings.keep_alive);
    let keeps_session = settings.commands.is_some();
    options.set_clean_start(!keeps_session);
    let expiry = if keeps_session { settings.session_expiry.as_secs() } else { 0 };
    options.set_session_expiry_interval(Some(u32::try_from(expiry).unwrap_or(u32::MAX)));
    options.set_receive_maximum(Some(RECEIVE_MAX));
    options.set_max_packet_size(Some(INCOMING_BYTES_MAX));
    options.set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX);
    options.set_manual_acks(true);
    options.set_transport(rumqttc::Transport::unix());
    options.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    options.set_network_options(network());
    if let Some(login) = login {
        options.set_credentials(&login.username, &login.password);
    }
    let (client, event_loop) = AsyncClient::new(options, REQUESTS);
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
        Event::Incoming(Packet::ConnAck(ack)) => {
            let properties = ack.properties;
            let packet = properties.as_ref().and_then(|properties| properties.max_packet_size);
            let receive = properties.as_ref().and_then(|properties| properties.receive_max);
            let keep_alive =
                properties.as_ref().and_then(|properties| properties.server_keep_alive);
            LinkEvent::Connected {
                keep_alive: keep_alive.map(|seconds| Duration::from_secs(seconds.into())),
                packet_bytes_max: packet
                    .map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
                receive_max: usize::from(receive.unwrap_or(u16::MAX)),
            }
        }
        Event::Incoming(Packet::PubAck(ack)) => {
            LinkEvent::Answered { packet: ack.pkid, answer: answer(&ack) }
        }
        Event::Incoming(Packet::SubAck(ack)) => {
            let refused =
                |code: &&SubscribeReasonCode| !matches!(code, SubscribeReasonCode::Success(_));
            match ack.return_codes.iter().find(refused) {
                Some(code) => LinkEvent::NotSubscribed {
                    reason: format!("the broker refuses the subscription: {code:?}"),
                },
                None => LinkEvent::Alive,
            }
        }
        Event::Incoming(Packet::Publish(publish)) => LinkEvent::Incoming(incoming(publish)),
        Event::Incoming(_) => LinkEvent::Alive,
    })
}

fn answer(ack: &PubAck) -> Answer {
    let said = ack.properties.as_ref().and_then(|properties| properties.reason_string.as_deref());
    let reason = || match said {
        Some(said) => format!("{:?}: {said}", ack.reason),
        None => format!("{:?}", ack.reason),
    };
    match ack.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => Answer::Final(Ack::Accepted),
        PubAckReason::NotAuthorized | PubAckReason::TopicNameInvalid => {
            Answer::Final(Ack::RefusedTopic { reason: reason() })
        }
        PubAckReason::PayloadFormatInvalid => {
            Answer::Final(Ack::RefusedPayload { reason: reason() })
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Answer::Later { reason: reason(), pause: None },
    }
}

fn incoming(publish: Publish) -> Incoming {
    let properties = publish.properties.unwrap_or_default();
    let mut encoding = properties.user_properties.into_iter();
    let encoding = encoding.find(|(name, _)| name == CONTENT_ENCODING).map(|(_, value)| value);
    let correlation = properties.correlation_data;
    Incoming {
        topic: publish.topic,
        payload: publish.payload,
        packet: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
        retained: publish.retain,
        content_type: properties.content_type,
        content_encoding: encoding,
        reply_to: properties
            .response_topic
            // An answer to any other could never be sent.
            .filter(|topic| Topic::new(topic).is_ok())
            .map(|topic| ReplyTo { topic: topic.into(), correlation }),
    }
}

fn link_error(error: &ConnectionError) -> LinkError {
    use DisconnectReasonCode as Code;
    let (failure, how) = match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            (failure(*code), Disconnect::Otherwise)
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            match reason_code {
                Code::SessionTakenOver | Code::UseAnotherServer | Code::ServerMoved => {
                    (Failure::Lasting, Disconnect::Otherwise)
                }
                Code::NormalDisconnection
                | Code::ServerBusy
                | Code::ServerShuttingDown
                | Code::KeepAliveTimeout
                | Code::MessageRateTooHigh
                | Code::QuotaExceeded
                | Code::AdministrativeAction
                | Code::ConnectionRateExceeded
                | Code::MaximumConnectTime => (Failure::Transient, Disconnect::Otherwise),
                _ => (Failure::Transient, Disconnect::ByPeer),
            }
        }
        ConnectionError::MqttState(
            StateError::ConnectionAborted | StateError::Io(_) | StateError::Deserialization(_),
        ) => (Failure::Transient, Disconnect::ByPeer),
        _ => (Failure::Transient, Disconnect::Otherwise),
    };
    LinkError { reason: error.to_string(), failure, how }
}

/// Returns whether a refused connection may be accepted later without anyone stepping in.
fn failure(code: ConnectReturnCode) -> Failure {
    match code {
        ConnectReturnCode::ServiceUnavailable
        | ConnectReturnCode::UnspecifiedError
        | ConnectReturnCode::ImplementationSpecificError
        | ConnectReturnCode::ServerUnavailable
        | ConnectReturnCode::ServerBusy
        | ConnectReturnCode::QuotaExceeded
        | ConnectReturnCode::ConnectionRateExceeded => Failure::Transient,
        _ => Failure::Lasting,
    }
}

pub(super) fn publish(client: &AsyncClient, up: Up) -> Result<(), LinkError> {
    let mut properties = PublishProperties {
        content_type: Some(up.content_type.to_owned()),
        correlation_data: up.correlation,
        ..PublishProperties::default()
    };
    if let Some(encoding) = up.content_encoding {
        properties.user_properties.push((CONTENT_ENCODING.to_owned(), encoding.to_owned()));
    }
    client
        .try_publish_with_properties(&*up.topic, QoS::AtLeastOnce, false, up.payload, properties)
        .map_err(|_| LinkError::transient("the connection takes no more messages"))
}

pub(super) fn acknowledge(client: &AsyncClient, packet: u16) -> Result<(), LinkError> {
    let mut publish = Publish::new("", QoS::AtLeastOnce, Bytes::new(), None);
    publish.pkid = packet;
    client
        .try_ack(&publish)
        .map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
}
