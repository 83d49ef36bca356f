//! A device's interrupts: what the kernel says of an index, and `VFIO_DEVICE_SET_IRQS`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE, VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, vfio_irq_info,
};
use vmm_sys_util::eventfd::EventFd;

use super::{InterruptInfo, VfioError, sys};

/// `VFIO_DEVICE_GET_IRQ_INFO`.
pub(super) fn query(
    device: BorrowedFd<'_>,
    name: &str,
    index: u32,
) -> Result<InterruptInfo, VfioError> {
    let mut answer = vfio_irq_info { index, ..vfio_irq_info::default() };
    match sys::call(device, &mut answer) {
        Ok(()) => {}
        // None of the kind: a conventional PCI function's errors, for example.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Ok(InterruptInfo::default());
        }
        Err(error) => {
            let what = format!("asking {name} for interrupt index {index}");
            return Err(VfioError::refused(what)(error));
        }
    }
    Ok(InterruptInfo {
        count: answer.count,
        eventfd: answer.flags & VFIO_IRQ_INFO_EVENTFD != 0,
        maskable: answer.flags & VFIO_IRQ_INFO_MASKABLE != 0,
        automasked: answer.flags & VFIO_IRQ_INFO_AUTOMASKED != 0,
        no_resize: answer.flags & VFIO_IRQ_INFO_NORESIZE != 0,
    })
}

/// What is done to interrupts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Trigger,
    Mask,
    Unmask,
}

/// One `VFIO_DEVICE_SET_IRQS`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) index: u32,
    pub(super) start: u32,
    pub(super) action: Action,
}

impl Call {
    /// With an eventfd, or none, for each interrupt from `start` on.
    pub(super) fn with_eventfds(
        self,
        device: BorrowedFd<'_>,
        name: &str,
        eventfds: &[Option<&EventFd>],
    ) -> Result<(), VfioError> {
        let out = || VfioError::OutOfBounds {
            what: format!(
                "{name}: {} eventfds from interrupt {} of index {} on",
                eventfds.len(),
                self.start,
                self.index
            ),
        };
        let count = u32::try_from(eventfds.len()).map_err(|_| out())?;
        let available = query(device, name, self.index)?.count;
        if self.start.checked_add(count).is_none_or(|end| end > available) {
            return Err(out());
        }
        if count == 0 {
            // To the kernel, no interrupts at all would mean to disable the index.
            return Ok(());
        }
        let numbers = eventfds.iter().map(|eventfd| eventfd.map_or(-1, |fd| fd.as_raw_fd()));
        let data = numbers.flat_map(i32::to_ne_bytes).collect();
        self.send(device, name, VFIO_IRQ_SET_DATA_EVENTFD, count, data)
    }

    /// With no data, for `count` interrupts; none means all when they are triggers.
    pub(super) fn bare(
        self,
        device: BorrowedFd<'_>,
        name: &str,
        count: u32,
    ) -> Result<(), VfioError> {
        self.send(device, name, VFIO_IRQ_SET_DATA_NONE, count, Vec::new())
    }

    fn send(
        self,
        device: BorrowedFd<'_>,
        name: &str,
        kind: u32,
        count: u32,
        data: Vec<u8>,
    ) -> Result<(), VfioError> {
        let Self { index, start, action } = self;
        let action_flag = match action {
            Action::Trigger => VFIO_IRQ_SET_ACTION_TRIGGER,
            Action::Mask => VFIO_IRQ_SET_ACTION_MASK,
            Action::Unmask => VFIO_IRQ_SET_ACTION_UNMASK,
        };
        // struct vfio_irq_set: argsz (filled in later), flags, index, start, count, data.
        let header = [0, kind | action_flag, index, start, count];
        let mut argument: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
        argument.extend(data);
        sys::call_tailed(device, sys::Tailed::SetInterrupts, &mut argument).map_err(
            VfioError::refused(format!(
                "{name}: {action:?} of {count} interrupts from {start} of index {index} on"
            )),
        )
    }
}
