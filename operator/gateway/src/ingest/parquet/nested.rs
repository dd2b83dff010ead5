//! Lists, maps and structures of a file, put together row by row from their
//! columns and written as JSON.
//!
//! The library can do that too, but it does not say which column a value is of, so
//! times lose their zone and UUIDs their meaning, and it ends at the first text
//! that is not UTF-8.

use super::super::typed::{Kind, Member};
use super::error::FileError;
use super::leaf::Leaf;
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::file::reader::RowGroupReader;
use parquet::schema::types::{Type, TypePtr};

/// Room that is kept from row to row.
const SPARE: usize = 64 * 1024;

/// A part of a nested column.
pub(super) enum Node {
    Value {
        leaf: Box<Leaf>,
        form: Form,
    },
    /// There from this level on; missing at and below it.
    Optional {
        missing: i16,
        inner: Box<Self>,
    },
    /// Its members by name or, for a tuple whose elements have none, in order.
    Group {
        by_name: bool,
        members: Vec<(String, Self)>,
    },
    /// Has elements above the level `empty`; goes on above the level `outer`.
    List {
        empty: i16,
        outer: i16,
        element: Box<Self>,
    },
    Map {
        empty: i16,
        outer: i16,
        key: Box<Self>,
        value: Box<Self>,
    },
}

/// How a value stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is: a number, true or false.
    Bare,
    /// As it is, or as a text if it is not finite.
    Float,
    /// As a text.
    Text,
}

/// JSON of a row's value.
#[derive(Default)]
pub(super) struct Json {
    pub(super) text: Vec<u8>,
    /// It has bytes that no JSON can have.
    pub(super) binary: bool,
    value: Vec<u8>,
}

/// Opens the next leaf, for values of a kind where that is known.
pub(super) type NextLeaf<'a> = dyn FnMut(Option<&Kind>) -> Result<Leaf, FileError> + 'a;

/// Levels of repetition and definition at some depth of the schema.
#[derive(Clone, Copy, Default)]
struct Levels {
    definition: i16,
    repetition: i16,
}

impl Levels {
    fn optional(self) -> Self {
        Self {
            definition: self.definition + 1,
            ..self
        }
    }

    fn repeated(self) -> Self {
        Self {
            definition: self.definition + 1,
            repetition: self.repetition + 1,
        }
    }
}

impl Node {
    /// A column of the file, for a column of the table of some kind. `next_leaf` opens its
    /// leaves in order.
    pub(super) fn new(
        kind: &Type,
        target: Option<&Kind>,
        next_leaf: &mut NextLeaf<'_>,
    ) -> Result<Self, FileError> {
        Self::at(kind, target, Levels::default(), next_leaf)
    }

    fn at(
        kind: &Type,
        target: Option<&Kind>,
        levels: Levels,
        next_leaf: &mut NextLeaf<'_>,
    ) -> Result<Self, FileError> {
        let target = match target {
            Some(Kind::Nullable(inner)) => Some(&**inner),
            target => target,
        };
        Ok(match kind.get_basic_info().repetition() {
            Repetition::REQUIRED => Self::content(kind, target, levels, next_leaf)?,
            Repetition::OPTIONAL => Self::Optional {
                missing: levels.definition,
                inner: Box::new(Self::content(kind, target, levels.optional(), next_leaf)?),
            },
            // A list without the group that says so.
            Repetition::REPEATED => Self::List {
                empty: levels.definition,
                outer: levels.repetition,
                element: Box::new(Self::content(
                    kind,
                    element_kind(target),
                    levels.repeated(),
                    next_leaf,
                )?),
            },
        })
    }

    /// What a field is when it is there.
    fn content(
        kind: &Type,
        target: Option<&Kind>,
        levels: Levels,
        next_leaf: &mut NextLeaf<'_>,
    ) -> Result<Self, FileError> {
        if kind.is_primitive() {
            return Ok(Self::Value {
                leaf: Box::new(next_leaf(target)?),
                form: Form::of(kind, target),
            });
        }
        let inside = levels.repeated();
        match (annotation(kind), kind.get_fields()) {
            (Annotation::List, [repeated]) if is_repeated(repeated) => {
                let target = element_kind(target);
                let element = match element_of(repeated) {
                    Some(element) => Self::at(element, target, inside, next_leaf)?,
                    None => Self::content(repeated, target, inside, next_leaf)?,
                };
                Ok(Self::List {
                    empty: levels.definition,
                    outer: levels.repetition,
                    element: Box::new(element),
                })
            }
            (Annotation::Map, [entry])
                if is_repeated(entry) && entry.is_group() && entry.get_fields().len() == 2 =>
            {
                let [key_kind, value_kind] = match target {
                    Some(Kind::Map(kinds)) => kinds.each_ref().map(Some),
                    _ => [None; 2],
                };
                let [key, value] = [&entry.get_fields()[0], &entry.get_fields()[1]];
                Ok(Self::Map {
                    empty: levels.definition,
                    outer: levels.repetition,
                    key: Box::new(Self::at(key, key_kind, inside, next_leaf)?),
                    value: Box::new(Self::at(value, value_kind, inside, next_leaf)?),
                })
            }
            (_, []) => Err(FileError::NotUnderstood),
            (_, fields) => {
                let members = fields.iter().enumerate().map(|(index, field)| {
                    let target = member_kind(target, index, field.name());
                    let member = Self::at(field, target, levels, next_leaf)?;
                    Ok((field.name().to_owned(), member))
                });
                Ok(Self::Group {
                    by_name: !is_unnamed(target),
                    members: members.collect::<Result<_, FileError>>()?,
                })
            }
        }
    }

    /// Whether the column has no further row.
    pub(super) fn is_at_end(&self) -> bool {
        self.first().is_at_end()
    }

    /// Writes the value of a row, as JSON if it is nested; says whether there is one.
    pub(super) fn take_row(&mut self, json: &mut Json, most: usize) -> Result<bool, FileError> {
        json.clear();
        if let Some(leaf) = self.only_leaf() {
            return leaf.take(&mut json.text);
        }
        let there = self.take(json, most)?;
        if self.is_between_rows() {
            Ok(there)
        } else {
            Err(FileError::Ragged)
        }
    }

    /// Passes over a row.
    pub(super) fn pass_row(&mut self) -> Result<(), FileError> {
        match self {
            Self::Value { leaf, .. } => leaf.pass_row(),
            Self::Optional { inner, .. } | Self::List { element: inner, .. } => inner.pass_row(),
            Self::Group { members, .. } => members
                .iter_mut()
                .try_for_each(|(_, member)| member.pass_row()),
            Self::Map { key, value, .. } => {
                key.pass_row()?;
                value.pass_row()
            }
        }
    }

    pub(super) fn is_nested(&self) -> bool {
        match self {
            Self::Value { .. } => false,
            Self::Optional { inner, .. } => inner.is_nested(),
            Self::Group { .. } | Self::List { .. } | Self::Map { .. } => true,
        }
    }

    /// The leaf of a column that is not nested.
    fn only_leaf(&mut self) -> Option<&mut Leaf> {
        match self {
            Self::Value { leaf, .. } => Some(leaf),
            Self::Optional { inner, .. } => inner.only_leaf(),
            Self::Group { .. } | Self::List { .. } | Self::Map { .. } => None,
        }
    }

    fn take(&mut self, json: &mut Json, most: usize) -> Result<bool, FileError> {
        if json.text.len() > most {
            return Err(FileError::LongRow);
        }
        match self {
            Self::Value { leaf, form } => {
                json.value.clear();
                if !leaf.take(&mut json.value)? {
                    return Err(FileError::Ragged);
                }
                json.write_value(*form);
            }
            Self::Optional { missing, inner } => {
                if inner.first().definition() <= *missing {
                    inner.skip()?;
                    return Ok(false);
                }
                return inner.take(json, most);
            }
            Self::Group { by_name, members } => {
                json.text.push(if *by_name { b'{' } else { b'[' });
                for (index, (name, member)) in members.iter_mut().enumerate() {
                    json.comma(index);
                    if *by_name {
                        json.write_text(name.as_bytes());
                        json.text.push(b':');
                    }
                    member.take_or_null(json, most)?;
                }
                json.text.push(if *by_name { b'}' } else { b']' });
            }
            Self::List {
                empty,
                outer,
                element,
            } => {
                json.text.push(b'[');
                if element.first().definition() <= *empty {
                    element.skip()?;
                } else {
                    for index in 0.. {
                        json.comma(index);
                        element.take_or_null(json, most)?;
                        if element.first().repetition() <= *outer {
                            break;
                        }
                    }
                }
                json.text.push(b']');
            }
            Self::Map {
                empty,
                outer,
                key,
                value,
            } => {
                json.text.push(b'{');
                if key.first().definition() <= *empty {
                    key.skip()?;
                    value.skip()?;
                } else {
                    for index in 0.. {
                        json.comma(index);
                        json.write_key(key, most)?;
                        json.text.push(b':');
                        value.take_or_null(json, most)?;
                        if key.first().repetition() <= *outer {
                            break;
                        }
                    }
                }
                json.text.push(b'}');
            }
        }
        Ok(true)
    }

    fn take_or_null(&mut self, json: &mut Json, most: usize) -> Result<(), FileError> {
        if !self.take(json, most)? {
            json.text.extend_from_slice(b"null");
        }
        Ok(())
    }

    /// Goes past a value that is missing, which every leaf says once.
    fn skip(&mut self) -> Result<(), FileError> {
        match self {
            Self::Value { leaf, .. } => {
                if leaf.take(&mut Vec::new())? {
                    return Err(FileError::Ragged);
                }
                Ok(())
            }
            Self::Optional { inner, .. } => inner.skip(),
            Self::Group { members, .. } => {
                members.iter_mut().try_for_each(|(_, member)| member.skip())
            }
            Self::List { element, .. } => element.skip(),
            Self::Map { key, value, .. } => {
                key.skip()?;
                value.skip()
            }
        }
    }

    /// The leaf that tells whether the part is there.
    fn first(&self) -> &Leaf {
        match self {
            Self::Value { leaf, .. } => leaf,
            Self::Optional { inner, .. } => inner.first(),
            // Never without members.
            Self::Group { members, .. } => members[0].1.first(),
            Self::List { element, .. } => element.first(),
            Self::Map { key, .. } => key.first(),
        }
    }

    fn is_between_rows(&self) -> bool {
        match self {
            Self::Value { leaf, .. } => leaf.repetition() == 0,
            Self::Optional { inner, .. } => inner.is_between_rows(),
            Self::Group { members, .. } => {
                members.iter().all(|(_, member)| member.is_between_rows())
            }
            Self::List { element, .. } => element.is_between_rows(),
            Self::Map { key, value, .. } => key.is_between_rows() && value.is_between_rows(),
        }
    }
}

fn element_kind(target: Option<&Kind>) -> Option<&Kind> {
    match target {
        Some(Kind::Array(element)) => Some(element),
        _ => None,
    }
}

/// Members without names have their places for names.
fn member_kind<'k>(target: Option<&'k Kind>, index: usize, name: &str) -> Option<&'k Kind> {
    let Some(Kind::Tuple(members)) = target else {
        return None;
    };
    let named = |member: &&Member| member.name.as_deref() == Some(name.as_bytes());
    let member = members.iter().find(named);
    let unnamed = || members.get(index).filter(|member| member.name.is_none());
    member.or_else(unnamed).map(|member| &member.kind)
}

fn is_unnamed(target: Option<&Kind>) -> bool {
    let Some(Kind::Tuple(members)) = target else {
        return false;
    };
    members.iter().any(|member| member.name.is_none())
}

enum Annotation {
    None,
    List,
    Map,
}

fn annotation(kind: &Type) -> Annotation {
    let info = kind.get_basic_info();
    match (info.logical_type_ref(), info.converted_type()) {
        (Some(LogicalType::List), _) | (None, ConvertedType::LIST) => Annotation::List,
        (Some(LogicalType::Map), _) | (None, ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE) => {
            Annotation::Map
        }
        _ => Annotation::None,
    }
}

fn is_repeated(kind: &Type) -> bool {
    kind.get_basic_info().repetition() == Repetition::REPEATED
}

/// The element inside the repeated field of a list; nothing where that is the
/// element itself, as old writers have it. (The rules of Parquet's LogicalTypes.)
fn element_of(repeated: &Type) -> Option<&Type> {
    if repeated.is_primitive() {
        return None;
    }
    let [only] = repeated.get_fields() else {
        return None;
    };
    let is_wrapper = matches!(annotation(repeated), Annotation::List) || is_repeated(only);
    let is_named_like_an_element =
        repeated.name() == "array" || repeated.name().ends_with("_tuple");
    (is_wrapper || !is_named_like_an_element).then_some(only)
}

impl Form {
    fn of(kind: &Type, target: Option<&Kind>) -> Self {
        let info = kind.get_basic_info();
        let is_decimal = matches!(info.logical_type_ref(), Some(LogicalType::Decimal(_)))
            || info.converted_type() == ConvertedType::DECIMAL;
        let is_date = matches!(
            info.logical_type_ref(),
            Some(LogicalType::Date | LogicalType::Timestamp(_))
        ) || matches!(
            info.converted_type(),
            ConvertedType::DATE | ConvertedType::TIMESTAMP_MILLIS | ConvertedType::TIMESTAMP_MICROS
        );
        let is_half = matches!(info.logical_type_ref(), Some(LogicalType::Float16));
        match kind.get_physical_type() {
            // Four numbers with points between them are no number.
            _ if target == Some(&Kind::Ipv4) => Self::Text,
            _ if is_decimal => Self::Bare,
            PhysicalType::BOOLEAN => Self::Bare,
            PhysicalType::INT32 | PhysicalType::INT64 if !is_date => Self::Bare,
            PhysicalType::FLOAT | PhysicalType::DOUBLE => Self::Float,
            PhysicalType::FIXED_LEN_BYTE_ARRAY if is_half => Self::Float,
            _ => Self::Text,
        }
    }
}

impl Json {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        // A long value here and there must not add up.
        self.text.shrink_to(SPARE);
        self.value.clear();
        self.value.shrink_to(SPARE);
        self.binary = false;
    }

    fn comma(&mut self, index: usize) {
        if index > 0 {
            self.text.push(b',');
        }
    }

    fn write_value(&mut self, form: Form) {
        let value = std::mem::take(&mut self.value);
        let bare = match form {
            Form::Bare => true,
            // JSON has no infinity and no NaN.
            Form::Float => value.last().is_some_and(u8::is_ascii_digit),
            Form::Text => false,
        };
        if bare {
            self.text.extend_from_slice(&value);
        } else {
            self.write_text(&value);
        }
        self.value = value;
    }

    /// Writes a text. What is not UTF-8 stays as it is, for people to see, and is no JSON.
    pub(super) fn write_text(&mut self, text: &[u8]) {
        self.text.push(b'"');
        for chunk in text.utf8_chunks() {
            let escaped = serde_json::to_string(chunk.valid()).unwrap_or_default();
            let inside = escaped.get(1..escaped.len() - 1).unwrap_or_default();
            self.text.extend_from_slice(inside.as_bytes());
            self.text.extend_from_slice(chunk.invalid());
            self.binary |= !chunk.invalid().is_empty();
        }
        self.text.push(b'"');
    }

    /// Writes the key of a map's entry, which JSON wants to be a text.
    fn write_key(&mut self, key: &mut Node, most: usize) -> Result<(), FileError> {
        let start = self.text.len();
        key.take_or_null(self, most)?;
        if self.text.get(start) != Some(&b'"') {
            let key = self.text.split_off(start);
            self.write_text(&key);
        }
        Ok(())
    }
}

/// Opens a column of a row group, for values of a kind where that is known.
pub(super) fn open(
    field: &TypePtr,
    first_leaf: usize,
    kind: Option<&Kind>,
    group: &dyn RowGroupReader,
) -> Result<Node, FileError> {
    let mut leaves = first_leaf..;
    Node::new(field, kind, &mut |kind| {
        let leaf = leaves.next().ok_or(FileError::NotUnderstood)?;
        Leaf::open(group, leaf, kind)
    })
}

/// Adds a field to the object of a record, which is still open.
pub(super) fn write_field(record: &mut Json, name: &str, is_nested: bool, value: &[u8]) {
    let separator = if record.text.is_empty() { b'{' } else { b',' };
    record.text.push(separator);
    record.write_text(name.as_bytes());
    record.text.push(b':');
    if is_nested {
        record.text.extend_from_slice(value);
    } else {
        record.write_text(value);
    }
}
