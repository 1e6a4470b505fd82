//! Structures and matrices of a server, by the definitions it gives (main.12).

use serde_json::json;

use crate::support::{check, shown};

const STATE: &str = "nsu=urn:example:press;s=Press.1.State";
const TEMPERATURE: &str = "nsu=urn:example:press;s=Press.1.Temperature";
const MATRIX: &str = "nsu=urn:example:press;s=Press.1.Matrix";
/// The server's state: a structure of the standard, whose definition asyncua does not give.
const SERVER_STATUS: &str = "i=2256";

#[tokio::test]
async fn main_12_a_structure_arrives_as_a_document() {
    check(&[STATE], &[], async |mut server, gateway| {
        let first = gateway.reading(1).await;
        let expected = r#"{"Mode":2,"Temperature":20.0,"Names":["a","b"],"Drive":{"Speed":1,"Current":0.5}}"#;
        assert_eq!((shown(&first.value).as_str(), first.status.code()), (expected, 0));
        let state = json!({"node": "Press.1.State", "temperature": 21.5, "speed": 65_535, "names": [], "alarm": 7});
        server.ask("set_state", state);
        let second = gateway.reading(1).await;
        let expected = r#"{"Mode":2,"Temperature":21.5,"Names":[],"Drive":{"Speed":65535,"Current":0.5},"Alarm":7}"#;
        assert_eq!(shown(&second.value), expected);
        assert_eq!(gateway.count("opcua_values", "undecoded"), 0);
    })
    .await;
}

/// Other values of the server do not wait for the layout of one.
#[tokio::test]
async fn main_12_a_layout_that_comes_late_holds_up_its_own_values_only() {
    check(&[STATE, TEMPERATURE], &[], async |mut server, gateway| {
        server.ask("hold_types", json!({}));
        assert_eq!(shown(&gateway.reading(2).await.value), "20.0");
        assert_eq!(gateway.waiting(1), 0);
        server.ask("release_types", json!({}));
        let state = gateway.reading(1).await;
        assert!(shown(&state.value).starts_with(r#"{"Mode":2,"Temperature":20.0,"#), "{state:?}");
        assert_eq!(gateway.count("opcua_values", "undecoded"), 0);
    })
    .await;
}

#[tokio::test]
async fn main_12_matrices_and_the_standards_structures_arrive() {
    check(&[MATRIX, SERVER_STATUS], &[], async |_server, gateway| {
        let matrix = gateway.reading(1).await;
        assert_eq!(shown(&matrix.value), "[[1,2,3],[4,5,6]]");
    })
    .await;
    check(&[SERVER_STATUS], &[], async |_server, gateway| {
        let status = shown(&gateway.reading(1).await.value);
        assert!(status.starts_with(r#"{"StartTime":"2"#), "{status}");
        assert!(status.contains(r#""State":0,"BuildInfo":{"ProductUri":"#), "{status}");
    })
    .await;
}
