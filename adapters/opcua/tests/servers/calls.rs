//! Methods of a server (main.14).

use serde_json::json;
use tidegate_model::OutcomeKind;

use crate::support::{check, shown};

const PRESS: &str = "nsu=urn:example:press;s=Press.{n}";
const RESET: (&str, &str) = (PRESS, "nsu=urn:example:press;s=Press.{n}.Reset");
const UNKNOWN: (&str, &str) = (PRESS, "nsu=urn:example:press;s=Press.{n}.Explode");

#[tokio::test]
async fn main_14_a_method_is_called_and_its_output_returns() {
    check(&["i=2258"], &[RESET, UNKNOWN], async |mut server, gateway| {
        gateway.reading(1).await;
        let expected = r#"[10.0,{"Mode":2,"Temperature":21.5,"Names":["slow"],"Drive":{"Speed":5,"Current":0.5},"Alarm":7}]"#;
        for arguments in [r#"[5,"slow"]"#, r#"{"Mode":"slow","Speed":5}"#] {
            let outcome = gateway.call(2, arguments).await;
            assert_eq!(outcome.kind, OutcomeKind::Confirmed, "{outcome:?}");
            assert_eq!(outcome.value.as_ref().map(shown).as_deref(), Some(expected));
            assert_eq!(server.ask("calls", json!({})), json!([[5, "UInt16", "slow"]]));
        }
    })
    .await;
}

#[tokio::test]
async fn main_14_a_call_that_fails_says_why() {
    check(&["i=2258"], &[RESET, UNKNOWN], async |mut server, gateway| {
        gateway.reading(1).await;
        #[rustfmt::skip]
        let cases = [
            (2, r#"[-1,"slow"]"#,   None,               "argument `Speed`: -1 does not fit"),
            (2, r#"[5]"#,           None,               "2 arguments (`Speed`, `Mode`), 1 given"),
            (2, r#"{"Sped":5}"#,    None,               "no argument `Sped`"),
            (2, r#"[1001,"slow"]"#, Some(0x803C_0000),  "BadOutOfRange"),
            (3, r#"[5,"slow"]"#,    Some(0x8033_0000),  "BadNodeIdInvalid"),
        ];
        for (point, arguments, status, reason) in cases {
            let outcome = gateway.call(point, arguments).await;
            assert_eq!(outcome.kind, OutcomeKind::Refused, "{arguments}: {outcome:?}");
            assert_eq!(outcome.status.map(|status| status.code()), status, "{outcome:?}");
            assert!(
                outcome.reason.as_ref().is_some_and(|text| text.contains(reason)),
                "{outcome:?}"
            );
            assert!(outcome.value.is_none());
        }
        assert_eq!(server.ask("calls", json!({})), json!([[1001, "UInt16", "slow"]]));
    })
    .await;
}
