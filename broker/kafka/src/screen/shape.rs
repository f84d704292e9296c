//! What requests look like: which fields, in which versions, written how.

use crate::limits::{DECODED_FACTOR_MAX, NESTING_MAX};
use crate::wire::Encoding;
use kafka_protocol::protocol::StrBytes;

/// What a structure consists of, in all its versions.
#[derive(Debug)]
pub struct Shape {
    name: &'static str,
    /// In the order in which they are written.
    fields: &'static [Field],
    /// What the decoded structure takes, without what it points to.
    decoded_bytes: usize,
}

/// One field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    /// The first and the last version that have it.
    first: i16,
    last: i16,
    kind: Kind,
    null: Null,
}

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A 16-bit or varint size, then UTF-8.
    Text,
    /// A 32-bit or varint size, then bytes.
    Bytes,
    /// A 32-bit or varint count, then elements.
    Array(Element),
}

/// What an array consists of.
#[derive(Clone, Copy, Debug)]
pub enum Element {
    /// Integers of so many bytes, decoded as on the wire.
    Fixed(usize),
    /// Texts, none of them null.
    Text,
    /// Structures.
    Structure(&'static Shape),
}

/// Whether a field may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Null {
    /// It may.
    Allowed,
    /// It may not.
    Refused,
}

impl Shape {
    /// A structure that decodes to a `T`.
    ///
    /// # Panics
    /// At compile time, if it nests too deeply or an element multiplies what is sent by more than the bound.
    pub(crate) const fn of<T>(name: &'static str, fields: &'static [Field]) -> Self {
        let shape = Self { name, fields, decoded_bytes: size_of::<T>() };
        assert!(shape.nesting() <= NESTING_MAX);
        let mut at = 0;
        while at < fields.len() {
            fields[at].assert_factor();
            at += 1;
        }
        shape
    }

    /// The structure's name, as Kafka's schemas have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The fields that a version has, in order.
    pub fn fields(&self, version: i16) -> impl Iterator<Item = &Field> + use<'_> {
        self.fields.iter().filter(move |field| field.is_in(version))
    }

    const fn nesting(&self) -> usize {
        let mut deepest = 0;
        let mut at = 0;
        while at < self.fields.len() {
            if let Kind::Array(Element::Structure(shape)) = self.fields[at].kind
                && shape.nesting() > deepest
            {
                deepest = shape.nesting();
            }
            at += 1;
        }
        deepest + 1
    }

    /// The least that it takes on the wire.
    const fn bytes_min(&self, version: i16, encoding: Encoding) -> usize {
        let mut bytes = match encoding {
            Encoding::Fixed => 0,
            Encoding::Flexible => 1,
        };
        let mut at = 0;
        while at < self.fields.len() {
            if self.fields[at].is_in(version) {
                bytes += self.fields[at].kind.bytes_min(encoding);
            }
            at += 1;
        }
        bytes
    }
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, first: 0, last: i16::MAX, kind, null: Null::Refused }
    }

    /// Eight bits, or a truth value.
    pub(crate) const fn i8(name: &'static str) -> Self {
        Self::new(name, Kind::Fixed(1))
    }

    pub(crate) const fn i16(name: &'static str) -> Self {
        Self::new(name, Kind::Fixed(2))
    }

    pub(crate) const fn i32(name: &'static str) -> Self {
        Self::new(name, Kind::Fixed(4))
    }

    pub(crate) const fn i64(name: &'static str) -> Self {
        Self::new(name, Kind::Fixed(8))
    }

    pub(crate) const fn uuid(name: &'static str) -> Self {
        Self::new(name, Kind::Fixed(16))
    }

    pub(crate) const fn text(name: &'static str) -> Self {
        Self::new(name, Kind::Text)
    }

    pub(crate) const fn bytes(name: &'static str) -> Self {
        Self::new(name, Kind::Bytes)
    }

    pub(crate) const fn i32s(name: &'static str) -> Self {
        Self::new(name, Kind::Array(Element::Fixed(4)))
    }

    pub(crate) const fn texts(name: &'static str) -> Self {
        Self::new(name, Kind::Array(Element::Text))
    }

    pub(crate) const fn array(name: &'static str, shape: &'static Shape) -> Self {
        Self::new(name, Kind::Array(Element::Structure(shape)))
    }

    /// The field, which may be null.
    pub(crate) const fn or_null(self) -> Self {
        Self { null: Null::Allowed, ..self }
    }

    /// The field, which no version before `first` has.
    pub(crate) const fn since(self, first: i16) -> Self {
        Self { first, ..self }
    }

    /// The field, which no version after `last` has.
    pub(crate) const fn through(self, last: i16) -> Self {
        Self { last, ..self }
    }

    /// Its name, as Kafka's schemas have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// How it is written.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it may be null. Never, for what has a fixed size.
    #[must_use]
    pub const fn null(&self) -> Null {
        self.null
    }

    const fn assert_factor(&self) {
        let Kind::Array(element) = self.kind else { return };
        let mut version = self.first;
        while version <= VERSION_MAX && version <= self.last {
            let bytes_min = element.bytes_min(version, Encoding::Flexible);
            assert!(element.decoded_bytes() <= bytes_min * DECODED_FACTOR_MAX);
            version += 1;
        }
    }

    const fn is_in(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }
}

impl Kind {
    const fn bytes_min(self, encoding: Encoding) -> usize {
        match (self, encoding) {
            (Self::Fixed(bytes), _) => bytes,
            (Self::Text | Self::Bytes | Self::Array(_), Encoding::Flexible) => 1,
            (Self::Text, Encoding::Fixed) => size_of::<i16>(),
            (Self::Bytes | Self::Array(_), Encoding::Fixed) => size_of::<i32>(),
        }
    }
}

impl Element {
    pub(super) const fn bytes_min(self, version: i16, encoding: Encoding) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Text => Kind::Text.bytes_min(encoding),
            Self::Structure(shape) => shape.bytes_min(version, encoding),
        }
    }

    pub(super) const fn decoded_bytes(self) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Text => size_of::<StrBytes>(),
            Self::Structure(shape) => shape.decoded_bytes,
        }
    }
}

/// No API of Kafka's has that many.
const VERSION_MAX: i16 = 32;
