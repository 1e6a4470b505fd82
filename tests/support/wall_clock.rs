//! A wall clock that the test sets.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// A wall clock for one program that the test sets; the clock that only goes forward is the right one.
#[derive(Debug)]
pub(crate) struct WallClock {
    folder: PathBuf,
}

impl WallClock {
    /// Takes the folder that it is set in.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Sets it, in seconds against the right time.
    pub(crate) fn set(&self, seconds: i64) {
        // In one go: the library may read at any time.
        let (new, steps) = (self.folder.join("steps.new"), self.folder.join("steps"));
        fs::write(&new, format!("{seconds:+}")).expect("the folder takes files");
        fs::rename(&new, &steps).expect("the folder takes files");
    }

    /// Returns the environment of a program that is to go by it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.folder.join("steps").display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// Returns the library that stands between a program and the clock.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("there are libraries").flatten();
    let mut places = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    places.find(|place| place.exists()).expect("`cargo xtask setup` has installed it")
}

/// Returns the right time, in seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("a time of our days")
}
