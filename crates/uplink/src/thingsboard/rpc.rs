//! Calls to devices and to the gateway, and their answers.

use std::sync::Arc;

use tidegate_model::{Document, Value, json};

use super::BoardSettings;
use crate::{
    decoder::Limits,
    downlink::{self, Said},
    iot_hub::method_order,
    percent,
};

/// What stands for the answer to a call on its way through the gateway.
const ANSWER: &str = "$thingsboard/answer/";
const OWN_REQUEST: &str = "v1/devices/me/rpc/request/";
const OWN_RESPONSE: &str = "v1/devices/me/rpc/response/";

/// A call: of which device, and under which number it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardCall {
    device: Option<String>,
    id: i64,
}

/// What a call wants, or why that is nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct BoardOrder {
    /// The call, to be answered.
    pub call: BoardCall,
    /// The local topic with the command for it; else the reason to be told.
    pub order: Result<(String, Vec<u8>), String>,
}

/// Reads the topic of a call to the gateway itself.
pub fn own_call(topic: &str) -> Option<BoardCall> {
    let id = topic.strip_prefix(OWN_REQUEST)?.parse().ok()?;
    Some(BoardCall { device: None, id })
}

impl BoardSettings {
    /// Reads a call to a device; `None` if there is nothing to answer.
    pub fn read_call(&self, payload: &[u8], limits: &Limits) -> Option<BoardOrder> {
        let Ok(Value::Document(document)) = downlink::decode(payload, Said::default(), limits)
        else {
            return None;
        };
        let (Some(Value::String(device)), Some(Value::Document(data))) =
            (document.get("device"), document.get("data"))
        else {
            return None;
        };
        let Some(Value::Integer(id)) = data.get("id") else { return None };
        let call = BoardCall { device: Some(device.to_string()), id: *id };
        let order = self.order(Some(device), data);
        Some(BoardOrder { call, order })
    }

    /// Reads a call to the gateway itself: `set` and `call` with a topic, or a key of its own.
    pub fn read_own_call(&self, call: BoardCall, payload: &[u8], limits: &Limits) -> BoardOrder {
        let order = match downlink::decode(payload, Said::default(), limits) {
            Ok(Value::Document(data)) => self.order(None, &data),
            Ok(_) => Err("the payload is no object".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        BoardOrder { call, order }
    }

    fn order(&self, device: Option<&str>, data: &Document) -> Result<(String, Vec<u8>), String> {
        let Some(Value::String(method)) = data.get("method") else {
            return Err("`method` is missing".to_owned());
        };
        let params = data.get("params").cloned().unwrap_or(Value::Null);
        if device.is_none() && matches!(&**method, "set" | "call") {
            let mut text = Vec::new();
            json::write_value(&params, &mut text);
            let order = method_order(method, &text, &Limits::DOWNLINK);
            return order.map(|order| (order.target, order.body)).map_err(|refusal| refusal.reason);
        }
        let Some(topic) = self.topic(device, method) else {
            return Err(format!("no topic has the key `{method}` here"));
        };
        let command = match params {
            Value::Document(document) if document.get("value").is_some() => document,
            value => {
                Arc::new(Document::new(vec![("value".into(), value)]).expect("it is one name"))
            }
        };
        let mut body = Vec::new();
        json::write_value(&Value::Document(command), &mut body);
        Ok((topic, body))
    }
}

impl BoardCall {
    /// Returns what stands for the answer until there is one.
    pub fn answer(&self) -> String {
        match &self.device {
            None => format!("{ANSWER}own/{}", self.id),
            Some(device) => format!("{ANSWER}of/{}/{}", self.id, percent::encode(device)),
        }
    }

    fn read(answer: &str) -> Option<Self> {
        let answer = answer.strip_prefix(ANSWER)?;
        if let Some(id) = answer.strip_prefix("own/") {
            return Some(Self { device: None, id: id.parse().ok()? });
        }
        let (id, device) = answer.strip_prefix("of/")?.split_once('/')?;
        Some(Self { device: Some(percent::decode(device)?), id: id.parse().ok()? })
    }

    /// Writes the answer that there is no such thing.
    pub fn refusal(reason: &str) -> Vec<u8> {
        let mut body = Vec::from("{\"outcome\":\"refused\",\"reason\":");
        json::write_string(reason, &mut body);
        body.push(b'}');
        body
    }
}

/// Returns where an answer is published; `None` if `answer` stands for none.
pub fn answer_topic(answer: &str) -> Option<String> {
    let call = BoardCall::read(answer)?;
    Some(match call.device {
        None => format!("{OWN_RESPONSE}{}", call.id),
        Some(_) => super::CALL_TOPIC.to_owned(),
    })
}

/// Returns what is published there of an outcome, which is JSON.
pub fn answer_payload(answer: &str, outcome: &[u8]) -> Option<Vec<u8>> {
    let BoardCall { device, id } = BoardCall::read(answer)?;
    let Some(device) = device else { return Some(outcome.to_vec()) };
    let mut payload = Vec::from("{\"device\":");
    json::write_string(&device, &mut payload);
    payload.extend_from_slice(format!(",\"id\":{id},\"data\":").as_bytes());
    payload.extend_from_slice(outcome);
    payload.push(b'}');
    Some(payload)
}
