//! The way back.

use proptest::prelude::*;
use tidegate_model::{Captures, Principal, Value};

use super::{set, topic, value};
use crate::{Address, MappingSet};

const WRITABLE: &str = r#"
[[opcua]]
server = "plc7"
node = "nsu=urn:p;s=Press.{n}.{what*}"
topic = "hall1/{what}/press-{n}"
writable = true

[[opcua]]
server = "plc7"
node = "nsu=urn:p;s=Oven"
topic = "hall1/oven/press-1"
writable = { min = 0, max = 90, principals = ["operators", "uplink:*"] }
type = "float"

[[opcua]]
server = "plc7"
node = "nsu=urn:p;s=Lamp"
topic = "hall1/lamp"
"#;

/// Returns the node that a command on `at` would be written to.
fn target(set: &MappingSet, at: &str) -> Option<String> {
    let target = set.command_target(&topic(at))?;
    let Address::OpcUa(address) = target.entry.address() else { panic!("an OPC UA entry") };
    Some(address.node.fill(&target.captures)?.to_string())
}

/// main.13, main.14: topics lead back to addresses.
#[test]
fn a_topic_leads_to_the_address_behind_it() {
    let set = set(WRITABLE);
    #[rustfmt::skip]
    let cases = [
        ("hall1/Setpoint/press-7",          Some("nsu=urn:p;s=Press.7.Setpoint")),
        ("hall1/A%2FB/press-7",             Some("nsu=urn:p;s=Press.7.A/B")),
        ("hall1/oven/press-1",              Some("nsu=urn:p;s=Oven")),          // more literal levels
        ("hall1/oven/press-2",              Some("nsu=urn:p;s=Press.2.oven")),
        ("hall1/Setpoint/press-",           None),
        ("hall1/Setpoint/press-7/set",      None),
        ("hall1/lamp",                      None),                              // not writable
        ("hall1/Set%70oint/press-7",        None),                              // no spelling of ours
        ("hall1/Set%2fpoint/press-7",       None),
    ];
    for (at, expected) in cases {
        assert_eq!(target(&set, at).as_deref(), expected, "{at}");
    }
}

#[test]
fn only_who_may_writes_what_is_allowed() {
    let set = set(WRITABLE);
    #[rustfmt::skip]
    let cases = [
        (1, "operators",    "66.5",     Ok("66.5")),
        (1, "operators",    "66",       Ok("66.0")),
        (1, "uplink:cloud", "90",       Ok("90.0")),
        (1, "operators",    "90.5",     Err("90.5 is above the maximum of 90")),
        (1, "operators",    "-1",       Err("-1.0 is below the minimum of 0")),
        (1, "operators",    "\"hot\"",  Err("expected float, found the string \"hot\"")),
        (1, "operators",    "null",     Err("expected a number, found null")),
        (1, "anonymous",    "66.5",     Err("`anonymous` may not command here")),
        (0, "anonymous",    "{\"a\":1}", Ok("{\"a\":1}")),
        (2, "operators",    "1",        Err("the mapping is not writable")),
    ];
    for (index, principal, input, expected) in cases {
        let principal = Principal::new(principal).unwrap();
        let checked = set.entries()[index].check_command(&value(input), &principal);
        let checked = checked.map(|value| value.to_string()).map_err(|error| error.to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(checked, expected, "{input} by {principal} to {index}");
    }
    let nan = set.entries()[1]
        .check_command(&Value::Double(f64::NAN), &Principal::new("operators").unwrap());
    assert!(nan.is_err());
}

const METHODS: &str = r#"
[[opcua]]
server = "plc7"
node = "nsu=urn:p;s=Press.{n}"
method = "nsu=urn:p;s=Press.{n}.Reset"
topic = "hall1/press-{n}/reset"
principals = ["operators"]

[[opcua]]
server = "plc7"
node = "nsu=urn:p;s=Press.{n}"
method = "nsu=urn:p;i=77"
topic = "hall1/press-{n}/stop"
"#;

/// main.14: an entry with a method takes calls, of whom it says.
#[test]
fn a_topic_leads_to_the_method_behind_it() {
    let set = set(METHODS);
    assert_eq!(target(&set, "hall1/press-7/reset").as_deref(), Some("nsu=urn:p;s=Press.7"));
    let Address::OpcUa(address) = set.entries()[1].address() else { panic!("an OPC UA entry") };
    assert_eq!(address.method.as_ref().map(ToString::to_string).as_deref(), Some("nsu=urn:p;i=77"));
    #[rustfmt::skip]
    let cases = [
        (0, "operators",    Ok(())),
        (0, "anonymous",    Err("`anonymous` may not command here")),
        (1, "anonymous",    Ok(())),
    ];
    for (index, principal, expected) in cases {
        let principal = Principal::new(principal).unwrap();
        let entry = &set.entries()[index];
        let checked = entry.check_call(&principal).map_err(|error| error.to_string());
        assert_eq!(checked, expected.map_err(str::to_owned), "{principal} to {index}");
        assert!(entry.check_command(&Value::Integer(1), &principal).is_err());
    }
    let writable = super::set(WRITABLE);
    let checked = writable.entries()[0].check_call(&Principal::anonymous());
    assert_eq!(checked.unwrap_err().to_string(), "the point takes writes only (…/set)");
}

proptest! {
    /// A command on the topic of a reading goes to where the reading came from.
    #[test]
    fn a_command_goes_back_where_the_reading_came_from(n in "[^./]{1,8}", what in ".{1,12}") {
        let set = set(WRITABLE);
        let captures = Captures::new([n.as_str().into(), what.as_str().into()]);
        let topic = set.entries()[0].topic(&captures).unwrap();
        if topic.as_str() != "hall1/oven/press-1" {
            let target = set.command_target(&topic).unwrap();
            prop_assert_eq!(target.entry.index(), 0);
            prop_assert_eq!(target.captures, captures);
        }
    }
}
