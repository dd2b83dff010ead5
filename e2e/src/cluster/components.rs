//! What runs in the box and with which settings.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::certificates;
use super::configuration;
use super::layout::{
    API_PORT, API_SERVICE_ADDRESS, Layout, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE,
};
use super::process::{Component, Network};

/// Where the programs are.
pub(crate) struct Programs {
    /// The folder of the built Kubernetes programs.
    pub(crate) kubernetes: PathBuf,
    /// This crate's own program, for the provisioner.
    pub(crate) aviary_e2e: PathBuf,
}

/// Components by the moment they can start.
pub(crate) struct Components {
    pub(crate) etcd: Component,
    pub(crate) containerd: Component,
    pub(crate) apiserver: Component,
    /// Those that need an apiserver that answers.
    pub(crate) clients: Vec<Component>,
}

impl Components {
    pub(crate) fn new(layout: &Layout, programs: &Programs) -> Result<Self> {
        let fingerprint = certificates::fingerprint(layout)?;
        Ok(Self {
            etcd: etcd(layout),
            containerd: containerd(layout),
            apiserver: apiserver(layout, programs, &fingerprint),
            clients: vec![
                controller_manager(layout, programs, &fingerprint),
                scheduler(layout, programs, &fingerprint),
                provisioner(layout, programs, &fingerprint),
                proxy(layout, programs, &fingerprint),
                kubelet(layout, programs, &fingerprint),
            ],
        })
    }

    pub(crate) fn all(&self) -> Vec<&Component> {
        [&self.etcd, &self.containerd, &self.apiserver]
            .into_iter()
            .chain(&self.clients)
            .collect()
    }
}

/// The components' names, in the order in which `down` ends them: first those
/// that would start something anew, last those that others lean on.
pub(crate) const STOP_BEFORE_PODS: &[&str] = &[
    "kubelet",
    "kube-controller-manager",
    "kube-scheduler",
    "provisioner",
];
pub(crate) const STOP_AFTER_PODS: &[&str] = &["containerd", "kube-proxy", "kube-apiserver", "etcd"];

/// The program that the provisioner runs: this one, or the one that cargo put
/// beside a test or another program that uses this library.
pub(crate) fn own_program() -> Result<PathBuf> {
    let current = std::env::current_exe().context("find this program")?;
    let name = "aviary-e2e";
    if current.file_name().is_some_and(|file| file == name) {
        return Ok(current);
    }
    current
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .with_context(|| {
            format!(
                "find {name} beside {}: run `cargo build -p {name}`",
                current.display()
            )
        })
}

fn etcd(layout: &Layout) -> Component {
    // Loopback of the box's own network: nobody outside reaches it.
    let client = "http://127.0.0.1:2379";
    let peer = "http://127.0.0.1:2380";
    Component {
        name: "etcd",
        program: "/usr/bin/etcd".into(),
        arguments: vec![
            format!("--name={NODE_NAME}"),
            format!("--data-dir={}", layout.data().join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={NODE_NAME}={peer}"),
            "--auto-compaction-retention=1h".into(),
            "--quota-backend-bytes=4294967296".into(),
            "--log-level=warn".into(),
            "--logger=zap".into(),
        ],
        files: Vec::new(),
        network: Network::Box,
    }
}

fn containerd(layout: &Layout) -> Component {
    let config = layout.configuration().join("containerd.toml");
    let network = layout.configuration().join("cni/10-aviary.conflist");
    Component {
        name: "containerd",
        program: "/usr/bin/containerd".into(),
        arguments: vec![format!("--config={}", config.display())],
        files: vec![
            (config, configuration::containerd(layout)),
            (network, configuration::cni(layout)),
        ],
        network: Network::Box,
    }
}

fn apiserver(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    let policy = layout.configuration().join("audit-policy.yaml");
    let certificate = |name: &str| layout.certificates().join(name).display().to_string();
    let arguments = [
        ("advertise-address", NODE_ADDRESS.to_owned()),
        ("allow-privileged", "true".into()),
        ("audit-log-format", "json".into()),
        ("audit-log-maxsize", "4096".into()),
        ("audit-log-path", layout.audit_log().display().to_string()),
        ("audit-policy-file", policy.display().to_string()),
        ("authorization-mode", "Node,RBAC".into()),
        ("bind-address", "0.0.0.0".into()),
        ("client-ca-file", certificate("ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("etcd-servers", "http://127.0.0.1:2379".into()),
        (
            "kubelet-client-certificate",
            certificate("kubelet-client.crt"),
        ),
        ("kubelet-client-key", certificate("kubelet-client.key")),
        ("kubelet-certificate-authority", certificate("ca.crt")),
        ("kubelet-preferred-address-types", "InternalIP".into()),
        ("max-mutating-requests-inflight", "1000".into()),
        ("max-requests-inflight", "2000".into()),
        ("profiling", "false".into()),
        ("secure-port", API_PORT.to_string()),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc.cluster.local".into(),
        ),
        (
            "service-account-key-file",
            certificate("service-accounts.pub"),
        ),
        (
            "service-account-signing-key-file",
            certificate("service-accounts.key"),
        ),
        ("service-cluster-ip-range", SERVICE_RANGE.into()),
        ("shutdown-delay-duration", "0s".into()),
        ("tls-cert-file", certificate("apiserver.crt")),
        ("tls-private-key-file", certificate("apiserver.key")),
    ];
    Component {
        name: "kube-apiserver",
        program: programs.kubernetes.join("kube-apiserver"),
        arguments: flags(&arguments),
        files: vec![
            (policy, configuration::audit_policy()),
            certificate_mark(layout, "kube-apiserver", fingerprint),
        ],
        network: Network::Box,
    }
}

fn controller_manager(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    let kubeconfig = layout.kubeconfig_of("controller-manager");
    let certificate = |name: &str| layout.certificates().join(name).display().to_string();
    let arguments = [
        ("allocate-node-cidrs", "false".to_owned()),
        ("bind-address", "127.0.0.1".into()),
        ("cluster-cidr", POD_RANGE.into()),
        ("kube-api-burst", "400".into()),
        ("kube-api-qps", "200".into()),
        ("kubeconfig", kubeconfig.display().to_string()),
        ("leader-elect", "false".into()),
        ("profiling", "false".into()),
        ("root-ca-file", certificate("ca.crt")),
        (
            "service-account-private-key-file",
            certificate("service-accounts.key"),
        ),
        ("use-service-account-credentials", "true".into()),
    ];
    Component {
        name: "kube-controller-manager",
        program: programs.kubernetes.join("kube-controller-manager"),
        arguments: flags(&arguments),
        files: vec![certificate_mark(
            layout,
            "kube-controller-manager",
            fingerprint,
        )],
        network: Network::Box,
    }
}

fn scheduler(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    let config = layout.configuration().join("scheduler.yaml");
    let arguments = [
        ("bind-address", "127.0.0.1".to_owned()),
        ("config", config.display().to_string()),
        ("profiling", "false".into()),
    ];
    Component {
        name: "kube-scheduler",
        program: programs.kubernetes.join("kube-scheduler"),
        arguments: flags(&arguments),
        files: vec![
            (config, configuration::scheduler(layout)),
            certificate_mark(layout, "kube-scheduler", fingerprint),
        ],
        network: Network::Box,
    }
}

fn proxy(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    let config = layout.configuration().join("proxy.yaml");
    Component {
        name: "kube-proxy",
        program: programs.kubernetes.join("kube-proxy"),
        arguments: flags(&[("config", config.display().to_string())]),
        files: vec![
            (config, configuration::proxy(layout)),
            certificate_mark(layout, "kube-proxy", fingerprint),
        ],
        network: Network::Box,
    }
}

fn kubelet(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    let config = layout.configuration().join("kubelet.yaml");
    let names = layout.configuration().join("resolv.conf");
    let arguments = [
        (
            "cert-dir",
            layout.data().join("kubelet/pki").display().to_string(),
        ),
        ("config", config.display().to_string()),
        ("hostname-override", NODE_NAME.to_owned()),
        (
            "kubeconfig",
            layout.kubeconfig_of("kubelet").display().to_string(),
        ),
        ("node-ip", NODE_ADDRESS.into()),
        (
            "root-dir",
            layout.data().join("kubelet").display().to_string(),
        ),
    ];
    Component {
        name: "kubelet",
        program: programs.kubernetes.join("kubelet"),
        arguments: flags(&arguments),
        files: vec![
            (config, configuration::kubelet(layout, &names)),
            (names, configuration::resolver()),
            certificate_mark(layout, "kubelet", fingerprint),
        ],
        network: Network::Box,
    }
}

fn provisioner(layout: &Layout, programs: &Programs, fingerprint: &str) -> Component {
    Component {
        name: "provisioner",
        program: programs.aviary_e2e.clone(),
        arguments: vec![
            "provisioner".into(),
            format!(
                "--kubeconfig={}",
                layout.kubeconfig_of("provisioner").display()
            ),
            format!("--volumes={}", layout.volumes().display()),
        ],
        files: vec![certificate_mark(layout, "provisioner", fingerprint)],
        network: Network::Machine,
    }
}

/// Ties a component to the certificates it reads: new ones restart it.
fn certificate_mark(layout: &Layout, component: &str, fingerprint: &str) -> (PathBuf, String) {
    let path = layout.configuration().join("certificates").join(component);
    (path, fingerprint.to_owned())
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

// The first address of the service range is the apiserver's; Kubernetes sees to
// that, and the certificates name it.
const _: () = assert!(
    matches!(API_SERVICE_ADDRESS.as_bytes(), [.., b'.', b'1']),
    "the apiserver's service has the first address"
);
