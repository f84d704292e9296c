//! Groups as a whole: describe, list, delete.

use super::leading::{Body, Leading};
use super::types::{ClassicDescription, GroupError, GroupListing, GroupResponse, GroupType, ListGroups};
use crate::types::RequestId;
use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

impl Leading<'_> {
    /// A group that only has offsets is an empty classic one.
    pub(super) fn describe(&mut self, group: &str, request: RequestId) {
        let described = match self.groups.get(group) {
            Some(Body::Classic(group)) => Ok(group.describe()),
            Some(Body::Consumer(_)) => Err(GroupError::GroupIdNotFound),
            None if self.exists(group) => Ok(ClassicDescription {
                state: "Empty",
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            }),
            None => Err(GroupError::GroupIdNotFound),
        };
        self.turn.respond(request, described.map(GroupResponse::Described));
    }

    /// Told once what it shows is committed.
    pub(super) fn consumer_describe(&mut self, group: &str, request: RequestId) {
        match self.groups.get(group) {
            Some(Body::Consumer(described)) => {
                let response = GroupResponse::ConsumerDescribed(described.describe());
                self.turn.respond_committed(request, group, response);
            }
            Some(Body::Classic(_)) | None => self.turn.refuse(request, GroupError::GroupIdNotFound),
        }
    }

    pub(super) fn list(&mut self, list: &ListGroups, request: RequestId) {
        let mut listings: BTreeMap<String, GroupListing> = BTreeMap::new();
        for id in self.store.offsets.keys() {
            let (protocol_type, state, group_type) = (String::new(), "Empty", GroupType::Classic);
            listings.insert(id.clone(), GroupListing { group: id.clone(), protocol_type, state, group_type });
        }
        for (id, body) in self.groups.iter() {
            let listing = match body {
                Body::Classic(group) => GroupListing {
                    group: id.clone(),
                    protocol_type: group.protocol_type().to_owned(),
                    state: group.state_name(),
                    group_type: GroupType::Classic,
                },
                Body::Consumer(group) => GroupListing {
                    group: id.clone(),
                    protocol_type: "consumer".to_owned(),
                    state: group.state_name(),
                    group_type: GroupType::Consumer,
                },
            };
            listings.insert(id.clone(), listing);
        }
        let among = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let listed = listings.into_values().filter(|listing| {
            among(&list.states, listing.state) && among(&list.types, listing.group_type.name())
        });
        let listed = listed.collect();
        self.turn.respond(request, Ok(GroupResponse::Listed(listed)));
    }

    /// Deletes an empty group with its offsets.
    pub(super) fn delete_group(&mut self, group: &str, request: RequestId) {
        let (deletable, tombstones) = match self.groups.get(group) {
            Some(Body::Classic(classic)) => {
                (classic.is_deletable(), classic.tombstone().into_iter().collect())
            }
            Some(Body::Consumer(consumer)) => (consumer.is_empty(), consumer.tombstones()),
            None => (true, Vec::new()),
        };
        if !self.exists(group) {
            self.turn.refuse(request, GroupError::GroupIdNotFound);
        } else if !deletable {
            self.turn.refuse(request, GroupError::NonEmptyGroup);
        } else {
            let offsets = self.offset_tombstones(group);
            self.turn.append_each(offsets);
            self.turn.append(tombstones);
            self.groups.remove(group);
            self.turn.respond_committed(request, group, GroupResponse::Done);
        }
    }
}
