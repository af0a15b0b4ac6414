//! What `gatekey import` takes.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::args::Sure;
use crate::complete::{keyspaces, owners};

/// Where keys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Unkey: hash (SHA-256 in base64), externalId, expires, remaining, enabled.
    Unkey,
    /// Laravel Sanctum: the table personal_access_tokens.
    Sanctum,
    /// djangorestframework-api-key: the table of API keys, from version 3 on.
    Drf,
    /// Kong's key-auth: its YAML, or the table keyauth_credentials. Plain.
    Kong,
    /// better-auth: the table apikey.
    BetterAuth,
    /// LiteLLM: the table LiteLLM_VerificationToken.
    Litellm,
    /// SHA-256 of tokens: columns hash, id, owner, name, expires_at; or a hash a line.
    Sha256,
    /// Plain tokens: columns token, id, owner, name, expires_at; or a token a line.
    Plain,
}

/// The lengths of tokens: 40 or 40-60.
#[derive(Debug, Clone)]
pub(crate) struct Lengths(pub(crate) RangeInclusive<u16>);

impl FromStr for Lengths {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let read = |text: &str| text.parse().map_err(|_| format!("{text:?} is no length"));
        Ok(Self(read(from)?..=read(to)?))
    }
}

/// An instant, or none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sunset(pub(crate) Option<gatekey::Timestamp>);

impl FromStr for Sunset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => text
                .parse()
                .map(|at| Self(Some(at)))
                .map_err(|error: gatekey::ParseError| error.to_string()),
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Import {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Option<Run>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show imports, and how many of their keys were not seen yet.
    Status,
    /// Set the instant from which keys that were never used are revoked; none for never.
    Sunset {
        /// The import.
        name: String,
        /// 2031-01-01T00:00:00Z, or none.
        instant: Sunset,
        #[command(flatten)]
        sure: Sure,
    },
    /// Give a key the token that its holder has, from stdin or a file, which was checked before.
    Claim {
        /// The import.
        name: String,
        /// The id that the source has for the key.
        id: String,
        #[command(flatten)]
        token: crate::args::TokenSource,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where the keys come from.
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// What the source gives: CSV with a head, JSON or NDJSON, an SQL dump (COPY, or INSERT),
    /// or Kong's YAML. - for stdin.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The keyspace of the keys.
    #[arg(long, add = ArgValueCompleter::new(keyspaces))]
    pub(crate) keyspace: String,
    /// The name of the import; the format, if not given. The same name goes on where an import
    /// was cut off.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Who holds the keys whose row does not say it.
    #[arg(long, add = ArgValueCompleter::new(owners))]
    pub(crate) owner: Option<String>,
    /// The path that the owners of the source are put below: acme gives acme/user-7.
    #[arg(long, value_name = "OWNER", add = ArgValueCompleter::new(owners))]
    pub(crate) below: Option<String>,
    /// A permission that each key gets. May be given several times.
    #[arg(long = "permission", value_name = "NAME")]
    pub(crate) permissions: Vec<String>,
    /// Also give each key the permissions of its row; the keyspace must have the names. What
    /// stands for all of them (*) is left out.
    #[arg(long)]
    pub(crate) source_permissions: bool,
    /// How every token begins: sk-. The narrower, the fewer texts are looked for.
    #[arg(long, value_name = "TEXT")]
    pub(crate) starts_with: Option<String>,
    /// How long tokens are: 40, or 40-60.
    #[arg(long, value_name = "LENGTHS")]
    pub(crate) lengths: Option<Lengths>,
    /// From when on keys that were never used are revoked.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) sunset: Option<gatekey::Timestamp>,
    /// Import only the keys whose hash is slow (PBKDF2, bcrypt, argon2), each to be claimed.
    #[arg(long)]
    pub(crate) slow: bool,
    /// Import plain tokens of fewer than 20 characters, too.
    #[arg(long)]
    pub(crate) allow_weak: bool,
    /// Only say of each row what would become of it.
    #[arg(long)]
    pub(crate) dry_run: bool,
}
