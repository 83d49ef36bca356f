//! Trees compiled by dtc, as boards' trees are.

use std::process::{Command, Stdio};

use dt_overlay::{Region, survey};

fn compile(source: &str) -> Vec<u8> {
    let mut dtc = Command::new("dtc")
        .args(["-q", "-I", "dts", "-O", "dtb", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("dtc runs: package device-tree-compiler");
    std::io::Write::write_all(&mut dtc.stdin.take().expect("it was piped"), source.as_bytes())
        .expect("dtc reads its input");
    let output = dtc.wait_with_output().expect("dtc ends");
    assert!(output.status.success());
    output.stdout
}

const BOARD: &str = r#"/dts-v1/;
/ {
  #address-cells = <2>; #size-cells = <2>;
  smmu: iommu@1 { reg = <0 1 0 1>; #iommu-cells = <1>; };
  bus@0 {
    compatible = "simple-bus"; #address-cells = <1>; #size-cells = <1>; ranges;
    ethernet@6800000 {
      compatible = "nvidia,tegra234-mgbe";
      reg = <0x6800000 0x10000>, <0x6810000 0x10000>;
      interrupts = <0 384 4>;
      iommus = <&smmu 6>;
    };
    ethernet@7000000 { compatible = "snps,dwmac"; reg = <0x7000000 0x1000>; status = "disabled"; };
    switch@1 { ethernet-ports { ethernet@0 { reg = <0>; }; }; };
  };
};"#;

#[test]
fn survey_lists_controllers_and_not_switch_ports() {
    let nics = survey(&compile(BOARD)).unwrap();
    let paths: Vec<_> = nics.iter().map(|nic| nic.path.as_str()).collect();
    assert_eq!(paths, ["/bus@0/ethernet@6800000", "/bus@0/ethernet@7000000"]);
    assert_eq!(nics[0].compatible, ["nvidia,tegra234-mgbe"]);
    assert_eq!(nics[0].regions[1], Region { address: 0x681_0000, size: 0x1_0000 });
    assert_eq!(nics[0].interrupt_cells, 3);
    assert!(nics[0].behind_iommu && nics[0].enabled);
    assert!(!nics[1].behind_iommu && !nics[1].enabled);
}

#[test]
fn survey_of_every_truncation_does_not_panic() {
    let tree = compile(BOARD);
    for end in 0..tree.len() {
        assert!(survey(&tree[..end]).is_err());
    }
}

#[test]
fn survey_of_every_flipped_byte_does_not_panic() {
    let tree = compile(BOARD);
    for at in 0..tree.len() {
        let mut damaged = tree.clone();
        damaged[at] ^= 0xff;
        let _ = survey(&damaged);
    }
}
