//! Connections whose tasks end without a word (broker.13).

use tidegate_model::ClientId;
use tokio::time::sleep;

use super::*;

/// broker.13: a listener that is gone, as one whose accepting has panicked, takes its connections with it; each session
/// is left as if the connection had broken: the will is published, and the session waits for its client.
#[tokio::test]
async fn broker_13_an_aborted_connection_leaves_its_session() {
    let mut rig = Rig::open().await;
    let client = rig.join("left").await;
    assert_eq!(rig.broker.core().summary().connected, 2);
    rig.task.shutdown().await;
    let left = async {
        while rig.broker.core().summary().connected > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, left).await.expect("the sessions are left");
    let will = Topic::new("will").unwrap();
    let published = async {
        while rig.broker.core().last(&will).is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, published).await.expect("the will is published");
    let (name, client_id) = (Principal::new("u").unwrap(), ClientId::new("left").unwrap());
    assert!(rig.broker.core().has_session(&name, &client_id), "it outlives its connection");
    drop(client);
    rig.store.stop().unwrap();
}
