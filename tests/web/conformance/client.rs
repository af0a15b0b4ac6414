//! Two clients that know nothing of each other: the program `curl`, and `ureq`.

use std::process::Command;

use gatekey_testkit::tools;

/// A request: a method, a path below the server's address, and fields.
#[derive(Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, String)>,
    pub(crate) body: Option<String>,
    /// As `curl --user` takes it.
    pub(crate) user: Option<String>,
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            ..Self::default()
        }
    }

    pub(crate) fn post(path: &'a str) -> Self {
        Self {
            method: "POST",
            ..Self::get(path)
        }
    }

    pub(crate) fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Some(body.to_string());
        self.header("Content-Type", "application/json")
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        let value = self
            .header(name)
            .unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) type Client = fn(&str, &Ask<'_>) -> Reply;

/// The clients that are here; where curl is not, it is said that the test goes without.
pub(crate) fn clients() -> Vec<(&'static str, Client)> {
    let curl = tools::find("curl").map(|_| ("curl", curl as Client));
    curl.into_iter().chain([("ureq", ureq as Client)]).collect()
}

pub(crate) fn curl(url: &str, ask: &Ask<'_>) -> Reply {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--include",
        "--request",
        ask.method,
    ]);
    for (name, value) in &ask.headers {
        command.arg("--header").arg(format!("{name}: {value}"));
    }
    if let Some(user) = &ask.user {
        command.arg("--user").arg(user);
    }
    if let Some(body) = &ask.body {
        command.arg("--data").arg(body);
    }
    let output = command.arg(format!("{url}{}", ask.path)).output();
    let output = output.expect("curl runs where it was found");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut replies = replies(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(replies.len(), 1);
    replies.remove(0)
}

/// So many requests of curl's over one connection, one after the other.
pub(crate) fn curl_often(url: &str, path: &str, token: &str, count: usize) -> Vec<Reply> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--header"])
        .arg(format!("Authorization: Bearer {token}"))
        .arg(format!("{url}{path}?n=[1-{count}]"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let replies = replies(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(replies.len(), count);
    replies
}

/// Takes apart what `curl --include` prints, one reply after the other.
fn replies(text: &str) -> Vec<Reply> {
    let mut rest = text;
    let mut replies = Vec::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .map_or(0, |(_, value)| value.parse().unwrap());
        let (body, next) = after.split_at(length);
        replies.push(Reply {
            status: status.parse().unwrap(),
            headers,
            body: body.to_owned(),
        });
        rest = next;
    }
    replies
}

pub(crate) fn ureq(url: &str, ask: &Ask<'_>) -> Reply {
    by_ureq(url, ask, 10)
}

/// As `ureq`, and follows no redirect.
pub(crate) fn unfollowed(url: &str, ask: &Ask<'_>) -> Reply {
    by_ureq(url, ask, 0)
}

fn by_ureq(url: &str, ask: &Ask<'_>, redirects_max: u32) -> Reply {
    use base64::Engine as _;

    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(redirects_max)
        .build()
        .into();
    let mut request = http::Request::builder()
        .method(ask.method)
        .uri(format!("{url}{}", ask.path));
    for (name, value) in &ask.headers {
        request = request.header(*name, value);
    }
    if let Some(user) = &ask.user {
        let encoded = base64::engine::general_purpose::STANDARD.encode(user);
        request = request.header("Authorization", format!("Basic {encoded}"));
    }
    let body = ask.body.clone().unwrap_or_default();
    let mut response = agent.run(request.body(body).unwrap()).unwrap();
    Reply {
        status: response.status().as_u16(),
        headers: response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}
