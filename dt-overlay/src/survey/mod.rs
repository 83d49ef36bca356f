//! The Ethernet controllers of a tree: what each needs, what it is tied to, and whether it can be
//! given to a guest.

mod address;
pub mod binding;
mod interrupt;
mod look;
mod nic;
pub(crate) mod reference;
mod tie;
mod verdict;

pub use address::Region;
pub use interrupt::Interrupt;
pub use nic::{Cause, KeepAway, Link, Missing, PlatformNic, Stream, Tie, TieKind, Use, Verdict};
pub use reference::unresolved;

use crate::TreeError;
use crate::board::Board;
use crate::tree::{Id, Index, Tree, value};

/// Lists the Ethernet controllers of `tree` in its order: the nodes whose `compatible` is of a
/// known binding, those that are named `ethernet` and have a `compatible` that is not, and those
/// that `board` names. It adds what the tree does not say.
///
/// ```
/// use dt_overlay::{Tree, survey};
///
/// assert!(survey(&Tree::default(), None)?.is_empty());
/// # Ok::<(), dt_overlay::TreeError>(())
/// ```
///
/// # Errors
///
/// Two nodes with one phandle, or more than 128 controllers. What is wrong with one NIC is in its
/// verdict.
pub fn survey(tree: &Tree, board: Option<&Board>) -> Result<Vec<PlatformNic>, TreeError> {
    survey_indexed(&Index::new(tree)?, board)
}

/// Most controllers in a tree; boards have up to 24.
const MOST: usize = 128;

/// [`survey`] with an index that is there already.
pub(crate) fn survey_indexed(
    index: &Index<'_>,
    board: Option<&Board>,
) -> Result<Vec<PlatformNic>, TreeError> {
    let named: Vec<Id> =
        board.iter().flat_map(|board| &board.nic).filter_map(|nic| index.find(&nic.path)).collect();
    let ids: Vec<Id> = index.ids().filter(|id| named.contains(id) || is_nic(index, *id)).collect();
    if ids.len() > MOST {
        return Err(TreeError::node("/", format!("it has more than {MOST} Ethernet controllers")));
    }
    let mut nics = Vec::new();
    for id in &ids {
        nics.push(look::look(index, *id, board));
    }
    tie::tie(index, &ids, &mut nics);
    verdict::judge(index, board, &mut nics);
    Ok(nics)
}

fn is_nic(index: &Index<'_>, id: Id) -> bool {
    let node = index.node(id);
    let Some(compatible) = look::native(node) else { return false };
    if compatible.first() == Some(&"virtio,mmio") {
        // A slot may hold anything; it is a NIC for whoever put it behind an IOMMU.
        return value::bytes(node, "iommus").is_some();
    }
    use dtoolkit::Node as _;
    binding::find(&compatible).is_some()
        || (node.name_without_address() == "ethernet" && !is_clockish(&compatible))
}

/// Functions beside Ethernet controllers that some boards name so: a PTP clock.
fn is_clockish(compatible: &[&str]) -> bool {
    compatible.iter().any(|name| name.ends_with("-ptp"))
}
