//! Ids of members, made here, and the checks of names that come in.

use super::limits::{MEMBER_ID_BYTES_MAX, NAME_BYTES_MAX};
use super::types::GroupError;
use alloc::format;
use alloc::string::String;

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
