//! Where the keys are: in memory, in a file, or in a file whose changes go through the log of a
//! fleet, which `--log` names.
//!
//! ```sh
//! GATEKEY_LOG_PASSWORD=... cargo run --release -p gatekey-example-server --features postgres -- \
//!     one.redb 127.0.0.1:8001 --log postgres://gatekey@db/gatekey --node one --pepper pepper
//! ```
//! `gatekey fleet create` founds the fleet first. A file that is not there is made of what the fleet
//! has. `--pepper` names the file with the pepper of id 1.

use gatekey::{Engine, Options};

type Failed = Box<dyn std::error::Error>;

/// What the program was called with.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) file: Option<String>,
    pub(crate) address: Option<String>,
    log: Option<String>,
    node: Option<String>,
    pepper: Option<String>,
}

impl Arguments {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failed> {
        let mut read = Self::default();
        while let Some(word) = words.next() {
            let place = match word.as_str() {
                "--log" => &mut read.log,
                "--node" => &mut read.node,
                "--pepper" => &mut read.pepper,
                _ => {
                    let place = match read.file {
                        None => &mut read.file,
                        Some(_) => &mut read.address,
                    };
                    *place = Some(word);
                    continue;
                }
            };
            let value = words.next().ok_or(format!("{word} takes a value"))?;
            *place = Some(value);
        }
        Ok(read)
    }

    /// Whether other servers have the same keys.
    pub(crate) fn is_of_fleet(&self) -> bool {
        self.log.is_some()
    }

    pub(crate) fn open(&self, mut options: Options) -> Result<Engine, Failed> {
        if let Some(file) = &self.pepper {
            let bytes = std::fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            let secret = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            options = options.pepper(gatekey::Pepper::new(1, secret)?);
        }
        match (&self.file, &self.log) {
            (None, Some(_)) => Err("--log takes a file".into()),
            (Some(file), Some(log)) => self.join(options, file, log),
            (Some(file), None) => Ok(options.open_or_create(file)?),
            (None, None) => Ok(options.open_in_memory()?),
        }
    }

    #[cfg(feature = "postgres")]
    fn join(&self, options: Options, file: &str, log: &str) -> Result<Engine, Failed> {
        let mut config = gatekey_postgres::Config::new(log)?;
        // Everybody on the host can read what a program is called with.
        if config.has_password() {
            return Err("give the password of the database in GATEKEY_LOG_PASSWORD".into());
        }
        if let Ok(password) = std::env::var("GATEKEY_LOG_PASSWORD") {
            config = config.password(&password);
        }
        let node = self.node.as_deref();
        let node = node.ok_or("--log takes --node: a name of which the fleet has no other")?;
        let log = std::sync::Arc::new(config.open("gatekey")?);
        let settings = gatekey::fleet::Settings::new(log, node);
        Ok(options.fleet(settings).join_fleet(file)?)
    }

    #[cfg(not(feature = "postgres"))]
    fn join(&self, _: Options, _: &str, _: &str) -> Result<Engine, Failed> {
        let _ = &self.node;
        Err("--log takes the feature postgres".into())
    }
}
