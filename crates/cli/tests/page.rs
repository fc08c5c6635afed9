//! `--report`: the HTML report of a run, as a browser shows it.

// Test helpers may unwrap too; clippy allows it only in test functions.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Line colours of this run and of the earlier run.
const CURRENT: [u8; 3] = [0x09, 0x69, 0xda];
const EARLIER: [u8; 3] = [0xbc, 0x4c, 0x00];

/// Colour of the stage "wire and agent".
const WIRE: [u8; 3] = [0x1a, 0x7f, 0x37];

/// Executables of browsers that can take screenshots without a display.
const BROWSERS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];

#[test]
fn report_is_self_contained_and_compares_two_runs() {
    let folder = TempDir::new().unwrap();
    let first = folder.path().join("first.html");
    succeeds(&demo(&["--report", path(&first)]));
    let page = fs::read_to_string(&first).unwrap();
    for external in ["http:", "https:", "src=", "@import", "url(", "<script"] {
        assert!(!page.contains(external), "{external}");
    }
    let image = screenshot(&first, folder.path());
    assert!(image.count(CURRENT) > 200);
    assert!(image.count(WIRE) > 200);
    assert_eq!(image.count(EARLIER), 0);

    let second = folder.path().join("second.html");
    let earlier = folder.path().join("first.json");
    succeeds(&demo(&[
        "--report",
        path(&second),
        "--compare",
        path(&earlier),
    ]));
    let image = screenshot(&second, folder.path());
    assert!(image.count(CURRENT) > 200);
    assert!(image.count(EARLIER) > 200);
}

#[test]
fn json_output_works_with_compare() {
    let folder = TempDir::new().unwrap();
    let printed = demo(&["--json"]);
    succeeds(&printed);
    let earlier = folder.path().join("earlier.json");
    fs::write(&earlier, printed.stdout).unwrap();
    let page = folder.path().join("page.html");
    succeeds(&demo(&[
        "--report",
        path(&page),
        "--compare",
        path(&earlier),
    ]));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains(r#"<polyline class="earlier""#));
}

#[test]
fn bad_paths_fail_before_the_run_and_keep_files() {
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "kept").unwrap();
    let no_run = folder.path().join("no_run.json");
    fs::write(&no_run, "[]").unwrap();
    let missing = folder.path().join("missing/page.html");
    for (options, expected) in [
        (vec!["--compare", path(&no_run)], "--report"),
        (vec!["--report", path(&no_run)], "another name"),
        (vec!["--report", path(&missing)], "missing"),
        (
            vec!["--report", path(&page), "--compare", path(&no_run)],
            "not the JSON of a run",
        ),
        (
            vec!["--report", path(&page), "--compare", path(&missing)],
            "No such file",
        ),
    ] {
        let output = demo(&options);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
    assert_eq!(fs::read_to_string(&page).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

fn demo(options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(["demo", "--seconds", "1", "--concurrency", "4"]);
    command.args(options).output().unwrap()
}

fn succeeds(output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A browser's screenshot.
struct Screenshot {
    pixels: Vec<u8>,
    bytes_per_pixel: usize,
}

impl Screenshot {
    fn count(&self, colour: [u8; 3]) -> usize {
        let pixels = self.pixels.chunks_exact(self.bytes_per_pixel);
        pixels.filter(|pixel| pixel.starts_with(&colour)).count()
    }
}

fn screenshot(page: &Path, folder: &Path) -> Screenshot {
    let file = folder.join("screenshot.png");
    let taken = BROWSERS.into_iter().find_map(|browser| {
        let mut command = Command::new(browser);
        command
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
            ])
            .arg("--window-size=1000,1600")
            .arg(format!(
                "--user-data-dir={}",
                folder.join("profile").display()
            ))
            .arg(format!("--screenshot={}", file.display()))
            .arg(format!("file://{}", page.display()));
        command.output().ok()
    });
    let output = taken.expect("no browser found; scripts/setup installs one");
    assert!(file.exists(), "{}", String::from_utf8_lossy(&output.stderr));
    let decoder = png::Decoder::new(std::io::BufReader::new(fs::File::open(&file).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(frame.bit_depth, png::BitDepth::Eight);
    Screenshot {
        pixels,
        bytes_per_pixel: frame.color_type.samples(),
    }
}
