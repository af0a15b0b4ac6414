//! TLS to a server that has it in front.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::failure::{Failure, Result};

/// What proves that a server is the one whose name it has.
pub(crate) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// For a host. Its certificate must lead to one of a file, or else of the system.
    pub(crate) fn to(host: &str, ca: Option<&Path>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        match ca {
            Some(file) => {
                let named = |why: &dyn std::fmt::Display| {
                    Failure::usage(format!("{}: {why}", file.display()))
                };
                let read = CertificateDer::pem_file_iter(file).map_err(|why| named(&why))?;
                for certificate in read {
                    let certificate = certificate.map_err(|why| named(&why))?;
                    roots.add(certificate).map_err(|why| named(&why))?;
                }
                if roots.is_empty() {
                    return Err(named(&"it has no certificate"));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Failure::usage(format!("{host} is not the name of a host")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Failure::fault)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name })
    }

    pub(crate) async fn over(
        &self,
        stream: tokio::net::TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}
