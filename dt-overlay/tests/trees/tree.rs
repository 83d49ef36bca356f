//! Reading, writing, and overlays, against dtc and libfdt.

use crate::common::{apply_like_libfdt, compile, dtc, fdtoverlay};
use dt_overlay::tree::value;
use dt_overlay::{Index, Tree, TreeError, apply};

const BOARD: &str = r#"/dts-v1/;
/memreserve/ 0x80000000 0x1000;
/ {
  #address-cells = <2>; #size-cells = <2>;
  compatible = "maker,board", "maker,soc";
  aliases { ethernet0 = &nic; };
  smmu: iommu@1 { reg = <0 1 0 1>; #iommu-cells = <1>; text = "a\"b\\c", "d"; odd = [00 ff 10]; };
  bus@0 {
    compatible = "simple-bus"; #address-cells = <1>; #size-cells = <1>; ranges;
    nic: ethernet@6800000 { reg = <0x6800000 0x10000>; iommus = <&smmu 6>; };
  };
};"#;

const OVERLAY: &str = r#"/dts-v1/; /plugin/;
&nic { compatible = "netvm,passthrough"; clocks = <&clk>, <&smmu>; };
&{/} { clk: clock { #clock-cells = <0>; next = <&other>; }; other: other { }; };
"#;

fn board() -> Tree {
    Tree::parse(&compile(BOARD)).expect("a tree")
}

#[test]
fn tree_written_and_read_is_the_same() {
    let tree = board();
    let again = Tree::parse(&tree.to_dtb()).unwrap();
    assert_eq!(again, tree);
    assert_eq!(again.to_dtb(), tree.to_dtb());
    assert_eq!(tree.reservations().collect::<Vec<_>>(), [(0x8000_0000, 0x1000)]);
}

#[test]
fn tree_as_text_compiles_to_the_same_tree() {
    let tree = board();
    let (again, _) = dtc(tree.to_dts().as_bytes(), &["-q", "-I", "dts", "-O", "dtb"]);
    assert_eq!(Tree::parse(&again).unwrap(), tree);
    assert!(tree.to_dts().contains("/* nic */"));
}

#[test]
fn tree_with_room_behind_it_is_read() {
    let mut file = board().to_dtb();
    file.extend([0xa5; 4096]);
    assert_eq!(Tree::parse(&file).unwrap(), board());
}

#[test]
fn truncated_trees_are_refused() {
    let file = board().to_dtb();
    for end in 0..file.len() {
        assert!(matches!(Tree::parse(&file[..end]), Err(TreeError::Blob { .. })), "{end}");
    }
}

#[test]
fn damaged_trees_are_refused_or_read_the_same_again() {
    let file = board().to_dtb();
    let mut refused = 0;
    for at in 0..file.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = file.clone();
            damaged[at] ^= flip;
            match Tree::parse(&damaged) {
                Ok(tree) => assert_eq!(Tree::parse(&tree.to_dtb()).unwrap(), tree),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn twins_are_refused() {
    for (source, what) in [
        ("/dts-v1/; / { a = <1>; b = <2>; };", "property"),
        ("/dts-v1/; / { a { }; b { }; };", "node"),
    ] {
        let mut file = compile(source);
        // The second `b` becomes `a`: in the strings, or in the node's name.
        let at = file.iter().rposition(|byte| *byte == b'b').unwrap();
        file[at] = b'a';
        let error = Tree::parse(&file).unwrap_err();
        assert!(matches!(&error, TreeError::Node { path, .. } if path == "/"), "{what}: {error}");
    }
}

#[test]
fn deep_trees_are_refused() {
    let nest =
        |depth: usize| format!("/dts-v1/; / {{ {} {} }};", "a {".repeat(depth), "};".repeat(depth));
    assert!(Tree::parse(&compile(&nest(60))).is_ok());
    let error = Tree::parse(&compile(&nest(70))).unwrap_err();
    assert!(error.to_string().contains("64 deep"), "{error}");
}

#[test]
fn index_finds_by_path_alias_phandle_and_label() {
    let tree = board();
    let index = Index::new(&tree).unwrap();
    let nic = index.find("/bus@0/ethernet@6800000").unwrap();
    assert_eq!(index.find("ethernet0"), Some(nic));
    assert_eq!(index.find("/bus/ethernet@6800000"), None, "a name is a whole name");
    assert_eq!(index.label(nic), Some("nic"));
    let smmu = index.find("/iommu@1").unwrap();
    assert_eq!(index.by_phandle(value::phandle(index.node(smmu)).unwrap()), Some(smmu));
    assert_eq!(index.path(index.parent(nic)), "/bus@0");
    assert!(index.within(nic, index.parent(nic)) && !index.within(smmu, index.parent(nic)));
}

#[test]
fn clashing_phandles_are_named() {
    let source = "/dts-v1/; / { a { phandle = <5>; }; b { phandle = <5>; }; };";
    let (file, _) = dtc(source.as_bytes(), &["-q", "-f", "-I", "dts", "-O", "dtb"]);
    let tree = Tree::parse(&file).unwrap();
    let error = Index::new(&tree).unwrap_err();
    assert_eq!(error.to_string(), "/b: property phandle: 0x5 is also the phandle of /a");
}

#[test]
fn overlay_is_applied_as_libfdt_does() {
    let overlay = Tree::parse(&compile(OVERLAY)).unwrap();
    let result = apply_like_libfdt(&board(), &overlay);
    let index = Index::new(&result).unwrap();
    let nic = index.node(index.find("/bus@0/ethernet@6800000").unwrap());
    assert_eq!(value::string(nic, "compatible"), Some("netvm,passthrough"));
    let clocks = value::cells(nic, "clocks").unwrap();
    let paths: Vec<_> =
        clocks.iter().map(|it| index.path(index.by_phandle(*it).unwrap())).collect();
    assert_eq!(paths, ["/clock", "/iommu@1"]);
    let symbols = index.node(index.find("/__symbols__").unwrap());
    assert_eq!(value::string(symbols, "clk"), Some("/clock"));
}

#[test]
fn overlays_that_do_not_fit_are_refused_by_both() {
    for (overlay, what) in [
        ("/dts-v1/; /plugin/; &none { a; };", "none: the base tree has no such symbol"),
        ("/dts-v1/; /plugin/; &{/none} { a; };", "/none: the tree has no such node"),
        ("/dts-v1/; / { fragment@0 { __overlay__ { a; }; }; };", "`target` or `target-path`"),
        (
            "/dts-v1/; / { fragment@0 { target = <0x77>; __overlay__ { }; }; };",
            "/fragment@0: property target: no node of the base tree has that phandle",
        ),
        (
            "/dts-v1/; / { fragment@0 { target-path = \"/\"; __overlay__ { a = <1>; }; };
             __local_fixups__ { fragment@0 { __overlay__ { a = <4>; }; }; }; };",
            "/fragment@0/__overlay__: property a: a fixup is at byte 4, beyond its end",
        ),
        (
            "/dts-v1/; / { __fixups__ { smmu = \"/fragment@0:target:8\"; };
             fragment@0 { target = <0>; __overlay__ { }; }; };",
            "/fragment@0: property target: a fixup is at byte 8",
        ),
    ] {
        let overlay = Tree::parse(&compile(overlay)).unwrap();
        let error = apply(&board(), &overlay).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(fdtoverlay(&board().to_dtb(), &overlay.to_dtb()).is_err(), "libfdt takes {what}");
    }
}

#[test]
fn overlay_for_another_board_is_refused() {
    let source = OVERLAY.replace("&nic", "/ { compatible = \"other,board\"; }; &nic");
    let error = apply(&board(), &Tree::parse(&compile(&source)).unwrap()).unwrap_err();
    assert!(matches!(error, TreeError::OtherBoard { .. }), "{error}");
    let source = source.replace("other,board", "maker,soc");
    assert!(apply(&board(), &Tree::parse(&compile(&source)).unwrap()).is_ok());
}
