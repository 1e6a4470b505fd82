//! Wills across connections, takeovers and power cuts.

use super::*;

impl House {
    fn publish_will(&mut self, will: &DueWill) {
        let routing = self.core.route_will(will, vec![will.message()], Admission::Open).unwrap();
        self.store(routing.before.into_iter().chain(routing.transaction));
    }
}

fn will(delay: Duration, qos: Qos) -> Option<Will> {
    Some(Will { message: message("will", "gone", qos), delay, expiry: None })
}

/// D11: the will of a connection that the crash ended is published after the restart, once.
#[test]
fn a_will_survives_a_power_cut() {
    let mut house = House::new();
    let will = Will {
        message: message("will", "gone", Qos::AtLeastOnce),
        delay: Duration::from_secs(5),
        expiry: None,
    };
    house.connect("a", Expiry::After(HOUR), true, Some(will));
    let mut house = house.cut_power();
    assert!(house.core.tick(house.now).wills.is_empty(), "its delay has not passed");
    house.now = house.now.saturating_add(Duration::from_secs(5));
    assert_eq!(house.core.tick(house.now).wills.len(), 1);
    // The power goes before it is published.
    let mut house = house.cut_power();
    house.now = house.now.saturating_add(Duration::from_secs(5));
    let tick = house.core.tick(house.now);
    house.store(tick.transactions);
    house.publish_will(&tick.wills[0]);
    let mut house = house.cut_power();
    house.now = house.now.saturating_add(HOUR);
    assert!(house.core.tick(house.now).wills.is_empty(), "it was published");
}

#[test]
fn a_will_is_published_unless_the_client_says_good_bye() {
    let mut house = House::new();
    let will = || {
        Some(Will {
            message: message("will", "gone", Qos::AtMostOnce),
            delay: Duration::ZERO,
            expiry: None,
        })
    };
    let attachment = house.connect("a", Expiry::AtDisconnect, true, will()).attachment;
    assert!(
        house
            .core
            .disconnect(attachment, Disconnect::Normal { expiry: None }, house.now)
            .unwrap()
            .wills
            .is_empty()
    );
    let attachment = house.connect("a", Expiry::AtDisconnect, true, will()).attachment;
    assert_eq!(
        house.core.disconnect(attachment, Disconnect::Abnormal, house.now).unwrap().wills.len(),
        1
    );
}

/// MQTT 5.0, section 3.1.3.2.2: the delay ends with the session, and a session that goes on sends nothing.
#[test]
fn a_delayed_will_follows_its_session() {
    for (clean_start, expected) in [(true, 1), (false, 0)] {
        let mut house = House::new();
        let delay = Duration::from_secs(60);
        let will = will(delay, Qos::AtLeastOnce);
        let attachment = house.connect("a", Expiry::After(HOUR), true, will).attachment;
        let tick = house.core.disconnect(attachment, Disconnect::Abnormal, house.now).unwrap();
        assert!(tick.wills.is_empty());
        house.store(tick.transactions);
        let outcome = house.connect("a", Expiry::After(HOUR), clean_start, None);
        assert_eq!(outcome.wills.len(), expected, "clean start {clean_start}");
        for will in &outcome.wills {
            house.publish_will(will);
        }
        house.now = house.now.saturating_add(delay);
        assert!(house.core.tick(house.now).wills.is_empty());
        let mut house = house.cut_power();
        house.now = house.now.saturating_add(delay);
        assert!(house.core.tick(house.now).wills.is_empty(), "nothing of it is left");
    }
}

/// The will of the connection before must not take that of the next one with it.
#[test]
fn each_connection_has_its_own_will() {
    let mut house = House::new();
    house.connect("a", Expiry::AtDisconnect, true, will(Duration::ZERO, Qos::AtLeastOnce));
    let second = will(Duration::ZERO, Qos::AtLeastOnce);
    let outcome = house.connect("a", Expiry::AtDisconnect, true, second);
    assert_eq!(outcome.wills.len(), 1);
    house.publish_will(&outcome.wills[0]);
    let mut house = house.cut_power();
    assert_eq!(house.core.tick(house.now).wills.len(), 1, "that of the second connection");
}

/// A will that finds no room waits; too many do not.
#[test]
fn a_will_that_finds_no_room_is_tried_again() {
    let limits = BrokerLimits { sessions: 1, ..BrokerLimits::default() };
    let mut house = House::open(SimulatedDisk::new(), Timestamp::default(), limits);
    let listener = house.connect("in", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(listener, "will", Qos::AtLeastOnce);
    let late = |house: &mut House| {
        let will = will(Duration::ZERO, Qos::AtLeastOnce);
        let attachment = house.connect("in", Expiry::After(HOUR), false, will).attachment;
        let mut tick = house.core.disconnect(attachment, Disconnect::Abnormal, house.now).unwrap();
        house.store(tick.transactions);
        tick.wills.remove(0)
    };
    let due = late(&mut house);
    let refusal = house.core.route_will(&due, vec![due.message()], Admission::Closed).unwrap_err();
    assert_eq!(refusal, RouteRefusal::StorageFull);
    assert!(house.core.postpone_will(due).is_none());
    let due = late(&mut house);
    let dropped = house.core.postpone_will(due).expect("one waits already");
    let transaction = house.core.drop_will(&dropped);
    house.store(Some(transaction));
    assert_eq!(house.core.counters().wills_dropped, 1);
    assert!(house.core.tick(house.now).wills.is_empty());
    house.now = house.now.saturating_add(Duration::from_secs(1));
    let tick = house.core.tick(house.now);
    assert_eq!(tick.wills.len(), 1);
    house.publish_will(&tick.wills[0]);
    let listener = house.connect("in", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(listener), ["will=gone/1"]);
}

/// MQTT 5.0, section 3.1.3.2.2: over restarts too, a will is published with its delay or with the end of its
/// session, whichever is first.
#[test]
fn restarts_do_not_put_a_will_off() {
    let delay = HOUR;
    let mut house = House::new();
    let expiry = Expiry::After(Duration::from_secs(10));
    house.connect("a", expiry, true, will(delay, Qos::AtLeastOnce));
    let mut house = house.cut_power();
    house.now = house.now.saturating_add(Duration::from_secs(11));
    let tick = house.core.tick(house.now);
    assert_eq!((house.core.sessions.len(), tick.wills.len()), (0, 1), "the session has ended");

    let mut house = House::new();
    house.connect("a", Expiry::After(HOUR * 100), true, will(delay, Qos::AtLeastOnce));
    let mut published = 0;
    for _ in 0..6 {
        house = house.cut_power();
        house.now = house.now.saturating_add(HOUR / 2);
        let tick = house.core.tick(house.now);
        for will in &tick.wills {
            house.publish_will(will);
        }
        published += tick.wills.len();
    }
    assert_eq!(published, 1);
}

/// A will that was due when the gateway ended is published even if its client is back first.
#[test]
fn a_will_that_was_due_is_not_forgotten() {
    let mut house = House::new();
    house.connect("a", Expiry::After(HOUR), true, will(Duration::ZERO, Qos::AtLeastOnce));
    let mut house = house.cut_power();
    let outcome = house.connect("a", Expiry::After(HOUR), false, None);
    assert!(outcome.session_present && outcome.wills.is_empty());
    assert_eq!(house.core.tick(house.now).wills.len(), 1);
}
