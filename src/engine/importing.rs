//! Taking over keys that another system issued.

use zeroize::Zeroizing;

use crate::change::import;
use crate::engine::handle::Engine;
use crate::model::clock::Timestamp;
use crate::model::error::Result;
use crate::model::import::{ForeignKey, Import, ImportedKey, NewImport};
use crate::model::key::Key;

/// # Importing
impl Engine {
    /// Begins an import, or gives one of that name as it stands, so that a caller that was cut
    /// off begins again with the same call.
    ///
    /// # Errors
    /// [`Conflict::ImportDiffers`](crate::Conflict::ImportDiffers) where an import of that name
    /// says another thing of its tokens;
    /// [`Conflict::TooManyImports`](crate::Conflict::TooManyImports);
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a name or a shape.
    ///
    /// ```
    /// use gatekey::{Engine, ForeignHash, NewImport};
    ///
    /// let engine = Engine::open_in_memory()?;
    /// let new = NewImport::new("unkey", ForeignHash::Sha256).starts_with("uk_");
    /// let import = engine.begin_import(new.clone())?;
    /// assert_eq!(engine.begin_import(new)?, import);
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn begin_import(&self, new: NewImport) -> Result<Import> {
        self.change(move |tx, actor| import::begin(tx, &new, actor))
    }

    /// Imports up to [`bounds::BATCH_MAX`](crate::bounds::BATCH_MAX) keys in one transaction,
    /// and says of each, in their order, what became of it. One that is refused does not keep
    /// the others out. A key that the import has already is told and not changed, so that an
    /// import can be run again from its beginning.
    ///
    /// What the other system keeps of a token is stored as a keyed digest of it. The first use
    /// of the key replaces it by a digest of the token, with the flush that follows. From then
    /// on a hash that the other system lost is of no use.
    ///
    /// Caps and rules of the keyspace hold as for keys that are issued, except that an import
    /// supersedes no key: where an owner may hold one and holds one, it is refused.
    ///
    /// # Errors
    /// [`NotFound::Import`](crate::NotFound::Import);
    /// [`Conflict::ImportOver`](crate::Conflict::ImportOver) after its sunset;
    /// [`Invalid::TooMany`](crate::Invalid::TooMany). What is wrong with one key is told as
    /// [`ImportedKey::Refused`].
    ///
    /// ```
    /// use gatekey::{
    ///     Credential, Engine, ForeignHash, ForeignKey, ImportedKey, NewImport, NewKey, NewKeyspace,
    /// };
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.begin_import(NewImport::new("unkey", ForeignHash::Sha256))?;
    /// // SHA-256 of "uk_3ZpX9q".
    /// let digest = Credential::digest([0x5a; 32]);
    /// let key = ForeignKey::new(NewKey::new("acme_live", "acme")?, digest).id("key_1");
    /// let told = engine.import_keys("unkey", vec![key.clone()])?;
    /// let ImportedKey::Imported(id) = told[0] else { panic!() };
    /// let again = engine.import_keys("unkey", vec![key])?;
    /// assert!(matches!(again[0], ImportedKey::Present(same) if same == id));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn import_keys(&self, import: &str, keys: Vec<ForeignKey>) -> Result<Vec<ImportedKey>> {
        let name = import.to_owned();
        self.change(move |tx, actor| import::import_keys(tx, &name, &keys, actor))
    }

    /// Says what [`import_keys`](Engine::import_keys) would say, and changes nothing. The
    /// import need not have begun. The ids that it tells are drawn for the answer alone. Keys
    /// of several calls are not compared with each other.
    ///
    /// # Errors
    /// As [`begin_import`](Engine::begin_import) and [`import_keys`](Engine::import_keys).
    ///
    /// ```
    /// use gatekey::{
    ///     Credential, Engine, ForeignHash, ForeignKey, ImportedKey, NewImport, NewKey, NewKeyspace,
    /// };
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// let new = NewImport::new("old", ForeignHash::Plain).lengths(20..=20);
    /// let short = ForeignKey::new(NewKey::new("acme_live", "acme")?, Credential::token("short"));
    /// let told = engine.import_dry_run(new, vec![short])?;
    /// assert!(matches!(&told[0], ImportedKey::Refused(why) if why.to_string().contains("shape")));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn import_dry_run(
        &self,
        new: NewImport,
        keys: Vec<ForeignKey>,
    ) -> Result<Vec<ImportedKey>> {
        self.change(move |tx, _| import::dry_run(tx, &new, &keys))
    }

    /// Gives a key that was imported without a hash that the engine computes the token that
    /// its holder presented. The host has checked the token as it always did, and knows by that
    /// which id the key has in the other system. From then on the engine verifies the token.
    /// The same call again gives the key.
    ///
    /// # Errors
    /// [`NotFound::Import`](crate::NotFound::Import),
    /// [`NotFound::ForeignId`](crate::NotFound::ForeignId);
    /// [`Conflict::NotClaimable`](crate::Conflict::NotClaimable) for a key that has another
    /// token, [`Conflict::TokenTaken`](crate::Conflict::TokenTaken) for a token that another key
    /// has, [`Conflict::Revoked`](crate::Conflict::Revoked),
    /// [`Conflict::Expired`](crate::Conflict::Expired) and
    /// [`Conflict::ImportOver`](crate::Conflict::ImportOver);
    /// [`Invalid::Malformed`](crate::Invalid::Malformed) for a token of another shape.
    ///
    /// ```
    /// use gatekey::{
    ///     Credential, Engine, ForeignHash, ForeignKey, NewImport, NewKey, NewKeyspace,
    /// };
    ///
    /// let engine = Engine::open_in_memory()?;
    /// engine.create_keyspace(NewKeyspace::new("acme_live")?)?;
    /// engine.begin_import(NewImport::new("gitea", ForeignHash::Other))?;
    /// let key = ForeignKey::new(NewKey::new("acme_live", "acme")?, Credential::claimed());
    /// engine.import_keys("gitea", vec![key.id("17")])?;
    ///
    /// let presented = "4f1c9a30b7d2e8564f1c9a30b7d2e8564f1c9a30";
    /// assert!(!engine.verify(presented)?.is_granted());
    /// // Here the host computes PBKDF2 and finds row 17.
    /// engine.claim("gitea", "17", presented)?;
    /// assert!(engine.verify(presented)?.is_granted());
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn claim(&self, import: &str, foreign_id: &str, token: impl AsRef<[u8]>) -> Result<Key> {
        let (name, id) = (import.to_owned(), foreign_id.to_owned());
        let text = Zeroizing::new(token.as_ref().to_vec());
        self.change(move |tx, actor| import::claim(tx, &name, &id, &text, actor))
    }

    /// All imports, in the order in which they began, with how many keys each has and how many
    /// of those were not used yet. A use counts from the flush after it on.
    ///
    /// # Errors
    /// See [`Engine`].
    ///
    /// ```
    /// # use gatekey::{Engine, ForeignHash, NewImport};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.begin_import(NewImport::new("unkey", ForeignHash::Sha256))?;
    /// for import in engine.imports()? {
    ///     println!("{}: {} of {} keys were not seen yet", import.name, import.unseen, import.keys);
    /// }
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn imports(&self) -> Result<Vec<Import>> {
        self.core.read(|snapshot| {
            let imports = snapshot.imports()?.values();
            Ok(imports.map(|import| import.describe()).collect())
        })
    }

    /// Sets the instant from which keys of an import that were never used are revoked, or takes
    /// it away. Verifications deny them from that instant on; a flush after it revokes them for
    /// good, with the reason [`Cessation`](crate::Reason::Cessation).
    ///
    /// # Errors
    /// [`NotFound::Import`](crate::NotFound::Import).
    ///
    /// ```
    /// # use gatekey::{Engine, ForeignHash, NewImport};
    /// # let engine = Engine::open_in_memory()?;
    /// engine.begin_import(NewImport::new("unkey", ForeignHash::Sha256))?;
    /// let sunset = "2031-01-01T00:00:00Z".parse()?;
    /// assert_eq!(engine.set_sunset("unkey", Some(sunset))?.sunset, Some(sunset));
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    pub fn set_sunset(&self, import: &str, sunset: Option<Timestamp>) -> Result<Import> {
        let name = import.to_owned();
        self.take_away(move |tx, actor| import::set_sunset(tx, &name, sunset, actor))
    }
}
