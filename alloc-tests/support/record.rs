use super::{Allocations, Budget, Flavour};
use serde_json::{Value, json};
use std::path::Path;

/// Checks the count against its budget and stores it for docs/performance.
///
/// # Panics
///
/// If the count exceeds the budget, or if the budget is too loose to notice one more allocation.
pub fn record(what: &str, side: &str, flavour: Flavour, budget: Budget, made: Allocations) {
    let figures = json!({
        "what": what,
        "side": side,
        "runtime": flavour.to_string(),
        "events": made.events,
        "allocations": made.count,
        "bytes": made.bytes,
        "per_1000": made.per_1000(),
        "budget_per_1000": budget.in_1000(),
    });
    write(&format!("{side} {what} {flavour}"), &figures);
    if let Err(breach) = budget.check(made) {
        panic!("{side}, {what}, {flavour}: {breach}");
    }
    assert!(
        budget.notices_more(made),
        "{side}, {what}, {flavour}: the budget is too loose: {} events made {} allocations",
        made.events,
        made.count
    );
}

/// Checks a figure against its limit and stores it for docs/performance.
///
/// # Panics
///
/// If the figure exceeds the limit.
pub fn record_at_rest(what: &str, figure: u64, limit: u64) {
    let figures = json!({ "what": what, "figure": figure, "limit": limit });
    write(&format!("at rest {what}"), &figures);
    assert!(figure <= limit, "{what}: {figure}, of at most {limit}");
}

fn write(name: &str, figures: &Value) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("performance/allocations");
    std::fs::create_dir_all(&folder).unwrap();
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    let name = name.replace(|c| !is_plain(c), "-");
    std::fs::write(folder.join(name + ".json"), figures.to_string()).unwrap();
}
