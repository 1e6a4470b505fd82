//! A device of Azure IoT Hub: MQTT 3.1.1 by rumqttc, with a token that is signed for each connection and topics that
//! carry what MQTT 5 has properties for.
//!
//! Direct methods come with QoS 0: they are handed on under packet identifier 0, which no message with an
//! acknowledgement has.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rumqttc::{AsyncClient, QoS, SubscribeFilter};
use tidegate_model::{Topic, TopicFilter, json};
use tidegate_uplink::{
    HubDevice, HubDown, HubSettings, ReplyTo, decoder::Limits, method_order, method_status,
};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    super::{
        link::{Incoming, LinkError, LinkEvent, Up},
        settings::{CommandRoute, LinkSettings, Login},
        tunnel::Tunnel,
    },
    Driver, v4,
};

/// What the topics of commands begin with on their way through the gateway.
const COMMANDS: &str = "$iothub/command/";
/// What those of outcomes begin with, without the last `/`.
const RESULTS: &str = "$iothub/result";
/// What stands for the identifier of what comes with QoS 0.
const UNACKNOWLEDGED: u16 = 0;
/// After so much of a token's life it is replaced, in percent.
const RENEWED_AT: u32 = 80;
/// How a hub calls text that is not compressed; what is looked into to route messages must be called so.
const PLAIN: &str = "utf-8";

/// Refused calls whose answers may wait.
const ANSWERS: usize = 16;
const JSON: &str = "application/json";

/// The answer to a call that is no command.
#[derive(Debug)]
struct Refused {
    topic: String,
    body: Vec<u8>,
}

/// Returns the way of commands of a device, if any may come, and below which topic their outcomes go.
pub fn hub_commands(hub: &HubSettings) -> Option<(CommandRoute, Topic)> {
    let filter = TopicFilter::new(&format!("{COMMANDS}#")).ok()?;
    let route = CommandRoute::new(filter).ok()?;
    Some((route, Topic::new(RESULTS).ok()?)).filter(|_| hub.commands)
}

/// Returns the local topic whose outcome goes to `topic`, if it is that of an outcome.
fn outcome_of(topic: &str) -> Option<&str> {
    topic.strip_prefix(RESULTS)?.strip_prefix('/')
}

/// Hands messages over.
#[derive(Debug)]
pub(super) struct Client {
    mqtt: AsyncClient,
    hub: Arc<HubSettings>,
}

impl Client {
    pub(super) fn publish(&self, up: Up) -> Result<(), LinkError> {
        let topic = topic(&self.hub.device, &up);
        v4::publish(&self.mqtt, Up { topic: topic.into(), ..up })
    }

    pub(super) fn acknowledge(&self, packet: u16) -> Result<(), LinkError> {
        if packet == UNACKNOWLEDGED {
            return Ok(());
        }
        v4::acknowledge(&self.mqtt, packet)
    }

    /// Begins to say good-bye; returns whether the connection will end by that.
    pub(super) fn leave(&self) -> bool {
        self.mqtt.try_disconnect().is_ok()
    }
}

/// Starts to connect.
///
/// # Errors
///
/// If the system lacks a descriptor.
pub(super) fn open(
    hub: Arc<HubSettings>,
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    let tunnel = Tunnel::open().map_err(|error| LinkError::transient(error.to_string()))?;
    let login = login(&hub, &settings.endpoints[endpoint].host);
    let filters = if hub.commands { filters(&hub.device) } else { Vec::new() };
    let opening = v4::Opening {
        login: Some(&login),
        filters,
        keeps_session: hub.commands,
        tunnel: tunnel.name(),
    };
    let renewal = hub.signer.as_ref().map(|signer| signer.lifetime * RENEWED_AT / 100);
    let (answers, to_answer) = mpsc::channel(ANSWERS);
    let device = hub.device.clone();
    let translate = move |event| translate(&device, event, &answers);
    let (mqtt, driver) = v4::open(settings, opening, events.clone(), translate);
    let client = Client { mqtt: mqtt.clone(), hub };
    let beside = beside(mqtt, renewal, to_answer, events);
    let driver = async move {
        tokio::select! {
            biased;
            error = driver => error,
            error = beside => error,
        }
    };
    Ok((client, Box::pin(tunnel.drive(settings.clone(), endpoint, driver))))
}

/// Tells when the token is to be replaced, and answers calls that are refused at once; ends with the connection.
async fn beside(
    mqtt: AsyncClient,
    renewal: Option<Duration>,
    mut answers: mpsc::Receiver<Refused>,
    events: mpsc::Sender<LinkEvent>,
) -> LinkError {
    let mut renewal = renewal.map(|after| Instant::now() + after);
    loop {
        let due = renewal.unwrap_or_else(Instant::now);
        tokio::select! {
            () = tokio::time::sleep_until(due.into()), if renewal.is_some() => {
                renewal = None;
                if events.send(LinkEvent::Renew).await.is_err() {
                    return LinkError::transient("nobody listens");
                }
            }
            Some(refused) = answers.recv() => {
                // Should there be no room, the caller waits in vain.
                let _ = mqtt.try_publish(refused.topic, QoS::AtMostOnce, false, refused.body);
            }
        }
    }
}

fn filters(device: &HubDevice) -> Vec<SubscribeFilter> {
    let methods = SubscribeFilter::new(HubDevice::METHOD_FILTER.to_owned(), QoS::AtMostOnce);
    vec![v4::at_least_once(&device.message_filter()), methods]
}

/// Returns the login at a hub; a token is signed anew for each connection.
fn login(settings: &HubSettings, host: &str) -> Login {
    let hub = settings.hub.as_deref().unwrap_or(host);
    let password = settings.signer.as_ref().map(|signer| {
        let now = crate::clock::wall().as_unix_millis() / 1_000;
        let expires_s = u64::try_from(now).unwrap_or_default() + signer.lifetime.as_secs();
        settings.device.token(hub, signer, expires_s)
    });
    Login { username: settings.device.user_name(hub), password: password.unwrap_or_default() }
}

/// Returns where a message is published.
fn topic(device: &HubDevice, up: &Up) -> String {
    if let Some(topic) = HubDevice::answer_topic(&up.topic, method_status(&up.payload)) {
        return topic;
    }
    let mut properties = vec![("$.ct", up.content_type)];
    let is_text = up.content_type == JSON;
    if let Some(encoding) = up.content_encoding.or(is_text.then_some(PLAIN)) {
        properties.push(("$.ce", encoding));
    }
    match outcome_of(&up.topic) {
        Some(of) => properties.extend([("kind", "result"), ("topic", of)]),
        None => properties.push(("topic", &*up.topic)),
    }
    device.event_topic(properties)
}

/// Makes what the run understands of what a hub says.
fn translate(device: &HubDevice, event: LinkEvent, answers: &mpsc::Sender<Refused>) -> LinkEvent {
    match event {
        // An answer to a method that is none.
        LinkEvent::Sent { packet: UNACKNOWLEDGED } => LinkEvent::Alive,
        LinkEvent::Incoming(incoming) => match command(device, incoming) {
            Ok(command) => LinkEvent::Incoming(command),
            Err(refused) => {
                let _ = answers.try_send(refused);
                LinkEvent::Alive
            }
        },
        other => other,
    }
}

/// Makes a command of what came down, or else the answer to it.
fn command(device: &HubDevice, incoming: Incoming) -> Result<Incoming, Refused> {
    let down = std::str::from_utf8(&incoming.topic).ok().and_then(|topic| device.read(topic));
    match down {
        Some(HubDown::Message(properties)) => {
            let said =
                |name: &str| properties.get(name).filter(|it| !it.is_empty()).map(str::to_owned);
            let target = properties.get("topic").unwrap_or_default();
            if target.is_empty() {
                warn!("A message to the device has no property `topic` and is no command");
            }
            let encoding = said("$.ce").filter(|encoding| !encoding.eq_ignore_ascii_case(PLAIN));
            Ok(Incoming {
                topic: format!("{COMMANDS}{target}").into(),
                content_type: said("$.ct"),
                content_encoding: encoding,
                ..incoming
            })
        }
        Some(HubDown::Method { name, request }) => {
            let answer = HubDevice::answer(&request);
            let refused = |status, reason: &str| {
                let mut body = Vec::from("{\"reason\":");
                json::write_string(reason, &mut body);
                body.push(b'}');
                let topic = HubDevice::answer_topic(&answer, status).expect("it is an answer");
                Refused { topic, body }
            };
            let order = method_order(&name, &incoming.payload, &Limits::DOWNLINK);
            let order = order.map_err(|refusal| refused(refusal.status, &refusal.reason))?;
            Topic::new(&order.target).map_err(|error| refused(400, &error.to_string()))?;
            Ok(Incoming {
                topic: format!("{COMMANDS}{}", order.target).into(),
                payload: Bytes::from(order.body),
                packet: Some(incoming.packet.unwrap_or(UNACKNOWLEDGED)),
                content_type: Some(JSON.to_owned()),
                reply_to: Some(ReplyTo { topic: answer.into(), correlation: None }),
                ..incoming
            })
        }
        // Left to the run, which acknowledges it.
        None => Ok(incoming),
    }
}
