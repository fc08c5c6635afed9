//! `scripts/bench-peers` runs every subject in every setting and writes the documented result.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/bench-peers");

#[test]
fn every_subject_is_measured_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.json");
    let tables = run(&file);
    let result: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();

    let subjects = result["subjects"].as_array().unwrap();
    assert_eq!(
        subjects.len(),
        15 * 2 * 2,
        "fifteen subjects, with and without body, in one process and two"
    );
    for subject in subjects {
        assert!(median(subject, "requests_per_second") > 0.0, "{subject}");
        assert!(
            median(subject, "p50_us") <= median(subject, "p999_us"),
            "{subject}"
        );
        assert!(median(subject, "cpu_us_per_request") > 0.0, "{subject}");
        if subject["processes"] == "two" {
            assert_sides_add_up(subject);
        }
    }
    let ratios = result["ratios"].as_array().unwrap();
    assert_eq!(ratios.len(), 16 * 2 * 2);
    for ratio in ratios {
        assert!(median(ratio, "requests_per_second") > 0.0, "{ratio}");
        let names = format!("{} : {}", text(&ratio["subject"]), text(&ratio["to"]));
        assert!(tables.contains(&names), "{names}");
    }
}

/// Runs the script for as short a time as possible. Returns its output.
fn run(output: &Path) -> String {
    let done = Command::new(SCRIPT)
        .args(["--quick", "--rounds", "1", "--seconds", "0.15"])
        .args(["--concurrency", "4", "--no-build", "--output"])
        .arg(output)
        .env(
            "TOLLGATE_BENCH_SUBJECT",
            env!("CARGO_BIN_EXE_bench_subject"),
        )
        .output()
        .expect("the script runs");
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    String::from_utf8(done.stdout).expect("tables are text")
}

/// Checks the sum of both sides. There is one round, so the medians are the figures themselves.
fn assert_sides_add_up(subject: &Value) {
    let sides =
        median(subject, "cpu_us_per_request_proxy") + median(subject, "cpu_us_per_request_agent");
    let total = median(subject, "cpu_us_per_request");
    assert!((sides - total).abs() < 0.01, "{subject}");
}

fn median(row: &Value, figure: &str) -> f64 {
    row[figure]["median"]
        .as_f64()
        .unwrap_or_else(|| panic!("no {figure} in {row}"))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a name")
}
