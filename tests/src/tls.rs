//! Certificates for the tests: a CA, and what it signs.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

/// A CA in a temporary folder, in which all that it signs lies, too.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of somebody whom a CA has signed.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, which nobody knows.
    pub fn new(name: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut params = params(name, &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        std::fs::write(folder.path().join("ca.crt"), params.self_signed(&key)?.pem())?;
        Ok(Self { folder, issuer: Issuer::new(params, key) })
    }

    /// Its own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Signs a certificate of a server or a client with those host names and addresses.
    pub fn sign(&self, file_name: &str, names: &[&str]) -> Result<Certificates> {
        self.sign_with(file_name, params(file_name, names)?)
    }

    /// The same, but it expired long ago.
    pub fn sign_expired(&self, file_name: &str, names: &[&str]) -> Result<Certificates> {
        self.sign_with(file_name, expired(params(file_name, names)?))
    }

    /// One that has signed itself and calls itself a CA's, as `openssl req -x509` makes them; its `ca` is itself.
    pub fn self_signed(&self, file_name: &str, names: &[&str]) -> Result<Certificates> {
        self.sign_itself(file_name, params(file_name, names)?)
    }

    /// The same, but it expired long ago.
    pub fn self_signed_expired(&self, file_name: &str, names: &[&str]) -> Result<Certificates> {
        self.sign_itself(file_name, expired(params(file_name, names)?))
    }

    fn sign_itself(&self, file_name: &str, mut params: CertificateParams) -> Result<Certificates> {
        let key = KeyPair::generate()?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages.clear();
        let files = self.write(file_name, &params.self_signed(&key)?.pem(), &key)?;
        Ok(Certificates { ca: files.certificate.clone(), ..files })
    }

    fn sign_with(&self, file_name: &str, params: CertificateParams) -> Result<Certificates> {
        let key = KeyPair::generate()?;
        self.write(file_name, &params.signed_by(&key, &self.issuer)?.pem(), &key)
    }

    fn write(&self, file_name: &str, certificate: &str, key: &KeyPair) -> Result<Certificates> {
        let path = |ending: &str| self.folder.path().join(file_name).with_extension(ending);
        let files = Certificates { ca: self.file(), certificate: path("crt"), key: path("key") };
        std::fs::write(&files.certificate, certificate)?;
        std::fs::write(&files.key, key.serialize_pem())?;
        Ok(files)
    }
}

fn params(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    params
}

impl Certificates {
    /// As the arguments of the side `from` or `to`: the CA to trust and the certificate to show.
    pub fn args(&self, side: &str) -> Vec<String> {
        let mut args = ca_args(side, &self.ca);
        for (option, file) in [("cert", &self.certificate), ("key", &self.key)] {
            args.extend([format!("--{side}-tls-{option}"), file.display().to_string()]);
        }
        args
    }
}

/// As an argument: the CA to trust alone.
pub fn ca_args(side: &str, ca: &Path) -> Vec<String> {
    vec![format!("--{side}-tls-ca"), ca.display().to_string()]
}
