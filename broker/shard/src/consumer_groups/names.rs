//! Ids of members, made here, and the checks of names that come in.

use super::limits::{MEMBER_ID_BYTES_MAX, NAME_BYTES_MAX};
use super::types::GroupError;
use alloc::format;
use alloc::string::String;

/// Which partition of the internal topic coordinates a group: Kafka's rule, the absolute value of Java's hash of the
/// id, modulo the count. The count must never change while groups exist.
///
/// # Panics
/// If `partitions` is zero.
#[must_use]
pub fn coordinator_partition(group: &str, partitions: u32) -> u32 {
    let hash =
        group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let absolute = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    absolute % partitions
}

/// A new member's id: what its client calls itself and 128 bits drawn at the edge, written as a UUID.
pub(super) fn member_id(prefix: &str, fresh_id: u128) -> String {
    format!("{prefix}-{}", uuid(fresh_id))
}

/// 128 bits as a UUID.
pub(super) fn uuid(id: u128) -> String {
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        id >> 96,
        (id >> 80) & 0xffff,
        (id >> 64) & 0xffff,
        (id >> 48) & 0xffff,
        id & 0xffff_ffff_ffff
    )
}

/// A group's id.
pub(super) fn check_group(group: &str) -> Result<(), GroupError> {
    if group.is_empty() || group.len() > NAME_BYTES_MAX {
        return Err(GroupError::InvalidGroupId);
    }
    Ok(())
}

/// Any other name.
pub(super) fn check_name(name: &str) -> Result<(), GroupError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(GroupError::InvalidRequest("a name is longer than 1024 bytes"));
    }
    Ok(())
}

/// A name that may be absent, and not empty.
pub(super) fn check_optional_name(name: Option<&String>) -> Result<(), GroupError> {
    match name {
        Some(name) if name.is_empty() => Err(GroupError::InvalidRequest("a name is empty")),
        Some(name) => check_name(name),
        None => Ok(()),
    }
}

/// A member's id, or none.
pub(super) fn check_member_id(id: &str) -> Result<(), GroupError> {
    if id.len() > MEMBER_ID_BYTES_MAX {
        return Err(GroupError::InvalidRequest("a member id is longer than 1061 bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes as Java's `String.hashCode` has them.
    #[test]
    fn groups_go_where_kafka_puts_them() {
        assert_eq!(coordinator_partition("", 50), 0);
        assert_eq!(coordinator_partition("abc", 50), 96_354 % 50);
        // The first hash is 1498789909 there, the second i32::MIN.
        assert_eq!(coordinator_partition("Hello, World!", 50), 1_498_789_909 % 50);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
    }

    #[test]
    fn a_member_id_ends_in_a_uuid() {
        let id = member_id("client", 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id, "client-01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(member_id("", u128::MAX).len(), 37);
    }
}
