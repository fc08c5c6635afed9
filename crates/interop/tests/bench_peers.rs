//! `scripts/bench-peers` and `scripts/bench-rings` run every subject in every setting and write the
//! documented results.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts");

#[test]
fn every_subject_is_measured_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("peers.json");
    let concurrency = ["--concurrency", "4"];
    let tables = run("bench-peers", &concurrency, &file);
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

#[test]
fn shared_memory_is_measured_in_every_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rings.json");
    let tables = run("bench-rings", &[], &file);
    let result: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();

    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 13 * 5 + 5, "`BusyPoll` in one place only");
    for row in rows {
        assert!(median(row, "requests_per_second") > 0.0, "{row}");
        let counts_doorbells = !row["doorbells_per_request"].is_null();
        let is_shared = text(&row["subject"]).starts_with("tollgate-shared");
        assert_eq!(counts_doorbells, is_shared, "{row}");
    }
    for goal in result["goals"].as_array().unwrap() {
        assert!(tables.contains(text(&goal["title"])), "{goal}");
    }
    assert_eq!(result["goals"].as_array().unwrap().len(), 16);
}

/// Runs a script for as short a time as possible. Returns its output.
fn run(script: &str, options: &[&str], output: &Path) -> String {
    let done = Command::new(Path::new(SCRIPTS).join(script))
        .args(["--quick", "--rounds", "1", "--seconds", "0.05"])
        .args(options)
        .args(["--no-build", "--output"])
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
