//! The log-in by an admin key.

use axum::http::header::SET_COOKIE;

use super::{Ask, is_admin, session};
use crate::reply::{Body, Fault, Page, Reply, see};
use crate::view::{Blocks, Field, Form, Kind, Lead};

/// Where to go after the log-in: a path below the base, and nothing else.
fn next_of(text: Option<&str>) -> &str {
    let is_path = |text: &&str| {
        text.starts_with('/')
            && !text.starts_with("//")
            && !text.starts_with("/login")
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
    };
    text.filter(is_path).unwrap_or("/")
}

fn page(call: &Ask, next: &str, problem: Option<(String, String)>) -> Page {
    let field = Field::new(Kind::Secret, "admin_key", call.t("login.key"));
    let field = field.hint(call.t("login.hint")).required();
    let mut form = Form::post(call.at("/login"), call.t("login.submit"))
        .hidden("next", next)
        .field(field);
    if let Some((title, text)) = problem {
        form = form.problem(title, text);
    }
    let lead = Lead {
        text: call.t("login.lead"),
    };
    Page::new(call.t("login.title"), Blocks::new().with(&lead).with(&form))
}

pub(super) fn form(call: &Ask) -> Result<Reply, Fault> {
    if call.who.running.is_some() {
        return see("/");
    }
    Ok(page(call, next_of(call.query.one("next")?), None).into())
}

pub(super) fn log_in(call: &Ask) -> Result<Reply, Fault> {
    let next = next_of(call.form.one("next")?);
    if call.who.is_plain {
        let problem = (call.t("login.plain"), call.t("login.plain_text"));
        let page = page(call, next, Some(problem));
        return Ok(page.status(axum::http::StatusCode::BAD_REQUEST).into());
    }
    let token = call.form.one("admin_key")?.unwrap_or_default();
    match call.who.key_of(token)? {
        Some(key) if is_admin(&key, call.who.keyspace) => {
            let cookie = call.who.sessions.begin(key.id, call.who.name)?;
            let mut reply: Reply = Body::See(next.to_owned()).into();
            reply.headers.push((SET_COOKIE, cookie));
            Ok(reply)
        }
        _ => {
            let problem = (call.t("login.wrong"), call.t("login.wrong_text"));
            let page = page(call, next, Some(problem));
            Ok(page.status(axum::http::StatusCode::UNAUTHORIZED).into())
        }
    }
}

pub(super) fn log_out(call: &Ask) -> Result<Reply, Fault> {
    if let Some(name) = &call.who.name {
        call.who.sessions.end(name);
    }
    let mut reply: Reply = Body::See("/login".to_owned()).into();
    reply.headers.push((SET_COOKIE, session::forget()));
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::next_of;

    #[test]
    fn the_way_back_leads_to_these_pages_alone() {
        for good in ["/keys", "/keys?owner=acme%2Fx&after=1", "/trail"] {
            assert_eq!(next_of(Some(good)), good);
        }
        for bad in [
            "//evil.example",
            "/\\evil",
            "https://evil",
            "keys",
            "/a b",
            "/login",
            "/\r\nx",
        ] {
            assert_eq!(next_of(Some(bad)), "/");
        }
        assert_eq!(next_of(None), "/");
    }
}
