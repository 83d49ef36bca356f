//! The bindings of Ethernet controllers that are known here, most by what Linux' drivers match.

/// What kind of a device a binding describes: who does its DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A controller that reads and writes memory itself, with registers and interrupts of its own.
    Master,
    /// A part of something larger, which does the DMA for it; what that is.
    Part(&'static str),
    /// A function on a PCI bus that the tree describes as well.
    Pci,
    /// A NIC behind a USB controller that the tree describes as well.
    Usb,
    /// No DMA: the CPU moves every byte.
    Programmed,
}

/// What is known about a binding.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The string in `compatible`.
    pub compatible: &'static str,
    /// Linux' driver.
    pub driver: &'static str,
    /// Who does its DMA.
    pub kind: Kind,
    /// Usual rates of its clocks in Hz by their names in `clock-names`, for what the tree does not
    /// say.
    pub clocks: &'static [(&'static str, u32)],
    /// Whether vfio-platform has a reset driver for it, which finds it by this `compatible`.
    pub vfio_reset: bool,
}

const fn master(compatible: &'static str, driver: &'static str) -> Binding {
    Binding { compatible, driver, kind: Kind::Master, clocks: &[], vfio_reset: false }
}

const fn other(compatible: &'static str, driver: &'static str, kind: Kind) -> Binding {
    Binding { compatible, driver, kind, clocks: &[], vfio_reset: false }
}

const GEM: &[(&str, u32)] = &[
    ("pclk", 125_000_000),
    ("hclk", 125_000_000),
    ("tx_clk", 125_000_000),
    ("rx_clk", 125_000_000),
    ("tsu_clk", 250_000_000),
];
/// Not below the true ones, so that MDIO is not driven too fast.
const DWMAC: &[(&str, u32)] = &[
    ("stmmaceth", 300_000_000),
    ("pclk", 300_000_000),
    ("ptp_ref", 250_000_000),
    ("rgmii", 250_000_000),
    ("tx", 250_000_000),
    ("mem", 500_000_000),
];
const FEC: &[(&str, u32)] = &[
    ("ipg", 83_333_333),
    ("ahb", 166_666_666),
    ("enet_clk_ref", 125_000_000),
    ("enet_out", 125_000_000),
    ("ptp", 125_000_000),
];
/// S3D2 of R-Car Gen3, from which gPTP's increment follows.
const AVB: &[(&str, u32)] = &[("fck", 133_333_333), ("refclk", 125_000_000)];

const DPAA2: Kind = Kind::Part(
    "DPAA2: the Management Complex does the DMA, for objects (dpni) that fsl-mc gives out",
);
const FMAN: Kind =
    Kind::Part("FMan: frames reach memory through the QMan and BMan portals that all MACs share");
const CPSW: Kind =
    Kind::Part("CPSW: a DMA controller of the SoC (its `dmas`) reads and writes memory for it");
const HNS: Kind = Kind::Part("HNS: the DSA fabric node that its `ae-handle` names does the DMA");
const PP2: Kind = Kind::Part(
    "PPv2: ports share one packet processor, and their interrupts are in child nodes, which \
     vfio-platform does not look at",
);

/// All of them.
pub const BINDINGS: &[Binding] = &[
    Binding { clocks: GEM, ..master("cdns,zynqmp-gem", "macb") },
    Binding { clocks: GEM, ..master("xlnx,zynqmp-gem", "macb") },
    Binding { clocks: GEM, ..master("xlnx,versal-gem", "macb") },
    Binding { clocks: GEM, ..master("cdns,gem", "macb") },
    Binding { clocks: GEM, ..master("cdns,macb", "macb") },
    Binding { clocks: FEC, ..master("fsl,imx6sx-fec", "fec") },
    Binding { clocks: FEC, ..master("fsl,imx6q-fec", "fec") },
    Binding { clocks: FEC, ..master("fsl,imx6ul-fec", "fec") },
    Binding { clocks: FEC, ..master("fsl,imx8mq-fec", "fec") },
    Binding { clocks: FEC, ..master("fsl,imx8qm-fec", "fec") },
    Binding { clocks: AVB, ..master("renesas,etheravb-rcar-gen3", "ravb") },
    Binding { clocks: AVB, ..master("renesas,etheravb-rcar-gen4", "ravb") },
    Binding { clocks: AVB, ..master("renesas,etheravb-rcar-gen2", "ravb") },
    Binding { vfio_reset: true, ..master("amd,xgbe-seattle-v1a", "amd-xgbe") },
    Binding { vfio_reset: true, ..master("calxeda,hb-xgmac", "calxedaxgmac") },
    master("nvidia,tegra234-mgbe", "dwmac-tegra"),
    master("nvidia,tegra186-eqos", "dwmac-dwc-qos-eth"),
    Binding { clocks: DWMAC, ..master("nxp,imx8mp-dwmac-eqos", "dwmac-imx") },
    Binding { clocks: DWMAC, ..master("nxp,imx8dxl-dwmac-eqos", "dwmac-imx") },
    master("allwinner,sun8i-h3-emac", "dwmac-sun8i"),
    master("allwinner,sun50i-a64-emac", "dwmac-sun8i"),
    master("amlogic,meson-gxbb-dwmac", "dwmac-meson8b"),
    master("amlogic,meson-axg-dwmac", "dwmac-meson8b"),
    master("amlogic,meson-g12a-dwmac", "dwmac-meson8b"),
    master("rockchip,px30-gmac", "dwmac-rk"),
    master("rockchip,rk3308-gmac", "dwmac-rk"),
    master("rockchip,rk3328-gmac", "dwmac-rk"),
    master("rockchip,rk3368-gmac", "dwmac-rk"),
    master("rockchip,rk3399-gmac", "dwmac-rk"),
    master("rockchip,rk3568-gmac", "dwmac-rk"),
    master("rockchip,rk3588-gmac", "dwmac-rk"),
    Binding { clocks: DWMAC, ..master("qcom,qcs404-ethqos", "dwmac-qcom-ethqos") },
    Binding { clocks: DWMAC, ..master("qcom,sm8150-ethqos", "dwmac-qcom-ethqos") },
    Binding { clocks: DWMAC, ..master("qcom,sa8775p-ethqos", "dwmac-qcom-ethqos") },
    master("altr,socfpga-stmmac", "dwmac-socfpga"),
    master("altr,socfpga-stmmac-a10-s10", "dwmac-socfpga"),
    master("mediatek,mt2712-gmac", "dwmac-mediatek"),
    master("mediatek,mt8195-gmac", "dwmac-mediatek"),
    master("mediatek,mt7622-eth", "mtk_eth_soc"),
    master("mediatek,mt7986-eth", "mtk_eth_soc"),
    master("toshiba,visconti-dwmac", "dwmac-visconti"),
    master("socionext,synquacer-netsec", "netsec"),
    master("socionext,uniphier-pxs3-ave4", "ave"),
    master("socionext,uniphier-ld20-ave4", "ave"),
    master("apm,xgene-enet", "xgene-enet"),
    master("apm,xgene1-sgenet", "xgene-enet"),
    master("apm,xgene1-xgenet", "xgene-enet"),
    master("apm,xgene2-sgenet", "xgene-enet"),
    master("apm,xgene2-xgenet", "xgene-enet"),
    master("brcm,bcm2711-genet-v5", "bcmgenet"),
    master("brcm,amac", "bgmac-platform"),
    master("brcm,nsp-amac", "bgmac-platform"),
    master("hisilicon,hisi-gmac-v2", "hix5hd2_gmac"),
    master("hisilicon,hisi-gmac-v1", "hix5hd2_gmac"),
    master("marvell,armada-3700-neta", "mvneta"),
    master("marvell,armada-ac5-neta", "mvneta"),
    // Last of the dwmac ones: what the others name as well.
    master("snps,dwmac", "dwmac-generic"),
    master("snps,dwmac-3.70a", "dwmac-generic"),
    master("snps,dwmac-4.20a", "dwmac-generic"),
    master("snps,dwmac-5.10a", "dwmac-generic"),
    master("snps,dwc-qos-ethernet-4.10", "dwmac-dwc-qos-eth"),
    other("fsl,qoriq-mc-dpmac", "fsl_dpaa2_eth", DPAA2),
    other("fsl,fman-memac", "fsl_dpa", FMAN),
    other("marvell,armada-7k-pp22", "mvpp2", PP2),
    other("marvell,armada-375-pp2", "mvpp2", PP2),
    other("ti,am642-cpsw-nuss", "am65-cpsw-nuss", CPSW),
    other("ti,am654-cpsw-nuss", "am65-cpsw-nuss", CPSW),
    other("ti,j721e-cpsw-nuss", "am65-cpsw-nuss", CPSW),
    other("ti,j7200-cpswxg-nuss", "am65-cpsw-nuss", CPSW),
    other("hisilicon,hns-nic-v1", "hns_enet_drv", HNS),
    other("hisilicon,hns-nic-v2", "hns_enet_drv", HNS),
    other("fsl,enetc", "fsl-enetc", Kind::Pci),
    other("usb424,ec00", "smsc95xx", Kind::Usb),
    other("usb424,7800", "lan78xx", Kind::Usb),
    other("usb424,9e00", "smsc95xx", Kind::Usb),
    other("smsc,lan9115", "smsc911x", Kind::Programmed),
    other("smsc,lan9118", "smsc911x", Kind::Programmed),
    other("smsc,lan91c111", "smc91x", Kind::Programmed),
    other("davicom,dm9000", "dm9000", Kind::Programmed),
    // For trials: the slots of a virtual machine, of which one may be a network card.
    other("virtio,mmio", "virtio-mmio", Kind::Master),
];

/// What is known about the first string in `compatible` that is known.
#[must_use]
pub fn find(compatible: &[&str]) -> Option<&'static Binding> {
    compatible.iter().find_map(|name| BINDINGS.iter().find(|it| it.compatible == *name))
}

/// IOMMUs that any device of the SoC may be behind; not those that belong to one engine, such as
/// `rockchip,iommu` or `qcom,adreno-smmu`.
const IOMMUS: &[&str] = &[
    "arm,smmu-v1",
    "arm,smmu-v2",
    "arm,smmu-v3",
    "arm,mmu-400",
    "arm,mmu-401",
    "arm,mmu-500",
    "cavium,smmu-v2",
    "marvell,ap806-smmu-500",
    "nvidia,smmu-500",
    "qcom,smmu-500",
    "qcom,smmu-v2",
    "renesas,ipmmu-vmsa",
    "renesas,rcar-gen4-ipmmu-vmsa",
];

/// Whether a node with this `compatible` is an IOMMU that a NIC can be behind.
#[must_use]
pub fn is_iommu(compatible: &[&str]) -> bool {
    let private = compatible.contains(&"qcom,adreno-smmu");
    let named = |name: &&str| IOMMUS.contains(name) || name.starts_with("renesas,ipmmu-");
    !private && compatible.iter().any(named)
}
