//! The owners of keys.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use crate::model::clock::Timestamp;
use crate::model::parse::ParseError;

/// The owner of keys: a path of 1 to 8 segments, as in `acme/ingest/etl-bot`
/// (organisation / project / service account).
///
/// A segment is 1 to 64 characters of printable ASCII without `/` and space, and is
/// neither `.` nor `..`; the path is at most 255 bytes. Paths are compared segment by
/// segment: `acme/in` is not above `acme/ingest`. gatekey does not fold or normalise
/// paths: `Acme` and `acme` are two owners.
///
/// ```
/// use gatekey::OwnerPath;
///
/// let team: OwnerPath = "acme/ingest".parse()?;
/// let robot: OwnerPath = "acme/ingest/etl-bot".parse()?;
/// assert!(team.covers(&robot));
/// assert!(!"acme/in".parse::<OwnerPath>()?.covers(&robot));
/// assert!("acme//etl-bot".parse::<OwnerPath>().is_err());
/// # Ok::<(), gatekey::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerPath(Box<str>);

impl OwnerPath {
    /// The longest path, in bytes.
    pub const LEN_MAX: usize = 255;
    /// The longest segment, in bytes.
    pub const SEGMENT_LEN_MAX: usize = 64;
    /// The most segments.
    pub const DEPTH_MAX: usize = 8;

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many segments the path has, 1 to 8.
    ///
    /// ```
    /// use gatekey::OwnerPath;
    ///
    /// let path: OwnerPath = "acme/ingest/etl-bot".parse()?;
    /// assert_eq!(path.depth(), 3);
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn depth(&self) -> usize {
        1 + self.0.bytes().filter(|byte| *byte == b'/').count()
    }

    /// Whether this path is `other` or an ancestor of it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match other.0.strip_prefix(&*self.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// The path and its ancestors, the shortest first.
    pub(crate) fn levels(&self) -> impl Iterator<Item = &str> {
        let whole: &str = &self.0;
        whole
            .match_indices('/')
            .map(move |(at, _)| &whole[..at])
            .chain(std::iter::once(whole))
    }
}

fn validate(path: &str) -> Result<(), ParseError> {
    let refuse = |why: String| Err(ParseError::new("owner", path, why));
    if path.len() > OwnerPath::LEN_MAX {
        return refuse(format!("longer than {} bytes", OwnerPath::LEN_MAX));
    }
    let mut segments = 0;
    for segment in path.split('/') {
        segments += 1;
        if segment.is_empty() {
            return refuse("it has an empty segment".to_owned());
        }
        if segment == "." || segment == ".." {
            return refuse(format!("it has the segment {segment:?}"));
        }
        if segment.len() > OwnerPath::SEGMENT_LEN_MAX {
            return refuse(format!(
                "a segment is longer than {} bytes",
                OwnerPath::SEGMENT_LEN_MAX
            ));
        }
        if let Some(char) = segment.chars().find(|char| !char.is_ascii_graphic()) {
            return refuse(match char {
                ' ' => "a segment has a space".to_owned(),
                char if char.is_ascii() => "a segment has a control character".to_owned(),
                char => format!(
                    "a segment has U+{:04X}, which is not ASCII",
                    u32::from(char)
                ),
            });
        }
    }
    if segments > OwnerPath::DEPTH_MAX {
        return refuse(format!("more than {} segments", OwnerPath::DEPTH_MAX));
    }
    Ok(())
}

#[cfg(feature = "serde")]
crate::model::serialized::as_text!(OwnerPath, "the path of an owner");

impl FromStr for OwnerPath {
    type Err = ParseError;

    fn from_str(path: &str) -> Result<Self, ParseError> {
        validate(path)?;
        Ok(Self(path.into()))
    }
}

impl TryFrom<&str> for OwnerPath {
    type Error = ParseError;

    fn try_from(path: &str) -> Result<Self, ParseError> {
        path.parse()
    }
}

impl TryFrom<String> for OwnerPath {
    type Error = ParseError;

    fn try_from(path: String) -> Result<Self, ParseError> {
        validate(&path)?;
        Ok(Self(path.into()))
    }
}

impl TryFrom<&String> for OwnerPath {
    type Error = ParseError;

    fn try_from(path: &String) -> Result<Self, ParseError> {
        path.parse()
    }
}

impl From<&OwnerPath> for OwnerPath {
    fn from(path: &OwnerPath) -> Self {
        path.clone()
    }
}

impl From<OwnerPath> for String {
    fn from(path: OwnerPath) -> Self {
        path.0.into()
    }
}

impl AsRef<str> for OwnerPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for OwnerPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for OwnerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Whether an owner may use its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OwnerState {
    /// The owner.
    pub owner: OwnerPath,
    /// The owner's own suspension.
    pub suspended: Option<Suspension>,
    /// The shortest path above it that is suspended.
    pub suspended_above: Option<OwnerPath>,
}

impl OwnerState {
    /// Whether its keys are denied, because of its own suspension or one above.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspended.is_some() || self.suspended_above.is_some()
    }
}

/// A suspension in force.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Suspension {
    /// When the owner was suspended.
    pub at: Timestamp,
    /// The actor.
    pub by: Option<String>,
    /// The note.
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_one_to_eight_segments_are_accepted() {
        for path in ["a", "acme/ingest", "a/b/c/d/e/f/g/h", "auth0|17:x@y.z/~!"] {
            assert_eq!(path.parse::<OwnerPath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn paths_that_could_be_misread_are_refused() {
        let long_segment = "x".repeat(65);
        let long_path = ["seg-of-40-bytes-xxxxxxxxxxxxxxxxxxxxxxxx"; 7].join("/");
        for path in [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/../b",
            "a/./b",
            "a b",
            "a\tb",
            "a\0b",
            "acm\u{e9}",
            "a/b/c/d/e/f/g/h/i",
            &long_segment,
            &long_path,
        ] {
            assert!(
                matches!(
                    path.parse::<OwnerPath>(),
                    Err(ParseError { what: "owner", .. })
                ),
                "{path:?}"
            );
        }
    }

    #[test]
    fn a_refusal_says_which_character_is_wrong() {
        for (path, why) in [
            ("acme/a b", "a segment has a space"),
            ("acme/a\tb", "a segment has a control character"),
            ("acm\u{e9}", "a segment has U+00E9, which is not ASCII"),
            ("acme/\u{200b}", "a segment has U+200B, which is not ASCII"),
        ] {
            let refused = path.parse::<OwnerPath>().unwrap_err().to_string();
            assert!(
                refused.ends_with(&format!("is not a valid owner: {why}")),
                "{refused}"
            );
        }
    }

    #[test]
    fn ancestry_goes_segment_by_segment() {
        let john: OwnerPath = "john".parse().unwrap();
        assert!(!john.covers(&"johnny".parse().unwrap()));
        assert!(john.covers(&"john/laptop".parse().unwrap()));
        assert!(john.covers(&john));
        let deep: OwnerPath = "a/b/c".parse().unwrap();
        assert_eq!(deep.levels().collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
        assert_eq!(deep.depth(), 3);
    }
}
