//! A test that cannot run here, or not all of it, is not counted as passed: `scripts/test` reads what is printed here.

use std::io::Write;

/// Prints `skipped: TEST: REASON`, past the capture that keeps a passing test silent. To be called on the test's own
/// thread, whose name is the test's.
pub fn skipped(reason: &str) {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("skipped: {}: {reason}\n", std::thread::current().name().unwrap_or("main"));
    // One write, so that no other thread's line falls into it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
