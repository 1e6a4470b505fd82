//! Faults that tests can have: a panic in the middle of a connection's work.

use tidegate_mqtt::ClientPacket;

use super::Driver;

/// A publication on this topic meets a panic.
pub(in crate::broker) const IN_TASK: &str = "fault/task";
/// A publication on this topic meets a panic under the lock of the core.
pub(in crate::broker) const IN_CORE: &str = "fault/core";

impl Driver<'_> {
    /// Panics if the packet says so.
    pub(super) fn strike(&self, packet: &ClientPacket) {
        let ClientPacket::Publish(publish) = packet else { return };
        match publish.topic.as_str() {
            IN_TASK => panic!("a fault in the task of a connection"),
            IN_CORE => {
                let _core = self.ingest.broker().core();
                panic!("a fault in the core");
            }
            _ => {}
        }
    }
}
