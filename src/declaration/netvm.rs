//! The `[netvm]` table: the guest that owns the NIC.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

use super::at::At;
use super::check::{Check, Field};
use super::error::Problem;
use super::memory::Memory;
use super::raw::{RawImage, RawNetvm};
use crate::vmm::Vmm;

/// Least memory of netvm: a distribution kernel with its initramfs unpacked does not fit in less.
const NETVM_MEMORY_MIN: Memory = Memory::from_mebibytes(128);

/// Most memory of any guest: 1 TiB.
const MEMORY_MAX: Memory = Memory::from_mebibytes(1 << 20);

/// Longest addition to the kernel command line. x86 and arm64 take 2048 bytes in all.
const CMDLINE_MAX: usize = 1024;

/// The highest user id; the one above means "unchanged" to chown(2) and setuid(2).
pub(super) const UID_MAX: u32 = u32::MAX - 1;

/// The guest that owns the NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Netvm {
    /// What runs it.
    pub vmm: Vmm,
    /// Absolute path of the VMM's program, if not the usual one from `PATH`.
    pub vmm_binary: Option<PathBuf>,
    /// 128 MiB to 1 TiB.
    pub memory: Memory,
    /// 1 to 64.
    pub vcpus: u8,
    /// What it boots.
    pub image: Image,
    /// Words added to the kernel command line: printable ASCII, no space inside a word.
    pub cmdline: Vec<String>,
    /// Kernel modules besides those of the NIC: `[A-Za-z0-9_-]+`.
    pub modules: Vec<String>,
    /// User id of the VMM's process, if not the one that is set aside for it.
    pub user: Option<u32>,
}

/// What netvm boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Image {
    /// The one that `netvm image build` makes.
    BuiltIn,
    /// The user's own; both paths are absolute.
    Own {
        /// Kernel, in a form that the VMM boots directly.
        kernel: PathBuf,
        /// Its initramfs, to a copy of which the configuration is appended.
        initramfs: PathBuf,
    },
}

/// Validates the table; `None` if something in it is wrong, which has then been reported.
pub(super) fn check_netvm(check: &mut Check, raw: Option<&At<RawNetvm>>) -> Option<Netvm> {
    let absent = At { span: 0..0, value: RawNetvm::default() };
    let At { span, value: raw } = raw.unwrap_or(&absent);
    let vmm = check.plain(span, "vmm", raw.vmm.as_ref());
    let vmm_binary = check.path(span, "vmm_binary", raw.vmm_binary.as_ref());
    let memory = check_memory(check, span, raw.memory.as_ref(), NETVM_MEMORY_MIN);
    let vcpus = check.number(span, "vcpus", raw.vcpus.as_ref(), 1..=64, "netvm::vm::vcpus");
    let image = check_image(check, span, raw.image.as_ref());
    let cmdline = check_cmdline(check, raw.cmdline.as_ref());
    let modules = check_modules(check, &raw.modules);
    let user = check.number(span, "user", raw.user.as_ref(), 0..=UID_MAX, "netvm::vm::user");
    Some(Netvm {
        vmm: vmm.or(Vmm::Qemu)?,
        vmm_binary: vmm_binary.optional()?,
        memory: memory.or(Memory::from_mebibytes(512))?,
        vcpus: vcpus.or(1)?,
        image: image?,
        cmdline: cmdline?,
        modules: modules?,
        user: user.optional()?,
    })
}

/// Validates a `memory` key of any table.
pub(super) fn check_memory(
    check: &mut Check,
    table: &Range<usize>,
    raw: Option<&At<String>>,
    least: Memory,
) -> Field<Memory> {
    let fix = "write a number and M or G, such as \"512M\" or \"1G\"";
    let field =
        check.parsed(table, "memory", raw, ("netvm::vm::memory", "an amount of memory", fix));
    if let Some(At { span, value }) = field.good()
        && !(least..=MEMORY_MAX).contains(value)
    {
        check.report(
            Problem::error(
                "netvm::vm::memory",
                span.clone(),
                format!("{value} is no sensible amount of memory"),
                "out of range",
            )
            .help(format!("write an amount from {least} to {MEMORY_MAX}")),
        );
        return Field::Bad;
    }
    field
}

fn check_image(
    check: &mut Check,
    netvm: &Range<usize>,
    raw: Option<&At<RawImage>>,
) -> Option<Image> {
    let Some(At { span, value: raw }) = raw else {
        return (!check.was_dropped(netvm, "image")).then_some(Image::BuiltIn);
    };
    let mut needed = |key: &str, raw: Option<&At<String>>| {
        let field = check.path(span, key, raw);
        check.required(
            field,
            span,
            "netvm::image::incomplete",
            &format!("The image has no `{key}`"),
            "name both `kernel` and `initramfs`, or leave the image out to use the built-in one",
        )
    };
    let kernel = needed("kernel", raw.kernel.as_ref());
    let initramfs = needed("initramfs", raw.initramfs.as_ref());
    Some(Image::Own { kernel: kernel.optional()??, initramfs: initramfs.optional()?? })
}

fn check_cmdline(check: &mut Check, raw: Option<&At<String>>) -> Option<Vec<String>> {
    let Some(At { span, value }) = raw else { return Some(Vec::new()) };
    let refusal = if value.len() > CMDLINE_MAX {
        Some(format!("The kernel command line has {} bytes", value.len()))
    } else {
        value
            .chars()
            .find(|c| !matches!(c, ' '..='~') || *c == '"')
            .map(|bad| format!("The kernel command line holds {bad:?}"))
    };
    if let Some(message) = refusal {
        check.report(
            Problem::error("netvm::vm::cmdline", span.clone(), message, "this value").help(
                format!(
                    "write words of printable ASCII without quotes, {CMDLINE_MAX} bytes at most"
                ),
            ),
        );
        return None;
    }
    Some(value.split_ascii_whitespace().map(str::to_owned).collect())
}

fn check_modules(check: &mut Check, raw: &[At<String>]) -> Option<Vec<String>> {
    let mut modules = Vec::new();
    for At { span, value } in raw {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        // 55 is what the kernel's own module names are limited to (MODULE_NAME_LEN).
        if value.is_empty()
            || value.len() > 55
            || !value.chars().all(fits)
            || value.starts_with('-')
        {
            check.report(
                Problem::error(
                    "netvm::vm::module",
                    span.clone(),
                    format!("\"{value}\" is not the name of a kernel module"),
                    "this value",
                )
                .help("write the name as lsmod shows it, without path and \".ko\""),
            );
        } else {
            modules.push(value.clone());
        }
    }
    (modules.len() == raw.len()).then_some(modules)
}
