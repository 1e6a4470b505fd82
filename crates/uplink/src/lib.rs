//! Batching, encoders, delivery window and ledger of an uplink, without I/O.
//!
//! [`Core`] is the uplink as a state machine: records and acknowledgements go in, changes for the
//! journal and publications for the cloud come out. [`decoder`] is the way back from a payload to
//! readings, [`downlink`] reads what comes down.

pub mod bridge;
pub mod bson;
pub mod cost;
pub mod decoder;
pub mod downlink;
pub mod thingsboard;
pub mod verify;

mod aws_iot;
mod backoff;
mod confirms;
mod content;
mod core;
mod decision;
mod encoder;
mod endpoints;
mod eras;
mod gaps;
mod iot_hub;
mod keys;
mod ledger;
mod outbox;
mod pace;
mod payload;
mod percent;
mod profile;
mod settings;
mod sieve;
mod steering;
mod streams;

pub use self::aws_iot::{
    AuthorizerError, AuthorizerToken, CustomAuthorizer, FleetAnswer, FleetRefusal, FleetRequest,
    FleetTemplate, FleetTemplateError, Shadow, ShadowCounts, ShadowError, ShadowNote, ShadowOrder,
    ShadowOrderId, ShadowPath, ShadowPathError, ShadowRequest, ShadowSettings, ShadowState,
    ShadowView, SigV4, SigV4Error,
};
pub use self::backoff::{Backoff, Failure, Pauses};
pub use self::confirms::{Confirmed, Confirms, Returned};
pub use self::content::{Column, Content, Gap};
pub use self::core::{
    Ack, Core, Disconnect, Load, Moved, Now, OpenError, Outgoing, SavedBooks, SendId, Status,
    Write, WriteId, renew, retire, saved_books,
};
pub use self::encoder::{Compressor, Encoder, Publication, TypedReading};
pub use self::endpoints::Endpoints;
pub use self::eras::{Era, Stamp, Verdict};
pub use self::iot_hub::{
    HubDevice, HubDeviceIdError, HubDown, HubProperties, HubSettings, HubSigner, MethodOrder,
    MethodRefusal, SharedAccessKey, SharedAccessKeyError, method_order, method_status,
};
pub use self::keys::{Change, Keys};
pub use self::ledger::{DropReason, Ledger, Outcomes};
pub use self::outbox::{Outbox, Outcome, OutcomeId, ReplyTo};
pub use self::pace::{Pace, Rates};
pub use self::payload::reading;
pub use self::percent::decode as percent_decoded;
pub use self::profile::{Bounds, Profile, TopicRefusal};
pub use self::settings::{
    BatchLimits, Compression, Encoding, Format, Level, Settings, TimeUnit, TopicTemplate,
    TopicTemplateError, WhenFull,
};
pub use self::sieve::{DeliveryBounds, Emptied, Sieve, SieveError};
pub use self::steering::{QueueView, Steerer, Steering, Turns};
pub use self::streams::{StreamId, UNKNOWN_STREAM};
use tidegate_rules::wire;
pub use tidegate_rules::wire::Malformed;
