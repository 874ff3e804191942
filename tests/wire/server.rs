//! An HTTP server that answers exactly what it is told to, down to the bytes and the end of the connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request.
pub(crate) struct Got {
    pub(crate) path: String,
    /// The operation that the test is about, if it said so.
    pub(crate) wants: Option<&'static str>,
    headers: Vec<(String, String)>,
}

impl Got {
    /// The last part of the path.
    pub(crate) fn operation(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn host(&self) -> &str {
        self.header("host").expect("every request names its host")
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    KeepAlive,
    Close,
    Reset,
    Silence,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Without it the body is all there is.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent.
    sent: usize,
    /// The pause after every byte of the body.
    pause: Option<Duration>,
    end: End,
}

impl Answer {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            body: body.to_vec(),
            sent: body.len(),
            pause: None,
            end: End::KeepAlive,
        }
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status, body.as_bytes()).with("content-type", "application/json")
    }

    /// Bytes, and nothing else.
    pub(crate) fn raw(bytes: &[u8]) -> Self {
        Self { status: None, ..Self::new(200, bytes) }
    }

    pub(crate) fn reset() -> Self {
        Self::raw(b"").then_reset()
    }

    pub(crate) fn close() -> Self {
        Self::raw(b"").then_close()
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends only the first bytes of the body; the head promises all.
    pub(crate) fn cut_to(self, sent: usize) -> Self {
        Self { sent, ..self }
    }

    pub(crate) fn byte_by_byte(self, pause: Duration) -> Self {
        Self { pause: Some(pause), ..self }
    }

    pub(crate) fn then_close(self) -> Self {
        Self { end: End::Close, ..self }
    }

    pub(crate) fn then_reset(self) -> Self {
        Self { end: End::Reset, ..self }
    }

    pub(crate) fn then_silence(self) -> Self {
        Self { end: End::Silence, ..self }
    }

    fn head(&self, request_id: &str) -> String {
        let Some(status) = self.status else { return String::new() };
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nx-amzn-RequestId: {request_id}\r\n{}\r\n",
            self.body.len(),
            headers.concat()
        )
    }
}

type Script = dyn Fn(&Got) -> Answer + Send + Sync;

#[derive(Default)]
struct Seen {
    wants: Option<&'static str>,
    paths: Vec<String>,
}

/// The server; it ends with its value.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Got) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let (script, shared): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            // The connections end with the server.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(converse(stream, Arc::clone(&script), Arc::clone(&shared)));
            }
        });
        Self { address, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says which operation the test is about.
    pub(crate) fn expect(&self, operation: &'static str) {
        self.seen.lock().expect("no panic").wants = Some(operation);
    }

    /// The paths of all requests.
    pub(crate) fn log(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").paths.clone()
    }

    /// The id of the last answer.
    pub(crate) fn last_request_id(&self) -> String {
        request_id(self.log().len())
    }
}

fn request_id(nth: usize) -> String {
    format!("request-{nth}")
}

async fn converse(mut stream: TcpStream, script: Arc<Script>, seen: Arc<Mutex<Seen>>) {
    let mut buffer = Vec::new();
    loop {
        let Some(got) = receive(&mut stream, &mut buffer, &seen).await else { return };
        let nth = {
            let mut seen = seen.lock().expect("no panic");
            seen.paths.push(got.path.clone());
            seen.paths.len()
        };
        let answer = script(&got);
        let head = answer.head(&request_id(nth));
        let body = &answer.body[..answer.sent];
        // A client that has had enough is no error here.
        drop(stream.write_all(head.as_bytes()).await);
        if let Some(pause) = answer.pause {
            for byte in body {
                drop(stream.write_all(&[*byte]).await);
                tokio::time::sleep(pause).await;
            }
        } else {
            drop(stream.write_all(body).await);
        }
        match answer.end {
            End::KeepAlive => {}
            End::Close => return drop(stream.shutdown().await),
            // With this option closing answers with a reset.
            End::Reset => return drop(stream.set_zero_linger()),
            End::Silence => std::future::pending().await,
        }
    }
}

/// Reads one request; `None` when the client is gone.
async fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>, seen: &Mutex<Seen>) -> Option<Got> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).into_owned();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    while buffer.len() < head_end + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    buffer.drain(..head_end + length);
    let wants = seen.lock().expect("no panic").wants;
    Some(Got { path, wants, headers })
}
