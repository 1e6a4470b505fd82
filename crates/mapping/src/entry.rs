//! One mapping entry, checked.

use std::time::Duration;

use tidegate_model::{
    AdapterName, Captures, Each, NodePattern, PathPattern, PayloadFormat, Presentation, Qos, Topic,
    Unit, ValueType,
};
use tidegate_settings::Span;

use crate::{Callable, RenderError, TopicPattern, TopicTemplate, Writable};
use tidegate_expression::Expression;

/// Which devices an entry is about, in the terms of their protocol.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Address {
    /// A resource of the gateway that devices write to over CoAP.
    Coap(PathPattern),
    /// A path of the gateway that devices write to over HTTP.
    Http(PathPattern),
    /// Nodes of an OPC UA server.
    OpcUa(NodeAddressPattern),
    /// Topics that clients publish to.
    Mqtt(TopicPattern),
}

/// Nodes of one OPC UA server, and how they are watched.
#[derive(Clone, Debug)]
pub struct NodeAddressPattern {
    /// The configured server.
    pub server: AdapterName,
    /// Which nodes.
    pub node: NodePattern,
    /// How often the server looks at the value; `None` leaves it to the adapter.
    pub sampling: Option<Duration>,
    /// Smallest change that is reported, in the unit of the device's own value.
    pub deadband: Option<f64>,
    /// The method that commands call, with captures of `node` only; `node` is the object it belongs to then, and
    /// there are no readings.
    pub method: Option<NodePattern>,
}

/// One mapping entry: an address, a topic, and what happens on the way between them.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) index: u32,
    pub(crate) span: Span,
    pub(crate) address: Address,
    pub(crate) payload: Option<PayloadFormat>,
    pub(crate) value_type: Option<ValueType>,
    pub(crate) unit: Option<Unit>,
    pub(crate) each: Option<Each>,
    pub(crate) topic: TopicTemplate,
    pub(crate) transform: Option<Expression>,
    pub(crate) when: Option<Expression>,
    pub(crate) presentation: Presentation,
    pub(crate) qos: Option<Qos>,
    pub(crate) retain: Option<bool>,
    pub(crate) writable: Option<Writable>,
    pub(crate) callable: Option<Callable>,
}

impl Entry {
    /// Returns the number of the entry within its set, counted in the order of the files.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Returns where the entry stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Returns which devices the entry is about.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns how payloads are read; `None` leaves it to what the request says.
    pub fn payload(&self) -> Option<PayloadFormat> {
        self.payload
    }

    /// Returns the type that `type` asks of the result.
    pub fn value_type(&self) -> Option<ValueType> {
        self.value_type
    }

    /// Returns the type that a text payload must have when it is read.
    ///
    /// With a transform it is the result that `type` is about, and the text is read by its grammar alone.
    pub fn text_type(&self) -> Option<ValueType> {
        if self.transform.is_some() { None } else { self.value_type }
    }

    /// Returns whether the members of a payload are readings of their own.
    pub fn each(&self) -> Option<Each> {
        self.each
    }

    /// Returns the unit of the values.
    pub fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Returns the topic as written.
    pub fn topic_template(&self) -> &TopicTemplate {
        &self.topic
    }

    /// Returns the topic of the readings with these captures; with `each`, the name of the member comes last.
    ///
    /// # Errors
    ///
    /// [`RenderError`] if the captures do not make a topic.
    pub fn topic(&self, captures: &Captures) -> Result<Topic, RenderError> {
        self.topic.render(captures)
    }

    /// Returns how the readings are shown to those who want bytes.
    pub fn presentation(&self) -> Presentation {
        self.presentation
    }

    /// Returns the quality of service that the entry sets.
    pub fn qos(&self) -> Option<Qos> {
        self.qos
    }

    /// Returns whether messages are retained, if the entry says so.
    pub fn retain(&self) -> Option<bool> {
        self.retain
    }

    /// Returns what may be written to the address; `None` if nothing may.
    pub fn writable(&self) -> Option<&Writable> {
        self.writable.as_ref()
    }

    /// Returns who may call the method of the entry; `None` if it has none.
    pub fn callable(&self) -> Option<&Callable> {
        self.callable.as_ref()
    }
}
