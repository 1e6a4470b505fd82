//! MQTT 3.1.1.

use std::future::Future;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Outgoing,
    Packet, Publish, QoS, StateError, SubscribeFilter, SubscribeReasonCode,
};
use tidegate_uplink::{Ack, Disconnect, Failure};
use tokio::sync::mpsc;

use super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent, Up},
        settings::{LinkSettings, Login},
    },
    FILTERS_MAX, IN_FLIGHT_MAX, INCOMING_BYTES_MAX, REQUESTS, network,
    subscriptions::Subscriptions,
};

/// The largest packet of the protocol.
const PACKET_BYTES_MAX: usize = 268_435_455;

/// What a connection is opened with, beside what the settings say.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    /// As whom to log in.
    pub(super) login: Option<&'a Login>,
    /// What to subscribe to.
    pub(super) filters: Vec<SubscribeFilter>,
    /// Whether the broker is to keep the session.
    pub(super) keeps_session: bool,
    /// The way out.
    pub(super) tunnel: &'a str,
}

impl<'a> Opening<'a> {
    /// Opens for what the settings want to hear.
    pub(super) fn usual(
        settings: &LinkSettings,
        login: Option<&'a Login>,
        tunnel: &'a str,
    ) -> Self {
        let heard = settings.heard().into_iter();
        let filters = heard.map(|filter| at_least_once(filter.as_str()));
        Self { login, filters: filters.collect(), keeps_session: settings.hears(), tunnel }
    }
}

/// Returns the subscription to a filter with QoS 1.
pub(super) fn at_least_once(filter: &str) -> SubscribeFilter {
    SubscribeFilter::new(filter.to_owned(), QoS::AtLeastOnce)
}

/// Opens a connection whose events go through `translate`.
pub(super) fn open<T>(
    settings: &LinkSettings,
    opening: Opening<'_>,
    events: mpsc::Sender<LinkEvent>,
    translate: T,
) -> (AsyncClient, impl Future<Output = LinkError> + Send + use<T>)
where
    T: FnMut(LinkEvent) -> LinkEvent + Send,
{
    let Opening { login, filters, keeps_session, tunnel } = opening;
    let mut options = MqttOptions::new(&settings.client_id, tunnel, 0);
    options.set_keep_alive(settings.keep_alive);
    options.set_clean_session(!keeps_session);
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
    let packets = filters.chunks(FILTERS_MAX);
    let subscriptions = Subscriptions::new(packets.len());
    for some in packets {
        client
            .try_subscribe_many(some.to_vec())
            .expect("the filters were checked, and the queue has room");
    }
    (client, drive(event_loop, subscriptions, events, translate))
}

async fn drive(
    mut event_loop: EventLoop,
    mut subscriptions: Subscriptions,
    events: mpsc::Sender<LinkEvent>,
    mut translate: impl FnMut(LinkEvent) -> LinkEvent + Send,
) -> LinkError {
    loop {
        let event = match event_loop.poll().await {
            Ok(event) => event,
            Err(error) => {
                // What came in the same read as the end, or before a write failed, has come.
                let said = std::mem::take(&mut event_loop.state.events);
                for event in said {
                    let Some(event) = link_event(event, &mut subscriptions) else { continue };
                    if events.send(translate(event)).await.is_err() {
                        break;
                    }
                }
                return link_error(&error);
            }
        };
        let Some(event) = link_event(event, &mut subscriptions) else { continue };
        if events.send(translate(event)).await.is_err() {
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
        Event::Incoming(Packet::ConnAck(_)) => LinkEvent::Connected {
            keep_alive: None,
            packet_bytes_max: PACKET_BYTES_MAX,
            receive_max: usize::from(u16::MAX),
        },
        Event::Incoming(Packet::PubAck(ack)) => {
            LinkEvent::Answered { packet: ack.pkid, answer: Answer::Final(Ack::Accepted) }
        }
        Event::Incoming(Packet::SubAck(ack)) => {
            let is_refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
            let refused = is_refused.then(|| "the broker refuses the subscription".to_owned());
            subscriptions.take_answered(ack.pkid, refused)
        }
        Event::Incoming(Packet::Publish(publish)) => LinkEvent::Incoming(Incoming {
            topic: publish.topic.into(),
            payload: publish.payload,
            packet: (publish.qos != QoS::AtMostOnce).then_some(publish.pkid),
            retained: publish.retain,
            content_type: None,
            content_encoding: None,
            reply_to: None,
            said: None,
            beside: None,
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
        ) => (Failure::Transient, Disconnect::Closed),
        _ => (Failure::Transient, Disconnect::Otherwise),
    };
    LinkError { reason: error.to_string(), failure, how }
}

pub(super) fn publish(client: &AsyncClient, up: Up) -> Result<(), LinkError> {
    client
        .try_publish(&*up.topic, QoS::AtLeastOnce, up.retain, up.payload)
        .map_err(|_| LinkError::transient("the connection takes no more messages"))
}

/// Subscribes to what a shadow wants to hear.
pub(super) fn subscribe(client: &AsyncClient, filters: &[String]) -> Result<(), LinkError> {
    client
        .try_subscribe_many(filters.iter().map(|filter| at_least_once(filter)))
        .map_err(|_| LinkError::transient("the connection takes no more subscriptions"))
}

pub(super) fn acknowledge(client: &AsyncClient, packet: u16) -> Result<(), LinkError> {
    let mut publish = Publish::new("", QoS::AtLeastOnce, Vec::new());
    publish.pkid = packet;
    client
        .try_ack(&publish)
        .map_err(|_| LinkError::transient("the connection takes no more acknowledgements"))
}
