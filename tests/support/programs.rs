//! Programs that set-up has installed: where they are, and running one to its end.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is not on an ordinary user's `PATH`; mosquitto is there.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Returns the path of an installed program.
///
/// # Panics
///
/// If it is not installed, naming the command that installs it.
#[track_caller]
pub(crate) fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(SYSTEM_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{program} is not installed: run `cargo xtask setup`"))
}

/// Returns the Python that has the peers' packages.
///
/// `TIDEGATE_PYTHON` names it under `cargo xtask test`; else it is where `cargo xtask setup` puts it.
#[track_caller]
pub(crate) fn python() -> PathBuf {
    let python = installed("TIDEGATE_PYTHON", "python/bin/python");
    assert!(python.is_file(), "{} is missing: run `cargo xtask setup`", python.display());
    python
}

/// Returns the folder that holds the peers' `node_modules`, named by `TIDEGATE_JAVASCRIPT` likewise.
#[track_caller]
pub(crate) fn javascript() -> PathBuf {
    let folder = installed("TIDEGATE_JAVASCRIPT", "javascript");
    let modules = folder.join("node_modules");
    assert!(modules.is_dir(), "{} is missing: run `cargo xtask setup`", modules.display());
    folder
}

/// Returns what an environment variable names, or where set-up puts it in the cache.
#[track_caller]
fn installed(variable: &str, place: &str) -> PathBuf {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache =
        || absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    absolute(variable)
        .or_else(|| cache().map(|cache| cache.join("tidegate").join(place)))
        .unwrap_or_else(|| panic!("neither {variable}, XDG_CACHE_HOME nor HOME is set"))
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn run(program: impl AsRef<Path>, arguments: &[&str]) -> Said {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the gateway's own program to its end, such as `tidegate check -c FILE`.
#[track_caller]
pub(crate) fn tidegate(arguments: &[&str]) -> Said {
    run(env!("CARGO_BIN_EXE_tidegate"), arguments)
}

/// Does the same with a text on its standard input; it must succeed.
#[track_caller]
pub(crate) fn tidegate_with_input(arguments: &[&str], input: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("the program reads");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "tidegate {arguments:?}");
}

/// Runs curl, quiet but for errors, and returns the HTTP status and the body.
#[track_caller]
pub(crate) fn curl(arguments: &[&str]) -> (u16, String) {
    let quiet = ["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}"];
    let said = run(find("curl"), &[&quiet, arguments].concat());
    assert_eq!(said.code, Some(0), "curl {arguments:?}: {}", said.stderr);
    let (body, status) =
        said.stdout.rsplit_once('\n').expect("curl writes the status on a line of its own");
    (status.parse().expect("a status is a number"), body.to_owned())
}

/// Runs libcoap's client and returns what it printed: the payload, or the code of a refusal such as `4.04`.
#[track_caller]
pub(crate) fn coap_client(arguments: &[&str]) -> String {
    let said = run(find("coap-client-notls"), &[&["-B", "20"], arguments].concat());
    assert_eq!(said.code, Some(0), "coap-client {arguments:?}: {}", said.stderr);
    // Which stream a refusal goes to depends on the version.
    format!("{}{}", said.stdout, said.stderr).trim().to_owned()
}
