//! MQTT 5.0.

use std::{
    collections::HashMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rumqttc::{
    Outgoing,
    v5::{
        AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError,
        mqttbytes::{
            QoS,
            v5::{
                ConnectReturnCode, DisconnectReasonCode, Filter, Packet, PubAck, PubAckReason,
                Publish, PublishProperties, RetainForwardRule, SubscribeReasonCode,
            },
        },
    },
};
use tidegate_model::{Topic, TopicFilter};
use tidegate_uplink::{Ack, Disconnect, Failure, ReplyTo, bridge};
use tokio::sync::mpsc;

use super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent, Said, Up},
        settings::{LinkSettings, Login},
    },
    CONNECT_TIMEOUT, FILTERS_MAX, IN_FLIGHT_MAX, INCOMING_BYTES_MAX, REQUESTS, network,
    subscriptions::Subscriptions,
};

/// Commands that a broker may send without having our answer.
const RECEIVE_MAX: u16 = 64;
/// The most topics that have aliases, whatever a broker allows: as many are remembered.
const ALIASES_MAX: u16 = 1_024;
/// The user property that says how a payload is compressed.
const CONTENT_ENCODING: &str = "content-encoding";

pub(super) fn open(
    settings: &LinkSettings,
    login: Option<&Login>,
    tunnel: &str,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let mut options = MqttOptions::new(&settings.client_id, tunnel, 0);
    options.set_keep_alive(settings.keep_alive);
    let keeps_session = settings.hears();
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
    let filters = filters(settings);
    let packets = filters.chunks(FILTERS_MAX);
    let subscriptions = Subscriptions::new(packets.len());
    for some in packets {
        let subscribed = client.try_subscribe_many(some.to_vec());
        subscribed.expect("filters were checked, and the queue has room");
    }
    let aliases_max = Arc::new(AtomicU16::new(0));
    let driver = drive(event_loop, subscriptions, events, Arc::clone(&aliases_max));
    (Client { client, aliases_max, aliases: HashMap::new() }, driver)
}

/// Returns what is subscribed to. What a bridge brings comes as it was published, but not what we have published
/// ourselves; what is retained comes once, when the broker makes the subscription.
fn filters(settings: &LinkSettings) -> Vec<Filter> {
    let plain = |filter: &TopicFilter| Filter::new(filter.as_str(), QoS::AtLeastOnce);
    let commands = settings.commands.iter().map(|commands| plain(commands.filter()));
    let bridged = settings.bridge.inbound.iter().map(|route| Filter {
        nolocal: true,
        preserve_retain: true,
        retain_forward_rule: RetainForwardRule::OnNewSubscribe,
        ..plain(route.filter())
    });
    commands.chain(bridged).collect()
}

/// Hands messages over.
#[derive(Debug)]
pub(super) struct Client {
    client: AsyncClient,
    /// How many topics may have aliases on this connection, as the broker says.
    aliases_max: Arc<AtomicU16>,
    aliases: HashMap<Arc<str>, u16>,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        let (topic, topic_alias) = self.shorten(&up.topic);
        let (retain, payload) = (up.retain, up.payload.clone());
        let properties = PublishProperties { topic_alias, ..properties(up) };
        self.client
            .try_publish_with_properties(topic, QoS::AtLeastOnce, retain, payload, properties)
            .map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    /// Returns what stands for a topic (MQTT 5.0, section 3.3.2.3.4): the first topics get aliases, as many as the broker
    /// takes, and each is named in full once. Messages go in the order in which they are handed over.
    fn shorten(&mut self, topic: &Arc<str>) -> (String, Option<u16>) {
        if let Some(alias) = self.aliases.get(topic) {
            return (String::new(), Some(*alias));
        }
        let most = self.aliases_max.load(Ordering::Relaxed).min(ALIASES_MAX);
        let next = u16::try_from(self.aliases.len() + 1).ok().filter(|next| *next <= most);
        if let Some(alias) = next {
            self.aliases.insert(Arc::clone(topic), alias);
        }
        (topic.to_string(), next)
    }

    /// Subscribes to what a shadow wants to hear.
    pub(super) fn subscribe(&self, filters: &[String]) -> Result<(), LinkError> {
        let filters = filters.iter().map(|filter| Filter::new(filter, QoS::AtLeastOnce));
        self.client
            .try_subscribe_many(filters)
            .map_err(|_| LinkError::transient("the connection takes no more subscriptions"))
    }

    pub(super) fn acknowledge(&self, packet: u16) -> Result<(), LinkError> {
        let mut publish = Publish::new("", QoS::AtLeastOnce, Bytes::new(), None);
        publish.pkid = packet;
        self.client
            .try_ack(&publish)
            .map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
    }

    /// Says good-bye; returns whether it could be handed over.
    pub(super) fn close(&self) -> bool {
        self.client.try_disconnect().is_ok()
    }
}

/// Returns what is said beside a payload.
fn properties(up: Up) -> PublishProperties {
    let said = up.said.as_deref();
    let mut properties = PublishProperties {
        content_type: Some(up.content_type().to_owned()),
        payload_format_indicator: said.filter(|said| said.payload_is_utf8).map(|_| 1),
        message_expiry_interval: up.expires_in,
        correlation_data: up.correlation,
        ..PublishProperties::default()
    };
    let user = &mut properties.user_properties;
    if let Some(encoding) = up.content_encoding {
        user.push((CONTENT_ENCODING.to_owned(), encoding.to_owned()));
    }
    let others = said.into_iter().flat_map(|said| &said.user);
    let others = others.filter(|(name, _)| &**name != bridge::PATH);
    user.extend(others.map(|(name, value)| (name.to_string(), value.to_string())));
    user.extend(up.path.map(|path| (bridge::PATH.to_owned(), path.to_string())));
    properties
}

async fn drive(
    mut event_loop: EventLoop,
    mut subscriptions: Subscriptions,
    events: mpsc::Sender<LinkEvent>,
    aliases_max: Arc<AtomicU16>,
) -> LinkError {
    loop {
        let event = match event_loop.poll().await {
            Ok(event) => event,
            Err(error) => {
                // What came in the same read as the end, or before a write failed, has come.
                let said = std::mem::take(&mut event_loop.state.events);
                for event in said {
                    let Some(event) = link_event(event, &mut subscriptions) else { continue };
                    if events.send(event).await.is_err() {
                        break;
                    }
                }
                return link_error(&error);
            }
        };
        if let Event::Incoming(Packet::ConnAck(ack)) = &event {
            // Known before the first message is handed over.
            let most = ack.properties.as_ref().and_then(|properties| properties.topic_alias_max);
            aliases_max.store(most.unwrap_or(0), Ordering::Relaxed);
        }
        let Some(event) = link_event(event, &mut subscriptions) else { continue };
        if events.send(event).await.is_err() {
            return LinkError::transient("nobody listens");
        }
    }
}

fn link_event(event: Event, subscriptions: &mut Subscriptions) -> Option<LinkEvent> {
    Some(match event {
        Event::Outgoing(Outgoing::Publish(packet)) => LinkEvent::Sent { packet },
        Event::Outgoing(Outgoing::Subscribe(packet)) => {
            subscriptions.note_sent(packet);
            return None;
        }
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
            let refused = ack.return_codes.iter().find(refused);
            let refused =
                refused.map(|code| format!("the broker refuses the subscription: {code:?}"));
            subscriptions.take_answered(ack.pkid, refused)
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
    let mut user = properties.user_properties.iter();
    let encoding = user.find(|(name, _)| name == CONTENT_ENCODING).map(|(_, value)| value.clone());
    let said = Said {
        payload_is_utf8: properties.payload_format_indicator == Some(1),
        expires_in: properties.message_expiry_interval.map(|it| Duration::from_secs(it.into())),
        user: properties.user_properties,
    };
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
        said: (said != Said::default()).then(|| Box::new(said)),
        beside: None,
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
        ) => (Failure::Transient, Disconnect::Closed),
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
