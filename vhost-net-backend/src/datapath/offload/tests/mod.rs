//! Offloads against hostile headers (the numbers T36 to T46) and against a slow, obvious model.

mod frames;
mod hostile;
mod model;
mod properties;
mod receiver;
