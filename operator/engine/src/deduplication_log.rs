//! Repairs what a ClickHouse leaves that is killed at the wrong moment: names of blocks that it never
//! stored.
//!
//! A table knows the names of its last blocks, and does not store one again that comes twice. Up to
//! 26.7, MergeTree notes a name (`deduplication_logs/`) just before the block's part gets its place.
//! Killed in between, it holds the block for stored when its client sends it again, and the rows are
//! lost. Both are done under one lock, so of each table only the part that was noted last can be
//! missing. Later versions note the name afterwards.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Begins a record of a block that was stored; `2` begins one of a block that was dropped.
const STORED: &str = "1";

/// Repairs the tables in ClickHouse's directory, which nobody has open.
pub(crate) fn repair(clickhouse: &Path) -> io::Result<()> {
    // store/<three characters of the table's UUID>/<its UUID>/
    for prefix in entries(&clickhouse.join("store"))? {
        for table in entries(&prefix)? {
            repair_table(&table)?;
        }
    }
    Ok(())
}

fn repair_table(table: &Path) -> io::Result<()> {
    let Some(log) = last_log(&entries(&table.join("deduplication_logs"))?)? else {
        return Ok(());
    };
    let text = fs::read_to_string(&log)?;
    let Some(part) = last_part(&text) else {
        return Ok(());
    };
    let is_there = entries(table)?.iter().any(|entry| {
        let name = entry.file_name().and_then(|name| name.to_str());
        name.and_then(Part::parse)
            .is_some_and(|other| other.covers(&part))
    });
    if is_there {
        return Ok(());
    }
    let kept = without_last(&text);
    tracing::warn!(table = %table.display(), "a block was noted and not stored: its name is forgotten");
    File::options().write(true).open(&log)?.set_len(kept as u64)
}

/// What is in a directory; nothing if there is none.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// The last log that has records: `deduplication_log_<number>.txt`.
fn last_log(logs: &[PathBuf]) -> io::Result<Option<PathBuf>> {
    let mut last: Option<(u64, &PathBuf)> = None;
    for log in logs {
        let number = log
            .file_stem()
            .and_then(|stem| stem.to_str()?.rsplit_once('_')?.1.parse().ok());
        let Some(number) = number else { continue };
        if last.is_none_or(|(other, _)| other < number) && log.metadata()?.len() > 0 {
            last = Some((number, log));
        }
    }
    Ok(last.map(|(_, log)| log.clone()))
}

/// The part of the last record, if that is of one that was stored.
fn last_part(text: &str) -> Option<Part<'_>> {
    stored_part(text.lines().next_back()?)
}

/// `1<tab>part<tab>name`
fn stored_part(record: &str) -> Option<Part<'_>> {
    let mut fields = record.split('\t');
    (fields.next() == Some(STORED)).then(|| Part::parse(fields.next()?))?
}

/// Bytes before the records of the last part: it can have several names.
fn without_last(text: &str) -> usize {
    let last = last_part(text);
    let records = text.split_inclusive('\n').rev();
    let own = records.take_while(|record| stored_part(record) == last);
    text.len() - own.map(str::len).sum::<usize>()
}

/// The name of a part: `<partition>_<first block>_<last block>_<level>`, and maybe a mutation.
#[derive(Debug, PartialEq, Eq)]
struct Part<'a> {
    partition: &'a str,
    blocks: (u64, u64),
}

impl<'a> Part<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (partition, rest) = name.split_once('_')?;
        let numbers: Option<Vec<u64>> = rest.split('_').map(|number| number.parse().ok()).collect();
        match numbers?[..] {
            [first, last, _level] | [first, last, _level, _] => Some(Self {
                partition,
                blocks: (first, last),
            }),
            _ => None,
        }
    }

    /// Whether the rows of another are in it, by a merge if it is not the same.
    fn covers(&self, other: &Self) -> bool {
        self.partition == other.partition
            && self.blocks.0 <= other.blocks.0
            && self.blocks.1 >= other.blocks.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_was_merged_is_there() {
        let part = |name| Part::parse(name).unwrap();
        for (there, noted, covers) in [
            ("all_5_5_0", "all_5_5_0", true),
            ("all_1_9_2", "all_5_5_0", true),
            ("all_5_5_0_12", "all_5_5_0", true),
            ("all_6_9_1", "all_5_5_0", false),
            ("202601_5_5_0", "202602_5_5_0", false),
        ] {
            assert_eq!(part(there).covers(&part(noted)), covers, "{there} {noted}");
        }
        for name in [
            "detached",
            "tmp_insert_all_5_5_0",
            "mutation_7.txt",
            "all_5_5",
            "",
        ] {
            assert_eq!(Part::parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_the_part_that_was_noted_last_is_forgotten() {
        let first = "1\tall_1_1_0\tall_a\n";
        for (text, kept) in [
            (format!("{first}1\tall_2_2_0\tall_b\n"), first.len()),
            (
                format!("{first}1\tall_2_2_0\tall_b\n1\tall_2_2_0\tall_c\n"),
                first.len(),
            ),
            (first.to_owned(), 0),
        ] {
            assert_eq!(without_last(&text), kept, "{text}");
        }
        assert_eq!(last_part(&format!("{first}2\tall_1_1_0\tall_a\n")), None);
        assert_eq!(last_part(""), None);
    }
}
