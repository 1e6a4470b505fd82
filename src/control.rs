//! The control socket `data-dir/control.sock`: one line asks, one JSON line answers.
//!
//! A line that ends in ` +N` has a body of N bytes behind it.

use std::{
    future::Future,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// Name of the socket in the data directory.
const NAME: &str = "control.sock";
/// Most clients at once.
const CLIENTS_MAX: usize = 16;
/// Longest question, in bytes.
const QUESTION_BYTES_MAX: u64 = 256;
/// Longest body, in bytes.
const BODY_BYTES_MAX: u64 = 4 << 20;
/// How long a client may take to ask or to read.
const DEADLINE: Duration = Duration::from_secs(10);

/// An answer under way.
pub type Answer = Pin<Box<dyn Future<Output = serde_json::Value> + Send>>;

/// Answers questions; `None` for those it does not know.
pub type Answerer = Arc<dyn Fn(Question) -> Option<Answer> + Send + Sync>;

/// What somebody asks.
#[derive(Debug)]
pub struct Question {
    /// The line, without the size of the body.
    pub line: String,
    /// What came behind it.
    pub body: Vec<u8>,
    /// The number of the user who asks.
    pub uid: u32,
}

/// Returns where the socket of a data directory is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// The bound socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
}

impl ControlSocket {
    /// Binds the socket with mode 0600; a left-over one is replaced, as the data directory is locked.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = path(data_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener })
    }

    /// Answers until `stop` is cancelled. May be called again after a panic.
    pub async fn run(self: Arc<Self>, answer: Answerer, stop: CancellationToken) {
        let mut clients = JoinSet::new();
        let bodies = Arc::new(Semaphore::new(1));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let (answer, bodies) = (Arc::clone(&answer), Arc::clone(&bodies));
                        clients.spawn(async move {
                            if let Err(error) = serve(stream, &answer, &bodies).await {
                                debug!(%error, "A control client went away");
                            }
                        });
                    }
                    Err(error) => {
                        debug!(%error, "Cannot accept a control client");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }
}

async fn serve(mut stream: UnixStream, answer: &Answerer, bodies: &Semaphore) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let (reader, _) = stream.split();
    let mut reader = BufReader::new(reader.take(QUESTION_BYTES_MAX));
    let mut question = String::new();
    timeout(DEADLINE, reader.read_line(&mut question)).await??;
    let (line, size) = match question.trim().rsplit_once(" +") {
        Some((line, size)) => (line.to_owned(), size.parse().unwrap_or(u64::MAX)),
        None => (question.trim().to_owned(), 0),
    };
    // Held until the answer is there: of large things there is one at a time.
    let place = if size > 0 { bodies.try_acquire().ok() } else { None };
    let reply = if size > BODY_BYTES_MAX {
        json!({ "error": format!("more than {BODY_BYTES_MAX} bytes are not taken") })
    } else if size > 0 && place.is_none() {
        json!({ "error": "somebody else is asking something as large; try again" })
    } else {
        let mut body = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        reader.get_mut().set_limit(size);
        timeout(DEADLINE, reader.read_exact(&mut body)).await??;
        match answer(Question { line, body, uid }) {
            Some(answer) => answer.await,
            None => json!({ "error": "unknown question" }),
        }
    };
    drop(place);
    let mut line = reply.to_string();
    line.push('\n');
    timeout(DEADLINE, stream.write_all(line.as_bytes())).await??;
    Ok(())
}

/// Asks a running gateway one question and returns its answer. Blocks.
///
/// # Errors
///
/// If there is no gateway, or it does not answer.
pub fn ask(data_dir: &Path, question: &str) -> io::Result<String> {
    send(data_dir, format!("{question}\n").as_bytes())
}

/// Does the same as [`ask`] with a body.
///
/// # Errors
///
/// As [`ask`].
pub fn ask_with(data_dir: &Path, question: &str, body: &[u8]) -> io::Result<String> {
    let mut text = format!("{question} +{}\n", body.len()).into_bytes();
    text.extend_from_slice(body);
    send(data_dir, &text)
}

fn send(data_dir: &Path, text: &[u8]) -> io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path(data_dir))?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    // Who refuses a body may close before all of it is written, and has answered all the same.
    let written = stream.write_all(text);
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    if answer.is_empty() {
        written?;
        read?;
    }
    Ok(answer)
}
