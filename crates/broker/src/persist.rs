//! How sessions, subscriptions, wills and retained messages stand in the journal's state.
//!
//! Keys begin with `b` and a letter for their kind; takers are four bytes, big endian.

use std::time::Duration;

use bytes::Bytes;
use tidegate_model::{ClientId, Message, Principal, Qos, Timestamp, Topic, TopicFilter};
use tidegate_mqtt::SubscriptionId;
use tidegate_store::{
    Position, Seq, TakerId, Transaction,
    record::{self, MessageDecoder},
};

use crate::carry::Struck;
use crate::session::{Expiry, Progress, RetainHandling, Session, Stage, SubscriptionOptions, Will};

pub(crate) const NEXT_TAKER: &[u8] = b"bn";
pub(crate) const CARRY: u8 = b'c';
pub(crate) const STRUCK: u8 = b'x';
pub(crate) const SESSION: u8 = b's';
pub(crate) const SUBSCRIPTION: u8 = b'f';
pub(crate) const INBOUND: u8 = b'q';
pub(crate) const OUTBOUND: u8 = b'o';
pub(crate) const PROGRESS: u8 = b'a';
pub(crate) const WILL: u8 = b'w';
pub(crate) const RETAINED: u8 = b'r';
pub(crate) const UPLINK: u8 = b'u';

/// Keys and values written here are within the limits of a transaction: the callers bound sizes and depth.
const FITS: &str = "sizes are bounded by the caller";

fn taker_key(kind: u8, taker: TakerId, rest: &[u8]) -> Vec<u8> {
    let mut key = vec![b'b', kind];
    key.extend_from_slice(&taker.get().to_be_bytes());
    key.extend_from_slice(rest);
    key
}

fn will_key(number: u64) -> Vec<u8> {
    [&[b'b', WILL][..], &number.to_be_bytes()].concat()
}

/// Splits a key of this module into its kind and the rest.
pub(crate) fn split_key(key: &[u8]) -> Option<(u8, &[u8])> {
    match key {
        [b'b', kind, rest @ ..] => Some((*kind, rest)),
        _ => None,
    }
}

/// Splits the rest of a key that begins with a taker.
pub(crate) fn split_taker(rest: &[u8]) -> Option<(TakerId, &[u8])> {
    let (taker, rest) = rest.split_first_chunk::<4>()?;
    Some((TakerId::new(u32::from_be_bytes(*taker)), rest))
}

pub(crate) fn put_session(transaction: &mut Transaction, session: &Session) {
    let taker = session.taker.expect("only persistent sessions are stored");
    let mut value = Vec::new();
    let expiry = match session.expiry {
        Expiry::AtDisconnect => 0,
        Expiry::After(after) => after.as_secs().max(1),
    };
    value.extend_from_slice(&expiry.to_be_bytes());
    let since = session.disconnected_at.map_or(i64::MIN, Timestamp::as_unix_micros);
    value.extend_from_slice(&since.to_be_bytes());
    put_text(&mut value, session.principal.as_str());
    value.extend_from_slice(session.client_id.as_str().as_bytes());
    transaction.put(&taker_key(SESSION, taker, b""), &value).expect(FITS);
}

/// What [`put_session`] stores.
pub(crate) struct StoredSession {
    pub(crate) principal: Principal,
    pub(crate) client_id: ClientId,
    pub(crate) expiry: Expiry,
    pub(crate) disconnected_at: Option<Timestamp>,
}

pub(crate) fn read_session(value: &[u8]) -> Option<StoredSession> {
    let (expiry, rest) = value.split_first_chunk::<8>()?;
    let (since, rest) = rest.split_first_chunk::<8>()?;
    let (principal, client_id) = split_text(rest)?;
    let since = i64::from_be_bytes(*since);
    Some(StoredSession {
        principal: Principal::new(principal).ok()?,
        client_id: ClientId::new(std::str::from_utf8(client_id).ok()?).ok()?,
        expiry: match u64::from_be_bytes(*expiry) {
            0 => Expiry::AtDisconnect,
            seconds => Expiry::After(Duration::from_secs(seconds)),
        },
        disconnected_at: (since != i64::MIN).then(|| Timestamp::from_unix_micros(since)),
    })
}

/// Forgets a session with all that belongs to it.
pub(crate) fn delete_session(transaction: &mut Transaction, taker: TakerId, session: &Session) {
    for filter in session.subscriptions.keys() {
        delete_subscription(transaction, taker, filter);
    }
    for packet_id in &session.inbound_exactly_once {
        delete_inbound(transaction, taker, *packet_id);
    }
    for inflight in
        session.inflight.iter().filter(|inflight| inflight.delivery.qos == Qos::ExactlyOnce)
    {
        delete_outbound(transaction, taker, inflight.packet_id);
    }
    transaction.delete(&taker_key(PROGRESS, taker, b"")).expect(FITS);
    transaction.delete(&taker_key(SESSION, taker, b"")).expect(FITS);
    transaction.retire(taker).expect(FITS);
}

pub(crate) fn put_subscription(
    transaction: &mut Transaction,
    taker: TakerId,
    filter: &TopicFilter,
    options: &SubscriptionOptions,
) {
    let handling = match options.retain_handling {
        RetainHandling::Send => 0,
        RetainHandling::SendIfNew => 1,
        RetainHandling::DoNotSend => 2,
    };
    let flags = options.qos.bits()
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | handling << 4;
    let mut value = vec![flags];
    if let Some(identifier) = options.identifier {
        value.extend_from_slice(&identifier.as_u32().to_be_bytes());
    }
    transaction
        .put(&taker_key(SUBSCRIPTION, taker, filter.as_str().as_bytes()), &value)
        .expect(FITS);
}

pub(crate) fn read_subscription(
    rest: &[u8],
    value: &[u8],
) -> Option<(TopicFilter, SubscriptionOptions)> {
    let filter = TopicFilter::new(std::str::from_utf8(rest).ok()?).ok()?;
    let (&flags, identifier) = value.split_first()?;
    let options = SubscriptionOptions {
        qos: Qos::from_bits(flags & 3)?,
        no_local: flags & 4 != 0,
        retain_as_published: flags & 8 != 0,
        retain_handling: match flags >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            _ => RetainHandling::DoNotSend,
        },
        identifier: identifier
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
            .and_then(SubscriptionId::new),
    };
    Some((filter, options))
}

pub(crate) fn delete_subscription(
    transaction: &mut Transaction,
    taker: TakerId,
    filter: &TopicFilter,
) {
    transaction.delete(&taker_key(SUBSCRIPTION, taker, filter.as_str().as_bytes())).expect(FITS);
}

pub(crate) fn put_inbound(transaction: &mut Transaction, taker: TakerId, packet_id: u16) {
    transaction.put(&taker_key(INBOUND, taker, &packet_id.to_be_bytes()), b"").expect(FITS);
}

pub(crate) fn delete_inbound(transaction: &mut Transaction, taker: TakerId, packet_id: u16) {
    transaction.delete(&taker_key(INBOUND, taker, &packet_id.to_be_bytes())).expect(FITS);
}

pub(crate) fn put_outbound(
    transaction: &mut Transaction,
    taker: TakerId,
    packet_id: u16,
    position: Position,
    stage: Stage,
) {
    let mut value = position.ordinal.to_be_bytes().to_vec();
    value.push(u8::from(stage == Stage::Released));
    transaction.put(&taker_key(OUTBOUND, taker, &packet_id.to_be_bytes()), &value).expect(FITS);
}

pub(crate) fn read_outbound(value: &[u8]) -> Option<(u64, Stage)> {
    let (ordinal, stage) = value.split_first_chunk::<8>()?;
    let stage = if stage == [1] { Stage::Released } else { Stage::Sent };
    Some((u64::from_be_bytes(*ordinal), stage))
}

pub(crate) fn delete_outbound(transaction: &mut Transaction, taker: TakerId, packet_id: u16) {
    transaction.delete(&taker_key(OUTBOUND, taker, &packet_id.to_be_bytes())).expect(FITS);
}

pub(crate) fn put_progress(transaction: &mut Transaction, taker: TakerId, progress: &Progress) {
    let mut value = progress.cursor.seq.get().to_be_bytes().to_vec();
    value.extend_from_slice(&progress.cursor.ordinal.to_be_bytes());
    for (first, last) in stretches(progress.done_beyond()) {
        if first < last {
            value.extend_from_slice(&(first | STRETCH).to_be_bytes());
        }
        value.extend_from_slice(&last.to_be_bytes());
    }
    transaction.put(&taker_key(PROGRESS, taker, b""), &value).expect(FITS);
}

pub(crate) fn read_progress(value: &[u8]) -> Option<(Position, Vec<u64>)> {
    let (seq, rest) = value.split_first_chunk::<8>()?;
    let (ordinal, rest) = rest.split_first_chunk::<8>()?;
    let position =
        Position { seq: Seq::new(u64::from_be_bytes(*seq)), ordinal: u64::from_be_bytes(*ordinal) };
    let mut beyond = Vec::new();
    let mut first = None;
    for number in rest.as_chunks::<8>().0 {
        let number = u64::from_be_bytes(*number);
        if number & STRETCH != 0 {
            first = Some(number & !STRETCH);
            continue;
        }
        let first = first.take().unwrap_or(number);
        // A session has no more records than its queue holds; what says so is damaged.
        if number.checked_sub(first)? > STRETCH_MAX {
            return None;
        }
        beyond.extend(first..=number);
    }
    Some((position, beyond))
}

/// Set in the first of two ordinals that stand for all between them.
const STRETCH: u64 = 1 << 63;
/// Longest stretch that is believed.
const STRETCH_MAX: u64 = 1 << 24;

/// Returns the first and the last of each run of numbers that follow each other.
fn stretches(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if_eq(&(last + 1)) {
            last = next;
        }
        Some((first, last))
    })
}

pub(crate) fn put_will(
    transaction: &mut Transaction,
    number: u64,
    principal: &Principal,
    client_id: &ClientId,
    will: &Will,
) {
    let mut value = will.delay.as_secs().to_be_bytes().to_vec();
    let expiry = will.expiry.map_or(u64::MAX, |expiry| expiry.as_secs());
    value.extend_from_slice(&expiry.to_be_bytes());
    put_text(&mut value, principal.as_str());
    put_text(&mut value, client_id.as_str());
    record::encode_message(&will.message, &mut value).expect(FITS);
    transaction.put(&will_key(number), &value).expect(FITS);
}

/// What [`put_will`] stores.
pub(crate) struct StoredWill {
    pub(crate) number: u64,
    pub(crate) principal: Principal,
    pub(crate) client_id: ClientId,
    pub(crate) will: Will,
}

pub(crate) fn read_will(rest: &[u8], value: &[u8]) -> Option<StoredWill> {
    let (delay, value) = value.split_first_chunk::<8>()?;
    let (expiry, value) = value.split_first_chunk::<8>()?;
    let (principal, value) = split_text(value)?;
    let (client_id, message) = split_text(value)?;
    let expiry = u64::from_be_bytes(*expiry);
    Some(StoredWill {
        number: u64::from_be_bytes(rest.try_into().ok()?),
        principal: Principal::new(principal).ok()?,
        client_id: ClientId::new(client_id).ok()?,
        will: Will {
            delay: Duration::from_secs(u64::from_be_bytes(*delay)),
            expiry: (expiry != u64::MAX).then(|| Duration::from_secs(expiry)),
            message: MessageDecoder::new().decode(&Bytes::copy_from_slice(message)).ok()?,
        },
    })
}

pub(crate) fn delete_will(transaction: &mut Transaction, number: u64) {
    transaction.delete(&will_key(number)).expect(FITS);
}

/// Adds a text behind its length; principals and client identifiers have 1 024 bytes at most.
fn put_text(value: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect(FITS);
    value.extend_from_slice(&length.to_be_bytes());
    value.extend_from_slice(text.as_bytes());
}

fn split_text(value: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = value.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

pub(crate) fn put_retained(transaction: &mut Transaction, message: &Message) {
    if message.payload.is_empty() {
        delete_retained(transaction, &message.topic);
        return;
    }
    let mut value = Vec::with_capacity(128);
    record::encode_message(message, &mut value).expect(FITS);
    transaction.put(&retained_key(&message.topic), &value).expect(FITS);
}

pub(crate) fn delete_retained(transaction: &mut Transaction, topic: &Topic) {
    transaction.delete(&retained_key(topic)).expect(FITS);
}

/// Announces the numbers of copies that count only once this is deleted.
pub(crate) fn put_carry(transaction: &mut Transaction, first: Seq, last: Seq) {
    let value = [first.get().to_be_bytes(), last.get().to_be_bytes()].concat();
    transaction.put(&[b'b', CARRY], &value).expect(FITS);
}

pub(crate) fn read_carry(value: &[u8]) -> Option<(Seq, Seq)> {
    let [first, last] = value.as_chunks::<8>().0 else { return None };
    Some((Seq::new(u64::from_be_bytes(*first)), Seq::new(u64::from_be_bytes(*last))))
}

pub(crate) fn delete_carry(transaction: &mut Transaction) {
    transaction.delete(&[b'b', CARRY]).expect(FITS);
}

/// Notes copies that do not count for as long as the journal has them.
pub(crate) fn put_struck(transaction: &mut Transaction, struck: Struck) {
    transaction.put(&struck_key(struck), &struck.last.get().to_be_bytes()).expect(FITS);
}

pub(crate) fn read_struck(rest: &[u8], value: &[u8]) -> Option<Struck> {
    let first = Seq::new(u64::from_be_bytes(rest.try_into().ok()?));
    Some(Struck { first, last: Seq::new(u64::from_be_bytes(value.try_into().ok()?)) })
}

pub(crate) fn delete_struck(transaction: &mut Transaction, struck: Struck) {
    transaction.delete(&struck_key(struck)).expect(FITS);
}

fn struck_key(struck: Struck) -> Vec<u8> {
    [&[b'b', STRUCK][..], &struck.first.get().to_be_bytes()].concat()
}

pub(crate) fn put_uplink(transaction: &mut Transaction, name: &str, taker: TakerId) {
    transaction.put(&uplink_key(name), &taker.get().to_be_bytes()).expect(FITS);
}

pub(crate) fn delete_uplink(transaction: &mut Transaction, name: &str) {
    transaction.delete(&uplink_key(name)).expect(FITS);
}

fn uplink_key(name: &str) -> Vec<u8> {
    [&[b'b', UPLINK], name.as_bytes()].concat()
}

fn retained_key(topic: &Topic) -> Vec<u8> {
    let mut key = vec![b'b', RETAINED];
    key.extend_from_slice(topic.as_str().as_bytes());
    key
}
