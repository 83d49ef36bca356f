//! Bytes as a device tree, and as an overlay for it: reading, surveying, applying and making
//! overlays neither panic nor take more memory than the input allows, and what is read is written
//! as the same tree again.
//!
//! Input: 2 bytes of where the overlay begins (little-endian), the tree, the overlay.
#![no_main]

use dt_overlay::overlay::{Choices, GuestVmm, Request, guest_overlay, host_overlay};
use dt_overlay::{Tree, apply, survey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((at, data)) = data.split_first_chunk() else { return };
    let at = usize::from(u16::from_le_bytes(*at)).min(data.len());
    let (base, overlay) = data.split_at(at);
    let Ok(base) = Tree::parse(base) else { return };
    let again = Tree::parse(&base.to_dtb()).expect("what was written is read");
    assert_eq!(again, base);
    assert!(base.to_dts().starts_with("/dts-v1/;"));
    let nics = survey(&base, None).unwrap_or_default();
    let choices = Choices { streams: vec![vec![1]], ..Choices::default() };
    for nic in nics.iter().filter(|nic| nic.verdict.possible()) {
        let request = Request { tree: &base, nic: &nic.path, board: None, choices: &choices };
        if let Ok(host) = host_overlay(&request) {
            let changed = apply(&base, &host).expect("an overlay of ours applies");
            let _ = survey(&changed, None);
        }
        let _ = guest_overlay(&request, GuestVmm::Crosvm);
        let _ = guest_overlay(&request, GuestVmm::Standalone { address: 0xc00_0000, spi: 112 });
    }
    if let Ok(overlay) = Tree::parse(overlay)
        && let Ok(result) = apply(&base, &overlay)
    {
        let _ = survey(&result, None);
    }
});
