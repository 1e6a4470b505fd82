//! What the specification asks to be shown without a server (its section 11).

mod data;
mod interfaces;
mod purge;
mod routes;
mod session;

use std::fmt::Write as _;

use crate::{Device, DeviceId, Interface, Interfaces, Realm};

/// The device of the examples.
fn device() -> Device {
    let id = DeviceId::new("V_zv6ThCCtXWveQ8mPjsKg").unwrap();
    Device::new(Realm::new("test").unwrap(), id)
}

/// An interface by its head and its mappings, each as endpoint, type and what else it says.
fn json(head: &str, mappings: &[(&str, &str, &str)]) -> String {
    let mut text = format!("{{{head},\"mappings\":[");
    for (index, (endpoint, kind, more)) in mappings.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, r#"{comma}{{"endpoint":"{endpoint}","type":"{kind}"{more}}}"#).unwrap();
    }
    text + "]}"
}

fn head(name: &str, kind: &str, owner: &str, more: &str) -> String {
    format!(
        r#""interface_name":"{name}","version_major":1,"version_minor":2,"type":"{kind}","ownership":"{owner}"{more}"#
    )
}

#[track_caller]
fn interface(head: &str, mappings: &[(&str, &str, &str)]) -> Interface {
    Interface::from_json(json(head, mappings).as_bytes()).unwrap()
}

/// One interface of each kind.
fn interfaces() -> Interfaces {
    let stamped = r#","explicit_timestamp":true,"reliability":"guaranteed""#;
    Interfaces::new([
        interface(
            &head("org.example.Values", "datastream", "device", ""),
            &[("/%{room}/temp", "double", ""), ("/%{room}/count", "longinteger", "")],
        ),
        interface(
            &head("org.example.Env", "datastream", "device", r#","aggregation":"object""#),
            &[("/%{room}/temp", "double", stamped), ("/%{room}/hum", "double", stamped)],
        ),
        interface(
            &head("org.example.edge.Config", "properties", "device", ""),
            &[
                ("/enabled", "boolean", ""),
                ("/period", "integer", r#","allow_unset":true"#),
                ("/names", "stringarray", ""),
            ],
        ),
        interface(
            &head("org.example.Setpoint", "properties", "server", ""),
            &[("/%{press}/pressure", "double", r#","allow_unset":true"#)],
        ),
        interface(
            &head("org.example.Orders", "datastream", "server", ""),
            &[("/%{press}/text", "string", r#","reliability":"unique""#)],
        ),
    ])
    .unwrap()
}
