//! The door that is TCP: an admin key says who asks.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use gatekey::http::Dialect;
use gatekey::tower::AuthLayer;
use gatekey::{Engine, Grant, Permissions, Prefix};

use super::serve::{Door, Listen};
use crate::operator::{Operator, Right};

struct Tcp(tokio::net::TcpListener);

impl Listen for Tcp {
    type Stream = tokio::net::TcpStream;
    type Peer = ConnectInfo<SocketAddr>;

    async fn accept(&self) -> io::Result<(Self::Stream, Self::Peer)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((stream, ConnectInfo(peer)))
    }
}

pub(crate) fn open(listener: TcpListener, router: Router) -> io::Result<Door> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Door::spawn(None, Some(address), router, move || {
        tokio::net::TcpListener::from_std(listener).map(Tcp)
    })
}

/// Requires an admin key of every request, whatever its path.
pub(crate) fn keyed(router: Router, engine: &Engine, admin: Prefix) -> Router {
    let auth = AuthLayer::new(engine.clone(), Dialect::problem_details())
        .keyspace(admin)
        .required()
        .no_store()
        .source(|_, extensions| {
            let peer = extensions.get::<ConnectInfo<SocketAddr>>();
            peer.map(|ConnectInfo(peer)| peer.ip())
        });
    let of = engine.clone();
    router
        .layer(axum::middleware::from_fn(
            move |request: Request, next: Next| admit(of.clone(), admin, request, next),
        ))
        .layer(auth)
}

async fn admit(engine: Engine, admin: Prefix, mut request: Request, next: Next) -> Response {
    // The layer outside has put it there. Without one, nobody has said who asks.
    if let Some(grant) = request.extensions().get::<Grant>() {
        let operator = operator_of(&engine, admin, grant);
        request.extensions_mut().insert(operator);
    } else {
        request.extensions_mut().remove::<Operator>();
    }
    next.run(request).await
}

/// The operator behind an admin key. Its actor is the key: the audit trail and the key say
/// whose it is.
fn operator_of(engine: &Engine, admin: Prefix, grant: &Grant) -> Operator {
    let granted = grant.permissions();
    let held = |right: &Right| {
        // Keyspaces are in memory. One that cannot be read gives no right.
        let mask = engine
            .keyspace(admin)
            .and_then(|keyspace| keyspace.mask([right.name()]));
        mask.is_ok_and(|mask| mask != Permissions::NONE && granted.contains(mask))
    };
    let rights = Right::ALL.into_iter().filter(held);
    Operator::new(format!("key:{}", grant.key_id()), rights)
}
