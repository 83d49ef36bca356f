//! The device as the vhost-user library sees it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::VhostUserBackend;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

use super::config_space;
use super::features::{features, rings};
use super::rules::{EndConfig, PROTOCOL_FEATURES};
use super::session::Endpoint;
use super::vring::{LinkVring, RingContext, SessionMemory};
use crate::datapath::MAX_RING_SIZE;

/// The virtio-net device of one session.
#[derive(Debug)]
pub struct LinkBackend {
    endpoint: Arc<Endpoint>,
    context: RingContext,
}

impl LinkBackend {
    /// The device of `endpoint`.
    pub const fn new(endpoint: Arc<Endpoint>, context: RingContext) -> Self {
        Self { endpoint, context }
    }
}

impl VhostUserBackend for LinkBackend {
    type Bitmap = ();
    type Vring = LinkVring;

    fn num_queues(&self) -> usize {
        rings(self.endpoint.config.queue_pairs)
    }

    fn max_queue_size(&self) -> usize {
        usize::from(MAX_RING_SIZE)
    }

    fn features(&self) -> u64 {
        features(self.endpoint.config.queue_pairs)
    }

    fn acked_features(&self, features: u64) {
        self.endpoint.features.store(features, Relaxed);
        self.context.placement.set_features(self.context.end, features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        PROTOCOL_FEATURES
    }

    fn set_event_idx(&self, _enabled: bool) {
        // It is among the features.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let EndConfig { mac, mtu, queue_pairs, .. } = self.endpoint.config;
        config_space::read(mac, mtu, queue_pairs, self.endpoint.link_up(), offset, size)
    }

    fn set_config(&self, _offset: u32, _bytes: &[u8]) -> io::Result<()> {
        // All fields are read-only. A driver that writes must not end its VMM's session.
        Ok(())
    }

    fn update_memory(&self, memory: SessionMemory) -> io::Result<()> {
        self.context.placement.set_memory(self.context.end, &memory.memory().into_inner());
        Ok(())
    }

    /// No threads of the library: the packet worker has the rings.
    fn queues_per_thread(&self) -> Vec<u64> {
        Vec::new()
    }

    fn handle_event(
        &self,
        _event: u16,
        _set: EventSet,
        _rings: &[LinkVring],
        _thread: usize,
    ) -> io::Result<()> {
        Ok(())
    }
}
