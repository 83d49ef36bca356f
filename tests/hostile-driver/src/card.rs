//! An e1000e (Intel 82574 datasheet, section 10) that sends one frame to itself.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::function::{Function, Registers};
use crate::page::Page;

/// Bytes of BAR 0.
const BAR: usize = 0x2_0000;

/// Offsets in BAR 0.
mod register {
    pub const CONTROL: usize = 0x0000;
    pub const STATUS: usize = 0x0008;
    pub const INTERRUPT_MASK_CLEAR: usize = 0x00d8;
    pub const RECEIVE_CONTROL: usize = 0x0100;
    pub const TRANSMIT_CONTROL: usize = 0x0400;
    pub const RECEIVE_RING: usize = 0x2800;
    pub const TRANSMIT_RING: usize = 0x3800;
    pub const RECEIVE_FILTER: usize = 0x5008;
}

/// From a ring's first register on.
mod ring {
    pub const BASE_LOW: usize = 0x00;
    pub const BASE_HIGH: usize = 0x04;
    pub const LENGTH: usize = 0x08;
    pub const HEAD: usize = 0x10;
    pub const TAIL: usize = 0x18;
    /// The shortest: 8 descriptors of 16 bytes.
    pub const BYTES: u32 = 128;
}

const RESET: u32 = 1 << 26;
const LINK_UP: u32 = 1 << 1;
const SET_LINK_UP: u32 = 1 << 6;
/// On; every frame that is for somebody, looped back in the MAC; without the check sequence.
const RECEIVE: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 15 | 1 << 26;
/// On; short frames are filled.
const TRANSMIT: u32 = 1 << 1 | 1 << 3;
/// Of a descriptor to send: the whole frame, with a check sequence, to be reported.
const SEND: u8 = 1 << 0 | 1 << 1 | 1 << 3;
/// Of a descriptor's status: the card is done with it.
const DONE: u8 = 1 << 0;
/// How long a frame is under way at most.
const PATIENCE: Duration = Duration::from_millis(300);

/// Where the card is to find, and leave, things.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// The ring of frames to send; `None`: in memory of this program.
    pub send_ring: Option<u64>,
    /// The ring of buffers to receive into.
    pub receive_ring: Option<u64>,
    /// The frame to send.
    pub from: u64,
    /// Where it is put when it comes back.
    pub to: u64,
}

/// The card, without a driver.
pub struct Card {
    registers: Registers,
    send: Page,
    receive: Page,
}

impl Card {
    pub fn open(bdf: &str) -> Result<Self> {
        let function = Function::open(bdf)?;
        function.enable()?;
        let registers = function.bar(0, BAR)?;
        Ok(Self { registers, send: Page::new()?, receive: Page::new()? })
    }

    /// Sends `length` bytes to itself. Says how many bytes the card reports as received; `None`
    /// when it reports nothing.
    pub fn loop_back(&self, places: Places, length: u16) -> Result<Option<u16>> {
        self.reset()?;
        // Buffer, length, offset of a checksum, command, status, start of a checksum, special.
        let mut send = [0; 16];
        send[..8].copy_from_slice(&places.from.to_le_bytes());
        send[8..10].copy_from_slice(&length.to_le_bytes());
        send[11] = SEND;
        self.send.write(0, &send)?;
        // Buffer; then what the card says: length, checksum, status, errors, special.
        let mut receive = [0; 16];
        receive[..8].copy_from_slice(&places.to.to_le_bytes());
        self.receive.write(0, &receive)?;

        let receive_ring = places.receive_ring.unwrap_or(self.receive.address);
        self.place_ring(register::RECEIVE_RING, receive_ring)?;
        self.registers.write(register::RECEIVE_RING + ring::TAIL, 1)?;
        self.registers.write(register::RECEIVE_CONTROL, RECEIVE)?;
        let send_ring = places.send_ring.unwrap_or(self.send.address);
        self.place_ring(register::TRANSMIT_RING, send_ring)?;
        self.registers.write(register::TRANSMIT_CONTROL, TRANSMIT)?;
        self.registers.write(register::TRANSMIT_RING + ring::TAIL, 1)?;

        let until = Instant::now() + PATIENCE;
        let mut received = None;
        while Instant::now() < until && received.is_none() {
            sleep(Duration::from_millis(10));
            let descriptor = self.receive.read()?;
            let length = u16::from_le_bytes([descriptor[8], descriptor[9]]);
            received = (descriptor[12] & DONE != 0).then_some(length);
        }
        Ok(received)
    }

    /// Resets the card, and waits for its link.
    fn reset(&self) -> Result<()> {
        let Self { registers, .. } = self;
        registers.write(register::CONTROL, RESET)?;
        sleep(Duration::from_millis(5));
        registers.write(register::INTERRUPT_MASK_CLEAR, u32::MAX)?;
        registers.write(register::CONTROL, SET_LINK_UP)?;
        // QEMU's card keeps what a driver before set: descriptors of another form.
        registers.write(register::RECEIVE_FILTER, 0)?;
        for _ in 0..300 {
            if registers.read(register::STATUS)? & LINK_UP != 0 {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        let status = registers.read(register::STATUS)?;
        Err(anyhow::anyhow!("STATUS {status:#x}")).context("The card's link does not come up")
    }

    fn place_ring(&self, first: usize, address: u64) -> Result<()> {
        let [low, high] = halves(address)?;
        for (offset, value) in [
            (ring::BASE_LOW, low),
            (ring::BASE_HIGH, high),
            (ring::LENGTH, ring::BYTES),
            (ring::HEAD, 0),
            (ring::TAIL, 0),
        ] {
            self.registers.write(first + offset, value)?;
        }
        Ok(())
    }
}

fn halves(address: u64) -> Result<[u32; 2]> {
    Ok([u32::try_from(address & 0xffff_ffff)?, u32::try_from(address >> 32)?])
}
