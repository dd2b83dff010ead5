//! The config.xml that libchdb reads: where things are, and what replicated tables need.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::config::EngineConfig;
use crate::xml::escape;

/// Writes the whole file.
pub(crate) fn render(config: &EngineConfig) -> String {
    let inside = |name: &str| path(config.data_path.join(name));
    // A view without SQL SECURITY runs in its creator's name, as ClickHouse documents it.
    format!(
        "<clickhouse>\n\
         \x20   <path>{}</path>\n\
         \x20   <users_config>{}</users_config>\n\
         \x20   <ignore_empty_sql_security_in_create_view_query>0</ignore_empty_sql_security_in_create_view_query>\n\
         {}{}</clickhouse>\n",
        inside("clickhouse"),
        inside("users.xml"),
        macros(config),
        zookeeper(config),
    )
}

fn path(path: PathBuf) -> String {
    escape(&path.display().to_string())
}

fn macros(config: &EngineConfig) -> String {
    let elements = config.macros.iter().fold(String::new(), |mut text, one| {
        // Writing into a string does not fail.
        let _ = write!(text, "<{0}>{1}</{0}>", one.name, escape(&one.value));
        text
    });
    section("macros", &elements)
}

fn zookeeper(config: &EngineConfig) -> String {
    let nodes = config
        .zookeeper
        .iter()
        .fold(String::new(), |mut text, one| {
            let (host, port) = (escape(&one.host), one.port);
            let _ = write!(text, "<node><host>{host}</host><port>{port}</port></node>");
            text
        });
    section("zookeeper", &nodes)
}

/// Nothing where there is nothing in it: an empty `zookeeper` is an ensemble without members.
fn section(name: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("    <{name}>{content}</{name}>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_replicated_tables_need_is_there_when_it_is_asked_for() {
        let mut config = EngineConfig::new("/data");
        let plain = render(&config);
        assert!(
            !plain.contains("macros") && !plain.contains("zookeeper"),
            "{plain}"
        );
        config.macros = vec!["shard=<1>".parse().unwrap(), "replica=a".parse().unwrap()];
        config.zookeeper = vec!["one:2181".parse().unwrap(), "two:2182".parse().unwrap()];
        let replicated = render(&config);
        for line in [
            "<macros><shard>&lt;1&gt;</shard><replica>a</replica></macros>",
            "<zookeeper><node><host>one</host><port>2181</port></node>\
             <node><host>two</host><port>2182</port></node></zookeeper>",
        ] {
            assert!(replicated.contains(line), "{replicated}");
        }
    }
}
