//! What a message carries, taken apart value by value (OPC 10000-4, section 7.25.2).
//!
//! The library reads a message as a whole: one value that it does not take would cost all of them, and the
//! connection. So the part with the values is left as bytes until it is here.

use std::io::Read;

use opcua::types::{
    BinaryDecodable as _, Context, DataTypeId, DataValue, DynEncodable, Error, GeneratedTypeLoader,
    MonitoredItemNotification, NodeId, NotificationMessage, ObjectId, StatusChangeNotification,
    StatusCode, TypeLoader, TypeLoaderCollection, TypeLoaderPriority,
    type_loader::{ByteStringBody, FallbackTypeLoader},
};

use crate::value::DataValueBytes;

/// The bit of a status that says that values were dropped (OPC 10000-4, section 7.39.1).
const OVERFLOW: u32 = 0x480;
/// Fewer bytes than this hold no value: its handle, and a byte of the value itself.
const VALUE_BYTES_MIN: usize = 5;

/// A message, read.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Content {
    /// The values; one that cannot be read is empty, and its status bad.
    pub(super) values: Vec<MonitoredItemNotification>,
    /// How many of them cannot be read.
    pub(super) unreadable: u64,
    /// Whether there was more, and its beginning was not to be found.
    pub(super) is_cut: bool,
    /// The status with which the server closed the subscription.
    pub(super) closed: Option<StatusCode>,
}

impl Content {
    /// Reads a message that was decoded with [`loaders`].
    pub(super) fn of(message: NotificationMessage, context: &Context<'_>) -> Self {
        let mut content = Self::default();
        for data in message.notification_data.unwrap_or_default() {
            if let Some(change) = data.inner_as::<StatusChangeNotification>() {
                content.closed = Some(change.status);
            } else if let Some(raw) = data.inner_as::<ByteStringBody>()
                && is_data_change(raw.encoding_id())
            {
                content.take_values(raw.raw_body().as_ref(), context);
            }
        }
        content
    }

    fn take_values(&mut self, mut rest: &[u8], context: &Context<'_>) {
        let count = i32::decode(&mut rest, context).unwrap_or(-1);
        let count = usize::try_from(count).unwrap_or(0);
        self.values.reserve(count.min(rest.len() / VALUE_BYTES_MIN));
        for _ in 0..count {
            let handle = u32::decode(&mut rest, context).ok();
            let value =
                handle.and_then(|handle| Some((handle, DataValueBytes::split_off(&mut rest)?)));
            let Some((client_handle, bytes)) = value else {
                self.is_cut = true;
                return;
            };
            let value = read(bytes, context).unwrap_or_else(|status| {
                self.unreadable += 1;
                unreadable(bytes, status, context)
            });
            self.values.push(MonitoredItemNotification { client_handle, value });
        }
    }
}

/// Reads a data value, all of it.
fn read(bytes: DataValueBytes<'_>, context: &Context<'_>) -> Result<DataValue, StatusCode> {
    let mut rest = bytes.whole;
    let value = DataValue::decode(&mut rest, context).map_err(|error: Error| error.status())?;
    // The library takes a type that it does not know for nothing at all.
    if rest.is_empty() { Ok(value) } else { Err(StatusCode::BadDecodingError) }
}

/// Makes a data value without a value: with the times of the server, and its status if that is bad.
fn unreadable(bytes: DataValueBytes<'_>, status: StatusCode, context: &Context<'_>) -> DataValue {
    let without = DataValue::decode(&mut &bytes.without_value()[..], context);
    let mut value = without.unwrap_or_default();
    let told = value.status();
    if !told.is_bad() {
        let overflow = if told.overflow() { OVERFLOW } else { 0 };
        value.status = Some(StatusCode::from(status.bits() | overflow));
    }
    value
}

/// Returns the loaders with which messages are decoded: the library's own, except for values.
pub(crate) fn loaders() -> TypeLoaderCollection {
    let mut loaders = TypeLoaderCollection::new_empty();
    // Of equal priority, the first one is asked first.
    loaders.add_type_loader(DataChangeAsBytes);
    loaders.add_type_loader(GeneratedTypeLoader);
    loaders.add_type_loader(FallbackTypeLoader);
    loaders
}

/// Leaves the values of a message as bytes.
struct DataChangeAsBytes;

impl TypeLoader for DataChangeAsBytes {
    fn load_from_binary(
        &self,
        node_id: &NodeId,
        stream: &mut dyn Read,
        context: &Context<'_>,
        length: Option<usize>,
    ) -> Option<Result<Box<dyn DynEncodable>, Error>> {
        if !is_data_change(node_id) {
            return None;
        }
        FallbackTypeLoader.load_from_binary(node_id, stream, context, length)
    }

    fn priority(&self) -> TypeLoaderPriority {
        TypeLoaderPriority::Core
    }
}

/// Whether a body holds values; the library takes the data type for the encoding as well.
fn is_data_change(id: &NodeId) -> bool {
    let encoding = ObjectId::DataChangeNotification_Encoding_DefaultBinary as u32;
    let data_type = DataTypeId::DataChangeNotification as u32;
    id.namespace == 0 && id.as_u32().is_some_and(|id| id == encoding || id == data_type)
}

#[cfg(test)]
mod tests {
    use opcua::types::{
        BinaryEncodable as _, ContextOwned, DataChangeNotification, DateTime, DecodingOptions,
        DiagnosticInfo, ExtensionObject, NamespaceMap, Variant,
    };

    use super::*;

    /// The limits under which messages are read here.
    fn context() -> ContextOwned {
        let options = DecodingOptions { max_string_length: 100, ..DecodingOptions::default() };
        ContextOwned::new(NamespaceMap::default(), loaders(), options)
    }

    fn notification(client_handle: u32, value: impl Into<Variant>) -> MonitoredItemNotification {
        MonitoredItemNotification { client_handle, value: DataValue::new_now(value) }
    }

    fn change(values: Vec<MonitoredItemNotification>) -> ExtensionObject {
        let monitored_items = Some(values);
        ExtensionObject::from_message(DataChangeNotification {
            monitored_items,
            diagnostic_infos: None,
        })
    }

    /// Returns what of a message arrives, when `damage` has changed it on its way.
    fn check(data: Vec<ExtensionObject>, damage: impl FnOnce(&mut Vec<u8>)) -> Content {
        let (owned, sending) = (context(), ContextOwned::default());
        let message = NotificationMessage {
            sequence_number: 1,
            publish_time: DateTime::now(),
            notification_data: Some(data),
        };
        let mut bytes = message.encode_to_vec(&sending.context());
        damage(&mut bytes);
        let context = owned.context();
        let message = NotificationMessage::decode(&mut &bytes[..], &context).unwrap();
        Content::of(message, &context)
    }

    fn handles(content: &Content) -> Vec<u32> {
        content.values.iter().map(|value| value.client_handle).collect()
    }

    fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
        let place = bytes.windows(from.len()).position(|window| window == from).unwrap();
        bytes[place..place + to.len()].copy_from_slice(to);
    }

    #[test]
    fn values_and_the_end_of_a_subscription_are_told_apart() {
        let end = StatusChangeNotification {
            status: StatusCode::BadTimeout,
            diagnostic_info: DiagnosticInfo::null(),
        };
        let values = vec![notification(5, 1_i32)];
        let data = vec![change(values.clone()), ExtensionObject::from_message(end)];
        let content = check([data, vec![ExtensionObject::null()]].concat(), |_| {});
        let closed = Some(StatusCode::BadTimeout);
        assert_eq!(content, Content { values, closed, ..Content::default() });
        assert_eq!(check(Vec::new(), |_| {}), Content::default());
    }

    /// main.12, O04: what is wrong with one value costs that value.
    #[test]
    fn main_12_one_value_that_cannot_be_read_leaves_the_others() {
        let long = "x".repeat(101);
        let later = Variant::ByteString(b"ab".as_slice().into());
        #[rustfmt::skip]
        let cases: [(&str, Variant, &[u8], &[u8]); 3] = [
            ("over a limit",    long.into(),        b"",                    b""),
            ("no UTF-8",        "Hydraulik".into(), b"Hydraulik",           b"Hydr\xFFulik"),
            ("a later type",    later,              b"\x0F\x02\0\0\0ab",    b"\x1F"),
        ];
        for (name, value, from, to) in cases {
            let mut bad = notification(2, value);
            bad.value.status = Some(StatusCode::from(OVERFLOW));
            let values = vec![notification(1, 20.5), bad.clone(), notification(3, "text")];
            let content = check(vec![change(values.clone())], |bytes| {
                if !from.is_empty() {
                    replace(bytes, from, to);
                }
            });
            assert_eq!((content.unreadable, content.is_cut), (1, false), "{name}");
            assert_eq!(
                (&content.values[0], &content.values[2]),
                (&values[0], &values[2]),
                "{name}"
            );
            let read = &content.values[1];
            assert_eq!((read.client_handle, &read.value.value), (2, &None), "{name}");
            assert_eq!(read.value.source_timestamp, bad.value.source_timestamp, "{name}");
            let status = read.value.status();
            assert!(status.is_bad() && status.overflow(), "{name}: {status}");
        }
    }

    /// D26: a status that is bad already stays what the server said.
    #[test]
    fn d26_the_servers_own_bad_status_stays() {
        let mut bad = notification(1, "x".repeat(101));
        bad.value.status = Some(StatusCode::BadDeviceFailure);
        let content = check(vec![change(vec![bad])], |_| {});
        assert_eq!(content.values[0].value.status(), StatusCode::BadDeviceFailure);
        assert_eq!(content.unreadable, 1);
    }

    /// Of a message that cannot be followed to its end, what stands in front is kept.
    #[test]
    fn what_stands_in_front_of_garbage_is_kept() {
        let values = vec![notification(1, 20.5), notification(2, "Hydraulik"), notification(3, 1)];
        let long = |bytes: &mut Vec<u8>| {
            replace(bytes, b"\x09\0\0\0Hydraulik", b"\xFF\xFF\xFF\x7F");
        };
        let content = check(vec![change(values)], long);
        assert_eq!((handles(&content), content.is_cut), (vec![1], true));
        let count = |bytes: &mut Vec<u8>| replace(bytes, b"\x01\0\0\0\x01\0\0\0", &[0xFF; 3]);
        let content = check(vec![change(vec![notification(1, 20.5)])], count);
        assert_eq!((handles(&content), content.is_cut), (vec![1], true), "more than there are");
    }
}
