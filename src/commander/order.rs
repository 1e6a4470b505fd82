//! A command as it came in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidegate_model::{
    Command, CommandId, CommandKind, CommandOutcome, OutcomeKind, Principal, Timestamp, Topic,
    Value, json,
};

use tidegate_uplink::ReplyTo;

use crate::uplink::{CommandAck, IncomingCommand};

/// How long a command lives that does not say so itself.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(10);

/// Who asked.
#[derive(Debug)]
pub enum CommandOrigin {
    /// A client of the gateway.
    Local {
        /// Where it wants the outcome too, if it may read there.
        response: Option<(Topic, Option<Bytes>)>,
    },
    /// A cloud.
    Cloud {
        /// The uplink that brought it.
        uplink: Arc<str>,
        /// Tells the cloud that the command is safe; sent once.
        ack: Option<CommandAck>,
        /// Where the cloud wants the outcome too.
        reply_to: Option<ReplyTo>,
    },
}

/// A command as it came in: not yet parsed, its sender allowed to command the topic.
#[derive(Debug)]
pub struct CommandOrder {
    /// The topic of the point, without `/set` or `/call`.
    target: Topic,
    kind: CommandKind,
    payload: Bytes,
    principal: Principal,
    origin: CommandOrigin,
    /// What the payload was decoded to already, or why that failed.
    decoded: Option<Result<Value, String>>,
}

impl CommandOrder {
    /// Takes a command for the point on `target`.
    pub fn new(
        target: Topic,
        kind: CommandKind,
        payload: Bytes,
        principal: Principal,
        origin: CommandOrigin,
    ) -> Self {
        Self { target, kind, payload, principal, origin, decoded: None }
    }

    /// Takes a command that an uplink brought; its payload has been decoded.
    pub fn from_cloud(command: IncomingCommand) -> Self {
        let decoded = if command.retained {
            Err("a command cannot be retained: it would be carried out again and again".to_owned())
        } else {
            command.value.map_err(|error| format!("the payload cannot be read: {error}"))
        };
        Self {
            target: command.target,
            kind: command.kind,
            payload: command.payload,
            principal: Principal::uplink(&command.uplink),
            origin: CommandOrigin::Cloud {
                uplink: command.uplink.as_str().into(),
                ack: Some(command.ack),
                reply_to: command.reply_to,
            },
            decoded: Some(decoded),
        }
    }

    /// Returns who asked.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns where it came from.
    pub fn origin(&self) -> &CommandOrigin {
        &self.origin
    }

    /// Returns the payload as it came in.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns the topic of the point.
    pub fn target(&self) -> &Topic {
        &self.target
    }

    /// Returns the last level of the command topic.
    pub fn suffix(&self) -> &'static str {
        match self.kind {
            CommandKind::Write => "set",
            CommandKind::Call => "call",
        }
    }

    /// Tells the cloud that the command need not be sent again.
    pub fn settle(&mut self) {
        if let CommandOrigin::Cloud { ack, .. } = &mut self.origin
            && let Some(ack) = ack.take()
        {
            ack.settle();
        }
    }

    /// Reads the payload: a bare value, or `{"value":…,"id":…,"expires":…}`.
    ///
    /// # Errors
    ///
    /// The outcome that says what is wrong.
    pub fn parse(&self, now: Timestamp) -> Result<(Command, Topic), CommandOutcome> {
        let value = match &self.decoded {
            Some(decoded) => decoded.clone().map_err(CommandOutcome::refused)?,
            None => self.read_payload()?,
        };
        let mut command = Command {
            id: None,
            kind: self.kind,
            value,
            expires: now.saturating_add(LIFETIME_DEFAULT),
        };
        let envelope = match &command.value {
            Value::Document(document) if document.get("value").is_some() => Arc::clone(document),
            _ => return Ok((command, self.target.clone())),
        };
        for (name, member) in envelope.iter() {
            match (&**name, member) {
                ("value", value) => command.value = value.clone(),
                ("id", Value::String(text)) => {
                    command.id = Some(
                        CommandId::new(text)
                            .map_err(|error| CommandOutcome::refused(error.to_string()))?,
                    );
                }
                ("id", other) => {
                    return Err(CommandOutcome::refused(format!(
                        "`id` must be a string, found {}",
                        other.type_name()
                    )));
                }
                ("expires", Value::String(text)) => {
                    command.expires = Timestamp::parse(text)
                        .map_err(|error| CommandOutcome::refused(format!("`expires`: {error}")))?;
                }
                ("expires", other) => {
                    let reason = format!(
                        "`expires` must be a time as a string, found {}",
                        other.type_name()
                    );
                    return Err(CommandOutcome::refused(reason));
                }
                (name, _) => {
                    return Err(CommandOutcome::refused(format!("unknown member `{name}`")));
                }
            }
        }
        Ok((command, self.target.clone()))
    }

    fn read_payload(&self) -> Result<Value, CommandOutcome> {
        let invalid = |reason: String| CommandOutcome {
            kind: OutcomeKind::Refused,
            reason: Some(reason),
            status: None,
        };
        if self.payload.is_empty() {
            return Err(invalid("the payload is empty".into()));
        }
        let text = std::str::from_utf8(&self.payload)
            .map_err(|_| invalid("the payload is not UTF-8 text".into()))?;
        if text.trim_start().starts_with(['{', '[', '"']) {
            return json::parse_value(&self.payload)
                .map_err(|error| invalid(format!("the payload is not JSON: {error}")));
        }
        tidegate_model::value_from_text(text, None).map_err(|error| invalid(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> Result<Command, String> {
        let order = CommandOrder::new(
            Topic::new("hall1/press-1/setpoint").unwrap(),
            CommandKind::Write,
            Bytes::copy_from_slice(payload.as_bytes()),
            Principal::anonymous(),
            CommandOrigin::Local { response: None },
        );
        order
            .parse(Timestamp::default())
            .map(|(command, _)| command)
            .map_err(|outcome| outcome.reason.unwrap())
    }

    /// main.14: a command is a bare value, or an object with id and expiry.
    #[test]
    fn a_command_is_a_value_or_an_object() {
        let bare = parse("66.5").unwrap();
        assert_eq!(
            (bare.value, bare.id, bare.expires),
            (Value::Double(66.5), None, Timestamp::from_unix_millis(10_000))
        );
        let full = parse(r#"{"value":66,"id":"c-17","expires":"2026-03-01T12:00:10Z"}"#).unwrap();
        assert_eq!(full.value, Value::Integer(66));
        assert_eq!(full.id, Some(CommandId::new("c-17").unwrap()));
        assert_eq!(full.expires, Timestamp::parse("2026-03-01T12:00:10Z").unwrap());
        assert!(parse(r#"{"value":1,"idd":"x"}"#).unwrap_err().contains("`idd`"));
        assert!(parse(r#"{"value":1,"id":7}"#).unwrap_err().contains("`id`"));
        assert!(parse(r#"{"value":1"#).unwrap_err().contains("not JSON"));
        assert!(parse("").unwrap_err().contains("empty"));
    }
}
