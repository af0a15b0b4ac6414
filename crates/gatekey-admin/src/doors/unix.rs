//! The door that is a unix socket: the system says who asks.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::serve::{Door, Listen};
use crate::operator::Operator;
use crate::problem::Problem;

/// The longest path of a socket, in bytes, on all systems.
const PATH_MAX: usize = 103;

/// Where a server opens the socket for a store, and the command line looks for it: the
/// store's path with `.sock` appended.
///
/// ```
/// let socket = gatekey_admin::socket_beside("/var/lib/acme/keys.redb");
/// assert_eq!(socket.to_str(), Some("/var/lib/acme/keys.redb.sock"));
/// ```
#[must_use]
pub fn socket_beside(store: impl AsRef<Path>) -> PathBuf {
    let mut path = store.as_ref().as_os_str().to_owned();
    path.push(".sock");
    path.into()
}

struct Unix(tokio::net::UnixListener);

/// The user at the other end, by the system's word.
#[derive(Clone, Copy)]
struct Peer(Option<u32>);

impl Listen for Unix {
    type Stream = tokio::net::UnixStream;
    type Peer = Peer;

    async fn accept(&self) -> io::Result<(Self::Stream, Self::Peer)> {
        let (stream, _) = self.0.accept().await?;
        let peer = stream.peer_cred().ok().map(|peer| peer.uid());
        Ok((stream, Peer(peer)))
    }
}

/// Binds a socket under a name of its own, in a folder that nobody else can enter, gives
/// it its mode there, and then its name: at no time can another user connect. The name may
/// be that of a socket which a server left behind; the engine that holds the store is the
/// only one that opens a door for it.
pub(crate) fn open(path: &Path, users: &[u32], router: Router) -> io::Result<Door> {
    if path.as_os_str().len() > PATH_MAX {
        let text = format!("the path of the socket is longer than {PATH_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    if let Ok(found) = std::fs::symlink_metadata(path)
        && !found.file_type().is_socket()
    {
        let text = format!("{} is there, and is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    let beside = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder = tempfile::Builder::new()
        .prefix(".gk")
        .rand_bytes(6)
        .tempdir_in(beside)?;
    let made = folder.path().join("s");
    let listener = bind(&made, path)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    let own = std::fs::symlink_metadata(&made)?.uid();
    std::fs::rename(&made, path)?;
    drop(folder);
    let users: Vec<u32> = users.to_vec();
    let router = router.layer(axum::middleware::from_fn(
        move |request: Request, next: Next| admit(own, users.clone(), request, next),
    ));
    listener.set_nonblocking(true)?;
    Door::spawn(Some(path.to_owned()), None, router, move || {
        tokio::net::UnixListener::from_std(listener).map(Unix)
    })
}

fn bind(made: &Path, path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    std::os::unix::net::UnixListener::bind(made).map_err(|error| {
        let text = format!("cannot make the socket {}: {error}", path.display());
        io::Error::new(error.kind(), text)
    })
}

/// The engine's own user, root and those that the host named may ask, for everything:
/// whoever can open the file could do as much.
async fn admit(own: u32, users: Vec<u32>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().and_then(|peer| peer.0);
    match peer {
        Some(user) if is_admitted(user, own, &users) => {
            let operator = Operator::with_all_rights(format!("unix:{user}"));
            request.extensions_mut().insert(operator);
            next.run(request).await
        }
        _ => {
            let why = "this user may not use the socket";
            Problem::new(StatusCode::FORBIDDEN, "user_not_allowed", why)
                .response()
                .into_response()
        }
    }
}

fn is_admitted(user: u32, own: u32, listed: &[u32]) -> bool {
    user == own || user == 0 || listed.contains(&user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_root_and_those_listed_may_ask() {
        for (user, listed, admitted) in [
            (1000, &[][..], true),
            (0, &[], true),
            (1001, &[], false),
            (1001, &[1002], false),
            (1001, &[1002, 1001], true),
            (65_534, &[], false),
        ] {
            assert_eq!(is_admitted(user, 1000, listed), admitted, "{user}");
        }
    }
}
