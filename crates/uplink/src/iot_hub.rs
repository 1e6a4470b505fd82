//! A device of Azure IoT Hub as it speaks MQTT: its user name and tokens, and topics that carry properties.
//!
//! By the pages "Communicate with an IoT hub using the MQTT protocol", "Control access to IoT Hub with shared access
//! signatures" and "Understand and invoke direct methods from IoT Hub".

use std::{fmt, sync::Arc, time::Duration};

use data_encoding::BASE64;
use ring::hmac;
use thiserror::Error;
use tidegate_model::{Document, Value, json};

use crate::{
    decoder::Limits,
    downlink::{self, Said},
    percent,
};

/// The version of the service's interface that is spoken.
const API_VERSION: &str = "2021-04-12";
/// The longest id of a device.
const DEVICE_ID_BYTES_MAX: usize = 128;
/// What an id may hold beside letters and digits, but for what has a meaning in topics.
const DEVICE_ID_MARKS: &str = "-._:=@!*'(),$?%";
const METHODS: &str = "$iothub/methods/POST/";
const ANSWERS: &str = "$iothub/methods/res/";

/// A device that an IoT hub knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubDevice {
    id: Arc<str>,
}

/// A text is not the id of a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an id has 1 to 128 letters, digits and {DEVICE_ID_MARKS}")]
pub struct HubDeviceIdError;

/// The key of a device, or of a policy of the hub, that tokens are signed with. Its `Debug` form hides it.
#[derive(Clone)]
pub struct SharedAccessKey(hmac::Key);

/// A text is not a key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a shared access key is Base64, as the hub shows it")]
pub struct SharedAccessKeyError;

/// A device and how it logs in.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Who it is.
    pub device: HubDevice,
    /// The hub's host name, if something else stands before it; absent: it is the host that is connected to.
    pub hub: Option<Arc<str>>,
    /// What it logs in with, if not with a certificate.
    pub signer: Option<HubSigner>,
    /// Whether messages to the device and direct methods are commands.
    pub commands: bool,
}

/// Signs tokens.
#[derive(Clone, Debug)]
pub struct HubSigner {
    /// The key.
    pub key: SharedAccessKey,
    /// The policy of the hub whose key it is, if not the device's.
    pub policy: Option<Arc<str>>,
    /// How long a token is valid.
    pub lifetime: Duration,
}

/// What came down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubDown {
    /// A message to the device, with its properties.
    Message(HubProperties),
    /// A call of a direct method, and the id under which it is answered.
    Method {
        /// Its name.
        name: String,
        /// The id.
        request: String,
    },
}

/// Properties that a topic carries, as they are without encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubProperties(Vec<(String, String)>);

/// A direct method as an order to the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodOrder {
    /// The local topic, with `/call` behind it if something is called.
    pub target: String,
    /// The command.
    pub body: Vec<u8>,
}

/// Why a direct method is none of the gateway's: what it is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct MethodRefusal {
    /// The status, as HTTP has them.
    pub status: u16,
    /// What is wrong.
    pub reason: String,
}

impl SharedAccessKey {
    /// Reads a key as the hub shows it.
    ///
    /// # Errors
    ///
    /// [`SharedAccessKeyError`] if it is not Base64, or empty.
    pub fn new(text: &str) -> Result<Self, SharedAccessKeyError> {
        let bytes = BASE64.decode(text.trim().as_bytes()).map_err(|_| SharedAccessKeyError)?;
        if bytes.is_empty() {
            return Err(SharedAccessKeyError);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }
}

impl fmt::Debug for SharedAccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SharedAccessKey(…)")
    }
}

impl HubDevice {
    /// The filter by which calls of direct methods come; they come with QoS 0.
    pub const METHOD_FILTER: &str = "$iothub/methods/POST/#";

    /// Takes the id of a device.
    ///
    /// # Errors
    ///
    /// [`HubDeviceIdError`].
    pub fn new(id: &str) -> Result<Self, HubDeviceIdError> {
        let is_known =
            |letter: char| letter.is_ascii_alphanumeric() || DEVICE_ID_MARKS.contains(letter);
        if id.is_empty() || id.len() > DEVICE_ID_BYTES_MAX || !id.chars().all(is_known) {
            return Err(HubDeviceIdError);
        }
        Ok(Self { id: id.into() })
    }

    /// Returns its id, which is its client identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns what it calls itself at `hub`, a host name: that of the hub also where an edge stands between.
    pub fn user_name(&self, hub: &str) -> String {
        format!("{hub}/{}/?api-version={API_VERSION}", self.id)
    }

    /// Signs a token for this device alone, valid until `expires_s` seconds after 1970.
    pub fn token(&self, hub: &str, signer: &HubSigner, expires_s: u64) -> String {
        let resource = percent::encode(&format!("{hub}/devices/{}", self.id));
        let signature = hmac::sign(&signer.key.0, format!("{resource}\n{expires_s}").as_bytes());
        let signature = percent::encode(&BASE64.encode(signature.as_ref()));
        let mut token =
            format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires_s}");
        if let Some(policy) = &signer.policy {
            token.push_str("&skn=");
            token.push_str(policy);
        }
        token
    }

    /// Returns where a message with these properties is published. Names are written as they are.
    pub fn event_topic<'p>(
        &self,
        properties: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> String {
        let mut topic = format!("devices/{}/messages/events/", self.id);
        for (number, (name, value)) in properties.into_iter().enumerate() {
            if number > 0 {
                topic.push('&');
            }
            topic.push_str(name);
            topic.push('=');
            topic.push_str(&percent::encode(value));
        }
        topic
    }

    /// Returns the filter by which messages to the device come.
    pub fn message_filter(&self) -> String {
        format!("devices/{}/messages/devicebound/#", self.id)
    }

    /// Reads the topic of what came down; `None` if it is nothing that is known here.
    pub fn read(&self, topic: &str) -> Option<HubDown> {
        if let Some(method) = topic.strip_prefix(METHODS) {
            let (name, query) = method.split_once('/')?;
            let request = HubProperties::read(query).get("$rid")?.to_owned();
            // It becomes part of a topic again.
            let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"+#/?&".contains(&byte);
            let is_right = !request.is_empty() && request.bytes().all(is_plain);
            return is_right.then(|| HubDown::Method { name: name.to_owned(), request });
        }
        let own = topic.strip_prefix("devices/")?.strip_prefix(&*self.id)?;
        let properties = own.strip_prefix("/messages/devicebound/")?;
        Some(HubDown::Message(HubProperties::read(properties)))
    }

    /// Returns what stands for the answer to a direct method until its status is known.
    pub fn answer(request: &str) -> String {
        format!("{ANSWERS}?$rid={request}")
    }

    /// Returns where such an answer is published; `None` if `answer` is something else.
    pub fn answer_topic(answer: &str, status: u16) -> Option<String> {
        let query = answer.strip_prefix(ANSWERS)?.strip_prefix('?')?;
        Some(format!("{ANSWERS}{status}/?{query}"))
    }
}

impl HubProperties {
    fn read(text: &str) -> Self {
        let text = text.strip_prefix('?').unwrap_or(text);
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent::decode(name), percent::decode(value))
        });
        Self(pairs.filter_map(|(name, value)| Some((name?, value?))).collect())
    }

    /// Returns the first property of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a direct method: `set` with `{"topic":…,"value":…}`, or `call` with `{"topic":…,"args":…,"id":…}`.
///
/// # Errors
///
/// [`MethodRefusal`] if it is another method, or its payload does not say what is to be done where.
pub fn method_order(
    name: &str,
    payload: &[u8],
    limits: &Limits,
) -> Result<MethodOrder, MethodRefusal> {
    let refused = |status, reason: &str| MethodRefusal { status, reason: reason.to_owned() };
    let (needed, behind) = match name {
        "set" => ("value", ""),
        "call" => ("id", "/call"),
        _ => return Err(refused(404, "known methods are set and call")),
    };
    let value = downlink::decode(payload, Said::default(), limits)
        .map_err(|error| refused(400, &error.to_string()))?;
    let Value::Document(document) = value else {
        return Err(refused(400, "the payload is no object"));
    };
    let Some(Value::String(topic)) = document.get("topic") else {
        return Err(refused(400, "`topic` is missing in the payload"));
    };
    if document.get(needed).is_none() {
        return Err(refused(400, &format!("`{needed}` is missing in the payload")));
    }
    let target = format!("{topic}{behind}");
    let rest = document.iter().filter(|(name, _)| &***name != "topic");
    let rest = rest.map(|(name, value)| (Arc::clone(name), value.clone())).collect();
    let rest = Document::new(rest).map_err(|error| refused(400, &error.to_string()))?;
    let mut body = Vec::new();
    json::write_value(&Value::Document(rest.into()), &mut body);
    Ok(MethodOrder { target, body })
}

/// Returns the status that says what an outcome of a command says.
pub fn method_status(outcome: &[u8]) -> u16 {
    let outcome = json::parse_value(outcome).ok();
    let word = match &outcome {
        Some(Value::Document(document)) => match document.get("outcome") {
            Some(Value::String(word)) => &**word,
            _ => "",
        },
        _ => "",
    };
    match word {
        "confirmed" => 200,
        "accepted" => 202,
        "refused" => 400,
        "expired" => 408,
        "busy" => 429,
        _ => 500,
    }
}

#[cfg(test)]
mod tests;
