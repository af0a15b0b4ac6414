//! The store's file and its name: whether the name still leads to the file, and how
//! files are created.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// An open file, and the name that led to it.
#[derive(Debug)]
pub(crate) struct NamedFile {
    file: File,
    /// Absolute: a process may change its directory.
    path: PathBuf,
}

impl NamedFile {
    /// `None` where the name leads to another file by now, or to none.
    pub(crate) fn new(file: File, path: &Path) -> io::Result<Option<Self>> {
        let path = std::path::absolute(path)?;
        match leads_to(&path, &file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            leads => Ok(leads?.then_some(Self { file, path })),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes; 0 where it cannot be told.
    pub(crate) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// Whether the next engine to open the name would miss what is written to the file:
    /// the file has no name any more, or its name leads to another file. A file that
    /// was only moved keeps its content under the new name. Windows does not free the
    /// name of an open file.
    pub(crate) fn is_lost(&self) -> bool {
        match leads_to(&self.path, &self.file) {
            Ok(true) => false,
            // Moved or removed; or its directory cannot be looked into any more.
            Err(_) => !has_a_name(&self.file),
            Ok(false) => true,
        }
    }
}

/// Whether a path leads to an open file. That it leads to nothing is an error.
pub(crate) fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let at_path = std::fs::metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let opened = file.metadata()?;
        Ok((at_path.dev(), at_path.ino()) == (opened.dev(), opened.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = (at_path, file);
        Ok(true)
    }
}

/// An unknown answer counts as no: nothing is acknowledged then.
fn has_a_name(file: &File) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}

/// Whether a path is a file by itself: no link, no pipe, and no second name of
/// another file.
pub(crate) fn is_plain(path: &Path) -> io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        // None any more, where it is removed at this moment.
        Ok(metadata.is_file() && metadata.nlink() <= 1)
    }
    #[cfg(not(unix))]
    {
        Ok(metadata.is_file())
    }
}

/// Where links lead to of which the last leads to nothing.
pub(crate) fn end_of_links(path: &Path) -> PathBuf {
    // As many as Linux follows; what goes on longer cannot be made a file of.
    const LINKS_MAX: usize = 40;
    let mut end = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&end) {
            Ok(next) => end = directory_of(&end).join(next),
            Err(_) => break,
        }
    }
    end
}

/// Whether a path ends in the name of a file: not in a separator, `.` or `..`, which
/// name a directory, and behind which a suffix would be the name of another file.
pub(crate) fn ends_in_a_name(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |byte: &u8| std::path::is_separator(char::from(*byte));
    match bytes.rsplit(is_separator).next() {
        Some(b"" | b"." | b"..") | None => false,
        Some(_) => path.file_name().is_some(),
    }
}

/// A file's name with a suffix: the name of a file that is not complete yet.
pub(crate) fn name_with(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames a complete file to its final name. A file created under that name meanwhile
/// stays (`AlreadyExists`), and so does one that has taken the temporary name
/// (`NotFound`).
pub(crate) fn rename_to_new(partial: &Path, file: &File, target: &Path) -> io::Result<()> {
    if !leads_to(partial, file)? {
        return Err(io::ErrorKind::NotFound.into());
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, partial, CWD, target, RenameFlags::NOREPLACE) {
            // Not every file system knows the flag.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            renamed => return Ok(renamed?),
        }
    }
    std::fs::hard_link(partial, target)?;
    remove_own(partial, file)
}

/// Gives a new file the name of an old one, and removes the old one: an opener finds
/// one or the other. `false`: the name led to another file, and still does.
pub(super) fn take_place(partial: &Path, new: &File, old: &File, end: &Path) -> io::Result<bool> {
    if !leads_to(partial, new)? || !leads_to(end, old)? {
        return Ok(false);
    }
    match exchange(partial, old, end)? {
        Some(is_taken) => Ok(is_taken),
        None => std::fs::rename(partial, end).map(|()| true),
    }
}

/// Exchanges two names at once, and takes the old file's away, where the name was its
/// own; else exchanges them again. `None` where that is not known.
#[cfg(target_os = "linux")]
fn exchange(partial: &Path, old: &File, end: &Path) -> io::Result<Option<bool>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    let exchange = || renameat_with(CWD, partial, CWD, end, RenameFlags::EXCHANGE);
    match exchange() {
        // Not every file system knows the flag.
        Err(Errno::INVAL | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(()) if leads_to(partial, old)? => {
            // If it cannot be removed now, the next opening removes it.
            let _ = remove_own(partial, old);
            Ok(Some(true))
        }
        // It was replaced in the moment between: that is put back.
        Ok(()) => exchange().map(|()| Some(false)).map_err(Into::into),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &File, _: &Path) -> io::Result<Option<bool>> {
    Ok(None)
}

/// Removes a file, if the name is still its own.
pub(crate) fn remove_own(path: &Path, file: &File) -> io::Result<()> {
    let removed = leads_to(path, file).and_then(|is_own| match is_own {
        true => std::fs::remove_file(path),
        false => Ok(()),
    });
    match removed {
        // Another was quicker.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

pub(crate) fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Creates an empty file that its owner alone may read and write, where the
/// system knows of that: without a pepper it holds the store's key.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A directory that can make the names in it durable.
pub(crate) struct Directory(Option<File>);

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // On Windows a directory cannot be opened as a file, and its entries are
        // journaled.
        match cfg!(windows) {
            true => Ok(Self(None)),
            false => File::open(path).map(|directory| Self(Some(directory))),
        }
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        if tests::DIRECTORY_FAILS.get() {
            return Err(io::Error::other("the disk of this test"));
        }
        self.0.as_ref().map_or(Ok(()), File::sync_all)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs;

    thread_local! {
        /// Whether this thread's syncs of directories fail.
        pub(crate) static DIRECTORY_FAILS: Cell<bool> = const { Cell::new(false) };
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_old_one_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [partial, target, other] = ["partial", "target", "other"].map(|n| dir.path().join(n));
        let made = |path: &Path, text: &str| {
            let file = create_private(path).unwrap();
            fs::write(path, text).unwrap();
            file
        };
        let (new, old) = (made(&partial, "new"), made(&target, "old"));
        assert!(take_place(&partial, &new, &old, &target).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(!partial.exists());
        // Replaced by somebody else, it stays.
        let next = made(&partial, "next");
        made(&other, "another's");
        fs::rename(&other, &target).unwrap();
        assert!(!take_place(&partial, &next, &new, &target).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"another's");
        assert_eq!(fs::read(&partial).unwrap(), b"next");
        #[cfg(target_os = "linux")]
        if let Some(is_taken) = exchange(&partial, &new, &target).unwrap() {
            assert!(!is_taken);
            assert_eq!(fs::read(&target).unwrap(), b"another's");
            assert_eq!(fs::read(&partial).unwrap(), b"next");
        }
    }

    #[test]
    fn a_file_gets_a_name_that_nobody_has_and_no_other_file_gets_it() {
        let dir = tempfile::tempdir().unwrap();
        let [partial, target, other] = ["partial", "target", "other"].map(|n| dir.path().join(n));
        let file = create_private(&partial).unwrap();
        fs::write(&partial, "own").unwrap();

        fs::write(&target, "made meanwhile").unwrap();
        let error = rename_to_new(&partial, &file, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"made meanwhile");
        assert_eq!(fs::read(&partial).unwrap(), b"own");
        fs::remove_file(&target).unwrap();

        fs::rename(&partial, &other).unwrap();
        fs::write(&partial, "another's").unwrap();
        let error = rename_to_new(&partial, &file, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        remove_own(&partial, &file).unwrap();
        assert_eq!(fs::read(&partial).unwrap(), b"another's");
        assert!(!target.exists());

        rename_to_new(&other, &file, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"own");
        assert!(!other.exists());
        remove_own(&target, &file).unwrap();
        assert!(!target.exists());
    }
}
