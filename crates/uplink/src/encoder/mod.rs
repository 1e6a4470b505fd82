//! From the readings of a batch to payloads.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_model::UplinkName;

use crate::{
    content::Content,
    settings::{Compression, Encoding, Format, Settings, TopicTemplate},
};

mod columns;
mod compress;
mod rows;

pub use compress::Compressor;

/// One message for the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Where it is published.
    pub topic: Arc<str>,
    /// What it says.
    pub payload: Bytes,
    /// How that is to be read.
    pub encoding: Encoding,
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

/// Turns contents into publications.
#[derive(Debug)]
pub struct Encoder {
    identity: Identity,
    format: Format,
    topic: TopicTemplate,
    compressor: Option<Compressor>,
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
        let compressor = match settings.compression {
            Compression::None => None,
            Compression::Zlib => Some(Compressor::new()),
        };
        let topic = settings.topic.clone();
        Self { identity, format: settings.format, topic, compressor, buffer: Vec::new() }
    }

    /// Returns whether each reading is a publication of its own.
    pub fn is_per_reading(&self) -> bool {
        self.format.is_per_reading()
    }

    /// Encodes the readings of batch `seq`: one publication for all, or one for each reading, column by
    /// column. Formats with one for each reading have no place for gaps.
    pub fn encode(&mut self, seq: u64, content: &Content) -> Vec<Publication> {
        match self.format {
            Format::Columns => {
                self.buffer.clear();
                columns::encode(&self.identity, seq, content, &mut self.buffer);
                vec![self.publication(Encoding::Bson, "")]
            }
            Format::Message | Format::Json => self.rows(content),
        }
    }

    fn rows(&mut self, content: &Content) -> Vec<Publication> {
        let mut publications = Vec::with_capacity(content.readings());
        for column in &content.columns {
            for index in 0..column.len() {
                self.buffer.clear();
                let row =
                    rows::Row { column, index, epoch: self.identity.epoch, clock: content.clock };
                let encoding = if self.format == Format::Json {
                    row.write_json(&mut self.buffer);
                    Encoding::Json
                } else {
                    row.write_bson(&mut self.buffer);
                    Encoding::Bson
                };
                publications.push(self.publication(encoding, column.topic.as_str()));
            }
        }
        publications
    }

    /// Takes what is in the buffer, compressed if that is smaller.
    fn publication(&mut self, plain: Encoding, topic: &str) -> Publication {
        let compressed =
            self.compressor.as_mut().and_then(|compressor| compressor.compress(&self.buffer));
        let (payload, encoding) = match (compressed, plain) {
            (Some(payload), Encoding::Json) => (payload, Encoding::JsonZlib),
            (Some(payload), _) => (payload, Encoding::BsonZlib),
            (None, plain) => (Bytes::copy_from_slice(&self.buffer), plain),
        };
        Publication { topic: self.topic.fill(encoding, topic).into(), payload, encoding }
    }
}

#[cfg(test)]
mod tests;
