//! DMA to where the card has no business.

use std::str::FromStr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::card::{Card, Places};
use crate::number;
use crate::page::Page;
use crate::poison;

/// Bytes of a frame. Its first twelve are Ethernet addresses, whatever they are.
const FRAME: u16 = 512;
/// Between two frames: Linux logs three faults of an IOMMU in five seconds, and no more.
const PAUSE: Duration = Duration::from_secs(2);

/// What the card is to read and write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Memory of this program, where it may: shows that the attack is one.
    Own,
    /// A physical address.
    Address(u64),
    /// An address that makes what is written there an interrupt, and what is written.
    Message { address: u64, data: u32 },
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let message = text.strip_prefix("msi=");
        match (text, message.map(|message| message.split_once(','))) {
            ("own", _) => Ok(Self::Own),
            (_, None) => Ok(Self::Address(number(text)?)),
            (_, Some(Some((address, data)))) => {
                let (address, data) = (number(address)?, u32::try_from(number(data)?)?);
                Ok(Self::Message { address, data })
            }
            (_, Some(None)) => bail!("{text}: a message is an address and data"),
        }
    }
}

/// Lets the card read and write at each target: a frame is sent from there, and back into memory
/// of this program; then the other way round.
///
/// Prints "read TARGET stolen|blank|nothing", "write TARGET changed|sent|nothing": what the card
/// says that it did, and "changed" where this program can see it.
pub fn buffers(bdf: &str, targets: &[Target]) -> Result<()> {
    let card = Card::open(bdf)?;
    let (own, here) = (Page::new()?, Page::new()?);
    let places = |from, to| Places { send_ring: None, receive_ring: None, from, to };
    for target in targets {
        let (address, name) = match target {
            Target::Own => (own.address, "own".to_owned()),
            Target::Address(address) => (*address, format!("{address:#x}")),
            Target::Message { address, data } => {
                here.write(0, &data.to_le_bytes().repeat(usize::from(FRAME) / 4))?;
                let sent = card.loop_back(places(here.address, *address), FRAME)?;
                println!("message {address:#x} {}", sent.map_or("nothing", |_| "sent"));
                continue;
            }
        };
        own.write(0, &poison::pattern("own"))?;
        here.write(0, &[0x55; FRAME as usize])?;
        let read = card.loop_back(places(address, here.address), FRAME)?;
        println!("read {name} {}", seen(read, &here)?);
        pause(*target);

        here.write(0, &poison::pattern("hostile"))?;
        let written = card.loop_back(places(here.address, address), FRAME)?;
        let changed = own.read()?.starts_with(&poison::pattern("hostile")[..usize::from(FRAME)]);
        let what = if changed { "changed" } else { written.map_or("nothing", |_| "sent") };
        println!("write {name} {what}");
        pause(*target);
    }
    Ok(())
}

/// Lets what a frame caused be logged.
fn pause(target: Target) {
    if !matches!(target, Target::Own) {
        sleep(PAUSE);
    }
}

/// What came of reading somewhere.
fn seen(length: Option<u16>, here: &Page) -> Result<String> {
    let Some(length) = length else { return Ok("nothing".into()) };
    let bytes = here.read()?;
    let bytes = bytes.get(..usize::from(length)).context("The card says more than was sent")?;
    // Whoever is robbed has 8 letters and 8 digits in every 16 bytes.
    let is_poison = |run: &[u8]| {
        let digits = run.get(8..16).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.is_some_and(|digits| u32::from_str_radix(digits, 16).is_ok())
    };
    let stolen = bytes.chunks_exact(16).filter(|run| is_poison(run)).count();
    let first = bytes.first().copied().unwrap_or_default();
    let blank = bytes.iter().all(|byte| *byte == first);
    Ok(match (stolen, blank) {
        (0, true) => format!("blank {length} bytes of {first:#04x}"),
        (0, false) => format!("other {length} bytes: {:02x?}", &bytes[..16.min(bytes.len())]),
        (runs, _) => format!("stolen {} bytes", runs * 16),
    })
}

/// Puts the ring to send from, then that to receive with, at each address: descriptors are read
/// there, and written back.
pub fn rings(bdf: &str, addresses: &[u64]) -> Result<()> {
    ensure!(!addresses.is_empty(), "No addresses are given");
    let card = Card::open(bdf)?;
    let here = Page::new()?;
    for address in addresses {
        let places = Places {
            send_ring: Some(*address),
            receive_ring: None,
            from: here.address,
            to: here.address,
        };
        let sent = card.loop_back(places, FRAME)?;
        println!("send-ring {address:#x} {}", sent.map_or("nothing", |_| "sent"));
        sleep(PAUSE);
        let places = Places { send_ring: None, receive_ring: Some(*address), ..places };
        card.loop_back(places, FRAME)?;
        println!("receive-ring {address:#x} tried");
        sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_words_of_the_command_line_are_told_apart() {
        let target = |text: &str| text.parse::<Target>().ok();
        assert!(matches!(target("own"), Some(Target::Own)));
        assert!(matches!(target("0xfee00000"), Some(Target::Address(0xfee0_0000))));
        let message = Target::Message { address: 0xfee0_0000, data: 0xe9 };
        assert_eq!(target("msi=0xfee00000,0xe9"), Some(message));
        for wrong in ["", "0x", "msi=", "msi=1", "msi=1,0x100000000", "owner"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }
}
