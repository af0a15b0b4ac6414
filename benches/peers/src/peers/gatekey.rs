//! gatekey itself: with the hot keys in memory, and with none.

use std::time::Duration;

use anyhow::Result;
use gatekey::{Engine, KeyId, Options, Reason, Requirements};

use crate::peer::{About, Peer, Place, Session};
use crate::world::World;

/// The use of keys is counted as by default, but written when the engine
/// closes: not in the middle of another peer's turn.
const USAGE_INTERVAL: Duration = Duration::from_secs(86_400);

/// What a server asks for; the peers' code asks for no permission.
const READ: Requirements<'static> = Requirements::new().permissions(&["read"]);
const DURABLE: &str = "redb transaction in two phases, fsynced, with its audit entry; \
    writers that wait together share it";
const LACKS: &str = "access from a second process";

/// With the options' defaults.
pub(crate) struct Resident(Engine);

/// The same with no resident keys: each is read from the file, and its tag checked.
pub(crate) struct FromFile(Engine);

/// The same with a page cache that holds the file.
pub(crate) struct FromPages(Engine);

impl Peer for Resident {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let options = Options::new();
        Ok(Self(open(options, place, world, "resident.redb")?))
    }

    fn about(&self) -> About {
        About {
            name: "gatekey, resident",
            how: "keyed BLAKE3 once, then a MAC; table in memory by key id; default options",
            memory: "a table of at most 192 MiB, taken as keys are used, and 64 MiB of pages; the defaults",
            constant_time: "yes",
            durable: DURABLE,
            lacks: LACKS,
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self.0.clone())))
    }
}

impl Peer for FromFile {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let options = Options::new().resident_bytes(0);
        Ok(Self(open(options, place, world, "from-file.redb")?))
    }

    fn about(&self) -> About {
        About {
            name: "gatekey, not resident",
            how: "keyed BLAKE3, one redb get by key id, record's tag checked; resident_bytes(0)",
            memory: "64 MiB of pages, the default",
            constant_time: "yes",
            durable: DURABLE,
            lacks: LACKS,
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self.0.clone())))
    }
}

impl Peer for FromPages {
    fn load(place: &Place<'_>, world: &World) -> Result<Self> {
        let options = Options::new().resident_bytes(0).cache_bytes(1 << 30);
        Ok(Self(open(options, place, world, "from-pages.redb")?))
    }

    fn about(&self) -> About {
        About {
            name: "gatekey, 1 GiB of pages",
            how: "as gatekey, not resident, with as much memory as redb by itself; cache_bytes(1 GiB)",
            memory: "1 GiB of pages, which is all of the file",
            constant_time: "yes",
            durable: DURABLE,
            lacks: LACKS,
        }
    }

    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Handle(self.0.clone())))
    }
}

fn open(options: Options, place: &Place<'_>, world: &World, name: &str) -> Result<Engine> {
    let path = place.dir.join(name);
    std::fs::copy(&world.path, &path)?;
    Ok(options.usage_interval(USAGE_INTERVAL).open(path)?)
}

struct Handle(Engine);

impl Session for Handle {
    fn verify(&mut self, token: &str) -> Result<bool> {
        Ok(self.0.verify_with(token, &READ)?.is_granted())
    }

    fn revoke(&mut self, token: &str) -> Result<()> {
        let id: KeyId = token[token.len() - 60..token.len() - 50].parse()?;
        self.0.revoke(id, Reason::Cessation)?;
        Ok(())
    }
}
