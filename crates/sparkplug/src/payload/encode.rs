//! From payloads to bytes: fields in the order of their numbers.

use super::{MetaData, Metric, MetricValue, Payload, Property, PropertySet, PropertyValue};
use crate::wire::{
    put_bytes, put_fixed32, put_fixed64, put_flag, put_message, put_number, put_optional, put_text,
};

/// What the number of a message takes at the end of a payload.
const SEQ_BYTES: usize = 3;

/// A payload in the making, which is known to fit before it has a number.
#[derive(Debug)]
pub(crate) struct Draft {
    output: Vec<u8>,
    metrics: usize,
}

impl Draft {
    pub(crate) fn new(timestamp: u64) -> Self {
        let mut output = Vec::new();
        put_number(&mut output, 1, timestamp);
        Self { output, metrics: 0 }
    }

    /// Adds a metric and returns `true`, unless the payload would have more than `bytes_max` bytes.
    pub(crate) fn push(&mut self, metric: &Metric, bytes_max: usize) -> bool {
        let before = self.output.len();
        put_message(&mut self.output, 2, |inner| metric.encode(inner));
        let fits = self.output.len() + SEQ_BYTES <= bytes_max;
        if fits {
            self.metrics += 1;
        } else {
            self.output.truncate(before);
        }
        fits
    }

    /// Returns how many metrics there are.
    pub(crate) fn metrics(&self) -> usize {
        self.metrics
    }

    /// Returns the payload as the message with this number.
    pub(crate) fn finish(mut self, seq: u8) -> Vec<u8> {
        put_number(&mut self.output, 3, seq.into());
        self.output
    }
}

impl Payload {
    /// Returns the encoded payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut output = Vec::new();
        put_optional(&mut output, 1, self.timestamp);
        for metric in &self.metrics {
            put_message(&mut output, 2, |inner| metric.encode(inner));
        }
        put_optional(&mut output, 3, self.seq);
        put_text(&mut output, 4, self.uuid.as_deref());
        if let Some(body) = &self.body {
            put_bytes(&mut output, 5, body);
        }
        output
    }
}

impl Metric {
    fn encode(&self, output: &mut Vec<u8>) {
        put_text(output, 1, self.name.as_deref());
        put_optional(output, 2, self.alias);
        put_optional(output, 3, self.timestamp);
        put_optional(output, 4, self.datatype.map(u64::from));
        put_flag(output, 5, self.is_historical);
        put_flag(output, 6, self.is_transient);
        put_flag(output, 7, self.is_null);
        if let Some(metadata) = &self.metadata {
            put_message(output, 8, |inner| metadata.encode(inner));
        }
        if let Some(properties) = &self.properties {
            put_message(output, 9, |inner| properties.encode(inner));
        }
        match &self.value {
            None => {}
            Some(MetricValue::Int(number)) => put_number(output, 10, u64::from(*number)),
            Some(MetricValue::Long(number)) => put_number(output, 11, *number),
            Some(MetricValue::Float(number)) => put_fixed32(output, 12, number.to_le_bytes()),
            Some(MetricValue::Double(number)) => put_fixed64(output, 13, number.to_le_bytes()),
            Some(MetricValue::Boolean(truth)) => put_number(output, 14, u64::from(*truth)),
            Some(MetricValue::String(text)) => put_bytes(output, 15, text.as_bytes()),
            Some(MetricValue::Bytes(bytes)) => put_bytes(output, 16, bytes),
            Some(MetricValue::DataSet(bytes)) => put_bytes(output, 17, bytes),
            Some(MetricValue::Template(bytes)) => put_bytes(output, 18, bytes),
        }
    }
}

impl MetaData {
    fn encode(&self, output: &mut Vec<u8>) {
        put_flag(output, 1, self.is_multi_part);
        put_text(output, 2, self.content_type.as_deref());
        put_optional(output, 3, self.size);
        put_optional(output, 4, self.seq);
        put_text(output, 5, self.file_name.as_deref());
        put_text(output, 6, self.file_type.as_deref());
        put_text(output, 7, self.md5.as_deref());
        put_text(output, 8, self.description.as_deref());
    }
}

impl PropertySet {
    fn encode(&self, output: &mut Vec<u8>) {
        for (key, _) in &self.entries {
            put_bytes(output, 1, key.as_bytes());
        }
        for (_, property) in &self.entries {
            put_message(output, 2, |inner| property.encode(inner));
        }
    }
}

impl Property {
    fn encode(&self, output: &mut Vec<u8>) {
        put_optional(output, 1, self.datatype.map(u64::from));
        put_flag(output, 2, self.is_null);
        match &self.value {
            None => {}
            Some(PropertyValue::Int(number)) => put_number(output, 3, u64::from(*number)),
            Some(PropertyValue::Long(number)) => put_number(output, 4, *number),
            Some(PropertyValue::Float(number)) => put_fixed32(output, 5, number.to_le_bytes()),
            Some(PropertyValue::Double(number)) => put_fixed64(output, 6, number.to_le_bytes()),
            Some(PropertyValue::Boolean(truth)) => put_number(output, 7, u64::from(*truth)),
            Some(PropertyValue::String(text)) => put_bytes(output, 8, text.as_bytes()),
            Some(PropertyValue::Set(bytes)) => put_bytes(output, 9, bytes),
            Some(PropertyValue::SetList(bytes)) => put_bytes(output, 10, bytes),
        }
    }
}
