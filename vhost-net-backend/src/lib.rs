//! The link: a sandboxed vhost-user-net process between exactly two guests.
