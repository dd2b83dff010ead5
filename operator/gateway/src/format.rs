//! The formats of an answer.

use http::HeaderValue;

/// How an endpoint's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// ClickHouse's `JSON`: meta, data, counts and statistics.
    Json,
    /// With a header line.
    Csv,
    /// One object a line.
    NdJson,
    /// A Parquet file.
    Parquet,
}

impl Format {
    pub(crate) const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::NdJson, Self::Parquet];

    pub(crate) fn from_extension(extension: &str) -> Option<Self> {
        match extension {
            "json" => Some(Self::Json),
            // `.csv` has a header already; Tinybird's other name for it works too.
            "csv" | "csvwithnames" => Some(Self::Csv),
            "ndjson" => Some(Self::NdJson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::NdJson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// The name in ClickHouse.
    pub(crate) fn clickhouse_name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Csv => "CSVWithNames",
            Self::NdJson => "JSONEachRow",
            Self::Parquet => "Parquet",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::NdJson => "application/x-ndjson; charset=utf-8",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(self.media_type())
    }

    /// Whether a whole answer can end like this. Only asked of servers that do
    /// not mark exceptions in the middle of an answer.
    pub(crate) fn ends_like(self, end: &[u8]) -> bool {
        match self {
            Self::Json => end.ends_with(b"}\n"),
            Self::NdJson => end.is_empty() || end.ends_with(b"}\n"),
            Self::Parquet => end.ends_with(b"PAR1"),
            // Texts stand in quotes, so no row of a CSV file starts like this.
            Self::Csv => {
                end.ends_with(b"\n") && !last_lines(end).any(|line| line.starts_with(b"Code: "))
            }
        }
    }
}

fn last_lines(end: &[u8]) -> impl Iterator<Item = &[u8]> {
    end.split(|&byte| byte == b'\n').rev().take(64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_round_trip() {
        for format in Format::ALL {
            assert_eq!(Format::from_extension(format.extension()), Some(format));
        }
        assert_eq!(Format::from_extension("xml"), None);
    }
}
