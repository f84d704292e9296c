//! A reader that cannot read past its end, and the writer that is its mirror image.
//!
//! Raftline's own integers are little-endian ([`Reader::u32`] and its like). Kafka's are big-endian and read
//! through [`Reader::array`]; its variable-length integers are [`Reader::varint`] and [`Reader::varlong`].
//!
//! No method allocates by a length that it has not checked against the bytes that are there.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Reads from the front of a byte slice. Every method either advances past a whole value or fails and leaves the
/// reader where it was; after a failure the input is to be refused as a whole.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, without advancing.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all bytes were read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], CursorError> {
        match self.rest.split_at_checked(count) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(CursorError::Truncated { needed: count as u64, available: self.rest.len() as u64 }),
        }
    }

    /// The next `N` bytes as an array, for `from_be_bytes` and its like.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], CursorError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(CursorError::Truncated { needed: N as u64, available: self.rest.len() as u64 }),
        }
    }

    /// One byte.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, CursorError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A little-endian `u16`.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if the bytes end within it.
    pub fn u16(&mut self) -> Result<u16, CursorError> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian `u32`.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if the bytes end within it.
    pub fn u32(&mut self) -> Result<u32, CursorError> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if the bytes end within it.
    pub fn u64(&mut self) -> Result<u64, CursorError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A little-endian `u128`.
    ///
    /// # Errors
    /// [`CursorError::Truncated`] if the bytes end within it.
    pub fn u128(&mut self) -> Result<u128, CursorError> {
        self.array().map(u128::from_le_bytes)
    }

    /// Kafka's signed 32-bit integer in 1 to 5 bytes: zigzag, seven bits a byte, the least significant first.
    ///
    /// # Errors
    /// [`CursorError::Truncated`], or [`CursorError::Varint`] if it does not fit 32 bits.
    pub fn varint(&mut self) -> Result<i32, CursorError> {
        let raw = self.unsigned_varint(u64::from(u32::MAX))?;
        let raw = u32::try_from(raw).map_err(|_| CursorError::Varint)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// The same for 64 bits, in 1 to 10 bytes.
    ///
    /// # Errors
    /// [`CursorError::Truncated`], or [`CursorError::Varint`] if it does not fit 64 bits.
    pub fn varlong(&mut self) -> Result<i64, CursorError> {
        let raw = self.unsigned_varint(u64::MAX)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A little-endian `u32` that says how many items follow, each of at least `item_bytes_min` bytes. A count that
    /// comes back is safe to allocate by: so many items can really be there.
    ///
    /// # Errors
    /// [`CursorError::Count`] if it is over `max`, [`CursorError::Truncated`] if so many cannot be there.
    pub fn count(&mut self, max: usize, item_bytes_min: usize) -> Result<usize, CursorError> {
        let found = self.u32()?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count > max {
            return Err(CursorError::Count { found: u64::from(found), max: max as u64 });
        }
        let needed = count.saturating_mul(item_bytes_min);
        if needed > self.rest.len() {
            return Err(CursorError::Truncated { needed: needed as u64, available: self.rest.len() as u64 });
        }
        Ok(count)
    }

    /// UTF-8 text: a little-endian `u16` size, then the bytes.
    ///
    /// # Errors
    /// [`CursorError::Count`] if it has more than `bytes_max` bytes, [`CursorError::Text`] if it is not UTF-8.
    pub fn text(&mut self, bytes_max: usize) -> Result<String, CursorError> {
        let size = usize::from(self.u16()?);
        if size > bytes_max {
            return Err(CursorError::Count { found: size as u64, max: bytes_max as u64 });
        }
        let bytes = self.bytes(size)?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| CursorError::Text)
    }

    /// Checks that all bytes were read.
    ///
    /// # Errors
    /// [`CursorError::Trailing`] with how many were not.
    pub const fn finish(&self) -> Result<(), CursorError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CursorError::Trailing { bytes: self.rest.len() as u64 })
        }
    }

    fn unsigned_varint(&mut self, max: u64) -> Result<u64, CursorError> {
        let mut value: u64 = 0;
        let mut shift = 0;
        for (at, &byte) in self.rest.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // Shifting out and back shows whether bits were lost at the top.
            if shift > 63 || bits << shift >> shift != bits {
                return Err(CursorError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if value > max {
                    return Err(CursorError::Varint);
                }
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
            shift += 7;
        }
        Err(CursorError::Truncated { needed: self.rest.len() as u64 + 1, available: self.rest.len() as u64 })
    }
}

/// Collects bytes; the mirror image of [`Reader`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing written yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Goes on after what `bytes` holds.
    #[must_use]
    pub const fn after(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How much was written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A little-endian `u16`.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// A little-endian `u32`.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// A little-endian `u64`.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A little-endian `u128`.
    pub fn u128(&mut self, value: u128) {
        self.bytes(&value.to_le_bytes());
    }

    /// See [`Reader::varint`].
    pub fn varint(&mut self, value: i32) {
        let zigzag = (value << 1) ^ (value >> 31);
        self.unsigned_varint(u64::from(zigzag.cast_unsigned()));
    }

    /// See [`Reader::varlong`].
    pub fn varlong(&mut self, value: i64) {
        let zigzag = (value << 1) ^ (value >> 63);
        self.unsigned_varint(zigzag.cast_unsigned());
    }

    fn unsigned_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(low_seven_bits(value) | 0x80);
            value >>= 7;
        }
        self.bytes.push(low_seven_bits(value));
    }
}

fn low_seven_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit a byte")
}

/// Why bytes could not be read. Carries no position: what is malformed is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CursorError {
    /// The bytes end within a value.
    Truncated {
        /// Bytes that the value takes, as far as known.
        needed: u64,
        /// Bytes that were left.
        available: u64,
    },
    /// More items, or a longer text, than the bound.
    Count {
        /// The claim.
        found: u64,
        /// The bound.
        max: u64,
    },
    /// A variable-length integer that does not fit its type.
    Varint,
    /// A text that is not UTF-8.
    Text,
    /// Bytes after the end of the value.
    Trailing {
        /// How many.
        bytes: u64,
    },
}

impl fmt::Display for CursorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, available } => {
                write!(formatter, "cut short: {needed} bytes needed, {available} there")
            }
            Self::Count { found, max } => {
                write!(formatter, "a count or size of {found} is over the bound of {max}")
            }
            Self::Varint => write!(formatter, "a variable-length integer is too long"),
            Self::Text => write!(formatter, "a text is not UTF-8"),
            Self::Trailing { bytes } => write!(formatter, "{bytes} bytes follow the end"),
        }
    }
}

impl core::error::Error for CursorError {}
