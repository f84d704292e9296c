//! Kafka's primitive types: a reader that cannot pass its end, and a writer.
//!
//! All fixed integers are big-endian. A text has a 16-bit size, bytes and arrays a 32-bit one, and -1 is null; in
//! the *flexible* versions of a message (KIP-482) all three have an unsigned varint of the size plus one, 0 is null,
//! and every structure ends in a list of tagged fields.

use crate::limits::{REQUEST_TAGS_MAX, TEXT_BYTES_MAX};
use bytes::Bytes;
use core::fmt;
use kafka_protocol::protocol::StrBytes;
use raftline_proto::cursor::{CursorError, Reader};
use uuid::Uuid;

mod output;

pub(crate) use output::Output;

/// How sizes are written, which a message's version decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Fixed sizes, no tagged fields.
    Fixed,
    /// Varint sizes, and tagged fields at the end of every structure.
    Flexible,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The bytes end within a value.
    Truncated {
        /// Bytes that the value takes, as far as known.
        needed: u64,
        /// Bytes that were left.
        available: u64,
    },
    /// A size below -1, or null where there has to be something.
    Size {
        /// The size; -1 is null.
        found: i64,
    },
    /// More of something than the bound.
    TooMany {
        /// How many, or how much.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// An unsigned varint of more than 32 bits.
    Varint,
    /// A text that is not UTF-8.
    Text,
    /// A value that stands for nothing.
    Value {
        /// The value.
        found: i64,
    },
    /// Bytes after the end.
    Trailing {
        /// How many.
        bytes: u64,
    },
}

impl From<CursorError> for WireError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Truncated { needed, available } => Self::Truncated { needed, available },
            CursorError::Count { found, max } => Self::TooMany { found, max },
            CursorError::Varint => Self::Varint,
            CursorError::Text => Self::Text,
            CursorError::Trailing { bytes } => Self::Trailing { bytes },
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(formatter, "cut short: {needed} bytes needed, {available} there")
            }
            Self::Size { found: -1 } => write!(formatter, "null, where a value is needed"),
            Self::Size { found } => write!(formatter, "a size of {found}"),
            Self::TooMany { found, max } => write!(formatter, "{found} is over the bound of {max}"),
            Self::Varint => write!(formatter, "a variable-length integer does not fit 32 bits"),
            Self::Text => write!(formatter, "a text is not UTF-8"),
            Self::Value { found } => write!(formatter, "{found} is no value of this field"),
            Self::Trailing { bytes } => write!(formatter, "{bytes} bytes follow the end"),
        }
    }
}

impl core::error::Error for WireError {}

/// Reads from the front of a body. Texts and bytes are shared with the frame that they came in, not copied: what is
/// to live longer than the request is to be copied by its keeper.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a> {
    whole: &'a Bytes,
    reader: Reader<'a>,
    encoding: Encoding,
    elements_left: usize,
    elements_max: usize,
}

impl<'a> Input<'a> {
    /// Reads `whole`, whose arrays may have `elements_max` elements in all.
    pub(crate) fn new(whole: &'a Bytes, encoding: Encoding, elements_max: usize) -> Self {
        Self { whole, reader: Reader::new(whole), encoding, elements_left: elements_max, elements_max }
    }

    /// Goes on in another encoding: a header may differ from its body.
    pub(crate) const fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    pub(crate) fn i8(&mut self) -> Result<i8, WireError> {
        Ok(i8::from_be_bytes(self.reader.array()?))
    }

    pub(crate) fn i16(&mut self) -> Result<i16, WireError> {
        Ok(i16::from_be_bytes(self.reader.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, WireError> {
        Ok(i32::from_be_bytes(self.reader.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, WireError> {
        Ok(i64::from_be_bytes(self.reader.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, WireError> {
        Ok(Uuid::from_bytes(self.reader.array()?))
    }

    /// A text that may not be null.
    pub(crate) fn text(&mut self) -> Result<StrBytes, WireError> {
        self.optional_text()?.ok_or(WireError::Size { found: -1 })
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<StrBytes>, WireError> {
        let Some(size) = text_size(&mut self.reader, self.encoding)? else { return Ok(None) };
        let bytes = self.reader.bytes(size)?;
        StrBytes::from_utf8(self.whole.slice_ref(bytes)).map(Some).map_err(|_| WireError::Text)
    }

    pub(crate) fn optional_bytes(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(size) = long_size(&mut self.reader, self.encoding)? else { return Ok(None) };
        let bytes = self.reader.bytes(size)?;
        Ok(Some(self.whole.slice_ref(bytes)))
    }

    /// A topic's name, or its id in the versions that have it: the other of the two is empty or nil.
    pub(crate) fn topic(&mut self, version: i16, ids_from: i16) -> Result<(StrBytes, Uuid), WireError> {
        if version >= ids_from {
            Ok((StrBytes::new(), self.uuid()?))
        } else {
            Ok((self.text()?, Uuid::nil()))
        }
    }

    /// A leader epoch, of which a negative one says that the client knows none.
    pub(crate) fn epoch(&mut self) -> Result<Option<i32>, WireError> {
        Ok(Some(self.i32()?).filter(|epoch| *epoch >= 0))
    }

    /// How many elements follow, of at least `element_bytes_min` bytes each: so many can really be there.
    pub(crate) fn count(&mut self, element_bytes_min: usize) -> Result<usize, WireError> {
        let count = long_size(&mut self.reader, self.encoding)?.ok_or(WireError::Size { found: -1 })?;
        fits(count, element_bytes_min, self.reader.remaining())?;
        match self.elements_left.checked_sub(count) {
            Some(left) => self.elements_left = left,
            None => {
                let found = self.elements_max - self.elements_left + count;
                return Err(WireError::TooMany { found: found as u64, max: self.elements_max as u64 });
            }
        }
        Ok(count)
    }

    /// Reads over the tagged fields at the end of a structure, if the encoding has them.
    pub(crate) fn skip_tags(&mut self) -> Result<(), WireError> {
        match self.encoding {
            Encoding::Fixed => Ok(()),
            Encoding::Flexible => skip_tags(&mut self.reader).map(drop),
        }
    }

    /// Checks that all was read.
    pub(crate) fn finish(&self) -> Result<(), WireError> {
        Ok(self.reader.finish()?)
    }

    /// What is left, shared with the whole.
    pub(crate) fn rest(&self) -> Bytes {
        self.whole.slice_ref(self.reader.rest())
    }
}

/// Whether `count` elements of at least `element_bytes_min` bytes can be in `available` bytes.
pub(crate) fn fits(count: usize, element_bytes_min: usize, available: usize) -> Result<(), WireError> {
    let needed = count.saturating_mul(element_bytes_min);
    if needed > available {
        return Err(WireError::Truncated { needed: needed as u64, available: available as u64 });
    }
    Ok(())
}

/// An unsigned varint: seven bits a byte, the least significant first, 32 bits at most.
pub(crate) fn varint(reader: &mut Reader<'_>) -> Result<u32, WireError> {
    let mut value: u32 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = reader.u8()?;
        let bits = u32::from(byte & 0x7f);
        // Shifting out and back shows whether bits were lost at the top.
        if bits << shift >> shift != bits {
            return Err(WireError::Varint);
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(WireError::Varint)
}

/// The size of a text, or `None` for null.
pub(crate) fn text_size(reader: &mut Reader<'_>, encoding: Encoding) -> Result<Option<usize>, WireError> {
    let size = match encoding {
        Encoding::Fixed => signed_size(i16::from_be_bytes(reader.array()?).into())?,
        Encoding::Flexible => compact_size(reader)?,
    };
    match size {
        Some(found) if found > TEXT_BYTES_MAX => {
            Err(WireError::TooMany { found: found as u64, max: TEXT_BYTES_MAX as u64 })
        }
        size => Ok(size),
    }
}

/// The size of bytes or of an array, or `None` for null.
pub(crate) fn long_size(reader: &mut Reader<'_>, encoding: Encoding) -> Result<Option<usize>, WireError> {
    match encoding {
        Encoding::Fixed => signed_size(i32::from_be_bytes(reader.array()?).into()),
        Encoding::Flexible => compact_size(reader),
    }
}

/// Reads over the tagged fields of one structure; returns how many there were.
pub(crate) fn skip_tags(reader: &mut Reader<'_>) -> Result<usize, WireError> {
    let count = varint(reader)? as usize;
    if count > REQUEST_TAGS_MAX {
        return Err(WireError::TooMany { found: count as u64, max: REQUEST_TAGS_MAX as u64 });
    }
    fits(count, TAG_BYTES_MIN, reader.remaining())?;
    for _ in 0..count {
        varint(reader)?;
        let size = varint(reader)? as usize;
        reader.bytes(size)?;
    }
    Ok(count)
}

fn signed_size(found: i64) -> Result<Option<usize>, WireError> {
    match found {
        -1 => Ok(None),
        _ => usize::try_from(found).map(Some).map_err(|_| WireError::Size { found }),
    }
}

fn compact_size(reader: &mut Reader<'_>) -> Result<Option<usize>, WireError> {
    Ok(varint(reader)?.checked_sub(1).map(|size| size as usize))
}

/// The bytes before a frame that say how long it is.
pub(crate) const SIZE_BYTES: usize = size_of::<i32>();

/// A tag, and a size of 0.
pub(crate) const TAG_BYTES_MIN: usize = 2;
