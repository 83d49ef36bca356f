//! `netvm bench` as a user types it: real links, numbers that can be.

use std::path::Path;
use std::process::{Command, Output};

fn netvm(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_netvm"))
        .arg("bench")
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .expect("netvm runs")
}

/// Whether there is a link to measure; `make test` builds it before.
fn has_link() -> bool {
    let found = Path::new(env!("CARGO_BIN_EXE_netvm")).with_file_name("netvm-link").is_file();
    if !found {
        println!("SKIP: no netvm-link beside netvm; run cargo build --workspace");
    }
    found
}

#[test]
fn wrong_options_end_with_2_and_say_what_is_right() {
    let output = netvm(&["--sizes", "12"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("bytes from 50 to 9216"));
}

#[test]
fn help_has_examples() {
    let help = String::from_utf8_lossy(&netvm(&["--help"]).stdout).into_owned();
    assert!(help.contains("netvm bench --json > before.json"));
}

#[test]
fn everything_is_measured_and_reported_as_json_and_drawing() {
    if !has_link() {
        return;
    }
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let svg = directory.path().join("bench.svg");
    let svg_path = svg.to_str().expect("a temporary path is text");
    let output = netvm(&["--quick", "--json", "--sizes", "64,1518,gso", "--svg", svg_path]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("measuring 1518-byte frames, both ways"), "progress is on stderr");
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("stdout is JSON and nothing else");
    let rows = report["throughput"].as_array().expect("rows");
    assert!(rows.len() >= 6, "two sizes, three ways: {report:#}");
    for row in rows {
        let rate = |end: usize| row["frames_per_s"][end].as_f64().expect("a rate");
        assert_eq!(rate(0) > 100.0, row["ways"] != "to-guest", "{row:#}");
        assert_eq!(rate(1) > 100.0, row["ways"] != "to-netvm", "{row:#}");
    }
    let gso_missing = report["not_measured"].to_string().contains("GSO");
    assert_eq!(rows.iter().any(|row| row["gso"] == true), !gso_missing, "measured or explained");
    assert_eq!(report["links"].as_array().map(Vec::len), Some(2));
    assert!(report["latency"][0]["times"]["p50_ns"].as_u64().expect("a time") > 100);
    assert!(std::fs::read_to_string(svg).expect("the drawing is there").starts_with("<svg"));
}

#[test]
fn packed_rings_are_measured_or_explained() {
    if !has_link() {
        return;
    }
    let output = netvm(&["--quick", "--json", "--ring=packed", "--only=throughput", "--sizes=64"]);
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("stdout is JSON and nothing else");
    let measured = report["throughput"].as_array().is_some_and(|rows| rows.len() == 3);
    let explained = report["not_measured"].to_string().contains("does not offer packed rings");
    assert!(measured != explained, "{report:#}");
}
