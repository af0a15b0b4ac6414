//! What clients and resources learn of the server without asking anybody.

use serde_json::json;

use crate::server::AuthorizationServer;

/// # Metadata
impl AuthorizationServer {
    /// The server's metadata (RFC 8414), as JSON, for [`metadata_path`](Self::metadata_path).
    /// The endpoints are `/oauth/authorize`, `/oauth/token`, `/oauth/revoke`,
    /// `/oauth/introspect` and `/oauth/jwks.json` below the issuer.
    #[must_use]
    pub fn metadata(&self) -> String {
        let issuer = &self.shared.options.issuer;
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let with_secret = ["client_secret_basic", "client_secret_post"];
        let methods = ["client_secret_basic", "client_secret_post", "none"];
        let mut metadata = json!({
            "issuer": issuer,
            "authorization_endpoint": format!("{base}/oauth/authorize"),
            "token_endpoint": format!("{base}/oauth/token"),
            "token_endpoint_auth_methods_supported": methods,
            "revocation_endpoint": format!("{base}/oauth/revoke"),
            "revocation_endpoint_auth_methods_supported": methods,
            "introspection_endpoint": format!("{base}/oauth/introspect"),
            "introspection_endpoint_auth_methods_supported": with_secret,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [
                "authorization_code", "refresh_token", "client_credentials",
            ],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
        });
        if self.shared.jwts.is_some() {
            metadata["jwks_uri"] = format!("{base}/oauth/jwks.json").into();
        }
        metadata.to_string()
    }

    /// Where the server's metadata is: `/.well-known/oauth-authorization-server`, with the
    /// path of the issuer behind it.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # use gatekey_oauth::server::{AuthorizationServer, ServerOptions};
    /// # let engine = Engine::open_in_memory()?;
    /// let options = ServerOptions::new("https://example.com/api");
    /// let server = AuthorizationServer::open(&engine, options)?;
    /// let path = server.metadata_path();
    /// assert_eq!(path, "/.well-known/oauth-authorization-server/api");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn metadata_path(&self) -> String {
        let (_, path) = split(&self.shared.options.issuer);
        format!("/.well-known/oauth-authorization-server{path}")
    }

    /// The metadata of the resource (RFC 9728), as JSON, for the path of
    /// [`resource_metadata_url`](Self::resource_metadata_url).
    #[must_use]
    pub fn resource_metadata(&self) -> String {
        let options = &self.shared.options;
        json!({
            "resource": options.resource,
            "authorization_servers": [options.issuer],
            "bearer_methods_supported": ["header"],
        })
        .to_string()
    }

    /// Where the metadata of the resource is: `/.well-known/oauth-protected-resource` at the
    /// resource's origin, with the path of its URL behind it. Name it in the challenge of a
    /// 401, with `gatekey::http::Challenge::bearer_of`.
    ///
    /// ```
    /// # use gatekey::Engine;
    /// # use gatekey_oauth::server::{AuthorizationServer, ServerOptions};
    /// # let engine = Engine::open_in_memory()?;
    /// let options = ServerOptions::new("https://example.com/api");
    /// let server = AuthorizationServer::open(&engine, options)?;
    /// let url = server.resource_metadata_url();
    /// assert_eq!(url, "https://example.com/.well-known/oauth-protected-resource/api");
    /// # engine.close()?;
    /// # Ok::<(), gatekey::Error>(())
    /// ```
    #[must_use]
    pub fn resource_metadata_url(&self) -> String {
        let (origin, path) = split(&self.shared.options.resource);
        format!("{origin}/.well-known/oauth-protected-resource{path}")
    }
}

/// The origin of a URL, and its path without a slash at its end.
pub(crate) fn split(url: &str) -> (&str, &str) {
    let behind_scheme = url.find("://").map_or(0, |at| at + 3);
    let host = url.get(behind_scheme..).unwrap_or("");
    let at = behind_scheme + host.find('/').unwrap_or(host.len());
    let (origin, path) = url.split_at(at);
    (origin, path.strip_suffix('/').unwrap_or(path))
}
