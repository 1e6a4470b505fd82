//! CoAP message layer and exchanges as state machines over coap-lite's messages.
//!
//! An [`Endpoint`] is the server side of one UDP socket (RFC 7252): it takes datagrams and the time, hands
//! requests up once each, across restarts if it is told what was answered before, and yields datagrams and the next deadline. It opens no socket, asks no clock and
//! draws its randomness from one seed, so that the same input gives the same output.

mod block;
mod endpoint;
mod exchange;
mod link_format;
mod options;
mod output;
mod peer;
mod request;
mod response;
mod settings;
mod transmission;
mod wire;

pub use block::{Block, BlockError};
pub use coap_lite::{MessageClass, ResponseType as Code};
pub use endpoint::{Endpoint, Stats};
pub use exchange::ExchangeId;
pub use link_format::{Link, write_links};
pub use output::{Datagram, Output};
pub use peer::Peer;
pub use request::{Method, Request};
pub use response::{Response, content_format};
pub use settings::Settings;
pub use wire::{Malformed, decode};
