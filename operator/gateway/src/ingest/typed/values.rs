//! The values of a column as ClickHouse's `Native` format has them: the parts of
//! nested ones side by side, each as a column of its own.

use super::super::block::Texts;
use super::super::pieces::Pieces;
use super::kind::Kind;
use super::scalar;

/// Values of one kind, of which any number is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Texts, each after its length.
    Texts(Texts),
    /// So many bytes each, least significant first.
    Fixed {
        width: usize,
        bytes: Vec<u8>,
    },
    /// 1 where there is none, and then anything stands for it.
    Nullable {
        nulls: Vec<u8>,
        inner: Box<Self>,
    },
    /// The elements of all, and where those of each end. A map has two for an element.
    Lists {
        ends: Vec<u64>,
        elements: Vec<Self>,
    },
    Tuple(Vec<Self>),
}

/// How much there was of each part of [`Values`].
#[derive(Debug, Default)]
pub(super) struct Mark(pub(super) Vec<usize>);

impl Values {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Text => Self::Texts(Texts::default()),
            Kind::Nullable(inner) => Self::Nullable {
                nulls: Vec::new(),
                inner: Box::new(Self::new(inner)),
            },
            Kind::Array(element) => Self::Lists {
                ends: Vec::new(),
                elements: vec![Self::new(element)],
            },
            Kind::Map(inside) => Self::Lists {
                ends: Vec::new(),
                elements: inside.iter().map(Self::new).collect(),
            },
            Kind::Tuple(members) => {
                let members = members.iter().map(|member| Self::new(&member.kind));
                Self::Tuple(members.collect())
            }
            scalar => Self::Fixed {
                width: scalar.width(),
                bytes: Vec::new(),
            },
        }
    }

    /// Room for the values of so many rows.
    pub(super) fn with_capacity(kind: &Kind, rows: usize) -> Self {
        let mut values = Self::new(kind);
        values.reserve(rows);
        values
    }

    fn reserve(&mut self, rows: usize) {
        match self {
            Self::Texts(_) => {}
            Self::Fixed { width, bytes } => bytes.reserve(rows * *width),
            Self::Nullable { nulls, inner } => {
                nulls.reserve(rows);
                inner.reserve(rows);
            }
            Self::Lists { ends, .. } => ends.reserve(rows),
            Self::Tuple(members) => members.iter_mut().for_each(|member| member.reserve(rows)),
        }
    }

    /// Adds the value of a text if it is certain; otherwise adds nothing.
    pub(super) fn push_scalar(&mut self, kind: &Kind, text: &[u8]) -> Option<()> {
        match self {
            Self::Texts(texts) => {
                texts.push(text);
                Some(())
            }
            Self::Fixed { bytes, .. } => scalar::write(kind, text, bytes),
            Self::Nullable { .. } | Self::Lists { .. } | Self::Tuple(_) => None,
        }
    }

    /// Adds what stands where there is no value.
    pub(super) fn push_nothing(&mut self) {
        match self {
            Self::Texts(texts) => texts.push(b""),
            Self::Fixed { width, bytes } => bytes.resize(bytes.len() + *width, 0),
            Self::Nullable { nulls, inner } => {
                nulls.push(1);
                inner.push_nothing();
            }
            Self::Lists { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Self::Tuple(members) => members.iter_mut().for_each(Self::push_nothing),
        }
    }

    /// Bytes of all parts.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.0.len(),
            Self::Fixed { bytes, .. } => bytes.len(),
            Self::Nullable { nulls, inner } => nulls.len() + inner.size(),
            Self::Lists { ends, elements } => {
                size_of_val(ends.as_slice()) + elements.iter().map(Self::size).sum::<usize>()
            }
            Self::Tuple(members) => members.iter().map(Self::size).sum(),
        }
    }

    /// Notes how much there is of each part.
    pub(super) fn note(&self, mark: &mut Mark) {
        match self {
            Self::Texts(texts) => mark.0.push(texts.0.len()),
            Self::Fixed { bytes, .. } => mark.0.push(bytes.len()),
            Self::Nullable { nulls, inner } => {
                mark.0.push(nulls.len());
                inner.note(mark);
            }
            Self::Lists { ends, elements } => {
                mark.0.push(ends.len());
                elements.iter().for_each(|element| element.note(mark));
            }
            Self::Tuple(members) => members.iter().for_each(|member| member.note(mark)),
        }
    }

    /// Takes away what came after a mark.
    pub(super) fn cut(&mut self, mark: &mut impl Iterator<Item = usize>) {
        match self {
            Self::Texts(texts) => texts.0.open().truncate(mark.next().unwrap_or(0)),
            Self::Fixed { bytes, .. } => bytes.truncate(mark.next().unwrap_or(0)),
            Self::Nullable { nulls, inner } => {
                nulls.truncate(mark.next().unwrap_or(0));
                inner.cut(mark);
            }
            Self::Lists { ends, elements } => {
                ends.truncate(mark.next().unwrap_or(0));
                for element in elements {
                    element.cut(mark);
                }
            }
            Self::Tuple(members) => {
                for member in members {
                    member.cut(mark);
                }
            }
        }
    }

    /// Keeps some of the values.
    pub(super) fn retain(&mut self, keep: &[bool]) {
        match self {
            Self::Texts(texts) => *texts = texts.filtered(keep),
            Self::Fixed { width, bytes } => {
                let kept = bytes.chunks_exact(*width).zip(keep);
                let kept = kept.filter(|(_, keep)| **keep).flat_map(|(value, _)| value);
                *bytes = kept.copied().collect();
            }
            Self::Nullable { nulls, inner } => {
                let mut kept = keep.iter();
                nulls.retain(|_| kept.next().copied().unwrap_or(false));
                inner.retain(keep);
            }
            Self::Lists { ends, elements } => {
                let (mut start, mut kept_end) = (0, 0);
                let mut kept_ends = Vec::with_capacity(ends.len());
                let mut kept_elements = Vec::new();
                for (&end, &keep) in ends.iter().zip(keep) {
                    let length = end - start;
                    start = end;
                    kept_elements.extend(std::iter::repeat_n(keep, length as usize));
                    if keep {
                        kept_end += length;
                        kept_ends.push(kept_end);
                    }
                }
                *ends = kept_ends;
                for element in elements {
                    element.retain(&kept_elements);
                }
            }
            Self::Tuple(members) => members.iter_mut().for_each(|member| member.retain(keep)),
        }
    }

    /// Writes them in `Native` format.
    pub(super) fn encode(self, pieces: &mut Pieces) {
        match self {
            Self::Texts(mut texts) => pieces.bytes(texts.0.share()),
            Self::Fixed { bytes, .. } => pieces.bytes(bytes.into()),
            Self::Nullable { nulls, inner } => {
                pieces.bytes(nulls.into());
                inner.encode(pieces);
            }
            Self::Lists { ends, elements } => {
                pieces.bytes(ends.into_iter().flat_map(u64::to_le_bytes).collect());
                for element in elements {
                    element.encode(pieces);
                }
            }
            Self::Tuple(members) => members.into_iter().for_each(|member| member.encode(pieces)),
        }
    }
}
