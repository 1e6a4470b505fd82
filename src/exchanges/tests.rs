use super::*;

const SEGMENT: u64 = 8 << 20;

fn exchange(keep: Keep, sender: &str, id: u32) -> Exchange {
    Exchange {
        keep,
        sender: Bytes::copy_from_slice(sender.as_bytes()),
        id: Bytes::copy_from_slice(&id.to_be_bytes()),
        answer: Bytes::from_static(&[0x44]),
        lifetime: Duration::from_secs(247),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1_000)
}

/// What the journal's state holds, as transactions change it.
#[derive(Default)]
struct Journal(std::collections::BTreeMap<Vec<u8>, Vec<u8>>);

impl Journal {
    /// Notes an exchange and returns how many bytes that adds to its transaction.
    fn note(&mut self, exchanges: &Exchanges, exchange: &Exchange, seconds: i64) -> usize {
        let before = exchanges.0.lock().table(exchange.keep).next_serial;
        let mut transaction = Transaction::new();
        let empty = transaction.encoded_len();
        exchanges.note(exchange, at(seconds), at(seconds), &mut transaction);
        let mut inner = exchanges.0.lock();
        let table = inner.table(exchange.keep);
        let mut slots = (0..).zip(&table.slots);
        let written = slots.find_map(|(number, slot)| {
            slot.as_ref().filter(|slot| slot.serial == before).map(|slot| (number, slot.expires))
        });
        let (slot, expires) = written.expect("it was noted");
        self.0.insert(key(exchange.keep, slot), write(exchange, expires));
        transaction.encoded_len() - empty
    }

    fn recover(&self, seconds: i64) -> Exchanges {
        let state = self.0.iter().map(|(key, value)| (&key[..], &value[..]));
        Exchanges::recover(state, SEGMENT, at(seconds))
    }
}

fn ids(recalled: &[RecalledExchange]) -> Vec<u32> {
    let id = |exchange: &RecalledExchange| u32::from_be_bytes(exchange.id[..].try_into().unwrap());
    recalled.iter().map(id).collect()
}

/// main.10, D17: what was answered is known after a restart, for the rest of its time.
#[test]
fn exchanges_come_back_until_they_expire() {
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
    journal.note(&exchanges, &exchange(Keep::Newest, "a", 1), 100);
    journal.note(&exchanges, &exchange(Keep::Newest, "b", 2), 200);
    journal.note(&exchanges, &exchange(Keep::All, "a", 3), 300);

    let again = journal.recover(340);
    let recalled = again.recall(Keep::Newest, at(340));
    assert_eq!(ids(&recalled), [1, 2]);
    assert_eq!((&recalled[0].sender[..], &recalled[0].answer[..]), (&b"a"[..], &[0x44][..]));
    let remaining = recalled[0].remaining.as_secs();
    assert!((7..=8).contains(&remaining), "{remaining}");
    assert_eq!(ids(&again.recall(Keep::All, at(340))), [3]);
    assert_eq!(ids(&journal.recover(360).recall(Keep::Newest, at(360))), [2]);
    assert_eq!(journal.recover(1_000).recall(Keep::Newest, at(1_000)), []);
    let back = journal.recover(0).recall(Keep::Newest, at(0));
    assert_eq!(ids(&back), [1, 2], "a clock that was set back");
}

/// main.10: an adapter whose run failed asks again, and hears of what was answered since, oldest first.
#[test]
fn main_10_exchanges_are_recalled_as_often_as_an_adapter_starts() {
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
    journal.note(&exchanges, &exchange(Keep::Newest, "a", 1), 100);
    let exchanges = journal.recover(150);
    assert_eq!(ids(&exchanges.recall(Keep::Newest, at(150))), [1]);
    journal.note(&exchanges, &exchange(Keep::Newest, "b", 2), 200);
    journal.note(&exchanges, &exchange(Keep::Newest, "a", 3), 200);
    journal.note(&exchanges, &exchange(Keep::Newest, "a", 4), 200);
    for _ in 0..2 {
        let recalled = exchanges.recall(Keep::Newest, at(300));
        assert_eq!(ids(&recalled), [1, 2, 3, 4]);
        assert_eq!(recalled[3].remaining, Duration::from_secs(147));
    }
    assert_eq!(ids(&exchanges.recall(Keep::Newest, at(400))), [2, 3, 4]);
}

/// main.10: of two requests with one id, within one second, the later one is known after a restart.
#[test]
fn main_10_an_id_that_is_used_again_takes_the_place_of_the_first() {
    // With slots that are free in every order: after a recovery, and after others gave way.
    for before in 0..12 {
        let (mut journal, exchanges) =
            (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
        for number in 0..before {
            journal.note(&exchanges, &exchange(Keep::Newest, "a", 100 + number), 100);
        }
        let exchanges = journal.recover(100);
        for answer in [0x44, 0x45, 0x46] {
            let answer = Bytes::copy_from_slice(&[answer]);
            let request = Exchange { answer, ..exchange(Keep::Newest, "a", 1) };
            journal.note(&exchanges, &request, 100);
        }
        let again = journal.recover(100);
        for exchanges in [exchanges, again] {
            let recalled = exchanges.recall(Keep::Newest, at(100));
            let same = recalled.iter().filter(|exchange| ids(&[(*exchange).clone()]) == [1]);
            let answers: Vec<_> = same.map(|exchange| exchange.answer[0]).collect();
            assert_eq!(answers, [0x46], "{before}");
        }
    }
}

/// Slots of entries that had expired before the start, or cannot be read, are used again, and what is put there
/// stays.
#[test]
fn slots_that_the_start_emptied_are_used_again() {
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
    for (number, seconds) in (0..).zip([100, 300, 100, 300]) {
        journal.note(&exchanges, &exchange(Keep::Newest, &number.to_string(), number), seconds);
    }
    journal.0.insert(key(Keep::Newest, 1), b"?".to_vec());
    let exchanges = journal.recover(400);
    assert_eq!(ids(&exchanges.recall(Keep::Newest, at(400))), [3]);
    for number in 4..7 {
        journal.note(&exchanges, &exchange(Keep::Newest, &number.to_string(), number), 400);
    }
    assert_eq!(journal.0.len(), 4, "no slot beyond those");
    let mut deleted = false;
    exchanges.forget_expired(at(400), |_| deleted = true);
    assert!(!deleted, "what was noted since would be gone after the next start");
    assert_eq!(ids(&journal.recover(400).recall(Keep::Newest, at(400))).len(), 4);
}

/// The cost: an entry for a reading of an IPv4 peer takes 28 bytes of the journal.
#[test]
fn an_exchange_of_a_coap_peer_costs_28_bytes() {
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
    let mut exchange = exchange(Keep::Newest, "12345678", 1);
    exchange.id = Bytes::from_static(b"123456");
    for number in 0..300 {
        let bytes = journal.note(&exchanges, &exchange, number);
        assert!((26..=28).contains(&bytes), "{bytes}");
    }
}

/// Of one sender the newest few are kept, and of many senders those that came last.
#[test]
fn the_newest_are_kept() {
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(0)));
    journal.note(&exchanges, &exchange(Keep::Newest, "quiet", 999), 1);
    for number in 0..1_000 {
        journal.note(&exchanges, &exchange(Keep::Newest, "busy", number), 2);
    }
    assert_eq!(journal.0.len(), 1 + NEWEST_PER_SENDER, "slots are used again");
    let again = journal.recover(3);
    let mut recalled = ids(&again.recall(Keep::Newest, at(3)));
    recalled.sort_unstable();
    assert_eq!(recalled, [992, 993, 994, 995, 996, 997, 998, 999, 999]);

    let small = Exchanges::recover([].into_iter(), 48 * SEGMENT_SHARE * 4, at(0));
    for number in 0..10 {
        let mut transaction = Transaction::new();
        small.note(&exchange(Keep::Newest, &number.to_string(), 0), at(0), at(0), &mut transaction);
    }
    let mut inner = small.0.lock();
    assert_eq!((inner.table(Keep::Newest).used, inner.table(Keep::Newest).slots.len()), (4, 4));
}

/// What must all be kept is refused when there is no room, of one sender before it is of all.
#[test]
fn what_is_promised_for_its_whole_time_is_refused_when_full() {
    let exchanges = Exchanges::recover([].into_iter(), SEGMENT, at(0));
    let note = |sender: &str, number| {
        let exchange = exchange(Keep::All, sender, number);
        exchanges.admit(&exchange)?;
        exchanges.note(&exchange, at(0), at(0), &mut Transaction::new());
        Ok::<(), Refusal>(())
    };
    for number in 0..10_000 {
        note("a", number).unwrap();
    }
    assert!(matches!(note("a", 10_000), Err(Refusal::Busy { .. })));
    for number in 0..10_000 {
        note("b", number).unwrap();
    }
    assert!(matches!(note("c", 0), Err(Refusal::Busy { .. })), "of all");
    let mut deleted = 0;
    exchanges.forget_expired(at(400), |transaction| deleted = transaction.encoded_len());
    assert!(deleted > 20_000 * 5);
    note("a", 10_000).unwrap();
}

/// Deletions are gathered: an idle gateway does not write every second.
#[test]
fn expired_exchanges_are_deleted_together() {
    let exchanges = Exchanges::recover([(&b"xq"[..], &b"?"[..])].into_iter(), SEGMENT, at(0));
    let writes = |seconds| {
        let mut writes = 0;
        exchanges.forget_expired(at(seconds), |_| writes += 1);
        writes
    };
    assert_eq!(writes(1), 1, "an entry that cannot be read");
    for second in 0..10 {
        let mut transaction = Transaction::new();
        exchanges.note(&exchange(Keep::Newest, "a", 0), at(second), at(second), &mut transaction);
    }
    // The newest eight expire from 249 s to 256 s; the first waits for a minute.
    assert_eq!((240..308).map(writes).sum::<i32>(), 0);
    assert_eq!((308..400).map(writes).sum::<i32>(), 1);
    assert_eq!(exchanges.0.lock().newest.used, 0);
}

/// A slot is deleted before it is written anew, in the order of the journal.
#[test]
fn entries_that_cannot_be_read_are_removed_and_never_panic() {
    for value in [&b""[..], b"\0\0\0\x01", b"\xff\xff\xff\xff\x09a", b"\xff\xff\xff\xff\x01a\x05b"]
    {
        let exchanges = Exchanges::recover([(&b"xn\x01"[..], value)].into_iter(), SEGMENT, at(0));
        assert_eq!(exchanges.recall(Keep::Newest, at(0)), []);
        let mut deleted = false;
        exchanges.forget_expired(at(1), |_| deleted = true);
        assert!(deleted);
    }
    assert_eq!(read_key(b"xn\x7f\xff\xff\xff"), None, "no memory for a slot that cannot be");
    for slot in [0, 1, 255, 256, 16_383] {
        assert_eq!(read_key(&key(Keep::All, slot)), Some((Keep::All, slot)));
    }
}

/// A clock that was a year ahead keeps nothing for longer than a day, and nothing behind it.
#[test]
fn a_clock_far_ahead_blocks_nothing() {
    const DAY: i64 = 24 * 3_600;
    let (mut journal, exchanges) =
        (Journal::default(), Exchanges::recover([].into_iter(), SEGMENT, at(365 * DAY)));
    let long = |id| Exchange { lifetime: LIFETIME_MAX, ..exchange(Keep::All, "a", id) };
    journal.note(&exchanges, &long(1), 365 * DAY);
    let exchanges = journal.recover(0);
    journal.note(&exchanges, &long(2), 1);
    exchanges.forget_expired(at(2 * DAY), |_| {});
    assert_eq!(exchanges.0.lock().all.used, 0);
}
