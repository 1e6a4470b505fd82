//! `[limits]`: bounds for everything a peer can make large. 0 never means unlimited.

use std::time::Duration;

use tidegate_settings::{ByteSize, Issues, TableReader, read};

/// Declares a table of limits: fields with their keys, defaults and parsers.
macro_rules! limits {
    (
        $(#[$doc:meta])*
        $name:ident {
            $( $(#[$field_doc:meta])* $field:ident: $type:ty = $key:literal, $default:expr, $parser:expr; )*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $name {
            /// The keys of the table, in order.
            pub const KEYS: &'static [&'static str] = &[$($key),*];

            /// Takes the keys of the table; the caller finishes it.
            fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Self {
                Self { $( $field: table.optional_or($key, $default, $parser, issues), )* }
            }
        }
    };
}

/// Bounds for everything a peer can make large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How much memory the gateway may use.
    pub memory_ceiling: ByteSize,
    /// Connections of all kinds.
    pub net: NetLimits,
    /// MQTT clients.
    pub mqtt: MqttLimits,
    /// CoAP endpoints.
    pub coap: CoapLimits,
    /// OPC UA servers.
    pub opcua: OpcUaLimits,
    /// HTTP clients.
    pub http: HttpLimits,
    /// JSON, whoever sends it.
    pub json: JsonLimits,
    /// What comes down from clouds.
    pub downlink: DownlinkLimits,
    /// Logins that fail.
    pub auth: AuthLimits,
}

limits! {
    /// `[limits.net]`: connections of all kinds.
    NetLimits {
        /// Open connections.
        max_connections: usize = "max-connections", 10_000, count();
        /// Open connections from one address.
        max_connections_per_address: usize = "max-connections-per-address", 1_000, count();
        /// Open connections whose handshake of TLS or WebSocket is under way; half of them from one address.
        max_handshakes: usize = "max-handshakes", 1_000, count();
        /// From accept to authenticated, TLS included.
        connect_deadline: Duration = "connect-deadline", Duration::from_secs(10), deadline();
    }
}

limits! {
    /// `[limits.mqtt]`: MQTT clients.
    MqttLimits {
        /// A CONNECT packet.
        max_connect_bytes: ByteSize = "max-connect-bytes", ByteSize::kib(64), packet();
        /// Any other packet.
        max_packet_bytes: ByteSize = "max-packet-bytes", ByteSize::mib(1), packet();
        /// The longest keep-alive; longer ones are shortened to it.
        max_keepalive: Duration = "max-keepalive", Duration::from_secs(600), keepalive();
        /// Unacknowledged messages in each direction.
        receive_maximum: u16 = "receive-maximum", 64, read::integer(1..=u16::MAX);
        /// Topic aliases that a client may set; 0 takes none.
        max_topic_aliases: u16 = "max-topic-aliases", 32, read::integer(0..=1_024);
        /// Topic aliases that are set towards a client which takes them; 0 sets none.
        max_topic_aliases_out: u16 = "max-topic-aliases-out", 32, read::integer(0..=1_024);
        /// Messages waiting for one session.
        session_queue_messages: usize = "session-queue-messages", 10_000, count();
        /// Bytes waiting for one session.
        session_queue_bytes: ByteSize = "session-queue-bytes", ByteSize::mib(16), memory();
        /// Levels of a topic or filter.
        max_topic_levels: usize = "max-topic-levels", 64, read::integer(1..=1_024);
        /// Bytes of a topic or filter.
        max_topic_bytes: ByteSize = "max-topic-bytes", ByteSize::bytes(4_096), topic();
        /// Subscriptions of one session.
        max_filters_per_session: usize = "max-filters-per-session", 1_000, count();
        /// User properties of a packet.
        max_user_properties: usize = "max-user-properties", 64, count();
        /// All properties of a packet.
        max_properties_bytes: ByteSize = "max-properties-bytes", ByteSize::kib(16), packet();
        /// Retained messages.
        retained_count: usize = "retained-count", 100_000, count();
        /// Bytes of all retained messages.
        retained_bytes: ByteSize = "retained-bytes", ByteSize::mib(64), memory();
        /// Retained messages that one principal has set.
        retained_per_principal: usize = "retained-per-principal", 10_000, count();
        /// Sessions, connected or not.
        max_sessions: usize = "max-sessions", 20_000, count();
        /// Sessions of one principal.
        max_sessions_per_principal: usize = "max-sessions-per-principal", 1_000, count();
        /// How often in a second one session may go from one connection to another.
        max_takeovers_per_second: u32 = "max-takeovers-per-second", 10, read::integer(1..=1_000);
        /// The longest session expiry; longer ones are shortened to it.
        max_session_expiry: Duration = "max-session-expiry", Duration::from_secs(7 * 86_400), expiry();
    }
}

limits! {
    /// `[limits.coap]`: CoAP endpoints.
    CoapLimits {
        /// A body, put together from blocks.
        max_body: ByteSize = "max-body", ByteSize::kib(256), packet();
        /// Uploads whose last block has not come.
        partial_uploads_total: usize = "partial-uploads-total", 64, count();
        /// The same from one endpoint.
        partial_uploads_per_endpoint: usize = "partial-uploads-per-endpoint", 4, count();
        /// Observers of all resources.
        observers_total: usize = "observers-total", 1_000, count();
        /// Observations of one endpoint.
        observers_per_endpoint: usize = "observers-per-endpoint", 16, count();
        /// How many times a request's size an answer to an unverified address may have.
        unverified_amplification: u32 = "unverified-amplification", 3, read::integer(1..=100);
        /// How long a message id is remembered.
        dedup_lifetime: Duration = "dedup-lifetime", Duration::from_secs(247), deadline();
        /// How many message ids are remembered.
        dedup_entries: usize = "dedup-entries", 32_768, count();
    }
}

limits! {
    /// `[limits.opcua]`: OPC UA servers.
    OpcUaLimits {
        /// A message, put together from chunks.
        max_message: ByteSize = "max-message", ByteSize::mib(4), memory();
        /// Chunks of a message.
        max_chunks: usize = "max-chunks", 64, count();
        /// All messages together that are being put together.
        max_reassembly: ByteSize = "max-reassembly", ByteSize::mib(32), memory();
        /// Items of an array.
        max_array: usize = "max-array", 65_536, count();
        /// Bytes of a string.
        max_string: ByteSize = "max-string", ByteSize::mib(1), memory();
        /// Depth of nested values.
        max_depth: usize = "max-depth", 32, depth();
    }
}

limits! {
    /// `[limits.http]`: HTTP clients.
    HttpLimits {
        /// For the head of a request.
        header_deadline: Duration = "header-deadline", Duration::from_secs(10), deadline();
        /// For the body of a request.
        body_deadline: Duration = "body-deadline", Duration::from_secs(30), deadline();
        /// For an answer that the client does not read.
        write_deadline: Duration = "write-deadline", Duration::from_secs(30), deadline();
        /// Between requests.
        idle_deadline: Duration = "idle-deadline", Duration::from_secs(60), deadline();
        /// Bytes of the head.
        max_header_bytes: ByteSize = "max-header-bytes", ByteSize::kib(16), head();
        /// Fields of the head.
        max_header_count: usize = "max-header-count", 100, read::integer(1..=10_000);
        /// Bytes of the body.
        max_body_bytes: ByteSize = "max-body-bytes", ByteSize::mib(1), memory();
    }
}

limits! {
    /// `[limits.json]`: JSON, whoever sends it.
    JsonLimits {
        /// Depth of nested values.
        max_depth: usize = "max-depth", 32, depth();
    }
}

limits! {
    /// `[limits.downlink]`: what comes down from clouds.
    DownlinkLimits {
        /// A message as it arrives.
        max_wire: ByteSize = "max-wire", ByteSize::kib(256), memory();
        /// A message after decompression.
        max_inflated: ByteSize = "max-inflated", ByteSize::mib(1), memory();
        /// How many times its size a message may be after decompression.
        max_ratio: u32 = "max-ratio", 100, read::integer(1..=1_100);
        /// Depth of nested values.
        max_depth: usize = "max-depth", 32, depth();
    }
}

limits! {
    /// `[limits.auth]`: logins that fail.
    AuthLimits {
        /// Failures, per address and per name, before answers are delayed.
        failures: u32 = "failures", 5, read::integer(1..=1_000);
        /// The longest delay; each failure doubles it until then.
        delay_max: Duration = "delay-max", Duration::from_secs(60), delay();
    }
}

const MEMORY_CEILING_DEFAULT: ByteSize = ByteSize::mib(128);

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_ceiling: MEMORY_CEILING_DEFAULT,
            net: NetLimits::default(),
            mqtt: MqttLimits::default(),
            coap: CoapLimits::default(),
            opcua: OpcUaLimits::default(),
            http: HttpLimits::default(),
            json: JsonLimits::default(),
            downlink: DownlinkLimits::default(),
            auth: AuthLimits::default(),
        }
    }
}

impl Limits {
    pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Self> {
        let ceiling = read::byte_size_within(ByteSize::mib(16)..=ByteSize::gib(1_024));
        let limits = Self {
            memory_ceiling: table.optional_or(
                "memory-ceiling",
                MEMORY_CEILING_DEFAULT,
                ceiling,
                issues,
            ),
            net: section(&mut table, "net", NetLimits::read, NetLimits::check, issues),
            mqtt: section(&mut table, "mqtt", MqttLimits::read, MqttLimits::check, issues),
            coap: section(&mut table, "coap", CoapLimits::read, CoapLimits::check, issues),
            opcua: section(&mut table, "opcua", OpcUaLimits::read, OpcUaLimits::check, issues),
            http: section(&mut table, "http", HttpLimits::read, |_, _, _| (), issues),
            json: section(&mut table, "json", JsonLimits::read, |_, _, _| (), issues),
            downlink: section(
                &mut table,
                "downlink",
                DownlinkLimits::read,
                DownlinkLimits::check,
                issues,
            ),
            auth: section(&mut table, "auth", AuthLimits::read, |_, _, _| (), issues),
        };
        table.finish(issues);
        Some(limits)
    }
}

impl NetLimits {
    fn check(&self, table: &TableReader<'_>, issues: &mut Issues) {
        let (part, whole) = ("max-connections-per-address", "max-connections");
        ordered(
            table,
            (part, self.max_connections_per_address),
            (whole, self.max_connections),
            issues,
        );
    }
}

impl MqttLimits {
    fn check(&self, table: &TableReader<'_>, issues: &mut Issues) {
        let per_principal = ("max-sessions-per-principal", self.max_sessions_per_principal);
        ordered(table, per_principal, ("max-sessions", self.max_sessions), issues);
        let per_principal = ("retained-per-principal", self.retained_per_principal);
        ordered(table, per_principal, ("retained-count", self.retained_count), issues);
        let topic = ("max-topic-bytes", self.max_topic_bytes);
        ordered(table, topic, ("max-packet-bytes", self.max_packet_bytes), issues);
        let properties = ("max-properties-bytes", self.max_properties_bytes);
        ordered(table, properties, ("max-packet-bytes", self.max_packet_bytes), issues);
        let packet = ("max-packet-bytes", self.max_packet_bytes);
        ordered(table, packet, ("session-queue-bytes", self.session_queue_bytes), issues);
    }
}

impl CoapLimits {
    fn check(&self, table: &TableReader<'_>, issues: &mut Issues) {
        let part = ("partial-uploads-per-endpoint", self.partial_uploads_per_endpoint);
        ordered(table, part, ("partial-uploads-total", self.partial_uploads_total), issues);
        let part = ("observers-per-endpoint", self.observers_per_endpoint);
        ordered(table, part, ("observers-total", self.observers_total), issues);
    }
}

impl OpcUaLimits {
    fn check(&self, table: &TableReader<'_>, issues: &mut Issues) {
        let message = ("max-message", self.max_message);
        ordered(table, message, ("max-reassembly", self.max_reassembly), issues);
        ordered(table, ("max-string", self.max_string), message, issues);
    }
}

impl DownlinkLimits {
    fn check(&self, table: &TableReader<'_>, issues: &mut Issues) {
        let wire = ("max-wire", self.max_wire);
        ordered(table, wire, ("max-inflated", self.max_inflated), issues);
    }
}

/// Reads a table of limits that may be left out.
fn section<L: Default>(
    table: &mut TableReader<'_>,
    key: &'static str,
    read: impl FnOnce(&mut TableReader<'_>, &mut Issues) -> L,
    check: impl FnOnce(&L, &TableReader<'_>, &mut Issues),
    issues: &mut Issues,
) -> L {
    let read_section = |mut table: TableReader<'_>, issues: &mut Issues| {
        let limits = read(&mut table, issues);
        check(&limits, &table, issues);
        table.finish(issues);
        Some(limits)
    };
    table.table(key, read_section, issues).unwrap_or_default()
}

/// Notes a part that is larger than its whole.
fn ordered<V: PartialOrd + std::fmt::Display>(
    table: &TableReader<'_>,
    (part_key, part): (&str, V),
    (whole_key, whole): (&str, V),
    issues: &mut Issues,
) {
    if part > whole {
        let written = if table.has(part_key) { part_key } else { whole_key };
        issues.error(
            table.value_span(written),
            format!("`{part_key}`, {part}, is more than `{whole_key}`, {whole}"),
            format!("lower `{part_key}` or raise `{whole_key}`"),
        );
    }
}

/// A parser of one value.
trait Parser<T>: Fn(&tidegate_settings::Node, &mut Issues) -> Option<T> {}
impl<T, F: Fn(&tidegate_settings::Node, &mut Issues) -> Option<T>> Parser<T> for F {}

fn count() -> impl Parser<usize> {
    read::integer(1..=10_000_000)
}

fn depth() -> impl Parser<usize> {
    // Deeper values are refused by the decoders themselves.
    read::integer(1..=32)
}

fn deadline() -> impl Parser<Duration> {
    read::duration_within(Duration::from_millis(10)..=Duration::from_secs(3_600))
}

fn delay() -> impl Parser<Duration> {
    read::duration_within(Duration::from_secs(1)..=Duration::from_secs(3_600))
}

fn keepalive() -> impl Parser<Duration> {
    // The protocol counts seconds in 16 bits.
    read::duration_within(Duration::from_secs(1)..=Duration::from_secs(65_535))
}

fn expiry() -> impl Parser<Duration> {
    read::duration_within(Duration::from_secs(1)..=Duration::from_secs(366 * 86_400))
}

fn packet() -> impl Parser<ByteSize> {
    // The longest packet of MQTT has 256 MiB.
    read::byte_size_within(ByteSize::bytes(128)..=ByteSize::mib(256))
}

/// Retained messages and subscriptions are stored under their topics, and a key has 8 KiB at most.
fn topic() -> impl Parser<ByteSize> {
    read::byte_size_within(ByteSize::bytes(1)..=ByteSize::kib(7))
}

fn head() -> impl Parser<ByteSize> {
    read::byte_size_within(ByteSize::kib(1)..=ByteSize::mib(1))
}

fn memory() -> impl Parser<ByteSize> {
    read::byte_size_within(ByteSize::kib(1)..=ByteSize::gib(16))
}
