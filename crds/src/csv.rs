//! How CSV files for a data source are written.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How CSV files for a data source are written.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.delimiter != self.quote").message("delimiter and quote must differ"))]
pub struct CsvDialect {
    /// The character between fields.
    #[serde(default = "default_delimiter")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\x09\x20-\x7e]$"))]
    pub delimiter: String,
    /// The character around fields that hold a delimiter or a line break.
    #[serde(default = "default_quote")]
    #[schemars(length(min = 1, max = 1), regex(pattern = r"^[\x21-\x7e]$"))]
    pub quote: String,
    /// Whether the first row names the columns. `Auto`: it does if more than half of its fields are names of columns.
    #[serde(default)]
    pub header: CsvHeader,
    /// Unquoted values that mean "no value", such as `NA`.
    #[serde(default = "default_null_markers")]
    #[schemars(length(max = 16), inner(length(max = 32)))]
    pub null_markers: Vec<String>,
}

impl Default for CsvDialect {
    fn default() -> Self {
        Self {
            delimiter: default_delimiter(),
            quote: default_quote(),
            header: CsvHeader::default(),
            null_markers: default_null_markers(),
        }
    }
}

fn default_delimiter() -> String {
    ",".to_owned()
}

fn default_quote() -> String {
    "\"".to_owned()
}

fn default_null_markers() -> Vec<String> {
    vec![String::new(), "\\N".to_owned()]
}

/// Whether the first row of a CSV file names the columns.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CsvHeader {
    /// It does if more than half of its fields are names of columns.
    #[default]
    Auto,
    /// It does.
    Present,
    /// It does not: fields are in the order of the columns.
    Absent,
}
