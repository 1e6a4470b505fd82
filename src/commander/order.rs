//! A command as it came in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidegate_model::{
    Command, CommandId, CommandKind, CommandOutcome, Principal, Timestamp, Topic, Value, json,
};

use tidegate_uplink::{ReplyTo, decoder::DecodeError, downlink::Plain};

use super::history::Noted;
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
    /// What makes text of the payload for local readers, if it may be none.
    plain: Option<Plain>,
    principal: Principal,
    origin: CommandOrigin,
    /// When it came in: from then on it lives.
    arrival: Timestamp,
    /// What the payload was decoded to already, or why that failed.
    decoded: Option<Result<Value, String>>,
    /// The id that stands beside the payload, for one whose payload has none.
    id: Option<String>,
}

impl CommandOrder {
    /// Takes a command for the point on `target`.
    pub fn new(
        target: Topic,
        kind: CommandKind,
        payload: Bytes,
        principal: Principal,
        origin: CommandOrigin,
        arrival: Timestamp,
    ) -> Self {
        let (plain, decoded, id) = (None, None, None);
        Self { target, kind, payload, plain, principal, origin, arrival, decoded, id }
    }

    /// Takes a command that an uplink brought; its payload has been decoded.
    pub fn from_cloud(command: IncomingCommand, arrival: Timestamp) -> Self {
        let decoded = if command.retained {
            Err("a command cannot be retained: it would be carried out again and again".to_owned())
        } else {
            command.value.map_err(|error| format!("the payload cannot be read: {error}"))
        };
        Self {
            target: command.target,
            kind: command.kind,
            payload: command.payload,
            plain: command.plain,
            principal: Principal::uplink(&command.uplink),
            origin: CommandOrigin::Cloud {
                uplink: command.uplink.as_str().into(),
                ack: Some(command.ack),
                reply_to: command.reply_to,
            },
            arrival,
            decoded: Some(decoded),
            id: command.id,
        }
    }

    /// Returns what is left of a command whose outcome nobody knows: enough to tell that.
    pub(super) fn cut_off(command: &Noted) -> Self {
        let origin = match command.principal.as_str().strip_prefix("uplink:") {
            Some(uplink) => {
                CommandOrigin::Cloud { uplink: uplink.into(), ack: None, reply_to: None }
            }
            None => CommandOrigin::Local { response: None },
        };
        let (target, principal) = (command.target.clone(), command.principal.clone());
        Self::new(target, command.kind, Bytes::new(), principal, origin, command.at)
    }

    /// Returns who asked.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns where it came from.
    pub fn origin(&self) -> &CommandOrigin {
        &self.origin
    }

    /// Returns whether it comes again soon if it is not taken in.
    pub(super) fn comes_again(&self) -> bool {
        match &self.origin {
            CommandOrigin::Cloud { ack: Some(ack), .. } => ack.comes_again(),
            CommandOrigin::Cloud { ack: None, .. } | CommandOrigin::Local { .. } => false,
        }
    }

    /// Returns the payload as local readers have it.
    ///
    /// # Errors
    ///
    /// If there is no text for what it says.
    pub(super) fn text(&self) -> Result<Bytes, DecodeError> {
        self.plain.map_or_else(|| Ok(self.payload.clone()), |plain| plain.text(&self.payload))
    }

    /// Returns what the history is told of it, if it was given `id`.
    pub(super) fn noted(&self, id: CommandId) -> Noted {
        let (principal, target) = (self.principal.clone(), self.target.clone());
        Noted { principal, id, at: self.arrival, kind: self.kind, target }
    }

    /// Returns the topic of the point.
    pub fn target(&self) -> &Topic {
        &self.target
    }

    /// Returns the last level of the command topic.
    pub fn suffix(&self) -> &'static str {
        suffix(self.kind)
    }

    /// Tells the cloud that the command need not be sent again.
    pub fn settle(&mut self) {
        if let CommandOrigin::Cloud { ack, .. } = &mut self.origin
            && let Some(ack) = ack.take()
        {
            ack.settle();
        }
    }

    /// Tells the cloud that the command was not taken, and need not be sent again.
    pub fn refuse(&mut self) {
        if let CommandOrigin::Cloud { ack, .. } = &mut self.origin
            && let Some(ack) = ack.take()
        {
            ack.refuse();
        }
    }

    /// Returns the id that stands beside the payload, if there is one.
    pub(super) fn id_beside(&self) -> Option<CommandId> {
        self.id.as_deref().and_then(|id| CommandId::new(id).ok())
    }

    /// Returns what was asked: what the payload says, with the id that stands beside it if it has none.
    ///
    /// # Errors
    ///
    /// The outcome that says what is wrong.
    pub fn parse(&self) -> Result<Command, CommandOutcome> {
        let mut command = self.parse_payload()?;
        if let (None, Some(id)) = (&command.id, &self.id) {
            let id = CommandId::new(id);
            command.id = Some(id.map_err(|error| CommandOutcome::refused(error.to_string()))?);
        }
        Ok(command)
    }

    /// Reads the payload: a bare value or `{"value":…,"id":…,"expires":…}`, or for a call
    /// `{"args":…,"id":…,"expires":…}`.
    fn parse_payload(&self) -> Result<Command, CommandOutcome> {
        let value = match &self.decoded {
            Some(decoded) => decoded.clone().map_err(CommandOutcome::refused)?,
            None => self.read_payload()?,
        };
        let expires = self.arrival.saturating_add(LIFETIME_DEFAULT);
        let mut command = Command { id: None, kind: self.kind, value, expires };
        let envelope = match (self.kind, &command.value) {
            (CommandKind::Write, Value::Document(document)) if document.get("value").is_some() => {
                Arc::clone(document)
            }
            (CommandKind::Write, _) => return Ok(command),
            (CommandKind::Call, Value::Document(document)) => Arc::clone(document),
            (CommandKind::Call, _) => {
                return Err(CommandOutcome::refused(
                    "a call is an object: {\"args\":[…],\"id\":\"…\"}",
                ));
            }
        };
        if self.kind == CommandKind::Call {
            command.value = Value::Array(Arc::default());
        }
        for (name, member) in envelope.iter() {
            self.read_member(name, member, &mut command).map_err(CommandOutcome::refused)?;
        }
        Ok(command)
    }

    fn read_member(&self, name: &str, member: &Value, command: &mut Command) -> Result<(), String> {
        let found = member.type_name();
        match (name, self.kind, member) {
            ("value", CommandKind::Write, value) => command.value = value.clone(),
            ("args", CommandKind::Call, Value::Array(_) | Value::Document(_)) => {
                command.value = member.clone();
            }
            ("args", CommandKind::Call, _) => {
                return Err(format!("`args` must be an array or an object, found {found}"));
            }
            ("id", _, Value::String(text)) => {
                command.id = Some(CommandId::new(text).map_err(|error| error.to_string())?);
            }
            ("id", ..) => return Err(format!("`id` must be a string, found {found}")),
            ("expires", _, Value::String(text)) => {
                command.expires =
                    Timestamp::parse(text).map_err(|error| format!("`expires`: {error}"))?;
            }
            ("expires", ..) => {
                return Err(format!("`expires` must be a time as a string, found {found}"));
            }
            _ => return Err(format!("unknown member `{name}`")),
        }
        Ok(())
    }

    fn read_payload(&self) -> Result<Value, CommandOutcome> {
        let invalid = |reason: String| CommandOutcome::refused(reason);
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

/// Returns the last level of the topics of such commands.
pub(super) fn suffix(kind: CommandKind) -> &'static str {
    match kind {
        CommandKind::Write => "set",
        CommandKind::Call => "call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(kind: CommandKind, payload: &str) -> CommandOrder {
        CommandOrder::new(
            Topic::new("hall1/press-1/setpoint").unwrap(),
            kind,
            Bytes::copy_from_slice(payload.as_bytes()),
            Principal::anonymous(),
            CommandOrigin::Local { response: None },
            Timestamp::default(),
        )
    }

    fn parse(kind: CommandKind, payload: &str) -> Result<Command, String> {
        order(kind, payload).parse().map_err(|outcome| outcome.reason.unwrap())
    }

    /// uplink.26: an id that stands beside the payload is that of a command whose payload has none.
    #[test]
    fn an_id_may_stand_beside_the_payload() {
        let id = |payload: &str, beside: &str| {
            let order =
                CommandOrder { id: Some(beside.to_owned()), ..order(CommandKind::Write, payload) };
            let command = order.parse().map_err(|outcome| outcome.reason.unwrap());
            command.map(|command| command.id.unwrap().to_string())
        };
        assert_eq!(id("66.5", "m-1").unwrap(), "m-1");
        assert_eq!(id(r#"{"value":1}"#, "m-1").unwrap(), "m-1");
        assert_eq!(id(r#"{"value":1,"id":"c-1"}"#, "m-1").unwrap(), "c-1");
        assert_eq!(id(r#"{"value":1,"id":"c-1"}"#, "\n").unwrap(), "c-1");
        assert!(id("66.5", "\n").unwrap_err().contains("a command id has"));
    }

    /// main.14: a command is a bare value, or an object with id and expiry.
    #[test]
    fn a_command_is_a_value_or_an_object() {
        let parse = |payload| parse(CommandKind::Write, payload);
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

    /// main.14: a call is an object with arguments, in order or by name, and an id.
    #[test]
    fn a_call_has_arguments() {
        let parse = |payload| parse(CommandKind::Call, payload);
        let in_order = parse(r#"{"args":[1,"fast"],"id":"c-18"}"#).unwrap();
        assert_eq!(in_order.value, Value::Array([Value::Integer(1), Value::string("fast")].into()));
        assert_eq!((in_order.kind, in_order.id.unwrap().as_str()), (CommandKind::Call, "c-18"));
        let by_name = parse(r#"{"args":{"speed":1},"id":"c-19"}"#).unwrap();
        assert_eq!(by_name.value.type_name(), "object");
        assert_eq!(parse(r#"{"id":"c-20"}"#).unwrap().value, Value::Array([].into()));
        for (payload, part) in [
            ("[1]", "an object"),
            (r#"{"args":1,"id":"c"}"#, "`args` must be"),
            (r#"{"value":1,"id":"c"}"#, "unknown member `value`"),
        ] {
            let refusal = parse(payload).unwrap_err();
            assert!(refusal.contains(part), "{payload}: {refusal}");
        }
    }
}
