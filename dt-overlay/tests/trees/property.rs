//! Trees at random.

use dt_overlay::{Tree, apply};
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use proptest::prelude::*;

fn node() -> impl Strategy<Value = DeviceTreeNode> {
    let property = ("[a-z#][a-z,.0-9_+?#-]{0,40}", proptest::collection::vec(any::<u8>(), 0..20));
    let properties = proptest::collection::vec(property, 0..5);
    let leaf = properties.prop_map(|properties| fill("", properties, Vec::new()));
    leaf.prop_recursive(6, 60, 5, |inner| {
        let property =
            ("[a-z#][a-z,.0-9_+?#-]{0,40}", proptest::collection::vec(any::<u8>(), 0..20));
        let name = "[a-z][a-z,.0-9_+-]{0,40}(@[0-9a-f]{1,8})?";
        (proptest::collection::vec(property, 0..5), proptest::collection::vec((name, inner), 0..5))
            .prop_map(|(properties, children)| fill("", properties, children))
    })
}

fn fill(
    name: &str,
    properties: Vec<(String, Vec<u8>)>,
    children: Vec<(String, DeviceTreeNode)>,
) -> DeviceTreeNode {
    use dtoolkit::Node as _;
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new_unchecked(name, value));
    }
    for (name, child) in children {
        let mut named = DeviceTreeNode::new_unchecked(name);
        child.properties().for_each(|property| named.add_property(property.clone()));
        child.children().for_each(|child| named.add_child(child.clone()));
        node.add_child(named);
    }
    node
}

fn tree(root: DeviceTreeNode) -> Tree {
    let mut tree = Tree::default();
    *tree.root_mut() = root;
    tree
}

proptest! {
    #[test]
    fn tree_written_and_read_is_the_same(root in node()) {
        let tree = tree(root);
        let file = tree.to_dtb();
        let again = Tree::parse(&file).unwrap();
        prop_assert_eq!(&again, &tree);
        prop_assert_eq!(again.to_dtb(), file);
    }

    #[test]
    fn tree_damaged_at_random_is_read_the_same_again_or_refused(
        root in node(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = tree(root).to_dtb();
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if let Ok(tree) = Tree::parse(&file) {
            prop_assert_eq!(&Tree::parse(&tree.to_dtb()).unwrap(), &tree);
        }
    }

    #[test]
    fn bytes_at_random_are_no_tree(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Tree::parse(&bytes).is_err());
    }

    #[test]
    fn overlay_without_fragments_changes_nothing(base in node(), overlay in node()) {
        let (base, overlay) = (tree(base), tree(overlay));
        // Names are at random: none of the overlay's is one that overlays know.
        if let Ok(result) = apply(&base, &overlay) {
            prop_assert_eq!(result, base);
        }
    }
}
