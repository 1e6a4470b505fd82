//! Restarts, with a gateway in which every part is made to panic.

use std::{path::Path, time::Duration};

use super::*;
use crate::{
    config, control,
    pipeline::{ConfigSource, Gateway},
};

const PATIENCE: Duration = Duration::from_secs(30);

impl Conditions {
    /// Makes a running part panic.
    fn sabotage(&self, name: &str) {
        self.0.lock()[name].pulse.sabotage();
    }

    fn have_answered(&self) -> bool {
        self.0.lock().values().all(|part| !part.pulse.is_asked())
    }

    fn condition(&self, name: &str) -> Condition {
        self.0.lock()[name].condition.clone()
    }
}

async fn until(what: &str, probe: impl Fn() -> bool) {
    let probing = async {
        while !probe() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, probing).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

async fn gateway(folder: &Path) -> Gateway {
    let file = folder.join("tidegate.toml");
    let text = "[gateway]\nid = \"g\"\ndata-dir = \"data\"\n\
                [mqtt]\nlisten = [\"127.0.0.1:0\"]\nanonymous = true\n\
                [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:9\"\ntopics = [\"a/#\"]\n\
                topic = \"up/{encoding}\"\n";
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(&file).unwrap();
    let (config, mapping) = (loaded.config.expect("no errors"), loaded.mapping.expect("none"));
    Gateway::start(config, mapping, ConfigSource::file(file)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_that_panics_is_started_again_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(folder.path()).await;
    let conditions = gateway.status.conditions.clone();
    let parts = ["keeper", "commands", "mqtt", "control", "uplink cloud"];
    for part in parts {
        until(part, || conditions.0.lock().contains_key(part)).await;
        conditions.sabotage(part);
    }
    for part in parts {
        until(part, || conditions.condition(part).panics == 1).await;
        until(part, || conditions.condition(part).error.is_none()).await;
        assert_eq!(conditions.condition(part).restarts, 1, "{part}");
    }
    // They work again: the listener takes clients, the socket answers, and each shows a sign of life.
    tokio::net::TcpStream::connect(gateway.addresses.mqtt[0]).await.unwrap();
    let data_dir = folder.path().join("data");
    let asked = tokio::task::spawn_blocking(move || control::ask(&data_dir, "status"));
    let status: serde_json::Value = serde_json::from_str(&asked.await.unwrap().unwrap()).unwrap();
    assert_eq!(status["parts"]["keeper"]["panics"], 1, "{status}");
    assert_eq!(conditions.unresponsive(PATIENCE), None);
    until("signs of life", || conditions.have_answered()).await;
    gateway.stop(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_blocks_its_thread_does_not_answer() {
    let conditions = Conditions::default();
    let mut stage = Stage::new("test");
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    stage.keep("stuck", &conditions, move |_stop| {
        let blocked = Arc::clone(&blocked);
        async move {
            tokio::task::yield_now().await;
            let _ = blocked.lock().recv();
        }
    });
    stage.keep("well", &conditions, |stop| async move { stop.cancelled().await });
    let limit = Duration::from_millis(50);
    until("the silence", || conditions.unresponsive(limit).as_deref() == Some("stuck")).await;
    drop(release);
    until("the end", || conditions.unresponsive(limit).is_none()).await;
    stage.stop(Instant::now() + PATIENCE).await;
}

#[test]
fn jitter_stays_within_a_quarter() {
    for _ in 0..100 {
        let pause = jittered(Duration::from_secs(4));
        assert!((Duration::from_secs(3)..=Duration::from_secs(5)).contains(&pause), "{pause:?}");
    }
}

/// An event loop that does not come back is found like any part that is stuck.
#[tokio::test]
async fn an_event_loop_that_hangs_is_found() {
    let (conditions, mut stage) = (Conditions::default(), Stage::new("test"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
    let ended = end.clone();
    let thread = std::thread::spawn(move || runtime.block_on(ended.cancelled()));
    stage.watch("loop", &conditions, &handle);
    until("a first turn", || conditions.0.lock()["loop"].pulse.is_running()).await;
    assert_eq!(conditions.unresponsive(PATIENCE), None);
    until("an answer", || conditions.have_answered()).await;
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    handle.spawn(async move {
        let _ = held.recv();
    });
    let limit = Duration::from_millis(50);
    until("silence", || conditions.unresponsive(limit).as_deref() == Some("loop")).await;
    drop(let_go);
    end.cancel();
    thread.join().unwrap();
}
