use proptest::prelude::*;

use super::*;

fn device() -> HubDevice {
    HubDevice::new("gw-1").unwrap()
}

#[test]
fn ids_are_those_that_stand_in_a_topic() {
    for good in ["gw-1", "a", "A.b_c:d=e@f!*'(),$?%", &"x".repeat(128)] {
        assert!(HubDevice::new(good).is_ok(), "{good}");
    }
    for bad in ["", "a/b", "a+b", "#", "ü", "a b", &"x".repeat(129)] {
        assert_eq!(HubDevice::new(bad), Err(HubDeviceIdError), "{bad}");
    }
}

/// uplink.24: a token as another implementation signs it (Python's hmac, base64 and urllib).
#[test]
fn uplink_24_tokens_are_signed_as_the_service_checks_them() {
    let key = SharedAccessKey::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n").unwrap();
    let signer = HubSigner { key, policy: None, lifetime: Duration::from_secs(3_600) };
    let token = |signer| device().token("contoso.azure-devices.net", signer, 1_767_225_600);
    let expected = "SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices%2Fgw-1\
                    &sig=O%2B2qOimL9DjXHv29E2DxqXafcfNyJpHyoUBUdrDFPX4%3D&se=1767225600";
    assert_eq!(token(&signer), expected);
    let of_policy = HubSigner { policy: Some("device".into()), ..signer.clone() };
    assert_eq!(token(&of_policy), format!("{expected}&skn=device"));
    assert!(!format!("{signer:?}").contains("MDEy"));
    for bad in ["", "no base64", "MDEy=="] {
        assert!(SharedAccessKey::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_topic_carries_properties_both_ways() {
    let properties = [("$.ct", "application/json"), ("$.ce", "utf-8"), ("topic", "hall1/a b")];
    assert_eq!(
        device().event_topic(properties),
        "devices/gw-1/messages/events/$.ct=application%2Fjson&$.ce=utf-8&topic=hall1%2Fa%20b"
    );
    assert_eq!(device().event_topic([]), "devices/gw-1/messages/events/");
    let down = |topic: &str| device().read(topic);
    let bag = "devices/gw-1/messages/devicebound/%24.mid=7&topic=hall1%2Fset&empty=&null&bad=%f";
    let Some(HubDown::Message(properties)) = down(bag) else { panic!("no message") };
    for (name, expected) in [
        ("$.mid", Some("7")),
        ("topic", Some("hall1/set")),
        ("empty", Some("")),
        ("null", Some("")),
        ("bad", None),
    ] {
        assert_eq!(properties.get(name), expected, "{name}");
    }
    let method = HubDown::Method { name: "set".into(), request: "1f".into() };
    assert_eq!(down("$iothub/methods/POST/set/?$rid=1f"), Some(method));
    for other in [
        "devices/gw-10/messages/devicebound/",
        "devices/gw-2/messages/devicebound/",
        "$iothub/methods/POST/set",
        "$iothub/methods/POST/set/?$rid=",
        "$iothub/methods/POST/set/?$rid=a%2Fb",
        "$iothub/methods/POST/set/?$rid=%23",
        "$iothub/twin/res/200/?$rid=1",
    ] {
        assert_eq!(down(other), None, "{other}");
    }
}

#[test]
fn a_direct_method_becomes_an_order_and_its_outcome_a_status() {
    let order = |name, payload: &str| method_order(name, payload.as_bytes(), &Limits::DOWNLINK);
    let set = order("set", r#"{"value":66.5,"topic":"hall1/setpoint","id":"c-1"}"#).unwrap();
    assert_eq!(set.target, "hall1/setpoint");
    assert_eq!(set.body, br#"{"value":66.5,"id":"c-1"}"#);
    let call = order("call", r#"{"topic":"hall1/reset","args":[1],"id":"c-2"}"#).unwrap();
    assert_eq!(call.target, "hall1/reset/call");
    for (name, payload, status) in [
        ("reboot", r#"{"topic":"a","value":1}"#, 404),
        ("set", "", 400),
        ("set", "null", 400),
        ("set", r#"{"value":1}"#, 400),
        ("set", r#"{"topic":7,"value":1}"#, 400),
        ("set", r#"{"topic":"a"}"#, 400),
        ("call", r#"{"topic":"a","args":[]}"#, 400),
    ] {
        assert_eq!(order(name, payload).unwrap_err().status, status, "{name} {payload}");
    }
    let answer = HubDevice::answer("1f");
    let topic = HubDevice::answer_topic(&answer, 202);
    assert_eq!(topic.as_deref(), Some("$iothub/methods/res/202/?$rid=1f"));
    assert_eq!(HubDevice::answer_topic("results/a", 200), None);
    for (outcome, status) in [
        (r#"{"outcome":"confirmed"}"#, 200),
        (r#"{"id":"c","outcome":"accepted"}"#, 202),
        (r#"{"outcome":"refused"}"#, 400),
        (r#"{"outcome":"expired"}"#, 408),
        (r#"{"outcome":"busy"}"#, 429),
        ("[]", 500),
    ] {
        assert_eq!(method_status(outcome.as_bytes()), status, "{outcome}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_down_is_read_or_left(topic in ".{0,80}", payload in any::<Vec<u8>>()) {
        let _ = device().read(&topic);
        let _ = device().read(&format!("devices/gw-1/messages/devicebound/{topic}"));
        let _ = device().read(&format!("{METHODS}{topic}"));
        let _ = method_order("set", &payload, &Limits::DOWNLINK);
        let _ = method_status(&payload);
    }
}
