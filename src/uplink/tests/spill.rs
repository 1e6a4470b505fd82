//! What an uplink that lags needs of old segments goes into files of its own, and comes back from there.

use tidegate_settings::ByteSize;
use tidegate_store::{SegmentView, Transaction};

use super::{
    PATIENCE,
    cloud::Cloud,
    numbered,
    rig::{Rig, settings},
};
use crate::{
    config::StoreConfig,
    uplink::{MqttVersion, Snapshot, UplinkSettings},
};

/// About three megabytes in segments of 256 KiB, of which most are old.
const RECORDS: i64 = 3_000;
const PADDING: usize = 1_000;

fn store() -> StoreConfig {
    StoreConfig {
        max_bytes: ByteSize::mib(4),
        reserve: ByteSize::kib(64),
        ..StoreConfig::default()
    }
}

fn in_large_batches(port: u16) -> UplinkSettings {
    let mut settings = settings(port, MqttVersion::V5);
    settings.core.batch.readings = 100;
    settings
}

/// Appends readings a few at a time: one commit never ends a segment in its midst.
async fn append(rig: &mut Rig, values: std::ops::RangeInclusive<i64>) {
    for value in values {
        rig.append_bytes(format!("{value:PADDING$}").into_bytes());
        if value % 100 == 0 {
            rig.store().submit_and_wait(Transaction::new()).await.unwrap();
        }
    }
}

fn spill_files(rig: &Rig) -> usize {
    let names = std::fs::read_dir(rig.journal_folder()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("spill-")).count()
}

/// Waits until the oldest segment is gone, as the house keeper sees to it.
async fn released(rig: &Rig) -> Vec<SegmentView> {
    let first = rig.store().catalog().segments()[0].number;
    let released = async {
        loop {
            let segments = rig.store().catalog().segments();
            if segments[0].number > first && segments.len() < 8 {
                return segments;
            }
            rig.store().release(rig.handle.snapshot().kept_after.seq.next());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, released).await.expect("segments are released")
}

/// uplink.2: a backlog leaves the journal, survives a restart, and is delivered whole and in order; then its files go.
#[tokio::test]
async fn uplink_2_a_backlog_is_spilled_and_comes_back() {
    let port = Cloud::start().await.port(); // and gone
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::start_over(folder, in_large_batches(port), &store());
    append(&mut rig, 1..=RECORDS).await;
    let has_spilled = |snapshot: &Snapshot| snapshot.spilled.records > 1_500;
    let snapshot = rig.until("spilled records", has_spilled).await;
    assert_eq!(snapshot.ledger.queued, RECORDS.unsigned_abs());
    assert!(snapshot.spilled.bytes < snapshot.spilled.records * 100, "it is compressed");
    let segments = released(&rig).await;
    assert!(segments[0].first_seq > snapshot.needed.seq.next(), "the records are not there");
    let audit = rig.handle.audit().await.unwrap();
    assert!(audit.is_sound() && audit.queued == RECORDS.unsigned_abs(), "{audit:?}");

    let folder = rig.kill().await;
    let (mut rig, _) = Rig::start_over(folder, in_large_batches(port), &store());
    let before = rig.handle.snapshot();
    assert_eq!(before.ledger.queued, RECORDS.unsigned_abs());
    assert!(before.spilled.records > 1_500);
    assert!(rig.handle.audit().await.unwrap().is_sound());
    append(&mut rig, RECORDS + 1..=RECORDS + 10).await;

    let cloud = Cloud::start_at(port).await.expect("the port is still free");
    let mut line = cloud.accept().await;
    let mut readings = Vec::new();
    while readings.len() < usize::try_from(RECORDS + 10).unwrap() {
        let received = line.publication().await;
        readings.extend(received.readings());
        line.accept_all(&[received]).await;
    }
    assert_eq!(readings, numbered(1..=RECORDS + 10));
    rig.until_delivered((RECORDS + 10).unsigned_abs()).await;
    let are_gone = |snapshot: &Snapshot| snapshot.spilled.files == 0;
    rig.until("no spill files", are_gone).await;
    let removed = async {
        while spill_files(&rig) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("the files are removed");
    rig.stop().await;
}

/// uplink.2, uplink.1: what is full gives up its oldest records, spilled ones first, and says so exactly.
#[tokio::test]
async fn uplink_2_the_oldest_are_given_up_out_of_spill_files() {
    const LAST: i64 = 4_500;
    let port = Cloud::start().await.port(); // and gone
    let mut settings = in_large_batches(port);
    settings.core.max_bytes = 3 << 20;
    let folder = tempfile::tempdir().unwrap();
    let (mut rig, _) = Rig::start_over(folder, settings, &store());
    append(&mut rig, 1..=2_950).await;
    let has_spilled = |snapshot: &Snapshot| snapshot.spilled.records > 500;
    rig.until("spilled records", has_spilled).await;
    append(&mut rig, 2_951..=LAST).await;
    let is_small = |snapshot: &Snapshot| snapshot.queued_bytes <= 3 << 20;
    let snapshot = rig.until("a queue within its limit", is_small).await;
    assert!(snapshot.ledger.is_balanced(), "{:?}", snapshot.ledger);
    let cloud = Cloud::start_at(port).await.expect("the port is still free");
    let mut line = cloud.accept().await;
    let mut readings = Vec::new();
    while readings.last().is_none_or(|(number, _)| *number < LAST) {
        let received = line.publication().await;
        readings.extend(received.readings());
        line.accept_all(&[received]).await;
    }
    let is_done = |snapshot: &Snapshot| snapshot.ledger.queued == 0;
    let snapshot = rig.until("an empty queue", is_done).await;
    let first = readings[0].0;
    assert!(first > 500, "the oldest went: {first}");
    assert_eq!(readings, numbered(first..=LAST));
    let dropped: u64 = snapshot.ledger.outcomes.dropped.values().sum();
    assert_eq!(dropped, (first - 1).unsigned_abs());
    rig.stop().await;
}
