//! Host and guest overlays of boards made up for one question each; real boards are in `corpus`.

use crate::common::crosvm::dropped;
use crate::common::{apply_like_libfdt, compile};
use crate::survey::{board, gem};
use dt_overlay::overlay::{Choices, GuestVmm, PASSTHROUGH, Request, guest_overlay, host_overlay};
use dt_overlay::survey::{KeepAway, unresolved};
use dt_overlay::tree::value;
use dt_overlay::{Board, Index, Tree, TreeError};

const PATH: &str = "/bus@10000000/ethernet@5000";

fn host(tree: &Tree, choices: &Choices) -> Result<Tree, TreeError> {
    host_overlay(&Request { tree, nic: PATH, board: None, choices })
}

fn guest(tree: &Tree, choices: &Choices) -> Result<Tree, TreeError> {
    guest_overlay(&Request { tree, nic: PATH, board: None, choices }, GuestVmm::Crosvm)
}

fn streams(streams: &[&[u32]]) -> Choices {
    Choices { streams: streams.iter().map(|it| it.to_vec()).collect(), ..Choices::default() }
}

/// A tree as most boards have: without symbols.
fn without_symbols(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    tree.root_mut().remove_child("__symbols__");
    tree
}

#[test]
fn host_overlay_keeps_the_driver_away_and_binds_the_iommu() {
    for tree in [board(&gem("nic", 0x5000, "")), without_symbols(&board(&gem("nic", 0x5000, "")))] {
        let overlay = host(&tree, &streams(&[&[7], &[8]])).unwrap();
        let with_symbols = tree.node("/__symbols__").is_some();
        assert_eq!(overlay.node("/__fixups__").is_some(), with_symbols);
        let result = apply_like_libfdt(&tree, &overlay);
        let nic = result.node(PATH).unwrap();
        assert_eq!(value::string(nic, "compatible"), Some(PASSTHROUGH));
        let smmu = value::phandle(result.node("/iommu@2000000").unwrap()).unwrap();
        assert_eq!(value::cells(nic, "iommus").unwrap(), [smmu, 7, smmu, 8]);
        assert!(unresolved(&result).is_empty(), "{:?}", unresolved(&result));
    }
}

#[test]
fn host_overlay_gives_an_iommu_without_a_phandle_one() {
    let mut tree = without_symbols(&board(&gem("nic", 0x5000, "")));
    tree.node_mut("/iommu@2000000").unwrap().remove_property("phandle");
    let result = apply_like_libfdt(&tree, &host(&tree, &streams(&[&[7]])).unwrap());
    let index = Index::new(&result).unwrap();
    let cells = value::cells(result.node(PATH).unwrap(), "iommus").unwrap();
    assert_eq!(index.path(index.by_phandle(cells[0]).unwrap()), "/iommu@2000000");
}

#[test]
fn host_overlay_enables_the_iommu_and_what_is_above_it() {
    let tree = board(
        &(gem("nic", 0x5000, "iommus = <&off 1>;")
            + "sub { status = \"disabled\"; off: iommu { compatible = \"arm,mmu-500\";
               #iommu-cells = <1>; status = \"disabled\"; }; };"),
    );
    let result = apply_like_libfdt(&tree, &host(&tree, &Choices::default()).unwrap());
    for path in ["/bus@10000000/sub", "/bus@10000000/sub/iommu"] {
        assert!(value::enabled(result.node(path).unwrap()), "{path}");
    }
}

#[test]
fn host_overlay_leaves_what_a_reset_driver_goes_by() {
    let tree = board(
        "xgmac@5000 { compatible = \"amd,xgbe-seattle-v1a\"; reg = <0x5000 0x1000>;
           interrupts = <0 1 4>; iommus = <&smmu 1>; };",
    );
    let nic = "/bus@10000000/xgmac@5000";
    for (keep_away, wanted) in
        [(None, "amd,xgbe-seattle-v1a"), (Some(KeepAway::Compatible), PASSTHROUGH)]
    {
        let choices = Choices { keep_away, ..Choices::default() };
        let request = Request { tree: &tree, nic, board: None, choices: &choices };
        let result = apply_like_libfdt(&tree, &host_overlay(&request).unwrap());
        assert_eq!(value::string(result.node(nic).unwrap(), "compatible"), Some(wanted));
    }
}

#[test]
fn host_overlay_refuses_what_does_not_fit() {
    let tree = board(&gem("nic", 0x5000, ""));
    for (choices, what) in [
        (streams(&[]), "property iommus: the tree does not say which streams"),
        (streams(&[&[1, 2]]), "/iommu@2000000 wants 1 cells for a stream (#iommu-cells), not 2"),
        (
            Choices { iommu: Some("/nowhere".into()), ..streams(&[&[1]]) },
            "/nowhere: the tree has no such node",
        ),
        (
            Choices { iommu: Some(PATH.into()), ..streams(&[&[1]]) },
            "property #iommu-cells: it is no IOMMU",
        ),
    ] {
        let error = host(&tree, &choices).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let bound = board(&gem("nic", 0x5000, "iommus = <&smmu 1>;"));
    let error = host(&bound, &streams(&[&[1]])).unwrap_err().to_string();
    assert!(error.contains("says already"), "{error}");
    let choices = Choices::default();
    let request = Request { tree: &tree, nic: "eth9", board: None, choices: &choices };
    let error = host_overlay(&request).unwrap_err().to_string();
    assert_eq!(error, format!("eth9: no such NIC; the tree's are {PATH}"));
    let off = board(&gem("nic", 0x5000, "status = \"disabled\";"));
    assert!(matches!(host(&off, &streams(&[&[1]])), Err(TreeError::Impassable { .. })));
}

#[test]
fn guest_overlay_has_what_the_driver_needs_and_nothing_of_the_host() {
    let more = "iommus = <&smmu 1>; clocks = <&cru 3>, <&cru 4>; clock-names = \"pclk\", \"hclk\";
        resets = <&cru 9>; reset-names = \"gem\"; power-domains = <&cru 2>; dma-coherent;
        phy-mode = \"rgmii-id\"; phy-handle = <&phy>; local-mac-address = [02 00 00 00 00 01];
        mdio { #address-cells = <1>; #size-cells = <0>;
          phy: ethernet-phy@c { reg = <12>; interrupts = <0 5 4>; reset-gpios = <&gpio 1>; }; };";
    let nodes = gem("nic", 0x5000, more) + "gpio: gpio { #gpio-cells = <1>; };";
    let tree = board(&nodes);
    let mut choices = Choices::default();
    choices.clocks.insert("pclk".into(), 50_000_000);
    let overlay = guest(&tree, &choices).unwrap();
    let none: [&str; 0] = [];
    assert_eq!(dropped(&overlay, "nic_10005000_ethernet"), none);
    let base = Tree::parse(&compile(
        "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
         intc: gic { #interrupt-cells = <3>; interrupt-controller; }; };",
    ));
    let result = apply_like_libfdt(&base.unwrap(), &overlay);
    let path = "/netvm-platform/ethernet@10005000";
    let nic = result.node(path).unwrap();
    assert_eq!(
        value::string(result.node("/__symbols__").unwrap(), "nic_10005000_ethernet"),
        Some(path)
    );
    assert_eq!(value::cells(nic, "reg").unwrap(), [0, 0x1000_5000, 0, 0x1000]);
    assert_eq!(value::cells(nic, "interrupts").unwrap(), [0, 0, 4, 0, 1, 1]);
    assert_eq!(value::strings(nic, "clock-names").unwrap(), ["pclk", "hclk"]);
    assert_eq!(value::bytes(nic, "local-mac-address"), Some(&[2, 0, 0, 0, 0, 1][..]));
    assert!(value::bytes(nic, "dma-coherent").is_some());
    for gone in ["iommus", "resets", "reset-names", "power-domains"] {
        assert!(value::bytes(nic, gone).is_none(), "{gone}");
    }
    let index = Index::new(&result).unwrap();
    let rate = |nth: usize| {
        let clock = index.by_phandle(value::cells(nic, "clocks").unwrap()[nth]).unwrap();
        value::cell(index.node(clock), "clock-frequency").unwrap()
    };
    assert_eq!((rate(0), rate(1)), (50_000_000, 125_000_000));
    let phy = index.by_phandle(value::cell(nic, "phy-handle").unwrap()).unwrap();
    assert_eq!(index.path(phy), format!("{path}/mdio/ethernet-phy@c"));
    assert_eq!(value::cell(index.node(phy), "reg"), Some(12));
    assert!(value::bytes(index.node(phy), "reset-gpios").is_none());
    assert!(value::bytes(index.node(phy), "interrupts").is_none());
}

#[test]
fn guest_overlay_of_a_changed_tree_is_that_of_the_tree_before() {
    let tree = board(&gem("nic", 0x5000, "phy-mode = \"rgmii\";"));
    let choices = streams(&[&[7]]);
    let changed = dt_overlay::apply(&tree, &host(&tree, &choices).unwrap()).unwrap();
    let nics = dt_overlay::survey(&changed, None).unwrap();
    assert_eq!(nics[0].compatible, ["cdns,gem"]);
    assert_eq!(nics[0].driver, Some("macb"));
    let before = guest(&tree, &choices).unwrap();
    assert_eq!(guest(&changed, &Choices::default()).unwrap().to_dts(), before.to_dts());
}

#[test]
fn guest_overlay_wants_rates_that_nobody_knows() {
    let more = "iommus = <&smmu 1>; clocks = <&cru 3>; clock-names = \"odd\";";
    let tree = board(&gem("nic", 0x5000, more));
    let error = guest(&tree, &Choices::default()).unwrap_err().to_string();
    assert!(
        error.starts_with(PATH) && error.contains("property clocks: the rate of odd"),
        "{error}"
    );
    let mut choices = Choices::default();
    choices.clocks.insert("odd".into(), 1);
    assert!(guest(&tree, &choices).is_ok());
}

#[test]
fn standalone_guest_overlay_lays_registers_out_by_pages() {
    let more = "iommus = <&smmu 1>;%&nic { reg = <0x5000 0x800>, <0x6040 0x10>; };";
    let (node, change) = more.split_once('%').unwrap();
    let tree = board(&(gem("nic", 0x5000, node) + "%" + change));
    let choices = Choices { mac: Some([2, 0, 0, 0, 0, 9]), ..Choices::default() };
    let request = Request { tree: &tree, nic: "10005000.ethernet", board: None, choices: &choices };
    let make = |address, spi| guest_overlay(&request, GuestVmm::Standalone { address, spi });
    let overlay = make(0xc00_0000, 112).unwrap();
    let nic = overlay.node("/fragment@0/__overlay__/netvm-platform/ethernet@c000000").unwrap();
    assert_eq!(
        value::cells(nic, "reg").unwrap(),
        [0, 0xc00_0000, 0, 0x800, 0, 0xc00_1040, 0, 0x10]
    );
    assert_eq!(value::cells(nic, "interrupts").unwrap(), [0, 112, 4, 0, 113, 1]);
    assert_eq!(value::bytes(nic, "local-mac-address"), Some(&[2, 0, 0, 0, 0, 9][..]));
    assert!(make(u64::MAX - 4096, 0).is_err());
    assert!(make(0, 987).is_err());
}

/// What NVIDIA's tree has of MGBE 0, and the firmware that has its clocks.
fn orin() -> Tree {
    let source = r#"/dts-v1/; / {
      #address-cells = <2>; #size-cells = <2>; interrupt-parent = <&gic>;
      compatible = "nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234";
      gic: gic { compatible = "arm,gic-v3"; #interrupt-cells = <3>; interrupt-controller; };
      bpmp: bpmp { compatible = "nvidia,tegra234-bpmp", "nvidia,tegra186-bpmp";
        #clock-cells = <1>; #reset-cells = <1>; #power-domain-cells = <1>; };
      bus@0 { compatible = "simple-bus"; #address-cells = <2>; #size-cells = <2>; ranges;
        smmu: iommu@12000000 { compatible = "nvidia,tegra234-smmu", "nvidia,smmu-500";
          reg = <0 0x12000000 0 0x1000000>; #iommu-cells = <1>; };
        ethernet@6800000 { compatible = "nvidia,tegra234-mgbe";
          reg = <0 0x6800000 0 0x10000>, <0 0x6810000 0 0x10000>, <0 0x68a0000 0 0x10000>;
          reg-names = "hypervisor", "mac", "xpcs"; interrupts = <0 384 4>;
          clocks = <&bpmp 357>, <&bpmp 361>, <&bpmp 248>; clock-names = "mgbe", "mac", "eee-pcs";
          resets = <&bpmp 45>, <&bpmp 46>; reset-names = "mac", "pcs";
          power-domains = <&bpmp 18>; iommus = <&smmu 6>; phy-mode = "10gbase-r"; };
      };
    };"#;
    Tree::parse(&compile(source)).expect("a tree")
}

#[test]
fn firmware_proxy_allows_what_the_nic_names_and_nothing_else() {
    let tree = orin();
    let boards = Board::known().unwrap();
    let board = Board::of(&boards, &tree).unwrap();
    assert_eq!(board.name, "NVIDIA Jetson AGX Orin");
    let choices = Choices::default();
    let nic = "6800000.ethernet";
    let request = Request { tree: &tree, nic, board: Some(board), choices: &choices };
    let result = apply_like_libfdt(&tree, &host_overlay(&request).unwrap());
    let list = result.node("/bpmp_host_proxy").unwrap();
    let clocks = value::cells(list, "allowed-clocks").unwrap();
    assert_eq!(clocks, [14, 91, 103, 248, 288, 292, 319, 320, 327, 357, 361, 366, 367, 368]);
    assert_eq!(value::cells(list, "allowed-resets").unwrap(), [45, 46]);
    assert_eq!(value::cells(list, "allowed-power-domains").unwrap(), [18]);
    let guest = guest_overlay(&request, GuestVmm::Standalone { address: 0xc00_0000, spi: 0 });
    let base = Tree::parse(&compile("/dts-v1/; / { };")).unwrap();
    let result = apply_like_libfdt(&base, &guest.unwrap());
    let nic = result.node("/netvm-platform/ethernet@c000000").unwrap();
    let bpmp = value::phandle(result.node("/bpmp").unwrap()).unwrap();
    assert_eq!(value::cells(nic, "clocks").unwrap(), [bpmp, 357, bpmp, 361, bpmp, 248]);
    assert_eq!(value::cells(nic, "resets").unwrap(), [bpmp, 45, bpmp, 46]);
    assert_eq!(value::strings(nic, "reset-names").unwrap(), ["mac", "pcs"]);
    let axi = result.node("/netvm-platform/ethernet@c000000/stmmac-axi-config").unwrap();
    assert_eq!(value::cells(axi, "snps,blen").unwrap(), [256, 128, 64, 32, 16, 8, 4]);
    assert_eq!(value::cell(nic, "snps,axi-config"), value::phandle(axi));
}

#[test]
fn every_board_file_is_read_and_says_whether_it_was_tried() {
    let boards = Board::known().unwrap();
    assert_eq!(boards.len(), 6);
    for board in &boards {
        assert!(board.hardware.starts_with("Not tried on hardware"), "{}", board.name);
    }
    assert_eq!(boards[0].correction.len(), 5, "the i.MX 8QM document's errors");
}

#[test]
fn crosvm_keeps_nics_that_go_together_whole() {
    let first = gem(
        "a",
        0x5000,
        "iommus = <&smmu 1>; phy-handle = <&pa>;
         mdio { #address-cells = <1>; #size-cells = <0>; pa: phy@1 { reg = <1>; };
         pb: phy@2 { reg = <2>; }; };",
    );
    let second = gem("b", 0x6000, "iommus = <&smmu 2>; phy-handle = <&pb>;");
    let tree = board(&format!("{first}{second}"));
    let overlay = guest(&tree, &Choices::default()).unwrap();
    // Each is a device with a `dt-symbol` of its own; the second refers into the first.
    let without_second = dropped(&overlay, "nic_10005000_ethernet");
    assert_eq!(without_second, ["/fragment@0/__overlay__/netvm-platform/ethernet@10006000"]);
    let second = overlay.node("/fragment@0/__overlay__/netvm-platform/ethernet@10006000").unwrap();
    let index = Index::new(&overlay).unwrap();
    let phy = index.by_phandle(value::cell(second, "phy-handle").unwrap()).unwrap();
    assert!(index.path(phy).ends_with("ethernet@10005000/mdio/phy@2"), "{}", index.path(phy));
}
