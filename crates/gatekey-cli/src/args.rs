//! What the command line takes.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use crate::complete::{keys, keyspaces, owners};
use crate::values::{Expiry, Label, Limits, PepperFile, Quota, Reason, Time};

/// API keys from the command line: on a store's file, and while a server holds it.
///
/// Opens the file. Where a server holds it, asks the server through the socket beside the
/// file. A token alone goes to stdout, all else to stderr; with --json, answers are objects,
/// one a line.
///
/// Exit codes: 0 done, 1 fault, 2 usage, 3 not found, 4 refused, 5 the store is locked,
/// 6 the check found something or the server of a fleet is not fresh, 7 denied.
#[derive(Debug, Parser)]
#[command(
    name = "gatekey",
    version,
    max_term_width = 100,
    propagate_version = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The store's file.
    #[arg(long, global = true, env = "GATEKEY_STORE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) store: Option<PathBuf>,
    /// A server's admin API, in the place of a file: https://HOST:PORT, or http://. The admin
    /// key is in GATEKEY_ADMIN_KEY, or in a file.
    #[arg(long, global = true, env = "GATEKEY_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The file with the admin key, for --url.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) admin_key_file: Option<PathBuf>,
    /// The file with the certificates that a server's with TLS must lead to, or a database's,
    /// in the place of the system's.
    #[arg(long, global = true, env = "GATEKEY_CA_FILE", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca_file: Option<PathBuf>,
    /// Send the admin key to another host over plain HTTP.
    #[arg(long, global = true)]
    pub(crate) allow_plain_http: bool,
    /// The socket of the server that holds the file; FILE.sock if not given.
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) socket: Option<PathBuf>,
    /// A pepper of the store: its id, and the file with its bytes. May be given several
    /// times.
    #[arg(
        long,
        global = true,
        env = "GATEKEY_PEPPERS",
        value_name = "ID=FILE",
        value_delimiter = ','
    )]
    pub(crate) pepper: Vec<PepperFile>,
    /// Print answers as JSON, one object a line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    pub(crate) log: crate::fleet::postgres::LogArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a store.
    Init,
    /// Keyspaces: families of keys under one policy.
    #[command(subcommand)]
    Keyspace(Keyspace),
    /// Keys.
    #[command(subcommand)]
    Key(Key),
    /// Owners: who holds the keys.
    #[command(subcommand)]
    Owner(Owner),
    /// Verify a token, from stdin or a file, and charge its key. Exits 7 if it is denied.
    Verify(Verify),
    /// Say whether a text has the form of a token, without a store.
    Inspect(TokenSource),
    /// Find the key of a token, from stdin or a file: whose is it, and in what state.
    ///
    /// The token may be in a text: a header, a line of a log, credentials of Basic.
    Find(TokenSource),
    /// The audit trail: who changed what, and why.
    #[command(subcommand)]
    Audit(Audit),
    /// Add up how keys were used.
    Usage(UsageOf),
    /// List keys that a person should look at, each with the rule that is true of it.
    Hints,
    /// Show what the store holds.
    Stats,
    /// Show whether the store takes changes, and a fleet's server is fresh.
    Health,
    /// Show whether the clock is right.
    Clock,
    /// Show metrics, in the text format of Prometheus.
    Metrics,
    /// Walk the whole store, and name what does not agree. Exits 6 if something does not.
    Check,
    /// Remove or rebuild what is damaged.
    Repair(Sure),
    /// Make a backup.
    Backup {
        /// The file to make. It must not exist.
        #[arg(value_hint = ValueHint::FilePath)]
        target: PathBuf,
    },
    /// Make a store of a backup, without un-revoking a key.
    Restore(Restore),
    /// Import keys of another system, whose holders go on with the tokens that they have.
    Import(Box<crate::import::args::Import>),
    /// Remove keys that ended long ago.
    Purge {
        /// How long ago: 90d, 12h.
        #[arg(long)]
        age: Time,
        #[command(flatten)]
        sure: DryRun,
    },
    /// Make the file as small as its content.
    Compact,
    /// A fleet: several servers with one set of keys.
    #[command(subcommand)]
    Fleet(crate::fleet::Fleet),
    /// Peppers: secrets outside the file.
    #[command(subcommand)]
    Pepper(Pepper),
    /// Send a request to the admin API, as docs/openapi.json has them.
    Api {
        /// GET, POST or PATCH.
        method: String,
        /// The path, with its query: /v1/keys?state=active
        path: String,
        /// The file with the body; - for stdin.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        body: Option<PathBuf>,
    },
    /// Hold the store, and serve the admin API until told to stop.
    Serve(Serve),
    /// Print the script that completes commands, key ids and owners in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page.
    Man,
}

/// Confirmation.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Sure {
    /// Do not ask. Needed where nobody can be asked.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// Confirmation, of what can be counted first.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DryRun {
    #[command(flatten)]
    pub(crate) sure: Sure,
    /// Only say how many keys it would reach.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Why something is taken away.
#[derive(Debug, Clone, Args)]
pub(crate) struct Why {
    /// unspecified, key-compromise, superseded, affiliation-changed, privilege-withdrawn or
    /// cessation.
    #[arg(long, default_value = "unspecified")]
    pub(crate) reason: Reason,
    /// A note, which the audit trail keeps.
    #[arg(long)]
    pub(crate) note: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenSource {
    /// The file with the token, in the place of stdin.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keyspace {
    /// Create a keyspace.
    Create {
        /// The prefix of its tokens.
        prefix: String,
        /// A permission. May be given several times.
        #[arg(long = "permission", value_name = "NAME")]
        permissions: Vec<String>,
        #[command(flatten)]
        policy: Policy,
    },
    /// List all keyspaces.
    List,
    /// Show a keyspace.
    Show {
        #[arg(add = ArgValueCompleter::new(keyspaces))]
        prefix: String,
    },
    /// Change a keyspace.
    Update {
        #[arg(add = ArgValueCompleter::new(keyspaces))]
        prefix: String,
        /// A permission to add. May be given several times.
        #[arg(long = "add-permission", value_name = "NAME")]
        add_permissions: Vec<String>,
        /// A permission to retire, for good. May be given several times.
        #[arg(long = "retire-permission", value_name = "NAME")]
        retire_permissions: Vec<String>,
        #[command(flatten)]
        policy: Policy,
    },
    /// Revoke all keys of a keyspace.
    Revoke {
        #[arg(add = ArgValueCompleter::new(keyspaces))]
        prefix: String,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        sure: DryRun,
    },
}

/// What a keyspace allows. `none` removes a bound.
#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// A description.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// How many keys an owner may hold: many, a number, single (a new key supersedes the
    /// old one) or single-refusing.
    #[arg(long, value_name = "HOW_MANY")]
    pub(crate) keys_per_owner: Option<crate::values::PerOwner>,
    /// The life of a key whose issue does not say one: 90d, or none.
    #[arg(long, value_name = "TIME")]
    pub(crate) default_lifetime: Option<Time>,
    /// The longest life of a key: 365d, or none.
    #[arg(long, value_name = "TIME")]
    pub(crate) max_lifetime: Option<Time>,
    /// The longest grace of a rotation: 7d, or none.
    #[arg(long, value_name = "TIME")]
    pub(crate) max_grace: Option<Time>,
    /// A plan: free=60/1m,1000/1h. May be given several times.
    #[arg(long = "plan", value_name = "NAME=LIMITS")]
    pub(crate) plans: Vec<crate::values::PlanOf>,
    /// The plan of a key whose issue does not name one.
    #[arg(long, value_name = "NAME")]
    pub(crate) default_plan: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Issue a key. Its token alone goes to stdout, once.
    Issue(Box<Issue>),
    /// Issue keys from a file of requests, one JSON object a line, all or none.
    Batch {
        /// The file; - for stdin.
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        once: Once,
    },
    /// List keys.
    List(Box<List>),
    /// Show a key.
    Show {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
    },
    /// Change a key.
    Update {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
        #[command(flatten)]
        changes: Box<Changes>,
    },
    /// Replace a key by a new one. The new token alone goes to stdout, once.
    Rotate {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
        /// How long the old key is still accepted: 7d. Not at all, if not given.
        #[arg(long, value_name = "TIME")]
        grace: Option<Time>,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        sure: Sure,
    },
    /// Disable a key, until it is enabled.
    Disable {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
    },
    /// Enable a key.
    Enable {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
    },
    /// Revoke a key for good: by its id, or by its token from stdin or a file.
    Revoke {
        /// Its id.
        #[arg(add = ArgValueCompleter::new(keys), required_unless_present_any = ["token_file", "token_stdin"])]
        id: Option<String>,
        /// The file with its token, in the place of its id.
        #[arg(long, value_name = "FILE", conflicts_with = "id", value_hint = ValueHint::FilePath)]
        token_file: Option<PathBuf>,
        /// Its token is on stdin.
        #[arg(long, conflicts_with_all = ["id", "token_file"])]
        token_stdin: bool,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        sure: Sure,
    },
    /// List the audit entries about a key: who did what to it, and why.
    History {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
    },
    /// Show how a key was used, from where if that is noted, and what is left of its limits and
    /// its quota.
    Usage {
        #[arg(add = ArgValueCompleter::new(keys))]
        id: String,
    },
}

/// A name for a request, with which it can be asked again.
#[derive(Debug, Clone, Args)]
pub(crate) struct Once {
    /// A new name for this request. Given again, the answer that was lost is replaced.
    #[arg(long, value_name = "NAME")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Issue {
    #[arg(add = ArgValueCompleter::new(keyspaces))]
    pub(crate) keyspace: String,
    /// Who holds it: acme/ingest.
    #[arg(long, add = ArgValueCompleter::new(owners))]
    pub(crate) owner: String,
    /// A permission. May be given several times.
    #[arg(long = "permission", value_name = "NAME")]
    pub(crate) permissions: Vec<String>,
    /// A name for people.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A description.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// A label. May be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// The first instant at which it is good: 2026-12-01T00:00:00Z.
    #[arg(long, value_name = "INSTANT")]
    pub(crate) not_before: Option<gatekey::Timestamp>,
    /// When it ends: a time (90d), an instant, or never. As the keyspace says, if not given.
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Expiry>,
    /// A network that it may be used from. May be given several times.
    #[arg(long = "network", value_name = "CIDR")]
    pub(crate) networks: Vec<gatekey::Network>,
    /// The plan that it follows.
    #[arg(long)]
    pub(crate) plan: Option<String>,
    /// Limits in the place of its plan's: 60/1m,1000/1h, or none.
    #[arg(long, value_name = "LIMITS")]
    pub(crate) limits: Option<Limits>,
    /// How many requests it is good for: 1000, 1000/day or 1000/month.
    #[arg(long)]
    pub(crate) quota: Option<Quota>,
    #[command(flatten)]
    pub(crate) once: Once,
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// A name for people; an empty one removes it.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// A description; an empty one removes it.
    #[arg(long)]
    pub(crate) description: Option<String>,
    /// A label to set. May be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<Label>,
    /// A label to remove. May be given several times.
    #[arg(long = "remove-label", value_name = "NAME")]
    pub(crate) remove_labels: Vec<String>,
    /// A permission to add. May be given several times.
    #[arg(long = "add-permission", value_name = "NAME")]
    pub(crate) add_permissions: Vec<String>,
    /// A permission to remove. May be given several times.
    #[arg(long = "remove-permission", value_name = "NAME")]
    pub(crate) remove_permissions: Vec<String>,
    /// When it ends: a time (90d), an instant, or never.
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Expiry>,
    /// The networks that it may be used from, in the place of those it has.
    #[arg(long = "network", value_name = "CIDR", conflicts_with = "any_network")]
    pub(crate) networks: Vec<gatekey::Network>,
    /// It may be used from everywhere.
    #[arg(long)]
    pub(crate) any_network: bool,
    /// The plan that it follows; none for no plan.
    #[arg(long)]
    pub(crate) plan: Option<String>,
    /// Limits in the place of its plan's: 60/1m,1000/1h; none for no limit; plan for the
    /// plan's again.
    #[arg(long, value_name = "LIMITS")]
    pub(crate) limits: Option<Limits>,
    /// How many requests it is good for, from now on: 1000, 1000/day, 1000/month or none.
    #[arg(long)]
    pub(crate) quota: Option<Quota>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Keys of a keyspace.
    #[arg(long, add = ArgValueCompleter::new(keyspaces))]
    pub(crate) keyspace: Option<String>,
    /// Keys of exactly this owner.
    #[arg(long, conflicts_with = "below", add = ArgValueCompleter::new(owners))]
    pub(crate) owner: Option<String>,
    /// Keys of this owner and of all below it.
    #[arg(long, value_name = "OWNER", add = ArgValueCompleter::new(owners))]
    pub(crate) below: Option<String>,
    /// Keys in a state: active, retiring, not-yet-valid, disabled, suspended, expired or
    /// revoked.
    #[arg(long)]
    pub(crate) state: Option<String>,
    /// Keys that are past their expiry, whatever their state, or all others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) expired: Option<bool>,
    /// Keys that are disabled, whatever their state, or all others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) disabled: Option<bool>,
    /// Keys that are suspended, whatever their state, or all others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) suspended: Option<bool>,
    /// Keys that need a pepper.
    #[arg(long, value_name = "ID")]
    pub(crate) needing_pepper: Option<u8>,
    /// Keys with a label: NAME, or NAME=VALUE. May be given several times.
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Keys whose name has a text in it, in letters of either case.
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Keys that expire, or whose grace ends, within a time: 14d.
    #[arg(long, value_name = "TIME")]
    pub(crate) expiring: Option<Time>,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Owner {
    /// Show whether an owner is suspended, and how many keys it has.
    Show {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
    },
    /// Suspend an owner and all below it.
    Suspend {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
        /// A note, which the audit trail keeps.
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        sure: DryRun,
    },
    /// Resume an owner.
    Resume {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
    },
    /// Revoke all keys of an owner and of all below it.
    Revoke {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        sure: DryRun,
    },
    /// Show what an owner has of its own in a keyspace.
    Settings {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
        /// The keyspace.
        #[arg(long, add = ArgValueCompleter::new(keyspaces))]
        keyspace: String,
    },
    /// Change what an owner has of its own in a keyspace; none brings back the default of its level.
    Update {
        #[arg(add = ArgValueCompleter::new(owners))]
        owner: String,
        /// The keyspace.
        #[arg(long, add = ArgValueCompleter::new(keyspaces))]
        keyspace: String,
        /// A plan.
        #[arg(long)]
        plan: Option<String>,
        /// Limits in the place of the plan's; plan for the plan's again.
        #[arg(long, value_name = "LIMITS")]
        limits: Option<Limits>,
        /// A quota: 1000, 1000/day, 1000/month; unlimited for no quota.
        #[arg(long)]
        quota: Option<crate::values::OwnerQuota>,
        /// The most keys; unlimited for no cap.
        #[arg(long)]
        cap: Option<crate::values::Cap>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) token: TokenSource,
    /// The keyspace that it must be of.
    #[arg(long, add = ArgValueCompleter::new(keyspaces))]
    pub(crate) keyspace: Option<String>,
    /// A permission that it must have. May be given several times.
    #[arg(long = "permission", value_name = "NAME")]
    pub(crate) permissions: Vec<String>,
    /// The address that the request comes from.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) source: Option<std::net::IpAddr>,
    /// What the request costs limits and quotas.
    #[arg(long)]
    pub(crate) cost: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {
    /// The export.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// The file with the key of the store's trail, which `audit key` prints.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) key_file: PathBuf,
    /// Print the entries, one JSON object a line, each once it is verified.
    #[arg(long)]
    pub(crate) entries: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List entries.
    List {
        /// The position of the first entry.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// At most so many.
        #[arg(long, value_name = "COUNT")]
        limit: Option<usize>,
        /// The newest so many.
        #[arg(long, value_name = "COUNT", conflicts_with_all = ["from", "limit"])]
        last: Option<u64>,
    },
    /// Write entries as lines that can be verified without the store.
    Export {
        /// The position of the first entry.
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
    /// Verify an export, without the store.
    Verify(VerifyAudit),
    /// Print the key that exports are verified with. Whoever has it can forge exports.
    Key,
    /// Show the first and the newest link.
    Span,
    /// Remove entries from the beginning. Export them first.
    Trim {
        /// The position of the last entry to remove.
        #[arg(long)]
        through: u64,
        #[command(flatten)]
        sure: Sure,
    },
}

#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = true)]
pub(crate) struct UsageOf {
    /// Keys of a keyspace.
    #[arg(long, group = "whose", add = ArgValueCompleter::new(keyspaces))]
    pub(crate) keyspace: Option<String>,
    /// Keys of this owner and of all below it.
    #[arg(long, group = "whose", add = ArgValueCompleter::new(owners))]
    pub(crate) owner: Option<String>,
    /// A key, by its id: its days.
    #[arg(long, group = "whose", conflicts_with_all = ["keyspace", "owner"], add = ArgValueCompleter::new(keys))]
    pub(crate) key: Option<String>,
    /// What belongs to no keyspace, since it was malformed or unknown: its days.
    #[arg(long, group = "whose", conflicts_with_all = ["keyspace", "owner", "key"])]
    pub(crate) unattributed: bool,
    /// Show the days of this long until now, in the place of the sum: 30d.
    #[arg(long, value_name = "TIME")]
    pub(crate) last: Option<Time>,
    /// Show hours, in the place of days. Only keyspaces have them.
    #[arg(long)]
    pub(crate) hourly: bool,
    /// Print a chart, as SVG.
    #[arg(long)]
    pub(crate) svg: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) backup: PathBuf,
    /// The store to make. It must not exist.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) target: PathBuf,
    /// An export of the audit trail since the backup. May be given several times, in order.
    #[arg(long = "trail", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) trails: Vec<PathBuf>,
    /// A key to revoke. May be given several times.
    #[arg(long = "revoke", value_name = "ID")]
    pub(crate) revoke: Vec<gatekey::KeyId>,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Pepper {
    /// List the peppers, and how many keys need each.
    Status,
    /// Begin to sign with a new pepper. The server must be stopped, and be given both
    /// peppers from then on.
    Rotate {
        /// The new pepper. Its id is the highest.
        #[arg(long, value_name = "ID=FILE")]
        new: PepperFile,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Also listen on TCP, for admin keys of a keyspace: 127.0.0.1:7070.
    #[arg(long, value_name = "ADDRESS", requires = "admin_keyspace")]
    pub(crate) tcp: Option<std::net::SocketAddr>,
    /// The keyspace of admin keys. It is created where there is none.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) admin_keyspace: Option<gatekey::Prefix>,
    /// Create the store where there is none; in a fleet, by the newest snapshot of its log.
    #[arg(long)]
    pub(crate) create: bool,
    /// Note the networks that keys are used from, for the hint of a new one: personal data,
    /// where a key is a person's.
    #[arg(long, env = "GATEKEY_NOTE_NETWORKS")]
    pub(crate) note_networks: bool,
    /// Wait so long for another process that holds the store: 30s.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    pub(crate) wait: Time,
}
