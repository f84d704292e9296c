//! Who may talk to whom: the first words on every connection between brokers (DESIGN D8, D11, D12).
//!
//! The caller says who it is and whom it means; the answer is a welcome that says the same of the other side, or a
//! refusal that names both sides and says what to do. A disk is trusted when it is first met, and has to be the
//! same ever after.

use crate::identity::{Identity, Meeting};
use raftline_proto::ids::{BootId, ClusterId, Incarnation, NodeId};
use raftline_proto::peer::{Hello, Refusal, RefusalReason, Welcome};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The version of the protocol in `peer.proto` that this broker speaks.
pub(super) const PROTOCOL_VERSION: u32 = 3;

/// This node, as it introduces itself.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) identity: Arc<Identity>,
    pub(super) boot: BootId,
    /// The nodes that may connect.
    pub(super) members: Arc<BTreeSet<NodeId>>,
}

/// The other side of a connection that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) node: NodeId,
    pub(super) incarnation: Incarnation,
    pub(super) boot: BootId,
}

impl Local {
    /// The first frame to `to`.
    pub(super) fn hello(&self, to: NodeId) -> Hello {
        Hello {
            protocol_version: PROTOCOL_VERSION,
            cluster_name: self.identity.cluster_name(),
            cluster_id: cluster_bytes(self.identity.cluster_id()),
            from_node: self.identity.node().0,
            from_incarnation: self.identity.incarnation().0,
            from_boot: self.boot.0,
            to_node: to.0,
            to_incarnation: self.identity.peer(to).map_or(0, |known| known.0),
            from_starts: self.identity.starts(),
        }
    }

    /// What a caller that was let in hears.
    pub(super) fn welcome(&self) -> Welcome {
        Welcome {
            node: self.identity.node().0,
            incarnation: self.identity.incarnation().0,
            boot: self.boot.0,
            cluster_id: cluster_bytes(self.identity.cluster_id()),
            starts: self.identity.starts(),
        }
    }

    /// Judges a caller; its disk is remembered, on stable storage, if it is the first under its node id. Blocks on
    /// the disk then.
    pub(super) fn judge(&self, hello: &Hello) -> Result<Remote, Refusal> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(self.refusal(
                RefusalReason::ProtocolVersion,
                hello,
                format!(
                    "it speaks protocol version {}, this node speaks {PROTOCOL_VERSION}: all brokers of a cluster \
                     run the same version of Raftline; stop all of them, then start all with the newer one",
                    hello.protocol_version
                ),
            ));
        }
        self.judge_cluster(hello)?;
        self.judge_receiver(hello)?;
        self.judge_sender(hello)
    }

    fn judge_cluster(&self, hello: &Hello) -> Result<(), Refusal> {
        let ours = self.identity.cluster_name();
        if hello.cluster_name != ours {
            let text = format!(
                "it is of cluster `{}`, this node of cluster `{ours}`: correct --cluster or --peer on the side \
                 that is wrong",
                printable(&hello.cluster_name)
            );
            return Err(self.refusal(RefusalReason::OtherCluster, hello, text));
        }
        let theirs = match cluster_id(&hello.cluster_id) {
            Ok(theirs) => theirs,
            Err(length) => {
                let text = format!("its cluster id has {length} bytes instead of 16");
                return Err(self.refusal(RefusalReason::Malformed, hello, text));
            }
        };
        match (self.identity.cluster_id(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let text = format!(
                    "its data is of cluster {theirs}, this node's of cluster {ours}, though both are named `{}`: \
                     two clusters were mixed up; correct --peer or --data-dir on the side that is wrong",
                    hello.cluster_name
                );
                Err(self.refusal(RefusalReason::OtherCluster, hello, text))
            }
            _ => Ok(()),
        }
    }

    fn judge_receiver(&self, hello: &Hello) -> Result<(), Refusal> {
        let node = self.identity.node();
        if hello.to_node != node.0 {
            let text = format!(
                "it means to reach node {}, but this is node {node}: correct the addresses in --peer",
                hello.to_node
            );
            return Err(self.refusal(RefusalReason::NotTheReceiver, hello, text));
        }
        let ours = self.identity.incarnation();
        if hello.to_incarnation != 0 && hello.to_incarnation != ours.0 {
            let text = format!(
                "it knows node {node} by the disk {}, but this node has the disk {ours}: node {node}'s data \
                 directory was emptied or swapped; put the right one back",
                Incarnation(hello.to_incarnation)
            );
            return Err(self.refusal(RefusalReason::NotTheReceiver, hello, text));
        }
        Ok(())
    }

    fn judge_sender(&self, hello: &Hello) -> Result<Remote, Refusal> {
        let from = NodeId(hello.from_node);
        let found = Incarnation(hello.from_incarnation);
        if from == self.identity.node() {
            let text = format!(
                "both call themselves node {from}: give every broker a --node-id of its own, and correct --peer"
            );
            return Err(self.refusal(RefusalReason::UnknownNode, hello, text));
        }
        if !self.members.contains(&from) {
            let members: Vec<String> = self.members.iter().map(NodeId::to_string).collect();
            let text = format!(
                "node {from} is not among this cluster's brokers ({}): correct --node-id, or --peer on all brokers",
                members.join(", ")
            );
            return Err(self.refusal(RefusalReason::UnknownNode, hello, text));
        }
        let boot = BootId(hello.from_boot);
        match self.identity.meet(from, found, (hello.from_starts, boot)) {
            Ok(Meeting::Known) => {}
            Ok(Meeting::First) => tracing::info!(peer = %from, incarnation = %found, "met a peer's disk"),
            Ok(Meeting::Other { known }) => {
                let text = other_disk(from, known, found);
                return Err(self.refusal(RefusalReason::SenderIncarnation, hello, text));
            }
            Ok(Meeting::Older { known }) => {
                let text = old_copy(from, known, hello.from_starts);
                return Err(self.refusal(RefusalReason::OldCopy, hello, text));
            }
            Err(error) => {
                let text = format!("this node could not note the caller's disk: {error}");
                return Err(self.refusal(RefusalReason::Unspecified, hello, text));
            }
        }
        Ok(Remote { node: from, incarnation: found, boot })
    }

    fn refusal(&self, reason: RefusalReason, hello: &Hello, why: String) -> Refusal {
        let message = format!(
            "node {} of cluster `{}` refuses a connection that says to come from node {}: {why}",
            self.identity.node(),
            self.identity.cluster_name(),
            hello.from_node,
        );
        Refusal { reason: reason.into(), message }
    }

    /// Judges the answer of the node that was dialled; its disk is remembered like a caller's.
    pub(super) fn judge_welcome(&self, dialled: NodeId, welcome: &Welcome) -> Result<Remote, String> {
        let node = NodeId(welcome.node);
        let found = Incarnation(welcome.incarnation);
        if node != dialled {
            return Err(format!(
                "node {node} answers where node {dialled} was expected: correct the addresses in --peer"
            ));
        }
        let theirs = cluster_id(&welcome.cluster_id)
            .map_err(|length| format!("node {node} answers with a cluster id of {length} bytes"))?;
        match (self.identity.cluster_id(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(format!("node {node} is of cluster {theirs}, this node of cluster {ours}"));
            }
            _ => {}
        }
        match self.identity.meet(node, found, (welcome.starts, BootId(welcome.boot))) {
            Ok(Meeting::Known) => {}
            Ok(Meeting::First) => tracing::info!(peer = %node, incarnation = %found, "met a peer's disk"),
            Ok(Meeting::Other { known }) => return Err(other_disk(node, known, found)),
            Ok(Meeting::Older { known }) => return Err(old_copy(node, known, welcome.starts)),
            Err(error) => return Err(format!("could not note the disk of node {node}: {error}")),
        }
        Ok(Remote { node, incarnation: found, boot: BootId(welcome.boot) })
    }
}

fn other_disk(node: NodeId, known: Incarnation, found: Incarnation) -> String {
    format!(
        "node {node} is known by the disk {known}, but comes with the disk {found}: its data directory was emptied or \
         swapped; put the right one back (a node with an empty disk may not speak as its former self)"
    )
}

fn old_copy(node: NodeId, known: u64, found: u64) -> String {
    format!(
        "node {node} was met in start {known} of its data directory, and comes with start {found} now: that directory is \
         an old copy, or a second process has one; put the right one back (what the node has acknowledged since is not in \
         a copy)"
    )
}

fn cluster_bytes(id: Option<ClusterId>) -> bytes::Bytes {
    id.map_or_else(bytes::Bytes::new, |id| bytes::Bytes::copy_from_slice(&id.0.to_be_bytes()))
}

/// `None` if empty; the length if it is neither empty nor an id.
fn cluster_id(bytes: &[u8]) -> Result<Option<ClusterId>, usize> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let bytes: [u8; 16] = bytes.try_into().map_err(|_| bytes.len())?;
    Ok(Some(ClusterId(u128::from_be_bytes(bytes))))
}

/// A stranger's text, fit for a log line.
fn printable(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn local(node: u32, cluster: &str, incarnation: u64) -> (tempfile::TempDir, Local) {
        let directory = tempfile::tempdir().unwrap();
        let identity =
            Identity::claim(directory.path(), NodeId(node), cluster, Incarnation(incarnation)).unwrap();
        let members = Arc::new(BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]));
        (directory, Local { identity: Arc::new(identity), boot: BootId(u64::from(node)), members })
    }

    /// What node 1 (disk 0xa1 of cluster `c`) says to a changed hello of node 2 (disk 0xa2).
    fn refusal(change: impl FnOnce(&mut Hello)) -> (RefusalReason, String) {
        let (_one, one) = local(1, "c", 0xa1);
        let (_two, two) = local(2, "c", 0xa2);
        let mut hello = two.hello(NodeId(1));
        change(&mut hello);
        let refusal = one.judge(&hello).unwrap_err();
        (refusal.reason(), refusal.message)
    }

    #[test]
    fn strangers_meet_and_know_each_other_afterwards() {
        let (_one, one) = local(1, "c", 0xa1);
        let (_two, two) = local(2, "c", 0xa2);
        let hello = two.hello(NodeId(1));
        assert_eq!(hello.to_incarnation, 0);
        let met = one.judge(&hello).unwrap();
        assert_eq!(met, Remote { node: NodeId(2), incarnation: Incarnation(0xa2), boot: BootId(2) });
        let met = two.judge_welcome(NodeId(1), &one.welcome()).unwrap();
        assert_eq!(met.incarnation, Incarnation(0xa1));
        assert_eq!(two.hello(NodeId(1)).to_incarnation, 0xa1);
        assert_eq!(one.identity.peer(NodeId(2)), Some(Incarnation(0xa2)));
    }

    #[test]
    fn refusals_name_both_sides_and_what_to_do() {
        let (reason, text) = refusal(|hello| hello.protocol_version = 9);
        assert_eq!(reason, RefusalReason::ProtocolVersion);
        assert!(text.contains("version 9") && text.contains(&format!("speaks {PROTOCOL_VERSION}")), "{text}");

        let (reason, text) = refusal(|hello| hello.cluster_name = "other".to_owned());
        assert_eq!(reason, RefusalReason::OtherCluster);
        assert!(text.contains("`other`") && text.contains("`c`") && text.contains("--cluster"), "{text}");

        let (reason, text) = refusal(|hello| hello.to_node = 3);
        assert_eq!(reason, RefusalReason::NotTheReceiver);
        assert!(text.contains("reach node 3") && text.contains("this is node 1"), "{text}");

        let (reason, text) = refusal(|hello| hello.to_incarnation = 0xb1);
        assert_eq!(reason, RefusalReason::NotTheReceiver);
        assert!(text.contains("00000000000000b1") && text.contains("00000000000000a1"), "{text}");

        let (reason, text) = refusal(|hello| hello.from_node = 9);
        assert_eq!(reason, RefusalReason::UnknownNode);
        assert!(text.contains("node 9") && text.contains("1, 2, 3"), "{text}");

        let (reason, text) = refusal(|hello| hello.from_node = 1);
        assert_eq!(reason, RefusalReason::UnknownNode);
        assert!(text.contains("both call themselves node 1"), "{text}");

        let (reason, _) = refusal(|hello| hello.cluster_id = Bytes::from_static(b"short"));
        assert_eq!(reason, RefusalReason::Malformed);
    }

    #[test]
    fn an_emptied_disk_may_not_come_back_under_its_old_name() {
        let (_one, one) = local(1, "c", 0xa1);
        let (_two, two) = local(2, "c", 0xa2);
        one.judge(&two.hello(NodeId(1))).unwrap();
        let (_empty, emptied) = local(2, "c", 0xff);
        let refusal = one.judge(&emptied.hello(NodeId(1))).unwrap_err();
        assert_eq!(refusal.reason(), RefusalReason::SenderIncarnation);
        let text = refusal.message;
        assert!(text.contains("00000000000000a2") && text.contains("00000000000000ff"), "{text}");
        let text = one.judge_welcome(NodeId(2), &emptied.welcome()).unwrap_err();
        assert!(text.contains("emptied or swapped"), "{text}");
    }

    #[test]
    fn an_old_copy_of_a_directory_may_not_come_back() {
        let (_one, one) = local(1, "c", 0xa1);
        let (directory, two) = local(2, "c", 0xa2);
        one.judge(&two.hello(NodeId(1))).unwrap();
        let old = two.hello(NodeId(1));
        drop(two);
        let next = Identity::claim(directory.path(), NodeId(2), "c", Incarnation(1)).unwrap();
        let next = Local { identity: Arc::new(next), boot: BootId(0x22), members: Arc::clone(&one.members) };
        one.judge(&next.hello(NodeId(1))).unwrap();
        // A directory as it was before that start, whoever runs on it.
        for boot in [2, 0x33] {
            let refusal = one.judge(&Hello { from_boot: boot, ..old.clone() }).unwrap_err();
            assert_eq!(refusal.reason(), RefusalReason::OldCopy);
            let text = refusal.message;
            assert!(text.contains("start 2 of its") && text.contains("start 1 now"), "{text}");
        }
        let twin = Hello { from_boot: 0x44, ..next.hello(NodeId(1)) };
        assert_eq!(one.judge(&twin).unwrap_err().reason(), RefusalReason::OldCopy);
        let welcome = Welcome { starts: 1, ..next.welcome() };
        assert!(one.judge_welcome(NodeId(2), &welcome).unwrap_err().contains("an old copy"));
        one.judge(&next.hello(NodeId(1))).unwrap();
    }

    #[test]
    fn clusters_of_one_name_are_told_apart_by_id() {
        let (_one, one) = local(1, "c", 0xa1);
        let (_two, two) = local(2, "c", 0xa2);
        one.identity.learn_cluster(ClusterId(0x11)).unwrap();
        one.judge(&two.hello(NodeId(1))).unwrap();
        two.identity.learn_cluster(ClusterId(0x22)).unwrap();
        let refusal = one.judge(&two.hello(NodeId(1))).unwrap_err();
        assert_eq!(refusal.reason(), RefusalReason::OtherCluster);
        assert!(refusal.message.contains("00000022") && refusal.message.contains("00000011"));
        let text = two.judge_welcome(NodeId(1), &one.welcome()).unwrap_err();
        assert!(text.contains("00000022") && text.contains("00000011"), "{text}");
        let text = two.judge_welcome(NodeId(3), &one.welcome()).unwrap_err();
        assert!(text.contains("node 1 answers where node 3"), "{text}");
    }
}
