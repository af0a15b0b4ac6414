//! Sessions of operators who logged in by an admin key: in memory, and gone with the
//! process.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use axum::http::header::{COOKIE, ORIGIN};
use gatekey::{Error, KeyId};

/// The name of the cookie. Browsers take one of this name on secure origins alone, for
/// this host and all paths.
pub(crate) const NAME: &str = "__Host-gatekey";
/// A session that is not used for so long ends.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// A session ends after so long, however it is used.
const WHOLE: Duration = Duration::from_secs(12 * 3_600);
/// For so long after the admin key was given, what takes it again does not ask.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// The most sessions; the one that was not used for the longest time makes room.
const SESSIONS_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy)]
struct Session {
    key: KeyId,
    begun: Instant,
    used: Instant,
    proven: Instant,
}

/// All sessions, by a hash of their secret.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<BTreeMap<[u8; 32], Session>>);

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

/// A session that goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running {
    pub(crate) key: KeyId,
    /// Whether the admin key was given lately.
    pub(crate) fresh: bool,
}

/// The secret of the request's cookie, hashed. A cookie that stands twice is none.
pub(crate) fn name_of(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut found = None;
    for header in headers.get_all(COOKIE) {
        let pairs = header.to_str().ok()?.split(';');
        for (name, value) in pairs.filter_map(|pair| pair.trim().split_once('=')) {
            if name == NAME && found.replace(value).is_some() {
                return None;
            }
        }
    }
    found.map(|value| *blake3::hash(value.as_bytes()).as_bytes())
}

/// Whether a form came from a page on plain HTTP of another machine, by its `Origin`:
/// browsers keep no cookie of [`NAME`] there.
pub(crate) fn is_plain(headers: &HeaderMap) -> bool {
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let Some(host) = origin.and_then(|origin| origin.strip_prefix("http://")) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local = name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback());
    !is_local
}

impl Sessions {
    /// Begins a session, always under a new secret, and returns its cookie.
    pub(crate) fn begin(&self, key: KeyId, old: Option<[u8; 32]>) -> Result<String, Error> {
        let secret = crate::number::draw::<32>()?;
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = old {
            sessions.remove(&old);
        }
        if sessions.len() >= SESSIONS_MAX {
            let idlest = sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(name) = idlest.map(|(name, _)| *name) {
                sessions.remove(&name);
            }
        }
        let session = Session {
            key,
            begun: now,
            used: now,
            proven: now,
        };
        sessions.insert(*blake3::hash(secret.as_bytes()).as_bytes(), session);
        Ok(format!(
            "{NAME}={}; Path=/; Secure; HttpOnly; SameSite=Strict",
            secret.as_str()
        ))
    }

    /// The session of a cookie, if it goes on.
    pub(crate) fn running(&self, name: &[u8; 32]) -> Option<Running> {
        let now = Instant::now();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get_mut(name)?;
        let is_over =
            now.duration_since(session.used) > IDLE || now.duration_since(session.begun) > WHOLE;
        if is_over {
            sessions.remove(name);
            return None;
        }
        session.used = now;
        Some(Running {
            key: session.key,
            fresh: now.duration_since(session.proven) <= FRESH,
        })
    }

    /// The admin key was given again.
    pub(crate) fn prove(&self, name: &[u8; 32]) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get_mut(name) {
            session.proven = Instant::now();
        }
    }

    /// Ends a session.
    pub(crate) fn end(&self, name: &[u8; 32]) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(name);
    }

    /// As if all sessions had been used and proven so long ago.
    #[cfg(test)]
    pub(crate) fn age(&self, by: Duration) {
        let mut sessions = self.0.lock().unwrap();
        for session in sessions.values_mut() {
            for instant in [&mut session.begun, &mut session.used, &mut session.proven] {
                *instant = instant.checked_sub(by).unwrap();
            }
        }
    }
}

/// The cookie that makes a browser forget its session.
pub(crate) fn forget() -> String {
    format!("{NAME}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn browsers_keep_a_session_on_https_and_on_the_machine_itself() {
        for (is, origin) in [
            (false, "https://keys.example.com"),
            (false, "http://localhost:8080"),
            (false, "http://127.0.0.1:8080"),
            (false, "http://[::1]:8080"),
            (false, "http://keys.localhost"),
            (true, "http://keys.example.com"),
            (true, "http://10.0.0.7:8080"),
            (true, "http://localhost.example.com"),
            (true, "http://[2001:db8::1]"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(is_plain(&headers), is, "{origin}");
        }
        assert!(!is_plain(&HeaderMap::new()));
    }
}
