//! The screen: a walk over a request's bytes that believes no size.
//!
//! The decoders of the `kafka-protocol` crate make room for as many elements as a request announces: twelve bytes are
//! enough to ask for gigabytes, which aborts the process. So before they see a body it is walked by its [`Shape`]
//! without allocating anything. What passes has exactly the sizes that it states, ends where it should, and costs a
//! known amount of memory once decoded:
//!
//! 1. every array's count fits what is left of the body, by the least that its elements take;
//! 2. every text and every run of bytes ends within the body, which is at most [`BODY_BYTES_MAX`];
//! 3. all arrays together have at most [`REQUEST_ELEMENTS_MAX`] elements and all structures at most
//!    [`REQUEST_TAGS_MAX`] unknown tagged fields;
//! 4. decoded, elements and tagged fields take at most [`DECODED_BYTES_MAX`], and the elements at most
//!    [`DECODED_FACTOR_MAX`] bytes for each byte of the body. Texts and bytes are shared with the body.

use crate::limits::{
    BODY_BYTES_MAX, DECODED_BYTES_MAX, DECODED_FACTOR_MAX, NESTING_MAX, REQUEST_ELEMENTS_MAX,
    REQUEST_TAGS_MAX, TAG_DECODED_BYTES,
};
use crate::wire::{self, Encoding, WireError};
use core::fmt;
use kafka_protocol::protocol::StrBytes;
use raftline_proto::cursor::Reader;

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

/// What a body that passed costs once decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Elements of all its arrays.
    pub elements: usize,
    /// Tagged fields that nobody here knows.
    pub tags: usize,
    /// Memory in bytes that the elements and tagged fields take at most.
    pub decoded_bytes: usize,
}

/// Walks over the body of a request of that version.
///
/// # Errors
/// [`ScreenError`] at the first thing that is wrong: close the connection.
pub fn screen(shape: &Shape, version: i16, encoding: Encoding, body: &[u8]) -> Result<Cost, ScreenError> {
    let mut walk = Walk { reader: Reader::new(body), version, encoding, cost: Cost::default() };
    let whole = |reason| ScreenError { structure: shape.name, field: "", at: 0, reason };
    bound(body.len(), BODY_BYTES_MAX).map_err(whole)?;
    let at_end = |error: ScreenError| ScreenError { at: body.len() - error.at, ..error };
    walk.structure(shape).map_err(at_end)?;
    walk.reader.finish().map_err(|error| ScreenError { at: body.len(), ..whole(error.into()) })?;
    Ok(walk.cost)
}

struct Walk<'a> {
    reader: Reader<'a>,
    version: i16,
    encoding: Encoding,
    cost: Cost,
}

impl Walk<'_> {
    /// Errors count their place from the end, which is all that is known here.
    fn structure(&mut self, shape: &Shape) -> Result<(), ScreenError> {
        for field in shape.fields(self.version) {
            let structure = self.field(field).map_err(|reason| self.error(shape, field.name, reason))?;
            if let Some((element, count)) = structure {
                for _ in 0..count {
                    self.structure(element)?;
                }
            }
        }
        self.tags().map_err(|reason| self.error(shape, "tagged fields", reason))
    }

    fn error(&self, shape: &Shape, field: &'static str, reason: WireError) -> ScreenError {
        ScreenError { structure: shape.name, field, at: self.reader.remaining(), reason }
    }

    /// Reads over a field, or over the count of an array of structures, which is then to be walked.
    fn field(&mut self, field: &Field) -> Result<Option<(&'static Shape, usize)>, WireError> {
        let size = match field.kind {
            Kind::Fixed(bytes) => return self.reader.bytes(bytes).map(|_| None).map_err(WireError::from),
            Kind::Text => wire::text_size(&mut self.reader, self.encoding)?,
            Kind::Bytes | Kind::Array(_) => wire::long_size(&mut self.reader, self.encoding)?,
        };
        let Some(size) = size else {
            return match field.null {
                Null::Allowed => Ok(None),
                Null::Refused => Err(WireError::Size { found: -1 }),
            };
        };
        if let Kind::Array(element) = field.kind {
            self.array(element, size)
        } else {
            self.reader.bytes(size)?;
            Ok(None)
        }
    }

    fn array(
        &mut self,
        element: Element,
        count: usize,
    ) -> Result<Option<(&'static Shape, usize)>, WireError> {
        wire::fits(count, element.bytes_min(self.version, self.encoding), self.reader.remaining())?;
        self.cost.elements += count;
        bound(self.cost.elements, REQUEST_ELEMENTS_MAX)?;
        self.charge(count.saturating_mul(element.decoded_bytes()))?;
        match element {
            Element::Fixed(bytes) => {
                self.reader.bytes(count * bytes)?;
            }
            Element::Text => {
                for _ in 0..count {
                    let size = wire::text_size(&mut self.reader, self.encoding)?;
                    self.reader.bytes(size.ok_or(WireError::Size { found: -1 })?)?;
                }
            }
            Element::Structure(shape) => return Ok(Some((shape, count))),
        }
        Ok(None)
    }

    fn tags(&mut self) -> Result<(), WireError> {
        if self.encoding == Encoding::Fixed {
            return Ok(());
        }
        let count = wire::skip_tags(&mut self.reader)?;
        self.cost.tags += count;
        bound(self.cost.tags, REQUEST_TAGS_MAX)?;
        self.charge(count * TAG_DECODED_BYTES)
    }

    fn charge(&mut self, decoded_bytes: usize) -> Result<(), WireError> {
        self.cost.decoded_bytes = self.cost.decoded_bytes.saturating_add(decoded_bytes);
        bound(self.cost.decoded_bytes, DECODED_BYTES_MAX)
    }
}

const fn bound(found: usize, max: usize) -> Result<(), WireError> {
    if found <= max { Ok(()) } else { Err(WireError::TooMany { found: found as u64, max: max as u64 }) }
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
    const fn bytes_min(self, version: i16, encoding: Encoding) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Text => Kind::Text.bytes_min(encoding),
            Self::Structure(shape) => shape.bytes_min(version, encoding),
        }
    }

    const fn decoded_bytes(self) -> usize {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Text => size_of::<StrBytes>(),
            Self::Structure(shape) => shape.decoded_bytes,
        }
    }
}

/// Why a body is not given to its decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenError {
    /// The structure that is wrong.
    pub structure: &'static str,
    /// Its field, or nothing if the whole is meant.
    pub field: &'static str,
    /// How many bytes into the body.
    pub at: usize,
    /// What is wrong.
    pub reason: WireError,
}

impl fmt::Display for ScreenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { structure, field, at, reason } = self;
        match *field {
            "" => write!(formatter, "{structure}: {reason}, at byte {at}"),
            field => write!(formatter, "{structure}, {field}: {reason}, at byte {at}"),
        }
    }
}

impl core::error::Error for ScreenError {}

/// No API of Kafka's has that many.
const VERSION_MAX: i16 = 32;
