//! What each source's row says of a key.

use gatekey::{ForeignHash, Timestamp};
use gatekey_admin::wire::{ForeignKeyRequest, ImportRequest, IssueRequest};
use serde_json::Value;

use super::args::{Format, Run};
use super::source::Row;

/// The shortest plain token that is not weak.
const STRONG_LEN: usize = 20;

/// What a row comes to.
pub(super) enum Read {
    Key(Box<ForeignKeyRequest>),
    /// It is not of this import: a slow hash among others, or the other way round.
    Passed(&'static str),
    /// It cannot be imported.
    Bad(String),
}

impl Format {
    /// What the source keeps of a token.
    pub(super) fn hash(self) -> ForeignHash {
        match self {
            Self::Kong | Self::Plain => ForeignHash::Plain,
            Self::Drf => ForeignHash::Sha512,
            _ => ForeignHash::Sha256,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unkey => "unkey",
            Self::Sanctum => "sanctum",
            Self::Drf => "drf",
            Self::Kong => "kong",
            Self::BetterAuth => "better-auth",
            Self::Litellm => "litellm",
            Self::Sha256 => "sha256",
            Self::Plain => "plain",
        }
    }

    /// The column of a file that has one value a line.
    pub(super) fn bare(self) -> Option<&'static str> {
        match self {
            Self::Sha256 => Some("hash"),
            Self::Plain => Some("token"),
            _ => None,
        }
    }

    /// How long tokens are where nobody says it, and how they begin.
    fn shape(self, allow_weak: bool) -> (u16, u16, &'static str) {
        let weakest = if allow_weak { 1 } else { 20 };
        match self {
            // The id and the bar of Sanctum are not counted.
            Self::Sanctum => (40, 128, ""),
            Self::Drf => (41, 160, ""),
            Self::Kong | Self::Plain => (weakest, 512, ""),
            Self::BetterAuth => (32, 256, ""),
            Self::Litellm => (8, 256, "sk-"),
            Self::Unkey | Self::Sha256 => (8, 512, ""),
        }
    }
}

impl Run {
    pub(super) fn import(&self) -> ImportRequest {
        let (len_min, len_max, start) = self.format.shape(self.allow_weak);
        let lengths = self.lengths.as_ref().map_or((len_min, len_max), |lengths| {
            (*lengths.0.start(), *lengths.0.end())
        });
        let suffix = if self.slow { "-slow" } else { "" };
        let name = format!("{}{suffix}", self.format.name());
        ImportRequest {
            name: self.name.clone().unwrap_or(name),
            hash: match self.slow {
                true => ForeignHash::Other,
                false => self.format.hash(),
            },
            starts_with: self.starts_with.clone().unwrap_or_else(|| start.to_owned()),
            len_min: Some(lengths.0),
            len_max: Some(lengths.1),
            after_bar: self.format == Format::Sanctum,
            sunset: self.sunset,
        }
    }

    /// Reads a row as a key.
    pub(super) fn read(&self, row: &Row) -> Read {
        match self.key(row) {
            Ok(read) => read,
            Err(why) => Read::Bad(why),
        }
    }

    fn key(&self, row: &Row) -> Result<Read, String> {
        let secret = match self.secret(row)? {
            Ok(secret) => secret,
            Err(passed) => return Ok(Read::Passed(passed)),
        };
        let (token, digest) = match secret {
            Secret::Token(token) => (Some(token), None),
            Secret::Digest(digest) => (None, Some(digest)),
            Secret::Slow => (None, None),
        };
        let owner = self.owner(row)?;
        let mut permissions = self.permissions.clone();
        if self.source_permissions {
            permissions.extend(self.permissions_of(row));
            permissions.sort();
            permissions.dedup();
        }
        let expiry = match self.ends(row)? {
            Some(at) => gatekey::Expiry::At(at),
            None => gatekey::Expiry::Default,
        };
        let remaining = pick(row, &["remaining", "remaining_requests", "credits"]);
        let remaining =
            remaining.map(|left| left.parse::<u64>().map_err(|_| "remaining is no number"));
        let quota = match remaining.transpose()? {
            Some(0) => return Err("it has no requests left".to_owned()),
            Some(left) => Some(gatekey::Quota::new(left)),
            None => None,
        };
        let name = match self.format {
            Format::Litellm => pick(row, &["key_alias", "key_name"]),
            _ => pick(row, &["name"]),
        };
        Ok(Read::Key(Box::new(ForeignKeyRequest {
            id: self.id(row),
            token,
            digest,
            disabled: self.is_disabled(row),
            key: IssueRequest {
                keyspace: self.keyspace.clone(),
                owner,
                permissions,
                name,
                labels: [("imported_from".to_owned(), self.import().name)].into(),
                expiry: Some(expiry),
                quota,
                ..IssueRequest::default()
            },
        })))
    }

    fn secret(&self, row: &Row) -> Result<Result<Secret, &'static str>, String> {
        let names: &[&str] = match self.format {
            Format::Unkey => &["hash", "hash.value"],
            Format::Sanctum | Format::Litellm => &["token"],
            Format::Drf => &["hashed_key"],
            Format::Kong => &["key"],
            Format::BetterAuth => &["key"],
            Format::Sha256 => &["hash", "digest", "sha256", "token"],
            Format::Plain => &["token", "key"],
        };
        let text = pick(row, names).ok_or_else(|| format!("it has no {}", names.join(" or ")))?;
        let is_slow = ["pbkdf2", "$2", "$argon2", "bcrypt", "argon2", "scrypt"]
            .iter()
            .any(|start| text.starts_with(start));
        match (is_slow, self.slow) {
            (true, true) => return Ok(Ok(Secret::Slow)),
            (true, false) => {
                return Ok(Err("its hash is slow: import it with --slow, and claim it"));
            }
            (false, true) => return Ok(Err("its hash is fast: import it without --slow")),
            (false, false) => {}
        }
        if self.format.hash() == ForeignHash::Plain {
            if text.len() < STRONG_LEN && !self.allow_weak {
                return Err(
                    "its token has fewer than 20 characters: --allow-weak takes it".to_owned(),
                );
            }
            return Ok(Ok(Secret::Token(text)));
        }
        let len = match self.format.hash() {
            ForeignHash::Sha512 => 64,
            _ => 32,
        };
        let text = match self.format {
            Format::Drf => text
                .strip_prefix("sha512$$")
                .ok_or("it is no sha512$$ hash")?,
            _ => text.strip_prefix("sha256:").unwrap_or(&text),
        };
        let digest = digest(text, len).ok_or("its hash has not the form of one")?;
        Ok(Ok(Secret::Digest(digest)))
    }

    fn id(&self, row: &Row) -> Option<String> {
        let names: &[&str] = match self.format {
            Format::Unkey => &["id", "key_id", "keyId"],
            Format::Drf => &["id", "prefix"],
            // Its token is its only id; the engine makes one.
            Format::Litellm => return None,
            _ => &["id"],
        };
        let id = pick(row, names)?;
        // The id of the API keys of Django has the hash in it.
        Some(match self.format {
            Format::Drf => id.split('.').next().unwrap_or("").to_owned(),
            _ => id,
        })
    }

    fn owner(&self, row: &Row) -> Result<String, String> {
        let of_row = match self.format {
            Format::Unkey => pick(
                row,
                &[
                    "externalId",
                    "external_id",
                    "ownerId",
                    "owner_id",
                    "identity.externalId",
                ],
            ),
            Format::Sanctum => match (pick(row, &["tokenable_type"]), pick(row, &["tokenable_id"]))
            {
                (Some(kind), Some(id)) => {
                    let kind = kind.rsplit('\\').next().unwrap_or("").to_ascii_lowercase();
                    Some(format!("{kind}-{id}"))
                }
                _ => None,
            },
            Format::Drf => pick(row, &["owner", "organization_id", "user_id"]),
            Format::Kong => pick(
                row,
                &[
                    "consumer",
                    "consumer_id",
                    "consumer.username",
                    "consumer.id",
                ],
            ),
            Format::BetterAuth => pick(row, &["referenceId", "reference_id", "userId", "user_id"]),
            Format::Litellm => pick(row, &["team_id", "user_id"]),
            Format::Sha256 | Format::Plain => pick(row, &["owner"]),
        };
        match (of_row, &self.below, &self.owner) {
            // What a source calls an owner may have a slash, and is one segment.
            (Some(owner), Some(below), _) if !owner.contains('/') => Ok(format!("{below}/{owner}")),
            (Some(_), Some(_), _) => {
                Err("its owner has a slash, and is no segment of a path".to_owned())
            }
            (Some(owner), None, _) => Ok(owner),
            (None, _, Some(owner)) => Ok(owner.clone()),
            (None, _, None) => Err("it has no owner: --owner says whose such keys are".to_owned()),
        }
    }

    fn permissions_of(&self, row: &Row) -> Vec<String> {
        let names: &[&str] = match self.format {
            Format::Sanctum => &["abilities"],
            Format::Sha256 | Format::Plain | Format::Unkey | Format::BetterAuth => {
                &["permissions", "scopes"]
            }
            _ => &[],
        };
        let mut found = Vec::new();
        for value in names.iter().filter_map(|name| row.get(*name)) {
            let parsed = value
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok());
            match (parsed.as_ref().unwrap_or(value), value.as_str()) {
                (Value::Array(items), _) => {
                    found.extend(items.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                // better-auth: what may be done with each resource.
                (Value::Object(of), _) => {
                    for (resource, actions) in of {
                        let actions = actions.as_array().into_iter().flatten();
                        let actions = actions.filter_map(Value::as_str);
                        found.extend(actions.map(|action| format!("{resource}:{action}")));
                    }
                }
                (_, Some(text)) => {
                    let words = text.split([' ', ',', ';']).filter(|word| !word.is_empty());
                    found.extend(words.map(str::to_owned));
                }
                _ => {}
            }
        }
        found.retain(|name| name != "*");
        found
    }

    fn ends(&self, row: &Row) -> Result<Option<Timestamp>, String> {
        if let (Format::Kong, Some(ttl)) = (self.format, pick(row, &["ttl"])) {
            let number = |text: String| text.parse::<i64>().ok();
            let began = pick(row, &["created_at"]).and_then(number);
            let ends = number(ttl)
                .zip(began)
                .and_then(|(ttl, began)| began.checked_add(ttl));
            let at = ends.and_then(|at| Timestamp::from_unix_seconds(at).ok());
            return at
                .map(Some)
                .ok_or_else(|| "it has a ttl and no created_at".to_owned());
        }
        let names = [
            "expires",
            "expires_at",
            "expiresAt",
            "expiry_date",
            "expiry",
            "expires_on",
        ];
        match pick(row, &names) {
            Some(text) => instant(&text)
                .map(Some)
                .ok_or_else(|| "its end is no instant".to_owned()),
            None => Ok(None),
        }
    }

    fn is_disabled(&self, row: &Row) -> bool {
        let is = |names: &[&str], values: &[&str]| {
            pick(row, names)
                .is_some_and(|text| values.contains(&text.to_ascii_lowercase().as_str()))
        };
        let (yes, no) = (["true", "t", "1"], ["false", "f", "0"]);
        is(&["enabled"], &no) || is(&["disabled", "blocked", "revoked"], &yes)
    }
}

enum Secret {
    Token(String),
    /// In hexadecimal.
    Digest(String),
    Slow,
}

/// The first of some members that says something, as text. `a.b` is a member of a member.
fn pick(row: &Row, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let value = match name.split_once('.') {
            Some((outer, inner)) => row.get(outer)?.get(inner)?,
            None => row.get(*name)?,
        };
        match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(yes) => Some(yes.to_string()),
            _ => None,
        }
    })
}

/// An instant: RFC 3339, as databases write it (`2026-01-31 23:59:59+00`), or a number of seconds
/// or milliseconds since 1970.
fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(number) = text.parse::<u64>() {
        return match number < 100_000_000_000 {
            true => Timestamp::from_unix_seconds(i64::try_from(number).ok()?).ok(),
            false => Timestamp::from_unix_ms(number).ok(),
        };
    }
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00:00"));
    let zone = time.find(['Z', '+', '-']);
    let (clock, zone) = time.split_at_checked(zone.unwrap_or(time.len()))?;
    let zone = match (zone.len(), zone) {
        // Without a zone, databases mean UTC.
        (0, _) | (1, "Z") => "Z".to_owned(),
        (3, hours) => format!("{hours}:00"),
        (_, zone) => zone.to_owned(),
    };
    let clock = match clock.matches(':').count() {
        1 => format!("{clock}:00"),
        _ => clock.to_owned(),
    };
    format!("{date}T{clock}{zone}").parse().ok()
}

/// A hash in hexadecimal, from hexadecimal or either base64.
fn digest(text: &str, len: usize) -> Option<String> {
    let text = text.trim();
    if text.len() == len * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(text.to_ascii_lowercase());
    }
    let bytes = base64(text).filter(|bytes| bytes.len() == len)?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Base64 of either alphabet, with padding or without.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count) = (0_u32, 0);
    let mut bytes = Vec::new();
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_from_each_of_its_forms() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for text in [
            hex,
            "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
            "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
            "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0",
        ] {
            assert_eq!(digest(text, 32).as_deref(), Some(hex), "{text}");
        }
        for text in [
            "",
            "ab",
            &hex[1..],
            "ungWv48Bz pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        ] {
            assert_eq!(digest(text, 32), None, "{text}");
        }
    }

    #[test]
    fn an_instant_is_read_as_databases_write_it() {
        for text in [
            "2026-01-31T23:59:00Z",
            "2026-01-31 23:59:00",
            "2026-01-31 23:59",
            "2026-01-31 23:59:00+00",
            "2026-02-01 00:59:00+01:00",
            "1769903940",
            "1769903940000",
        ] {
            let at = instant(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(at.to_string(), "2026-01-31T23:59:00Z", "{text}");
        }
        for text in ["soon", "2026-13-01", "-5", "2026-01-31 99:00"] {
            assert_eq!(instant(text), None, "{text}");
        }
    }
}
