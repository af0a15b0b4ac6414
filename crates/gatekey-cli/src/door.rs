//! The way to the admin API: in the process, over a socket, over TCP. The requests are the
//! same.

#[cfg(unix)]
use std::fs::{File, TryLockError};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use axum::{Extension, Router};
use gatekey::{Engine, Error, OpenError, Options};
use gatekey_admin::{Admin, Operator};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tower::ServiceExt as _;

use crate::args::Global;
use crate::failure::{Exit, Failure, Result};
use crate::holder::holder;
use crate::tls::Tls;

/// How long a server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// From when on it is said that something takes its time.
const LONG: Duration = Duration::from_secs(1);
/// The longest answer that is kept in memory.
const ANSWER_MAX: usize = 1 << 30;

enum Way {
    /// The store is open in this process.
    Here(Box<(Router, Engine)>),
    #[cfg(unix)]
    Socket(PathBuf),
    Tcp {
        address: String,
        key: HeaderValue,
        tls: Option<Tls>,
    },
}

/// The admin API, by one of its doors.
pub(crate) struct Door {
    way: Way,
    runtime: tokio::runtime::Runtime,
}

/// Who acts, for the audit trail: the same as over the socket.
pub(crate) fn actor() -> String {
    #[cfg(unix)]
    return format!("unix:{}", rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    "cli".to_owned()
}

/// The options that open the store, as a server of a fleet where a log was named.
pub(crate) fn options(global: &Global) -> Result<Options> {
    #[cfg(feature = "postgres")]
    if let Some(settings) = crate::fleet::postgres::settings(global)? {
        return Ok(alone(global)?.fleet(settings));
    }
    alone(global)
}

/// Whether a log was named.
pub(crate) fn names_log(global: &Global) -> bool {
    #[cfg(feature = "postgres")]
    return global.log.log.is_some();
    #[cfg(not(feature = "postgres"))]
    {
        let _ = global;
        false
    }
}

/// The options that open a store which is of no fleet.
pub(crate) fn alone(global: &Global) -> Result<Options> {
    let mut options = Options::new();
    for pepper in &global.pepper {
        options = options.pepper(pepper.read().map_err(Failure::usage)?);
    }
    Ok(options)
}

pub(crate) fn store_of(global: &Global) -> Result<&Path> {
    let missing = || Failure::usage("which store? give --store FILE, or set GATEKEY_STORE");
    global.store.as_deref().ok_or_else(missing)
}

impl Door {
    /// Opens the file, or finds the server that holds it, or the one that is named.
    /// `near` is the folder that a backup is made in where the file is open here.
    pub(crate) fn open(global: &Global, near: Option<&Path>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let way = match &global.url {
            Some(url) => by_url(url, global)?,
            None => by_file(store_of(global)?, near, global)?,
        };
        Ok(Self { way, runtime })
    }

    /// The answer's status and bytes. A body is JSON.
    fn ask_raw(&self, request: Request<Body>, what: &str) -> Result<(StatusCode, Bytes)> {
        self.runtime.block_on(async {
            let asking = async {
                let response = send(&self.way, request).await?;
                let (parts, body) = response.into_parts();
                let bytes = axum::body::to_bytes(body, ANSWER_MAX).await;
                let cut = |error| Failure::fault(format!("the answer was cut off: {error}"));
                Ok((parts.status, bytes.map_err(cut)?))
            };
            with_progress(asking, what).await
        })
    }

    /// An answer that is done.
    pub(crate) fn ask(&self, ask: &Ask<'_>) -> Result<Value> {
        let bytes = self.bytes(ask)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::fault(format!("the answer is not JSON: {error}")))
    }

    /// The same, whatever it is.
    pub(crate) fn bytes(&self, ask: &Ask<'_>) -> Result<Bytes> {
        let (status, bytes) = self.ask_raw(ask.request()?, ask.path)?;
        match status.is_success() {
            true => Ok(bytes),
            false => Err(refusal(status, &bytes)),
        }
    }

    /// Writes an answer as it comes. `Err` where it is cut off, or is refused.
    pub(crate) fn copy(&self, ask: &Ask<'_>, out: &mut dyn std::io::Write) -> Result<u64> {
        self.runtime.block_on(async {
            let request = ask.request()?;
            let response = with_progress(send(&self.way, request), ask.path).await?;
            let (parts, mut body) = response.into_parts();
            if !parts.status.is_success() {
                let bytes = axum::body::to_bytes(body, ANSWER_MAX)
                    .await
                    .unwrap_or_default();
                return Err(refusal(parts.status, &bytes));
            }
            let (began, mut written) = (Instant::now(), 0_u64);
            let mut shown = Progress::default();
            while let Some(frame) = next(&mut body).await {
                let frame = frame
                    .map_err(|error| Failure::fault(format!("the answer was cut off: {error}")))?;
                if let Ok(bytes) = frame.into_data() {
                    out.write_all(&bytes)?;
                    written += bytes.len() as u64;
                }
                if began.elapsed() > LONG {
                    shown.tell(&format!("{} MiB", written >> 20));
                }
            }
            out.flush()?;
            let told = parts.headers.get(header::CONTENT_LENGTH);
            let told = told.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            match told.is_none_or(|told| told == written) {
                true => Ok(written),
                false => Err(Failure::fault("the answer was cut off")),
            }
        })
    }

    /// Closes the store, where it is open here.
    pub(crate) fn close(self) -> Result<()> {
        match self.way {
            Way::Here(here) => Ok(here.1.close()?),
            _ => Ok(()),
        }
    }
}

async fn next(body: &mut Body) -> Option<Result<http_body::Frame<Bytes>, axum::Error>> {
    use http_body::Body as _;
    std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

/// A request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: Option<Bytes>,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            body: None,
            idempotency_key: None,
        }
    }

    pub(crate) fn post(path: &'a str, body: &impl serde::Serialize) -> Result<Self> {
        Self::with("POST", path, body)
    }

    /// With a body that is JSON already.
    pub(crate) fn post_bytes(path: &'a str, body: Vec<u8>) -> Self {
        Self {
            body: Some(body.into()),
            method: "POST",
            ..Self::get(path)
        }
    }

    pub(crate) fn patch(path: &'a str, body: &impl serde::Serialize) -> Result<Self> {
        Self::with("PATCH", path, body)
    }

    fn with(method: &'a str, path: &'a str, body: &impl serde::Serialize) -> Result<Self> {
        let body = serde_json::to_vec(body).map_err(Failure::fault)?;
        Ok(Self {
            method,
            path,
            body: Some(body.into()),
            idempotency_key: None,
        })
    }

    pub(crate) fn once(self, idempotency_key: Option<&'a str>) -> Self {
        Self {
            idempotency_key,
            ..self
        }
    }

    fn request(&self) -> Result<Request<Body>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(header::HOST, "gatekey");
        if self.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(key) = self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let body = self.body.clone().map_or_else(Body::empty, Body::from);
        request.body(body).map_err(Failure::usage)
    }
}

/// Whether another process holds the store: to open the file would then wait in vain for its
/// lock, which one that is only looked at has for a moment.
#[cfg(unix)]
fn is_held(store: &Path) -> bool {
    store.is_file()
        && File::open(store)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The way to the server that holds the store, if it answers.
#[cfg(unix)]
fn by_socket(store: &Path, socket: PathBuf) -> Result<Way> {
    match std::os::unix::net::UnixStream::connect(&socket) {
        Ok(_) => Ok(Way::Socket(socket)),
        Err(error) => Err(Failure::new(
            Exit::Locked,
            format!(
                "another process has {} open{}, and its socket {} cannot be reached: {error}",
                store.display(),
                holder(store),
                socket.display(),
            ),
        )),
    }
}

fn by_file(store: &Path, near: Option<&Path>, global: &Global) -> Result<Way> {
    #[cfg(unix)]
    let socket = match &global.socket {
        Some(socket) => socket.clone(),
        None => gatekey_admin::socket_beside(store),
    };
    #[cfg(unix)]
    if is_held(store)
        && let Ok(way) = by_socket(store, socket.clone())
    {
        return Ok(way);
    }
    match open(store, global)? {
        Ok(engine) => {
            let mut admin = Admin::new(engine.clone());
            if let Some(near) = near {
                admin = admin.backup_dir(near);
            }
            let operator = Operator::with_all_rights(actor());
            let router = admin.router().layer(Extension(operator));
            Ok(Way::Here(Box::new((router, engine))))
        }
        #[cfg(unix)]
        Err(Error::Open {
            reason: OpenError::InUse,
            ..
        }) => by_socket(store, socket),
        Err(error) => {
            let locked = matches!(
                &error,
                Error::Open {
                    reason: OpenError::InUse,
                    ..
                }
            );
            let held = if locked { holder(store) } else { String::new() };
            let failure = Failure::from(error);
            Err(Failure::new(
                failure.exit,
                format!("{}{held}", failure.text),
            ))
        }
    }
}

/// Opens the store, alone or as a server of its fleet. A file that another process holds is
/// told first: its server is asked, which knows the log.
fn open(store: &Path, global: &Global) -> Result<Result<Engine, Error>> {
    let is_of_fleet = |error: &Error| {
        matches!(
            error,
            Error::Open {
                reason: OpenError::InFleet,
                ..
            }
        )
    };
    match alone(global)?.open(store) {
        Err(error) if is_of_fleet(&error) => Ok(options(global)?.open(store)),
        Ok(engine) if names_log(global) => {
            engine.close()?;
            // It is of no fleet, and says so.
            Ok(options(global)?.open(store))
        }
        opened => Ok(opened),
    }
}

fn by_url(url: &str, global: &Global) -> Result<Way> {
    let (address, has_tls) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(address), _) => (address, true),
        (None, Some(address)) => (address, false),
        (None, None) => {
            let why = "the URL must be https://HOST:PORT or http://HOST:PORT";
            return Err(Failure::usage(why));
        }
    };
    let address = address.trim_end_matches('/').to_owned();
    // The colons in brackets are of an address of IPv6.
    let has_port = address
        .rsplit(']')
        .next()
        .is_some_and(|it| it.contains(':'));
    let host = match address.rsplit_once(':') {
        Some((host, _)) if has_port => host,
        _ => address.as_str(),
    };
    let is_here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    if address.contains(['/', '@', '?', '#']) || address.is_empty() {
        return Err(Failure::usage(
            "the URL must be https://HOST:PORT or http://HOST:PORT",
        ));
    }
    if !has_tls && !is_here && !global.allow_plain_http {
        return Err(Failure::usage(format!(
            "{host} is another host, and everybody in between would read the admin key: use https://, forward a port to it (ssh -L), or give --allow-plain-http"
        )));
    }
    let key = match &global.admin_key_file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?,
        None => std::env::var("GATEKEY_ADMIN_KEY").map_err(|_| {
            Failure::usage(
                "--url takes an admin key: set GATEKEY_ADMIN_KEY, or give --admin-key-file",
            )
        })?,
    };
    let mut key = HeaderValue::try_from(format!("Bearer {}", key.trim_end_matches(['\r', '\n'])))
        .map_err(|_| Failure::usage("the admin key is not a token"))?;
    key.set_sensitive(true);
    let tls = match has_tls {
        true => Some(Tls::to(host, global.ca_file.as_deref())?),
        false => None,
    };
    let address = match (has_port, has_tls) {
        (true, _) => address,
        (false, true) => format!("{address}:443"),
        (false, false) => format!("{address}:80"),
    };
    Ok(Way::Tcp { address, key, tls })
}

async fn send(way: &Way, mut request: Request<Body>) -> Result<Response<Body>> {
    match way {
        Way::Here(here) => match here.0.clone().oneshot(request).await {
            Ok(response) => Ok(response),
            Err(never) => match never {},
        },
        #[cfg(unix)]
        Way::Socket(path) => {
            let stream = tokio::net::UnixStream::connect(path)
                .await
                .map_err(|error| {
                    Failure::new(Exit::Locked, format!("{}: {error}", path.display()))
                })?;
            over(stream, request).await
        }
        Way::Tcp { address, key, tls } => {
            let unreachable = |why: &dyn std::fmt::Display| {
                Failure::fault(format!("{address} cannot be reached: {why}"))
            };
            let connecting = async {
                let stream = tokio::net::TcpStream::connect(address).await?;
                match tls {
                    Some(tls) => Ok(Stream::Secured(Box::new(tls.over(stream).await?))),
                    None => Ok(Stream::Plain(stream)),
                }
            };
            let stream = tokio::time::timeout(CONNECT, connecting)
                .await
                .map_err(|_| unreachable(&"it took too long"))?
                .map_err(|error: std::io::Error| unreachable(&error))?;
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, key.clone());
            if let Ok(host) = HeaderValue::from_str(address) {
                headers.insert(header::HOST, host);
            }
            match stream {
                Stream::Secured(stream) => over(stream, request).await,
                Stream::Plain(stream) => over(stream, request).await,
            }
        }
    }
}

enum Stream {
    Plain(tokio::net::TcpStream),
    Secured(Box<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>),
}

async fn over<S>(stream: S, request: Request<Body>) -> Result<Response<Body>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let lost = |error: hyper::Error| Failure::fault(format!("the server did not answer: {error}"));
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(lost)?;
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(lost)?;
    Ok(response.map(Body::new))
}

/// A refusal as the server words it, with the code to exit with.
fn refusal(status: StatusCode, bytes: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let exit = match (status.as_u16(), problem["code"].as_str()) {
        (404, Some("not_found")) => Exit::NotFound,
        (400, _) => Exit::Usage,
        (400..=499, _) => Exit::Refused,
        _ => Exit::Fault,
    };
    let detail = problem["detail"].as_str();
    let title = problem["title"].as_str();
    let text = detail
        .or(title)
        .map_or_else(|| status.to_string(), str::to_owned);
    Failure::new(exit, text)
}

/// Waits, and says so on a terminal once it takes long.
async fn with_progress<T>(work: impl Future<Output = T>, what: &str) -> T {
    let mut work = std::pin::pin!(work);
    let began = Instant::now();
    let mut shown = Progress::default();
    loop {
        match tokio::time::timeout(LONG, &mut work).await {
            Ok(done) => return done,
            Err(_) => shown.tell(&format!("{what}: {} s", began.elapsed().as_secs())),
        }
    }
}

/// A line on a terminal that is written over, and gone at the end.
#[derive(Default)]
pub(crate) struct Progress {
    is_shown: bool,
    last: Option<Instant>,
}

impl Progress {
    pub(crate) fn tell(&mut self, text: &str) {
        let mut stderr = std::io::stderr();
        let is_new = self.last.is_none_or(|last| last.elapsed() > LONG / 10);
        if is_new && stderr.is_terminal() {
            // Whoever is not there to read it misses nothing.
            let _ = write!(stderr, "\r\x1b[K{text}");
            self.is_shown = true;
            self.last = Some(Instant::now());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
