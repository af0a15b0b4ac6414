//! What pages load, inside the binary, under names with a hash of the content.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Response};

use crate::look::Look;

const STYLE: &str = include_str!("../assets/console.css");
const SCRIPT: &str = include_str!("../assets/console.js");

#[derive(Debug)]
struct Asset {
    name: String,
    media: &'static str,
    body: Vec<u8>,
}

/// All of a site's assets.
#[derive(Debug)]
pub(crate) struct Assets(Vec<Asset>);

impl Assets {
    pub(crate) fn new(look: &Look) -> Self {
        let mut assets = vec![
            Asset::new("console", "css", "text/css; charset=utf-8", STYLE.into()),
            Asset::new(
                "console",
                "js",
                "text/javascript; charset=utf-8",
                SCRIPT.into(),
            ),
        ];
        if !look.style.is_empty() {
            let style = look.style.clone().into_bytes();
            assets.push(Asset::new("host", "css", "text/css; charset=utf-8", style));
        }
        if let Some((media, body)) = &look.logo {
            assets.push(Asset::new("logo", "img", media, body.clone()));
        }
        Self(assets)
    }

    /// The name of an asset, with its hash.
    pub(crate) fn name(&self, stem: &str, end: &str) -> Option<&str> {
        let found = self
            .0
            .iter()
            .find(|asset| asset.name.starts_with(stem) && asset.name.ends_with(end));
        found.map(|asset| asset.name.as_str())
    }

    /// An asset, by its whole name. A name with another hash is not found.
    pub(crate) fn serve(&self, name: &str) -> Option<Response<Body>> {
        let asset = self.0.iter().find(|asset| asset.name == name)?;
        let mut response = Response::new(Body::from(asset.body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.media));
        let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
        headers.insert(CACHE_CONTROL, kept);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

impl Asset {
    fn new(stem: &str, end: &str, media: &'static str, body: Vec<u8>) -> Self {
        let hash = blake3::hash(&body).to_hex();
        let short = hash.get(..16).unwrap_or_default();
        Self {
            name: format!("{stem}-{short}.{end}"),
            media,
            body,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small_and_nothing_names_another_origin() {
        assert!(SCRIPT.len() < 10_000, "{}", SCRIPT.len());
        for text in [STYLE, SCRIPT] {
            assert!(!text.contains("http:") && !text.contains("https:"));
        }
    }

    #[test]
    fn another_content_has_another_name() {
        let plain = Assets::new(&Look::new());
        let styled = Assets::new(&Look::new().style("a{}"));
        let other = Assets::new(&Look::new().style("b{}"));
        assert!(plain.name("host", "css").is_none());
        assert_ne!(styled.name("host", "css"), other.name("host", "css"));
        assert!(plain.serve(plain.name("console", "js").unwrap()).is_some());
        assert!(plain.serve("console-0000000000000000.js").is_none());
    }
}
