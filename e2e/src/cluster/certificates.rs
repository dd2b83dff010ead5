//! The box's certificate authority, the certificates of its parts and their kubeconfigs.
//!
//! They are made together in a folder that is moved into place when complete, so
//! they either all exist or none does.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::layout::{API_PORT, API_SERVICE_ADDRESS, Layout, NODE_ADDRESS, NODE_NAME};
use super::shell;

/// A holder of a certificate: file name, common name, organisation.
struct Identity {
    file: &'static str,
    name: &'static str,
    group: &'static str,
}

const fn identity(file: &'static str, name: &'static str, group: &'static str) -> Identity {
    Identity { file, name, group }
}

/// Who connects to the apiserver by a kubeconfig.
const CLIENTS: &[Identity] = &[
    identity("admin", "aviary-box:admin", "system:masters"),
    identity("provisioner", "aviary-box:provisioner", "system:masters"),
    identity("kubelet", "system:node:aviary-box", "system:nodes"),
    identity("controller-manager", "system:kube-controller-manager", ""),
    identity("scheduler", "system:kube-scheduler", ""),
    identity("proxy", "system:kube-proxy", "system:node-proxier"),
];

/// The apiserver as the kubelet's client.
const KUBELET_CLIENT: Identity =
    identity("kubelet-client", "aviary-box:apiserver", "system:masters");

const SERVERS: &[Identity] = &[
    identity("apiserver", "kube-apiserver", ""),
    identity("kubelet-server", "kubelet", ""),
];

/// What server certificates are valid for.
fn server_names() -> Vec<String> {
    [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        NODE_NAME,
        "127.0.0.1",
        API_SERVICE_ADDRESS,
        NODE_ADDRESS,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Make what is missing. Certificates made for other names are made anew.
pub(crate) fn ensure(layout: &Layout) -> Result<()> {
    let folder = layout.certificates();
    let recipe = recipe();
    if fs::read_to_string(folder.join("recipe")).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    let unfinished = folder.with_added_extension("unfinished");
    for stale in [&unfinished, &folder] {
        shell::remove_folder(stale)?;
    }
    shell::create_folder(&unfinished)?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))?;
    issue_all(&unfinished)?;
    shell::write(&unfinished.join("recipe"), recipe)?;
    fs::rename(&unfinished, &folder).context("put the certificates in place")
}

/// Changes when the authority does; components that read certificates depend on it.
pub(crate) fn fingerprint(layout: &Layout) -> Result<String> {
    let path = layout.certificates().join("ca.crt");
    let content = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(hex::encode(&Sha256::digest(content)[..8]))
}

fn recipe() -> String {
    let mut text = server_names().join("\n");
    for holder in CLIENTS.iter().chain(SERVERS).chain([&KUBELET_CLIENT]) {
        text.push_str(&format!(
            "\n{} {} {}",
            holder.file, holder.name, holder.group
        ));
    }
    text
}

fn issue_all(folder: &Path) -> Result<()> {
    let mut parameters = parameters(&identity("ca", "aviary-box", ""))?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate().context("make the authority's key")?;
    let authority = parameters.self_signed(&key).context("sign the authority")?;
    let authority_pem = authority.pem();
    shell::write(&folder.join("ca.crt"), &authority_pem)?;
    let issuer = Issuer::new(parameters, key);

    for holder in CLIENTS {
        let (certificate, key) = issue_client(&issuer, holder)?;
        let kubeconfig = kubeconfig(holder.name, &authority_pem, &certificate, &key);
        write_secret(
            &folder.join(format!("{}.kubeconfig", holder.file)),
            &kubeconfig,
        )?;
    }
    let (certificate, key) = issue_client(&issuer, &KUBELET_CLIENT)?;
    write_pair(folder, KUBELET_CLIENT.file, &certificate, &key)?;
    for holder in SERVERS {
        let (certificate, key) = issue_server(&issuer, holder)?;
        write_pair(folder, holder.file, &certificate, &key)?;
    }
    let service_accounts = KeyPair::generate().context("make the service account key")?;
    write_secret(
        &folder.join("service-accounts.key"),
        &service_accounts.serialize_pem(),
    )?;
    shell::write(
        &folder.join("service-accounts.pub"),
        service_accounts.public_key_pem(),
    )
}

fn issue_client(issuer: &Issuer<'_, KeyPair>, holder: &Identity) -> Result<(String, String)> {
    let mut parameters = parameters(holder)?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    sign(issuer, &parameters, holder)
}

fn issue_server(issuer: &Issuer<'_, KeyPair>, holder: &Identity) -> Result<(String, String)> {
    let mut parameters = parameters(holder)?;
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in server_names() {
        parameters
            .subject_alt_names
            .push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().context("name a server")?),
            });
    }
    sign(issuer, &parameters, holder)
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    parameters: &CertificateParams,
    holder: &Identity,
) -> Result<(String, String)> {
    let key = KeyPair::generate().with_context(|| format!("make a key for {}", holder.name))?;
    let certificate = parameters
        .signed_by(&key, issuer)
        .with_context(|| format!("sign {}", holder.name))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn parameters(holder: &Identity) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new()).context("begin a certificate")?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, holder.name);
    if !holder.group.is_empty() {
        name.push(DnType::OrganizationName, holder.group);
    }
    parameters.distinguished_name = name;
    // A box lives for days; its certificates must never be what ends it.
    parameters.not_before = date_time_ymd(2020, 1, 1);
    parameters.not_after = date_time_ymd(2120, 1, 1);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    Ok(parameters)
}

fn write_pair(folder: &Path, name: &str, certificate: &str, key: &str) -> Result<()> {
    shell::write(&folder.join(format!("{name}.crt")), certificate)?;
    write_secret(&folder.join(format!("{name}.key")), key)
}

fn write_secret(path: &Path, content: &str) -> Result<()> {
    shell::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("protect {}", path.display()))
}

/// JSON is YAML, so every client reads it.
fn kubeconfig(user: &str, authority: &str, certificate: &str, key: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": NODE_NAME,
            "cluster": {
                "server": format!("https://{NODE_ADDRESS}:{API_PORT}"),
                "certificate-authority-data": STANDARD.encode(authority),
            },
        }],
        "users": [{
            "name": user,
            "user": {
                "client-certificate-data": STANDARD.encode(certificate),
                "client-key-data": STANDARD.encode(key),
            },
        }],
        "contexts": [{
            "name": NODE_NAME,
            "context": {"cluster": NODE_NAME, "user": user},
        }],
        "current-context": NODE_NAME,
    });
    format!("{config:#}\n")
}
