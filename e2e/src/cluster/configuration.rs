//! The text of the configuration files that components read.

use std::path::Path;

use serde_json::{Value, json};

use super::layout::{
    CNI_NETWORK, DNS_SERVICE_ADDRESS, Layout, NODE_ADDRESS, NODE_NAME, POD_BRIDGE, POD_RANGE,
};
use super::system_images::PAUSE_IMAGE;

/// containerd with folders of its own. `restrict_oom_score_adj`: where the
/// machine's root may not lower scores, no pod would start otherwise.
/// `disable_apparmor`: a profile would stay loaded in the kernel after `down`.
pub(crate) fn containerd(layout: &Layout) -> String {
    format!(
        r#"version = 2
root = "{data}/containerd"
state = "{state}"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{data}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
max_container_log_line_size = 262144

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{configuration}/cni"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{run}/runc"
SystemdCgroup = false
"#,
        data = layout.data().display(),
        run = layout.run().display(),
        state = layout.containerd_state().display(),
        socket = layout.containerd_socket().display(),
        configuration = layout.configuration().display(),
    )
}

/// Pods hang on one bridge inside the box's network.
pub(crate) fn cni(layout: &Layout) -> String {
    pretty(&json!({
        "cniVersion": "0.4.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "type": "bridge",
                "bridge": POD_BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": layout.run().join("addresses"),
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    }))
}

/// Every answered request, with who asked and by which program. `ResponseComplete`
/// is the one line of an ordinary request; a watch has `ResponseStarted` as
/// well, when it begins.
pub(crate) fn audit_policy() -> String {
    pretty(&json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }))
}

pub(crate) fn scheduler(layout: &Layout) -> String {
    pretty(&json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": false},
        "clientConnection": {
            "kubeconfig": layout.kubeconfig_of("scheduler"),
            "qps": 200,
            "burst": 400,
        },
    }))
}

/// `conntrack`: the machine's limits are not the box's to set.
pub(crate) fn proxy(layout: &Layout) -> String {
    pretty(&json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        "bindAddress": NODE_ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": ["primary"],
        "iptables": {"minSyncPeriod": "100ms", "localhostNodePorts": false},
        "oomScoreAdj": 0,
        "clientConnection": {"kubeconfig": layout.kubeconfig_of("proxy")},
    }))
}

/// Eviction and image collection are off: a nearly full machine must not take
/// pods or hand-loaded images away.
pub(crate) fn kubelet(layout: &Layout, resolver: &Path) -> String {
    let certificates = layout.certificates();
    let never: Value = json!({
        "memory.available": "0%",
        "nodefs.available": "0%",
        "nodefs.inodesFree": "0%",
        "imagefs.available": "0%",
        "imagefs.inodesFree": "0%",
    });
    pretty(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": certificates.join("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{NODE_NAME}"),
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{}", layout.containerd_socket().display()),
        "enableDebuggingHandlers": true,
        "evictionHard": never,
        "failCgroupV1": false,
        "failSwapOn": false,
        "healthzBindAddress": "127.0.0.1",
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "kubeAPIBurst": 200,
        "kubeAPIQPS": 100,
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "5s",
        "oomScoreAdj": 0,
        "podLogsDir": layout.pod_logs(),
        "readOnlyPort": 0,
        "registryBurst": 100,
        "registryPullQPS": 50,
        "resolvConf": resolver,
        "serializeImagePulls": false,
        "tlsCertFile": certificates.join("kubelet-server.crt"),
        "tlsPrivateKeyFile": certificates.join("kubelet-server.key"),
        "volumePluginDir": layout.data().join("kubelet/volume-plugins"),
    }))
}

/// Also pods that ask for the node's resolver get the cluster's: the box has no
/// other.
pub(crate) fn resolver() -> String {
    format!("nameserver {DNS_SERVICE_ADDRESS}\n")
}

/// JSON is YAML.
fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
