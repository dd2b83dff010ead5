//! The box's network: a namespace of its own and one link to the machine.
//!
//! The node, its iptables rules, the pod bridge and the forwarding all live in
//! that namespace. The machine itself gets one link and, over it, one route to
//! the pods and one to the services; its firewall and settings stay as they are.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::layout::{
    HOST_ADDRESS, HOST_LINK, LINK_PREFIX_LENGTH, Layout, NODE_ADDRESS, NODE_LINK, POD_RANGE,
    SERVICE_RANGE,
};
use super::{mounts, shell};

/// Make what is missing of namespace, link, addresses and routes.
pub(crate) async fn ensure(layout: &Layout) -> Result<()> {
    load_modules().await?;
    ensure_namespace(&layout.network_namespace()).await?;
    ensure_link(layout).await?;
    for range in [POD_RANGE, SERVICE_RANGE] {
        ensure_route(range).await?;
    }
    Ok(())
}

/// Remove the link, and with it the routes. The namespace goes with its mount.
pub(crate) async fn remove() -> Result<()> {
    if link_exists() {
        ip(&["link", "delete", HOST_LINK]).await?;
    }
    Ok(())
}

/// Whether the machine's end of the link is there.
pub(crate) fn link_exists() -> bool {
    Path::new("/sys/class/net").join(HOST_LINK).exists()
}

/// Stock kernels have these as modules, and not everything that needs them
/// asks for them. Built-in ones need no loading, so only the effect counts.
async fn load_modules() -> Result<()> {
    let bridge_filter = Path::new("/proc/sys/net/bridge");
    if !bridge_filter.exists() {
        let _ = shell::run(
            "modprobe",
            ["-a", "br_netfilter", "overlay", "loop", "veth"],
        )
        .await;
    }
    if !bridge_filter.exists() {
        bail!("the kernel has no br_netfilter: services would not reach pods on the same bridge");
    }
    Ok(())
}

async fn ensure_namespace(file: &Path) -> Result<()> {
    if mounts::is_mounted(file)? {
        return Ok(());
    }
    shell::write(file, "")?;
    let mut option = OsString::from("--net=");
    option.push(file);
    shell::run("unshare", [option, "true".into()]).await?;
    Ok(())
}

async fn ensure_link(layout: &Layout) -> Result<()> {
    let whole = link_exists()
        && in_box(layout, &["ip", "link", "show", NODE_LINK])
            .await
            .is_ok();
    if !whole {
        remove().await?;
        let file = layout.network_namespace();
        let file = file.to_str().context("name the network namespace")?;
        ip(&[
            "link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK,
        ])
        .await?;
        ip(&["link", "set", NODE_LINK, "netns", file]).await?;
    }
    let host = format!("{HOST_ADDRESS}/{LINK_PREFIX_LENGTH}");
    ip(&["address", "replace", &host, "dev", HOST_LINK]).await?;
    ip(&["link", "set", HOST_LINK, "up"]).await?;
    let node = format!(
        "ip link set lo up
        ip address replace {NODE_ADDRESS}/{LINK_PREFIX_LENGTH} dev {NODE_LINK}
        ip link set {NODE_LINK} up
        ip route replace default via {HOST_ADDRESS}
        echo 1 > /proc/sys/net/ipv4/ip_forward"
    );
    in_box(layout, &["sh", "-e", "-c", &node]).await?;
    Ok(())
}

/// A route somebody else has is never replaced.
async fn ensure_route(range: &str) -> Result<()> {
    let present = ip(&["route", "show", "exact", range]).await?;
    if present.contains(&format!("dev {HOST_LINK}")) {
        return Ok(());
    }
    ip(&["route", "add", range, "via", NODE_ADDRESS, "dev", HOST_LINK])
        .await
        .with_context(|| format!("route {range} to the box (another cluster on this machine?)"))?;
    Ok(())
}

async fn in_box(layout: &Layout, command: &[&str]) -> Result<String> {
    let mut option = OsString::from("--net=");
    option.push(layout.network_namespace());
    let words = std::iter::once(option).chain(command.iter().map(OsString::from));
    shell::run("nsenter", words).await
}

async fn ip(arguments: &[&str]) -> Result<String> {
    shell::run("ip", arguments).await
}

/// Files CNI writes to its one cache folder, which only their names tell apart.
pub(crate) fn cni_cache_files() -> Vec<std::path::PathBuf> {
    let folder = Path::new("/var/lib/cni/results");
    let names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let ours = format!("{}-", super::layout::CNI_NETWORK);
    let sandboxes: Vec<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix(&ours)?.strip_suffix("-eth0"))
        .collect();
    names
        .iter()
        .filter(|name| sandboxes.iter().any(|sandbox| name.contains(sandbox)))
        .map(|name| folder.join(name))
        .collect()
}
