//! TLS: a certificate and its key, made at the first start unless they were given.
//!
//! In: two PEM files. Out: an acceptor. A certificate of our own making is signed by itself: clients are to be given it. The key's
//! file is 0600, and a key that others may read is refused. Read next: `super`.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use rcgen::{generate_simple_self_signed, CertifiedKey};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// Longest file of either kind.
const MAX_BYTES: u64 = 1 << 20;

/// Where the two are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// The certificate, with those that vouch for it behind it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether they may be made when neither is there.
    pub make: bool,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct TlsError {
    path: String,
    why: String,
}

fn bad(path: &Path, why: impl std::fmt::Display) -> TlsError {
    TlsError { path: path.display().to_string(), why: why.to_string() }
}

/// An acceptor with these files, made for `names` when they are to be made.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn acceptor(files: &Files, names: &[String]) -> Result<TlsAcceptor, TlsError> {
    let Files { cert, key, make } = files;
    if *make && !cert.exists() && !key.exists() {
        create(files, names)?;
    }
    let chain = CertificateDer::pem_slice_iter(&read(cert)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| bad(cert, "is no certificate in PEM"))?;
    if chain.is_empty() {
        return Err(bad(cert, "holds no certificate"));
    }
    let mode = fs::metadata(key).map_err(|e| bad(key, e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(bad(key, format!("others may read this key (mode {mode:03o}): run chmod 600 on it")));
    }
    let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| bad(key, "holds no key in PEM"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(cert, e))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| bad(cert, format!("does not go with its key: {e}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let length = fs::metadata(path).map_err(|e| bad(path, e))?.len();
    if length > MAX_BYTES {
        return Err(bad(path, "is too long"));
    }
    fs::read(path).map(Zeroizing::new).map_err(|e| bad(path, e))
}

fn create(files: &Files, names: &[String]) -> Result<(), TlsError> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(names.to_vec()).map_err(|e| bad(&files.cert, e))?;
    let secret = Zeroizing::new(signing_key.serialize_der());
    let secret = pem("PRIVATE KEY", &secret);
    // The key first: a certificate without its key would be in the way of the next start.
    write_new(&files.key, secret.as_bytes()).map_err(|e| bad(&files.key, e))?;
    write_new(&files.cert, pem("CERTIFICATE", cert.der()).as_bytes()).map_err(|e| bad(&files.cert, e))
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Room for all of it at once: a growing string would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(base64.len() * 2 + 100));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem"), make: true };
        let names = ["localhost".to_string(), "127.0.0.1".into()];
        assert!(acceptor(&files, &names).is_ok());
        let first = fs::read(&files.cert).unwrap();
        assert!(acceptor(&files, &names).is_ok());
        assert_eq!(fs::read(&files.cert).unwrap(), first);
        for file in [&files.cert, &files.key] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).unwrap();
        let told = acceptor(&files, &names).err().unwrap().to_string();
        assert!(told.contains("chmod 600"), "{told}");
        fs::remove_file(&files.key).unwrap();
        assert!(acceptor(&files, &names).is_err(), "a certificate alone is not made anew");
        let given = Files { make: false, cert: dir.path().join("none"), key: dir.path().join("none") };
        assert!(acceptor(&given, &names).is_err());
    }
}
