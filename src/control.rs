//! The control socket `data-dir/control.sock`: one line asks, one JSON line answers.

use std::{
    future::Future,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
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
/// How long a client may take to ask or to read.
const DEADLINE: Duration = Duration::from_secs(10);

/// An answer under way.
pub type Answer = Pin<Box<dyn Future<Output = serde_json::Value> + Send>>;

/// Answers questions; `None` for those it does not know.
pub type Answerer = Arc<dyn Fn(&str) -> Option<Answer> + Send + Sync>;

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
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = clients.join_next(), if !clients.is_empty() => {}
                accepted = self.listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                    Ok((stream, _)) => {
                        let answer = Arc::clone(&answer);
                        clients.spawn(async move {
                            if let Err(error) = serve(stream, &answer).await {
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

async fn serve(mut stream: UnixStream, answer: &Answerer) -> io::Result<()> {
    let mut question = String::new();
    let (reader, _) = stream.split();
    timeout(DEADLINE, BufReader::new(reader.take(QUESTION_BYTES_MAX)).read_line(&mut question))
        .await??;
    let reply = match answer(question.trim()) {
        Some(answer) => answer.await,
        None => serde_json::json!({ "error": "unknown question" }),
    };
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
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path(data_dir))?;
    stream.set_read_timeout(Some(Duration::from_secs(600)))?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
