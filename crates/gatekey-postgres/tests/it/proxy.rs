//! A network between a server and its database: TCP that is delayed, cut, or lost in one
//! direction or both.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Network {
    Open,
    /// Connections are closed, and new ones too.
    Cut,
    /// Nothing arrives. What is on the way arrives once it is open again.
    Silent,
    /// Requests arrive, and answers do not before it is open again.
    Deaf,
}

#[derive(Debug, Default)]
struct State {
    network: AtomicU8,
    delay_ms: AtomicU64,
    is_over: AtomicU8,
}

/// Stands before a port.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) != 0 {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port)))
                else {
                    continue;
                };
                if shared.is(Network::Cut) {
                    continue;
                }
                for (from, to, answers) in [(&client, &server, false), (&server, &client, true)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let shared = shared.clone();
                    std::thread::spawn(move || pass(from, to, answers, &shared));
                }
            }
        });
        Self { port: own, state }
    }

    pub(crate) fn set(&self, network: Network) {
        self.state.network.store(network as u8, Ordering::SeqCst);
    }

    pub(crate) fn delay(&self, ms: u64) {
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(1, Ordering::SeqCst);
        self.set(Network::Cut);
        // So that the listener looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl State {
    fn is(&self, network: Network) -> bool {
        self.network.load(Ordering::SeqCst) == network as u8
    }

    fn holds(&self, answers: bool) -> bool {
        self.is(Network::Silent) || (answers && self.is(Network::Deaf))
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, answers: bool, state: &State) {
    let tick = Duration::from_millis(5);
    from.set_read_timeout(Some(tick)).unwrap();
    let mut bytes = [0; 16 << 10];
    while !state.is(Network::Cut) {
        if state.holds(answers) {
            std::thread::sleep(tick);
            continue;
        }
        let read = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        std::thread::sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst)));
        while state.holds(answers) && !state.is(Network::Cut) {
            std::thread::sleep(tick);
        }
        if state.is(Network::Cut) || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
