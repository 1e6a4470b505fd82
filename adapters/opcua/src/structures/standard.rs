//! Structures of the standard itself, whose definitions many servers leave out.

use std::{collections::HashMap, sync::Arc};

use opcua::types::{DataTypeId, NodeId, ObjectId};

use super::{Field, Form, Kind, Known, Layout};

/// Numbers of built-in types (OPC 10000-6, section 5.1.2).
const INT16: u8 = 4;
const INT32: u8 = 6;
const UINT32: u8 = 7;
const FLOAT: u8 = 10;
const DOUBLE: u8 = 11;
const BOOLEAN: u8 = 1;
const STRING: u8 = 12;
const DATE_TIME: u8 = 13;
const LOCALIZED_TEXT: u8 = 21;

/// A structure without optional fields: data type, binary encoding, fields.
type Entry = (DataTypeId, ObjectId, &'static [(&'static str, u8)]);

#[rustfmt::skip]
const ENTRIES: [Entry; 7] = [
    (DataTypeId::Range, ObjectId::Range_Encoding_DefaultBinary,
        &[("Low", DOUBLE), ("High", DOUBLE)]),
    (DataTypeId::EUInformation, ObjectId::EUInformation_Encoding_DefaultBinary,
        &[("NamespaceUri", STRING), ("UnitId", INT32), ("DisplayName", LOCALIZED_TEXT), ("Description", LOCALIZED_TEXT)]),
    (DataTypeId::BuildInfo, ObjectId::BuildInfo_Encoding_DefaultBinary,
        &[("ProductUri", STRING), ("ManufacturerName", STRING), ("ProductName", STRING), ("SoftwareVersion", STRING),
          ("BuildNumber", STRING), ("BuildDate", DATE_TIME)]),
    (DataTypeId::TimeZoneDataType, ObjectId::TimeZoneDataType_Encoding_DefaultBinary,
        &[("Offset", INT16), ("DaylightSavingInOffset", BOOLEAN)]),
    (DataTypeId::ComplexNumberType, ObjectId::ComplexNumberType_Encoding_DefaultBinary,
        &[("Real", FLOAT), ("Imaginary", FLOAT)]),
    (DataTypeId::DoubleComplexNumberType, ObjectId::DoubleComplexNumberType_Encoding_DefaultBinary,
        &[("Real", DOUBLE), ("Imaginary", DOUBLE)]),
    (DataTypeId::XVType, ObjectId::XVType_Encoding_DefaultBinary,
        &[("X", DOUBLE), ("Value", FLOAT)]),
];

/// Returns the layouts by data type and by encoding.
pub(super) fn layouts() -> HashMap<NodeId, Known> {
    let plain = |(data_type, encoding, fields): Entry| {
        let fields = fields.iter().map(|(name, number)| field(name, Kind::BuiltIn(*number)));
        (data_type, encoding, fields.collect())
    };
    let status = (
        DataTypeId::ServerStatusDataType,
        ObjectId::ServerStatusDataType_Encoding_DefaultBinary,
        vec![
            field("StartTime", Kind::BuiltIn(DATE_TIME)),
            field("CurrentTime", Kind::BuiltIn(DATE_TIME)),
            field("State", Kind::BuiltIn(INT32)),
            field("BuildInfo", Kind::Inline(DataTypeId::BuildInfo.into())),
            field("SecondsTillShutdown", Kind::BuiltIn(UINT32)),
            field("ShutdownReason", Kind::BuiltIn(LOCALIZED_TEXT)),
        ],
    );
    let mut known = HashMap::new();
    for (data_type, encoding, fields) in ENTRIES.into_iter().map(plain).chain([status]) {
        let layout = Known::Layout(Arc::new(Layout { form: Form::Plain, fields }));
        known.insert(data_type.into(), layout.clone());
        known.insert(encoding.into(), layout);
    }
    known
}

fn field(name: &str, kind: Kind) -> Field {
    Field { name: name.into(), kind, dimensions: 0, optional: false }
}
