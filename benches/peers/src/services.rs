//! The servers that `services.sh` starts and stops.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services.sh");

/// The servers under a directory; they stop when this is dropped. Where the
/// run is killed, `services.sh stop DIR` does it.
pub(crate) struct Services {
    /// Where they were started, if they were.
    dir: Option<PathBuf>,
    /// The directory of its socket, or why it is missing.
    pub(crate) postgres: Result<PathBuf, String>,
    /// Its port on 127.0.0.1, or why it is missing.
    pub(crate) redis: Result<u16, String>,
}

impl Services {
    /// None of them, for a run that does not want them.
    pub(crate) fn none() -> Self {
        Self {
            dir: None,
            postgres: Err("not started".to_owned()),
            redis: Err("not started".to_owned()),
        }
    }

    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let output = Command::new(SCRIPT)
            .arg("start")
            .arg(dir)
            .arg(free_port()?.to_string())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("running {SCRIPT}"))?;
        let mut services = Self::none();
        services.dir = Some(dir.to_owned());
        ensure!(output.status.success(), "{SCRIPT}: {}", output.status);
        for line in String::from_utf8(output.stdout)?.lines() {
            let mut words = line.splitn(3, ' ');
            let (name, state, rest) = (words.next(), words.next(), words.next().unwrap_or(""));
            match (name, state) {
                (Some("postgres"), Some("ready")) => services.postgres = Ok(rest.into()),
                (Some("postgres"), _) => services.postgres = Err(rest.to_owned()),
                (Some("redis"), Some("ready")) => services.redis = Ok(rest.parse()?),
                (Some("redis"), _) => services.redis = Err(rest.to_owned()),
                _ => {}
            }
        }
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let Some(dir) = &self.dir else { return };
        let stopped = Command::new(SCRIPT).arg("stop").arg(dir).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("not stopped: {SCRIPT} stop {}", dir.display());
        }
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
