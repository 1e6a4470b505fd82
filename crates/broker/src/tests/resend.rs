//! What a client that is back is sent again.

use super::*;

impl House {
    fn connect_with_window(&mut self, receive_maximum: u16) -> Attachment {
        self.connections += 1;
        let request = ConnectRequest {
            principal: Principal::anonymous(),
            credential: CredentialId::new([1; 16]),
            client_id: ClientId::new("a").unwrap(),
            clean_start: false,
            expiry: Expiry::After(HOUR),
            will: None,
            receive_maximum,
            connection: ConnectionId(self.connections),
            wake: Arc::new(Bell::default()),
        };
        let mut outcome = self.core.connect(request, self.now).unwrap();
        self.store(std::mem::take(&mut outcome.transactions));
        outcome.attachment
    }
}

/// MQTT-3.3.4-9: a client that allows less than before gets no more at once, of repetitions either.
#[test]
fn repetitions_keep_to_the_receive_maximum() {
    let mut house = House::new();
    let attachment = house.connect_with_window(10);
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    for (payload, qos) in
        [("1", Qos::ExactlyOnce), ("2", Qos::AtLeastOnce), ("3", Qos::AtLeastOnce)]
    {
        house.publish("t", payload, qos);
    }
    assert_eq!(house.take(attachment), ["t=1/1", "t=2/2", "t=3/3"]);
    let transaction = house.core.received(attachment, 1).unwrap().expect("it is in flight");
    house.store(transaction);

    let attachment = house.connect_with_window(2);
    house.publish("t", "4", Qos::AtLeastOnce);
    assert!(house.core.has_due(attachment));
    assert_eq!(house.take(attachment), ["release/1", "t=2/2!"]);
    assert!(!house.core.has_due(attachment));
    assert!(house.core.completed(attachment, 1).unwrap().0);
    assert!(house.core.has_due(attachment));
    assert_eq!(house.take(attachment), ["t=3/3!"]);
    house.acknowledge(attachment, 2);
    assert_eq!(house.take(attachment), ["t=4/4"]);
}
