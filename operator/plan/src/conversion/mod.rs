//! How the text of a field becomes a typed value: an SQL expression per type.
//!
//! Strict: a value that would be wrapped, clamped, rounded off or guessed is no
//! value. ClickHouse's own conversions are almost that; where they are not, the
//! comment at the type says what they let through. No expression throws, whatever
//! the bytes: a dirty field must not fail the rows beside it.

mod composite;
mod scalar;

use crate::column_type::ColumnType;
use aviary_sql::StringLiteral;

/// How values of a column are made from the field's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// The text is the value.
    Text,
    /// One expression, NULL where the text is not of the type.
    Nullable(String),
    /// Arrays, maps and tuples cannot be NULL: whether the text is of the type is
    /// an expression of its own. It is 0 for NULL.
    Checked {
        /// The text as JSON, whose name is the one that was asked for.
        json: String,
        /// Whether the text is of the type.
        valid: String,
        /// The value; anything where the text is not of the type.
        value: String,
    },
}

/// A complaint that says more than that a value is not of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Whether it is the one to make of a text that does not convert.
    pub applies: String,
    /// What the value has or does, to stand after the column's name.
    pub words: String,
}

/// The conversion of `text`, an expression of type `Nullable(String)`, into the
/// values of a column. What else it needs of the text stands under the name `json`.
pub fn conversion(column_type: &ColumnType, text: &str, json: &str) -> Conversion {
    let value_type = column_type.value_type();
    match value_type {
        ColumnType::String => Conversion::Text,
        ColumnType::Array(_) | ColumnType::Map(..) | ColumnType::Tuple(_) => Conversion::Checked {
            json: composite::exact_json(&format!("ifNull({text}, '')")),
            valid: composite::valid(value_type, json, 0),
            value: composite::value(value_type, json, 0),
        },
        scalar => Conversion::Nullable(scalar::nullable(scalar, text)),
    }
}

/// What there is to say of texts that do not convert, beside that they do not.
pub fn complaint(column_type: &ColumnType, text: &str) -> Option<Complaint> {
    let value_type = column_type.value_type();
    let ColumnType::Decimal { scale, .. } = value_type else {
        return None;
    };
    // The cast itself cuts digits off, so it tells a number that fits otherwise.
    let type_name = value_type.to_string();
    let cast = format!("accurateCastOrNull({text}, {})", StringLiteral(&type_name));
    Some(Complaint {
        applies: format!("match({text}, '[0-9]') AND isNotNull({cast})"),
        words: format!("has too many digits after the point: {type_name} takes {scale}"),
    })
}
