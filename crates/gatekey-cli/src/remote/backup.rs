//! Backups: a stream that becomes a file only when it is whole.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::args::Global;
use crate::door::{Ask, Door};
use crate::failure::{Exit, Failure, Result};
use crate::local::{print, tell};

pub(super) fn backup(global: &Global, target: &Path) -> Result<()> {
    let exists = || {
        let text = format!(
            "{} exists already; a backup replaces no file",
            target.display()
        );
        Failure::new(Exit::Refused, text)
    };
    if target.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let folder = match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let door = Door::open(global, Some(folder))?;
    let partial = Partial::create(target)?;
    let bytes = door.copy(&Ask::get("/v1/backup"), &mut &partial.file);
    let bytes = bytes.and_then(|bytes| door.close().map(|()| bytes))?;
    partial.file.sync_all()?;
    // Gives it its name, unless a file has got it meanwhile.
    std::fs::hard_link(&partial.path, target).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => exists(),
        _ => error.into(),
    })?;
    drop(partial);
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    match global.json {
        true => print(global, &json!({"backup": target, "bytes": bytes})),
        false => {
            tell(&format!("{}: {bytes} bytes", target.display()));
            Ok(())
        }
    }
}

/// A file under another name, which is removed whatever happens, save a kill.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    fn create(target: &Path) -> Result<Self> {
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{}.partial", std::process::id()));
        let path = PathBuf::from(path);
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let failed = |error| Failure::fault(format!("{}: {error}", path.display()));
        let file = options.open(&path).map_err(failed)?;
        Ok(Self { path, file })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = self.file.flush();
        let _ = std::fs::remove_file(&self.path);
    }
}
