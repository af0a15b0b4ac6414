//! The page that asks a person for consent, and that of an error: for whoever has no pages of
//! their own.
//!
//! They work without a script and by keyboard, and escape all that they show. No other page may
//! frame them, none learns of their address, and nothing keeps them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::Params;
use crate::server::{Consent, Reply};

/// Colours of sufficient contrast, in light and in dark; targets of 44 pixels.
const STYLE: &str = "\
:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}\
body{margin:0;background:#fff;color:#1a1a1a}\
main{max-width:32rem;margin:0 auto;padding:2rem 1rem;overflow-wrap:anywhere}\
h1{font-size:1.5rem;line-height:1.25}\
fieldset{border:1px solid #767676;border-radius:.5rem;margin:1.5rem 0;padding:.5rem 1rem}\
label{display:flex;gap:.75rem;align-items:center;min-height:2.75rem}\
input{width:1.25rem;height:1.25rem;flex:none}\
.answers{display:flex;gap:1rem;flex-wrap:wrap}\
button{font:inherit;min-height:2.75rem;padding:0 1.5rem;border-radius:.5rem;cursor:pointer;\
border:2px solid #1a4d8f;background:#fff;color:#1a4d8f}\
button.allow{background:#1a4d8f;color:#fff}\
:focus-visible{outline:3px solid #b35900;outline-offset:2px}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#f0f0f0}\
fieldset{border-color:#8c8c8c}button{background:#161616;color:#9cc4ff;border-color:#9cc4ff}\
button.allow{background:#9cc4ff;color:#161616}:focus-visible{outline-color:#ffb366}}";

/// A page that asks for consent.
///
/// ```
/// use gatekey::{Engine, NewKeyspace};
/// use gatekey_oauth::Params;
/// use gatekey_oauth::page::{Answer, ConsentPage};
/// use gatekey_oauth::server::{AuthorizationServer, Authorize, NewClient, ServerOptions};
///
/// # let engine = Engine::open_in_memory()?;
/// # let keyspace = engine.create_keyspace(NewKeyspace::new("acme_at")?.permissions(["read"]))?;
/// # let server = AuthorizationServer::open(&engine, ServerOptions::new("https://a.example"))?;
/// # let new = NewClient::public("Reports", keyspace.prefix, ["read"]);
/// # let client = server.register(&new.redirect_uri("https://reports.example.com/cb"))?.client;
/// # let query = format!(
/// #     "response_type=code&client_id={}&redirect_uri=https://reports.example.com/cb\
/// #      &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
/// #     client.id
/// # );
/// # let params = Params::form(query.as_bytes()).unwrap();
/// let Authorize::Consent(consent) = server.authorize(&params, b"session 7")? else {
///     panic!("refused");
/// };
/// let page = ConsentPage::new(&consent, "/oauth/authorize").person("alice@example.com");
/// let reply = page.describe("read", "See your reports").reply();
/// assert!(reply.body.contains("https://reports.example.com"));
///
/// // What the page's form sends:
/// let body = format!("ticket={}&s0=1&answer=allow", consent.ticket);
/// let params = Params::form(body.as_bytes()).unwrap();
/// let ticket = params.get("ticket").unwrap_or("");
/// let consent = server.consent(ticket, b"session 7")?.unwrap();
/// let Answer::Allow(scope) = Answer::read(&params, &consent) else { panic!("denied") };
/// let url = server.approve(ticket, b"session 7", &"acme/alice".parse()?, &scope)?;
/// assert!(url.is_some());
/// # engine.close()?;
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ConsentPage<'a> {
    consent: &'a Consent,
    action: &'a str,
    person: Option<&'a str>,
    described: BTreeMap<&'a str, &'a str>,
    may: Option<Vec<&'a str>>,
}

impl<'a> ConsentPage<'a> {
    /// A page whose form is sent to a path, such as `/oauth/authorize`.
    #[must_use]
    pub fn new(consent: &'a Consent, action: &'a str) -> Self {
        Self {
            consent,
            action,
            person: None,
            described: BTreeMap::new(),
            may: None,
        }
    }

    /// Whom it asks, as they know themselves: whoever uses a browser of others sees it.
    #[must_use]
    pub fn person(mut self, name: &'a str) -> Self {
        self.person = Some(name);
        self
    }

    /// What a permission lets the client do, in words for people. Without them it is shown by
    /// its name.
    #[must_use]
    pub fn describe(mut self, permission: &'a str, words: &'a str) -> Self {
        self.described.insert(permission, words);
        self
    }

    /// What the person may do herself: nothing else is asked for.
    #[must_use]
    pub fn may(mut self, permissions: impl IntoIterator<Item = &'a str>) -> Self {
        self.may = Some(permissions.into_iter().collect());
        self
    }

    /// The page, with its headers.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let consent = self.consent;
        let client = format!("<bdi>{}</bdi>", escaped(&consent.client));
        let whose = self.person.map_or("your data".to_owned(), |person| {
            format!(
                "the data of <strong><bdi>{}</bdi></strong>",
                escaped(person)
            )
        });
        let boxes: String = consent
            .scope
            .iter()
            .enumerate()
            .filter(|(_, name)| self.is_permitted(name))
            .map(|(at, name)| {
                let words = self.described.get(name.as_str()).copied();
                format!(
                    "<label><input type=\"checkbox\" name=\"s{at}\" value=\"1\" checked>\
                     <span>{}</span></label>",
                    escaped(words.unwrap_or(name))
                )
            })
            .collect();
        let asks = match (boxes.is_empty(), consent.scope.is_empty()) {
            (false, _) => format!("<fieldset><legend>What it may do</legend>{boxes}</fieldset>"),
            (true, true) => "<p>It learns who you are, and may do nothing else.</p>".to_owned(),
            (true, false) => {
                "<p>It asks for what you may not do yourself. There is nothing to allow.</p>"
                    .to_owned()
            }
        };
        let is_void = boxes.is_empty() && !consent.scope.is_empty();
        let allow = "<button class=\"allow\" name=\"answer\" value=\"allow\">Allow</button>";
        let body = format!(
            "<h1>Allow {client} access?</h1>\
             <p>{client} asks for access to {whose}. Your answer goes to \
             <strong>{}</strong>.</p>\
             <p>Whoever made {client} chose its name. If you do not know this address, deny.</p>\
             <form method=\"post\" action=\"{}\">\
             <input type=\"hidden\" name=\"ticket\" value=\"{}\">{asks}\
             <div class=\"answers\"><button name=\"answer\" value=\"deny\">Deny</button>{}</div>\
             </form>",
            escaped(&consent.redirect_host),
            escaped(self.action),
            escaped(&consent.ticket),
            if is_void { "" } else { allow },
        );
        let title = format!("Allow {} access?", consent.client);
        page(200, &title, &body, &format!("'self' {}", self.source()))
    }

    fn is_permitted(&self, name: &str) -> bool {
        self.may.as_ref().is_none_or(|may| may.contains(&name))
    }

    /// Where the answer's redirect goes, as a source of a content security policy: browsers
    /// apply `form-action` to redirects, too. An address of IPv6 is none in its grammar.
    fn source(&self) -> String {
        let host = &self.consent.redirect_host;
        match host.split_once("://") {
            Some((scheme, rest)) if rest.starts_with('[') => format!("{scheme}:"),
            Some(_) => host.clone(),
            None => format!("{host}:"),
        }
    }
}

/// What a person answered on a [`ConsentPage`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer<'a> {
    /// Allowed, these permissions.
    Allow(Vec<&'a str>),
    /// Denied, or allowed none of what was asked for.
    Deny,
}

impl<'a> Answer<'a> {
    /// Reads what the page's form sends. Anything but a plain yes is a no.
    #[must_use]
    pub fn read(params: &Params, consent: &'a Consent) -> Self {
        let chosen: Vec<&str> = consent
            .scope
            .iter()
            .enumerate()
            .filter(|(at, _)| params.get(&format!("s{at}")) == Some("1"))
            .map(|(_, name)| name.as_str())
            .collect();
        let is_some = !chosen.is_empty() || consent.scope.is_empty();
        match params.get("answer") {
            Some("allow") if is_some => Self::Allow(chosen),
            _ => Self::Deny,
        }
    }
}

/// A page with a message, for a person who can be sent nowhere.
///
/// ```
/// let reply = gatekey_oauth::page::message(400, "This application is not known here.");
/// assert_eq!(reply.status, 400);
/// assert!(reply.headers.iter().all(|(name, _)| *name != "location"));
/// ```
#[must_use]
pub fn message(status: u16, text: &str) -> Reply {
    let body = format!("<h1>This did not work</h1><p>{}</p>", escaped(text));
    page(status, "This did not work", &body, "'none'")
}

fn page(status: u16, title: &str, body: &str, form_action: &str) -> Reply {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action {form_action}; \
         frame-ancestors 'none'; base-uri 'none'"
    );
    let headers = [
        ("content-type", "text/html; charset=utf-8"),
        ("content-security-policy", &policy),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
    ];
    Reply {
        status,
        headers: headers.map(|(name, value)| (name, value.to_owned())).into(),
        body: format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>",
            escaped(title)
        ),
    }
}

/// A text as part of HTML, of an attribute too.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent() -> Consent {
        Consent {
            ticket: "t.m".to_owned(),
            client: "App".to_owned(),
            redirect_host: "https://app.example.com".to_owned(),
            scope: vec!["read".to_owned(), "write".to_owned()],
        }
    }

    fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
        let mut found = reply.headers.iter().filter(|(known, _)| *known == name);
        found.next().map_or("", |(_, value)| value)
    }

    #[test]
    fn nothing_that_is_shown_is_markup() {
        let hostile = "</title></style><script>alert('1')</script>\"'&<img src=x onerror=y>";
        let mut asked = consent();
        for text in [
            &mut asked.ticket,
            &mut asked.client,
            &mut asked.redirect_host,
        ] {
            *text = hostile.to_owned();
        }
        asked.scope = vec![hostile.to_owned(), "read".to_owned()];
        let page = ConsentPage::new(&asked, hostile).person(hostile);
        let body = page.describe("read", hostile).reply().body;
        let ours = ConsentPage::new(&consent(), "/x").person("p").reply().body;
        for mark in ["<script", "<img", "alert('", "'", "</title>", "</style>"] {
            let count = |text: &str| text.matches(mark).count();
            assert_eq!(count(&body), count(&ours), "{mark}");
        }
        assert_eq!(body.matches('<').count(), ours.matches('<').count());
        assert_eq!(body.matches('"').count(), ours.matches('"').count());
        assert!(!message(400, hostile).body.contains("<script"));
    }

    #[test]
    fn no_page_may_frame_it_and_nothing_keeps_or_leaks_it() {
        for reply in [
            ConsentPage::new(&consent(), "/x").reply(),
            message(400, "no"),
        ] {
            let policy = header(&reply, "content-security-policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
            assert!(policy.contains("; frame-ancestors 'none'; base-uri 'none'"));
            assert_eq!(header(&reply, "x-frame-options"), "DENY");
            assert_eq!(header(&reply, "referrer-policy"), "no-referrer");
            assert_eq!(header(&reply, "cache-control"), "no-store");
            assert!(!reply.body.contains("<script"));
        }
    }

    /// Browsers stop a redirect after a form that goes elsewhere than its page says.
    #[test]
    fn its_form_may_be_redirected_to_the_client_and_nowhere_else() {
        for (host, source) in [
            (
                "https://app.example.com:8443",
                "https://app.example.com:8443",
            ),
            ("http://127.0.0.1:51234", "http://127.0.0.1:51234"),
            ("http://[::1]:7", "http:"),
            ("com.example.app", "com.example.app:"),
        ] {
            let mut asked = consent();
            asked.redirect_host = host.to_owned();
            let reply = ConsentPage::new(&asked, "/x").reply();
            let policy = header(&reply, "content-security-policy");
            assert!(
                policy.contains(&format!("; form-action 'self' {source}; ")),
                "{policy}"
            );
        }
        let policy = header(&message(400, ""), "content-security-policy").to_owned();
        assert!(policy.contains("; form-action 'none'; "));
    }

    #[test]
    fn only_a_plain_yes_is_a_yes() {
        let asked = consent();
        let read = |body: &str| {
            let params = Params::form(body.as_bytes()).unwrap_or_default();
            match Answer::read(&params, &asked) {
                Answer::Allow(scope) => scope.join(" "),
                Answer::Deny => "no".to_owned(),
            }
        };
        for (body, expected) in [
            ("answer=allow&s0=1&s1=1", "read write"),
            ("answer=allow&s1=1", "write"),
            ("answer=allow&s2=1&s0=on", "no"),
            ("answer=allow", "no"),
            ("answer=deny&s0=1", "no"),
            ("s0=1&s1=1", "no"),
            ("answer=allow&answer=deny&s0=1", "no"),
            ("", "no"),
        ] {
            assert_eq!(read(body), expected, "{body}");
        }
        let nothing = Consent {
            scope: Vec::new(),
            ..consent()
        };
        let params = Params::form(b"answer=allow").unwrap_or_default();
        assert_eq!(Answer::read(&params, &nothing), Answer::Allow(Vec::new()));
    }

    #[test]
    fn nobody_is_asked_for_what_she_may_not_do() {
        let asked = consent();
        let page = ConsentPage::new(&asked, "/x").may(["write"]).reply().body;
        assert!(!page.contains("name=\"s0\"") && page.contains("name=\"s1\""));
        let page = ConsentPage::new(&asked, "/x").may([]).reply().body;
        assert!(!page.contains("value=\"allow\"") && page.contains("value=\"deny\""));
    }
}
