//! Surveys of boards made up for one question each.

use crate::common::compile;
use dt_overlay::survey::{Cause, KeepAway, Missing, Region, TieKind};
use dt_overlay::{Board, PlatformNic, Tree, Verdict, survey};

/// A board with an SMMU, a GIC, a clock controller, and `nodes` on its bus.
pub fn board(nodes: &str) -> Tree {
    // What follows a `%` changes nodes again.
    let (nodes, change) = nodes.split_once('%').unwrap_or((nodes, ""));
    let source = format!(
        r#"/dts-v1/;
        / {{
          #address-cells = <2>; #size-cells = <2>; interrupt-parent = <&gic>;
          compatible = "maker,board";
          gic: interrupt-controller@1000000 {{
            compatible = "arm,gic-v3"; reg = <0 0x1000000 0 0x10000>;
            interrupt-controller; #interrupt-cells = <3>; #address-cells = <0>;
          }};
          smmu: iommu@2000000 {{
            compatible = "arm,smmu-v3"; reg = <0 0x2000000 0 0x20000>; #iommu-cells = <1>;
          }};
          cru: clock-controller@3000000 {{
            compatible = "maker,cru", "syscon"; reg = <0 0x3000000 0 0x1000>;
            #clock-cells = <1>; #reset-cells = <1>; #power-domain-cells = <1>;
          }};
          bus@10000000 {{
            compatible = "simple-bus"; #address-cells = <1>; #size-cells = <1>;
            ranges = <0 0 0x10000000 0x1000000>;
            {nodes}
          }};
        }};
        {change}"#
    );
    Tree::parse(&compile(&source)).expect("a tree")
}

/// A GEM at `at` with `more` properties and nodes.
pub fn gem(label: &str, at: u32, more: &str) -> String {
    format!(
        r#"{label}: ethernet@{at:x} {{
          compatible = "cdns,gem"; reg = <{at:#x} 0x1000>; interrupts = <0 63 4>, <0 64 1>;
          {more}
        }};"#
    )
}

fn look(nodes: &str) -> Vec<PlatformNic> {
    survey(&board(nodes), None).expect("a survey")
}

fn cause(nic: &PlatformNic) -> Cause {
    match &nic.verdict {
        Verdict::Impassable { cause, .. } => *cause,
        other => panic!("{}: {other:?}", nic.path),
    }
}

#[test]
fn survey_finds_by_binding_and_not_by_name() {
    let nics = look(
        "xgmac@1000 { compatible = \"amd,xgbe-seattle-v1a\"; reg = <0x1000 0x1000>;
           interrupts = <0 1 4>; iommus = <&smmu 1>; dma-coherent; };
         ethernet@2000 { compatible = \"nobody,knows\"; reg = <0x2000 0x1000>; };
         switch@3000 { ethernet-ports { ethernet { }; }; };",
    );
    let paths: Vec<_> = nics.iter().map(|nic| nic.path.as_str()).collect();
    assert_eq!(paths, ["/bus@10000000/xgmac@1000", "/bus@10000000/ethernet@2000"]);
    assert!(matches!(nics[0].verdict, Verdict::Passable { .. }), "{:?}", nics[0].verdict);
    assert!(nics[0].dma_coherent);
    assert_eq!(cause(&nics[1]), Cause::UnknownBinding);
}

#[test]
fn survey_tells_registers_interrupts_and_uses() {
    let more =
        "iommus = <&smmu 0x877>; clocks = <&cru 3>, <&cru 4>; clock-names = \"pclk\", \"hclk\";
        resets = <&cru 9>; reset-names = \"gem\"; power-domains = <&cru 2>;
        local-mac-address = [02 00 00 00 00 01]; phy-mode = \"rgmii-id\"; phy-handle = <&phy>;
        mdio { #address-cells = <1>; #size-cells = <0>; phy: ethernet-phy@c { reg = <12>; }; };";
    let nics = look(&gem("nic", 0x5000, more));
    let nic = &nics[0];
    assert_eq!(nic.device, "10005000.ethernet");
    assert_eq!(nic.driver, Some("macb"));
    assert_eq!(nic.regions, [Region { address: 0x1000_5000, size: 0x1000 }]);
    let interrupts: Vec<_> = nic.interrupts.iter().map(|it| (it.spi, it.level)).collect();
    assert_eq!(interrupts, [(Some(63), Some(true)), (Some(64), Some(false))]);
    let uses: Vec<_> =
        nic.uses.iter().map(|it| (it.property.as_str(), it.name.as_deref())).collect();
    for wanted in [("clocks", Some("hclk")), ("resets", Some("gem")), ("power-domains", None)] {
        assert!(uses.contains(&wanted), "{uses:?}");
    }
    assert_eq!(nic.streams[0].specifier, [0x877]);
    assert_eq!(nic.mac, Some([2, 0, 0, 0, 0, 1]));
    assert_eq!(nic.link.mode.as_deref(), Some("rgmii-id"));
    assert!(nic.link.own_mdio);
    assert!(nic.conditions.iter().any(|it| it.contains("clk_ignore_unused")));
}

#[test]
fn verdicts_say_what_is_missing() {
    let smmu_off = gem("nic", 0x5000, "iommus = <&off 1>;")
        + "off: iommu@9000 { compatible = \"arm,mmu-500\"; #iommu-cells = <1>;
             status = \"disabled\"; };";
    let Verdict::NeedsIommu { missing, iommu, .. } = look(&smmu_off).remove(0).verdict else {
        panic!("the IOMMU is disabled")
    };
    assert_eq!((missing, iommu.as_str()), (Missing::Enable, "/bus@10000000/iommu@9000"));
    let Verdict::NeedsIommu { missing, .. } = look(&gem("nic", 0x5000, "")).remove(0).verdict
    else {
        panic!("the node has no streams")
    };
    assert_eq!(missing, Missing::Streams);
}

#[test]
fn verdicts_say_why_not() {
    let bound = "iommus = <&smmu 1>;";
    for (nodes, wanted) in [
        (gem("nic", 0x5000, &format!("{bound} status = \"disabled\";")), Cause::Disabled),
        (gem("nic", 0x5000, &format!("{bound} syscon = <&cru>;")), Cause::SharedRegisters),
        (
            gem("nic", 0x5000, &format!("{bound} memory-region = <&hole>;")) + "hole: hole { };",
            Cause::ReservedMemory,
        ),
        (
            gem("nic", 0x5000, &format!("{bound} phy-handle = <&phy>;"))
                + "mdio@7000 { phy: phy { }; };",
            Cause::PhyElsewhere,
        ),
        (
            gem("nic", 0x5000, bound) + "dma@6000 { compatible = \"a,dma\"; iommus = <&smmu 1>; };",
            Cause::SharedStream,
        ),
        (
            "ethernet@1 { compatible = \"fsl,fman-memac\"; reg = <1 1>; };".to_owned(),
            Cause::Composite,
        ),
        (
            format!("ethernet@1 {{ compatible = \"cdns,gem\"; reg = <1 1>; {bound} }};"),
            Cause::NoInterrupt,
        ),
        (
            format!(
                "island {{ #address-cells = <1>; #size-cells = <1>; ethernet@1 {{ reg = <1 1>;
                 compatible = \"cdns,gem\"; interrupts = <0 1 4>; {bound} }}; }};"
            ),
            Cause::NoRegisters,
        ),
        (gem("nic", 0x5000, "iommus = <&smmu>;"), Cause::Malformed),
        (gem("nic", 0x5000, "clocks = <0x99 1>;"), Cause::Malformed),
        (gem("nic", 0x5000, "") + "%&nic { interrupts = <0 1>; };", Cause::Malformed),
        (gem("nic", 0x5000, "") + "%&nic { reg = <1 2 3>; };", Cause::Malformed),
    ] {
        let nics = look(&nodes);
        assert_eq!(cause(&nics[0]), wanted, "{nodes}: {}", nics[0].verdict.reason());
    }
}

#[test]
fn what_does_not_fit_is_named_with_node_and_property() {
    let nics = look(&gem("nic", 0x5000, "clocks = <&cru>;"));
    assert_eq!(
        nics[0].verdict.reason(),
        "/bus@10000000/ethernet@5000: property clocks: /clock-controller@3000000 wants 1 cells \
         after cell 0, and the list ends"
    );
}

#[test]
fn nics_that_share_an_mdio_bus_go_together() {
    let first = gem(
        "a",
        0x5000,
        "iommus = <&smmu 1>; phy-handle = <&pa>;
         mdio { #address-cells = <1>; #size-cells = <0>; pa: phy@1 { reg = <1>; };
         pb: phy@2 { reg = <2>; }; };",
    );
    let second = gem("b", 0x6000, "iommus = <&smmu 2>; phy-handle = <&pb>;");
    let nics = look(&format!("{first}{second}"));
    assert_eq!(nics[0].verdict.with(), ["/bus@10000000/ethernet@6000"]);
    assert_eq!(nics[1].verdict.with(), ["/bus@10000000/ethernet@5000"]);
    assert!(nics[1].ties.iter().any(|tie| tie.kind == TieKind::PhyThere));
    // The second cannot go without its stream's other user: so the first stays too.
    let third = "dma@7000 { compatible = \"a,dma\"; iommus = <&smmu 2>; };";
    let nics = look(&format!("{first}{second}{third}"));
    assert_eq!(cause(&nics[1]), Cause::SharedStream);
    assert_eq!(cause(&nics[0]), Cause::PhyElsewhere);
}

#[test]
fn shared_clock_gates_are_ties() {
    let first = gem("a", 0x5000, "iommus = <&smmu 1>; clocks = <&cru 7>;");
    let second = gem("b", 0x6000, "iommus = <&smmu 2>; clocks = <&cru 7>;");
    let nics = look(&format!("{first}{second}"));
    let tie = nics[0].ties.iter().find(|tie| tie.kind == TieKind::Clock).expect("a tie");
    assert_eq!(tie.with, "/bus@10000000/ethernet@6000");
    assert!(nics[0].verdict.possible() && nics[0].verdict.with().is_empty());
}

#[test]
fn board_files_add_streams() {
    let facts = "name = \"x\"\ncompatible = [\"maker,board\"]\nhardware = \"not tried\"\n[[nic]]
        path = \"/bus@10000000/ethernet@5000\"\niommu = \"/iommu@2000000\"\nstreams = [[5]]
        keep-away = \"driver-override\"";
    let boards = [Board::parse(facts).expect("a board")];
    let tree = board(&gem("nic", 0x5000, ""));
    let known = Board::of(&boards, &tree).expect("this board");
    assert_eq!(known.nic[0].keep_away, Some(KeepAway::DriverOverride));
    let nics = survey(&tree, Some(known)).expect("a survey");
    assert!(
        matches!(nics[0].verdict, Verdict::NeedsIommu { missing: Missing::Binding, .. }),
        "{:?}",
        nics[0].verdict
    );
    assert!(Board::parse("name = 1").is_err());
}

#[test]
fn damaged_trees_are_surveyed_without_a_panic() {
    let more =
        "iommus = <&smmu 1>; clocks = <&cru 3>; phy-handle = <&phy>; mdio { phy: phy { }; };";
    let file = board(&gem("nic", 0x5000, more)).to_dtb();
    let mut surveyed = 0;
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0xff;
        if let Ok(tree) = Tree::parse(&damaged) {
            surveyed += usize::from(survey(&tree, None).is_ok());
        }
    }
    assert!(surveyed > 100, "{surveyed}");
}
