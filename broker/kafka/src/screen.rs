//! The screen: a walk over a request's bytes that believes no size.
//!
//! The decoders of the `kafka-protocol` crate make room for as many elements as a request announces: twelve bytes are
//! enough to ask for gigabytes, which aborts the process. So before they see a body it is walked by its [`Shape`]
//! without allocating anything. What passes is decoded for certain, has the sizes that it states, and costs a
//! known amount of memory once decoded:
//!
//! 1. every array's count fits what is left of the body, by the least that its elements take;
//! 2. every text and every run of bytes ends within the body, which is at most [`BODY_BYTES_MAX`], and texts are
//!    UTF-8;
//! 3. all arrays together have at most [`REQUEST_ELEMENTS_MAX`] elements and all structures at most
//!    [`REQUEST_TAGS_MAX`] unknown tagged fields;
//! 4. decoded, elements and tagged fields take at most [`DECODED_BYTES_MAX`], and the elements at most
//!    [`crate::limits::DECODED_FACTOR_MAX`] bytes for each byte of the body. Texts and bytes are shared with the body.

use crate::limits::{
    BODY_BYTES_MAX, DECODED_BYTES_MAX, REQUEST_ELEMENTS_MAX, REQUEST_TAGS_MAX, TAG_DECODED_BYTES,
};
use crate::wire::{self, Encoding, WireError};
use core::fmt;
use raftline_proto::cursor::Reader;

mod shape;

pub use shape::{Element, Field, Kind, Null, Shape};

/// What a body that passed costs once decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// What the message takes of the body. Whatever follows is not looked at, as in Kafka: librdkafka 2.16 has three
    /// bytes too many behind a Metadata request for all topics.
    pub body_bytes: usize,
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
    let whole = |reason| ScreenError { structure: shape.name(), field: "", at: 0, reason };
    bound(body.len(), BODY_BYTES_MAX).map_err(whole)?;
    let from_start = |error: ScreenError| ScreenError { at: body.len() - error.at, ..error };
    walk.structure(shape).map_err(from_start)?;
    Ok(Cost { body_bytes: body.len() - walk.reader.remaining(), ..walk.cost })
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
            let structure = self.field(field).map_err(|reason| self.error(shape, field.name(), reason))?;
            if let Some((element, count)) = structure {
                for _ in 0..count {
                    self.structure(element)?;
                }
            }
        }
        self.tags().map_err(|reason| self.error(shape, "tagged fields", reason))
    }

    fn error(&self, shape: &Shape, field: &'static str, reason: WireError) -> ScreenError {
        ScreenError { structure: shape.name(), field, at: self.reader.remaining(), reason }
    }

    /// Reads over a field, or over the count of an array of structures, which is then to be walked.
    fn field(&mut self, field: &Field) -> Result<Option<(&'static Shape, usize)>, WireError> {
        let size = match field.kind() {
            Kind::Fixed(bytes) => return self.reader.bytes(bytes).map(|_| None).map_err(WireError::from),
            Kind::Text => wire::text_size(&mut self.reader, self.encoding)?,
            Kind::Bytes | Kind::Array(_) => wire::long_size(&mut self.reader, self.encoding)?,
        };
        let Some(size) = size else {
            return match field.null() {
                Null::Allowed => Ok(None),
                Null::Refused => Err(WireError::Size { found: -1 }),
            };
        };
        match field.kind() {
            Kind::Array(element) => return self.array(element, size),
            Kind::Text => self.text(size)?,
            Kind::Bytes | Kind::Fixed(_) => drop(self.reader.bytes(size)?),
        }
        Ok(None)
    }

    fn text(&mut self, size: usize) -> Result<(), WireError> {
        let bytes = self.reader.bytes(size)?;
        core::str::from_utf8(bytes).map(drop).map_err(|_| WireError::Text)
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
                    self.text(size.ok_or(WireError::Size { found: -1 })?)?;
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
