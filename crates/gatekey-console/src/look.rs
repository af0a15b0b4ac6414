//! How the pages look: brand, colours, texts, and the host's own layout.

use std::fmt;
use std::sync::Arc;

use crate::texts::Texts;

/// A page before it is framed: what a host's own layout puts together.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Framed {
    /// The language of the texts, as `en`.
    pub lang: String,
    /// The title of the page, as HTML: it is escaped.
    pub title: String,
    /// The links of the pages' style sheet and script, for the `head`.
    pub head: String,
    /// The links between the pages.
    pub nav: String,
    /// What the page is about. Put it into a `main` whose id is `main`.
    pub main: String,
}

pub(crate) type Layout = Arc<dyn Fn(&Framed) -> String + Send + Sync>;

/// How the pages look. Without a change: plain, light or dark as the browser asks for.
///
/// ```
/// use gatekey_console::Look;
///
/// let look = Look::new()
///     .brand("Acme")
///     .style(":root { --gk-accent: #7a1fa2; --gk-accent-text: #fff }");
/// ```
#[derive(Clone)]
#[must_use]
pub struct Look {
    pub(crate) brand: String,
    pub(crate) style: String,
    pub(crate) logo: Option<(&'static str, Vec<u8>)>,
    pub(crate) layout: Option<Layout>,
    pub(crate) texts: Texts,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look")
            .field("brand", &self.brand)
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

impl Default for Look {
    fn default() -> Self {
        Self::new()
    }
}

impl Look {
    /// The look of the crate's own.
    pub fn new() -> Self {
        Self {
            brand: "API keys".to_owned(),
            style: String::new(),
            logo: None,
            layout: None,
            texts: Texts::english(),
        }
    }

    /// The name at the top of each page.
    pub fn brand(mut self, name: impl Into<String>) -> Self {
        self.brand = name.into();
        self
    }

    /// A style sheet of the host's, which is read after the crate's own. Setting the
    /// variables that docs/CONSOLE.md lists is enough for colours, font and corners.
    pub fn style(mut self, css: impl Into<String>) -> Self {
        self.style = css.into();
        self
    }

    /// A logo beside the name, as SVG.
    pub fn logo_svg(mut self, svg: impl Into<Vec<u8>>) -> Self {
        self.logo = Some(("image/svg+xml", svg.into()));
        self
    }

    /// A logo beside the name, as PNG.
    pub fn logo_png(mut self, png: impl Into<Vec<u8>>) -> Self {
        self.logo = Some(("image/png", png.into()));
        self
    }

    /// The host's own layout, which gives the whole document around a page. The headers
    /// stay as they are: nothing of another origin is loaded, nothing inline is run.
    ///
    /// ```
    /// use gatekey_console::Look;
    ///
    /// let look = Look::new().layout(|page| {
    ///     format!(
    ///         "<!doctype html><html lang={}><head><title>{}</title>{}</head>\
    ///          <body>{}<main id=main>{}</main></body></html>",
    ///         page.lang, page.title, page.head, page.nav, page.main
    ///     )
    /// });
    /// ```
    pub fn layout(mut self, layout: impl Fn(&Framed) -> String + Send + Sync + 'static) -> Self {
        self.layout = Some(Arc::new(layout));
        self
    }

    /// The texts, in another language than English: see [`Texts::parse`].
    pub fn texts(mut self, texts: Texts) -> Self {
        self.texts = texts;
        self
    }
}
