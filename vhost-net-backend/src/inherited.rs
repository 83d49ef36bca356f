//! Descriptors given to the process by its parent.
#![expect(unsafe_code, reason = "descriptors known by number only have no safe owner")]

use std::collections::BTreeSet;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::sync::PoisonError;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// Why an inherited descriptor cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InheritError {
    /// 0, 1 and 2 are the standard streams; below zero is none.
    #[error("fd:{0} cannot be used; give the number of an inherited descriptor above 2")]
    Number(RawFd),
    /// The number was given twice.
    #[error("fd:{0} is given twice; each descriptor has one use")]
    Twice(RawFd),
    /// Nothing is open there.
    #[error("fd:{0} is not open; the parent must leave it open across exec")]
    Closed(RawFd),
}

/// Numbers taken so far, so that no descriptor gets two owners.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes ownership of an inherited descriptor, and makes it close-on-exec.
///
/// Meant for the start of a process, before it opens anything of its own.
pub fn take(number: RawFd) -> Result<OwnedFd, InheritError> {
    if number <= 2 {
        return Err(InheritError::Number(number));
    }
    if !TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
        return Err(InheritError::Twice(number));
    }
    // SAFETY: the number is not negative. The borrow is used for one fcntl only, which fails with
    // EBADF if nothing is open there.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed).map_err(|_| InheritError::Closed(number))?;
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC).map_err(|_| InheritError::Closed(number))?;
    // SAFETY: the descriptor is open, as the fcntl has shown. It came from the parent process, so
    // nothing in this one owns it; TAKEN keeps a second call from making a second owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor above 2 that is open and was not [taken](take): what a careless parent
/// left open must not be in reach of this process. Call it before anything else is opened.
pub fn close_others() -> std::io::Result<()> {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    // Collected first: the directory itself is open while it is listed, and gone afterwards.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in open {
        if number <= 2 || taken.contains(&number) {
            continue;
        }
        // SAFETY: the number is not negative. The borrow is used for one fcntl only, which fails
        // with EBADF if nothing is open there, as it is with the directory listed above.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        if fcntl_getfd(borrowed).is_ok() {
            // SAFETY: the descriptor is open, as the fcntl has shown. By the contract of this
            // function nothing in the process owns descriptors yet, besides the standard streams
            // and those in TAKEN, which are left out.
            unsafe { rustix::io::close(number) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_streams_and_negative_numbers_are_refused() {
        assert_eq!(take(-1).unwrap_err(), InheritError::Number(-1));
        assert_eq!(take(2).unwrap_err(), InheritError::Number(2));
    }

    #[test]
    fn a_number_that_is_not_open_is_refused_and_not_retried() {
        assert_eq!(take(9999).unwrap_err(), InheritError::Closed(9999));
        assert_eq!(take(9999).unwrap_err(), InheritError::Twice(9999));
    }
}
