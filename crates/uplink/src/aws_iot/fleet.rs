//! Fleet provisioning by claim: what is asked for a certificate and a thing, and what is answered.
//!
//! By the page "Device provisioning MQTT API"; payloads are JSON. The key stays where it was made: a certificate is asked for
//! with a signing request.

use std::{fmt, sync::Arc};

use thiserror::Error;
use tidegate_model::{Value, json};

const CREATE: &str = "$aws/certificates/create-from-csr/json";
const TEMPLATE_BYTES_MAX: usize = 36;
const PARAMETERS_MAX: usize = 64;
const PARAMETER_BYTES_MAX: usize = 1_024;
/// As much of what the service says is told.
const MESSAGE_CHARACTERS_MAX: usize = 200;
/// A token and a certificate are shorter.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// A provisioning template and what it is told of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetTemplate {
    name: Arc<str>,
    parameters: Vec<(Arc<str>, Arc<str>)>,
}

/// What a template would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FleetTemplateError {
    /// Not a name.
    #[error("a template's name has 1 to {TEMPLATE_BYTES_MAX} letters, digits, - and _")]
    Name,
    /// Not parameters.
    #[error(
        "there are at most {PARAMETERS_MAX} parameters, of at most {PARAMETER_BYTES_MAX} bytes each, each with a name"
    )]
    Parameters,
}

/// What is asked. Complete.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum FleetRequest<'a> {
    /// A certificate for this signing request (PKCS #10, PEM).
    Certificate(&'a str),
    /// A thing that has the certificate for which this token was given out.
    Thing(&'a str),
}

/// What was given out.
#[derive(Clone, PartialEq, Eq)]
pub enum FleetAnswer {
    /// A certificate that is not active yet, and the token that makes it so.
    Certificate {
        /// PEM.
        certificate: String,
        /// The token. It proves whose the certificate is.
        token: String,
    },
    /// The certificate is active, and this thing's.
    Thing(String),
}

/// Why nothing was given out. Its `Display` form has the service's own words.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FleetRefusal {
    /// The service said no.
    #[error("{code} ({status}): {message}")]
    Refused {
        /// The status, as HTTP has them; 0 if it is not told.
        status: u16,
        /// What kind of refusal it is.
        code: String,
        /// What the service says of it.
        message: String,
    },
    /// The answer does not say what was asked for.
    #[error("the answer has no `{0}`")]
    Unreadable(&'static str),
}

impl FleetRefusal {
    /// Returns whether somebody has to step in before it can be otherwise.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Refused { status, .. } => (400..500).contains(status) && *status != 429,
            Self::Unreadable(_) => false,
        }
    }

    /// Returns whether the token is no longer, or not yet, one: a certificate that was not made active by it never
    /// will be.
    pub fn is_about_token(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "InvalidCertificateOwnershipToken")
    }
}

impl FleetTemplate {
    /// Takes a template and its parameters.
    ///
    /// # Errors
    ///
    /// [`FleetTemplateError`].
    pub fn new(
        name: &str,
        parameters: Vec<(Arc<str>, Arc<str>)>,
    ) -> Result<Self, FleetTemplateError> {
        let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > TEMPLATE_BYTES_MAX || !name.bytes().all(is_taken) {
            return Err(FleetTemplateError::Name);
        }
        let fits = |(name, value): &(Arc<str>, Arc<str>)| {
            !name.is_empty() && name.len().max(value.len()) <= PARAMETER_BYTES_MAX
        };
        if parameters.len() > PARAMETERS_MAX || !parameters.iter().all(fits) {
            return Err(FleetTemplateError::Parameters);
        }
        Ok(Self { name: name.into(), parameters })
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where a request is published, and its payload.
    pub fn request(&self, request: FleetRequest<'_>) -> (String, Vec<u8>) {
        let mut body = Vec::from("{");
        let text = |name: &str, text: &str, body: &mut Vec<u8>| {
            json::write_string(name, body);
            body.push(b':');
            json::write_string(text, body);
        };
        match request {
            FleetRequest::Certificate(request) => {
                text("certificateSigningRequest", request, &mut body);
            }
            FleetRequest::Thing(token) => {
                text("certificateOwnershipToken", token, &mut body);
                body.extend_from_slice(b",\"parameters\":{");
                for (number, (name, value)) in self.parameters.iter().enumerate() {
                    if number > 0 {
                        body.push(b',');
                    }
                    text(name, value, &mut body);
                }
                body.push(b'}');
            }
        }
        body.push(b'}');
        (self.topic(request), body)
    }

    fn topic(&self, request: FleetRequest<'_>) -> String {
        match request {
            FleetRequest::Certificate(_) => CREATE.to_owned(),
            FleetRequest::Thing(_) => {
                format!("$aws/provisioning-templates/{}/provision/json", self.name)
            }
        }
    }

    /// Returns what is to be subscribed to before anything is asked.
    pub fn filters(&self) -> Vec<String> {
        let topics = [FleetRequest::Certificate(""), FleetRequest::Thing("")];
        let topics = topics.map(|request| self.topic(request));
        let both = |topic: &String| [format!("{topic}/accepted"), format!("{topic}/rejected")];
        topics.iter().flat_map(both).collect()
    }

    /// Reads what came; `None` if it is no answer to the request.
    pub fn read(
        &self,
        request: FleetRequest<'_>,
        topic: &str,
        payload: &[u8],
    ) -> Option<Result<FleetAnswer, FleetRefusal>> {
        let own = self.topic(request);
        let value = json::parse_value(payload).ok();
        match topic.strip_prefix(&own)? {
            "/accepted" => Some(read_answer(request, value.as_ref())),
            "/rejected" => Some(Err(read_refusal(value.as_ref()))),
            _ => None,
        }
    }
}

impl fmt::Debug for FleetAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { .. } => formatter.write_str("Certificate(…)"),
            Self::Thing(name) => formatter.debug_tuple("Thing").field(name).finish(),
        }
    }
}

fn read_answer(
    request: FleetRequest<'_>,
    value: Option<&Value>,
) -> Result<FleetAnswer, FleetRefusal> {
    let text = |name: &'static str| {
        let text = value.and_then(|value| text_at(value, name));
        let text = text.filter(|text| !text.is_empty() && text.len() <= TEXT_BYTES_MAX);
        text.map(str::to_owned).ok_or(FleetRefusal::Unreadable(name))
    };
    match request {
        FleetRequest::Certificate(_) => {
            let token = text("certificateOwnershipToken")?;
            if token.contains(char::is_control) {
                return Err(FleetRefusal::Unreadable("certificateOwnershipToken"));
            }
            Ok(FleetAnswer::Certificate { certificate: text("certificatePem")?, token })
        }
        FleetRequest::Thing(_) => {
            let is_name = |name: &String| !name.contains(char::is_control);
            let name = text("thingName").ok().filter(is_name);
            // A template need not make one.
            Ok(FleetAnswer::Thing(name.unwrap_or_default()))
        }
    }
}

fn read_refusal(value: Option<&Value>) -> FleetRefusal {
    let text = |name| {
        let text = value.and_then(|value| text_at(value, name)).unwrap_or_default();
        let plain = text.chars().filter(|letter| !letter.is_control());
        plain.take(MESSAGE_CHARACTERS_MAX).collect::<String>()
    };
    let status = match value {
        Some(Value::Document(document)) => match document.get("statusCode") {
            Some(Value::Integer(status)) => u16::try_from(*status).unwrap_or_default(),
            _ => 0,
        },
        _ => 0,
    };
    FleetRefusal::Refused { status, code: text("errorCode"), message: text("errorMessage") }
}

fn text_at<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    let Value::Document(document) = value else { return None };
    match document.get(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template() -> FleetTemplate {
        let parameters =
            vec![("SerialNumber".into(), "gw \"1\"".into()), ("Site".into(), "b".into())];
        FleetTemplate::new("gateways", parameters).unwrap()
    }

    /// uplink.21: what is asked where, and where the answers come.
    #[test]
    fn uplink_21_a_certificate_and_a_thing_are_asked_for() {
        let template = template();
        let (topic, body) = template.request(FleetRequest::Certificate("-----\nA"));
        assert_eq!(topic, "$aws/certificates/create-from-csr/json");
        assert_eq!(body, br#"{"certificateSigningRequest":"-----\nA"}"#);
        let (topic, body) = template.request(FleetRequest::Thing("T"));
        assert_eq!(topic, "$aws/provisioning-templates/gateways/provision/json");
        let expected = br#"{"certificateOwnershipToken":"T","parameters":{"SerialNumber":"gw \"1\"","Site":"b"}}"#;
        assert_eq!(body, expected);
        assert_eq!(
            template.filters(),
            [
                "$aws/certificates/create-from-csr/json/accepted",
                "$aws/certificates/create-from-csr/json/rejected",
                "$aws/provisioning-templates/gateways/provision/json/accepted",
                "$aws/provisioning-templates/gateways/provision/json/rejected",
            ]
        );
    }

    #[test]
    fn answers_are_read_and_refusals_keep_their_words() {
        let template = template();
        let created = |suffix: &str, payload: &[u8]| {
            let topic = format!("{CREATE}{suffix}");
            template.read(FleetRequest::Certificate(""), &topic, payload)
        };
        let whole =
            br#"{"certificateId":"i","certificatePem":"P","certificateOwnershipToken":"T"}"#;
        let given = FleetAnswer::Certificate { certificate: "P".into(), token: "T".into() };
        assert_eq!(created("/accepted", whole), Some(Ok(given)));
        let without = |name| Some(Err(FleetRefusal::Unreadable(name)));
        assert_eq!(created("/accepted", b"no"), without("certificateOwnershipToken"));
        let half = br#"{"certificateOwnershipToken":"T"}"#;
        assert_eq!(created("/accepted", half), without("certificatePem"));
        assert_eq!(created("", whole), None);
        assert_eq!(template.read(FleetRequest::Certificate(""), "other", whole), None);

        let thing = |suffix: &str, payload: &[u8]| {
            let topic = format!("$aws/provisioning-templates/gateways/provision/json{suffix}");
            template.read(FleetRequest::Thing(""), &topic, payload).unwrap()
        };
        let answer = br#"{"deviceConfiguration":{},"thingName":"gw-1"}"#;
        assert_eq!(thing("/accepted", answer), Ok(FleetAnswer::Thing("gw-1".into())));
        let refusal = |payload: &[u8]| thing("/rejected", payload).unwrap_err();
        #[rustfmt::skip]
        let cases: [(&[u8], &str, bool, bool); 4] = [
            (br#"{"statusCode":403,"errorCode":"AccessDenied","errorMessage":"no"}"#, "AccessDenied (403): no", true, false),
            (br#"{"statusCode":400,"errorCode":"InvalidCertificateOwnershipToken","errorMessage":"old"}"#, "InvalidCertificateOwnershipToken (400): old", true, true),
            (br#"{"statusCode":429,"errorCode":"Throttled","errorMessage":"later"}"#, "Throttled (429): later", false, false),
            (b"[]", " (0): ", false, false),
        ];
        for (payload, text, is_lasting, is_about_token) in cases {
            let refusal = refusal(payload);
            assert_eq!(refusal.to_string(), text);
            assert_eq!(
                (refusal.is_lasting(), refusal.is_about_token()),
                (is_lasting, is_about_token)
            );
        }
    }

    #[test]
    fn what_a_template_would_not_take_is_refused() {
        for name in ["", "a b", "a/b", &"x".repeat(37)] {
            assert_eq!(
                FleetTemplate::new(name, Vec::new()),
                Err(FleetTemplateError::Name),
                "{name}"
            );
        }
        for parameters in [
            vec![("".into(), "a".into())],
            vec![("a".into(), "x".repeat(1_025).into())],
            vec![("a".into(), "b".into()); 65],
        ] {
            let refused = FleetTemplate::new("a", parameters);
            assert_eq!(refused, Err(FleetTemplateError::Parameters));
        }
    }

    proptest! {
        /// Whatever comes is an answer, a refusal, or nothing.
        #[test]
        fn no_answer_panics(payload in prop::collection::vec(any::<u8>(), 0..64), is_accepted in any::<bool>()) {
            let topic = format!("{CREATE}/{}", if is_accepted { "accepted" } else { "rejected" });
            let _ = template().read(FleetRequest::Certificate(""), &topic, &payload);
        }
    }
}
