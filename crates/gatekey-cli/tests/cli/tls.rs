//! `--url https://...`: a server with TLS in front, and one that is not who it says.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::program::{Place, Ran, gatekey, run};

/// A CA of one's own, and a certificate of it for the names.
fn certificates(openssl: &Path, folder: &Path, names: &str) {
    let openssl = |args: &[&str]| {
        let made = Command::new(openssl)
            .current_dir(folder)
            .args(args)
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    std::fs::write(folder.join("names"), format!("subjectAltName={names}\n")).unwrap();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let of = |subject: &'static str, more: &[&'static str]| {
        [&["req", "-subj", subject][..], &key, more].concat()
    };
    openssl(&of(
        "/CN=CA of a test",
        &["-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
    ));
    openssl(&of(
        "/CN=server",
        &["-keyout", "server.key", "-out", "server.csr"],
    ));
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-out",
        "server.pem",
    ]);
}

/// What a proxy with TLS does: it takes connections, and hands on what it deciphers.
fn proxy(folder: &Path, behind: SocketAddr) -> SocketAddr {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that finds the certificate wrong goes away here.
                    let Ok(mut plain) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut behind = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut plain, &mut behind).await;
                });
            }
        });
    });
    address
}

#[test]
fn a_server_with_tls_is_asked_where_its_certificate_is_right() {
    let Some(openssl) = gatekey_testkit::tools::find("openssl") else {
        return;
    };
    let (place, id, token) = Place::with_key();
    let server = place.serve(&["--tcp", "127.0.0.1:0", "--admin-keyspace", "ops_admin"]);
    let issued = place.done(&[
        "key",
        "issue",
        "ops_admin",
        "--owner",
        "ops",
        "--permission",
        "read",
    ]);
    std::fs::write(place.path().join("admin.key"), &issued.stdout).unwrap();
    let plain = place.url();
    let behind = plain.trim_start_matches("http://").parse().unwrap();
    certificates(&openssl, place.path(), "DNS:localhost");
    let port = proxy(place.path(), behind).port();
    let ask = |url: &str, ca: &[&str], args: &[&str], stdin: &str| -> Ran {
        let mut asked = gatekey();
        asked.current_dir(place.path());
        asked.args(["--url", url, "--admin-key-file", "admin.key"]);
        run(asked.args(ca).args(args), stdin)
    };
    let right = format!("https://localhost:{port}");
    let ca = ["--ca-file", "ca.pem"];
    let found = ask(&right, &ca, &["--json", "find"], &token);
    assert_eq!(
        (found.code, found.json()["id"].as_str()),
        (0, Some(&*id)),
        "{found:?}"
    );
    // Several requests of one command, and an answer that is copied as it comes.
    let trail = ask(&right, &ca, &["audit", "export"], "");
    assert_eq!(trail.code, 0, "{trail:?}");

    // No CA that the system knows; another name; a CA that did not sign it; no CA at all.
    let unknown = ask(&right, &[], &["stats"], "");
    let by_address = format!("https://127.0.0.1:{port}");
    let other_name = ask(&by_address, &ca, &["stats"], "");
    let elsewhere = tempfile::tempdir().unwrap();
    certificates(&openssl, elsewhere.path(), "DNS:localhost");
    let other = elsewhere.path().join("ca.pem");
    let other_ca = ask(
        &right,
        &["--ca-file", other.to_str().unwrap()],
        &["stats"],
        "",
    );
    for (refused, why) in [
        (&unknown, "UnknownIssuer"),
        (&other_name, "not valid for name"),
        (&other_ca, "certificate"),
    ] {
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains(why), "{why}: {refused:?}");
    }
    let none = ask(&right, &["--ca-file", "admin.key"], &["stats"], "");
    assert_eq!(none.code, 2, "{none:?}");
    // A server that speaks no TLS is none with TLS, and is sent no key.
    let plain = plain
        .replace("http://", "https://")
        .replace("127.0.0.1", "localhost");
    assert_eq!(ask(&plain, &ca, &["stats"], "").code, 1);
    assert_eq!(server.stop(), Some(0));
}
