//! What one core copies from memory to memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of each of the two areas: larger than any cache, as the buffers of many rings are.
const AREA: usize = 128 << 20;
/// Bytes copied at a time: a GSO frame.
const CHUNK: usize = 64 << 10;

/// Copies for at least so long, and returns bytes a second, each counted once.
#[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
pub fn copy_rate(duration: Duration) -> f64 {
    let from = vec![0x5a_u8; AREA];
    let mut to = vec![0xa5_u8; AREA];
    let start = Instant::now();
    let mut bytes = 0;
    loop {
        for (to, from) in to.chunks_exact_mut(CHUNK).zip(from.chunks_exact(CHUNK)) {
            to.copy_from_slice(black_box(from));
        }
        black_box(&mut to);
        bytes += AREA;
        let elapsed = start.elapsed();
        if elapsed >= duration {
            return bytes as f64 / elapsed.as_secs_f64();
        }
    }
}
