//! From the readings of a batch to payloads.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::{Message, Properties, Reading, Topic, UplinkName, json};

use crate::{
    bridge,
    content::{Content, RawPayload, array_bound, packed_bound},
    settings::{Encoding, Format, Settings, TimeUnit, TopicTemplate},
};

mod columns;
mod compress;
pub(crate) mod packed;
mod rows;
mod typed;

use self::columns::Layout;

pub use compress::Compressor;
pub use typed::TypedReading;

/// One message for the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it is published.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How that is to be read.
    pub encoding: Encoding,
    /// The reading itself, in the format [`Typed`](Format::Typed).
    pub typed: Option<Arc<TypedReading>>,
    /// Whether the message was published to be retained, in the format [`Raw`](Format::Raw).
    pub retain: bool,
    /// What its publisher said beside the payload, in that format.
    pub properties: Option<Arc<Properties>>,
}

impl Publication {
    /// Returns about how many bytes the properties take up in a packet.
    pub(crate) fn properties_len(&self) -> usize {
        let Some(properties) = &self.properties else { return 0 };
        let user = properties.user.iter().map(|(name, value)| 5 + name.len() + value.len());
        user.sum::<usize>() + properties.content_type.as_ref().map_or(0, |it| it.len()) + 5
    }
}

/// What every batch of an uplink says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The id of the gateway.
    pub gateway: Arc<str>,
    /// The name of the uplink.
    pub uplink: UplinkName,
    /// The epoch of the data directory.
    pub epoch: i64,
}

/// The encoding of a batch whose names are longest.
const LONGEST: Encoding = Encoding::BsonGzip;

/// Turns contents into publications.
#[derive(Debug)]
pub struct Encoder {
    identity: Identity,
    format: Format,
    time_unit: TimeUnit,
    topic: TopicTemplate,
    compressor: Option<Compressor>,
    metered_overhead: usize,
    buffer: Vec<u8>,
}

impl Encoder {
    /// Makes the encoder that `settings` ask for.
    pub fn new(settings: &Settings) -> Self {
        let identity = Identity {
            gateway: Arc::clone(&settings.gateway),
            uplink: settings.name.clone(),
            epoch: settings.epoch,
        };
        Self {
            identity,
            format: settings.format,
            time_unit: settings.time_unit,
            topic: settings.topic.clone(),
            compressor: Compressor::new(settings.compression),
            metered_overhead: settings.topic.fill(LONGEST, "").len()
                + LONGEST.content_type().len()
                + "content-encoding".len()
                + LONGEST.content_encoding().map_or(0, str::len),
            buffer: Vec::new(),
        }
    }

    /// Returns whether each reading is a publication of its own.
    pub fn is_per_reading(&self) -> bool {
        self.format.is_per_reading()
    }

    /// Returns how large the payload of a batch becomes, as it is sent.
    pub(crate) fn size(&mut self, seq: u64, content: &Content) -> usize {
        self.encode(seq, content).iter().map(|publication| publication.payload.len()).sum()
    }

    /// Returns at most how many bytes are metered of a message beside its payload: the topic, and the properties
    /// that tell of the payload.
    pub(crate) fn metered_overhead(&self) -> usize {
        self.metered_overhead
    }

    /// Returns at most how many bytes a reading adds to a batch before compression.
    pub(crate) fn reading_bound(&self, topic: &Topic, reading: &Reading, starts: bool) -> usize {
        match self.format {
            Format::Packed => packed_bound(topic, reading, starts),
            _ => array_bound(topic, reading, starts),
        }
    }

    /// Returns what is published of a message instead of its reading, if the format wants that.
    pub(crate) fn raw(&self, message: &Message) -> Option<RawPayload> {
        (self.format == Format::Raw).then(|| RawPayload {
            bytes: message.payload.to_bytes(),
            is_json: message.payload.as_reading().is_some(),
            retain: message.retain,
            properties: message.properties.clone(),
        })
    }

    /// Returns what is published of a reading that rules have made of a message, if the format wants that: its
    /// local JSON. Of what the publisher said only the way goes with it, for the payload is another.
    pub(crate) fn raw_changed(&self, reading: &Reading, message: &Message) -> Option<RawPayload> {
        let raw = self.raw_of(reading)?;
        let properties = bridge::only_path(message.properties.as_deref()).map(Arc::new);
        Some(RawPayload { retain: message.retain, properties, ..raw })
    }

    /// Returns what is published of a reading that rules have made or changed, if the format wants that: its
    /// local JSON.
    pub(crate) fn raw_of(&self, reading: &Reading) -> Option<RawPayload> {
        (self.format == Format::Raw).then(|| RawPayload {
            bytes: json::envelope(reading),
            is_json: true,
            retain: false,
            properties: None,
        })
    }

    /// Encodes the readings of batch `seq`: one publication for all, or one for each reading, column by
    /// column. Formats with one for each reading have no place for gaps.
    pub fn encode(&mut self, seq: u64, content: &Content) -> Vec<Publication> {
        let layout = match self.format {
            Format::Columns => Layout::Arrays,
            Format::Packed => Layout::Packed,
            Format::Message | Format::Json | Format::Typed => return self.rows(content),
            Format::Raw => return self.unchanged(content),
        };
        self.buffer.clear();
        let buffer = &mut self.buffer;
        columns::encode(&self.identity, seq, content, layout, self.time_unit, buffer);
        vec![self.publication(Encoding::Bson, "")]
    }

    fn unchanged(&self, content: &Content) -> Vec<Publication> {
        let payloads = content
            .columns
            .iter()
            .flat_map(|column| column.raw.iter().map(|raw| (column.topic.as_str(), raw)));
        let publications = payloads.map(|(topic, raw)| {
            let encoding = if raw.is_json { Encoding::Json } else { Encoding::Raw };
            let topic = self.topic.fill(encoding, topic).into();
            Publication {
                topic,
                payload: raw.bytes.clone(),
                encoding,
                typed: None,
                retain: raw.retain,
                properties: raw.properties.clone(),
            }
        });
        publications.collect()
    }

    fn rows(&mut self, content: &Content) -> Vec<Publication> {
        let mut publications = Vec::with_capacity(content.readings());
        for column in &content.columns {
            for index in 0..column.len() {
                self.buffer.clear();
                let row =
                    rows::Row { column, index, epoch: self.identity.epoch, clock: content.clock };
                let encoding = if self.format == Format::Message {
                    row.write_bson(&mut self.buffer);
                    Encoding::Bson
                } else {
                    row.write_json(&mut self.buffer);
                    Encoding::Json
                };
                let mut publication = self.publication(encoding, column.topic.as_str());
                if self.format == Format::Typed {
                    publication.typed = Some(row.typed(content.replayed).into());
                }
                publications.push(publication);
            }
        }
        publications
    }

    /// Takes what is in the buffer, compressed if that is smaller.
    fn publication(&mut self, plain: Encoding, topic: &str) -> Publication {
        let compressed = self.compressor.as_mut().and_then(|compressor| {
            Some((compressor.compress(&self.buffer)?, compressor.encoding(plain)))
        });
        let (payload, encoding) =
            compressed.unwrap_or_else(|| (Bytes::copy_from_slice(&self.buffer), plain));
        let topic = self.topic.fill(encoding, topic).into();
        Publication { topic, payload, encoding, typed: None, retain: false, properties: None }
    }
}

#[cfg(test)]
mod tests;
