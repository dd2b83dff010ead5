//! YAML as `kubectl` reads it (`on` and `yes` are booleans, `<<` merges), with
//! the line that each part of it stands on.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::Spanned;
use std::fmt;

/// Whole numbers below this are the same as floating point.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// A part of a document.
pub(crate) struct Node {
    /// Its line in the file, counted from one.
    pub(crate) line: u64,
    content: Content,
}

enum Content {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// The documents of a stream, without the empty ones.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, serde_saphyr::Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_multiple_with_options(text, options)
}

impl Node {
    /// The part under a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Content::Map(entries) = &self.content else {
            return None;
        };
        let found = entries.iter().find(|(name, _)| name == key);
        found.map(|(_, node)| node)
    }

    /// The objects in it: those of a `kind: List`, as `kubectl get -o yaml` writes it, or itself.
    pub(crate) fn into_objects(mut self) -> Vec<Node> {
        let is_list = self.get("kind").and_then(Node::text) == Some("List");
        if let (true, Content::Map(entries)) = (is_list, &mut self.content)
            && let Some((_, items)) = entries.iter_mut().find(|(key, _)| key == "items")
            && let Content::List(items) = &mut items.content
        {
            return std::mem::take(items);
        }
        vec![self]
    }

    /// The items of a list; none of what is not one.
    fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The same as JSON. A key without a value counts as left out, as it does to the
    /// API server where the field has a default.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Node::to_json).collect(),
            Content::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, node)| (key.clone(), node.to_json()));
                Value::Object(entries.filter(|(_, value)| !value.is_null()).collect())
            }
        }
    }

    /// The line of a field such as `spec.columns[2].type`, or of what should hold it.
    pub(crate) fn line_of(&self, path: &str) -> u64 {
        let mut node = self;
        for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let index = part.parse::<usize>().ok();
            let item = index.and_then(|index| node.items().get(index));
            let Some(inner) = item.or_else(|| node.get(part)) else {
                break;
            };
            node = inner;
        }
        node.line
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self {
            line: found.referenced.line(),
            content: found.value,
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("what JSON can say")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    /// `1.0` is sent as `1`, which a number that must be whole may be.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Content, E> {
        if value.fract() == 0.0 && value.abs() < LARGEST_EXACT {
            return self.visit_i64(value as i64);
        }
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Content::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Content::Map(map))
    }
}
