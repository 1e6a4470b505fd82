//! What `mosquitto_sub` captures: topics and payloads, a line each, as `tidegate verify` reads them.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::{mosquitto::Mosquitto, programs, wait};

/// Comes back behind everything that was published before it.
const MARK: &str = "tidegate/mark";

/// A subscriber that writes to a file.
#[derive(Debug)]
pub(crate) struct Capture {
    child: Child,
    folder: TempDir,
    port: String,
}

impl Capture {
    /// Starts to capture everything below `tidegate/`.
    #[track_caller]
    pub(crate) fn start(broker: &Mosquitto) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let file = |name| File::create(folder.path().join(name)).expect("the folder takes files");
        let port = broker.port().to_string();
        let child = Command::new(programs::find("mosquitto_sub"))
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1"])
            .args(["-t", "tidegate/#", "-F", "%t %x"])
            .stdin(Stdio::null())
            .stdout(file("capture"))
            .stderr(file("errors"))
            .spawn()
            .expect("mosquitto_sub can be started");
        let capture = Self { child, folder, port };
        wait::until("the subscription of the capture", || {
            capture.mark();
            capture.read().contains(MARK).then_some(())
        });
        capture
    }

    /// Returns the lines `TOPIC HEX` of everything that the broker has acknowledged by now.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<String> {
        let marks = || self.read().matches(MARK).count();
        let before = marks();
        self.mark();
        wait::until("the end of the capture", || (marks() > before).then_some(()));
        let text = self.read();
        text.lines().filter(|line| !line.starts_with(MARK)).map(str::to_owned).collect()
    }

    fn mark(&self) {
        let at = ["-h", "127.0.0.1", "-p", &self.port, "-q", "1", "-t", MARK, "-m", "x"];
        programs::run(programs::find("mosquitto_pub"), &at);
    }

    /// Writes lines to a file beside it and returns its path, for `tidegate verify`.
    pub(crate) fn write(&self, name: &str, lines: &[String]) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, lines.join("\n") + "\n").expect("the folder takes files");
        path.display().to_string()
    }

    fn read(&self) -> String {
        let file = self.folder.path().join("capture");
        fs::read_to_string(file).expect("the capture is text")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
